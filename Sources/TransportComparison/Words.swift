/// The sentences of the page and of the table, made from the figures.
enum Words {
    typealias Figures = Comparison.Figures

    static func rate(_ rate: Double) -> String {
        rate == 1 ? "1 message a second" : rate > 1 ? "\(number(rate)) messages a second" : "1 message in \(number(1 / rate)) s"
    }

    static func run(_ comparison: Comparison) -> String {
        let machine = comparison.machine
        let length = comparison.isQuick ? "A quick run, for a test: its figures are rough" : "A whole run"
        return "One feed over every transport that Tocsin \(comparison.version) has. \(length); \(comparison.date), \(machine.processor), "
            + "\(machine.cores) cores, \(number(Double(machine.memoryBytes) / 1e9)) GB, Linux \(machine.kernel). Server and clients share "
            + "this machine."
    }

    static func claims(_ comparison: Comparison) -> String {
        let counts = Claim.Verdict.allCases.compactMap { verdict -> String? in
            let count = comparison.claims.count { $0.verdict == verdict }
            return count == 0 ? nil : "\(count) \(verdict.rawValue)"
        }
        return
            "Of \(comparison.claims.count) claims: \(counts.joined(separator: ", ")). Each is decided by a rule that was written before "
            + "the run; both stand beside it."
    }

    static func finding(_ claim: Claim) -> String {
        let speaking = claim.figures.count { $0.speaksFor }
        let ratios = claim.figures.compactMap(\.ratio)
        var text = "\(speaking) of \(claim.figures.count) figures speak for it"
        if let least = ratios.min(), let most = ratios.max() { text += "; the ratios go from \(number(least)) to \(number(most))" }
        return text + "."
    }

    // MARK: - What one sees

    /// The least and the greatest of these transports, with their names.
    private static func range(
        _ comparison: Comparison, _ unit: String, of ids: [TransportID] = TransportID.allCases, _ value: (Figures) -> Double?
    ) -> String? {
        let values = comparison.transports.filter { ids.contains($0.transport) }.compactMap { figures in
            value(figures).map { (name: figures.transport.name, value: $0) }
        }
        guard let least = values.min(by: { $0.value < $1.value }), let most = values.max(by: { $0.value < $1.value }) else { return nil }
        return "from \(number(least.value)) \(unit) (\(least.name)) to \(number(most.value)) \(unit) (\(most.name))"
    }

    private static let push = TransportID.allCases.filter { $0.family != .shortPoll }
    private static let polls = TransportID.allCases.filter { $0.family == .shortPoll }

    static func latency(_ comparison: Comparison) -> String {
        let pushed = range(comparison, "ms", of: push) { $0.at(rate: 10)?.latency.p99 }
        let polled = range(comparison, "ms", of: polls) { $0.at(rate: 10)?.latency.p50 }
        return "At 10 messages a second 99 of 100 pushed messages come within \(within(pushed)). A poll knows of a message half its period "
            + "late, in the middle: \(polled ?? "not measured")."
    }

    private static func within(_ range: String?) -> String {
        range.map { $0.hasPrefix("from ") ? String($0.dropFirst(5)) : $0 } ?? "a time that was not measured"
    }

    static func bytes(_ comparison: Comparison) -> String {
        let at10 = range(comparison, "B") { $0.at(rate: 10)?.wire.allBytes } ?? "not measured"
        let hour = range(comparison, "kB") { $0.hourAtOneAMinute.map { $0.bytes / 1000 } } ?? "not measured"
        return
            "The payload has \(comparison.settings.payloadBytes) bytes, and the notification around it names channel, sequence, position "
            + "and time. At 10 messages a second each takes \(at10). At one message a minute an hour takes \(hour)."
    }

    static func processor(_ comparison: Comparison) -> String {
        let at10 = range(comparison, "us") { $0.at(rate: 10)?.cpuPerMessage } ?? "not measured"
        let clients = range(comparison, "clients") { $0.clientsPerCore(rate: 1) } ?? "not measured"
        return
            "A message at 10 a second takes \(at10) of the server's processor time. At one a second a core has time for: \(clients)."
    }

    static func memory(_ comparison: Comparison) -> String {
        let user = range(comparison, "kB") { $0.memory.map { $0.user / 1000 } } ?? "not measured"
        return "An idle client takes \(user) of the server's memory in user space."
    }

    static func handshakes(_ comparison: Comparison) -> String {
        func bytes(_ tls: Bool) -> String {
            range(comparison, "B", of: TransportID.allCases.filter { $0 != .eventStreamHTTP2Shared }) { figures in
                figures.handshakes.first { $0.tls == tls }?.wire.allBytes
            } ?? "not measured"
        }
        return
            "Without TLS it takes \(bytes(false)); with TLS 1.3, the certificate among it, \(bytes(true)). A WebSocket on HTTP/2 needs a "
            + "round trip more, since the client has to see first that the server has them."
    }

    static func resume(_ comparison: Comparison) -> String {
        let pushed = range(comparison, "ms", of: push) { $0.resume?.p50 } ?? "not measured"
        let polled = range(comparison, "ms", of: polls) { $0.resume?.p50 } ?? "not measured"
        return "All transports resume from the same position. In the middle that takes \(pushed); a poll comes back when its time comes: "
            + "\(polled)."
    }

    static func shapes(_ comparison: Comparison) -> String {
        let cells = comparison.shapes.flatMap(\.cells)
        let lost = cells.reduce(0) { $0 + $1.delivery.lost }
        let repeated = cells.reduce(0) { $0 + $1.delivery.repeated }
        let names = comparison.shapes.map(\.name).joined(separator: "; ")
        return "\(names); each with and without TLS. Of \(number(Double(cells.reduce(0) { $0 + $1.delivery.expected }))) deliveries "
            + "\(lost) were lost and \(repeated) came twice, the cuts among it."
    }

    static func shapeHandshakes(_ comparison: Comparison) -> String {
        guard let shape = comparison.shapes.first(where: { $0.lossPercent == 0 && $0.roundTripMilliseconds >= 80 }) else {
            return "Time until the server's first answer."
        }
        let trips = [TransportID.webSocket, .webSocketHTTP2, .eventStream, .longPoll].compactMap { id -> String? in
            let plain = shape.cells.first { $0.transport == id && !$0.tls }?.roundTrips(shape)
            let tls = shape.cells.first { $0.transport == id && $0.tls }?.roundTrips(shape)
            guard let plain, let tls else { return nil }
            return "\(id.name) \(number(plain)) (by design \(id.roundTripsByDesign(tls: false))) and with TLS \(number(tls)) "
                + "(\(id.roundTripsByDesign(tls: true)))"
        }
        return "Measured in round trips, at \(shape.name): \(trips.joined(separator: "; "))."
    }

    static func shapeLatency(_ comparison: Comparison) -> String {
        guard let lossy = comparison.shapes.first(where: { $0.lossPercent > 0 }) else {
            return "A pushed message needs half a round trip. A long-poll that was just answered has to ask again first."
        }
        func p99(_ id: TransportID) -> String { number(lossy.cells.first { $0.transport == id && !$0.tls }?.latency.p99) }
        return
            "A pushed message needs half a round trip; a long-poll that was just answered has to ask again first. With loss a lost segment "
            + "holds up what comes behind it on its connection, on every transport: at \(lossy.name) p99 is \(p99(.webSocket)) ms for a "
            + "WebSocket, \(p99(.eventStream)) ms for SSE h1, \(p99(.longPoll)) ms for a long-poll."
    }

    static func shapeResume(_ comparison: Comparison) -> String {
        "Coming back is a handshake, and the first answer has what was missed: it grows with the round trips that the handshake needs."
    }

    // MARK: - Method

    static func method(_ comparison: Comparison) -> [String] {
        let settings = comparison.settings
        return [
            "Server and clients are processes of the same program, “tocsin serve” and “tocsin bench”, and they share the machine. Each "
                + "transport has a server of its own, with one event loop and its log in memory; memory is measured on a fresh one.",
            "\(settings.clients) clients listen to one channel. Messages have \(settings.payloadBytes) bytes of payload, published at "
                + "fixed times; latency counts from when a message was due, so waiting behind a slow one counts as well.",
            "Every client checks every message: none may be missing, come twice or out of order.",
            "“1 message in \(number(settings.rareSeconds)) s” stands for one a minute in the latencies; what is computed for one a "
                + "minute is the measured cost of an idle client (\(number(settings.idleSeconds)) s) and of one message.",
            "WebSockets and event streams have heartbeats each \(settings.heartbeatSeconds) s; a long-poll waits as long. Polls come at "
                + "fixed times, spread evenly over the clients, on connections that are kept.",
            "Requests have only the fields that they need. A browser adds some hundreds of bytes to each (user agent, languages, cookies), "
                + "which polls pay each time, HTTP/2 with its tables less; WebSocket messages are not compressed.",
            "Bytes are those of TCP_INFO at the client. Headers of TCP and IP are estimated: 52 bytes for each segment, those that only "
                + "acknowledge among them.",
            "CPU is what the scheduler gave to the server's threads, publishing among it, divided by deliveries. Figures for a core and "
                + "for 1 GB are divisions, not runs with so many clients.",
            "After a cut, which the clients make themselves, \(settings.missedMessages) messages are published; then all come back. "
                + "The time runs from there.",
        ] + (comparison.shapesBy.isEmpty ? [] : [comparison.shapesBy]) + comparison.missing
    }
}

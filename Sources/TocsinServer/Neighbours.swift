import HTTPTypes
import Identity
import NIOCore
import NotificationCore
import NotificationStore
import Transports

/// A way to other processes.
protocol NeighbourLink: Sendable {
    /// Asks one; `completion` comes on the link's loop, with nil if it is not there.
    func ask(_ process: Int, _ body: [UInt8], completion: @escaping @Sendable ([UInt8]?) -> Void)
    func tell(_ process: Int, _ body: [UInt8])
    /// Processes that were started because one had ended.
    var restarts: Int { get }
    /// For `/metrics`, of the process that has the log.
    var addedFigures: String { get }
}

extension SharedLog: NeighbourLink {
    var restarts: Int { status.restarts }
    var addedFigures: String { status.webhooks }
}

/// The other processes of a server, as one of its workers sees them: what they ask each other goes through the main process. Or the server
/// that this one takes over, or that takes it over, as long as both are there.
struct Neighbours: Sendable {
    /// The place of this one.
    let process: Int
    let processes: Int
    /// Of the numbers that sessions name loops with, each process has so many.
    let loopsPerProcess: Int
    let link: any NeighbourLink
    /// Whether they are drained together and their figures are added up.
    var isOneServer = true

    func park(_ session: PollSession, _ id: SessionID, _ seconds: Int, process: Int) {
        link.tell(process, NeighbourMessage.park(id, session, seconds: seconds).bytes)
    }

    /// The same for all of them. nil: they take clients again.
    func drain(overMilliseconds milliseconds: Int?) {
        guard isOneServer else { return }
        for other in 0..<processes where other != process {
            link.tell(other, NeighbourMessage.drain(overMilliseconds: milliseconds).bytes)
        }
    }

    func endPoll(_ place: ParkedPollPlace, _ id: SessionID, process: Int) {
        link.tell(process, NeighbourMessage.endPoll(id, place).bytes)
    }
}

/// What a worker says to another.
enum NeighbourMessage {
    /// Commands for a session, the body of a request that has been checked. The reply is a `CommandReply`.
    case commands(SessionID, Identity?, body: [UInt8])
    /// A poll of a session that is at home there.
    case park(SessionID, PollSession, seconds: Int)
    /// A poll that is parked there is to be answered.
    case endPoll(SessionID, ParkedPollPlace)
    /// Its figures. The reply is its text for `/metrics`.
    case metrics
    /// A ticket that it gave out is used. The reply is whom it stands for; empty: there is no such ticket.
    case ticket(TicketID)
    /// Its clients are to go, and come back within a time; nil: it takes clients again.
    case drain(overMilliseconds: Int?)
    case presence(PresenceNeighbourMessage)

    var bytes: [UInt8] {
        var out: [UInt8] = []
        switch self {
        case .commands(let id, let identity, let body):
            out.append(0)
            out.appendLengthAndBytes(of: id.description)
            out.append(identity)
            out.appendSlice(body)
        case .park(let id, let session, let seconds):
            out.append(1)
            out.appendLengthAndBytes(of: id.description)
            out.appendOptional(session.user?.string)
            out.append(session.principal)
            out.append(ParkedPollPlace(loop: session.loop, connection: session.connection, stream: session.stream))
            out.appendNumber(seconds)
        case .endPoll(let id, let place):
            out.append(2)
            out.appendLengthAndBytes(of: id.description)
            out.append(place)
        case .metrics: out.append(3)
        case .ticket(let id):
            out.append(4)
            out.appendLengthAndBytes(of: id.description)
        case .drain(let milliseconds):
            out.append(5)
            out.appendNumber(milliseconds.map { $0 + 1 } ?? 0)
        case .presence(let message):
            out.append(6)
            message.append(to: &out)
        }
        return out
    }

    init(_ bytes: [UInt8]) throws(LinkDamage) {
        self = try bytes.read { reader throws(LinkDamage) in
            switch try reader.byte() {
            case 0: .commands(try reader.session(), try reader.optionalIdentity(), body: [UInt8](try reader.slice()))
            case 1: try Self.park(&reader)
            case 2: .endPoll(try reader.session(), try reader.place())
            case 3: .metrics
            case 4: .ticket(try reader.ticket())
            case 5: .drain(overMilliseconds: try reader.drain())
            case 6: .presence(try PresenceNeighbourMessage(&reader))
            default: throw LinkDamage()
            }
        }
    }

    private static func park(_ reader: inout ByteReader) throws(LinkDamage) -> NeighbourMessage {
        let id = try reader.session()
        let (user, principal, place) = (try reader.optionalField(), try reader.optionalPrincipal(), try reader.place())
        let session = PollSession(
            user: user, principal: principal, loop: place.loop, connection: place.connection, stream: place.stream, expiresTick: 0
        )
        return .park(id, session, seconds: try reader.count(upTo: 100_000))
    }
}

/// What comes of commands for a session.
struct CommandReply: Equatable {
    /// nil: there is no such session.
    var answer: [UInt8]?
    /// What they have cost the session's loop.
    var microseconds: UInt32

    init(answer: [UInt8]?, microseconds: UInt32) {
        self.answer = answer
        self.microseconds = microseconds
    }

    var bytes: [UInt8] {
        var out: [UInt8] = [answer == nil ? 0 : 1]
        out.appendVarint(UInt64(microseconds))
        out.appendSlice(answer ?? [])
        return out
    }

    init(_ bytes: [UInt8]) throws(LinkDamage) {
        self = try bytes.read { reader throws(LinkDamage) in
            let isThere = try reader.byte() == 1
            let microseconds = UInt32(try reader.count(upTo: Int(UInt32.max)))
            let answer = [UInt8](try reader.slice())
            return CommandReply(answer: isThere ? answer : nil, microseconds: microseconds)
        }
    }
}

extension [UInt8] {
    mutating func append(_ place: ParkedPollPlace) {
        appendNumber(place.loop)
        appendVarint(UInt64(place.connection))
        appendZigzag(Int64(place.stream))
    }

    func read<Value>(_ body: (inout ByteReader) throws(LinkDamage) -> Value) throws(LinkDamage) -> Value {
        let result: Result<Value, LinkDamage> = withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            do throws(LinkDamage) {
                let value = try body(&reader)
                guard reader.isAtEnd else { throw LinkDamage() }
                return .success(value)
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}

extension ByteReader {
    mutating func session() throws(LinkDamage) -> SessionID {
        guard let id = SessionID(try text()) else { throw LinkDamage() }
        return id
    }

    fileprivate mutating func ticket() throws(LinkDamage) -> TicketID {
        guard let id = TicketID(try text()) else { throw LinkDamage() }
        return id
    }

    fileprivate mutating func drain() throws(LinkDamage) -> Int? {
        let number = try count(upTo: 1 << 40)
        return number == 0 ? nil : number - 1
    }

    mutating func place() throws(LinkDamage) -> ParkedPollPlace {
        let loop = try count(upTo: 255)
        let connection = UInt32(try count(upTo: Int(UInt32.max)))
        guard let stream = Int32(exactly: try zigzag()) else { throw LinkDamage() }
        return ParkedPollPlace(loop: loop, connection: connection, stream: stream)
    }
}

extension ServerState {
    /// The process that has a session; nil: this one, or none.
    func process(of id: SessionID) -> Int? { process(ofLoop: id.loop) }

    func process(ofLoop loop: Int) -> Int? {
        guard let neighbours else { return nil }
        let process = loop / neighbours.loopsPerProcess
        return process == neighbours.process || process >= neighbours.processes ? nil : process
    }

    /// Answers another worker, on the link's loop.
    func take(_ body: [UInt8], on linkLoop: any EventLoop, reply: @escaping ([UInt8]) -> Void) {
        guard let message = try? NeighbourMessage(body) else { return }
        let bound = NIOLoopBound(reply, eventLoop: linkLoop)
        switch message {
        case .commands(let id, let identity, let body):
            guard let reference = loop(id.loop), let said = try? ServerLoop.commands(body) else {
                return reply(CommandReply(answer: nil, microseconds: 0).bytes)
            }
            reference.eventLoop.execute {
                let work = SessionCommands(said.commands, of: id, identity: identity) { replies, microseconds in
                    let answer = replies.map { ServerLoop.answer($0, isList: said.isList) }
                    linkLoop.execute { bound.value(CommandReply(answer: answer, microseconds: microseconds).bytes) }
                }
                reference.value.begin(work)
            }
        case .park(let id, let session, let seconds):
            guard let reference = loop(id.loop) else { return }
            reference.eventLoop.execute { reference.value.keep(session, id, seconds) }
        case .endPoll(let id, let place): endPoll(place, id)
        case .drain(let milliseconds): drain(overMilliseconds: milliseconds)
        case .metrics: ownExposition(on: linkLoop).whenSuccess { bound.value(Array($0.utf8)) }
        case .ticket(let id): reply(take(id)?.bytes ?? [])
        case .presence(let message): take(message, on: linkLoop, reply: bound)
        }
    }

    // MARK: figures

    /// The text for `/metrics`: of all processes, if there are several.
    func exposition(on eventLoop: any EventLoop) -> EventLoopFuture<String> {
        let own = ownExposition(on: eventLoop)
        guard let neighbours, neighbours.isOneServer else { return own }
        let others = (0..<neighbours.processes).filter { $0 != neighbours.process }.map { process in
            let promise = eventLoop.makePromise(of: (process: Int, text: String?).self)
            neighbours.link.ask(process, NeighbourMessage.metrics.bytes) { body in
                promise.succeed((process, body.map { String(decoding: $0, as: UTF8.self) }))
            }
            return promise.futureResult
        }
        return own.and(EventLoopFuture.whenAllSucceed(others, on: eventLoop)).map { own, others in
            let texts = ([(neighbours.process, own)] + others.map { ($0.process, $0.text) }).sorted { $0.0 < $1.0 }
            return MetricsMerge.merge(texts, restarts: neighbours.link.restarts) + neighbours.link.addedFigures
        }
    }

    /// Of this process alone.
    private func ownExposition(on eventLoop: any EventLoop) -> EventLoopFuture<String> {
        let received = canary?.received ?? []
        let futures = loops.map { reference in reference.eventLoop.submit { reference.value.currentCounters() } }
        return EventLoopFuture.whenAllSucceed(futures, on: eventLoop).map { all in
            var sum = LoopCounters()
            for counters in all { sum.add(counters) }
            // Looked at before the loops were asked: what it has received is in what they have delivered.
            sum.subtract(canary: received)
            return sum.exposition(
                head: self.log.head, connectionsRefused: self.connectionsRefused, store: self.log.statistics,
                isStoreFailed: self.log.fault != nil, channelsMax: self.configuration.log.channelsMax,
                uptimeSeconds: (Clock.monotonicMilliseconds() - self.startedMilliseconds) / 1000, isDraining: self.isDraining
            ) + self.accessExposition + self.limits.exposition + self.presenceExposition(sum.presence) + (self.canary?.exposition ?? "")
        }
    }
}

extension ServerLoop {
    /// Commands for a session of another process.
    func forward(_ id: SessionID, _ body: [UInt8], _ handle: RequestHandle) throws(Problem) {
        guard let process = server.process(of: id), let neighbours = server.neighbours else { throw .unknownSession }
        let message = NeighbourMessage.commands(id, handle.identity, body: body)
        let (bound, eventLoop) = (bind((self, handle)), eventLoop)
        neighbours.link.ask(process, message.bytes) { bytes in
            let reply = bytes.flatMap { try? CommandReply($0) }
            eventLoop.execute {
                let (loop, handle) = bound.value
                if let reply { handle.connection.charge(microseconds: reply.microseconds) }
                if let answer = reply?.answer {
                    loop.answer(handle, status: .ok, "application/json", answer)
                } else {
                    loop.answer(handle, .unknownSession)
                }
            }
        }
    }
}

/// Makes one text for Prometheus of the texts of several processes.
enum MetricsMerge {
    /// What each process has the whole of: the largest counts. Everything else is added up.
    private static let shared: Set<String> = [
        "tocsin_channels_max", "tocsin_acknowledging_users", "tocsin_idempotency_keys", "tocsin_idempotency_bytes",
        "tocsin_idempotency_forgotten_total",
        "tocsin_log_head", "tocsin_log_tail_messages", "tocsin_log_tail_bytes", "tocsin_store_commits_total",
        "tocsin_store_entries_total", "tocsin_store_file_bytes", "tocsin_store_wal_bytes", "tocsin_store_failed", "tocsin_channels",
        "tocsin_draining", "tocsin_uptime_seconds", "tocsin_revocations", "tocsin_token_keys_age_seconds",
        "tocsin_feed_notifications_total", "tocsin_feed_bytes_total", "tocsin_cursor_lag_max",
        "tocsin_presence_channels", "tocsin_presence_connections", "tocsin_presence_users",
        "tocsin_canary_failed", "tocsin_canary_latency_seconds", "tocsin_canary_age_seconds",
    ]

    /// - Parameter texts: by process; nil of one that did not answer.
    static func merge(_ texts: [(process: Int, text: String?)], restarts: Int) -> String {
        var lines: [(text: Substring, key: Substring?)] = []
        var values: [Substring: Double] = [:]
        var connections: [(process: Int, value: String)] = []
        for (process, text) in texts {
            guard let text else { continue }
            let isFirst = lines.isEmpty
            for line in text.split(separator: "\n") {
                guard !line.hasPrefix("#"), let space = line.lastIndex(of: " "), let value = Double(line[line.index(after: space)...])
                else {
                    if isFirst { lines.append((line, nil)) }
                    continue
                }
                let key = line[..<space]
                if key == "tocsin_connections" { connections.append((process, String(line[line.index(after: space)...]))) }
                let name = key.prefix { $0 != "{" }
                guard let known = values[key] else {
                    values[key] = value
                    // All of one name stand together.
                    let last =
                        isFirst
                        ? nil
                        : lines.lastIndex { $0.key?.prefix { $0 != "{" } == name }
                            ?? lines.lastIndex { $0.text.hasPrefix("# TYPE \(name) ") }
                    lines.insert(("", key), at: last.map { $0 + 1 } ?? lines.count)
                    continue
                }
                values[key] = shared.contains(String(name)) ? max(known, value) : known + value
            }
        }
        var out = ""
        for (text, key) in lines {
            guard let key, let value = values[key] else {
                out += text + "\n"
                continue
            }
            out += "\(key) \(value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : "\(value)")\n"
        }
        func metric(_ name: String, _ type: String, _ help: String, _ values: [(labels: String, value: String)]) {
            out += "# HELP tocsin_\(name) \(help)\n# TYPE tocsin_\(name) \(type)\n"
            for (labels, value) in values { out += "tocsin_\(name)\(labels) \(value)\n" }
        }
        metric(
            "process_up", "gauge", "Whether a process has given its figures, which are in the others then.",
            texts.map { ("{process=\"\($0.process)\"}", $0.text == nil ? "0" : "1") }
        )
        metric(
            "process_connections", "gauge", "Open connections of a process.", connections.map { ("{process=\"\($0.process)\"}", $0.value) }
        )
        metric("process_restarts_total", "counter", "Processes started because one had ended.", [("", "\(restarts)")])
        return out
    }
}

/// A claim that is usually made, and what the figures of a run say of it.
package struct Claim: Codable, Sendable {
    package enum Verdict: String, Codable, Sendable, CaseIterable {
        case held
        case didNotHold = "did not hold"
        case depends
        /// A figure that it needs was not measured.
        case notMeasured = "not measured"
    }

    package struct Figure: Codable, Sendable {
        package var name: String
        package var value: Double
        package var unit: String
        /// Of the two that the rule compares, the one that it looks at by the other; nil where it compares with a fixed bound.
        package var ratio: Double?
        /// Whether it speaks for the claim.
        package var speaksFor: Bool
    }

    package var text: String
    package var verdict: Verdict
    package var rule: String
    package var figures: [Figure]
}

extension Claim {
    /// A figure of one transport by the same of another.
    struct Test {
        let name: String
        let value: Double?
        let unit: String
        let other: Double?
        /// Whether the ratio speaks for the claim.
        let isFor: (_ ratio: Double) -> Bool

        var figure: Figure? {
            guard let value, let other, other > 0 else { return nil }
            return Figure(name: name, value: value, unit: unit, ratio: value / other, speaksFor: isFor(value / other))
        }
    }

    /// Held if all tests speak for it, did not hold if none does, else it depends.
    init(_ text: String, rule: String, tests: [Test], bounds: [Figure?] = []) {
        let figures = tests.map(\.figure) + bounds
        self.text = text
        self.rule = rule
        self.figures = figures.compactMap(\.self)
        let count = self.figures.count { $0.speaksFor }
        verdict =
            self.figures.count < figures.count || figures.isEmpty
            ? .notMeasured : count == figures.count ? .held : count == 0 ? .didNotHold : .depends
    }
}

extension Comparison {
    /// The rate of the claims about running costs, messages a second.
    static let claimRate = 10.0
    /// Less than a tenth of difference is none.
    static let muchSmaller = 0.9
    /// What counts as enough: no more than a quarter worse.
    static let enough = 1.25
    /// What counts as fine for something that happens rarely: no more than twice as dear.
    static let fine = 2.0
    static let fineDelayMilliseconds = 1000.0
    /// What counts as cheap: three quarters of what it is compared with.
    static let cheap = 0.75

    /// The claims, judged by these figures.
    package func judged() -> [Claim] {
        [smaller, pollingIsFine, enoughOneWay, scale, cheapHTTP2]
    }

    private func bytes(_ id: TransportID) -> Double? { self[id]?.at(rate: Self.claimRate)?.wire.allBytes }
    private func cpu(_ id: TransportID) -> Double? { self[id]?.at(rate: Self.claimRate)?.cpuPerMessage }
    private func memory(_ id: TransportID) -> Double? { self[id]?.memory?.user }

    private var smaller: Claim {
        let rivals: [TransportID] = [.eventStream, .eventStreamHTTP2, .longPoll, .longPollHTTP2]
        return Claim(
            "WebSocket messages are smaller",
            rule: "Bytes for each message at \(number(Self.claimRate)) a second, both ways, TCP and IP headers estimated, without TLS. "
                + "It holds where a WebSocket (h1) takes at most \(number(Self.muchSmaller)) of what the other takes.",
            tests: rivals.map { rival in
                Claim.Test(
                    name: "WebSocket h1 against \(rival.name) (\(number(bytes(rival) ?? 0)) B)", value: bytes(.webSocket), unit: "B",
                    other: bytes(rival)
                ) { $0 <= Self.muchSmaller }
            }
        )
    }

    private var pollingIsFine: Claim {
        let push = self[.eventStream]?.hourAtOneAMinute
        var tests: [Claim.Test] = []
        var bounds: [Claim.Figure?] = []
        for poll in [TransportID.pollEach1, .pollEach5] {
            let hour = self[poll]?.hourAtOneAMinute
            tests.append(
                Claim.Test(
                    name: "\(poll.name): bytes of a client in an hour, against SSE h1 (\(number(push?.bytes ?? 0)) B)", value: hour?.bytes,
                    unit: "B", other: push?.bytes
                ) { $0 <= Self.fine })
            tests.append(
                Claim.Test(
                    name: "\(poll.name): server CPU of a client in an hour, against SSE h1 (\(number(push?.cpuMilliseconds ?? 0)) ms)",
                    value: hour?.cpuMilliseconds, unit: "ms", other: push?.cpuMilliseconds
                ) { $0 <= Self.fine })
            bounds.append(
                self[poll]?.rarest.map { run in
                    Claim.Figure(
                        name: "\(poll.name): half of the messages come within", value: run.latency.p50, unit: "ms", ratio: nil,
                        speaksFor: run.latency.p50 <= Self.fineDelayMilliseconds
                    )
                })
        }
        return Claim(
            "Polling is fine for rare updates",
            rule: "One message a minute (computed from the cost of an idle client and of one message). It holds where a poll costs at most "
                + "\(number(Self.fine)) times as many bytes and as much CPU as SSE h1, and half of the messages come within "
                + "\(number(Self.fineDelayMilliseconds)) ms.",
            tests: tests, bounds: bounds
        )
    }

    private var enoughOneWay: Claim {
        let rate = Self.claimRate
        func p99(_ id: TransportID) -> Double? { self[id]?.at(rate: rate)?.latency.p99 }
        func test(_ name: String, _ unit: String, _ value: (TransportID) -> Double?) -> Claim.Test {
            Claim.Test(
                name: "\(name): SSE h1 against WebSocket h1 (\(number(value(.webSocket) ?? 0)) \(unit))", value: value(.eventStream),
                unit: unit, other: value(.webSocket)
            ) { $0 <= Self.enough }
        }
        return Claim(
            "SSE is enough for one-way",
            rule: "It holds where SSE h1 is at most \(number(Self.enough)) times as dear or as slow as a WebSocket (h1), at "
                + "\(number(rate)) messages a second, and loses and repeats nothing.",
            tests: [
                test("latency p99", "ms", p99), test("CPU of a message", "us", cpu), test("bytes of a message", "B", bytes),
                test("memory of an idle client", "B", memory), test("median time to resume", "ms") { self[$0]?.resume?.p50 },
            ],
            bounds: [
                self[.eventStream].map { figures in
                    let lost = figures.rates.reduce(0) { $0 + $1.delivery.lost + $1.delivery.repeated }
                    return Claim.Figure(
                        name: "lost or repeated by SSE h1", value: Double(lost), unit: "messages", ratio: nil, speaksFor: lost == 0)
                }
            ]
        )
    }

    private var scale: Claim {
        let rivals: [TransportID] = [.eventStream, .eventStreamHTTP2, .eventStreamHTTP2Shared, .longPoll]
        func perCore(_ id: TransportID) -> Double? { self[id]?.clientsPerCore(rate: Self.claimRate) }
        func perGigabyte(_ id: TransportID) -> Double? { self[id]?.clientsPerGigabyte }
        return Claim(
            "WebSockets cost less at scale",
            rule: "Clients that a core has time for at \(number(Self.claimRate)) messages a second, and idle clients in 1 GB of the "
                + "server's memory. It holds where the other has room for at most \(number(Self.muchSmaller)) of a WebSocket's (h1).",
            tests: rivals.flatMap { rival in
                [
                    Claim.Test(
                        name: "\(rival.name) on a core, against WebSocket h1 (\(number(perCore(.webSocket) ?? 0)))", value: perCore(rival),
                        unit: "clients", other: perCore(.webSocket)
                    ) { $0 <= Self.muchSmaller },
                    Claim.Test(
                        name: "\(rival.name) in 1 GB, against WebSocket h1 (\(number(perGigabyte(.webSocket) ?? 0)))",
                        value: perGigabyte(rival), unit: "clients", other: perGigabyte(.webSocket)
                    ) { $0 <= Self.muchSmaller },
                ]
            }
        )
    }

    private var cheapHTTP2: Claim {
        Claim(
            "HTTP/2 makes SSE cheap",
            rule: "It holds where SSE over HTTP/2 takes at most \(number(Self.cheap)) of what SSE h1 takes: CPU of a message at "
                + "\(number(Self.claimRate)) a second, and memory of an idle client; with one stream on a connection, and with "
                + "\(settings.sharedStreams).",
            tests: [TransportID.eventStreamHTTP2, .eventStreamHTTP2Shared].flatMap { id in
                [
                    Claim.Test(
                        name: "CPU of a message: \(id.name) against SSE h1 (\(number(cpu(.eventStream) ?? 0)) us)", value: cpu(id),
                        unit: "us",
                        other: cpu(.eventStream)
                    ) { $0 <= Self.cheap },
                    Claim.Test(
                        name: "memory of an idle client: \(id.name) against SSE h1 (\(number(memory(.eventStream) ?? 0)) B)",
                        value: memory(id), unit: "B", other: memory(.eventStream)
                    ) { $0 <= Self.cheap },
                ]
            }
        )
    }
}

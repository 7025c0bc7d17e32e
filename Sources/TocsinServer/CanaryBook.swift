import Transports

/// What the canary knows of its messages: when each was sent, and when it came back over each transport. Time is an argument.
///
///     every second: send ──> the log ──> a loop ──> WebSocket, SSE, long-poll ──> take
///                   ask each loop for a sign of life ──> sign
///
/// Delivery has stopped as soon as one transport, or one loop, has shown nothing for so long that at least one whole message is missing.
struct CanaryBook {
    /// A message a second: the next one has had one and a half by then, and what stops is known in less than three.
    static let patienceNanoseconds: Int64 = 2_500_000_000
    /// Messages that were sent and have no answer: more are not sent, so that nothing piles up before a log that stands still.
    static let unansweredMax = 4

    private struct Line {
        /// The newest number that came back, and when anything last did.
        var number: UInt64 = 0
        var seenNanoseconds: Int64
        var latencyNanoseconds: Int64 = 0
        var received = 0
    }

    private var lines: [Line]
    /// Of each loop: when it last gave a sign of life.
    private var signs: [Int64]
    /// Loops that were asked for one and have not given it.
    private var asked: [Bool]
    private(set) var number: UInt64 = 0
    /// When messages were sent, by their numbers modulo its size.
    private var sent = Array(repeating: Int64(0), count: 16)
    private(set) var unanswered = 0
    /// Why the log has not taken the last one.
    private var refusal: String?

    init(loops: Int, nowNanoseconds: Int64) {
        lines = Array(repeating: Line(seenNanoseconds: nowNanoseconds), count: Transport.allCases.count)
        signs = Array(repeating: nowNanoseconds, count: loops)
        asked = Array(repeating: false, count: loops)
    }

    /// - Returns: the number of the message to be sent; nil: none is, as too many wait for an answer.
    mutating func send(nowNanoseconds: Int64) -> UInt64? {
        guard unanswered < Self.unansweredMax else { return nil }
        number += 1
        unanswered += 1
        sent[Int(number % UInt64(sent.count))] = nowNanoseconds
        return number
    }

    /// The log has answered.
    ///
    /// - Parameter refusal: why it did not take it.
    mutating func answered(refusal: String?) {
        unanswered -= 1
        self.refusal = refusal
    }

    /// A message has come back. One that is older than what has come before is not news.
    mutating func take(_ number: UInt64, _ transport: Transport, nowNanoseconds: Int64) {
        let index = LoopCounters.index(transport)
        lines[index].received += 1
        guard number > lines[index].number, number <= self.number else { return }
        lines[index].number = number
        lines[index].seenNanoseconds = nowNanoseconds
        if self.number - number < UInt64(sent.count) {
            lines[index].latencyNanoseconds = max(0, nowNanoseconds - sent[Int(number % UInt64(sent.count))])
        }
    }

    /// - Returns: whether a loop is to be asked for a sign of life; not while it has been and has not given it.
    mutating func ask(loop: Int) -> Bool {
        defer { asked[loop] = true }
        return !asked[loop]
    }

    mutating func sign(loop: Int, nowNanoseconds: Int64) {
        asked[loop] = false
        signs[loop] = nowNanoseconds
    }

    /// By transport, as `LoopCounters` numbers them.
    var received: [Int] { lines.map(\.received) }

    func isLate(_ transport: Transport, nowNanoseconds: Int64) -> Bool {
        nowNanoseconds - lines[LoopCounters.index(transport)].seenNanoseconds > Self.patienceNanoseconds
    }

    /// What has stopped, for the one who asks whether the server is ready; nil: all is well.
    func fault(nowNanoseconds: Int64) -> String? {
        func seconds(_ since: Int64) -> String { "\(Double((nowNanoseconds - since) / 100_000_000) / 10) s" }
        for (loop, since) in signs.enumerated() where nowNanoseconds - since > Self.patienceNanoseconds {
            return "event loop \(loop) has done nothing for \(seconds(since))"
        }
        let late = Transport.allCases.filter { isLate($0, nowNanoseconds: nowNanoseconds) }
        guard let first = late.first else { return nil }
        let names = late.map(\.rawValue).joined(separator: ", ")
        let since = lines[LoopCounters.index(first)].seenNanoseconds
        return "nothing has come back over \(names) for \(seconds(since))" + (refusal.map { "; the log: \($0)" } ?? "")
    }

    func exposition(nowNanoseconds: Int64) -> String {
        var text = ""
        func metric(_ name: String, _ help: String, _ value: (Line) -> String) {
            text += "# HELP tocsin_canary_\(name) \(help)\n# TYPE tocsin_canary_\(name) gauge\n"
            for transport in Transport.allCases {
                text += "tocsin_canary_\(name){transport=\"\(transport.rawValue)\"} \(value(lines[LoopCounters.index(transport)]))\n"
            }
        }
        metric("failed", "1 while the canary does not come back over a transport.") {
            nowNanoseconds - $0.seenNanoseconds > Self.patienceNanoseconds ? "1" : "0"
        }
        metric("latency_seconds", "From sending the canary to its coming back, the last time.") { "\(Double($0.latencyNanoseconds) / 1e9)" }
        metric("age_seconds", "Since it last came back.") { "\(Double(max(0, nowNanoseconds - $0.seenNanoseconds)) / 1e9)" }
        return text
    }
}

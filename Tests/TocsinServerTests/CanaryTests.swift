import NotificationCore
import Testing
import Transports

@testable import TocsinServer

/// What the canary makes of what comes back, on a clock of the test's own.
@Suite struct CanaryTests {
    private static let second: Int64 = 1_000_000_000

    /// - Parameter to: the transports over which the messages come back.
    private func sing(_ book: inout CanaryBook, _ seconds: ClosedRange<Int64>, to transports: [Transport] = Transport.allCases) {
        for time in seconds {
            guard let number = book.send(nowNanoseconds: time * Self.second) else { continue }
            book.answered(refusal: nil)
            for transport in transports { book.take(number, transport, nowNanoseconds: time * Self.second + 1_000_000) }
            book.sign(loop: 0, nowNanoseconds: time * Self.second)
        }
    }

    @Test("all is well from the beginning, and as long as it comes back")
    func well() {
        var book = CanaryBook(loops: 1, nowNanoseconds: 0)
        #expect(book.fault(nowNanoseconds: 2 * Self.second) == nil)
        sing(&book, 1...20)
        #expect(book.fault(nowNanoseconds: 22 * Self.second) == nil)
        #expect(book.received == [20, 20, 20])
        #expect(book.exposition(nowNanoseconds: 21 * Self.second).contains("canary_latency_seconds{transport=\"sse\"} 0.001\n"))
    }

    @Test("a transport that brings nothing is named within three seconds of its last message", arguments: Transport.allCases)
    func oneTransport(_ silent: Transport) throws {
        var book = CanaryBook(loops: 1, nowNanoseconds: 0)
        sing(&book, 1...5)
        sing(&book, 6...8, to: Transport.allCases.filter { $0 != silent })
        let fault = try #require(book.fault(nowNanoseconds: 8 * Self.second))
        #expect(fault.hasPrefix("nothing has come back over \(silent.rawValue) for "))
        #expect(book.exposition(nowNanoseconds: 8 * Self.second).contains("canary_failed{transport=\"\(silent.rawValue)\"} 1\n"))
        sing(&book, 9...9)
        #expect(book.fault(nowNanoseconds: 10 * Self.second) == nil)
    }

    @Test("a loop without a sign of life is named")
    func loop() throws {
        var book = CanaryBook(loops: 2, nowNanoseconds: 0)
        sing(&book, 1...4)
        let fault = try #require(book.fault(nowNanoseconds: 4 * Self.second))
        #expect(fault.hasPrefix("event loop 1 "))
    }

    @Test("a loop is asked for one sign at a time")
    func asking() {
        var book = CanaryBook(loops: 2, nowNanoseconds: 0)
        #expect([book.ask(loop: 0), book.ask(loop: 0), book.ask(loop: 1)] == [true, false, true])
        book.sign(loop: 0, nowNanoseconds: 1)
        #expect([book.ask(loop: 0), book.ask(loop: 1)] == [true, false])
    }

    @Test("before a log that does not answer only a few messages wait, and why it refuses is told")
    func unanswered() throws {
        var book = CanaryBook(loops: 0, nowNanoseconds: 0)
        let sent = (1...10).compactMap { book.send(nowNanoseconds: $0 * Self.second) }
        #expect(sent == [1, 2, 3, 4])
        for _ in sent { book.answered(refusal: "storeFailed") }
        #expect(book.send(nowNanoseconds: 11 * Self.second) == 5)
        let fault = try #require(book.fault(nowNanoseconds: 11 * Self.second))
        #expect(fault.hasSuffix("; the log: storeFailed"))
    }

    @Test("old messages, and numbers that were never sent, are no sign of life")
    func notNews() {
        var book = CanaryBook(loops: 1, nowNanoseconds: 0)
        sing(&book, 1...3)
        book.sign(loop: 0, nowNanoseconds: 9 * Self.second)
        for transport in Transport.allCases {
            book.take(3, transport, nowNanoseconds: 9 * Self.second)
            book.take(2, transport, nowNanoseconds: 9 * Self.second)
            book.take(77, transport, nowNanoseconds: 9 * Self.second)
        }
        #expect(book.fault(nowNanoseconds: 9 * Self.second) == "nothing has come back over websocket, sse, long_poll for 5.9 s")
    }

    @Test("its numbers are found in what a server sends")
    func text() {
        let one = #"{"channel":"_canary.0","position":"a.1","data":{"canary":7}}"#
        #expect(CanaryText.numbers(in: Array(one.utf8)) == [7])
        #expect(CanaryText.numbers(in: Array(("id: a.1\ndata: " + one + "\n\ndata: " + one).utf8)) == [7, 7])
        #expect(CanaryText.numbers(in: Array(#"{"type":"hello","data":{"canary":}}"#.utf8)).isEmpty)
        #expect(CanaryText.position(in: Array((#"{"position":"b.9","messages":["# + one).utf8)) == "b.9")
        #expect(CanaryText.position(in: []) == nil)
    }
}

/// Times from publishing to writing.
@Suite struct DeliveryTimesTests {
    private func lines(_ times: DeliveryTimes, _ labels: String) -> [String] {
        times.exposition.split(separator: "\n").filter { $0.contains(labels) }.map { String($0.split(separator: " ").last!) }
    }

    @Test("each counts in its own bucket, and for each transport and kind that it went to")
    func buckets() {
        var times = DeliveryTimes()
        for bound in DeliveryTimes.bounds { times.note(nanoseconds: bound, transports: 0b001, kinds: 0b0010) }
        times.note(nanoseconds: DeliveryTimes.bounds.last! + 1, transports: 0b001, kinds: 0b0010)
        times.note(nanoseconds: -1, transports: 0b110, kinds: 0b1001)
        let count = DeliveryTimes.bounds.count
        #expect(lines(times, #"_bucket{transport="websocket",kind="scores""#) == (1...count + 1).map { "\($0)" })
        #expect(lines(times, #"_count{transport="websocket",kind="alerts""#) == ["0"])
        for transport in ["sse", "long_poll"] {
            for kind in ["alerts", "plain"] {
                #expect(lines(times, "_count{transport=\"\(transport)\",kind=\"\(kind)\"") == ["1"])
            }
        }
        var sum = times
        sum.add(times)
        #expect(lines(sum, #"_count{transport="websocket",kind="scores""#) == ["\(2 * (count + 1))"])
    }
}

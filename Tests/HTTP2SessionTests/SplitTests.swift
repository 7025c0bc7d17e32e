import HTTP2Session
import HTTPTypes
import TestSupport
import Testing

/// The same bytes, however the network cuts them.
@Suite struct SplitTests {
    private enum Outcome: Equatable {
        case event(HTTP2Event)
        case fault(HTTP2Fault)
    }

    /// Feeds a new session; neighbouring pieces of a body are joined.
    private func decode(_ pieces: [[UInt8]], limits: HTTP2Limits) -> [Outcome] {
        let server = HTTP2ServerSession(limits: limits)
        var outcomes: [Outcome] = []
        for piece in pieces {
            var fault: HTTP2Fault?
            do throws(HTTP2Fault) { try server.receive(piece) } catch { fault = error }
            for event in server.allEvents() {
                if case .body(let stream, let more) = event, case .event(.body(stream, let bytes))? = outcomes.last {
                    outcomes[outcomes.count - 1] = .event(.body(stream: stream, bytes + more))
                } else {
                    outcomes.append(.event(event))
                }
            }
            if let fault {
                outcomes.append(.fault(fault))
                break
            }
        }
        // What is answered is part of it too: a fault of nghttp2's own finding shows in the GOAWAY.
        _ = server.sendAll()
        if let fault = server.fault, outcomes.last != .fault(fault) { outcomes.append(.fault(fault)) }
        return outcomes
    }

    @Test("recorded requests give the same events at every cut")
    func requests() throws {
        let pair = Pair(seed: 3)
        pair.serve = { event, server in
            if case .end(let stream) = event { server.respond(stream: stream, HTTPResponse(status: .ok), body: [1]) }
        }
        _ = try #require(pair.client.request(.get("/a", [.cookie: "a=b", .userAgent: "test"])))
        _ = try #require(pair.client.request(.post("/b"), body: [UInt8](repeating: 5, count: 700)))
        try pair.pump()
        let third = try #require(pair.client.startRequest(.post("/c", [.authorization: "Bearer x"])))
        #expect(pair.client.offer(stream: third, [1, 2, 3], range: 0..<3))
        try pair.pump()
        pair.client.reset(stream: third, errorCode: 8)
        try pair.pump()
        pair.client.terminate(errorCode: 0)
        try pair.pump()
        let outcomes = try SplitVerifier.verify(pair.clientBytes) { decode($0, limits: HTTP2Limits()) }
        // Streams 1 and 3 stay open here, as nobody answers.
        let expected = pair.serverEvents.filter { event in
            if case .closed(let stream, _) = event { stream == third } else { true }
        }
        #expect(outcomes.count == expected.count)
        #expect(outcomes.contains(.event(.closed(stream: third, errorCode: 8))))
        #expect(outcomes.last == .event(.goAway(errorCode: 0)))
    }

    @Test("limits strike at the same place at every cut")
    func limits() throws {
        var limits = HTTP2Limits()
        limits.bodyBytesMax = 20
        limits.headerFieldsMax = 6
        limits.resetBurst = 2
        var bytes = RawFrame.preface
        bytes += RawFrame.headers(1, RawFrame.get + Array(repeating: ("a", "b"), count: 4)).bytes
        bytes += RawFrame.headers(3, RawFrame.post + [("content-length", "21")], end: false).bytes
        bytes += RawFrame.headers(5, RawFrame.get + Array(repeating: ("a", "b"), count: 40)).bytes
        for index: Int32 in 7..<12 { bytes += RawFrame.headers(index * 2 + 1).bytes + RawFrame.reset(index * 2 + 1, 8).bytes }
        let outcomes = try SplitVerifier.verify(bytes) { pieces in
            // What follows the fault depends on where the read ends; what comes before it does not.
            let outcomes = decode(pieces, limits: limits)
            return Array(outcomes.prefix { $0 != .event(.closed(stream: 19, errorCode: 8)) }) + outcomes.suffix(1)
        }
        #expect(outcomes.contains(.event(.headersTooLarge(stream: 1))))
        #expect(outcomes.contains(.event(.bodyTooLong(stream: 3))))
        #expect(outcomes.last == .fault(.tooManyResets))
    }

    @Test("DATA behind the reset of its stream is a fault at every cut")
    func dataBehindReset() throws {
        let data = RawFrame(kind: RawFrame.Kind.data, stream: 1, payload: [1, 2])
        let bytes =
            RawFrame.preface + RawFrame.headers(1, RawFrame.post, end: false).bytes + data.bytes + RawFrame.reset(1, 8).bytes + data.bytes
        let outcomes = try SplitVerifier.verify(bytes) { decode($0, limits: HTTP2Limits()) }
        #expect(outcomes.last == .fault(.misplacedFrame(code: 5)))
    }

    @Test("broken bytes give the same fault at every cut", arguments: [0, 1, 2])
    func broken(index: Int) throws {
        let tails = [
            RawFrame(kind: RawFrame.Kind.ping, payload: [1]).bytes,
            RawFrame.headers(2).bytes,
            (0..<10).flatMap { _ in RawFrame(kind: RawFrame.Kind.continuation, stream: 1).bytes },
        ]
        let first = index == 2 ? RawFrame(kind: 1, stream: 1, payload: RawFrame.block(RawFrame.get)) : .headers(1)
        let outcomes = try SplitVerifier.verify(RawFrame.preface + first.bytes + tails[index]) {
            decode($0, limits: HTTP2Limits())
        }
        guard case .fault = outcomes.last else {
            Issue.record("\(outcomes)")
            return
        }
    }
}

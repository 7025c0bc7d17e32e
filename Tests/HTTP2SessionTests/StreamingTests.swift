import HTTP2Session
import HTTPTypes
import TestSupport
import Testing

@Suite struct StreamingTests {
    /// What a stream is sent: the n-th byte says n and the stream.
    private func text(_ stream: HTTP2StreamID, count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ Int(stream)) }
    }

    @Test("100 streams each get their bytes in order, whatever the window", arguments: [1, 10, 1000, 65535, 1 << 20] as [UInt32])
    func manyStreams(window: UInt32) throws {
        var limits = HTTP2Limits()
        limits.initialWindowBytes = window
        let pair = Pair(client: limits, seed: UInt64(window))
        pair.sendBytesMax = 3000
        let count = window < 10 ? 40 : 700
        var cursors: [HTTP2StreamID: Int] = [:]
        var random = SeededRandom(seed: 9)
        // A cursor reads on while its offers are taken, as a subscriber does.
        func readOn(_ stream: HTTP2StreamID, _ server: HTTP2ServerSession) {
            let whole = text(stream, count: count)
            while let start = cursors[stream], start < count {
                let end = min(count, start + Int.random(in: 1...50, using: &random))
                guard server.offer(stream: stream, whole, range: start..<end) else { return }
                cursors[stream] = end
            }
            if cursors[stream] == count {
                cursors[stream] = nil
                server.finish(stream: stream)
            }
        }
        pair.serve = { event, server in
            switch event {
            case .end(let stream):
                server.startStreaming(stream: stream, HTTPResponse(status: .ok))
                cursors[stream] = 0
                readOn(stream, server)
            case .windowOpen(let stream):
                readOn(stream, server)
            default:
                break
            }
        }
        let streams = try (0..<100).map { _ in try #require(pair.client.request(.get("/"))) }
        try pair.pump()
        for stream in streams {
            #expect(pair.answerBody(stream) == text(stream, count: count))
        }
        #expect(cursors.isEmpty)
        #expect(pair.server.openStreams == 0)
        #expect(pair.clientEvents.count { if case .end = $0 { true } else { false } } == 100)
    }

    @Test("an offer that goes out at once gives no event")
    func ordinaryCase() throws {
        let pair = Pair()
        pair.serve = { event, server in
            if case .end(let stream) = event { server.startStreaming(stream: stream, HTTPResponse(status: .ok)) }
        }
        let stream = try #require(pair.client.request(.get("/")))
        try pair.pump()
        let before = pair.serverEvents
        for _ in 0..<3 {
            #expect(pair.server.offer(stream: stream, Array("data: x\n\n".utf8), range: 0..<9))
            #expect(pair.server.pendingBytes(stream) == 9)
            #expect(pair.server.wantsWrite)
            try pair.pump()
            #expect(pair.server.pendingBytes(stream) == 0)
        }
        #expect(pair.serverEvents == before)
        #expect(pair.answerBody(stream) == Array("data: x\n\ndata: x\n\ndata: x\n\n".utf8))
        // And none for nothing.
        #expect(pair.server.offer(stream: stream, [1, 2], range: 1..<1))
        #expect(!pair.server.wantsWrite)
    }

    @Test("an offer over a pending one is refused, and windowOpen comes when that is gone")
    func refused() throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface + RawFrame.headers(1).bytes)
        _ = server.allEvents()
        server.startStreaming(stream: 1, HTTPResponse(status: .ok))
        _ = server.sendAll()
        #expect(server.offer(stream: 1, [1, 2, 3], range: 0..<2))
        #expect(!server.offer(stream: 1, [1, 2, 3], range: 2..<3))
        #expect(server.allEvents() == [])
        let frames = RawFrame.parse(server.sendAll())
        #expect(frames == [RawFrame(kind: RawFrame.Kind.data, stream: 1, payload: [1, 2])])
        #expect(server.allEvents() == [.windowOpen(stream: 1)])
        #expect(server.offer(stream: 1, [1, 2, 3], range: 2..<3))
        _ = server.sendAll()
        #expect(server.allEvents() == [])
    }

    @Test("bytes that are offered at the very end of a window give windowOpen when they are gone", arguments: [0, 1] as [HTTP2StreamID])
    func windowIsUsedUp(of stream: HTTP2StreamID) throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface + RawFrame.headers(1).bytes)
        // Of the other one there is enough.
        try server.receive(RawFrame.windowUpdate(stream == 0 ? 1 : 0, 100_000).bytes)
        _ = server.allEvents()
        server.startStreaming(stream: 1, HTTPResponse(status: .ok))
        _ = server.sendAll()
        let window = [UInt8](repeating: 7, count: 65535)
        #expect(server.offer(stream: 1, window, range: 0..<window.count))
        _ = server.sendAll()
        #expect(server.pendingBytes(1) == 0)
        _ = server.allEvents()
        #expect(server.offer(stream: 1, [8], range: 0..<1))
        // There is nothing to send, so `send` is not called.
        #expect(!server.wantsWrite && server.pendingBytes(1) == 1 && server.allEvents() == [])
        try server.receive(RawFrame.windowUpdate(stream, 10).bytes)
        #expect(RawFrame.parse(server.sendAll()).map(\.payload) == [[8]])
        #expect(server.allEvents() == [.windowOpen(stream: 1)])
    }

    @Test("bytes that one send could not take give windowOpen when they are gone")
    func fullSocket() throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface + RawFrame.headers(1).bytes + RawFrame.headers(3).bytes)
        _ = server.allEvents()
        for stream: HTTP2StreamID in [1, 3] { server.startStreaming(stream: stream, HTTPResponse(status: .ok)) }
        _ = server.sendAll()
        #expect(server.offer(stream: 1, [1], range: 0..<1))
        #expect(server.offer(stream: 3, [3], range: 0..<1))
        var out: [UInt8] = []
        server.send(into: &out, bytesMax: 5)
        #expect(RawFrame.parse(out).map(\.stream) == [1])
        #expect(server.allEvents() == [])
        #expect(server.pendingBytes(3) == 1)
        #expect(server.wantsWrite)
        out = []
        server.send(into: &out, bytesMax: 5)
        #expect(RawFrame.parse(out).map(\.stream) == [3])
        #expect(server.allEvents() == [.windowOpen(stream: 3)])
        #expect(!server.wantsWrite)
    }

    @Test("send appends to what the array holds, and counts that")
    func appends() throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        var out: [UInt8] = [9, 9]
        server.send(into: &out, bytesMax: 2)
        #expect(out == [9, 9])
        server.send(into: &out, bytesMax: 3)
        #expect(out.prefix(2) == [9, 9])
        #expect(RawFrame.parse(Array(out[2...])).map(\.kind) == [RawFrame.Kind.settings])
    }

    @Test("a stalled stream does not stall its siblings, and windowOpen comes when its window opens")
    func stalledStream() throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        // The client's window is 4 bytes a stream.
        let settings = RawFrame(kind: RawFrame.Kind.settings, payload: [0, 4, 0, 0, 0, 4])
        try server.receive(RawFrame.preface + settings.bytes + RawFrame.headers(1).bytes + RawFrame.headers(3).bytes)
        _ = server.allEvents()
        for stream: HTTP2StreamID in [1, 3] { server.startStreaming(stream: stream, HTTPResponse(status: .ok)) }
        _ = server.sendAll()
        let bytes: [UInt8] = [1, 2, 3, 4, 5, 6]
        #expect(server.offer(stream: 1, bytes, range: 0..<6))
        #expect(RawFrame.parse(server.sendAll()).map(\.payload) == [[1, 2, 3, 4]])
        #expect(server.pendingBytes(1) == 2)
        #expect(!server.wantsWrite)
        for byte in 0..<4 {
            #expect(server.offer(stream: 3, bytes, range: byte..<byte + 1))
            #expect(RawFrame.parse(server.sendAll()) == [RawFrame(kind: 0, stream: 3, payload: [bytes[byte]])])
        }
        #expect(server.allEvents() == [])
        try server.receive(RawFrame.windowUpdate(1, 100).bytes)
        #expect(server.allEvents() == [])
        #expect(RawFrame.parse(server.sendAll()) == [RawFrame(kind: 0, stream: 1, payload: [5, 6])])
        #expect(server.allEvents() == [.windowOpen(stream: 1)])
    }

    @Test("long answers and long offers take turns with their siblings", arguments: [true, false])
    func fairness(isStreaming: Bool) throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        let long = [UInt8](repeating: 1, count: 50_000)
        // The connection's window is raised, so that only turns decide.
        let window = RawFrame.windowUpdate(0, 1 << 20)
        let requests = [1, 3, 5].flatMap { RawFrame.headers($0).bytes }
        try server.receive(RawFrame.preface + window.bytes + requests)
        server.startStreaming(stream: 5, HTTPResponse(status: .ok))
        if isStreaming {
            for stream: HTTP2StreamID in [1, 3] { server.startStreaming(stream: stream, HTTPResponse(status: .ok)) }
            _ = server.sendAll()
            for stream: HTTP2StreamID in [1, 3] { #expect(server.offer(stream: stream, long, range: 0..<long.count)) }
        } else {
            _ = server.sendAll()
            for stream: HTTP2StreamID in [1, 3] { server.respond(stream: stream, HTTPResponse(status: .ok), body: long) }
        }
        var out: [UInt8] = []
        server.send(into: &out, bytesMax: 40_000)
        // A short message comes in between.
        #expect(server.offer(stream: 5, [5], range: 0..<1))
        out += server.sendAll()
        let data = RawFrame.parse(out).filter { $0.kind == RawFrame.Kind.data }.map(\.stream)
        #expect(data.prefix(3) == [1, 3, 1])
        #expect(data.firstIndex(of: 5)! <= 5)
        #expect(data.count { $0 == 1 } == 4)
        #expect(data.count { $0 == 3 } == 4)
    }

    @Test("finish without pending bytes ends the stream, and an answer may end after its bytes", arguments: [true, false])
    func finish(withBytes: Bool) throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface + RawFrame.headers(1).bytes)
        server.startStreaming(stream: 1, HTTPResponse(status: .ok))
        _ = server.sendAll()
        _ = server.allEvents()
        if withBytes { #expect(server.offer(stream: 1, [1], range: 0..<1)) }
        server.finish(stream: 1)
        #expect(RawFrame.parse(server.sendAll()) == [RawFrame(kind: 0, flags: 1, stream: 1, payload: withBytes ? [1] : [])])
        #expect(server.allEvents() == [.closed(stream: 1, errorCode: 0)])
    }

    @Test("operations on a stream that is gone do nothing")
    func gone() throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface + RawFrame.headers(1).bytes + RawFrame.headers(3).bytes)
        server.startStreaming(stream: 1, HTTPResponse(status: .ok))
        _ = server.sendAll()
        #expect(server.offer(stream: 1, [1], range: 0..<1))
        try server.receive(RawFrame.reset(1, 8).bytes + RawFrame.reset(3, 8).bytes)
        #expect(server.allEvents().suffix(2) == [.closed(stream: 1, errorCode: 8), .closed(stream: 3, errorCode: 8)])
        #expect(!server.offer(stream: 1, [1], range: 0..<1))
        #expect(!server.offer(stream: 99, [1], range: 0..<1))
        server.respond(stream: 3, HTTPResponse(status: .ok), body: [1])
        server.startStreaming(stream: 3, HTTPResponse(status: .ok))
        server.finish(stream: 1)
        server.reset(stream: 1, errorCode: 0)
        #expect(server.pendingBytes(1) == 0)
        #expect(server.sendAll() == [])
        #expect(server.openStreams == 0)
    }

    @Test("our own reset drops the pending bytes and says closed")
    func ownReset() throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface + RawFrame.headers(1).bytes)
        server.startStreaming(stream: 1, HTTPResponse(status: .ok))
        _ = server.sendAll()
        _ = server.allEvents()
        #expect(server.offer(stream: 1, [1], range: 0..<1))
        server.reset(stream: 1, errorCode: 8)
        #expect(RawFrame.parse(server.sendAll()) == [.reset(1, 8)])
        #expect(server.allEvents() == [.closed(stream: 1, errorCode: 8)])
    }

    @Test("an answer's head that does not fit resets the stream")
    func headTooLong() throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface + RawFrame.headers(1).bytes)
        _ = server.sendAll()
        _ = server.allEvents()
        let value = String(repeating: "é", count: 40_000)
        server.respond(stream: 1, HTTPResponse(status: .ok, headerFields: [.server: value]), body: [])
        #expect(RawFrame.parse(server.sendAll()) == [.reset(1, 2)])
        #expect(server.allEvents() == [.closed(stream: 1, errorCode: 2)])
    }
}

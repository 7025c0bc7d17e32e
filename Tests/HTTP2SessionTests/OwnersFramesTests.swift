import HTTP2Session
import HTTPTypes
import TestSupport
import Testing

/// DATA that the owner of a session writes itself, past nghttp2.
@Suite struct OwnersFramesTests {
    /// A stream of a server as its owner holds it.
    private struct Stream {
        var credit: Int32 = 0
        var version: UInt16 = 0
        var sent: [UInt8] = []
        var isReady = false
    }

    /// Writes a frame if it may.
    private func write(_ bytes: [UInt8], _ id: HTTP2StreamID, _ stream: inout Stream, _ server: HTTP2ServerSession) -> [UInt8]? {
        guard
            server.mayWrite(bytes.count, stream: id, credit: &stream.credit, version: &stream.version, portion: 5000)
        else { return nil }
        return RawFrame(kind: RawFrame.Kind.data, stream: id, payload: bytes).bytes
    }

    @Test("beside what nghttp2 sends, all comes in order and within the windows", arguments: [30, 4000, 65535, 1 << 20] as [UInt32])
    func mixed(window: UInt32) throws {
        var limits = HTTP2Limits()
        limits.initialWindowBytes = window
        // The peer is nghttp2, which ends a connection whose windows are overrun.
        let pair = Pair(client: limits, seed: UInt64(window))
        var streams: [HTTP2StreamID: Stream] = [:]
        pair.serve = { event, server in
            guard case .end(let id) = event else { return }
            server.startStreaming(stream: id, HTTPResponse(status: .ok))
            streams[id] = Stream()
        }
        let ids = try (0..<6).map { _ in try #require(pair.client.request(.get("/"))) }
        try pair.pump()
        var random = SeededRandom(seed: UInt64(window))
        var (own, offered, refused) = (0, 0, 0)
        for round in 0..<1500 {
            let id = ids.randomElement(using: &random)!
            let count = Int.random(in: 1...(round % 10 == 0 ? 40_000 : 600), using: &random)
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &+ round) }
            if Int.random(in: 0..<4, using: &random) > 0, count <= HTTP2ServerSession.frameBytesMax {
                if let frame = write(bytes, id, &streams[id]!, pair.server) {
                    own += 1
                    pair.ownersFrames += frame
                    streams[id]!.sent += bytes
                } else {
                    refused += 1
                }
            } else {
                pair.server.giveBack(stream: id, Int(streams[id]!.credit))
                streams[id]!.credit = 0
                if pair.server.offer(stream: id, bytes, range: 0..<bytes.count) {
                    offered += 1
                    streams[id]!.sent += bytes
                }
            }
            if Int.random(in: 0..<5, using: &random) == 0 { try pair.pump() }
        }
        for id in ids {
            pair.server.giveBack(stream: id, Int(streams[id]!.credit))
            pair.server.finish(stream: id)
        }
        try pair.pump()
        for id in ids { #expect(pair.answerBody(id) == streams[id]!.sent) }
        #expect(pair.client.fault == nil && pair.server.fault == nil && pair.server.openStreams == 0)
        #expect(own > 20 && offered > 20 && refused > 20)
    }

    /// A server with a stream that streams, as a client of raw frames sees it.
    private func streaming(window: UInt32) throws -> HTTP2ServerSession {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        let settings = RawFrame(kind: RawFrame.Kind.settings, payload: [0, 4] + RawFrame.word(window))
        try server.receive(RawFrame.preface + settings.bytes + RawFrame.headers(1).bytes)
        _ = server.allEvents()
        server.startStreaming(stream: 1, HTTPResponse(status: .ok))
        #expect(server.offer(stream: 1, [1], range: 0..<1))
        _ = server.sendAll()
        return server
    }

    private static let windowMax = UInt32(Int32.max)

    @Test("windows as wide as can be, opened again for each frame, never overflow", arguments: [1, 7, 13, 26, 4096])
    func widest(piece: Int) throws {
        let server = try streaming(window: Self.windowMax)
        try server.receive(RawFrame.windowUpdate(0, Self.windowMax - 65535).bytes + RawFrame.windowUpdate(1, 1).bytes)
        try server.receive(RawFrame.windowUpdate(0, 1).bytes)
        var stream = Stream()
        let bytes = [UInt8](repeating: 7, count: 16000)
        for round in 0..<200 {
            #expect(write(bytes, 1, &stream, server) != nil)
            let updates = RawFrame.windowUpdate(1, 16000).bytes + RawFrame.windowUpdate(0, 16000).bytes
            // In pieces of this size, after a ping that moves where they are cut.
            var input = round % 3 == 0 ? RawFrame(kind: RawFrame.Kind.ping, payload: Array(repeating: 1, count: 8)).bytes : []
            input += updates
            for start in stride(from: 0, to: input.count, by: piece) {
                try server.receive(Array(input[start..<min(start + piece, input.count)]), at: Int64(round) * 1000)
            }
            _ = server.sendAll()
        }
        #expect(server.fault == nil)
        // All is paid, so one byte more is too many.
        server.giveBack(stream: 1, Int(stream.credit))
        try server.receive(RawFrame.windowUpdate(1, 1).bytes)
        #expect(RawFrame.parse(server.sendAll()).contains { $0.kind == RawFrame.Kind.reset && $0.errorCode == 3 })
        try server.receive(RawFrame.windowUpdate(0, 1).bytes)
        #expect(RawFrame.parse(server.sendAll()).contains { $0.kind == RawFrame.Kind.goAway && $0.errorCode == 3 })
    }

    @Test("a portion that is given back in the midst of a frame of the peer does not get into it")
    func givenBackWithinFrame() throws {
        let server = try streaming(window: Self.windowMax - 50_000)
        var stream = Stream()
        #expect(write([1], 1, &stream, server) != nil)
        // More than was used: a part of what is set aside is paid with it.
        try server.receive(RawFrame.windowUpdate(1, 4000).bytes)
        try server.receive(RawFrame.headers(3, RawFrame.post, end: false).bytes)
        let body = RawFrame(kind: RawFrame.Kind.data, flags: 1, stream: 3, payload: [UInt8](repeating: 9, count: 100)).bytes
        try server.receive(Array(body[..<40]))
        server.giveBack(stream: 1, Int(stream.credit))
        try server.receive(Array(body[40...]))
        let bytes = server.allEvents().reduce(into: [UInt8]()) { if case .body(3, let more) = $1 { $0 += more } }
        #expect(bytes == [UInt8](repeating: 9, count: 100) && server.fault == nil)
        stream.credit = 0
        #expect(write([2], 1, &stream, server) != nil)
    }

    @Test("a portion does not outlive the settings that it was given under")
    func settings() throws {
        let server = try streaming(window: 5000)
        var stream = Stream()
        #expect(write([UInt8](repeating: 1, count: 1000), 1, &stream, server) != nil)
        #expect(stream.credit == 3999)
        try server.receive(RawFrame(kind: RawFrame.Kind.settings, payload: [0, 4] + RawFrame.word(1500)).bytes)
        // 1001 of 1500 are used.
        #expect(write([UInt8](repeating: 1, count: 500), 1, &stream, server) == nil)
        #expect(write([UInt8](repeating: 1, count: 499), 1, &stream, server) != nil)
        #expect(write([1], 1, &stream, server) == nil)
        try server.receive(RawFrame.windowUpdate(1, 1).bytes)
        #expect(write([1], 1, &stream, server) != nil)
    }

    @Test("nothing is written on a stream of which something waits, that is finished, gone, or not begun; nor after a fault")
    func refusals() throws {
        let server = try streaming(window: 100)
        var stream = Stream()
        #expect(server.offer(stream: 1, [UInt8](repeating: 1, count: 200), range: 0..<200))
        _ = server.sendAll()
        #expect(write([1], 1, &stream, server) == nil)
        try server.receive(RawFrame.windowUpdate(1, 1000).bytes)
        #expect(write([1], 1, &stream, server) == nil)
        _ = server.sendAll()
        #expect(write([1], 1, &stream, server) != nil)
        server.giveBack(stream: 1, Int(stream.credit))
        server.finish(stream: 1)
        stream = Stream()
        #expect(write([1], 1, &stream, server) == nil)
        try server.receive(RawFrame.headers(3).bytes)
        _ = server.allEvents()
        var other = Stream()
        #expect(write([1], 3, &other, server) == nil)
        server.startStreaming(stream: 3, HTTPResponse(status: .ok))
        #expect(write([1], 3, &other, server) == nil)
        #expect(server.offer(stream: 3, [1], range: 0..<1))
        _ = server.sendAll()
        #expect(write([1], 3, &other, server) != nil)
        #expect(other.credit > 0)
        #expect(throws: HTTP2Fault.self) {
            try server.receive(RawFrame(kind: RawFrame.Kind.continuation, stream: 3).bytes)
            _ = server.sendAll()
            try server.receive([0])
        }
        #expect(write([1], 3, &other, server) == nil)
    }

    @Test("the connection's window counts for all streams, and for what nghttp2 sends beside them")
    func connectionWindow() throws {
        let server = try streaming(window: Self.windowMax)
        try server.receive(RawFrame.headers(3).bytes)
        _ = server.allEvents()
        server.startStreaming(stream: 3, HTTPResponse(status: .ok))
        _ = server.sendAll()
        var stream = Stream()
        // 65,534 are left of it.
        for _ in 0..<4 { #expect(write([UInt8](repeating: 1, count: 16000), 1, &stream, server) != nil) }
        #expect(server.offer(stream: 3, [UInt8](repeating: 2, count: 5000), range: 0..<5000))
        let first = RawFrame.parse(server.sendAll()).filter { $0.kind == RawFrame.Kind.data }
        #expect(first.reduce(0) { $0 + $1.payload.count } == 1534)
        #expect(write([1], 1, &stream, server) == nil)
        try server.receive(RawFrame.windowUpdate(0, 3467).bytes)
        let second = RawFrame.parse(server.sendAll()).filter { $0.kind == RawFrame.Kind.data }
        #expect(second.reduce(0) { $0 + $1.payload.count } == 3466)
        #expect(server.allEvents() == [.windowOpen(stream: 3)])
        #expect(write([1], 1, &stream, server) != nil)
        #expect(write([1], 1, &stream, server) == nil)
    }

    @Test("WINDOW_UPDATE within a header block stays a fault")
    func headerBlock() throws {
        let server = try streaming(window: Self.windowMax)
        var stream = Stream()
        #expect(write([1], 1, &stream, server) != nil)
        var headers = RawFrame.headers(3)
        headers.flags = 1
        try? server.receive(headers.bytes + RawFrame.windowUpdate(1, 1).bytes)
        #expect(RawFrame.parse(server.sendAll()).contains { $0.kind == RawFrame.Kind.goAway && $0.errorCode == 1 })
    }
}

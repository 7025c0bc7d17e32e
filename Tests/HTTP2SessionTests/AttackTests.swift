import HTTP2Session
import HTTPTypes
import TestSupport
import Testing

/// Floods and rule breaking, by raw frames. Each ends in a GOAWAY, and nothing grows.
@Suite struct AttackTests {
    private static let calm: UInt32 = 11

    /// Feeds batches until the server has had enough; then what it said last.
    private func flood(
        _ server: HTTP2ServerSession,
        batches: Int = 10_000,
        isReading: Bool = true,
        millisecondsPerBatch: Int64 = 0,
        _ batch: (Int) -> [UInt8]
    ) -> (fault: HTTP2Fault?, goAway: RawFrame?, batches: Int, openMax: Int) {
        var sent: [UInt8] = []
        var openMax = 0
        var done = 0
        do throws(HTTP2Fault) {
            try server.receive(RawFrame.preface)
            // The client acknowledges the settings, so that they are in force.
            _ = server.sendAll()
            try server.receive(RawFrame(kind: RawFrame.Kind.settings, flags: 1).bytes)
            while done < batches, !server.isFinished {
                try server.receive(batch(done), at: Int64(done) * millisecondsPerBatch)
                _ = server.allEvents()
                openMax = max(openMax, server.openStreams)
                if isReading { sent = server.sendAll() }
                done += 1
            }
        } catch {
            sent = server.sendAll()
        }
        let goAway = RawFrame.parse(sent).last { $0.kind == RawFrame.Kind.goAway }
        return (server.fault, goAway, done, openMax)
    }

    @Test("rapid reset ends in GOAWAY ENHANCE_YOUR_CALM")
    func rapidReset() {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        let end = flood(server) { RawFrame.headers(Int32($0 * 2 + 1)).bytes + RawFrame.reset(Int32($0 * 2 + 1), 8).bytes }
        #expect(end.fault == .tooManyResets)
        #expect(end.goAway?.errorCode == Self.calm)
        #expect(end.batches == 1000)
        #expect(server.isFinished)
        #expect(!server.wantsWrite)
    }

    @Test("rapid reset in one read ends soon after the bucket is empty")
    func rapidResetAtOnce() throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        var bytes = RawFrame.preface
        for index in 0..<20_000 {
            bytes += RawFrame.headers(Int32(index * 2 + 1)).bytes + RawFrame.reset(Int32(index * 2 + 1), 8).bytes
        }
        #expect(throws: HTTP2Fault.tooManyResets) { try server.receive(bytes) }
        #expect(server.allEvents().count < 3 * 1500)
        // Deaf from now on.
        #expect(throws: HTTP2Fault.tooManyResets) { try server.receive(RawFrame.headers(60_001).bytes) }
        #expect(server.allEvents() == [])
        #expect(RawFrame.parse(server.sendAll()).last?.errorCode == Self.calm)
        #expect(server.isFinished)
    }

    @Test(
        "resets at the allowed pace go on for ever, and a little over it they do not",
        arguments: [(31, nil), (25, .tooManyResets)] as [(Int64, HTTP2Fault?)]
    )
    func resetPace(millisecondsPerReset: Int64, fault: HTTP2Fault?) {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        let end = flood(server, batches: 20_000, millisecondsPerBatch: millisecondsPerReset) {
            RawFrame.headers(Int32($0 * 2 + 1)).bytes + RawFrame.reset(Int32($0 * 2 + 1), 8).bytes
        }
        #expect(end.fault == fault)
    }

    /// Ways to make a server reset a stream (CVE-2025-8671), each on a new stream.
    static let provocations: [(String, @Sendable (Int32) -> [UInt8])] = [
        ("WINDOW_UPDATE 0", { RawFrame.headers($0, end: false).bytes + RawFrame.windowUpdate($0, 0).bytes }),
        ("window overflow", { RawFrame.headers($0, end: false).bytes + RawFrame.windowUpdate($0, 0x7fff_ffff).bytes }),
        ("DATA after the end", { RawFrame.headers($0).bytes + RawFrame(kind: RawFrame.Kind.data, stream: $0, payload: [1]).bytes }),
        ("HEADERS after the end", { RawFrame.headers($0).bytes + RawFrame.headers($0).bytes }),
        ("malformed request", { RawFrame.headers($0, [(":method", "GET")]).bytes }),
        ("host differs", { RawFrame.headers($0, RawFrame.get + [("host", "b")]).bytes }),
        (
            "content-length too small",
            {
                RawFrame.headers($0, RawFrame.post + [("content-length", "1")], end: false).bytes
                    + RawFrame(kind: RawFrame.Kind.data, stream: $0, payload: [1, 2]).bytes
            }
        ),
        ("far too many headers", { RawFrame.headers($0, RawFrame.get + Array(repeating: ("a", "b"), count: 500)).bytes }),
    ]

    @Test("making the server reset streams ends in GOAWAY as well", arguments: provocations.indices)
    func madeYouReset(index: Int) {
        let (name, provoke) = Self.provocations[index]
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        let end = flood(server, batches: 3000) { provoke(Int32($0 * 2 + 1)) }
        #expect(server.isFinished, "\(name)")
        #expect(end.goAway != nil, "\(name)")
        #expect(end.batches <= 1001, "\(name)")
        #expect(end.openMax <= 1, "\(name)")
        // nghttp2 calls some of these an error of the connection at once.
        if end.batches > 1 {
            #expect(end.fault == .tooManyResetsProvoked, "\(name)")
            #expect(end.goAway?.errorCode == Self.calm, "\(name)")
        }
    }

    @Test("provoked resets pile up no further than their limit when the client does not read")
    func resetsWaiting() {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        // Streams over the number allowed: refused one by one while the settings are not acknowledged.
        var fault: HTTP2Fault?
        var count = 0
        do throws(HTTP2Fault) {
            try server.receive(RawFrame.preface)
            while count < 50_000 {
                try server.receive(RawFrame.headers(Int32(count * 2 + 1)).bytes)
                count += 1
            }
        } catch { fault = error }
        #expect(fault == .tooManyFramesWaiting)
        #expect(count < 2000)
        #expect(server.openStreams == 128)
        #expect(RawFrame.parse(server.sendAll()).last?.errorCode == Self.calm)
        #expect(server.isFinished)
    }

    @Test(
        "frames without effect run into a limit",
        arguments: [
            RawFrame(kind: RawFrame.Kind.ping, payload: [1, 2, 3, 4, 5, 6, 7, 8]),
            RawFrame(kind: RawFrame.Kind.settings),
            RawFrame(kind: RawFrame.Kind.data, stream: 1),
            RawFrame(kind: RawFrame.Kind.data, flags: 8, stream: 1, payload: [0]),
        ]
    )
    func idleFrames(frame: RawFrame) throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface + RawFrame.headers(1, RawFrame.post, end: false).bytes)
        var fault: HTTP2Fault?
        var last: [RawFrame] = []
        var count = 0
        while fault == nil, count < 5000 {
            do throws(HTTP2Fault) { try server.receive(frame.bytes) } catch { fault = error }
            last = RawFrame.parse(server.sendAll())
            count += 1
        }
        #expect(fault == .tooManyIdleFrames)
        #expect(count <= 1001)
        #expect(last.last?.kind == RawFrame.Kind.goAway)
        #expect(last.last?.errorCode == Self.calm)
    }

    @Test("PRIORITY frames build nothing")
    func priorities() throws {
        let meter = HTTP2AllocationMeter()
        let server = HTTP2ServerSession(limits: HTTP2Limits(), meter: meter)
        try server.receive(RawFrame.preface)
        _ = server.sendAll()
        let before = meter.allocations
        for stream: Int32 in 1...5000 {
            try server.receive(RawFrame(kind: RawFrame.Kind.priority, stream: stream, payload: [0, 0, 0, 0, 7]).bytes)
        }
        #expect(meter.allocations == before)
        #expect(server.openStreams == 0)
        #expect(!server.wantsWrite)
    }

    @Test("acknowledgements do not pile up for a client that does not read")
    func pingFlood() {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        let end = flood(server, isReading: false) { _ in
            RawFrame(kind: RawFrame.Kind.ping, payload: [1, 2, 3, 4, 5, 6, 7, 8]).bytes
        }
        #expect(end.fault == .tooManyAcksWaiting)
        #expect(end.goAway?.errorCode == Self.calm)
        #expect(end.batches < 300)
        #expect(server.isFinished)
        #expect(server.sendAll() == [])
    }

    @Test("a CONTINUATION flood ends the connection")
    func continuationFlood() {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        let end = flood(server) { index in
            index == 0
                ? RawFrame(kind: RawFrame.Kind.headers, stream: 1, payload: RawFrame.block(RawFrame.get)).bytes
                : RawFrame(kind: RawFrame.Kind.continuation, stream: 1, payload: RawFrame.block([("a", "b")])).bytes
        }
        #expect(end.fault == .tooManyContinuations)
        #expect(end.goAway?.errorCode == Self.calm)
        #expect(end.batches < 12)
        #expect(server.isFinished)
    }

    @Test("the limit of CONTINUATION frames counts frames, not reads")
    func continuationsByteByByte() throws {
        let limits = HTTP2Limits()
        let fields = RawFrame.block(RawFrame.get)
        var bytes = RawFrame.preface + RawFrame(kind: RawFrame.Kind.headers, flags: 1, stream: 1, payload: fields).bytes
        for index in 1...limits.continuationsMax {
            bytes += RawFrame(kind: RawFrame.Kind.continuation, flags: index == limits.continuationsMax ? 4 : 0, stream: 1).bytes
        }
        let server = HTTP2ServerSession(limits: limits)
        for byte in bytes { try server.receive([byte]) }
        #expect(server.allEvents().count == 2)
    }

    @Test(
        "frames behind the highest stream number that there is are read like others", arguments: [1, 0x7fff_fffd, 0x7fff_ffff] as [Int32])
    func highestStream(second: Int32) throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface + RawFrame.headers(.max, end: false).bytes)
        #expect(server.allEvents().count == 1)
        do throws(HTTP2Fault) {
            try server.receive(RawFrame.headers(second, [("a", "b")]).bytes)
            #expect(second == .max)
            #expect(server.allEvents() == [.end(stream: .max)])
        } catch {
            #expect(error == .misplacedFrame(code: 1))
            #expect(second != .max)
        }
    }

    @Test("a stream that was refused is not one that was passed over")
    func refusedStream() throws {
        var limits = HTTP2Limits()
        limits.concurrentStreamsMax = 1
        let server = HTTP2ServerSession(limits: limits)
        try server.receive(RawFrame.preface + RawFrame.headers(1).bytes + RawFrame.headers(3, RawFrame.post, end: false).bytes)
        #expect(RawFrame.parse(server.sendAll()).contains(.reset(3, 7)))
        server.respond(stream: 1, HTTPResponse(status: .ok), body: [])
        _ = server.sendAll()
        // Trailers of the refused request that were on their way, behind the next request.
        try server.receive(RawFrame.headers(5).bytes + RawFrame.headers(3, [("a", "b")]).bytes)
        #expect(server.openStreams == 1)
    }

    @Test("a block of references to one big table entry does not get decoded for ever")
    func hpackBomb() throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        // One field of 3500 bytes into the dynamic table (literal with incremental indexing), then references to it (index 62).
        let value = [UInt8](repeating: 120, count: 3500)
        let big = [0x40, 1, 97, 0x7f] + [UInt8((3500 - 127) & 127 | 128), UInt8((3500 - 127) >> 7)] + value
        let payload = RawFrame.block(RawFrame.get) + big + [UInt8](repeating: 0xbe, count: 10_000)
        try server.receive(RawFrame.preface + RawFrame(kind: 1, flags: 5, stream: 1, payload: payload).bytes)
        #expect(server.allEvents() == [])
        #expect(RawFrame.parse(server.sendAll()).contains(.reset(1, Self.calm)))
        #expect(server.openStreams == 0)
    }

    @Test("more streams than allowed at once are refused, or end the connection")
    func tooManyStreams() {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        let end = flood(server, batches: 200) { RawFrame.headers(Int32($0 * 2 + 1)).bytes }
        #expect(end.openMax == 128)
        #expect(end.fault == .connectionError(code: 1))
        #expect(server.isFinished)
    }

    @Test(
        "breaking the protocol ends in GOAWAY with the fitting code",
        arguments: [
            (RawFrame(kind: RawFrame.Kind.data, stream: 0, payload: [1]), 1),
            (RawFrame(kind: RawFrame.Kind.data, stream: 5, payload: [1]), 1),
            (RawFrame(kind: RawFrame.Kind.data, stream: 1, payload: [UInt8](repeating: 0, count: 16385)), 6),
            (RawFrame(kind: RawFrame.Kind.headers, flags: 5, stream: 2, payload: RawFrame.block(RawFrame.get)), 1),
            (RawFrame(kind: RawFrame.Kind.headers, flags: 5, stream: 3, payload: [0xff, 0xff, 0xff]), 9),
            (RawFrame(kind: RawFrame.Kind.ping, payload: [1]), 6),
            (RawFrame(kind: RawFrame.Kind.settings, payload: [1]), 6),
            (RawFrame(kind: RawFrame.Kind.settings, payload: [0, 4, 255, 255, 255, 255]), 3),
            (RawFrame(kind: RawFrame.Kind.windowUpdate, payload: [0, 0, 0, 0]), 1),
            (RawFrame(kind: RawFrame.Kind.windowUpdate, payload: [0x7f, 255, 255, 255]), 3),
            (RawFrame(kind: RawFrame.Kind.continuation, stream: 1), 1),
        ] as [(RawFrame, UInt32)]
    )
    func broken(frame: RawFrame, code: UInt32) throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface)
        _ = server.sendAll()
        try server.receive(frame.bytes)
        let frames = RawFrame.parse(server.sendAll())
        #expect(frames.last?.kind == RawFrame.Kind.goAway)
        #expect(frames.last?.errorCode == code)
        #expect(server.isFinished)
        #expect(server.fault == .connectionError(code: code))
        #expect(throws: HTTP2Fault.connectionError(code: code)) { try server.receive([1]) }
    }

    @Test("another protocol's first bytes are a fault, and get no answer")
    func badPreface() {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        #expect(throws: HTTP2Fault.badPreface) { try server.receive(Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)) }
        #expect(server.sendAll() == [])
        #expect(server.isFinished)
        #expect(server.openStreams == 0)
    }

    @Test("garbage never traps", arguments: 0..<200)
    func garbage(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        do {
            try server.receive(RawFrame.preface)
            for round in 0..<60 {
                var frame = RawFrame(kind: UInt8.random(in: 0...10, using: &random), flags: UInt8.random(in: 0...63, using: &random))
                frame.stream = Int32.random(in: 0...9, using: &random)
                switch round % 3 {
                case 0: frame = .headers(Int32(round * 2 + 1), end: Bool.random(using: &random))
                case 1: frame.payload = (0..<Int.random(in: 0...40, using: &random)).map { _ in .random(in: 0...255, using: &random) }
                default: frame.payload = RawFrame.word(UInt32.random(in: 0...1 << 31, using: &random))
                }
                var bytes = frame.bytes
                if round % 7 == 6 { bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= 1 << UInt8.random(in: 0...7, using: &random) }
                try server.receive(bytes, at: Int64(round))
                answerAtRandom(server, &random)
            }
        } catch {
            #expect(server.fault != nil)
        }
        answerAtRandom(server, &random)
        _ = server.sendAll()
    }

    private func answerAtRandom(_ server: HTTP2ServerSession, _ random: inout SeededRandom) {
        while let event = server.nextEvent() {
            guard case .request(let stream, _, _) = event else { continue }
            switch Int.random(in: 0...4, using: &random) {
            case 0:
                server.respond(stream: stream, HTTPResponse(status: .ok), body: [1, 2, 3])
            case 1:
                server.startStreaming(stream: stream, HTTPResponse(status: .ok))
                _ = server.offer(stream: stream, [1, 2, 3], range: 1..<3)
                _ = server.offer(stream: stream, [1, 2, 3], range: 1..<3)
            case 2:
                server.reset(stream: stream, errorCode: 8)
            case 3:
                server.startStreaming(stream: stream, HTTPResponse(status: .ok))
                server.finish(stream: stream)
            default:
                break
            }
        }
        var out: [UInt8] = []
        if Bool.random(using: &random) { server.send(into: &out, bytesMax: Int.random(in: 1...100, using: &random)) }
    }
}

import HTTP2Session
import HTTPTypes
import TestSupport
import Testing

@Suite struct LifetimeTests {
    @Test("a session gives everything back, in whatever state it dies", arguments: [0, 1, 2, 3])
    func freed(state: Int) throws {
        let meter = HTTP2AllocationMeter()
        do {
            let server = HTTP2ServerSession(limits: HTTP2Limits(), meter: meter)
            #expect(meter.liveBlocks > 0)
            if state > 0 {
                try server.receive(RawFrame.preface)
                for stream: HTTP2StreamID in [1, 3, 5] {
                    try server.receive(RawFrame.headers(stream, RawFrame.post, end: stream == 1).bytes)
                    if stream < 5 { server.startStreaming(stream: stream, HTTPResponse(status: .ok)) }
                }
            }
            if state > 1 {
                _ = server.sendAll()
                #expect(server.offer(stream: 1, [1, 2, 3], range: 0..<3))
            }
            if state > 2 {
                #expect(throws: HTTP2Fault.tooManyAcksWaiting) {
                    let ping = RawFrame(kind: RawFrame.Kind.ping, payload: RawFrame.word(0) + RawFrame.word(0))
                    for _ in 0..<1000 { try server.receive(ping.bytes) }
                }
            }
        }
        #expect(meter.liveBlocks == 0)
    }

    @Test("the memory of closed streams comes back while the connection lives")
    func closedStreams() throws {
        let meter = HTTP2AllocationMeter()
        let server = HTTP2ServerSession(limits: HTTP2Limits(), meter: meter)
        try server.receive(RawFrame.preface)
        _ = server.sendAll()
        func serve(_ range: Range<Int32>) throws {
            for index in range {
                try server.receive(RawFrame.headers(index * 2 + 1).bytes)
                server.respond(stream: index * 2 + 1, HTTPResponse(status: .ok), body: [1])
                _ = server.sendAll()
                _ = server.allEvents()
            }
        }
        try serve(0..<10)
        let before = meter.liveBlocks
        try serve(10..<300)
        #expect(meter.liveBlocks <= before + 4)
        #expect(server.openStreams == 0)
    }

    @Test("a failed allocation ends the connection with a fault, wherever it happens")
    func failedAllocations() throws {
        var faults = 0
        for failing in 0..<60 {
            let meter = HTTP2AllocationMeter()
            do {
                let server = HTTP2ServerSession(limits: HTTP2Limits(), meter: meter)
                meter.failsFrom = meter.allocations + failing
                do throws(HTTP2Fault) {
                    try server.receive(RawFrame.preface)
                    for stream: HTTP2StreamID in [1, 3] {
                        try server.receive(RawFrame.headers(stream).bytes)
                        _ = server.allEvents()
                        server.startStreaming(stream: stream, HTTPResponse(status: .ok))
                        _ = server.sendAll()
                        _ = server.offer(stream: stream, [1, 2, 3], range: 0..<3)
                        _ = server.sendAll()
                        server.finish(stream: stream)
                        server.reset(stream: stream, errorCode: 8)
                    }
                    server.shutDown()
                    server.finalGoAway()
                    server.terminate(errorCode: 0)
                    _ = server.sendAll()
                    _ = server.allEvents()
                } catch {
                    #expect(error == .outOfMemory)
                }
                if server.fault != nil {
                    #expect(server.fault == .outOfMemory)
                    faults += 1
                    _ = server.sendAll()
                    #expect(server.isFinished)
                }
            }
        }
        #expect(faults > 10)
    }

    @Test("a graceful end: notice, last stream named, open streams served, then finished")
    func gracefulEnd() throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface + RawFrame.headers(1).bytes)
        server.startStreaming(stream: 1, HTTPResponse(status: .ok))
        _ = server.sendAll()
        server.shutDown()
        let notice = RawFrame.parse(server.sendAll())
        #expect(notice == [RawFrame(kind: RawFrame.Kind.goAway, payload: RawFrame.word(0x7fff_ffff) + RawFrame.word(0))])
        // One that was on its way still counts.
        try server.receive(RawFrame.headers(3).bytes)
        #expect(server.openStreams == 2)
        server.finalGoAway()
        let last = RawFrame.parse(server.sendAll())
        #expect(last == [RawFrame(kind: RawFrame.Kind.goAway, payload: RawFrame.word(3) + RawFrame.word(0))])
        try server.receive(RawFrame.headers(5).bytes)
        #expect(server.openStreams == 2)
        #expect(!server.isFinished)
        #expect(server.offer(stream: 1, [1], range: 0..<1))
        server.finish(stream: 1)
        server.respond(stream: 3, HTTPResponse(status: .ok), body: [1])
        _ = server.sendAll()
        #expect(server.openStreams == 0)
        #expect(server.isFinished)
        #expect(server.fault == nil)
    }

    @Test("terminate says GOAWAY with its code and is finished")
    func terminate() throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface + RawFrame.headers(1).bytes)
        _ = server.sendAll()
        server.terminate(errorCode: 2)
        #expect(!server.isFinished)
        #expect(RawFrame.parse(server.sendAll()).map(\.errorCode) == [2])
        #expect(server.isFinished)
    }

    @Test("the other side's GOAWAY is an event on both sides, and a client opens no more streams after it")
    func peerGoAway() throws {
        let pair = Pair()
        _ = try #require(pair.client.request(.get("/")))
        try pair.pump()
        pair.server.shutDown()
        try pair.pump()
        #expect(pair.clientEvents.last == .goAway(errorCode: 0))
        #expect(pair.client.request(.get("/")) == nil)
        try pair.server.receive(RawFrame(kind: RawFrame.Kind.goAway, payload: RawFrame.word(0) + RawFrame.word(0)).bytes)
        #expect(pair.server.allEvents().last == .goAway(errorCode: 0))
    }

    @Test("requests over the server's number of streams wait in line")
    func waitInLine() throws {
        var limits = HTTP2Limits()
        limits.concurrentStreamsMax = 2
        let pair = Pair(server: limits)
        var openMax = 0
        pair.serve = { event, server in
            openMax = max(openMax, server.openStreams)
            if case .end(let stream) = event { server.respond(stream: stream, HTTPResponse(status: .ok), body: [1]) }
        }
        try pair.pump()
        let streams = try (0..<20).map { _ in try #require(pair.client.request(.get("/"))) }
        try pair.pump()
        #expect(streams.allSatisfy { pair.answerBody($0) == [1] })
        #expect(openMax == 2)
    }

    @Test("a client's reset reaches the server as closed")
    func clientReset() throws {
        let pair = Pair()
        pair.serve = { event, server in
            if case .end(let stream) = event { server.startStreaming(stream: stream, HTTPResponse(status: .ok)) }
        }
        let stream = try #require(pair.client.request(.get("/")))
        try pair.pump()
        pair.client.reset(stream: stream, errorCode: 8)
        try pair.pump()
        #expect(pair.serverEvents.last == .closed(stream: stream, errorCode: 8))
        #expect(pair.clientEvents.last == .closed(stream: stream, errorCode: 8))
    }
}

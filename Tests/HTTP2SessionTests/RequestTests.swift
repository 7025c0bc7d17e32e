import HTTP2Session
import HTTPTypes
import TestSupport
import Testing

@Suite struct RequestTests {
    @Test("a GET gives request and end, and its answer comes back whole", arguments: 1...8 as ClosedRange<UInt64>)
    func plainGet(seed: UInt64) throws {
        let pair = Pair(seed: seed)
        pair.serve = { event, server in
            guard case .end(let stream) = event else { return }
            let fields: HTTPFields = [.contentType: "text/plain", .connection: "close", .transferEncoding: "chunked"]
            server.respond(stream: stream, HTTPResponse(status: .ok, headerFields: fields), body: Array("hello".utf8))
        }
        let request = HTTPRequest.get("/v1/subscribe?channel=a.b", [.accept: "text/event-stream", .cookie: "a=b; c=d"])
        let stream = try #require(pair.client.request(request))
        try pair.pump()
        #expect(
            pair.serverEvents == [
                .request(stream: stream, request, hasBody: false), .end(stream: stream), .closed(stream: stream, errorCode: 0),
            ]
        )
        let response = HTTPResponse(status: .ok, headerFields: [.contentType: "text/plain"])
        #expect(pair.clientEvents.first == .response(stream: stream, response))
        #expect(pair.answerBody(stream) == Array("hello".utf8))
        #expect(pair.clientEvents.suffix(2) == [.end(stream: stream), .closed(stream: stream, errorCode: 0)])
        #expect(pair.server.openStreams == 0)
        #expect(pair.client.openStreams == 0)
    }

    @Test("an answer without a body ends with its head")
    func emptyAnswer() throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface + RawFrame.headers(1).bytes)
        _ = server.sendAll()
        server.respond(stream: 1, HTTPResponse(status: .noContent), body: [])
        let frames = RawFrame.parse(server.sendAll())
        #expect(frames.map(\.kind) == [RawFrame.Kind.headers])
        #expect(frames[0].flags & 1 == 1)
    }

    @Test("a POST body of many frames arrives whole, and so does a long answer", arguments: [0, 1, 100, 16384, 65535, 300_000])
    func post(count: Int) throws {
        let pair = Pair(seed: UInt64(count))
        let body = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        pair.serve = { event, server in
            if case .end(let stream) = event { server.respond(stream: stream, HTTPResponse(status: .created), body: body) }
        }
        let stream = try #require(pair.client.request(.post("/v1/publish"), body: body))
        try pair.pump()
        #expect(pair.requestBody(stream) == body)
        #expect(pair.answerBody(stream) == body)
        #expect(pair.answerStatus(stream) == 201)
        #expect(pair.serverEvents.contains(.request(stream: stream, .post("/v1/publish"), hasBody: count > 0)))
        // An answer given by `respond` is nobody's cursor.
        #expect(!pair.serverEvents.contains(.windowOpen(stream: stream)))
    }

    @Test("a request's body can be streamed")
    func streamedRequest() throws {
        let pair = Pair()
        let stream = try #require(pair.client.startRequest(.post("/v1/publish")))
        #expect(pair.client.offer(stream: stream, Array("abcdef".utf8), range: 0..<3))
        try pair.pump()
        #expect(pair.requestBody(stream) == Array("abc".utf8))
        #expect(pair.client.offer(stream: stream, Array("abcdef".utf8), range: 3..<6))
        pair.client.finish(stream: stream)
        try pair.pump()
        #expect(pair.requestBody(stream) == Array("abcdef".utf8))
        #expect(pair.serverEvents.last == .end(stream: stream))
    }

    @Test("a body over its limit is said once, then thrown away, and the answer ends the upload", arguments: [true, false])
    func bodyLimit(declared: Bool) throws {
        var limits = HTTP2Limits()
        limits.bodyBytesMax = 1000
        let pair = Pair(server: limits)
        pair.serve = { event, server in
            guard case .bodyTooLong(let stream) = event else { return }
            server.respond(stream: stream, HTTPResponse(status: .contentTooLarge), body: [])
        }
        let fields: HTTPFields = declared ? [.contentLength: "500000"] : [:]
        let stream = try #require(pair.client.request(.post("/", fields), body: [UInt8](repeating: 7, count: 500_000)))
        try pair.pump()
        #expect(pair.serverEvents.filter { $0 == .bodyTooLong(stream: stream) }.count == 1)
        #expect(pair.requestBody(stream).count <= 1000)
        #expect(!pair.serverEvents.contains(.end(stream: stream)))
        #expect(pair.answerStatus(stream) == 413)
        #expect(pair.clientBytes.count < 200_000)
        #expect(pair.clientEvents.last == .closed(stream: stream, errorCode: 0))
        #expect(pair.server.openStreams == 0)
    }

    @Test("a body of exactly the limit passes")
    func bodyAtLimit() throws {
        var limits = HTTP2Limits()
        limits.bodyBytesMax = 1000
        let pair = Pair(server: limits)
        let fields: HTTPFields = [.contentLength: "1000"]
        let stream = try #require(pair.client.request(.post("/", fields), body: [UInt8](repeating: 7, count: 1000)))
        try pair.pump()
        #expect(pair.requestBody(stream).count == 1000)
        #expect(pair.serverEvents.last == .end(stream: stream))
    }

    @Test("a header list over its limit asks for 431, and a list far over it is reset", arguments: [(20, true), (300, false)])
    func headersTooLarge(count: Int, isAnswered: Bool) throws {
        var limits = HTTP2Limits()
        limits.headerFieldsMax = 15
        let pair = Pair(server: limits)
        pair.serve = { event, server in
            guard case .headersTooLarge(let stream) = event else { return }
            server.respond(stream: stream, HTTPResponse(status: .requestHeaderFieldsTooLarge), body: [])
        }
        var fields = HTTPFields()
        for index in 0..<count { fields.append(HTTPField(name: HTTPField.Name("x-\(index)")!, value: "v")) }
        let stream = try #require(pair.client.request(.get("/", fields)))
        try pair.pump()
        #expect(pair.answerStatus(stream) == (isAnswered ? 431 : nil))
        #expect(pair.serverEvents.contains(.headersTooLarge(stream: stream)) == isAnswered)
        #expect(pair.clientEvents.last == .closed(stream: stream, errorCode: isAnswered ? 0 : 11))
        // The compression state of the connection is whole: the next request is understood.
        let next = try #require(pair.client.request(.get("/next")))
        try pair.pump()
        #expect(pair.serverEvents.contains(.request(stream: next, .get("/next"), hasBody: false)))
    }

    @Test(
        "Host stands in for :authority, and must agree with it",
        arguments: [
            ([(":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", "b")], "b"),
            ([(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "b"), ("host", "b")], "b"),
            ([(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "b"), ("host", "c")], nil),
        ] as [([(String, String)], String?)]
    )
    func host(fields: [(String, String)], authority: String?) throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface + RawFrame.headers(1, fields).bytes)
        let events = server.allEvents()
        if let authority {
            let request = HTTPRequest(method: .get, scheme: "https", authority: authority, path: "/")
            #expect(events == [.request(stream: 1, request, hasBody: false), .end(stream: 1)])
        } else {
            #expect(events == [])
            let resets = RawFrame.parse(server.sendAll()).filter { $0.kind == RawFrame.Kind.reset }
            #expect(resets == [.reset(1, 1)])
            #expect(server.allEvents() == [])
            #expect(server.openStreams == 0)
        }
    }

    @Test(
        "a malformed request is reset without a word, and the next is served",
        arguments: [
            [(":method", "GET"), (":scheme", "https")],
            [(":method", "GET"), (":scheme", "https"), (":path", "/"), ("Upper", "x")],
            [(":method", "GET"), (":scheme", "https"), (":path", "/"), ("connection", "close")],
            [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":path", "/")],
            [(":method", "GET"), (":scheme", "https"), (":path", "/"), ("x", "a\r\nb: c")],
            [(":method", "GET"), (":scheme", "https"), (":path", "/ x"), (":authority", "a")],
            [(":method", "G T"), (":scheme", "https"), (":path", "/"), (":authority", "a")],
            [(":method", "GET"), (":scheme", "https"), (":path", "/"), ("content-length", "3")],
            [(":status", "200")],
        ]
    )
    func malformed(fields: [(String, String)]) throws {
        let server = HTTP2ServerSession(limits: HTTP2Limits())
        try server.receive(RawFrame.preface + RawFrame.headers(1, fields).bytes + RawFrame.headers(3).bytes)
        let request = HTTPRequest(method: .get, scheme: "https", authority: "a", path: "/")
        #expect(server.allEvents() == [.request(stream: 3, request, hasBody: false), .end(stream: 3)])
        #expect(RawFrame.parse(server.sendAll()).contains(.reset(1, 1)))
    }

    @Test("extended CONNECT is understood only where it is offered", arguments: [true, false])
    func extendedConnect(isAllowed: Bool) throws {
        var limits = HTTP2Limits()
        limits.allowsExtendedConnect = isAllowed
        limits.bodyBytesMax = 4
        let server = HTTP2ServerSession(limits: limits)
        let fields = [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", "a"), (":path", "/"),
        ]
        let data = RawFrame(kind: RawFrame.Kind.data, stream: 1, payload: [1, 2, 3, 4, 5, 6])
        try server.receive(RawFrame.preface + RawFrame.headers(1, fields, end: false).bytes + data.bytes)
        let events = server.allEvents()
        guard isAllowed else {
            #expect(events == [])
            return
        }
        guard case .request(1, let request, true) = events.first else {
            Issue.record("\(events)")
            return
        }
        #expect(request.extendedConnectProtocol == "websocket")
        // A tunnel has no limit of length.
        #expect(events.last == .body(stream: 1, [1, 2, 3, 4, 5, 6]))
    }

    @Test("the first bytes are SETTINGS with the limits")
    func settings() {
        let frames = RawFrame.parse(HTTP2ServerSession(limits: HTTP2Limits()).sendAll())
        #expect(frames[0].kind == RawFrame.Kind.settings)
        let pairs = stride(from: 0, to: frames[0].payload.count, by: 6).map { Array(frames[0].payload[$0..<$0 + 6]) }
        #expect(pairs == [[0, 3, 0, 0, 0, 128], [0, 9, 0, 0, 0, 1], [0, 8, 0, 0, 0, 1], [0, 6, 0, 0, 64, 0]])
        #expect(frames[1] == .windowUpdate(0, (1 << 20) - 65535))
    }
}

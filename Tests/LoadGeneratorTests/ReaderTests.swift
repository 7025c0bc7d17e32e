import LoadGenerator
import Testing

/// What a reader said, with the pieces of one body or message joined.
private final class Record: ResponseSink, WebSocketSink, HTTP2Sink {
    var lines: [String] = []
    private var joined = ""

    private func join(_ name: String, _ bytes: UnsafeRawBufferPointer) {
        let text = String(decoding: bytes, as: UTF8.self)
        if joined == name {
            lines[lines.count - 1] += text
        } else if !text.isEmpty {
            lines.append("\(name): \(text)")
            joined = name
        }
    }

    private func say(_ line: String) {
        lines.append(line)
        joined = ""
    }

    func responseHead(status: Int) { say("head \(status)") }
    func responseField(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
        say("field \(String(decoding: name, as: UTF8.self))=\(String(decoding: value, as: UTF8.self))")
    }
    func responseBody(_ bytes: UnsafeRawBufferPointer) { join("body", bytes) }
    func responseEnd() { say("end") }

    func webSocketData(_ bytes: UnsafeRawBufferPointer) { join("data", bytes) }
    func webSocketPing(_ payload: [UInt8]) { say("ping \(String(decoding: payload, as: UTF8.self))") }
    func webSocketClose(code: Int) { say("close \(code)") }

    func http2Data(stream: Int32, _ bytes: UnsafeRawBufferPointer) { join("data \(stream)", bytes) }
    func http2DataEnd(stream: Int32, windowBytes: Int, isLast: Bool) { say("data end \(stream) \(windowBytes) \(isLast)") }
    func http2Head(stream: Int32, status: Int?, isLast: Bool) { say("head \(stream) \(status ?? 0) \(isLast)") }
    func http2Settings(concurrentStreamsMax: Int?, enablesConnect: Bool) {
        say("settings \(concurrentStreamsMax ?? 0)\(enablesConnect ? " connect" : "")")
    }
    func http2Ping(_ payload: [UInt8]) { say("ping \(payload)") }
    func http2Reset(stream: Int32, code: UInt32) { say("reset \(stream) \(code)") }
    func http2GoAway(code: UInt32) { say("go away \(code)") }
}

@Suite struct ReaderTests {
    /// Feeds the bytes whole, byte by byte and in two pieces cut anywhere, and expects the same of each.
    private static func expect(
        _ bytes: [UInt8], _ wanted: [String], sourceLocation: SourceLocation = #_sourceLocation,
        read: (_ pieces: [[UInt8]], Record) throws -> Void
    ) throws {
        var ways = [[bytes], bytes.map { [$0] }]
        for cut in 0...bytes.count { ways.append([Array(bytes[..<cut]), Array(bytes[cut...])]) }
        for (index, pieces) in ways.enumerated() {
            let record = Record()
            try read(pieces, record)
            #expect(record.lines == wanted, "way \(index)", sourceLocation: sourceLocation)
        }
    }

    private static func readResponses(_ pieces: [[UInt8]], _ record: Record) throws {
        var reader = ResponseReader()
        for piece in pieces {
            try piece.withUnsafeBytes { bytes in
                let count = try reader.read(bytes, into: record)
                if count < bytes.count { record.responseBody(UnsafeRawBufferPointer(rebasing: bytes[count...])) }
            }
        }
    }

    @Test("answers with lengths, chunks and without a body, one behind the other")
    func responses() throws {
        let text = """
            HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 5\r\nEtag:  a \r\n\r\nhello\
            HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\nto the end
            """
        let wanted = [
            "field Content-Length=5", "field Etag=a", "head 201", "body: hello", "end",
            "field Content-Length=9", "head 304", "end",
            "field Transfer-Encoding=chunked", "head 200", "body: abc0123456789", "end",
            "field Content-Length=0", "head 200", "end", "head 200", "body: to the end",
        ]
        try Self.expect(Array(text.utf8), wanted, read: Self.readResponses)
    }

    @Test("what follows a 101 is left alone")
    func upgrade() throws {
        let text = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 no head"
        try Self.expect(
            Array(text.utf8), ["field Upgrade=websocket", "head 101", "body: HTTP/1.1 no head"], read: Self.readResponses
        )
    }

    @Test(
        "what is no answer is a fault",
        arguments: ["GET / HTTP/1.1\r\n", "HTTP/1.1 2x0 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"])
    func noAnswer(text: String) {
        #expect(throws: ReadingFault.self) { try Self.readResponses([Array(text.utf8)], Record()) }
    }

    @Test("WebSocket frames of all lengths, with pings between their parts")
    func webSocket() throws {
        let long = [UInt8](repeating: UInt8(ascii: "y"), count: 300)
        var bytes: [UInt8] = [0x81, 2] + Array("hi".utf8)
        bytes += [0x89, 3] + Array("png".utf8) + [0x89, 0]
        bytes += [0x01, 126, 1, 44] + long + [0x89, 1, 0x31] + [0x80, 127, 0, 0, 0, 0, 0, 0, 0, 1, 0x7a]
        bytes += [0x81, 0, 0x88, 2, 3, 232]
        let wanted = [
            "data: hi", "ping png", "ping ", "data: " + String(decoding: long, as: UTF8.self), "ping 1", "data: z", "close 1000",
        ]
        try Self.expect(bytes, wanted) { pieces, record in
            var frames = WebSocketFrames()
            for piece in pieces { try piece.withUnsafeBytes { try frames.read($0, into: record) } }
        }
    }

    @Test("masked and reserved frames are faults", arguments: [[0x81, 0x82, 0, 0], [0xc1, 1, 0], [0x89, 126, 1, 0]] as [[UInt8]])
    func wrongFrames(bytes: [UInt8]) {
        #expect(throws: ReadingFault.self) {
            var frames = WebSocketFrames()
            try bytes.withUnsafeBytes { try frames.read($0, into: Record()) }
        }
    }

    private static func frame(_ kind: UInt8, _ flags: UInt8, _ stream: UInt8, _ payload: [UInt8]) -> [UInt8] {
        [0, UInt8(payload.count >> 8), UInt8(payload.count & 255), kind, flags, 0, 0, 0, stream] + payload
    }

    @Test("HTTP/2 frames, with padding and statuses in each form")
    func http2() throws {
        var bytes =
            Self.frame(4, 0, 0, [0, 3, 0, 0, 0, 100, 0, 4, 0, 0, 255, 255]) + Self.frame(4, 0, 0, [0, 8, 0, 0, 0, 1])
            + Self.frame(4, 1, 0, [])
        bytes += Self.frame(1, 4, 1, [0x20, 0x3f, 0xe1, 7, 0x88, 1, 2, 3]) + Self.frame(1, 5, 3, [0x08, 3] + Array("503".utf8))
        bytes += Self.frame(1, 0x2d, 5, [1, 0, 0, 0, 0, 9, 0x8d, 0])
        bytes += Self.frame(0, 0, 1, Array("hello".utf8)) + Self.frame(0, 8, 1, [2] + Array("pad".utf8) + [0, 0])
        bytes += Self.frame(0, 1, 1, []) + Self.frame(0, 9, 7, [0]) + Self.frame(6, 0, 0, Array(1...8)) + Self.frame(6, 1, 0, Array(1...8))
        bytes += Self.frame(3, 0, 1, [0, 0, 0, 8]) + Self.frame(99, 0, 0, [1, 2]) + Self.frame(7, 0, 0, [0, 0, 0, 0, 0, 0, 0, 11, 1])
        let wanted = [
            "settings 100", "settings 0 connect", "head 1 200 false", "head 3 503 true", "head 5 404 true", "data 1: hello",
            "data end 1 5 false",
            "data 1: pad", "data end 1 6 false", "data end 1 0 true", "data end 7 1 true", "ping [1, 2, 3, 4, 5, 6, 7, 8]",
            "reset 1 8", "go away 11",
        ]
        try Self.expect(bytes, wanted) { pieces, record in
            var frames = HTTP2Frames()
            for piece in pieces { try piece.withUnsafeBytes { try frames.read($0, into: record) } }
        }
    }

    @Test("padding that is longer than its frame, and a frame that is too long, are faults")
    func wrongHTTP2() {
        for bytes in [Self.frame(0, 8, 1, [9, 0, 0]), Self.frame(0, 8, 1, []), Array("HTTP/1.1 400 Bad".utf8)] {
            #expect(throws: ReadingFault.self) {
                var frames = HTTP2Frames()
                try bytes.withUnsafeBytes { try frames.read($0, into: Record()) }
            }
        }
    }
}

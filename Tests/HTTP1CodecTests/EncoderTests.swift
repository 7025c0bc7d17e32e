import HTTP1Codec
import HTTPTypes
import TestSupport
import Testing

struct EncoderTests {
    private func head(
        _ response: HTTPResponse,
        _ framing: HTTP1ResponseFraming,
        keepAlive: Bool = true,
        minor: Int = 1
    ) -> String {
        var out: [UInt8] = []
        HTTP1ResponseEncoder.head(response, framing: framing, keepAlive: keepAlive, requestMinorVersion: minor, into: &out)
        return String(decoding: out, as: UTF8.self)
    }

    @Test("A response head is written as RFC 9112 has it")
    func responseHead() {
        let fields: HTTPFields = [.date: "Sat, 21 Nov 2026 07:00:00 GMT", .contentType: "text/plain"]
        let response = HTTPResponse(status: .ok, headerFields: fields)
        let common = "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 07:00:00 GMT\r\nContent-Type: text/plain\r\n"
        #expect(head(response, .length(12)) == common + "Content-Length: 12\r\n\r\n")
        #expect(head(response, .length(0), keepAlive: false) == common + "Content-Length: 0\r\nConnection: close\r\n\r\n")
        #expect(head(response, .length(1), minor: 0) == common + "Content-Length: 1\r\nConnection: keep-alive\r\n\r\n")
        #expect(head(response, .length(1), keepAlive: false, minor: 0) == common + "Content-Length: 1\r\nConnection: close\r\n\r\n")
        #expect(head(response, .chunked) == common + "Transfer-Encoding: chunked\r\n\r\n")
        #expect(head(response, .untilClose) == common + "Connection: close\r\n\r\n")
        #expect(head(response, .untilClose, minor: 0) == common + "Connection: close\r\n\r\n")
        #expect(head(HTTPResponse(status: .noContent), .none) == "HTTP/1.1 204 No Content\r\n\r\n")
        #expect(head(HTTPResponse(status: 299), .length(0)) == "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n")
    }

    @Test("101 has the caller's Connection and Upgrade only")
    func switching() {
        let response = HTTPResponse(status: .switchingProtocols, headerFields: [.upgrade: "websocket", .connection: "Upgrade"])
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        #expect(head(response, .none) == expected)
        #expect(head(response, .none, keepAlive: false) == expected)
    }

    @Test("Framing fields of the caller are left out")
    func framingFields() {
        var fields: HTTPFields = [.contentLength: "7", .transferEncoding: "gzip", .server: "x"]
        fields.append(HTTPField(name: .contentLength, value: "8"))
        let response = HTTPResponse(status: .ok, headerFields: fields)
        let common = "HTTP/1.1 200 OK\r\nServer: x\r\n"
        #expect(head(response, .length(3)) == common + "Content-Length: 3\r\n\r\n")
        #expect(head(response, .chunked) == common + "Transfer-Encoding: chunked\r\n\r\n")
    }

    @Test("What a caller puts into values and phrases cannot split a response")
    func splitting() throws {
        let evil = "a\r\nSet-Cookie: x=1\r\n\r\n\u{0}<html>"
        var fields = HTTPFields()
        fields.append(HTTPField(name: .location, value: evil))
        fields.append(HTTPField(name: .server, value: Array(evil.utf8)))
        fields.append(HTTPField(name: .via, lenientValue: Array(evil.utf8)))
        #expect(HTTPField.Name("X\r\nY") == nil)
        #expect(HTTPField.Name("X: y") == nil)
        let response = HTTPResponse(status: .init(code: 200, reasonPhrase: evil), headerFields: fields)
        var out: [UInt8] = []
        HTTP1ResponseEncoder.head(response, framing: .length(0), keepAlive: true, requestMinorVersion: 1, into: &out)
        let text = String(decoding: out, as: UTF8.self)
        // Status line, three fields, Content-Length, the empty line, and what follows it.
        #expect(text.split(separator: "\r\n", omittingEmptySubsequences: false).count == 7)
        #expect(!out.contains(0))
        let lines = try SplitVerifier.verify(out) { responseLines($0) }
        #expect(lines.count { $0.hasPrefix("field") } == 4)
        #expect(lines.last == "end")
    }

    @Test("A reason phrase is written in ISO Latin 1")
    func reasonPhrase() {
        var out: [UInt8] = []
        let response = HTTPResponse(status: .init(code: 200, reasonPhrase: "Größe"))
        HTTP1ResponseEncoder.head(response, framing: .length(0), keepAlive: true, requestMinorVersion: 1, into: &out)
        #expect(out.starts(with: Array("HTTP/1.1 200 Gr".utf8) + [0xF6, 0xDF] + Array("e\r\n".utf8)))
    }

    @Test(
        "Chunk headers are the shortest hexadecimal",
        arguments: [(1, "1"), (9, "9"), (10, "a"), (15, "f"), (16, "10"), (255, "ff"), (4096, "1000"), (Int.max, "7fffffffffffffff")])
    func chunkHeader(count: Int, expected: String) {
        var out: [UInt8] = []
        HTTP1ResponseEncoder.chunkHeader(byteCount: count, into: &out)
        #expect(out == Array((expected + "\r\n").utf8))
    }

    @Test("Chunks are the same from a buffer, a collection and in three parts; an empty one is nothing")
    func chunks() {
        let data = Array("hello world, twenty!".utf8)
        var buffer: [UInt8] = []
        data.withUnsafeBytes { HTTP1ResponseEncoder.chunk($0, into: &buffer) }
        var collection: [UInt8] = []
        HTTP1ResponseEncoder.chunk(data, into: &collection)
        var parts: [UInt8] = []
        HTTP1ResponseEncoder.chunkHeader(byteCount: data.count, into: &parts)
        parts += data + HTTP1ResponseEncoder.chunkEnd
        #expect(buffer == Array("14\r\nhello world, twenty!\r\n".utf8))
        #expect(buffer == collection)
        #expect(buffer == parts)
        HTTP1ResponseEncoder.chunk([UInt8](), into: &parts)
        #expect(buffer == parts)
    }

    @Test("What the response encoder writes, the response parser reads", arguments: [1, 2, 3, 4, 5, 6])
    func responseRoundTrip(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        for _ in 0..<40 {
            let body = (0..<Int.random(in: 0...200, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            let framing = [HTTP1ResponseFraming.length(body.count), .chunked, .untilClose].randomElement(using: &random)!
            let keepAlive = Bool.random(using: &random)
            let fields = Self.randomFields(&random)
            let response = HTTPResponse(status: .created, headerFields: fields)
            var out = HTTP1ResponseEncoder.continueResponse
            HTTP1ResponseEncoder.head(response, framing: framing, keepAlive: keepAlive, requestMinorVersion: 1, into: &out)
            if framing == .chunked {
                var rest = body[...]
                while !rest.isEmpty {
                    let piece = rest.prefix(Int.random(in: 1...70, using: &random))
                    HTTP1ResponseEncoder.chunk(piece, into: &out)
                    rest = rest.dropFirst(piece.count)
                }
                out += HTTP1ResponseEncoder.lastChunk
            } else {
                out += body
            }
            var read = Transcript()
            var added = fields
            switch framing {
            case .length(let length): added[.contentLength] = "\(length)"
            case .chunked: added[.transferEncoding] = "chunked"
            case .none, .untilClose: break
            }
            let stays = keepAlive && framing != .untilClose
            if !stays { added[.connection] = "close" }
            read.add(
                HTTP1ResponseHead(
                    response: HTTPResponse(status: .created, headerFields: added), minorVersion: 1, keepAlive: stays, body: framing))
            read.add(data: body)
            read.addEnd()
            let lines = try SplitVerifier.verify(out, splitsMax: 50) { responseLines($0) }
            #expect(lines == read.lines)
        }
    }

    @Test("What the request encoder writes, the request parser reads", arguments: [1, 2, 3, 4, 5, 6])
    func requestRoundTrip(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(100 + seed))
        for _ in 0..<40 {
            let body = (0..<Int.random(in: 0...200, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            let method = [HTTPRequest.Method.get, .post, .options, .connect].randomElement(using: &random)!
            let framings: [HTTP1BodyFraming] = method == .connect ? [.none] : [.length(body.count), .chunked, .none]
            let framing = framings.randomElement(using: &random)!
            var fields = Self.randomFields(&random)
            let path: String? = method == .connect ? nil : method == .options ? "*" : "/v1/x?y=\(random.next())"
            let authority = method == .connect ? "a.example:443" : ["a.example", "[::1]:8080", "127.0.0.1"].randomElement(using: &random)!
            let request = HTTPRequest(method: method, scheme: "http", authority: authority, path: path, headerFields: fields)
            var out: [UInt8] = []
            HTTP1RequestEncoder.head(request, framing: framing, into: &out)
            switch framing {
            case .none: break
            case .length(let length):
                fields[.contentLength] = "\(length)"
                out += body
            case .chunked:
                fields[.transferEncoding] = "chunked"
                HTTP1ResponseEncoder.chunk(body, into: &out)
                out += HTTP1ResponseEncoder.lastChunk
            }
            var read = Transcript()
            let received = HTTPRequest(method: method, scheme: nil, authority: authority, path: path, headerFields: fields)
            read.add(
                HTTP1RequestHead(
                    request: received, minorVersion: 1, keepAlive: method != .connect, expectsContinue: false, body: framing,
                    upgrade: nil))
            if framing != .none { read.add(data: body) }
            read.addEnd()
            let lines = try SplitVerifier.verify(out, splitsMax: 50) { requestLines($0) }
            #expect(lines == read.lines)
        }
    }

    @Test("Paths and authorities that would break a request line are told")
    func validity() {
        for path in ["/", "*", "/a?b=c", "/%20"] { #expect(HTTP1RequestEncoder.isValidPath(path)) }
        for path in ["", "a", "/ ", "/\r\n", "/é", "/a#b", "http://a/", "**"] { #expect(!HTTP1RequestEncoder.isValidPath(path)) }
        for authority in ["a", "a:1", "[::1]:2"] { #expect(HTTP1RequestEncoder.isValidAuthority(authority)) }
        for authority in ["", "a:", "a b", "u@a", "a/b", "a\r\n", "ä"] { #expect(!HTTP1RequestEncoder.isValidAuthority(authority)) }
    }

    private static func randomFields(_ random: inout SeededRandom) -> HTTPFields {
        var fields = HTTPFields()
        for _ in 0..<Int.random(in: 0...8, using: &random) {
            let name = ["Accept", "x-y", "Date", "X-A-Rather-Long-Name-Of-A-Field", "Vary"].randomElement(using: &random)!
            var value = (0..<Int.random(in: 0...40, using: &random)).map { _ in UInt8.random(in: 0x21...0xFF, using: &random) }
            value.removeAll { $0 == 0x7F }
            fields.append(HTTPField(name: HTTPField.Name(name)!, value: value))
        }
        return fields
    }
}

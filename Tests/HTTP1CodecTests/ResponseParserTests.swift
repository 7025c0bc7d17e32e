import HTTP1Codec
import HTTPTypes
import TestSupport
import Testing

/// The client's side of RFC 9112.
struct ResponseParserTests {
    private static let ok = "head HTTP/1.1 200 OK"

    struct Case: CustomTestStringConvertible, Sendable {
        var name: String
        var method = HTTPRequest.Method.get
        var text: String
        var lines: [String]
        var testDescription: String { name }
    }

    static let good: [Case] = [
        Case(
            name: "length", text: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            lines: [ok, "field content-length: 3", "connection keep-alive", "body length 3", "data \"abc\"", "end"]),
        Case(
            name: "length zero", text: "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            lines: [
                "head HTTP/1.1 404 Not Found", "field content-length: 0", "field connection: close", "connection close", "body length 0",
                "end",
            ]),
        Case(
            name: "chunked", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
            lines: [ok, "field transfer-encoding: chunked", "connection keep-alive", "body chunked", "data \"abc\"", "end"]),
        Case(
            name: "until close", text: "HTTP/1.1 200 OK\r\n\r\nabc",
            lines: [ok, "connection close", "body until close", "data \"abc\"", "end"]),
        Case(
            name: "until close, nothing", text: "HTTP/1.0 200 OK\r\n\r\n",
            lines: ["head HTTP/1.0 200 OK", "connection close", "body until close", "end"]),
        Case(name: "204", text: "HTTP/1.1 204 \r\n\r\n", lines: ["head HTTP/1.1 204 ", "connection keep-alive", "body none", "end"]),
        Case(
            name: "304 with a length", text: "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n",
            lines: ["head HTTP/1.1 304 Not Modified", "field content-length: 100", "connection keep-alive", "body none", "end"]),
        Case(
            name: "to HEAD", method: .head, text: "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
            lines: [ok, "field content-length: 100", "connection keep-alive", "body none", "end"]),
        Case(
            name: "to HEAD, chunked", method: .head, text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            lines: [ok, "field transfer-encoding: chunked", "connection keep-alive", "body none", "end"]),
        Case(
            name: "interim responses",
            text: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 \r\n\r\n",
            lines: ["head HTTP/1.1 204 ", "connection keep-alive", "body none", "end"]),
        Case(
            name: "101", text: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\u{1}\u{2}",
            lines: [
                "head HTTP/1.1 101 Switching Protocols", "field upgrade: websocket", "field connection: Upgrade", "connection keep-alive",
                "body none", "left \"\\x01\\x02\"",
            ]),
        Case(
            name: "to CONNECT", method: .connect, text: "HTTP/1.1 200 OK\r\n\r\nraw",
            lines: [ok, "connection keep-alive", "body none", "left \"raw\""]),
        Case(
            name: "to CONNECT, refused", method: .connect, text: "HTTP/1.1 407 \r\nContent-Length: 1\r\n\r\nx",
            lines: ["head HTTP/1.1 407 ", "field content-length: 1", "connection keep-alive", "body length 1", "data \"x\"", "end"]),
        Case(
            name: "bytes behind the end", text: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxyz",
            lines: [ok, "field content-length: 1", "connection keep-alive", "body length 1", "data \"x\"", "end", "left \"yz\""]),
        Case(
            name: "HTTP/1.0 keep-alive", text: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
            lines: [
                "head HTTP/1.0 200 OK", "field connection: keep-alive", "field content-length: 0", "connection keep-alive",
                "body length 0", "end",
            ]),
    ]

    @Test("A good response gives its events", arguments: good)
    func accepted(golden: Case) throws {
        let lines = try SplitVerifier.verify(Array(golden.text.utf8)) { responseLines($0, to: golden.method) }
        #expect(lines == golden.lines)
    }

    static let bad: [(String, HTTP1Fault)] = [
        ("HTTP/1.1 200\r\n\r\n", .statusLineMalformed), ("HTTP/1.1  200 OK\r\n\r\n", .statusLineMalformed),
        ("HTTP/1.1 20 OK\r\n\r\n", .statusLineMalformed), ("HTTP/1.1 2000 OK\r\n\r\n", .statusLineMalformed),
        ("HTTP/1.1 099 OK\r\n\r\n", .statusLineMalformed), ("HTTP/1.1 600 OK\r\n\r\n", .statusLineMalformed),
        ("HTTP/1.1 +20 OK\r\n\r\n", .statusLineMalformed), ("\r\nHTTP/1.1 200 OK\r\n\r\n", .statusLineMalformed),
        ("HTTP/2.0 200 OK\r\n\r\n", .versionUnsupported), ("http/1.1 200 OK\r\n\r\n", .versionMalformed),
        ("ICY 200 OK and some\r\n\r\n", .statusLineMalformed), ("HTTP/1.1 200 OK\nX: y\n\n", .bareLineFeed),
        ("HTTP/1.1 200 OK\rX: y\r\n\r\n", .bareCarriageReturn), ("HTTP/1.1 200 O\u{0}K\r\n\r\n", .controlCharacter),
        ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", .fieldNameInvalid), ("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", .fieldFolded),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", .contentLengthRepeated),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", .contentLengthWithTransferEncoding),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", .transferEncodingUnsupported),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", .transferEncodingInvalid),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", .transferEncodingInOldVersion),
        ("HTTP/1.1 200 OK\r\nContent-Length: 16777217\r\n\r\n", .bodyTooLong),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", .connectionClosedEarly),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", .connectionClosedEarly),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", .connectionClosedEarly),
        ("HTTP/1.1 200 OK\r\n", .connectionClosedEarly), ("", .connectionClosedEarly),
        ("HTTP/1.1 100 Continue\r\n\r\n", .connectionClosedEarly),
        (String(repeating: "HTTP/1.1 100 Continue\r\n\r\n", count: 17), .tooManyInterimResponses),
    ]

    @Test("A bad response is refused", arguments: bad)
    func rejected(text: String, fault: HTTP1Fault) throws {
        let lines = try SplitVerifier.verify(Array(text.utf8)) { responseLines($0) }
        #expect(lines.last == "fault \(fault.status) \(fault)")
    }

    @Test("Sixteen interim responses are read over")
    func interimResponses() {
        let text = String(repeating: "HTTP/1.1 100 Continue\r\n\r\n", count: 16) + "HTTP/1.1 204 \r\n\r\n"
        #expect(responseLines([Array(text.utf8)]).last == "end")
    }

    @Test("A parser goes on with the next response of the connection")
    func nextResponse() throws {
        var parser = HTTP1ResponseParser(requestMethod: .head)
        let bytes = Array("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".utf8)
        var events: [HTTP1ResponseEvent] = []
        var offset = 0
        try bytes.feed { input throws(HTTP1Fault) in
            var consumed = 0
            guard let event = try parser.next(input, consumed: &consumed) else { return nil }
            events.append(event)
            offset += consumed
            if parser.isComplete, events.count == 2 { parser.nextResponse(to: .get) }
            return consumed
        }
        #expect(offset == bytes.count)
        #expect(events.count == 5)
        #expect(events[1] == .end)
        #expect(events[3] == .body(0..<2))
        #expect(try parser.connectionClosed() == nil)
    }
}

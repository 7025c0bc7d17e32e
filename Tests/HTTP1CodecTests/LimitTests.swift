import HTTP1Codec
import HTTPTypes
import TestSupport
import Testing

/// Every limit lets through what is exactly at it, and refuses one more.
struct LimitTests {
    private static let host = "Host: a\r\n"

    private func fault(_ text: String, _ limits: HTTP1Limits) throws -> String? {
        let lines = try SplitVerifier.verify(Array(text.utf8), splitsMax: 300) { requestLines($0, limits: limits) }
        return lines.last.flatMap { $0.hasPrefix("fault") ? $0 : nil }
    }

    @Test("A start line of the limit passes, one more byte is 414", arguments: [16, 40, 8192])
    func startLine(limit: Int) throws {
        let limits = HTTP1Limits(startLineBytesMax: limit)
        func request(_ bytes: Int) -> String {
            "GET /" + String(repeating: "a", count: bytes - 14) + " HTTP/1.1\r\n" + Self.host + "\r\n"
        }
        #expect(try fault(request(limit), limits) == nil)
        #expect(try fault(request(limit + 1), limits) == "fault 414 startLineTooLong")
        #expect(try fault(String(repeating: "a", count: limit), limits) == nil)
        #expect(try fault(String(repeating: "a", count: limit + 1), limits) == "fault 414 startLineTooLong")
    }

    @Test("A head of the limit passes, one more byte is 431", arguments: [40, 41, 100, 16384], ["", "\r\n"])
    func head(limit: Int, emptyLine: String) throws {
        let limits = HTTP1Limits(headBytesMax: limit)
        func request(_ bytes: Int) -> String {
            let start = "GET / HTTP/1.1\r\n" + Self.host + "X:"
            return emptyLine + start + String(repeating: "y", count: bytes - start.utf8.count - 4) + "\r\n\r\n"
        }
        #expect(try fault(request(limit), limits) == nil)
        #expect(try fault(request(limit) + "GET", limits) == nil)
        for more in 1...4 {
            #expect(try fault(request(limit + more), limits) == "fault 431 headTooLong")
        }
        // Incomplete, with one byte less than the limit and then the limit itself.
        let bytes = Array(request(limit + 10).utf8)
        let incomplete = emptyLine.utf8.count + limit
        #expect(requestLines([Array(bytes[..<(incomplete - 1)])], limits: limits) == [])
        #expect(requestLines([Array(bytes[..<incomplete])], limits: limits) == ["fault 431 headTooLong"])
    }

    @Test("As many fields as the limit pass, one more is 431", arguments: [1, 2, 100])
    func fields(limit: Int) throws {
        let limits = HTTP1Limits(fieldsMax: limit)
        func request(_ count: Int) -> String {
            "GET / HTTP/1.1\r\n" + Self.host + String(repeating: "x:\r\n", count: count - 1) + "\r\n"
        }
        #expect(try fault(request(limit), limits) == nil)
        #expect(try fault(request(limit + 1), limits) == "fault 431 tooManyFields")
    }

    @Test("A Content-Length of the limit passes, one more is 413", arguments: [0, 5])
    func contentLength(limit: Int) throws {
        let limits = HTTP1Limits(bodyBytesMax: limit)
        func request(_ count: Int) -> String {
            "PUT / HTTP/1.1\r\n\(Self.host)Content-Length: \(count)\r\n\r\n" + String(repeating: "x", count: count)
        }
        #expect(try fault(request(limit), limits) == nil)
        #expect(try fault(request(limit + 1), limits) == "fault 413 bodyTooLong")
    }

    @Test("Chunks up to the limit in sum pass, one more byte is 413")
    func chunks() throws {
        let limits = HTTP1Limits(bodyBytesMax: 5)
        let head = "PUT / HTTP/1.1\r\n\(Self.host)Transfer-Encoding: chunked\r\n\r\n"
        #expect(try fault(head + "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", limits) == nil)
        #expect(try fault(head + "2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n", limits) == "fault 413 bodyTooLong")
        #expect(try fault(head + "6\r\n", limits) == "fault 413 bodyTooLong")
    }

    @Test("Without a body limit the greatest numbers pass")
    func unlimited() throws {
        let limits = HTTP1Limits(bodyBytesMax: .max)
        let head = "PUT / HTTP/1.1\r\n\(Self.host)"
        #expect(try fault(head + "Content-Length: 9223372036854775807\r\n\r\nabc", limits) == nil)
        #expect(try fault(head + "Content-Length: 9223372036854775808\r\n\r\n", limits) == "fault 400 contentLengthInvalid")
        let chunked = head + "Transfer-Encoding: chunked\r\n\r\n"
        #expect(try fault(chunked + "7fffffffffffffff\r\nabc", limits) == nil)
        #expect(try fault(chunked + "8000000000000000\r\nabc", limits) == "fault 413 bodyTooLong")
        #expect(try fault(chunked + "1\r\na\r\n7fffffffffffffff\r\nabc", limits) == "fault 413 bodyTooLong")
    }

    @Test("Chunk extensions are limited over the whole body")
    func chunkExtensions() throws {
        let limits = HTTP1Limits(chunkExtensionBytesMax: 6)
        let head = "PUT / HTTP/1.1\r\n\(Self.host)Transfer-Encoding: chunked\r\n\r\n"
        #expect(try fault(head + "1;ab\r\nx\r\n1;cd\r\nx\r\n0\r\n\r\n", limits) == nil)
        #expect(try fault(head + "1;ab\r\nx\r\n1;cd\r\nx\r\n0;\r\n\r\n", limits) == "fault 400 chunkExtensionTooLong")
        let again = head + "0;abcde\r\n\r\n" + head + "0;abcde\r\n\r\n"
        #expect(try fault(again, limits) == nil, "counted anew for each body")
    }

    @Test("Trailers of the limits pass, one more byte or line is 431")
    func trailers() throws {
        let limits = HTTP1Limits(fieldsMax: 2, trailerBytesMax: 10)
        let head = "PUT / HTTP/1.1\r\n\(Self.host)Transfer-Encoding: chunked\r\n\r\n0\r\n"
        // Lines count with their CRLF.
        #expect(try fault(head + "a:12\r\nb:\r\n\r\n", limits) == nil)
        #expect(try fault(head + "a:123\r\nb:\r\n\r\n", limits) == "fault 431 trailerTooLong")
        let fewer = HTTP1Limits(fieldsMax: 2, trailerBytesMax: 100)
        #expect(try fault(head + "a:\r\nb:\r\n\r\n", fewer) == nil)
        #expect(try fault(head + "a:\r\nb:\r\nc:\r\n\r\n", fewer) == "fault 431 tooManyFields")
    }

    @Test("A body until the close is limited, and all up to the limit comes first")
    func untilClose() throws {
        let text = "HTTP/1.1 200 OK\r\n\r\nabcdef"
        func lines(_ limit: Int) throws -> [String] {
            try SplitVerifier.verify(Array(text.utf8)) { responseLines($0, limits: HTTP1Limits(bodyBytesMax: limit)) }
        }
        let head = ["head HTTP/1.1 200 OK", "connection close", "body until close"]
        #expect(try lines(6) == head + ["data \"abcdef\"", "end"])
        #expect(try lines(5) == head + ["data \"abcde\"", "fault 413 bodyTooLong"])
    }
}

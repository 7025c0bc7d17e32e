import HTTP1Codec
import HTTPTypes
import Testing

/// What a connection asks the parser between events.
struct ParserStateTests {
    private func step(_ parser: inout HTTP1RequestParser, _ bytes: [UInt8]) throws -> (HTTP1RequestEvent?, Int) {
        var consumed = 0
        let event = try bytes.withUnsafeBytes { try parser.next($0, consumed: &consumed) }
        return (event, consumed)
    }

    @Test("One call gives one event and leaves the rest")
    func oneEventAtATime() throws {
        var parser = HTTP1RequestParser()
        let first = Array("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
        let second = Array("POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi".utf8)
        var rest = first + second
        var (event, consumed) = try step(&parser, rest)
        guard case .head(let head) = event else { throw HTTP1Fault.requestLineMalformed }
        #expect(head.request.path == "/1")
        #expect(consumed == first.count)
        #expect(!parser.isBetweenRequests, "the end has not been given")
        rest.removeFirst(consumed)
        (event, consumed) = try step(&parser, rest)
        #expect(event == .end)
        #expect(consumed == 0)
        #expect(parser.isBetweenRequests)
        (event, consumed) = try step(&parser, rest)
        #expect(consumed == second.count - 2)
        rest.removeFirst(consumed)
        (event, consumed) = try step(&parser, rest)
        #expect(event == .body(0..<2))
        #expect(consumed == 2)
        (event, consumed) = try step(&parser, [])
        #expect(event == .end)
        (event, consumed) = try step(&parser, [])
        #expect(event == nil)
    }

    @Test("A body range counts from the start of the call's input, behind the chunk's header")
    func chunkRange() throws {
        var parser = HTTP1RequestParser()
        _ = try step(&parser, Array("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".utf8))
        let (event, consumed) = try step(&parser, Array("5;x\r\nhello\r\n0\r\n\r\n".utf8))
        #expect(event == .body(5..<10))
        #expect(consumed == 10)
    }

    @Test("A head is under way from its first byte to its last")
    func headStarted() throws {
        var parser = HTTP1RequestParser()
        #expect(parser.isBetweenRequests)
        #expect(!parser.headStarted)
        let bytes = Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
        for byte in bytes.dropLast() {
            let (event, consumed) = try step(&parser, [byte])
            #expect(event == nil)
            #expect(consumed == 1)
            #expect(parser.headStarted)
            #expect(!parser.isBetweenRequests)
        }
        let (event, _) = try step(&parser, [bytes.last!])
        #expect(event != nil)
        #expect(!parser.headStarted)
        #expect(!parser.isBetweenRequests)
        _ = try step(&parser, [])
        #expect(parser.isBetweenRequests)
        #expect(!parser.headStarted)
    }

    @Test("An empty line between requests starts no head", arguments: [["\r\n"], ["\r", "\n"]])
    func emptyLine(pieces: [String]) throws {
        var parser = HTTP1RequestParser()
        for piece in pieces {
            #expect(try step(&parser, Array(piece.utf8)).0 == nil)
        }
        #expect(parser.isBetweenRequests)
        #expect(!parser.headStarted)
        _ = try step(&parser, [UInt8(ascii: "G")])
        #expect(parser.headStarted)
        // A second one after it is refused.
        var other = HTTP1RequestParser()
        _ = try step(&other, Array("\r\n".utf8))
        #expect(throws: HTTP1Fault.requestLineMalformed) { try step(&other, Array("\r\n".utf8)) }
    }

    @Test("After a fault every call fails the same and reads everything")
    func poisoned() throws {
        var parser = HTTP1RequestParser()
        let bad = Array("GET / HTTP/1.1\nHost: a\r\n\r\n".utf8)
        for bytes in [bad, Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8), []] {
            var consumed = 0
            bytes.withUnsafeBytes { input in
                _ = #expect(throws: HTTP1Fault.bareLineFeed) { try parser.next(input, consumed: &consumed) }
            }
            #expect(consumed == bytes.count)
        }
        #expect(!parser.isBetweenRequests)
        #expect(!parser.headStarted)
    }

    @Test("Who does not speak HTTP hears so at the end of the first line")
    func failsEarly() {
        #expect(requestLines([Array("EHLO mail\r\n".utf8)]) == ["fault 400 requestLineMalformed"])
        #expect(requestLines([Array("PRI * HTTP/2.0\r\n".utf8)]) == ["fault 505 versionUnsupported"])
        #expect(requestLines([Array("GET / HTTP/1.1\n".utf8)]) == ["fault 400 bareLineFeed"])
        #expect(requestLines([[0x16]]) == ["fault 400 controlCharacter"])
    }

    @Test("The state of an idle connection is small")
    func size() {
        #expect(MemoryLayout<HTTP1RequestParser>.size <= 112)
        #expect(MemoryLayout<HTTP1Fault>.size == 1)
    }

    @Test("Every fault has a status of its kind and a text of its own")
    func faults() {
        let statuses = Set(HTTP1Fault.allCases.map(\.status))
        #expect(statuses == [400, 413, 414, 431, 501, 502, 505])
        #expect(Set(HTTP1Fault.allCases.map(\.detail)).count == HTTP1Fault.allCases.count)
    }
}

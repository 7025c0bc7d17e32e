import HTTP1Codec
import TestSupport
import Testing

/// Requests that other servers and proxies have read in different ways: the payloads of the HTTP Garden's list of bugs, the cases of
/// http-desync-guardian, and the shapes of published chunk attacks. Each is refused, or read in the one way that the RFC has.
struct SmugglingTests {
    struct Shape: CustomTestStringConvertible, Sendable {
        let name: String
        let bytes: [UInt8]
        let fault: HTTP1Fault
        var testDescription: String { name }

        /// - Parameter text: a character for a byte.
        init(_ name: String, _ text: String, _ fault: HTTP1Fault) {
            self.name = name
            bytes = latin1(text)
            self.fault = fault
        }
    }

    private static let post = "POST / HTTP/1.1\r\nHost: a\r\n"
    private static let chunked = post + "Transfer-Encoding: chunked\r\n\r\n"
    /// What an attacker would have read as a request of its own.
    private static let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"

    private static let lines: [Shape] = [
        Shape("LF between target and version", "GET /\nHTTP/1.1\r\nHost: a\r\n\r\n", .bareLineFeed),
        Shape("method with quote and brackets", "G=\":<>(e),[T];?\" / HTTP/1.1\r\nHost: a\r\n\r\n", .methodInvalid),
        Shape("method that is a NUL", "\0 / HTTP/1.1\r\nHost: a\r\n\r\n", .controlCharacter),
        Shape("method of a control character at its end", "POST\u{1} / HTTP/1.1\r\nHost: a\r\n\r\n", .controlCharacter),
        Shape("target that is no URI", "GET ! HTTP/1.1\r\nHost: a\r\n\r\n", .targetInvalid),
        Shape("target of userinfo and backslash", "GET http://a\\@b/ HTTP/1.1\r\nHost: a\r\n\r\n", .hostInvalid),
        Shape("NEL for a space", "GET\u{85}/ HTTP/1.1\r\nHost: a\r\n\r\n", .methodInvalid),
        Shape("form feed for a space", "GET /\u{C}HTTP/1.1\r\nHost: a\r\n\r\n", .controlCharacter),
        Shape("version with a second digit", "GET / HTTP/1.32\r\nHost: a\r\n\r\n", .versionMalformed),
        Shape("version that overflows a byte", "GET / HTTP/4294967295.255\r\nHost: a\r\n\r\n", .versionMalformed),
        Shape("version with CR inside", "GET / HTTP/\r\r1.1\r\nHost: a\r\n\r\n", .bareCarriageReturn),
        Shape("version 0.9 written out", "GET / HTTP/0.9\r\nContent-Length: 5\r\n\r\n", .versionUnsupported),
        Shape("no version", "POST /\r\nTransfer-Encoding: chunked\r\n\r\n", .requestLineMalformed),
        Shape("line ends of LF only", "GET / HTTP/1.1\nHost: a\nConnection: close\n\n", .bareLineFeed),
    ]

    private static let fields: [Shape] = [
        Shape("NUL and CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: v\0\ralue\r\n\r\n", .controlCharacter),
        Shape("value cut by a NUL", "GET / HTTP/1.1\r\nHost: a\0.b\r\n\r\n", .controlCharacter),
        Shape("NUL at the end of a value", post + "X: y\0\r\n\r\n", .controlCharacter),
        Shape("CR as a line end", post + "Visible: :/\rContent-Length: 5\r\n\r\n", .bareCarriageReturn),
        Shape("LF in a value", post + "X: y\nContent-Length: 5\r\n\r\n", .bareLineFeed),
        Shape("LF straight behind a colon", post + "Useless:\n\n" + hidden, .bareLineFeed),
        Shape("CR behind a name", post + "X\r: y\r\n\r\n", .bareCarriageReturn),
        Shape("CR before a name", post + "\rTransfer-Encoding: chunked\r\n\r\n", .bareCarriageReturn),
        Shape("CR instead of the empty line", post + "\rZ" + hidden, .bareCarriageReturn),
        Shape("tab before the first name", "GET / HTTP/1.1\r\n\tContent-Length: 1\r\nHost: a\r\n\r\nX", .fieldFolded),
        Shape("name cut by a line end", post + "Transfer-\r\nEncoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", .fieldNameInvalid),
        Shape("no colon", post + "Content-Length 10\r\n\r\n0123456789", .fieldNameInvalid),
        Shape("colon only", post + ":\r\nX: cut off\r\n\r\n", .fieldNameInvalid),
        Shape("colon first", post + ":X:Transfer-Encoding: chunked\r\n\r\n", .fieldNameInvalid),
        Shape("space before the colon of Content-Length", post + "Content-Length : 34\r\n\r\n" + hidden, .fieldNameInvalid),
        Shape("NEL before the colon", post + "Content-Length\u{85}: 10\r\n\r\n0123456789", .fieldNameInvalid),
        Shape("no-break space before a name", post + "\u{A0}Content-Length: 10\r\n\r\n0123456789", .fieldNameInvalid),
        Shape("control character before a name", post + "\u{1}Transfer-Encoding: chunked\r\n\r\n", .controlCharacter),
        Shape("vertical tab before a colon", post + "Transfer-Encoding\u{B}: chunked\r\n\r\n", .controlCharacter),
        Shape("space in a name", post + "Transfer- Encoding: chunked\r\n\r\n", .fieldNameInvalid),
        Shape("word behind a name", post + "Transfer-Encoding x: chunked\r\n\r\n", .fieldNameInvalid),
        Shape("long s in a name", post + "Tran\u{C5}\u{BF}fer-Encoding: chunked\r\n\r\n", .fieldNameInvalid),
        Shape("fold in Content-Length", post + "Content-Length:\r\n 5\r\n\r\nhello", .contentLengthInvalid),
        Shape("fold behind Content-Length", post + "Content-Length: 5\r\n 0\r\n\r\nhello", .fieldFolded),
        Shape("Host of bytes above 0x7F", "GET / HTTP/1.1\r\nHost: \u{FF}a\u{FF}\r\n\r\n", .hostInvalid),
        Shape("Host twice, once folded in", "GET / HTTP/1.1\r\nHost: a\r\n Host: b\r\n\r\n", .fieldFolded),
        Shape("Host of another case twice", "GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n", .hostRepeated),
        Shape("absolute target and empty Host", "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n", .hostInvalid),
    ]

    private static let framing: [Shape] = [
        Shape(
            "both, length first", post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            .contentLengthWithTransferEncoding),
        Shape(
            "both, in HTTP/1.0", "POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            .contentLengthWithTransferEncoding),
        Shape("both, unknown coding", post + "Transfer-Encoding: gzip\r\nContent-Length: 100\r\n\r\n", .transferEncodingInvalid),
        Shape(
            "HTTP/1.0 kept alive with chunks", "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            .transferEncodingInOldVersion),
        Shape("lengths that differ", post + "Content-Length: 0\r\nContent-Length: 31\r\n\r\n" + hidden, .contentLengthRepeated),
        Shape("an empty length, then one", post + "Content-Length: \r\nContent-Length: 43\r\n\r\n" + hidden, .contentLengthInvalid),
        Shape("length of plus and underscore", post + "Content-Length: +1_0\r\n\r\n0123456789", .contentLengthInvalid),
        Shape("length of a digit and a letter", post + "Content-Length: 1Z\r\n\r\nZ", .contentLengthInvalid),
        Shape("length below zero", post + "Content-Length: -48\r\n\r\n", .contentLengthInvalid),
        Shape("length of 0x", post + "Content-Length: 0x10\r\n\r\nZ", .contentLengthInvalid),
        Shape("length of 2^64", post + "Content-Length: 18446744073709551616\r\n\r\n", .contentLengthInvalid),
        Shape("length of fullwidth digits", post + "Content-Length: \u{EF}\u{BC}\u{95}\r\n\r\n", .contentLengthInvalid),
        Shape("length behind a no-break space", post + "Content-Length: \u{A0}5\r\n\r\nhello", .contentLengthInvalid),
        Shape("length with a dollar", post + "Content-Length: $9000\r\n\r\n", .contentLengthInvalid),
        Shape("comma before chunked", post + "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", .transferEncodingInvalid),
        Shape("no-break spaces around chunked", post + "Transfer-Encoding: \u{A0}chunked\u{A0}\r\n\r\n0\r\n\r\n", .transferEncodingInvalid),
        Shape("bytes 0xFF around chunked", post + "Transfer-Encoding: \u{FF}chunked\u{FF}\r\n\r\n0\r\n\r\n", .transferEncodingInvalid),
        Shape("vertical tab before chunked", post + "Transfer-Encoding: \u{B}chunked\r\n\r\n0\r\n\r\n", .controlCharacter),
        Shape("delete behind chunked", post + "Transfer-Encoding: chunked\u{7F}\r\n\r\n0\r\n\r\n", .controlCharacter),
        Shape("tab before chunked", post + "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n", .transferEncodingInvalid),
        Shape("tab behind chunked", post + "Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n", .transferEncodingInvalid),
        Shape("tab before a length", post + "Content-Length:\t5\r\n\r\nhello", .contentLengthInvalid),
        Shape("tab behind a length", post + "Content-Length: 5 \t\r\n\r\nhello", .contentLengthInvalid),
        Shape("LF in Transfer-Encoding", post + "Transfer-Encoding:\n chunked\r\n\r\n0\r\n\r\n", .bareLineFeed),
        Shape("fold in Transfer-Encoding", post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", .transferEncodingInvalid),
        Shape("unknown coding", post + "Transfer-Encoding: blegh\r\n\r\n1\r\nZ\r\n0\r\n\r\n", .transferEncodingInvalid),
        Shape(
            "chunked and then cow", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n0\r\n\r\n", .transferEncodingInvalid
        ),
        Shape(
            "identity, then chunked", post + "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            .transferEncodingInvalid),
        Shape(
            "CONNECT with a request as content", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 31\r\n\r\n" + hidden,
            .contentInConnect),
    ]

    private static let chunks: [Shape] = [
        Shape("size of underscore", chunked + "0_2e\r\n\r\n" + hidden, .chunkSizeInvalid),
        Shape("size of minus and 0x", chunked + "-0x0\r\n\r\n", .chunkSizeInvalid),
        Shape("letters behind a size", chunked + "1these\r\nZ\r\n0\r\n\r\n", .chunkSizeInvalid),
        Shape("spaces before a size", chunked + "      0\r\n\r\n", .chunkSizeInvalid),
        Shape("no size", chunked + "\r\n\r\n" + hidden, .chunkSizeInvalid),
        Shape("word for a size", chunked + "INVALID!!!\r\n" + hidden, .chunkSizeInvalid),
        Shape("size of 2^64 and five", chunked + "10000000000000005\r\nhello\r\n0\r\n\r\n", .chunkSizeInvalid),
        Shape("CR before an extension", chunked + "5\r\r;ABCD\r\n34\r\nE\r\n0\r\n\r\n" + hidden, .bareCarriageReturn),
        Shape("CR for a line end in an extension", chunked + "2;a=b\r\rXX\r\n0\r\n\r\n" + hidden, .bareCarriageReturn),
        Shape("LF ends an extension", chunked + "2;\nxx\r\n4c\r\n0\r\n\r\n" + hidden, .chunkExtensionInvalid),
        Shape("LF ends a named extension", chunked + "2;a\nxx\r\n4c\r\n0\r\n\r\n" + hidden, .chunkExtensionInvalid),
        Shape("LF in a quoted extension", chunked + "2;a=\"\nxx\r\n\"\r\n0\r\n\r\n", .chunkExtensionInvalid),
        Shape("quoted extension over the line's end", chunked + "1;a=\"\r\nx\r\n0\r\n\r\n\"\r\n" + hidden, .chunkExtensionInvalid),
        Shape("escaped CR in an extension", chunked + "1;a=\"\\\r\nx\r\n0\r\n\r\n\"\r\n", .chunkExtensionInvalid),
        Shape("LF ends a size", chunked + "5\nhello\r\n0\r\n\r\n", .chunkSizeInvalid),
        Shape("LF behind data", chunked + "a\r\n0123456789\n0\r\n\r\n", .chunkEndMissing),
        Shape("two bytes behind data", chunked + "5\r\nhelloAB0\r\n\r\n" + hidden, .chunkEndMissing),
        Shape("CR and a letter behind data", chunked + "5\r\nhello\rA0\r\n\r\n" + hidden, .chunkEndMissing),
        Shape("line end before the last chunk", chunked + "1\r\nx\r\n\r\n0\r\n\r\n", .chunkSizeInvalid),
        Shape("letters for the last line end", chunked + "0\r\n\rX" + hidden, .trailerInvalid),
        Shape("LF for the last line end", chunked + "0\r\n\n" + hidden, .trailerInvalid),
        Shape("folded trailer", chunked + "0\r\nX: y\r\n z\r\n\r\n", .trailerInvalid),
        Shape("CR in a trailer", chunked + "0\r\nX: y\rContent-Length: 5\r\n\r\n", .trailerInvalid),
    ]

    @Test("A shape that two parsers may read differently is refused", arguments: lines + fields + framing + chunks)
    func refused(shape: Shape) throws {
        let read = try SplitVerifier.verify(shape.bytes + latin1(Self.hidden)) { requestLines($0) }
        #expect(read.last == "fault \(shape.fault.status) \(shape.fault)")
        #expect(!read.contains { $0.contains("hidden") }, "the hidden request was read")
        #expect(!read.contains("end"), "a request was read to its end")
    }

    /// Name, bytes, and how the lines behind the first head begin, without the hidden request's fields.
    private static let read: [(String, String, [String])] = [
        (
            "A length is decimal, whatever it begins with", post + "Content-Length: 010\r\n\r\n0123456789" + hidden,
            ["data \"0123456789\"", "end", "GET"]
        ),
        ("The body of a GET is a body", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 33\r\n\r\n" + hidden, ["data", "end"]),
        ("A length of 0 is no body", post + "Content-Length: 0\r\n\r\n" + hidden, ["end", "GET"]),
        ("Underscores make another name", post + "Content_Length: 5\r\nTransfer_Encoding: chunked\r\n\r\n" + hidden, ["end", "GET"]),
        ("Three hyphens make another name", post + "Transfer---Encoding: chunked\r\n\r\n" + hidden, ["end", "GET"]),
        ("A trailer is no request", chunked + "0\r\nX:POST / HTTP/1.1\r\n\r\n" + hidden, ["end", "GET"]),
        (
            "A trailer frames nothing", chunked + "0\r\nContent-Length: 33\r\nTransfer-Encoding: x\r\nHost: b\r\n\r\n" + hidden,
            ["end", "GET"]
        ),
        ("Digits and line ends in data are data", chunked + "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n" + hidden, ["data", "end", "GET"]),
        ("A NUL behind a body", chunked + "0\r\n\r\n\0" + hidden, ["end", "fault 400 controlCharacter"]),
        ("A last chunk of many zeros", chunked + "0000\r\n\r\n" + hidden, ["end", "GET"]),
        (
            "An expectation that is none", post + "Expect: y 100-continue\r\nContent-Length: 1\r\n\r\nx" + hidden,
            ["data \"x\"", "end", "GET"]
        ),
        (
            "Connection cannot take framing away", post + "Connection: Content-Length\r\nContent-Length: 1\r\n\r\nx" + hidden,
            ["data \"x\"", "end", "GET"]
        ),
    ]

    @Test("What only looks odd is read in one way", arguments: read.indices)
    func readAsWritten(index: Int) throws {
        let (name, text, expected) = Self.read[index]
        let lines = try SplitVerifier.verify(latin1(text)) { requestLines($0) }
        // The first head is left out: it is the same in all.
        let seen = lines.dropFirst().filter { $0.hasPrefix("data") || $0.hasPrefix("end") || $0.hasPrefix("head") || $0.hasPrefix("fault") }
        let wanted = expected.flatMap { $0 == "GET" ? ["head GET /hidden HTTP/1.1", "end"] : [$0] }
        #expect(seen.count == wanted.count, "\(name): \(lines)")
        for (line, start) in zip(seen, wanted) { #expect(line.hasPrefix(start), "\(name): \(lines)") }
    }

    @Test("Bytes above 0x7F at the ends of a value are part of it")
    func highBytes() {
        let bytes = latin1("GET /login HTTP/1.1\r\nHost: a\r\nUser: \u{85}admin\u{A0}\r\n\r\n")
        #expect(requestLines([bytes]).contains("field user: \\x85admin\\xa0"))
    }

    @Test("CONNECT ends the connection, whatever it says")
    func connect() {
        for option in ["keep-alive", "close", "upgrade"] {
            let text = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: \(option)\r\n\r\n"
            #expect(requestLines([latin1(text)]).contains("connection close"))
        }
    }
}

/// A byte for every character.
private func latin1(_ text: String) -> [UInt8] {
    text.unicodeScalars.map { UInt8($0.value) }
}

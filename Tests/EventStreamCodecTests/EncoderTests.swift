import EventStreamCodec
import TestSupport
import Testing

@Suite("Event stream: encoder")
struct EncoderTests {
    static func encoded(
        id: String? = nil, event: String? = nil, data: String, retryMilliseconds: Int? = nil
    ) -> String {
        var bytes: [UInt8] = []
        EventStreamEncoder.event(
            id: id.map { EventStreamField($0)! },
            event: event.map { EventStreamField($0)! },
            data: data,
            retryMilliseconds: retryMilliseconds,
            into: &bytes
        )
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test("an event is written in the order of the specification's fields, with what it has")
    func forms() {
        #expect(Self.encoded(data: "x") == "data: x\n\n")
        #expect(Self.encoded(id: "41", event: "goal", data: "{}", retryMilliseconds: 0) == "id: 41\nevent: goal\nretry: 0\ndata: {}\n\n")
        #expect(Self.encoded(id: "", data: "") == "id: \ndata: \n\n")
        #expect(Self.encoded(id: " é:", data: " x") == "id:  é:\ndata:  x\n\n")
    }

    @Test(
        "data is split at CR, LF and CRLF",
        arguments: [
            ("a\nb", "data: a\ndata: b\n\n"),
            ("a\rb", "data: a\ndata: b\n\n"),
            ("a\r\nb", "data: a\ndata: b\n\n"),
            ("a\n\rb", "data: a\ndata: \ndata: b\n\n"),
            ("\r\n", "data: \ndata: \n\n"),
            ("a\r", "data: a\ndata: \n\n"),
            ("\n\n", "data: \ndata: \ndata: \n\n"),
            ("12345678\n12345678901234567\r\n1", "data: 12345678\ndata: 12345678901234567\ndata: 1\n\n"),
            ("x\n\nevent: evil\ndata: y", "data: x\ndata: \ndata: event: evil\ndata: data: y\n\n"),
            ("x\u{85}y\u{2028}z\u{0B}", "data: x\u{85}y\u{2028}z\u{0B}\n\n"),
        ]
    )
    func lines(_ data: String, _ stream: String) {
        #expect(Self.encoded(data: data).unicodeScalars.elementsEqual(stream.unicodeScalars))
    }

    @Test("events go behind what is there, in each form of the data")
    func appends() {
        var bytes: [UInt8] = Array(":\n\n".utf8)
        EventStreamEncoder.event(data: [0x61], into: &bytes)
        [UInt8]([0x62]).withUnsafeBytes { EventStreamEncoder.event(id: nil, event: nil, data: $0, retryMilliseconds: nil, into: &bytes) }
        EventStreamEncoder.event(data: UnsafeRawBufferPointer(start: nil, count: 0), into: &bytes)
        #expect(String(decoding: bytes, as: UTF8.self) == ":\n\ndata: a\n\ndata: b\n\ndata: \n\n")
    }

    @Test("a comment is three bytes and its padding, and does nothing but count", arguments: [0, 1, 7, 2048])
    func comment(padding: Int) throws {
        var bytes: [UInt8] = []
        EventStreamEncoder.comment(padding: padding, into: &bytes)
        #expect(bytes.count == 3 + padding)
        #expect(decode([bytes]) == [.state(lastEventID: "", retryMilliseconds: nil, comments: 1)])
        if padding == 0 { #expect(bytes == Array(":\n\n".utf8)) }
    }

    @Test("a field cannot hold CR, LF or NUL, wherever it stands", arguments: ["\r", "\n", "\r\n", "\0"])
    func field(_ bad: String) {
        let fault: EventStreamFieldFault = bad == "\0" ? .null : .lineBreak
        for text in [bad, "a" + bad, bad + "a", "long enough for words " + bad + " and more", "é" + bad + "\u{301}"] {
            #expect(EventStreamField(text) == nil)
            #expect(throws: fault) { try EventStreamField(checking: text) }
        }
    }

    @Test("a field holds everything else", arguments: ["", "a", " a ", ":", "é\u{2028}\u{85}", "\t\u{1}\u{7F}", "\u{FEFF}"])
    func goodField(_ good: String) throws {
        #expect(EventStreamField(good)?.value == good)
        #expect(try EventStreamField(checking: good).value == good)
    }

    @Test("hostile data comes out as it went in, but for its line ends, and brings nothing else along", arguments: UInt64(0)..<300)
    func hostile(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let pieces: [[UInt8]] =
            ["data:", "data: ", "id: 666", "event:evil", "retry:1", ":", " ", "\r", "\n", "\r\n", "\n\n", "\0", "x", "é", "\u{FEFF}"]
            .map { Array($0.utf8) } + [[0xFF], [0xE2, 0x82], [0xC3]]
        func random(_ countMax: Int) -> [UInt8] {
            (0..<Int.random(in: 0...countMax, using: &generator)).flatMap { _ in pieces.randomElement(using: &generator)! }
        }
        func field() -> EventStreamField? {
            guard Bool.random(using: &generator) else { return nil }
            return EventStreamField(String(decoding: random(5).filter { ![0, 10, 13].contains($0) }, as: UTF8.self))!
        }
        var bytes: [UInt8] = []
        var expected: [Output] = []
        var id = ""
        var retryMilliseconds: Int?
        var comments = 0
        for _ in 0..<Int.random(in: 1...5, using: &generator) {
            let (idField, typeField, data) = (field(), field(), random(12))
            let retry = Bool.random(using: &generator) ? Int.random(in: 0...100_000, using: &generator) : nil
            EventStreamEncoder.event(id: idField, event: typeField, data: data, retryMilliseconds: retry, into: &bytes)
            id = idField?.value ?? id
            retryMilliseconds = retry ?? retryMilliseconds
            let type = typeField?.value ?? ""
            expected.append(.event(EventStreamEvent(type: type.isEmpty ? "message" : type, data: Self.plain(data), lastEventID: id)))
            if Bool.random(using: &generator) {
                EventStreamEncoder.comment(padding: Int.random(in: 0...20, using: &generator), into: &bytes)
                comments += 1
            }
        }
        expected.append(.state(lastEventID: id, retryMilliseconds: retryMilliseconds, comments: comments))
        #expect(try SplitVerifier.verify(bytes, splitsMax: 200) { decode($0) } == expected)
        #expect(Reference.decode(bytes) == expected)
    }

    /// The text with LF for each of its line ends.
    private static func plain(_ data: [UInt8]) -> String {
        var bytes: [UInt8] = []
        for (index, byte) in data.enumerated() {
            if byte == 10, index > 0, data[index - 1] == 13 { continue }
            bytes.append(byte == 13 ? 10 : byte)
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

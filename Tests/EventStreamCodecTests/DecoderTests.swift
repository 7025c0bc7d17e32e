import EventStreamCodec
import TestSupport
import Testing

@Suite("Event stream: decoder")
struct DecoderTests {
    @Test("there are golden cases")
    func some() {
        #expect(GoldenCase.all.count >= 30)
    }

    @Test("a golden case gives its events, however it is cut", arguments: GoldenCase.all)
    func golden(_ golden: GoldenCase) throws {
        #expect(try SplitVerifier.verify(golden.input) { decode($0) } == golden.outputs)
        #expect(Reference.decode(golden.input) == golden.outputs)
    }

    @Test("an event is dispatched at its CR, although a LF may follow")
    func crAtOnce() throws {
        var decoder = EventStreamDecoder(bytesMax: 100)
        #expect(try decoder.feed("data:a\r\n\r") == [EventStreamEvent(data: "a")])
        #expect(try decoder.feed("\n").isEmpty)
        #expect(try decoder.feed("data:b\r\r") == [EventStreamEvent(data: "b")])
        #expect(try decoder.feed("\n\n").isEmpty)
    }

    @Test("strange streams are read as the specification says, however they are cut", arguments: UInt64(0)..<400)
    func strange(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let pieces: [[UInt8]] =
            ["data", "data:", "event:", "id:", "retry:", ":", " ", "\r", "\n", "\r\n", "\n\n", "12", "x", "é", "\u{FEFF}", "\0", "Data"]
            .map { Array($0.utf8) } + [[0xFF], [0xE2, 0x82], [0xEF, 0xBB], [0xC3], [0xF0, 0x90]]
        let count = Int.random(in: 0...60, using: &generator)
        let bytes = (0..<count).flatMap { _ in pieces.randomElement(using: &generator)! }
        #expect(try SplitVerifier.verify(bytes) { decode($0) } == Reference.decode(bytes))
    }

    @Test("a stream above a small limit fails at the same place, however it is cut", arguments: UInt64(0)..<200)
    func smallLimit(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let pieces = ["data:", "id:", "abc", ":", "\r", "\n", "\r\n", "\u{FEFF}"]
        let count = Int.random(in: 0...60, using: &generator)
        let bytes = (0..<count).flatMap { _ in Array(pieces.randomElement(using: &generator)!.utf8) }
        let bytesMax = Int.random(in: 0...20, using: &generator)
        try SplitVerifier.verify(bytes) { decode($0, bytesMax: bytesMax) }
    }

    @Test("an event of exactly the limit comes through, and one byte more does not")
    func limit() throws {
        // 15 bytes of data with their LF are held while the second line, of 15 bytes, is read.
        let stream = "data:12345678901234\ndata:1234567890\n\n"
        #expect(decode([Array(stream.utf8)], bytesMax: 30).first == .event(EventStreamEvent(data: "12345678901234\n1234567890")))
        #expect(decode([Array(stream.utf8)], bytesMax: 29).first == .fault(.eventTooBig))
    }

    @Test(
        "a line without an end is refused when it is above the limit, in any field",
        arguments: ["data:", "id:", "event:", "x", "\u{FEFF}y"]
    )
    func endlessLine(_ start: String) {
        var decoder = EventStreamDecoder(bytesMax: 1000)
        var fed = 0
        #expect(throws: EventStreamFault.eventTooBig) {
            _ = try decoder.feed(start)
            while fed < 2000 {
                _ = try decoder.feed("xxxxxxxxxx")
                fed += 10
            }
        }
        #expect((980...1000).contains(fed))
    }

    @Test("many short data lines are refused when they are above the limit")
    func manyLines() {
        var decoder = EventStreamDecoder(bytesMax: 1000)
        var lines = 0
        #expect(throws: EventStreamFault.eventTooBig) {
            while lines < 2000 {
                _ = try decoder.feed("data\n")
                lines += 1
            }
        }
        #expect(lines == 997)
    }

    @Test("a comment may be of any length, since it is not kept")
    func longComment() throws {
        var decoder = EventStreamDecoder(bytesMax: 10)
        _ = try decoder.feed("data:abc\n:")
        for _ in 0..<100 { #expect(try decoder.feed("data:not this").isEmpty) }
        #expect(decoder.commentCount == 0)
        #expect(try decoder.feed("\n\n") == [EventStreamEvent(data: "abc")])
        #expect(decoder.commentCount == 1)
    }

    @Test("events before a fault are not lost, and the fault comes with the next read")
    func eventsBeforeFault() throws {
        var decoder = EventStreamDecoder(bytesMax: 10)
        #expect(try decoder.feed("id:1\ndata:a\n\ndata:far too long\n\n") == [EventStreamEvent(data: "a", lastEventID: "1")])
        #expect(throws: EventStreamFault.eventTooBig) { try decoder.feed("") }
        #expect(throws: EventStreamFault.eventTooBig) { try decoder.feed("data:b\n\n") }
        #expect(decoder.lastEventID == "1")
    }

    @Test("a new stream forgets what was unfinished and keeps the last id and the retry")
    func newStream() throws {
        var decoder = EventStreamDecoder(bytesMax: 100)
        #expect(try decoder.feed("retry:5\nid:1\ndata:a\n\nid:2\nevent:x\ndata:b\nda").count == 1)
        decoder.beginStream()
        #expect(try decoder.feed("\u{FEFF}data:c\n\n") == [EventStreamEvent(data: "c", lastEventID: "1")])
        #expect(decoder.retryMilliseconds == 5)

        #expect(try decoder.feed("data:d\r").isEmpty)
        decoder.beginStream()
        #expect(try decoder.feed("\ndata:e\n\n") == [EventStreamEvent(data: "e", lastEventID: "1")])

        #expect(throws: EventStreamFault.self) { try decoder.feed(String(repeating: "x", count: 101)) }
        decoder.beginStream()
        #expect(try decoder.feed("data:f\n\n") == [EventStreamEvent(data: "f", lastEventID: "1")])
    }
}

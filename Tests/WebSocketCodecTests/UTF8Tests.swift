import TestSupport
import Testing

@testable import WebSocketCodec

@Suite("WebSocket: UTF-8")
struct UTF8Tests {
    /// The kinds of Autobahn's cases 6.2 and 6.5 to 6.23 that are right.
    static let good: [(kind: String, bytes: [UInt8])] = [
        ("6.2 mixed", Array("Hello-µ@ßöäüàá-UTF-8!!".utf8)),
        ("6.5 Greek", hex("ce ba e1 bd b9 cf 83 ce bc ce b5")),
        ("6.6 prefix of whole characters", hex("ce ba e1 bd b9")),
        ("6.7.1 first of one byte", hex("00")),
        ("6.7.2 first of two bytes", hex("c2 80")),
        ("6.7.3 first of three bytes", hex("e0 a0 80")),
        ("6.7.4 first of four bytes", hex("f0 90 80 80")),
        ("6.9.1 last of one byte", hex("7f")),
        ("6.9.2 last of two bytes", hex("df bf")),
        ("6.9.3 last of three bytes", hex("ef bf bf")),
        ("6.9.4 last of all", hex("f4 8f bf bf")),
        ("6.11.1 before the surrogates", hex("ed 9f bf")),
        ("6.11.2 after the surrogates", hex("ee 80 80")),
        ("6.11.3 replacement character", hex("ef bf bd")),
        ("6.11.4 U+10FFFF", hex("f4 8f bf bf")),
        ("6.22 non-characters", hex("ef bf be ef bf bf f0 9f bf be f0 9f bf bf f0 af bf be f4 8f bf be f4 8f bf bf")),
        ("6.23 specials", hex("ef bf b9 ef bf ba ef bf bb ef bf bc ef bf bd")),
        ("empty", []),
        ("ASCII of many words", Array(repeating: 0x61, count: 200)),
        ("a character over a word's border", Array("aaaaaaa€aaaaaaaaaaaa😀aaaaaaaaaaaaaaaaaaaaaaaa".utf8)),
    ]

    /// Those that are wrong, with the number of bytes after which it is known.
    static let bad: [(kind: String, bytes: [UInt8], known: Int)] = [
        ("6.3.1 surrogate in text", hex("ce ba e1 bd b9 cf 83 ce bc ce b5 ed a0 80 65 64 69 74 65 64"), 13),
        ("6.4 above U+10FFFF in text", hex("ce ba e1 bd b9 cf 83 ce bc ce b5 f4 90 80 80 65 64 69 74 65 64"), 13),
        ("6.8.1 first of five bytes", hex("f8 88 80 80 80"), 1),
        ("6.8.2 first of six bytes", hex("fc 84 80 80 80 80"), 1),
        ("6.10.1 last of 21 bits", hex("f7 bf bf bf"), 1),
        ("6.10.2 last of five bytes", hex("fb bf bf bf bf"), 1),
        ("6.10.3 last of six bytes", hex("fd bf bf bf bf bf"), 1),
        ("6.11.5 U+110000", hex("f4 90 80 80"), 2),
        ("6.12.1 first continuation byte alone", hex("80"), 1),
        ("6.12.2 last continuation byte alone", hex("bf"), 1),
        ("6.12.3 two continuation bytes", hex("80 bf"), 1),
        ("6.12.8 all continuation bytes", Array(0x80...0xBF), 1),
        ("6.13.1 first bytes of two, each with a space", (0xC2...0xDF).flatMap { [$0, 0x20] }, 2),
        ("6.13.2 first bytes of three, each with a space", (0xE0...0xEF).flatMap { [$0, 0x20] }, 2),
        ("6.13.3 first bytes of four, each with a space", (0xF0...0xF7).flatMap { [$0, 0x20] }, 2),
        ("6.13.4 first bytes of five, each with a space", (0xF8...0xFB).flatMap { [$0, 0x20] }, 1),
        ("6.14.1 last byte of two missing, then text", hex("c2 61"), 2),
        ("6.14.2 last byte of three missing, then text", hex("e0 a0 61"), 3),
        ("6.14.3 last byte of four missing, then text", hex("f0 90 80 61"), 4),
        ("6.15 concatenated unfinished characters", hex("c2 e0 a0 f0 90 80"), 2),
        ("6.16.1 FE", hex("fe"), 1),
        ("6.16.2 FF", hex("ff"), 1),
        ("6.17.1 overlong slash of two bytes", hex("c0 af"), 1),
        ("6.17.2 overlong slash of three bytes", hex("e0 80 af"), 2),
        ("6.17.3 overlong slash of four bytes", hex("f0 80 80 af"), 2),
        ("6.18.1 highest overlong of two bytes", hex("c1 bf"), 1),
        ("6.18.2 highest overlong of three bytes", hex("e0 9f bf"), 2),
        ("6.18.3 highest overlong of four bytes", hex("f0 8f bf bf"), 2),
        ("6.19.1 overlong NUL of two bytes", hex("c0 80"), 1),
        ("6.19.2 overlong NUL of three bytes", hex("e0 80 80"), 2),
        ("6.19.3 overlong NUL of four bytes", hex("f0 80 80 80"), 2),
        ("6.20.1 first surrogate", hex("ed a0 80"), 2),
        ("6.20.4 low surrogate", hex("ed b0 80"), 2),
        ("6.20.7 last surrogate", hex("ed bf bf"), 2),
        ("6.21.1 a pair of surrogates", hex("ed a0 80 ed b0 80"), 2),
        ("6.21.8 the last pair", hex("ed af bf ed bf bf"), 2),
        ("wrong after words of ASCII", Array(repeating: 0x61, count: 61) + hex("e2 28 a1"), 63),
        ("wrong in the last byte of a word", Array(repeating: 0x61, count: 7) + hex("ff"), 8),
        ("wrong in the last byte of two words", Array(repeating: 0x61, count: 15) + hex("ff"), 16),
        ("wrong in the first byte of a word", Array(repeating: 0x61, count: 48) + hex("80") + Array(repeating: 0x61, count: 30), 49),
    ]

    /// Right so far, but not at the end: 6.6 and 6.14.
    static let unfinished: [[UInt8]] = [
        hex("c2"), hex("df"), hex("e0"), hex("e0 a0"), hex("ef bf"), hex("f0"), hex("f0 90"), hex("f0 90 80"), hex("f4 8f bf"),
        hex("61 62 63 e2 82"),
    ]

    @Test("good text comes through, however it is cut", arguments: good.map(\.bytes))
    func goodText(_ text: [UInt8]) throws {
        let bytes = DecoderTests.masked(.text, text)
        let outputs = try SplitVerifier.verify(bytes) { decode($0, role: .server) }
        #expect(outputs == [.event(.text(text))])
        #expect(text.withUnsafeBytes(UTF8Validator.isValid))
    }

    @Test("bad text is refused at its first impossible byte and not before", arguments: bad.indices)
    func badText(_ index: Int) throws {
        let (_, text, known) = Self.bad[index]
        let bytes = DecoderTests.masked(.text, text, fin: false)
        let outputs = try SplitVerifier.verify(bytes) { decode($0, role: .server) }
        #expect(outputs == [.fault(.textNotUTF8)])
        let header = bytes.count - text.count
        #expect(decode([Array(bytes[..<(header + known - 1)])], role: .server).isEmpty)
        #expect(decode([Array(bytes[..<(header + known)])], role: .server) == [.fault(.textNotUTF8)])
    }

    @Test("text that ends inside a character is refused at its end, and not before", arguments: unfinished)
    func unfinishedText(_ text: [UInt8]) throws {
        #expect(decode([DecoderTests.masked(.text, text, fin: false)], role: .server).isEmpty)
        #expect(decode([DecoderTests.masked(.text, text)], role: .server) == [.fault(.textNotUTF8)])
        let fragmented = DecoderTests.masked(.text, text, fin: false) + DecoderTests.masked(.continuation, [])
        let outputs = try SplitVerifier.verify(fragmented) { decode($0, role: .server) }
        #expect(outputs == [.fault(.textNotUTF8)])
    }

    @Test("text fragmented at every byte comes through", arguments: good.map(\.bytes))
    func fragmentedText(_ text: [UInt8]) {
        var bytes = DecoderTests.masked(.text, [], fin: false)
        for byte in text { bytes += DecoderTests.masked(.continuation, [byte], fin: false) }
        bytes += DecoderTests.masked(.continuation, [])
        #expect(decode([bytes], role: .server) == [.event(.text(text))])
    }

    @Test("a message's text is judged apart from the message before")
    func apart() {
        let bytes = DecoderTests.masked(.binary, hex("e2 82")) + DecoderTests.masked(.text, hex("61"))
        #expect(decode([bytes], role: .server) == [.event(.binary(hex("e2 82"))), .event(.text([0x61]))])
    }

    /// Every byte at which a range of the grammar begins or ends.
    private static let borders: [UInt8] = [
        0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4,
        0xF5, 0xFF,
    ]

    /// Whether some ending makes `bytes` UTF-8, by the standard library's word.
    private static func isPossible(_ bytes: [UInt8]) -> Bool {
        let endings: [[UInt8]] = [[], [0x80], [0x80, 0x80], [0x80, 0x80, 0x80], [0xA0, 0x80], [0x90, 0x80, 0x80]]
        return endings.contains { String(validating: bytes + $0, as: UTF8.self) != nil }
    }

    @Test("the validator agrees with the standard library on what is UTF-8 and on what can become it")
    func oracle() {
        var disagreements: [[UInt8]] = []
        func check(_ bytes: [UInt8]) {
            var validator = UTF8Validator()
            let isAccepted = bytes.withUnsafeBytes { validator.accept($0) }
            let isValid = String(validating: bytes, as: UTF8.self) != nil
            let isPossible = isValid || Self.isPossible(bytes)
            if isAccepted != isPossible || (isAccepted && validator.isComplete) != isValid { disagreements.append(bytes) }
        }
        for first in UInt8.min...UInt8.max {
            check([first])
            for second in UInt8.min...UInt8.max { check([first, second]) }
        }
        for first in Self.borders where first >= 0xDF {
            for second in Self.borders {
                for third in Self.borders {
                    check([first, second, third])
                    guard first >= 0xF0 else { continue }
                    for fourth in Self.borders { check([first, second, third, fourth]) }
                }
            }
        }
        #expect(disagreements.isEmpty)
    }
}

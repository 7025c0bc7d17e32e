import CBORCodec
import Foundation
import JSONCodec
import TestSupport
import Testing

@Suite struct RandomTests {
    // MARK: JSON

    @Test("random JSON is written as the RFC says, and reads back as what it was", arguments: 0..<16)
    func json(seed: UInt64) throws {
        var texts = Texts(random: SeededRandom(seed: seed))
        for _ in 0..<100 {
            let text = texts.value(depth: 5)
            var minified: [UInt8] = []
            try Array(text.utf8).withUnsafeBytes { try JSONText.minify($0, into: &minified) }
            let meaning = Reference(json: JSONSlice(minified[...]))
            let cbor = transcoded(Array(text.utf8), bytesOfData: false)
            #expect(cbor == meaning.cbor, "\(text)")
            #expect(try Reference(cbor: cbor) == meaning, "\(text)")

            let limits = CBORLimits(outputBytesMax: 1 << 20)
            if let expected = try? meaning.json(isTop: false) {
                let back = try decoded(cbor, limits: limits)
                #expect(String(decoding: back, as: UTF8.self) == expected, "\(text)")
                #expect(Reference(json: JSONSlice(back[...])) == meaning, "\(text)")
                var again: [UInt8] = []
                try back.withUnsafeBytes { try JSONText.minify($0, into: &again) }
                #expect(again == back)
            } else {
                // It has a number beyond the doubles.
                #expect(throws: CBORFault.self, "\(text)") { try decoded(cbor, limits: limits) }
            }
        }
    }

    @Test("Foundation reads the same from what comes back", arguments: 0..<4)
    func foundation(seed: UInt64) throws {
        var texts = Texts(random: SeededRandom(seed: 1000 + seed), isPlain: true)
        var compared = 0
        for _ in 0..<200 {
            let text = Array("[\(texts.value(depth: 4))]".utf8)
            let back = try decoded(transcoded(text), limits: CBORLimits(outputBytesMax: 1 << 20))
            #expect(try canonical(back) == canonical(text))
            compared += 1
        }
        #expect(compared == 200)
    }

    private func canonical(_ text: [UInt8]) throws -> Data {
        try JSONSerialization.data(withJSONObject: JSONSerialization.jsonObject(with: Data(text)), options: .sortedKeys)
    }

    @Test("a notification with bytes is a map with bytes, and comes back", arguments: 0..<8)
    func bytesOfData(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        for _ in 0..<200 {
            let bytes = (0..<Int.random(in: 0...300, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            let data = #""data":"\#(Reference.base64(bytes))""#
            let members = [#""encoding":"base64""#, data, #""skipped":2"#].shuffled(using: &random)
            let cbor = transcoded(Array("{\(members.joined(separator: ","))}".utf8))
            let json = members.filter { !$0.hasPrefix("\"encoding") }.map { $0 == data ? data + #","encoding":"base64""# : $0 }
            #expect(try Reference(cbor: cbor).json() == "{\(json.joined(separator: ","))}")
            #expect(String(decoding: try decoded(cbor), as: UTF8.self) == "{\(json.joined(separator: ","))}")
        }
    }

    // MARK: CBOR

    /// What the reference makes of some bytes; nil if it refuses them.
    private func reference(_ cbor: [UInt8]) -> String? {
        do { return try Reference(cbor: cbor).json() } catch { return nil }
    }

    /// - Returns: whether it is a command.
    @discardableResult
    private func check(_ cbor: [UInt8]) -> Bool {
        let expected = reference(cbor)
        let actual = (try? decoded(cbor, limits: CBORLimits(outputBytesMax: 1 << 20))).map { String(decoding: $0, as: UTF8.self) }
        #expect(actual == expected, "\(hex(cbor))")
        if let actual {
            var minified: [UInt8] = []
            #expect(throws: Never.self) { try Array(actual.utf8).withUnsafeBytes { try JSONText.minify($0, into: &minified) } }
            #expect(minified.elementsEqual(actual.utf8), "\(hex(cbor))")
        }
        return actual != nil
    }

    @Test("random bytes are answered as the RFC says and never trap", arguments: 0..<8)
    func garbage(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for _ in 0..<4000 {
            check((0..<Int.random(in: 0..<40, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) })
        }
    }

    @Test("all that begins with these two bytes is answered as the RFC says")
    func twoBytes() {
        for first in UInt8.min...UInt8.max {
            check([first])
            for second in UInt8.min...UInt8.max { check([first, second]) }
        }
    }

    @Test("generated CBOR in all its forms, and edits of it, are answered as the RFC says", arguments: 0..<16)
    func generated(seed: UInt64) {
        var items = Items(random: SeededRandom(seed: seed))
        var commands = 0
        for _ in 0..<300 {
            var cbor = items.item(depth: 4, isTop: true)
            if check(cbor) { commands += 1 }
            for _ in 0..<3 {
                for _ in 0..<Int.random(in: 1...3, using: &items.random) where !cbor.isEmpty {
                    let at = Int.random(in: 0..<cbor.count, using: &items.random)
                    switch Int.random(in: 0..<4, using: &items.random) {
                    case 0: cbor[at] = UInt8.random(in: 0...255, using: &items.random)
                    case 1: cbor[at] ^= 1 << UInt8.random(in: 0..<8, using: &items.random)
                    case 2: cbor.remove(at: at)
                    default: cbor.insert(UInt8.random(in: 0...255, using: &items.random), at: at)
                    }
                }
                check(cbor)
            }
        }
        #expect(commands > 100, "most are")
    }
}

/// Random JSON texts, with white space, escapes and numbers of all kinds.
private struct Texts {
    var random: SeededRandom
    /// Nothing that readers are known to differ about.
    var isPlain = false

    mutating func value(depth: Int) -> String {
        switch Int.random(in: 0..<(depth == 0 ? 7 : 10), using: &random) {
        case 0: return ["true", "false", "null"].randomElement(using: &random)!
        case 1, 2: return number()
        case 3...6: return string()
        case 7:
            let elements = (0..<count()).map { _ in white() + value(depth: depth - 1) + white() }
            return "[" + white() + elements.joined(separator: ",") + "]"
        default:
            let members = (0..<count()).map { place in
                let name = isPlain || Int.random(in: 0..<3, using: &random) > 0 ? "\"k\(place)\"" : string()
                return white() + name + white() + ":" + white() + value(depth: depth - 1) + white()
            }
            return "{" + white() + members.joined(separator: ",") + "}"
        }
    }

    private mutating func count() -> Int {
        Int.random(in: 0..<12, using: &random) == 0 ? Int.random(in: 20...30, using: &random) : Int.random(in: 0...4, using: &random)
    }

    private mutating func white() -> String { ["", "", "", "", "", " ", "\n\t "].randomElement(using: &random)! }

    private mutating func digits(_ range: ClosedRange<Int>) -> String {
        let first = String(Int.random(in: 1...9, using: &random))
        return first + (1..<Int.random(in: range, using: &random)).map { _ in String(Int.random(in: 0...9, using: &random)) }.joined()
    }

    private mutating func number() -> String {
        let sign = Bool.random(using: &random) ? "-" : ""
        switch Int.random(in: 0..<(isPlain ? 4 : 8), using: &random) {
        case 0: return sign + String(Int.random(in: 1...300, using: &random))
        case 1: return sign + digits(1...15)
        case 2: return sign + String(Int.random(in: 0...1000, using: &random)) + ".25"
        case 3: return sign + digits(1...8) + "." + digits(1...5)
        case 4: return sign + digits(1...50)
        case 5: return sign + "0." + digits(1...25) + "e" + String(Int.random(in: -30...30, using: &random))
        case 6:
            return sign + ["0", "0.0", "1e400", "1E-400", "18446744073709551615", "18446744073709551616"].randomElement(using: &random)!
        default: return sign + digits(1...400)
        }
    }

    private mutating func string() -> String {
        let pieces = [
            "a", "b", "plain text", " ", #"\""#, #"\\"#, #"\/"#, #"\n"#, #"\u0001"#, #"\u00e9"#, #"\ud83D\uDe00"#, "é", "€", "😀",
            "\u{2028}", "{", "]",
            ":", ",", #"\ud800"#, #"\udc00"#,
        ]
        let count = Int.random(in: 0..<20, using: &random) == 0 ? 100 : Int.random(in: 0...8, using: &random)
        return "\"" + (0..<count).map { _ in pieces.dropLast(isPlain ? 2 : 0).randomElement(using: &random)! }.joined() + "\""
    }
}

/// Random CBOR, mostly such that it is a command, in short and long, known and open lengths.
private struct Items {
    var random: SeededRandom

    private mutating func one(in number: Int) -> Bool { Int.random(in: 0..<number, using: &random) == 0 }

    /// A head that is as wide as it needs to be, or wider.
    private mutating func anyHead(_ major: UInt8, _ argument: UInt64) -> [UInt8] {
        let least = argument < 24 ? 0 : argument < 1 << 8 ? 1 : argument < 1 << 16 ? 2 : argument < 1 << 32 ? 4 : 8
        let widths = [0, 1, 2, 4, 8].filter { $0 >= least }
        return head(major, argument, width: one(in: 3) ? widths.randomElement(using: &random)! : widths[0])
    }

    private mutating func string(_ major: UInt8, _ pieces: [[UInt8]]) -> [UInt8] {
        if one(in: 3) { return [major << 5 | 31] + pieces.flatMap { anyHead(major, UInt64($0.count)) + $0 } + [0xff] }
        let whole = Array(pieces.joined())
        return anyHead(major, UInt64(whole.count)) + whole
    }

    private mutating func text() -> [UInt8] {
        let pieces = ["a", "b", "c", "\u{0}", "\"", "é", "😀", "longer text than eight bytes", "", "\n"]
        return string(3, (0..<Int.random(in: 0...4, using: &random)).map { _ in Array(pieces.randomElement(using: &random)!.utf8) })
    }

    private mutating func bytes() -> [UInt8] {
        string(
            2,
            (0..<Int.random(in: 0...5, using: &random)).map { _ in
                (0..<Int.random(in: 0...9, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            })
    }

    private mutating func number() -> UInt64 {
        UInt64.random(in: 0...UInt64.max, using: &random) >> UInt64.random(in: 0..<64, using: &random)
    }

    mutating func item(depth: Int, isTop: Bool = false) -> [UInt8] {
        if one(in: 12) { return [0xd9, 0xd9, 0xf7] + item(depth: depth, isTop: isTop) }
        if isTop, !one(in: 4) { return map(depth: depth, isTop: true) }
        switch Int.random(in: 0..<(depth == 0 ? 7 : 9), using: &random) {
        case 0: return anyHead(0, number())
        case 1: return anyHead(1, number())
        case 2: return [[0xf4], [0xf5], [0xf6]].randomElement(using: &random)!
        case 3: return [one(in: 2) ? 0xc2 : 0xc3] + bytes()
        case 4:
            if one(in: 2) { return [0xf9, UInt8.random(in: 0..<0x7c, using: &random), UInt8.random(in: 0...255, using: &random)] }
            return head(7, Double.random(in: -1e6...1e6, using: &random).bitPattern, width: 8)
        case 5, 6: return text()
        case 7:
            let elements = (0..<Int.random(in: 0...4, using: &random)).map { _ in item(depth: depth - 1) }
            return one(in: 2) ? [0x9f] + Array(elements.joined()) + [0xff] : anyHead(4, UInt64(elements.count)) + Array(elements.joined())
        default: return map(depth: depth, isTop: false)
        }
    }

    private mutating func map(depth: Int, isTop: Bool) -> [UInt8] {
        var pairs: [[UInt8]] = (0..<Int.random(in: 0...4, using: &random)).map { place in
            (one(in: 12) ? text() : string(3, [[UInt8(ascii: "k")], [0x30 + UInt8(place)]])) + item(depth: max(0, depth - 1))
        }
        if isTop, one(in: 2) {
            pairs.append(string(3, [Array("da".utf8), Array("ta".utf8)]) + bytes())
            if one(in: 6) { pairs.append(string(3, [Array("encoding".utf8)]) + text()) }
            pairs.shuffle(using: &random)
        }
        return one(in: 2) ? [0xbf] + Array(pairs.joined()) + [0xff] : anyHead(5, UInt64(pairs.count)) + Array(pairs.joined())
    }
}

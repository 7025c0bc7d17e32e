import Foundation
import JSONCodec
import TestSupport
import Testing

@Suite struct RandomTests {
    /// Fixtures as seeds for edits: all that are short.
    private static let seeds: [[UInt8]] = ["accept", "reject"].flatMap { folder in
        Fixtures.names(folder).compactMap { try? Fixtures.bytes(folder, $0 + ".json") }.filter { $0.count < 200 && !$0.isEmpty }
    }

    private static let alphabet = Array("{}[]\",:\\u0123e+-.truefalsnd89aC \n\u{e9}\u{1F600}".utf8) + [0x00, 0x1f, 0x80, 0xff]

    @Test("edited texts are answered as the grammar says, never trap, and can be walked", arguments: 0..<24)
    func edited(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for _ in 0..<600 {
            var bytes = Self.seeds.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...5, using: &random) {
                let at = Int.random(in: 0...bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0 where at < bytes.count: bytes[at] = Self.alphabet.randomElement(using: &random)!
                case 1 where at < bytes.count: bytes.remove(at: at)
                case 2: bytes.insert(contentsOf: Self.seeds.randomElement(using: &random)!, at: at)
                default: bytes.insert(Self.alphabet.randomElement(using: &random)!, at: at)
                }
            }
            check(bytes)
        }
    }

    @Test("random bytes are answered as the grammar says and never trap", arguments: 0..<8)
    func garbage(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for _ in 0..<2000 {
            let isText = Bool.random(using: &random)
            check(
                (0..<Int.random(in: 0..<40, using: &random)).map { _ in
                    isText ? Self.alphabet.randomElement(using: &random)! : UInt8.random(in: 0...255, using: &random)
                })
        }
    }

    private func check(_ bytes: [UInt8]) {
        let minified = try? minifyBytes(bytes)
        let reference = Reference.minify(bytes)
        #expect(minified.map { String(decoding: $0, as: UTF8.self) } == reference, "\(bytes)")
        if let minified {
            #expect(try! minifyBytes(minified) == minified)
            #expect(rewritten(JSONSlice(minified[...])) == minified, "\(bytes)")
        }
    }

    /// Writes a text again from a walk over all of it.
    private func rewritten(_ value: JSONSlice) -> [UInt8] {
        switch value.kind {
        case .array: Array(("[".utf8)) + Array(value.elements.map(rewritten).joined(separator: [UInt8(ascii: ",")])) + Array("]".utf8)
        case .object:
            Array("{".utf8) + Array(rawMembers(value).joined(separator: [UInt8(ascii: ",")])) + Array("}".utf8)
        case .string, .number, .bool, .null: Array(value.bytes)
        }
    }

    /// Members with their names as they stand in the text, which lies between the end of one value and the start of the next.
    private func rawMembers(_ value: JSONSlice) -> [[UInt8]] {
        var at = value.bytes.startIndex + 1
        return value.members.map { name, member in
            let rawName = value.bytes[at..<member.bytes.startIndex - 1]
            #expect(JSONSlice(rawName).string() == name)
            at = member.bytes.endIndex + 1
            return Array(rawName) + [UInt8(ascii: ":")] + rewritten(member)
        }
    }

    @Test("a generated value is written by Foundation, minified by us, and read by Foundation as the same", arguments: 0..<10)
    func generated(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        for _ in 0..<50 {
            let value = generate(depth: 5, &random)
            let options: JSONSerialization.WritingOptions = [.fragmentsAllowed, Bool.random(using: &random) ? .prettyPrinted : .sortedKeys]
            let text = Array(try JSONSerialization.data(withJSONObject: value, options: options))
            let minified = try minifyBytes(text)
            #expect(try canonical(minified) == (try canonical(text)))
            #expect(minified.count <= text.count)
        }
    }

    private func canonical(_ text: [UInt8]) throws -> Data {
        try JSONSerialization.data(withJSONObject: try #require(foundationValue(text)), options: [.sortedKeys, .fragmentsAllowed])
    }

    private func generate(depth: Int, _ random: inout SeededRandom) -> Any {
        switch Int.random(in: 0..<(depth == 0 ? 5 : 8), using: &random) {
        case 0: return NSNull()
        case 1: return NSNumber(value: Bool.random(using: &random))
        case 2: return NSNumber(value: Int.random(in: .min ... .max, using: &random))
        case 3: return NSNumber(value: Double.random(in: -1e9...1e9, using: &random))
        case 4: return text(&random) as NSString
        case 5, 6:
            return (0..<Int.random(in: 0...4, using: &random)).map { _ in generate(depth: depth - 1, &random) } as NSArray
        default:
            var members: [String: Any] = [:]
            for _ in 0..<Int.random(in: 0...4, using: &random) { members[text(&random)] = generate(depth: depth - 1, &random) }
            return members as NSDictionary
        }
    }

    private func text(_ random: inout SeededRandom) -> String {
        let scalars: [Unicode.Scalar] = ["a", "b", " ", "\"", "\\", "/", "\n", "\u{1}", "é", "€", "😀", "{", "]", ","]
        var text = ""
        for _ in 0..<Int.random(in: 0...20, using: &random) { text.unicodeScalars.append(scalars.randomElement(using: &random)!) }
        return text
    }

    /// Where Foundation is known to read otherwise than the RFC's grammar: it guesses UTF-16 and UTF-32 from zero bytes and drops a byte
    /// order mark; it takes a comma before an end; it refuses lone surrogates and numbers beyond a Double.
    @Test("Foundation accepts and refuses the same fixtures", arguments: ["accept", "reject"])
    func foundation(_ folder: String) throws {
        let knownToDiffer: Set = [
            "number-hundreds-of-digits", "number-huge-exponent", "number-tiny-exponent", "string-lone-high-surrogate",
            "string-lone-low-surrogate",
            "string-high-surrogate-then-escape", "string-high-surrogate-then-not-low", "string-two-high-surrogates",
            "string-surrogates-swapped", "byte-order-mark", "byte-order-mark-only", "utf-16-little", "utf-16-little-no-mark",
            "utf-16-big-no-mark", "utf-32-little", "nul-behind", "depth-65", "depth-65-objects",
            "array-comma-last", "array-inner-comma", "object-comma-last",
        ]
        for name in Fixtures.names(folder) where !knownToDiffer.contains(name) {
            #expect((foundationValue(try Fixtures.bytes(folder, name + ".json")) != nil) == (folder == "accept"), Comment(rawValue: name))
        }
    }
}

import JSONCodec
import Testing

@Suite struct GoldenTests {
    @Test("a text that is JSON comes out without white space between tokens and otherwise as it was", arguments: Fixtures.names("accept"))
    func accepted(_ name: String) throws {
        let text = try Fixtures.bytes("accept", name + ".json")
        let minified = (try? Fixtures.bytes("accept", name + ".min")) ?? text
        #expect(try minifyBytes(text) == minified)
        #expect(try minifyBytes(minified) == minified)
        #expect(Reference.minify(text) == String(decoding: minified, as: UTF8.self))
        #expect(!minified.contains(0x0a) && !minified.contains(0x0d))
    }

    @Test("a text that is not JSON is refused, and nothing of it is left behind", arguments: Fixtures.names("reject"))
    func refused(_ name: String) throws {
        let text = try Fixtures.bytes("reject", name + ".json")
        #expect(Reference.minify(text) == nil)
        var out: [UInt8] = [1, 2, 3]
        #expect(throws: JSONFault.self) { try text.withUnsafeBytes { try JSONText.minify($0, into: &out) } }
        #expect(out == [1, 2, 3])
    }

    @Test("every beginning of a text that is JSON either is a whole number's or is refused", arguments: Fixtures.names("accept"))
    func cutShort(_ name: String) throws {
        let text = try Fixtures.bytes("accept", name + ".json")
        for count in 0..<min(text.count, 300) {
            let cut = Array(text[..<count])
            #expect((try? minifyBytes(cut)).map { String(decoding: $0, as: UTF8.self) } == Reference.minify(cut), "cut at \(count)")
        }
    }

    @Test("the fixtures are found")
    func found() {
        #expect(Fixtures.names("accept").count > 80)
        #expect(Fixtures.names("reject").count > 180)
    }
}

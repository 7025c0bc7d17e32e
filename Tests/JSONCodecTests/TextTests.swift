import JSONCodec
import Testing

@Suite struct TextTests {
    @Test(
        "a fault says where and what",
        arguments: [
            ("[1,\n  ]", "at byte 6: a value expected"), ("{\"a\" 1}", "at byte 5: \":\" expected"),
            ("{1:2}", "at byte 1: a name in quotes expected"),
            ("[1 2]", "at byte 3: \",\" or \"]\" expected"), ("{\"a\":1", "at byte 6: \",\" or \"}\" expected"),
            ("1 x", "at byte 2: the end expected"),
            ("\"abc", "at byte 4: the end of the string expected"), ("\"\\q\"", "at byte 2: an escape expected"),
            ("-", "at byte 1: a digit expected"),
            ("\"\\u00g0\"", "at byte 5: four hexadecimal digits expected"),
            ("[\"123456789\t\"]", "at byte 11: an escaped control character expected"),
            ("nul", "at byte 0: a value expected"), ("", "at byte 0: a value expected"),
        ])
    func words(_ text: String, _ description: String) {
        do throws(JSONFault) {
            _ = try minify(text)
            Issue.record("accepted")
        } catch {
            #expect(error.description == description)
        }
    }

    @Test("a fault of UTF-8 names the character's first byte", arguments: 0..<20)
    func offsetUTF8(_ before: Int) {
        let text = [0x22] + [UInt8](repeating: 0x61, count: before) + [0xe2, 0x82, 0x22]
        #expect(throws: JSONFault.invalidUTF8(offset: before + 1)) { try minifyBytes(text) }
    }

    @Test("depth is bounded, exactly", arguments: [0, 1, 2, 63, 64, 65, 127, 128, 129, 200, 1000])
    func depth(_ depthMax: Int) throws {
        func nested(_ depth: Int) -> [UInt8] {
            // Objects and arrays in turns that are not a power of two.
            var text = "1"
            for level in 0..<depth { text = level % 3 == 0 ? "{\"a\":\(text)}" : level % 7 == 0 ? "[\(text),{}]" : "[[],\(text)]" }
            return Array(text.utf8)
        }
        if depthMax > 0 {
            // The innermost empty array counts as a level too, so one more is asked for.
            #expect(try minifyBytes(nested(depthMax - 1), depthMax: depthMax) == nested(depthMax - 1))
        }
        #expect(try minifyBytes(Array("1".utf8), depthMax: depthMax).count == 1)
        if depthMax > 0 {
            let deepest = Array("[".utf8) * depthMax + Array("]".utf8) * depthMax
            #expect(try minifyBytes(deepest, depthMax: depthMax) == deepest)
        }
        #expect(throws: JSONFault.tooDeep(offset: depthMax)) { try minifyBytes(Array("[".utf8) * (depthMax + 1), depthMax: depthMax) }
        #expect(throws: JSONFault.tooDeep(offset: depthMax)) { try minifyBytes(Array("[".utf8) * 1_000_000, depthMax: depthMax) }
    }

    @Test("what came before in the output stays")
    func appends() throws {
        var out = Array("data: ".utf8)
        try Array(" { } ".utf8).withUnsafeBytes { try JSONText.minify($0, into: &out) }
        try Array("[ 1 ]".utf8).withUnsafeBytes { try JSONText.minify($0, into: &out) }
        #expect(String(decoding: out, as: UTF8.self) == "data: {}[1]")
    }

    @Test("each byte is where it should be, in whichever place of a word it stands")
    func places() throws {
        for filler in 0..<18 {
            let front = String(repeating: "x", count: filler)
            for special in ["\\n", "\\\"", "é", "€", "😀", "\\u0041", "\u{7f}", " "] {
                let text = "[\"\(front)\(special)yyyyyyyyyyyyyyyyy\"]"
                #expect(try minify(text) == text)
                #expect(try minify(" " + text.dropLast() + String(repeating: " ", count: filler) + "]") == text)
            }
            for byte in [UInt8](0..<0x20) + [0x80, 0xc0, 0xff] {
                let text = Array("[\"\(front)".utf8) + [byte] + Array("yyyyyyyyyyyyyyyyy\"]".utf8)
                #expect(throws: JSONFault.self) { try minifyBytes(text) }
            }
        }
    }

    @Test("a string that we write reads back the same, here and by Foundation")
    func strings() throws {
        var texts = ["", "a\"b\\c/d", "é😀\u{2028}\u{7f}", String(repeating: "x", count: 100), "\\\\\\", "\"\"\"\"\"\"\"\"\"\""]
        for value in 0..<0x20 as Range<UInt8> {
            for filler in 0..<10 { texts.append(String(repeating: "a", count: filler) + String(Unicode.Scalar(value)) + "bbbbbbbbb") }
        }
        for text in texts {
            let out = quoted(text)
            #expect(try minifyBytes(out) == out)
            #expect(JSONSlice(out[...]).string() == text)
            #expect(foundationValue(out) as? String == text)
        }
        #expect(String(decoding: quoted("\u{8}\u{c}\n\r\t\u{0}\u{1f}é/"), as: UTF8.self) == #""\b\f\n\r\t\u0000\u001fé/""#)
    }

    @Test("whole numbers are written as Swift writes them")
    func integers() {
        func written(_ number: some FixedWidthInteger) -> String {
            var out: [UInt8] = []
            JSONText.appendInteger(number, into: &out)
            return String(decoding: out, as: UTF8.self)
        }
        for number in [0, 1, -1, 9, 10, 99, 100, -100, Int.max, Int.min] { #expect(written(number) == String(number)) }
        #expect(written(UInt64.max) == String(UInt64.max))
        #expect(written(Int8.min) == "-128")
        #expect(written(Int128.min) == String(Int128.min))
        #expect(written(UInt128.max) == String(UInt128.max))
    }
}

private func * (bytes: [UInt8], count: Int) -> [UInt8] { Array([[UInt8]](repeating: bytes, count: count).joined()) }

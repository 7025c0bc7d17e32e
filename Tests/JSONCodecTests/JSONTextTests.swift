import Foundation
import JSONCodec
import TestSupport
import Testing

private func minify(_ bytes: [UInt8], depthMax: Int = 64) throws(JSONFault) -> String {
    var out: [UInt8] = []
    var fault: JSONFault?
    bytes.withUnsafeBytes { bytes in
        do throws(JSONFault) { try JSONText.minify(bytes, limits: JSONLimits(depthMax: depthMax), into: &out) } catch { fault = error }
    }
    if let fault { throw fault }
    return String(decoding: out, as: UTF8.self)
}

private func minify(_ text: String) throws(JSONFault) -> String { try minify(Array(text.utf8)) }

@Suite struct JSONTextTests {
    @Test("valid texts come out as they are, without white space between tokens", arguments: [
        ("1", "1"), (" [ 1 , 2 ] ", "[1,2]"), ("{ \"a\" : { } , \"b\" : [ ] }", "{\"a\":{},\"b\":[]}"), ("\"a b\\n\"", "\"a b\\n\""),
        ("\r\n{\t\"x\":\n1.50e+10}\n", "{\"x\":1.50e+10}"), ("-0", "-0"), ("1234567890123456789012345678901234567890", "1234567890123456789012345678901234567890"),
        ("\"\\ud800\"", "\"\\ud800\""), ("\"é😀\"", "\"é😀\""), ("[[[]],{\"a\":[null,true,false]}]", "[[[]],{\"a\":[null,true,false]}]"),
        ("{\"a\":1,\"a\":2}", "{\"a\":1,\"a\":2}"), ("\"\u{7f}\"", "\"\u{7f}\""), ("\"a long text that is more than eight bytes \\\" long\"", "\"a long text that is more than eight bytes \\\" long\""),
    ])
    func accepted(_ text: String, _ minified: String) throws {
        #expect(try minify(text) == minified)
    }

    @Test("what RFC 8259 does not allow is refused", arguments: [
        "", " ", "[", "]", "{", "}", "[1", "[1,", "[1,]", "[,1]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{'a':1}", "01", "1.", ".1", "+1",
        "-", "1e", "1e+", "0x1", "NaN", "Infinity", "nul", "truE", "\"", "\"a", "\"\\x\"", "\"\\u12\"", "\"\\u123g\"", "\"a\nb\"", "\"\t\"",
        "1 2", "[1]]", "{}{}", "[1 2]", "{\"a\" 1}", "// c\n1", "\u{feff}1", "\u{a0}1", "[\"a\u{0}\"]", "\"abcdefgh\u{1}\"", "\"\\",
    ])
    func refused(_ text: String) {
        #expect(throws: JSONFault.self) { try minify(text) }
    }

    @Test("what is not UTF-8 is refused", arguments: [
        [0x80], [0xc0, 0x80], [0xc1, 0xbf], [0xe0, 0x80, 0x80], [0xed, 0xa0, 0x80], [0xf0, 0x80, 0x80, 0x80], [0xf4, 0x90, 0x80, 0x80],
        [0xf5, 0x80, 0x80, 0x80], [0xff], [0xc3], [0xe2, 0x82], [0xf0, 0x9f, 0x98],
    ] as [[UInt8]])
    func notUTF8(_ bytes: [UInt8]) {
        #expect(throws: JSONFault.self) { try minify([0x22] + bytes + [0x22]) }
    }

    @Test("depth is bounded, exactly")
    func depth() throws {
        func nested(_ depth: Int) -> [UInt8] { Array(repeating: UInt8(ascii: "["), count: depth) + Array(repeating: UInt8(ascii: "]"), count: depth) }
        _ = try minify(nested(10), depthMax: 10)
        #expect(throws: JSONFault.tooDeep(offset: 10)) { try minify(nested(11), depthMax: 10) }
        #expect(throws: JSONFault.tooDeep(offset: 64)) { try minify(nested(1_000_000)) }
    }

    @Test("a string that we write reads back the same, here and by Foundation")
    func strings() throws {
        for text in ["", "a\"b\\c/d", "\u{0}\u{1f}\u{8}\n\r\t", "é😀\u{2028}", String(repeating: "x", count: 100)] {
            var out: [UInt8] = []
            JSONText.appendString(text, into: &out)
            #expect(try minify(out) == String(decoding: out, as: UTF8.self))
            #expect(JSONSlice(out[...]).string() == text)
            #expect(try JSONSerialization.jsonObject(with: Data(out), options: .fragmentsAllowed) as? String == text)
        }
    }

    @Test("a slice walks over members and elements of checked text")
    func slices() throws {
        let text = try minify(#"{"a":[1,"x,]}",{"b":null}],"n":-12,"t":true,"e":"\u00e9\ud83d\ude00\n","a":2.5,"":{}}"#)
        let value = JSONSlice(Array(text.utf8)[...])
        #expect(value.memberList.map(\.name) == ["a", "n", "t", "e", "a", ""])
        let elements = value.memberList[0].value.elementList
        #expect(elements.map(\.kind) == [.number, .string, .object])
        #expect(elements[1].string() == "x,]}")
        #expect(value["n"]?.integer() == -12)
        #expect(value["t"]?.bool() == true)
        #expect(value["e"]?.string() == "é😀\n")
        #expect(value["a"]?.double() == 2.5)
        #expect(value["a"]?.integer() == nil)
        #expect(value[""]?.memberList.isEmpty == true)
        #expect(value["zz"] == nil)
        #expect(JSONSlice(Array(#""\ud800x""#.utf8)[...]).string() == "\u{fffd}x")
    }

    @Test("lines of NDJSON are found, blank ones left out")
    func lines() {
        let text = Array("{}\n\r\n \n1\r\n\n[2]".utf8)
        let lines = text.withUnsafeBytes { NDJSON.lines($0) }
        #expect(lines.map { String(decoding: text[$0], as: UTF8.self) } == ["{}", "1", "[2]"])
    }

    @Test("random edits of valid texts never trap, and what is accepted Foundation accepts too", arguments: 0..<20)
    func random(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let alphabet = Array("{}[]\",:\\u0123e+-.truefalsn \n\u{e9}".utf8)
        for _ in 0..<500 {
            var bytes = Array(#"{"a":[1,-2.5e3,"x\u00e9\n",{"b":null}],"c":true}"#.utf8)
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[at] = alphabet.randomElement(using: &random)!
                case 1: bytes.remove(at: at)
                default: bytes.insert(alphabet.randomElement(using: &random)!, at: at)
                }
            }
            guard let minified = try? minify(bytes) else { continue }
            #expect(try! minify(minified) == minified)
            _ = JSONSlice(Array(minified.utf8)[...]).memberList
            let text = String(decoding: bytes, as: UTF8.self)
            #expect((try? JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)) != nil || text.contains("\\ud"), "\(text)")
        }
    }
}

import JSONCodec
import TestSupport
import Testing

@Suite struct SliceTests {
    @Test("a slice walks over members and elements")
    func walks() throws {
        let value = try slice(#"{"a":[1,"x,]}\"",{"b":null},[],-2.5e3],"n":-12,"t":true,"e":"\u00e9\ud83d\ude00\n","a":2.5,"":{}}"#)
        #expect(value.memberList.map(\.name) == ["a", "n", "t", "e", "a", ""])
        let elements = value.memberList[0].value.elementList
        #expect(elements.map(\.kind) == [.number, .string, .object, .array, .number])
        #expect(elements.map { String(decoding: $0.bytes, as: UTF8.self) } == ["1", #""x,]}\"""#, #"{"b":null}"#, "[]", "-2.5e3"])
        #expect(elements[1].string() == "x,]}\"")
        #expect(elements[2]["b"]?.kind == .null)
        #expect(value["n"]?.integer() == -12)
        #expect(value["t"]?.bool() == true)
        #expect(value["e"]?.string() == "é😀\n")
        #expect(value["a"]?.double() == 2.5, "the last one counts")
        #expect(value["a"]?.integer() == nil)
        #expect(value[""]?.memberList.isEmpty == true)
        #expect(value["zz"] == nil)
    }

    @Test("the forms of walking agree, and stop where the body throws")
    func forms() throws {
        struct Enough: Error {}
        let value = try slice(#"{"a":1,"b":[1,2,3],"c":{}}"#)
        var names: [String] = []
        value.forEachMember { name, _ in names.append(name) }
        #expect(names == ["a", "b", "c"])
        var numbers: [Int64] = []
        #expect(throws: Enough.self) {
            try value["b"]!.forEachElement { element throws(Enough) in
                numbers.append(element.integer()!)
                if numbers.count == 2 { throw Enough() }
            }
        }
        #expect(numbers == [1, 2])
        #expect(value.members.first { $0.name == "c" }?.value.kind == .object)
        #expect(value["b"]!.elements.contains { $0.integer() == 3 })
    }

    @Test("asking for another kind gives nothing")
    func otherKinds() throws {
        for text in ["null", "true", "1", "\"1\"", "[1]", "{\"a\":1}"] {
            let value = try slice(text)
            #expect((value.string() != nil) == (value.kind == .string))
            #expect((value.integer() != nil) == (value.kind == .number))
            #expect((value.unsignedInteger() != nil) == (value.kind == .number))
            #expect((value.double() != nil) == (value.kind == .number))
            #expect((value.bool() != nil) == (value.kind == .bool))
            #expect(value.elementList.isEmpty == (value.kind != .array))
            #expect(value.memberList.isEmpty == (value.kind != .object))
            #expect((value["a"] != nil) == (value.kind == .object))
        }
        #expect(try slice("false").bool() == false)
    }

    @Test(
        "whole numbers are exact or not given",
        arguments: [
            ("0", 0, 0), ("-0", 0, 0), ("-1", -1, nil), ("9223372036854775807", Int64.max, 9_223_372_036_854_775_807),
            ("9223372036854775808", nil, 9_223_372_036_854_775_808), ("-9223372036854775808", Int64.min, nil),
            ("-9223372036854775809", nil, nil),
            ("18446744073709551615", nil, UInt64.max), ("18446744073709551616", nil, nil), ("99999999999999999999999", nil, nil),
            ("1.0", nil, nil), ("1e3", nil, nil), ("1E0", nil, nil),
        ] as [(String, Int64?, UInt64?)])
    func integers(_ text: String, _ signed: Int64?, _ unsigned: UInt64?) throws {
        #expect(try slice(text).integer() == signed)
        #expect(try slice(text).unsignedInteger() == unsigned)
    }

    @Test("a number beyond a Double is not given, and is still kept as it was sent")
    func beyondDouble() throws {
        #expect(try slice("1e400").double() == nil)
        #expect(try slice("-1e400").double() == nil)
        #expect(try slice("1e-400").double() == 0)
        #expect(try slice("0.1").double() == 0.1)
        #expect(String(decoding: try slice("1e400").bytes, as: UTF8.self) == "1e400")
    }

    @Test(
        "lone surrogates become U+FFFD, pairs their character",
        arguments: [
            (#""\ud800""#, "\u{fffd}"), (#""\udc00x""#, "\u{fffd}x"), (#""\ud800\ud800\udc00""#, "\u{fffd}\u{10000}"),
            (#""\ud83d\ude00""#, "😀"),
            (#""\uD83D\u0041""#, "\u{fffd}A"), (#""\ud800\n""#, "\u{fffd}\n"), (#""\udbff\udfff""#, "\u{10ffff}"),
            (#""\udc00\ud800""#, "\u{fffd}\u{fffd}"),
            (#""\ud800\\udc00""#, "\u{fffd}\\udc00"), (#""a\u00e9€\/\b\f""#, "aé€/\u{8}\u{c}"),
        ])
    func surrogates(_ text: String, _ expected: String) throws {
        #expect(try slice(text).string() == expected)
    }

    @Test("names are compared as bytes, however they are escaped")
    func names() throws {
        let value = try slice(#"{"\u00e9":1,"e\u0301":2,"a\"b":3,"a":4,"\u0061\u0061":5}"#)
        #expect(value["\u{e9}"]?.integer() == 1)
        #expect(value["e\u{301}"]?.integer() == 2)
        #expect(value["a\"b"]?.integer() == 3)
        #expect(value["a"]?.integer() == 4)
        #expect(value["aa"]?.integer() == 5)
        #expect(value["a\\"] == nil)
        #expect(try slice(#"{"a":1,"\u0061":2}"#)["a"]?.integer() == 2)
    }

    @Test("a slice of a slice counts from its own start")
    func offsets() throws {
        let bytes = Array(#"xxxx[{"a":[1,{"b":"c"}]}]xx"#.utf8)
        let value = JSONSlice(bytes[4..<bytes.count - 2])
        #expect(value.elementList[0]["a"]?.elementList[1]["b"]?.string() == "c")
    }

    @Test(
        "lines of NDJSON are found, blank ones left out",
        arguments: [
            ("", []), ("\n\n\r\n \t\n", []), ("{}\n\r\n \n1\r\n\n[2]", ["{}", "1", "[2]"]), ("1", ["1"]), ("1\r", ["1"]), ("1\n", ["1"]),
            ("a long line of text\nanother long line of text\r\n", ["a long line of text", "another long line of text"]),
            ("1\r2\n", ["1\r2"]),
        ])
    func lines(_ text: String, _ expected: [String]) {
        let bytes = Array(text.utf8)
        let lines = bytes.withUnsafeBytes { NDJSON.lines($0) }
        #expect(lines.map { String(decoding: bytes[$0], as: UTF8.self) } == expected)
        for linesMax in 0...expected.count {
            #expect(bytes.withUnsafeBytes { NDJSON.lines($0, linesMax: linesMax) }.count == linesMax)
        }
    }
}

import CBORCodec
import Testing

@Suite struct EncoderTests {
    @Test(
        "strings are written with their escapes resolved",
        arguments: [
            Case(#""\b\f\n\r\t\/\"\\""#, "68080c0a0d092f225c"), Case(#""\u0000a\u001f""#, "6300611f"),
            Case(#""\u00e9\u20AC""#, "65c3a9e282ac"),
            Case(#""\ud83d\uDE00!""#, "65f09f988021"), Case(#""\ud800""#, "63efbfbd"), Case(#""\udc00x""#, "64efbfbd78"),
            Case(#""\ud800\ud800\udc00""#, "67efbfbdf0908080"), Case(#""\ud800\n""#, "64efbfbd0a"), Case(#""\udbff\udfff""#, "64f48fbfbf"),
            Case(#""\ud800\\udc00""#, "69efbfbd5c7564633030"),
        ])
    func escapes(_ example: Case) { #expect(transcoded(example.json) == example.cbor) }

    @Test("lengths are as short as they can be", arguments: [0, 1, 23, 24, 255, 256, 65535, 65536, 70000])
    func lengths(_ count: Int) {
        let width = count < 24 ? 0 : count < 256 ? 1 : count < 65536 ? 2 : 4
        let letters = String(repeating: "x", count: count)
        #expect(transcoded(Array("\"\(letters)\"".utf8)) == head(3, UInt64(count), width: width) + Array(letters.utf8))
        let escaped = String(repeating: #"\n"#, count: count)
        #expect(
            transcoded(Array("\"\(escaped)\"".utf8)) == head(3, UInt64(count), width: width) + [UInt8](repeating: 0x0a, count: count))

        let array = "[" + Array(repeating: "[7]", count: count).joined(separator: ",") + "]"
        #expect(
            transcoded(Array(array.utf8)) == head(4, UInt64(count), width: width) + Array(repeatElement([0x81, 7], count: count).joined()))

        let object = "{" + (0..<count).map { "\"\($0)\":0" }.joined(separator: ",") + "}"
        let pairs = (0..<count).map { text("\($0)") + [0] }
        #expect(transcoded(Array(object.utf8)) == head(5, UInt64(count), width: width) + Array(pairs.joined()))
    }

    @Test("long arrays and objects inside each other have their lengths in place")
    func nestedLengths() {
        let inner = "[" + Array(repeating: "1", count: 300).joined(separator: ",") + "]"
        let middle = "{" + (0..<30).map { "\"k\($0)\":\(inner)" }.joined(separator: ",") + "}"
        let outer = "[" + Array(repeating: middle, count: 25).joined(separator: ",") + ",2]"
        let innerBytes = head(4, 300, width: 2) + [UInt8](repeating: 1, count: 300)
        let middleBytes = head(5, 30, width: 1) + Array((0..<30).map { text("k\($0)") + innerBytes }.joined())
        let outerBytes = head(4, 26, width: 1) + Array(repeatElement(middleBytes, count: 25).joined()) + [2]
        #expect(transcoded(Array(outer.utf8)) == outerBytes)
    }

    @Test(
        "whole numbers are exact, of 64 bits and of up to 128 bytes",
        arguments: [
            Case("255", "18ff"), Case("256", "190100"), Case("65535", "19ffff"), Case("65536", "1a00010000"),
            Case("4294967295", "1affffffff"),
            Case("4294967296", "1b0000000100000000"), Case("9223372036854775807", "1b7fffffffffffffff"), Case("-24", "37"),
            Case("-25", "3818"),
            Case("-256", "38ff"), Case("-257", "390100"), Case("-4294967296", "3affffffff"), Case("-4294967297", "3b0000000100000000"),
            Case("-9223372036854775808", "3b7fffffffffffffff"), Case("999999999999999999", "1b0de0b6b3a763ffff"),
            Case("1000000000000000000", "1b0de0b6b3a7640000"), Case("-1000000000000000000", "3b0de0b6b3a763ffff"),
            Case("9999999999999999999", "1b8ac7230489e7ffff"), Case("10000000000000000000", "1b8ac7230489e80000"),
            Case("-10000000000000000000", "3b8ac7230489e7ffff"), Case("-0", "00"),
            Case("100000000000000000000", "c249056bc75e2d63100000"), Case("-100000000000000000000", "c349056bc75e2d630fffff"),
        ])
    func wholeNumbers(_ example: Case) { #expect(transcoded(example.json) == example.cbor) }

    @Test("whole numbers end at 128 bytes; beyond they are infinities, as beyond the doubles")
    func largestBignum() throws {
        // 2^1024 as decimal digits.
        var digits: [Int] = [1]
        for _ in 0..<1024 {
            var carry = 0
            for place in digits.indices {
                let doubled = 2 * digits[place] + carry
                digits[place] = doubled % 10
                carry = doubled / 10
            }
            if carry > 0 { digits.append(carry) }
        }
        let power = digits.reversed().map(String.init).joined()
        #expect(power.count == 309 && power.hasSuffix("6"))
        let largest = power.dropLast() + "5"
        let ones = "5880" + String(repeating: "ff", count: 128)
        #expect(transcoded(String(largest)) == "c2" + ones)
        #expect(transcoded("-" + power) == "c3" + ones)
        #expect(try decoded("c2" + ones) == largest)
        #expect(try decoded("c3" + ones) == "-" + power)
        #expect(transcoded(power) == "f97c00")
        #expect(transcoded("-" + power.dropLast() + "7") == "f9fc00")
        #expect(transcoded("1" + String(repeating: "0", count: 100_000)) == "f97c00")
    }

    @Test(
        "numbers with fraction or exponent are the shortest float",
        arguments: [
            Case("1e0", "f93c00"), Case("1E+2", "f95640"), Case("15e-1", "f93e00"), Case("0e99999999999999999999", "f90000"),
            Case("-0.0e-5", "f98000"), Case("65520.0", "fa477ff000"), Case("5.960464477539063e-8", "f90001"),
            Case("2.98023223876953125e-8", "fa33000000"),
            Case("1e400", "f97c00"), Case("-1e400", "f9fc00"), Case("1e-400", "f90000"), Case("-1e-400", "f98000"),
            Case("1e99999999999999999999", "f97c00"), Case("1e-99999999999999999999", "f90000"), Case("5e-324", "fb0000000000000001"),
            Case("2e-324", "f90000"), Case("1.7976931348623157e308", "fb7fefffffffffffff"), Case("16777217.0", "fb4170000010000000"),
            Case("16777216.0", "fa4b800000"), Case("1.401298464324817e-45", "fa00000001"),
        ])
    func floats(_ example: Case) { #expect(transcoded(example.json) == example.cbor) }

    @Test("white space between tokens counts for nothing")
    func whiteSpace() {
        #expect(transcoded(" \n{ \"a\" :\t[ 1 , { } , [ ] ] , \"b\"\r:null } \n") == transcoded(#"{"a":[1,{},[]],"b":null}"#))
        #expect(transcoded(#"{"encoding" : "base64" , "data" : "AQ==" }"#) == "a164646174614101")
    }

    @Test("a notification is a map with the same names in the same order")
    func notification() {
        let object = #"{"type":"notification","channel":"a.b","sequence":41,"time":"2026-11-21T10:00:00.123Z","data":{"x":[1,0.5]}}"#
        let expected =
            [0xa5] + text("type") + text("notification") + text("channel") + text("a.b") + text("sequence") + [0x18, 41] + text("time")
            + text("2026-11-21T10:00:00.123Z") + text("data") + [0xa1] + text("x") + [0x82, 1, 0xf9, 0x38, 0]
        #expect(transcoded(Array(object.utf8)) == expected)
    }

    @Test("what is appended goes behind what was there")
    func appended() {
        var out: [UInt8] = [9, 9]
        for text in ["1", "[1.5]", #"{"encoding":"base64","data":"AQID"}"#, #"{"data":"!","encoding":"base64"}"#] {
            Array(text.utf8).withUnsafeBytes { CBOREncoder.transcode(json: $0, into: &out) }
        }
        #expect(hex(out) == "090901" + "81f93e00" + "a1646461746143010203" + transcoded(#"{"data":"!","encoding":"base64"}"#))
    }

    @Test("depth costs no stack")
    func depth() {
        let depth = 200_000
        let nested = [UInt8](repeating: UInt8(ascii: "["), count: depth) + [UInt8](repeating: UInt8(ascii: "]"), count: depth)
        #expect(transcoded(nested) == [UInt8](repeating: 0x81, count: depth - 1) + [0x80])
    }

    // MARK: Data in base64

    @Test(
        "data in base64 becomes a byte string, wherever \"encoding\" stands",
        arguments: [
            (#"{"encoding":"base64","data":""}"#, [0xa1] + text("data") + [0x40]),
            (#"{"encoding":"base64","data":"AA=="}"#, [0xa1] + text("data") + [0x41, 0]),
            (#"{"encoding":"base64","data":"+/8="}"#, [0xa1] + text("data") + [0x42, 0xfb, 0xff]),
            (#"{"data":"AQID","encoding":"base64"}"#, [0xa1] + text("data") + [0x43, 1, 2, 3]),
            (
                #"{"a":1,"data":"AQID","b":2,"encoding":"base64","c":3}"#,
                [0xa4] + text("a") + [1] + text("data") + [0x43, 1, 2, 3] + text("b") + [2] + text("c") + [3]
            ),
            (
                #"{"encoding":"base64","skipped":2,"d\u0061ta":"AQIDBA=="}"#,
                [0xa2] + text("skipped") + [2] + text("data") + [0x44, 1, 2, 3, 4]
            ),
        ] as [(String, [UInt8])])
    func bytesOfData(_ json: String, _ expected: [UInt8]) { #expect(transcoded(Array(json.utf8)) == expected) }

    @Test("data of every length comes out as it went in", arguments: [0, 1, 2, 3, 4, 5, 22, 23, 24, 25, 255, 256, 1000, 65535, 65536])
    func lengthsOfData(_ count: Int) throws {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 3) }
        let width = count < 24 ? 0 : count < 256 ? 1 : count < 65536 ? 2 : 4
        let cbor = [0xa1] + text("data") + head(2, UInt64(count), width: width) + bytes
        let json = #"{"data":"\#(Reference.base64(bytes))","encoding":"base64"}"#
        #expect(transcoded(Array(json.utf8)) == cbor)
        #expect(String(decoding: try decoded(cbor, limits: CBORLimits(outputBytesMax: 100_000)), as: UTF8.self) == json)
    }

    @Test(
        "what is not that stays as it is",
        arguments: [
            #"{"encoding":"base64"}"#, #"{"encoding":"base64","data":1}"#, #"{"encoding":"base64","data":["AQID"]}"#,
            #"{"encoding":"base64","data":{"data":"AQID"}}"#, #"{"encoding":"base32","data":"AQID"}"#, #"{"encoding":1,"data":"AQID"}"#,
            #"{"data":"AQID"}"#, #"{"a":{"encoding":"base64","data":"AQID"}}"#, #"[{"encoding":"base64","data":"AQID"}]"#,
            #"{"encoding":["base64"],"data":"AQID"}"#,
            // Not the one right way to write some bytes.
            #"{"encoding":"base64","data":"AQI"}"#, #"{"encoding":"base64","data":"AQI=AQID"}"#, #"{"encoding":"base64","data":"AQJ="}"#,
            #"{"encoding":"base64","data":"AB=="}"#, #"{"encoding":"base64","data":"A==="}"#, #"{"encoding":"base64","data":"===="}"#,
            #"{"encoding":"base64","data":"AQ-_"}"#, #"{"encoding":"base64","data":"AQ D"}"#, #"{"encoding":"base64","data":"AQIDé="}"#,
            #"{"data":"AQI","encoding":"base64"}"#, #"{"data":"*QID","encoding":"base64"}"#,
        ])
    func otherData(_ json: String) throws {
        #expect(transcoded(Array(json.utf8)) == transcoded(Array(json.utf8), bytesOfData: false))
        #expect(String(decoding: try decoded(transcoded(Array(json.utf8))), as: UTF8.self) == json)
    }

    @Test("data stays text where the caller wants it so")
    func textOfData() {
        let json = Array(#"{"encoding":"base64","data":"AQID"}"#.utf8)
        #expect(transcoded(json, bytesOfData: false) == [0xa2] + text("encoding") + text("base64") + text("data") + text("AQID"))
    }

    // MARK: Names twice

    @Test(
        "of members with one name the last one counts",
        arguments: [
            (#"{"a":1,"a":2}"#, #"{"a":2}"#), (#"{"a":1,"b":2,"a":3,"c":4,"b":[5]}"#, #"{"a":3,"c":4,"b":[5]}"#),
            (#"{"a":{"x":1,"x":{"y":1,"y":2}},"b":0}"#, #"{"a":{"x":{"y":2}},"b":0}"#),
            (#"[{"a":1,"\u0061":[]},{"a":1}]"#, #"[{"a":[]},{"a":1}]"#), (#"{"":1,"":2}"#, #"{"":2}"#),
            (#"{"temperature-a":1,"temperature-b":2,"temperature-a":3}"#, #"{"temperature-b":2,"temperature-a":3}"#),
            (#"{"encoding":"base64","data":"AQID","data":"BA=="}"#, #"{"encoding":"base64","data":"BA=="}"#),
            (#"{"encoding":"base64","encoding":"base64","data":"BA=="}"#, #"{"encoding":"base64","data":"BA=="}"#),
        ])
    func namesTwice(_ json: String, _ once: String) { #expect(transcoded(json) == transcoded(once)) }

    @Test("names twice among many are found", arguments: [15, 16, 17, 18, 24, 25, 300, 1000])
    func namesTwiceAmongMany(_ count: Int) {
        func object(_ names: [String]) -> String { "{" + names.map { "\"\($0)\":[\"\($0)\"]" }.joined(separator: ",") + "}" }
        let names = (0..<count).map { "a-common-beginning-\($0)" }
        for place in [0, 1, count / 2, count - 1] {
            var once = names
            once.append(once.remove(at: place))
            #expect(transcoded("[" + object(names + [names[place]]) + "]") == transcoded("[" + object(once) + "]"))
        }
        #expect(transcoded(object(names + names + names)) == transcoded(object(names)))
    }
}

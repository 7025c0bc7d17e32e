import CBORCodec
import JSONCodec
import Testing

@Suite struct DecoderTests {
    @Test(
        "lengths and numbers need not be in their shortest form",
        arguments: [
            Case("0", "1800"), Case("0", "190000"), Case("0", "1a00000000"), Case("0", "1b0000000000000000"), Case("-1", "3800"),
            Case("-1", "3b0000000000000000"), Case("\"a\"", "780161"), Case("\"a\"", "7b000000000000000161"), Case("[1]", "980101"),
            Case("[1]", "9b000000000000000101"), Case(#"{"a":1}"#, "b801616101"), Case("1.5", "fa3fc00000"),
            Case("1.5", "fb3ff8000000000000"), Case("1.0", "fb3ff0000000000000"),
        ])
    func longForms(_ example: Case) throws { #expect(try decoded(example.cbor) == example.json) }

    @Test(
        "bignums become digits, whatever zeros they begin with and however they are cut",
        arguments: [
            Case("0", "c240"), Case("-1", "c340"), Case("1", "c24101"), Case("-2", "c34101"), Case("255", "c243 0000ff"),
            Case("-256", "c343 0000ff"), Case("18446744073709551615", "c248ffffffffffffffff"),
            Case("-18446744073709551616", "c348ffffffffffffffff"), Case("10000000000000000000", "c2488ac7230489e80000"),
            Case("100000000000000000000000000000000000000", "c2504b3b4ca85a86c47a098a224000000000"),
            Case("18446744073709551616", "c25f 4101 4400000000 40 4400000000 ff"), Case("[1,2]", "82 c24101 d9d9f7c24102"),
        ])
    func bignums(_ example: Case) throws { #expect(try decoded(example.cbor) == example.json) }

    @Test(
        "self-described CBOR is read as if the tag were not there",
        arguments: [
            Case("1", "d9d9f701"), Case("[1,{\"a\":[]}]", "d9d9f7 82 d9d9f7 01 d9d9f7 a1 6161 d9d9f7 80"),
            Case("1", "da0000d9f7 d9d9f7 01"),
            Case(#"{"data":"AQ==","encoding":"base64"}"#, "d9d9f7 a1 6464617461 d9d9f7 4101"),
        ])
    func selfDescribed(_ example: Case) throws { #expect(try decoded(example.cbor) == example.json) }

    @Test("text is escaped as JSON wants it")
    func escapes() throws {
        let characters = (0..<0x80).map { UInt8($0) } + Array("é€😀\u{2028}".utf8)
        let cbor = head(3, UInt64(characters.count), width: 1) + characters
        #expect(String(decoding: try decoded(cbor), as: UTF8.self) == Reference.quoted(characters))
        for character in UInt8(0)..<0x80 {
            for before in 0..<9 {
                let text = [UInt8](repeating: 0x78, count: before) + [character, 0x79]
                let json = try decoded(head(3, UInt64(text.count), width: 0) + text)
                #expect(String(decoding: json, as: UTF8.self) == Reference.quoted(text))
                #expect(JSONSlice(json[...]).string()?.utf8.elementsEqual(text) == true)
            }
        }
    }

    @Test(
        "text that is not UTF-8 is refused, in each part of its own",
        arguments: [
            ("6180", 0), ("61c3", 0), ("62c328", 0), ("62c080", 0), ("62c1bf", 0), ("63e08080", 0), ("63eda080", 0), ("63e282", -1),
            ("62e282", 0), ("64f0808080", 0), ("64f4908080", 0), ("64f5808080", 0), ("63f09f98", 0), ("61ff", 0), ("6261fe", 0),
            ("6a 61626364656667 68 c3 61", 0),
            ("7f 6161 61c3 61a9 ff", 3), ("7f 62c3a9 6180 ff", 4), ("a1 6180 01", 1), ("81 62c328", 1),
        ] as [(String, Int)])
    func notUTF8(_ cbor: String, _ offset: Int) {
        #expect(fault(cbor) == (offset < 0 ? .truncated(offset: 0) : .textNotUTF8(offset: offset)))
    }

    // MARK: Byte strings

    @Test(
        "a byte string is the data of a command and nothing else",
        arguments: [
            ("40", 0), ("814101", 1), ("a1 6161 4101", 3), ("a1 4101 01", -1), ("81 a1 6464617461 4101", 7),
            ("a1 6161 a1 6464617461 4101", 9),
            ("a1 6464617461 81 4101", 7), ("a1 6464617461 a1 6464617461 4101", 12), ("a1 6464617462 40", 6),
            ("a1 6464617461 d9d9f7 81 40", 10),
            ("a2 6464617461 01 6161 40", 9),
        ] as [(String, Int)])
    func bytesElsewhere(_ cbor: String, _ offset: Int) {
        #expect(fault(cbor) == (offset < 0 ? .nameNotText(offset: 1) : .bytesUnexpected(offset: offset)))
    }

    @Test(
        "data says how it is written",
        arguments: [
            Case(
                #"{"type":"publish","data":"+/8=","encoding":"base64","id":1}"#,
                "a3 6474797065 677075626c697368 6464617461 42fbff 626964 01"),
            Case(#"{"data":"","encoding":"base64"}"#, "a1 6464617461 40"),
            Case(#"{"data":"AQIDBAU=","encoding":"base64"}"#, "a1 6464617461 5f 4101 40 420203 4104 4105 ff"),
            Case(#"{"data":"AQIDBAUG","encoding":"base64"}"#, "bf 7f 626461 627461 ff 5f 450102030405 4106 ff ff"),
            Case(#"{"data":"AQ==","encoding":"base64","d":"x"}"#, "a2 6464617461 4101 6164 6178"),
            Case(#"{"data":"text","encoding":"base64"}"#, "a2 6464617461 6474657874 68656e636f64696e67 66626173653634"),
        ])
    func data(_ example: Case) throws { #expect(try decoded(example.cbor) == example.json) }

    @Test("data that is bytes may not say so a second time")
    func dataAndEncoding() {
        #expect(fault("a2 6464617461 4101 68656e636f64696e67 66626173653634") == .nameRepeated(offset: 24))
        #expect(fault("a2 68656e636f64696e67 66626173653634 6464617461 4101") == .nameRepeated(offset: 24))
    }

    // MARK: Names

    @Test(
        "names are text",
        arguments: [
            ("a101 01", 1), ("a1 20 01", 1), ("a1 4161 01", 1), ("a1 80 01", 1), ("a1 a0 01", 1), ("a1 d9d9f76161 01", 1), ("a1 f6 01", 1),
            ("a1 f93c00 01", 1), ("a1 5f4161ff 01", 1), ("bf 01 01 ff", 1), ("a1 c24101 01", 1), ("a2 6161 01 02 03", 4),
        ])
    func namesOfOtherTypes(_ cbor: String, _ offset: Int) { #expect(fault(cbor) == .nameNotText(offset: offset)) }

    @Test(
        "a name twice is refused, however it is written",
        arguments: [
            "a2 6161 01 6161 02", "a2 6161 01 780161 02", "bf 7f6161ff 01 6161 02 ff", "a3 60 01 6161 02 60 03", "81 a2 6161 a0 6161 a0",
        ])
    func namesTwice(_ cbor: String) {
        #expect(fault(cbor) == .nameRepeated(offset: bytes(hex: cbor).count))
    }

    @Test("a name may be in several maps")
    func namesApart() throws {
        #expect(try decoded("82 a1616101 a1616102") == #"[{"a":1},{"a":2}]"#)
        #expect(try decoded("a2 6161 a2 6161 01 6162 02 6162 a1 6161 03") == #"{"a":{"a":1,"b":2},"b":{"a":3}}"#)
    }

    @Test("names twice among many are found, and many are no trouble", arguments: [2, 15, 16, 17, 18, 1000, 20_000])
    func manyNames(_ count: Int) throws {
        let limits = CBORLimits(outputBytesMax: 1 << 24)
        let pairs = (0..<count).map { text("a-common-beginning-\($0)") + [1] }
        let all = head(5, UInt64(count), width: 4) + Array(pairs.joined())
        let names = "{" + (0..<count).map { "\"a-common-beginning-\($0)\":1" }.joined(separator: ",") + "}"
        #expect(String(decoding: try decoded(all, limits: limits), as: UTF8.self) == names)
        for place in [0, count / 2, count - 1] {
            let again = head(5, UInt64(count + 1), width: 4) + Array(pairs.joined()) + pairs[place]
            #expect(throws: CBORFault.nameRepeated(offset: again.count)) { try decoded(again, limits: limits) }
        }
    }

    // MARK: Limits

    @Test("arrays and maps are inside each other as often as is allowed", arguments: [0, 1, 2, 64, 1000])
    func depth(_ depthMax: Int) throws {
        let limits = CBORLimits(depthMax: depthMax)
        func nested(_ opening: [UInt8], _ depth: Int) -> [UInt8] { Array(repeatElement(opening, count: depth).joined()) + [0] }
        for opening: [UInt8] in [[0x81], [0xa1, 0x61, 0x61]] {
            #expect(throws: Never.self) { try decoded(nested(opening, depthMax), limits: limits) }
            #expect(throws: CBORFault.tooDeep(offset: depthMax * opening.count)) {
                try decoded(nested(opening, depthMax + 1), limits: limits)
            }
        }
        let open = [UInt8](repeating: 0x9f, count: depthMax + 1)
        #expect(throws: CBORFault.tooDeep(offset: depthMax)) { try decoded(open, limits: limits) }
        let empty = [UInt8](repeating: 0x81, count: depthMax) + [0x80]
        #expect(throws: CBORFault.tooDeep(offset: depthMax)) { try decoded(empty, limits: limits) }
    }

    @Test("a million arrays inside each other are refused at the limit")
    func veryDeep() {
        for opening: UInt8 in [0x81, 0x9f, 0x9b] {
            #expect(throws: CBORFault.self) { try decoded([UInt8](repeating: opening, count: 1_000_000)) }
        }
    }

    @Test(
        "the text is as long as is allowed, to the byte",
        arguments: [
            "00", "1bffffffffffffffff", "3bffffffffffffffff", "c24a01000000000000000000", "6161", "60", "6a0a0d1f5c22610062c3a9",
            "83010203", "a2616101616202", "f4", "f5", "f6", "f93c00", "fb3ff199999999999a", "a1646461746143010203", "a164646174614101",
            "a164646174615f41014202034104ff", "9f01ff", "bf616101ff", "7f61616161ff", "a164646174615f4101ff",
        ])
    func outputLimit(_ cbor: String) throws {
        let text = try decoded(cbor)
        #expect(try decoded(cbor, limits: CBORLimits(outputBytesMax: text.utf8.count)) == text)
        for most in 0..<text.utf8.count {
            guard case .outputTooLong = fault(cbor, limits: CBORLimits(outputBytesMax: most)) else {
                Issue.record("\(text) in \(most) bytes: \(String(describing: fault(cbor, limits: CBORLimits(outputBytesMax: most))))")
                return
            }
        }
    }

    @Test("what would grow is refused before it does")
    func growth() {
        let controls = head(3, 60_000, width: 4) + [UInt8](repeating: 1, count: 60_000)
        #expect(throws: CBORFault.outputTooLong(offset: 0)) { try decoded(controls) }
        #expect(throws: CBORFault.outputTooLong(offset: 1)) { try decoded([0x7f] + controls + [0xff]) }
        let data = [0xa1] + text("data") + head(2, 60_000, width: 4) + [UInt8](repeating: 1, count: 60_000)
        #expect(throws: CBORFault.outputTooLong(offset: 6)) { try decoded(data) }
        let floats = head(4, 7000, width: 2) + Array(repeatElement([0xf9, 0x00, 0x01], count: 7000).joined())
        #expect(throws: CBORFault.self) { try decoded(floats) }
    }

    @Test("bignums have at most 128 bytes, in one piece or in many")
    func longBignums() throws {
        let bytes = [UInt8](repeating: 0x12, count: 129)
        for tag: UInt8 in [0xc2, 0xc3] {
            #expect(throws: Never.self) { try decoded([tag] + head(2, 128, width: 1) + bytes.dropLast()) }
            #expect(throws: CBORFault.bignumTooLong(offset: 0)) { try decoded([tag] + head(2, 129, width: 1) + bytes) }
            #expect(throws: CBORFault.bignumTooLong(offset: 0)) {
                try decoded([tag, 0x5f] + Array(bytes.map { [0x41, $0] }.joined()) + [0xff])
            }
            let whole = try decoded([tag] + head(2, 128, width: 1) + bytes.dropLast())
            #expect(try decoded([tag, 0x5f] + Array(bytes.dropLast().map { [0x41, $0] }.joined()) + [0xff]) == whole)
        }
        #expect(fault("c201") == .bignumNotBytes(offset: 0))
        #expect(fault("c26101") == .bignumNotBytes(offset: 0))
        #expect(fault("c2c24101") == .bignumNotBytes(offset: 0))
        #expect(fault("c2d9d9f74101") == .bignumNotBytes(offset: 0))
        #expect(fault("c2ff") == .bignumNotBytes(offset: 0))
    }

    @Test("other tags are refused", arguments: [0, 1, 4, 5, 21, 22, 23, 24, 32, 55798, 55800, 0xffff_ffff, .max] as [UInt64])
    func tags(_ tag: UInt64) {
        let bytes = head(6, tag, width: 8)
        #expect(throws: CBORFault.tagUnknown(tag, offset: 1)) { try decoded([0x81] + bytes + [0]) }
    }

    @Test("simple values are three")
    func simpleValues() {
        for value in UInt8(0)..<32 where ![20, 21, 22, 24, 25, 26, 27, 28, 29, 30, 31].contains(value) {
            #expect(throws: CBORFault.simpleUnknown(offset: 0)) { try decoded([0xe0 | value]) }
        }
        for value in UInt8.min...UInt8.max {
            let expected = value < 32 ? CBORFault.simpleReserved(offset: 0) : .simpleUnknown(offset: 0)
            #expect(throws: expected) { try decoded([0xf8, value]) }
        }
    }

    @Test(
        "lengths that were only announced cost nothing",
        arguments: [1 << 16, 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, .max] as [UInt64])
    func hostileLengths(_ length: UInt64) {
        let commands: [[UInt8]] = [
            head(3, length, width: 8), head(4, length, width: 8), head(5, length, width: 8), [0x7f] + head(3, length, width: 8),
            [0xa1] + head(3, length, width: 8), [0xa1] + text("data") + head(2, length, width: 8),
            [0xa1] + text("data") + [0x5f] + head(2, length, width: 8), [0xc2] + head(2, length, width: 8),
            [0x9f] + head(4, length, width: 8) + [0xf6], head(5, length, width: 8) + text("a") + [0],
        ]
        for command in commands {
            for bytes in [command, command + [0]] {
                do throws(CBORFault) {
                    let json = try decoded(bytes)
                    Issue.record("\(json)")
                } catch {
                    switch error {
                    case .truncated, .nameNotText: break
                    default: Issue.record("\(error)")
                    }
                }
            }
        }
    }

    @Test("a command that is cut at any byte is refused as cut short")
    func cuts() throws {
        let command = "bf 626964 01 6474797065 677075626c697368 676368616e6e656c 7f 63612e62 6163 ff 6464617461 5f 43010203 4104 ff"
        let further =
            "6178 8a 182a 39ffff fb3ff199999999999a d9d9f7f93c00 c249010000000000000000 a16179f5 9f80ff fa3fc00000 62c3a9 7803616263 ff"
        let whole = bytes(hex: command + further)
        #expect(
            String(decoding: try decoded(whole), as: UTF8.self)
                == #"{"id":1,"type":"publish","channel":"a.bc","data":"AQIDBA==","encoding":"base64","x":[42,-65536,1.1,1.0,"#
                + #"18446744073709551616,{"y":true},[[]],1.5,"é","abc"]}"#)
        for count in whole.indices {
            do throws(CBORFault) {
                _ = try decoded(Array(whole[..<count]))
                Issue.record("cut at \(count)")
            } catch {
                guard case .truncated = error else {
                    Issue.record("cut at \(count): \(error)")
                    continue
                }
                #expect(error.offset <= count)
            }
        }
    }

    @Test("every fault says in a few words what it is, and where")
    func words() {
        let faults: [CBORFault] = [
            .truncated(offset: 7), .trailingBytes(offset: 7), .reservedInformation(offset: 7), .breakUnexpected(offset: 7),
            .chunkUnexpected(offset: 7), .simpleReserved(offset: 7), .simpleUnknown(offset: 7), .notFinite(offset: 7),
            .tagUnknown(5, offset: 7), .bignumNotBytes(offset: 7), .bignumTooLong(offset: 7), .bytesUnexpected(offset: 7),
            .nameNotText(offset: 7), .nameRepeated(offset: 7), .textNotUTF8(offset: 7), .tooDeep(offset: 7), .outputTooLong(offset: 7),
        ]
        #expect(Set(faults.map(\.reason)).count == faults.count)
        // A close frame's reason has at most 123 bytes (RFC 6455, section 5.5).
        #expect(faults.allSatisfy { 5...80 ~= $0.reason.utf8.count && $0.offset == 7 && $0.description.hasPrefix("at byte 7: ") })
    }
}

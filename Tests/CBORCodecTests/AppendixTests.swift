import CBORCodec
import Testing

/// The examples of RFC 8949.
@Suite struct AppendixTests {
    /// Appendix A: those that JSON can say, in the serialization that is ours.
    static let both: [Case] = [
        Case("0", "00"), Case("1", "01"), Case("10", "0a"), Case("23", "17"), Case("24", "1818"), Case("25", "1819"),
        Case("100", "1864"), Case("1000", "1903e8"), Case("1000000", "1a000f4240"), Case("1000000000000", "1b000000e8d4a51000"),
        Case("18446744073709551615", "1bffffffffffffffff"), Case("18446744073709551616", "c249010000000000000000"),
        Case("-18446744073709551616", "3bffffffffffffffff"), Case("-18446744073709551617", "c349010000000000000000"),
        Case("-1", "20"), Case("-10", "29"), Case("-100", "3863"), Case("-1000", "3903e7"),
        Case("0.0", "f90000"), Case("-0.0", "f98000"), Case("1.0", "f93c00"), Case("1.1", "fb3ff199999999999a"),
        Case("1.5", "f93e00"), Case("65504.0", "f97bff"), Case("100000.0", "fa47c35000"),
        Case("3.4028234663852886e+38", "fa7f7fffff"), Case("1e+300", "fb7e37e43c8800759c"),
        Case("5.960464477539063e-08", "f90001"), Case("6.103515625e-05", "f90400"), Case("-4.0", "f9c400"),
        Case("-4.1", "fbc010666666666666"),
        Case("false", "f4"), Case("true", "f5"), Case("null", "f6"),
        Case("\"\"", "60"), Case("\"a\"", "6161"), Case("\"IETF\"", "6449455446"), Case(#""\"\\""#, "62225c"),
        Case("\"\u{fc}\"", "62c3bc"), Case("\"\u{6c34}\"", "63e6b0b4"), Case("\"\u{10151}\"", "64f0908591"),
        Case("[]", "80"), Case("[1,2,3]", "83010203"), Case("[1,[2,3],[4,5]]", "8301820203820405"),
        Case(
            "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25]",
            "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
        Case("{}", "a0"), Case(#"{"a":1,"b":[2,3]}"#, "a26161016162820203"), Case(#"["a",{"b":"c"}]"#, "826161a161626163"),
        Case(#"{"a":"A","b":"B","c":"C","d":"D","e":"E"}"#, "a56161614161626142616361436164614461656145"),
    ]

    /// Appendix A: those of open length.
    static let open: [Case] = [
        Case("\"streaming\"", "7f657374726561646d696e67ff"), Case("[]", "9fff"), Case("[1,[2,3],[4,5]]", "9f018202039f0405ffff"),
        Case("[1,[2,3],[4,5]]", "9f01820203820405ff"), Case("[1,[2,3],[4,5]]", "83018202039f0405ff"),
        Case("[1,[2,3],[4,5]]", "83019f0203ff820405"),
        Case(
            "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25]",
            "9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff"),
        Case(#"{"a":1,"b":[2,3]}"#, "bf61610161629f0203ffff"), Case(#"["a",{"b":"c"}]"#, "826161bf61626163ff"),
        Case(#"{"Fun":true,"Amt":-2}"#, "bf6346756ef563416d7421ff"),
    ]

    @Test("appendix A: what JSON can say is written as the RFC does", arguments: both)
    func written(_ example: Case) { #expect(transcoded(example.json) == example.cbor) }

    @Test("appendix A: what JSON can say is read as the RFC does", arguments: both + open)
    func read(_ example: Case) throws { #expect(try decoded(example.cbor) == example.json) }

    @Test(
        "appendix A: what JSON cannot say is refused",
        arguments: [
            ("f97c00", .notFinite(offset: 0)), ("f97e00", .notFinite(offset: 0)), ("f9fc00", .notFinite(offset: 0)),
            ("fa7f800000", .notFinite(offset: 0)), ("fa7fc00000", .notFinite(offset: 0)), ("faff800000", .notFinite(offset: 0)),
            ("fb7ff0000000000000", .notFinite(offset: 0)), ("fb7ff8000000000000", .notFinite(offset: 0)),
            ("fbfff0000000000000", .notFinite(offset: 0)),
            ("f7", .simpleUnknown(offset: 0)), ("f0", .simpleUnknown(offset: 0)), ("f8ff", .simpleUnknown(offset: 0)),
            ("c074323031332d30332d32315432303a30343a30305a", .tagUnknown(0, offset: 0)), ("c11a514b67b0", .tagUnknown(1, offset: 0)),
            ("c1fb41d452d9ec200000", .tagUnknown(1, offset: 0)), ("d74401020304", .tagUnknown(23, offset: 0)),
            ("d818456449455446", .tagUnknown(24, offset: 0)),
            ("d82076687474703a2f2f7777772e6578616d706c652e636f6d", .tagUnknown(32, offset: 0)),
            ("40", .bytesUnexpected(offset: 0)), ("4401020304", .bytesUnexpected(offset: 0)),
            ("5f42010243030405ff", .bytesUnexpected(offset: 0)), ("a201020304", .nameNotText(offset: 1)),
        ] as [(String, CBORFault)])
    func refused(_ cbor: String, _ expected: CBORFault) { #expect(fault(cbor) == expected) }

    /// Appendix F, kind 2: too little data.
    static let short: [String] = [
        // End of input in a head.
        "18", "19", "1a", "1b", "1901", "1a0102", "1b01020304050607", "38", "58", "78", "98", "9a01ff00", "b8", "d8", "f8", "f900",
        "fa0000",
        "fb000000",
        // Strings of known length with too few bytes.
        "61", "7affffffff00", "7b7fffffffffffffff010203",
        // Arrays and maps of known length with too few items.
        "81", "818181818181818181", "8200", "a1",
        // A tag without an item: one that is known.
        "c2", "d9d9f7",
        // Strings of open length without a break.
        "7f6100",
        // Arrays and maps of open length without a break.
        "9f", "9f0102", "bf", "819f", "9f8000", "9f9f9f9f9fffffffff", "9f819f819f9fffffff",
        // The same as further ones of the RFC, with names that are text and bytes where they may be.
        "a16161", "a261610161", "a2616101", "bf616101", "bf6161", "a16464617461 41", "a16464617461 5affffffff00",
        "a16464617461 5bffffffffffffffff010203", "a16464617461 5f4100",
    ]

    @Test("appendix F: what is cut short is refused as such", arguments: short)
    func cutShort(_ cbor: String) throws {
        guard case .truncated = fault(cbor) else { return #expect(Bool(false), "\(String(describing: fault(cbor)))") }
    }

    /// Appendix F, kind 3: syntax errors. The faults are what each is.
    static let malformed: [(String, CBORFault)] =
        ["1c", "1d", "1e", "3c", "3d", "3e", "5c", "5d", "5e", "7c", "7d", "7e", "9c", "9d", "9e", "bc", "bd", "be", "dc", "dd", "de"]
        .map { ($0, .reservedInformation(offset: 0)) } + ["fc", "fd", "fe"].map { ($0, .reservedInformation(offset: 0)) }
        + ["1f", "3f", "df"].map { ($0, .reservedInformation(offset: 0)) }
        + ["f800", "f801", "f818", "f81f"].map { ($0, .simpleReserved(offset: 0)) } + [
            // Parts of strings of open length.
            ("7f4100ff", .chunkUnexpected(offset: 1)), ("7f7f6100ffff", .chunkUnexpected(offset: 1)),
            ("7f00ff", .chunkUnexpected(offset: 1)),
            ("a164646174615f00ff", .chunkUnexpected(offset: 7)), ("a164646174615f21ff", .chunkUnexpected(offset: 7)),
            ("a164646174615f6100ff", .chunkUnexpected(offset: 7)), ("a164646174615f80ff", .chunkUnexpected(offset: 7)),
            ("a164646174615fa0ff", .chunkUnexpected(offset: 7)), ("a164646174615fc000ff", .chunkUnexpected(offset: 7)),
            ("a164646174615fe0ff", .chunkUnexpected(offset: 7)), ("a164646174615f5f4100ffff", .chunkUnexpected(offset: 7)),
            // Breaks.
            ("ff", .breakUnexpected(offset: 0)), ("81ff", .breakUnexpected(offset: 1)), ("8200ff", .breakUnexpected(offset: 2)),
            ("a1ff", .breakUnexpected(offset: 1)), ("a1ff00", .breakUnexpected(offset: 1)), ("a16161ff", .breakUnexpected(offset: 3)),
            ("a2616100ff", .breakUnexpected(offset: 4)), ("9f81ff", .breakUnexpected(offset: 2)),
            ("9f829f819f9fffffffff", .breakUnexpected(offset: 9)), ("bf6161ff", .breakUnexpected(offset: 3)),
            ("bf616100 6162ff", .breakUnexpected(offset: 6)), ("d9d9f7ff", .breakUnexpected(offset: 3)),
        ]

    @Test("appendix F: what is not well-formed is refused as what it is", arguments: malformed)
    func notWellFormed(_ cbor: String, _ expected: CBORFault) { #expect(fault(cbor) == expected) }

    /// Appendix F, what is left of it: the names are numbers, or the tags not ours, so it is refused for that.
    @Test(
        "appendix F: the rest is refused too",
        arguments: [
            "41", "5affffffff00", "5bffffffffffffffff010203", "a20102", "a100", "a2000000", "c0", "5f4100", "bf01020102", "5f00ff",
            "5f21ff",
            "5f6100ff", "5f80ff", "5fa0ff", "5fc000ff", "5fe0ff", "5f5f4100ffff", "a100ff", "a20000ff", "bf00ff", "bf000000ff",
        ])
    func others(_ cbor: String) { #expect(fault(cbor) != nil) }

    @Test("appendix F: bytes behind the item are refused", arguments: both)
    func trailing(_ example: Case) {
        #expect(fault(example.cbor + "00") == .trailingBytes(offset: example.cbor.count / 2))
    }
}

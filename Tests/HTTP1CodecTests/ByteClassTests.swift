import HTTPTypes
import TestSupport
import Testing

@testable import HTTP1Codec

struct ByteClassTests {
    @Test("The sets of bytes are those of the grammar")
    func sets() {
        let tokens = Set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".utf8)
        for byte in UInt8.min...UInt8.max {
            #expect(ByteClass.isToken(byte) == tokens.contains(byte), "\(byte)")
            #expect(ByteClass.isDigit(byte) == (0x30...0x39).contains(byte), "\(byte)")
            #expect(ByteClass.isVisible(byte) == (0x21...0x7E).contains(byte), "\(byte)")
            #expect(ByteClass.isFieldValue(byte) == (byte == 9 || (0x20...0x7E).contains(byte) || byte >= 0x80), "\(byte)")
            let digit = byte < 128 ? Character(Unicode.Scalar(byte)).hexDigitValue : nil
            #expect(ByteClass.hexDigit(byte).map(Int.init) == digit, "\(byte)")
        }
    }

    @Test("The first control character is found wherever it is")
    func firstControl() {
        var random = SeededRandom(seed: 1)
        for _ in 0..<20_000 {
            let count = Int.random(in: 0...40, using: &random)
            let isRare = Bool.random(using: &random)
            let bytes = (0..<count).map { _ in
                let byte = UInt8.random(in: 0...255, using: &random)
                return isRare && Int.random(in: 0...15, using: &random) > 0 ? byte | 0x80 : byte
            }
            let start = Int.random(in: 0...count, using: &random)
            let end = Int.random(in: start...count, using: &random)
            let expected = bytes[start..<end].firstIndex { $0 < 0x20 || $0 == 0x7F } ?? end
            #expect(bytes.withUnsafeBytes { ByteClass.firstControl($0, from: start, to: end) } == expected, "\(bytes)")
        }
    }

    @Test("A name is the same from the table and without it", arguments: ["", "x"])
    func fieldNames(suffix: String) {
        let names = [
            "accept", "ACCEPT-ENCODING", "Sec-WebSocket-Key", "sec-fetch-site", "upgrade-insecure-requests", "last-event-id",
            "Cookie", "TE", "a", "zz", "idempotency-key", "x_y",
        ]
        for text in names.map({ $0 + suffix }) {
            let name = Array(text.utf8).withUnsafeBytes { FieldNames.shared.name($0) }
            #expect(name.canonicalName == text.lowercased())
            #expect(name == HTTPField.Name(text))
        }
    }
}

/// As much of base64 (RFC 4648 section 4) as the handshake needs.
enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    static func encode(_ bytes: [UInt8]) -> String {
        var output: [UInt8] = []
        output.reserveCapacity((bytes.count + 2) / 3 * 4)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << UInt32(8 * (3 - group.count))
            for index in 0..<4 {
                let sextet = Int(bits >> UInt32(18 - 6 * index) & 0x3F)
                output.append(index <= group.count ? alphabet[sextet] : UInt8(ascii: "="))
            }
        }
        return String(decoding: output, as: UTF8.self)
    }

    /// Whether `text` is what `encode` makes of some 16 bytes: 22 letters and `==`, with the last letter's unused four bits zero.
    static func isCanonical16Bytes(_ text: String) -> Bool {
        let letters = Array(text.utf8)
        guard letters.count == 24, letters[22...].allSatisfy({ $0 == UInt8(ascii: "=") }) else { return false }
        let values = letters[..<22].map { alphabet.firstIndex(of: $0) }
        guard let last = values[21], !values.contains(nil) else { return false }
        return last & 0x0F == 0
    }
}

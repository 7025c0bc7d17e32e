/// The `host[:port]` of Host and of request targets (RFC 3986 section 3.2, RFC 9110 section 7.2).
///
/// Narrower than the grammar, which would also let through what no server is reached by: an empty host, percent-encoding,
/// sub-delimiters such as the comma that a proxy joins two Hosts with, an empty port, zone identifiers. Userinfo is refused as
/// RFC 9110 section 4.2.4 advises.
enum Authority {
    /// - Parameter portRequired: as in the target of CONNECT.
    static func isValid(_ bytes: UnsafeRawBufferPointer, portRequired: Bool = false) -> Bool {
        let hostEnd: Int
        if bytes.first == UInt8(ascii: "[") {
            guard let bracket = bytes.firstIndex(of: UInt8(ascii: "]")), isAddress6(bytes.part(1..<bracket)) else { return false }
            hostEnd = bracket + 1
        } else {
            hostEnd = bytes.firstIndex { !isNameByte($0) } ?? bytes.count
            guard hostEnd > 0 else { return false }
        }
        guard hostEnd < bytes.count else { return !portRequired }
        return bytes[hostEnd] == UInt8(ascii: ":") && isPort(bytes.part(hostEnd + 1..<bytes.count))
    }

    /// The unreserved characters of RFC 3986.
    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
            true
        default: false
        }
    }

    /// The characters of an IPv6 address, not its grammar: nothing here connects to it.
    private static func isAddress6(_ bytes: UnsafeRawBufferPointer) -> Bool {
        (2...45).contains(bytes.count)
            && bytes.allSatisfy { ByteClass.hexDigit($0) != nil || $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: ".") }
    }

    private static func isPort(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard (1...5).contains(bytes.count), bytes.allSatisfy(ByteClass.isDigit) else { return false }
        return bytes.reduce(0) { $0 * 10 + Int($1 &- 0x30) } <= 65535
    }
}

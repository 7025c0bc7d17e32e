/// The records of a stream of bytes (RFC 8446 section 5.1): kind, version, length, body.
enum TLSRecords {
    /// The kinds, in order; the bytes have to be whole records.
    static func kinds(_ bytes: [UInt8]) -> [UInt8] {
        var kinds: [UInt8] = []
        var rest = bytes[...]
        while rest.count >= 5 {
            let start = rest.startIndex
            kinds.append(rest[start])
            rest = rest.dropFirst(5 + Int(rest[start + 3]) << 8 + Int(rest[start + 4]))
        }
        precondition(rest.isEmpty, "half of a record")
        return kinds
    }

    /// A record of the handshake with some bytes of its messages.
    static func handshake(_ body: some Collection<UInt8>) -> [UInt8] {
        [22, 3, 1, UInt8(body.count >> 8), UInt8(body.count & 0xff)] + body
    }
}

/// `HTTP/1.0` and `HTTP/1.1` (RFC 9112 section 2.3).
enum HTTPVersion {
    /// - Returns: 0 or 1.
    static func minor(_ bytes: UnsafeRawBufferPointer) throws(HTTP1Fault) -> Int {
        guard bytes.count == 8, bytes.starts(with: "HTTP/".utf8), bytes[6] == UInt8(ascii: "."),
            ByteClass.isDigit(bytes[5]), ByteClass.isDigit(bytes[7])
        else { throw .versionMalformed }
        guard bytes[5] == UInt8(ascii: "1"), bytes[7] <= UInt8(ascii: "1") else { throw .versionUnsupported }
        return Int(bytes[7] &- 0x30)
    }
}

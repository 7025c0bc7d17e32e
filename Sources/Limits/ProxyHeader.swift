/// The PROXY protocol, versions 1 and 2 (HAProxy, doc/proxy-protocol.txt): what a proxy says of a connection before its first byte, so that
/// the server knows whose it is. The proxy in front has to be one that is configured, and then has to say it: there is no guessing.
///
///     version 1   "PROXY" SP ("TCP4" | "TCP6") SP source SP destination SP port SP port CRLF      at most 107 bytes
///                 "PROXY" SP "UNKNOWN" … CRLF
///
///     version 2   0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A | version 2, command | family, transport | length, 2 bytes
///                 source, destination: 4 or 16 bytes each | ports, 2 bytes each | TLVs: type, length in 2 bytes, value
///
/// Whatever is not exactly that ends the connection.
package struct ProxyHeader: Hashable, Sendable {
    /// The client. nil: the connection is the proxy's own (LOCAL: a health check), or the proxy does not know.
    package var source: NetworkAddress?

    package init(source: NetworkAddress?) {
        self.source = source
    }

    /// The longest of version 1, with its end of line (section 2.1).
    private static let textBytesMax = 107
    /// The longest of version 2 that is taken. Addresses of UNIX sockets have 216 bytes, the details of a TLS client some hundred.
    package static let bytesMax = 4096

    private static let signature: [UInt8] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]
    private static let word = Array("PROXY ".utf8)

    /// Reads a header from the beginning of what a connection has sent so far.
    ///
    /// - Returns: it and its length; nil: it is not all here.
    package static func parse(_ bytes: [UInt8]) throws(ProxyHeaderFault) -> (header: ProxyHeader, length: Int)? {
        if bytes.isEmpty { return nil }
        if bytes[0] == signature[0] { return try parseBinary(bytes) }
        return try parseText(bytes)
    }

    // MARK: version 1

    private static func parseText(_ bytes: [UInt8]) throws(ProxyHeaderFault) -> (header: ProxyHeader, length: Int)? {
        let count = min(bytes.count, word.count)
        guard bytes[..<count] == word[..<count] else { throw .notThere }
        guard let end = bytes.prefix(textBytesMax).firstIndex(of: UInt8(ascii: "\n")) else {
            guard bytes.count < textBytesMax else { throw .tooLong }
            return nil
        }
        guard end > word.count, bytes[end - 1] == UInt8(ascii: "\r") else { throw .malformed("the line does not end with CR LF") }
        let words = bytes[word.count..<(end - 1)].split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
        // What follows UNKNOWN does not count.
        if words[0].elementsEqual("UNKNOWN".utf8) { return (ProxyHeader(source: nil), end + 1) }
        let isVersion4 = words[0].elementsEqual("TCP4".utf8)
        guard isVersion4 || words[0].elementsEqual("TCP6".utf8) else { throw .malformed("the protocol is not known") }
        guard words.count == 5 else { throw .malformed("there are not two addresses and two ports") }
        var addresses: [NetworkAddress] = []
        for text in words[1...2] {
            guard text.contains(UInt8(ascii: ":")) == !isVersion4, let address = NetworkAddress(String(decoding: text, as: UTF8.self))
            else { throw .malformed("an address is none of its version") }
            addresses.append(address)
        }
        for text in words[3...4] where DecimalNumber.read(text, max: 65_535) == nil { throw .malformed("a port is none") }
        return (ProxyHeader(source: addresses[0]), end + 1)
    }

    // MARK: version 2

    private static func parseBinary(_ bytes: [UInt8]) throws(ProxyHeaderFault) -> (header: ProxyHeader, length: Int)? {
        let count = min(bytes.count, signature.count)
        guard bytes[..<count] == signature[..<count] else { throw .notThere }
        // Each byte is looked at as soon as it is here.
        if bytes.count > 12, bytes[12] >> 4 != 2 || bytes[12] & 0xf > 1 { throw .malformed("the version or the command is not known") }
        if bytes.count > 13, ![0x00, 0x11, 0x21, 0x31].contains(bytes[13]) {
            // Of an unknown address family also LOCAL may not speak; of datagrams a connection has none.
            throw .malformed("the family or the transport is none of a connection")
        }
        guard bytes.count >= 16 else { return nil }
        let length = Int(bytes[14]) << 8 | Int(bytes[15])
        guard 16 + length <= bytesMax else { throw .tooLong }
        let addressBytes = [0x11: 4, 0x21: 16][bytes[13]] ?? 0
        let block = bytes[13] == 0x31 ? 216 : addressBytes == 0 ? 0 : 2 * addressBytes + 4
        let isLocal = bytes[12] & 0xf == 0
        guard isLocal || length >= block else { throw .malformed("it is too short for its addresses") }
        guard bytes.count >= 16 + length else { return nil }
        // What a proxy adds to a connection of its own is thrown away as a whole, and so is what follows addresses of no known form.
        if isLocal || bytes[13] == 0x00 { return (ProxyHeader(source: nil), 16 + length) }
        try checkValues(bytes[..<(16 + length)], from: 16 + block)
        return (ProxyHeader(source: NetworkAddress(bytes: bytes[16..<(16 + addressBytes)])), 16 + length)
    }

    private static let checksumType: UInt8 = 0x03

    /// Types, lengths and values, up to the end; and the checksum, if there is one (section 2.2.4).
    private static func checkValues(_ header: ArraySlice<UInt8>, from start: Int) throws(ProxyHeaderFault) {
        var at = start
        while at < header.endIndex {
            guard at + 3 <= header.endIndex else { throw .malformed("a value is cut off") }
            let length = Int(header[at + 1]) << 8 | Int(header[at + 2])
            guard at + 3 + length <= header.endIndex else { throw .malformed("a value is cut off") }
            if header[at] == checksumType {
                guard length == 4 else { throw .malformed("a checksum has 4 bytes") }
                let place = (at + 3)..<(at + 7)
                let wanted = header[place].reduce(0) { $0 << 8 | UInt32($1) }
                var blank = Array(header)
                for index in place { blank[index - header.startIndex] = 0 }
                guard CRC32C.of(blank) == wanted else { throw .malformed("the checksum is wrong") }
            }
            at += 3 + length
        }
    }
}

/// Why a connection's beginning is no PROXY header.
package enum ProxyHeaderFault: Error, Hashable, Sendable, CustomStringConvertible {
    case notThere
    case tooLong
    case malformed(String)

    package var description: String {
        switch self {
        case .notThere: "there is none"
        case .tooLong: "it is too long"
        case .malformed(let what): what
        }
    }
}

/// RFC 3720 section 12.1: the polynomial 0x1EDC6F41, reflected.
enum CRC32C {
    static func of(_ bytes: [UInt8]) -> UInt32 {
        var sum = UInt32.max
        for byte in bytes {
            sum ^= UInt32(byte)
            for _ in 0..<8 { sum = sum >> 1 ^ (sum & 1 == 1 ? 0x82f6_3b78 : 0) }
        }
        return ~sum
    }
}

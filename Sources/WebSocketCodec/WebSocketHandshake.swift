/// The opening handshake (RFC 6455 section 4) as far as it is WebSocket's own: which field values are right, and what the answers are.
///
/// Request line and fields belong to the HTTP codecs, and so do HTTP/1.1 and `Host`; the origin is the server's policy.
/// Field values come as plain strings, one for each field line of the name, in order. A handshake over HTTP/2 (RFC 8441) has no key,
/// `Upgrade` or `Connection`: for it there is `checkVersion` and `subprotocols`.
package enum WebSocketHandshake {
    /// What a server answers `Sec-WebSocket-Accept` with (section 4.2.2 item 5.4), and a client compares with.
    package static func accept(key: String) -> String {
        Base64.encode(SHA1.digest(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)))
    }

    /// Picks the subprotocol: the first one offered, since that is the client's order of preference, that is supported.
    ///
    /// - Returns: nil if none is; then the answer has no `Sec-WebSocket-Protocol`, and the client decides whether to go on.
    package static func subprotocol(offered: [String], supported: [String]) -> String? {
        offered.first(where: supported.contains)
    }

    /// A client's `Sec-WebSocket-Key`.
    ///
    /// - Parameter random: 16 random bytes, fresh for each connection.
    package static func key(random: (UInt64, UInt64)) -> String {
        Base64.encode(
            withUnsafeBytes(of: random.0.bigEndian, Array.init) + withUnsafeBytes(of: random.1.bigEndian, Array.init)
        )
    }

    /// Refuses any version but 13, and more than one.
    package static func checkVersion(_ values: [String]) throws(Refusal) {
        guard values == ["13"] else { throw .badVersion }
    }

    /// The subprotocols offered by the values of `Sec-WebSocket-Protocol`.
    ///
    /// They have to be tokens, each at most once, and at most 32: a client offers one or two.
    package static func subprotocols(_ values: [String]) throws(Refusal) -> [String] {
        let names = elements(values)
        guard names.count <= 32 else { throw .badSubprotocols }
        for (index, name) in names.enumerated() {
            guard name.utf8.allSatisfy(isTokenByte), !names[..<index].contains(name) else { throw .badSubprotocols }
        }
        return names
    }

    /// The elements of a comma-separated list (RFC 9110 section 5.6.1), without the empty ones, which a recipient has to skip.
    static func elements(_ values: [String]) -> [String] {
        values.flatMap { value in
            value.utf8.split(separator: UInt8(ascii: ",")).compactMap { part in
                let isSpace = { (byte: UInt8) in byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
                guard let first = part.firstIndex(where: { !isSpace($0) }), let last = part.lastIndex(where: { !isSpace($0) }) else {
                    return nil
                }
                return String(part[first...last])
            }
        }
    }

    /// RFC 9110 section 5.6.2.
    static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }

    /// Whether a list holds `token`, in any case (RFC 6455 section 4.2.1 items 3 and 4). `token` is in small letters.
    static func holds(_ values: [String], token: String) -> Bool {
        elements(values).contains { element in
            element.utf8.count == token.utf8.count
                && zip(element.utf8, token.utf8).allSatisfy { byte, small in
                    byte == small || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) && byte | 0x20 == small
                }
        }
    }
}

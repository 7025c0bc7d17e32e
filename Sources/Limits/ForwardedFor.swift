/// Who a request comes from, as the proxies say that it has passed: `Forwarded` (RFC 7239) or `X-Forwarded-For`.
///
///     X-Forwarded-For: 192.0.2.7, 203.0.113.9, 10.0.0.2        peer 10.0.0.1
///                      ^ anybody  ^ the client  ^ trusted       ^ trusted: it wrote 10.0.0.2
///
/// Each proxy adds the one that it was called by, at the end. So it is read from the right, and believed only as far as the proxies are
/// configured; what stands to the left of the first other address, the client may have written itself.
package enum ForwardedFor: String, Sendable, CaseIterable {
    case xForwardedFor = "x-forwarded-for"
    case forwarded

    /// - Parameters:
    ///   - peer: whose connection it is.
    ///   - lines: the values of the field, in order.
    /// - Returns: the first address from the right that is not one of the proxies; if what is there cannot be read, the last one that
    ///   was believed.
    package func client(peer: NetworkAddress, lines: [String], trusted: [NetworkRange]) -> NetworkAddress {
        guard trusted.contains(peer), !lines.isEmpty else { return peer }
        // A malformed field says nothing of anybody.
        guard let nodes = self == .forwarded ? Self.nodes(forwarded: lines) : Self.nodes(list: lines) else { return peer }
        var client = peer
        for node in nodes.suffix(Self.hopsMax).reversed() {
            guard let address = node, address != .unknown else { break }
            client = address
            if !trusted.contains(address) { break }
        }
        return client
    }

    /// More than anybody has proxies.
    private static let hopsMax = 32

    /// - Returns: for each, the address; nil of what is none, such as `unknown`.
    private static func nodes(list lines: [String]) -> [NetworkAddress?]? {
        lines.flatMap { $0.utf8.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false) }
            .map { node(Array($0).trimmedBlanks) }
    }

    /// An address, which may have a port behind it; then one of version 6 stands in brackets (RFC 7239 section 6; with
    /// `X-Forwarded-For` they may be left out where there is no port).
    static func node(_ text: ArraySlice<UInt8>) -> NetworkAddress? {
        if text.first == UInt8(ascii: "[") {
            guard let end = text.firstIndex(of: UInt8(ascii: "]")), isPort(text[(end + 1)...]) else { return nil }
            let inner = text[(text.startIndex + 1)..<end]
            return inner.contains(UInt8(ascii: ":")) ? NetworkAddress(String(decoding: inner, as: UTF8.self)) : nil
        }
        let colons = text.reduce(0) { $0 + ($1 == UInt8(ascii: ":") ? 1 : 0) }
        guard colons == 1 else { return NetworkAddress(String(decoding: text, as: UTF8.self)) }
        let colon = text.firstIndex(of: UInt8(ascii: ":"))!
        return isPort(text[colon...]) ? NetworkAddress(String(decoding: text[..<colon], as: UTF8.self)) : nil
    }

    /// Nothing, or a colon and a port, which may be an obfuscated one (`_` and letters).
    private static func isPort(_ text: ArraySlice<UInt8>) -> Bool {
        if text.isEmpty { return true }
        guard text.first == UInt8(ascii: ":"), text.count > 1 else { return false }
        let port = text.dropFirst()
        if port.first == UInt8(ascii: "_") { return port.count > 1 && port.dropFirst().allSatisfy(isObfuscated) }
        return port.count <= 5 && port.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }

    private static func isObfuscated(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }

    // MARK: RFC 7239

    /// `element *( "," element )`, each of `name=value` pairs with semicolons between; values are tokens or quoted strings (section 4).
    ///
    /// - Returns: what `for` says, by element; nil if the field is malformed.
    private static func nodes(forwarded lines: [String]) -> [NetworkAddress?]? {
        var nodes: [NetworkAddress?] = []
        for line in lines {
            var reader = FieldReader(bytes: Array(line.utf8))
            repeat {
                // An empty element of a list counts for nothing (RFC 9110 section 5.6.1.2).
                reader.skipBlanks()
                if reader.isAtEnd || reader.next == UInt8(ascii: ",") { continue }
                var names: Set<String> = []
                var found: NetworkAddress?
                repeat {
                    reader.skipBlanks()
                    guard let name = reader.token()?.lowercased(), names.insert(name).inserted, reader.take("="),
                        let value = reader.value()
                    else { return nil }
                    if name == "for" { found = node(value[...]) }
                    reader.skipBlanks()
                } while reader.take(";")
                nodes.append(found)
            } while reader.take(",")
            guard reader.isAtEnd else { return nil }
        }
        return nodes
    }

    private struct FieldReader {
        let bytes: [UInt8]
        var at = 0

        var isAtEnd: Bool { at == bytes.count }
        var next: UInt8? { isAtEnd ? nil : bytes[at] }

        mutating func skipBlanks() {
            while let byte = next, byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") { at += 1 }
        }

        mutating func take(_ character: Unicode.Scalar) -> Bool {
            guard next == UInt8(ascii: character) else { return false }
            at += 1
            return true
        }

        /// RFC 9110 section 5.6.2.
        mutating func token() -> String? {
            let start = at
            while let byte = next, ForwardedFor.isObfuscated(byte) || "!#$%&'*+^`|~".utf8.contains(byte) { at += 1 }
            return at > start ? String(decoding: bytes[start..<at], as: UTF8.self) : nil
        }

        /// A token or a quoted string (section 5.6.4).
        mutating func value() -> [UInt8]? {
            guard take("\"") else { return token().map { Array($0.utf8) } }
            var out: [UInt8] = []
            while let byte = next {
                at += 1
                if byte == UInt8(ascii: "\"") { return out }
                guard byte == UInt8(ascii: "\\") else {
                    out.append(byte)
                    continue
                }
                guard let escaped = next else { return nil }
                out.append(escaped)
                at += 1
            }
            return nil
        }
    }
}

extension [UInt8] {
    fileprivate var trimmedBlanks: ArraySlice<UInt8> {
        func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
        guard let first = firstIndex(where: { !isBlank($0) }), let last = lastIndex(where: { !isBlank($0) }) else { return [] }
        return self[first...last]
    }
}

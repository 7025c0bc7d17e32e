/// An address of version 6 (RFC 4291). One of version 4 is the version 6 address that stands for it: `::ffff:a.b.c.d` (section 2.5.5.2),
/// so that a client is the same whether a socket of either version has it.
package struct NetworkAddress: Hashable, Sendable, CustomStringConvertible {
    package var high: UInt64
    package var low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    package init(version4: UInt32) {
        self.init(high: 0, low: 0xffff_0000_0000 | UInt64(version4))
    }

    /// - Parameter bytes: 4 or 16, in network order.
    package init?(bytes: some Collection<UInt8>) {
        switch bytes.count {
        case 4: self.init(version4: bytes.reduce(0) { $0 << 8 | UInt32($1) })
        case 16:
            self.init(
                high: bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }, low: bytes.dropFirst(8).reduce(0) { $0 << 8 | UInt64($1) }
            )
        default: return nil
        }
    }

    /// Nobody's: `::`.
    package static let unknown = NetworkAddress(high: 0, low: 0)

    package var isVersion4: Bool { high == 0 && low >> 32 == 0xffff }

    /// 127.0.0.0/8 (RFC 1122 section 3.2.1.3) or `::1`.
    package var isLoopback: Bool { self == Self(high: 0, low: 1) || isVersion4 && low >> 24 & 0xff == 127 }

    /// The network that one customer has: of version 6 the /64 (RFC 6177 gives a site no less), of version 4 the address itself.
    package var site: NetworkAddress { isVersion4 ? self : NetworkAddress(high: high, low: 0) }

    /// What is left of it with so many leading bits, 0 to 128.
    package func masked(_ bits: Int) -> NetworkAddress {
        NetworkAddress(
            high: bits >= 64 ? high : bits == 0 ? 0 : high & (.max << (64 - UInt64(bits))),
            low: bits >= 128 ? low : bits <= 64 ? 0 : low & (.max << (128 - UInt64(bits)))
        )
    }

    // MARK: text

    /// Dotted decimal without leading zeros (RFC 6943 section 3.1.1 says why), or RFC 4291 section 2.2 without a zone.
    package init?(_ text: some StringProtocol) {
        let bytes = Array(text.utf8)
        guard bytes.count <= 45 else { return nil }
        if bytes.contains(UInt8(ascii: ":")) {
            guard let address = Self.version6(bytes) else { return nil }
            self = address
        } else {
            guard let number = Self.version4(bytes[...]) else { return nil }
            self.init(version4: number)
        }
    }

    private static func version4(_ text: ArraySlice<UInt8>) -> UInt32? {
        let parts = text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var number: UInt32 = 0
        for part in parts {
            guard let value = DecimalNumber.read(part, max: 255) else { return nil }
            number = number << 8 | UInt32(value)
        }
        return number
    }

    private static func version6(_ text: [UInt8]) -> NetworkAddress? {
        var groups: [UInt16] = []
        // Where `::` stands.
        var gap: Int?
        var rest = text[...]
        if rest.starts(with: "::".utf8) {
            gap = 0
            rest = rest.dropFirst(2)
        }
        while !rest.isEmpty {
            let part = rest.prefix { $0 != UInt8(ascii: ":") }
            if part.contains(UInt8(ascii: ".")) {
                guard part.count == rest.count, let number = version4(part) else { return nil }
                groups += [UInt16(number >> 16), UInt16(truncatingIfNeeded: number)]
                rest = []
                break
            }
            guard (1...4).contains(part.count), let group = UInt16(hexadecimal: part) else { return nil }
            groups.append(group)
            rest = rest.dropFirst(part.count)
            if rest.isEmpty { break }
            rest = rest.dropFirst()
            // A single colon ends nothing.
            if rest.isEmpty { return nil }
            if rest.first == UInt8(ascii: ":") {
                guard gap == nil else { return nil }
                gap = groups.count
                rest = rest.dropFirst()
            }
        }
        if let gap {
            // `::` stands for at least one group.
            guard groups.count <= 7 else { return nil }
            groups.insert(contentsOf: Array(repeating: 0, count: 8 - groups.count), at: gap)
        }
        guard groups.count == 8 else { return nil }
        return NetworkAddress(
            high: groups[..<4].reduce(0) { $0 << 16 | UInt64($1) }, low: groups[4...].reduce(0) { $0 << 16 | UInt64($1) }
        )
    }

    /// As RFC 5952 has it; version 4 as dotted decimal.
    package var description: String {
        if isVersion4 { return (0..<4).map { "\(low >> UInt64(24 - 8 * $0) & 0xff)" }.joined(separator: ".") }
        var groups: [UInt16] = []
        for word in [high, low] {
            for shift: UInt64 in [48, 32, 16, 0] { groups.append(UInt16(truncatingIfNeeded: word >> shift)) }
        }
        // The longest row of zeros, the first of those (section 4.2.3); one group alone is written out.
        var longest = 0..<0
        var start = 0
        while start < 8 {
            var end = start
            while end < 8, groups[end] == 0 { end += 1 }
            if end - start > max(1, longest.count) { longest = start..<end }
            start = max(end, start + 1)
        }
        func text(_ part: some Collection<UInt16>) -> String { part.map { String($0, radix: 16) }.joined(separator: ":") }
        return longest.isEmpty ? text(groups) : text(groups[..<longest.lowerBound]) + "::" + text(groups[longest.upperBound...])
    }
}

/// A network in CIDR notation (RFC 4632 section 3.1, RFC 4291 section 2.3), or one address.
package struct NetworkRange: Hashable, Sendable, CustomStringConvertible {
    package let address: NetworkAddress
    /// Of the address of version 6.
    package let bits: Int

    /// - Returns: nil if it is no network: bits beyond the prefix have to be zero, as else one of the two is a mistake.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = NetworkAddress(parts[0]) else { return nil }
        let isVersion4 = !parts[0].contains(":")
        if parts.count == 2 {
            guard let count = DecimalNumber.read(Array(parts[1].utf8)[...], max: isVersion4 ? 32 : 128) else { return nil }
            bits = isVersion4 ? 96 + count : count
        } else {
            bits = 128
        }
        guard address.masked(bits) == address else { return nil }
        self.address = address
    }

    package func contains(_ other: NetworkAddress) -> Bool { other.masked(bits) == address }

    /// Not of the internet: loopback (RFC 1122 section 3.2.1.3), private (RFC 1918, RFC 4193), link-local (RFC 3927, RFC 4291 section
    /// 2.5.6) and within a provider's network (RFC 6598).
    package static let local: [NetworkRange] = [
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "::1", "fc00::/7", "fe80::/10",
    ].map { NetworkRange($0)! }

    package var description: String { "\(address)/\(address.isVersion4 ? bits - 96 : bits)" }
}

extension [NetworkRange] {
    package func contains(_ address: NetworkAddress) -> Bool { contains { $0.contains(address) } }
}

/// Decimal digits without a leading zero.
enum DecimalNumber {
    static func read(_ text: ArraySlice<UInt8>, max: Int) -> Int? {
        guard (1...5).contains(text.count), text.count == 1 || text.first != UInt8(ascii: "0") else { return nil }
        var number = 0
        for byte in text {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            number = 10 * number + Int(byte - UInt8(ascii: "0"))
        }
        return number <= max ? number : nil
    }
}

extension UInt16 {
    /// Four digits at most; signs are none.
    fileprivate init?(hexadecimal text: ArraySlice<UInt8>) {
        var number: UInt16 = 0
        for byte in text {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): number = number << 4 | UInt16(byte - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): number = number << 4 | UInt16(byte - UInt8(ascii: "a") + 10)
            case UInt8(ascii: "A")...UInt8(ascii: "F"): number = number << 4 | UInt16(byte - UInt8(ascii: "A") + 10)
            default: return nil
            }
        }
        self = number
    }
}

/// SipHash-1-3 over words of 64 bits (Aumasson and Bernstein, "SipHash: a fast short-input PRF"; the variant with one and three rounds).
/// With a key that nobody outside knows, nobody can choose names that fall together.
package struct KeyedHash: Sendable {
    private let first: UInt64
    private let second: UInt64

    package init(key first: UInt64, _ second: UInt64) {
        self.first = first
        self.second = second
    }

    /// - Parameter kind: tells the same words of different tables apart.
    package func of(_ address: NetworkAddress, kind: UInt64) -> UInt64 {
        var state = State(first, second)
        for word in [kind, address.high, address.low] { state.add(word) }
        return state.finish(count: 3)
    }

    package func of(_ text: String, kind: UInt64) -> UInt64 {
        var state = State(first, second)
        state.add(kind)
        var word: UInt64 = 0
        var count: UInt64 = 0
        for byte in text.utf8 {
            word |= UInt64(byte) << (8 * (count % 8))
            count += 1
            if count.isMultiple(of: 8) {
                state.add(word)
                word = 0
            }
        }
        state.add(word)
        return state.finish(count: count)
    }

    private struct State {
        var v0, v1, v2, v3: UInt64

        init(_ first: UInt64, _ second: UInt64) {
            v0 = first ^ 0x736f_6d65_7073_6575
            v1 = second ^ 0x646f_7261_6e64_6f6d
            v2 = first ^ 0x6c79_6765_6e65_7261
            v3 = second ^ 0x7465_6462_7974_6573
        }

        mutating func add(_ word: UInt64) {
            v3 ^= word
            round()
            v0 ^= word
        }

        mutating func finish(count: UInt64) -> UInt64 {
            add(count << 56)
            v2 ^= 0xff
            for _ in 0..<3 { round() }
            return v0 ^ v1 ^ v2 ^ v3
        }

        private mutating func round() {
            func rotate(_ word: UInt64, _ by: UInt64) -> UInt64 { word << by | word >> (64 - by) }
            v0 &+= v1
            v1 = rotate(v1, 13) ^ v0
            v0 = rotate(v0, 32)
            v2 &+= v3
            v3 = rotate(v3, 16) ^ v2
            v0 &+= v3
            v3 = rotate(v3, 21) ^ v0
            v2 &+= v1
            v1 = rotate(v1, 17) ^ v2
            v2 = rotate(v2, 32)
        }
    }
}

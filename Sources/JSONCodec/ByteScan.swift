/// Looks at eight bytes in one go.
///
/// Each test gives a word in which the high bit of a byte is set where the byte is a hit. Borrows can set bits *above* the first hit
/// wrongly, never below it, so the lowest set bit is always right, and that is the only one that is asked for.
enum ByteScan {
    private static let ones: UInt64 = 0x0101_0101_0101_0101
    private static let highs: UInt64 = 0x8080_8080_8080_8080

    /// The bytes at `offset`, the first of them lowest. `offset + 8` has to be inside the buffer.
    @inline(__always)
    static func word(_ input: UnsafeRawBufferPointer, _ offset: Int) -> UInt64 {
        UInt64(littleEndian: input.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    @inline(__always)
    static func equal(_ word: UInt64, _ byte: UInt8) -> UInt64 {
        let difference = word ^ (ones &* UInt64(byte))
        return (difference &- ones) & ~difference & highs
    }

    /// Quotes, backslashes and control characters: what cannot stand for itself in a string.
    @inline(__always)
    static func special(_ word: UInt64) -> UInt64 {
        equal(word, UInt8(ascii: "\"")) | equal(word, UInt8(ascii: "\\")) | ((word &- (ones &* 0x20)) & ~word & highs)
    }

    @inline(__always)
    static func notASCII(_ word: UInt64) -> UInt64 { word & highs }

    /// How many bytes stand before the first hit.
    @inline(__always)
    static func before(_ hits: UInt64) -> Int { hits.trailingZeroBitCount >> 3 }

    /// Where the first `byte` at or after `start` is; nil if there is none.
    static func firstIndex(of byte: UInt8, in input: UnsafeRawBufferPointer, from start: Int) -> Int? {
        var at = start
        while input.count - at >= 8 {
            let hits = equal(word(input, at), byte)
            if hits != 0 { return at + before(hits) }
            at += 8
        }
        while at < input.count {
            if input[at] == byte { return at }
            at += 1
        }
        return nil
    }

    /// Where the first byte at or after `start` is that a string has to escape; the end if there is none.
    static func firstSpecial(in input: UnsafeRawBufferPointer, from start: Int) -> Int {
        var at = start
        while input.count - at >= 8 {
            let hits = special(word(input, at))
            if hits != 0 { return at + before(hits) }
            at += 8
        }
        while at < input.count {
            let byte = input[at]
            if byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { return at }
            at += 1
        }
        return at
    }
}

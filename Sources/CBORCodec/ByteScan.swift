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
    private static func equal(_ word: UInt64, _ byte: UInt8) -> UInt64 {
        let difference = word ^ (ones &* UInt64(byte))
        return (difference &- ones) & ~difference & highs
    }

    @inline(__always)
    private static func before(_ hits: UInt64) -> Int { hits.trailingZeroBitCount >> 3 }

    /// Where the first quote or backslash at or after `start` is; the end if there is none.
    @inline(__always)
    static func firstQuoteOrBackslash(in input: UnsafeRawBufferPointer, from start: Int) -> Int {
        let end = input.count
        var at = start
        while end &- at >= 8 {
            let word = word(input, at)
            let hits = equal(word, UInt8(ascii: "\"")) | equal(word, UInt8(ascii: "\\"))
            if hits != 0 { return at &+ before(hits) }
            at &+= 8
        }
        while at < end, input[at] != UInt8(ascii: "\""), input[at] != UInt8(ascii: "\\") { at &+= 1 }
        return at
    }

    /// Where the first byte at or after `start` is that a JSON string has to escape, or that is not ASCII; the end if there is none.
    static func firstNotPlain(in input: UnsafeRawBufferPointer, from start: Int) -> Int {
        let end = input.count
        var at = start
        while end &- at >= 8 {
            let word = word(input, at)
            let controls = (word &- (ones &* 0x20)) & ~word & highs
            let hits = equal(word, UInt8(ascii: "\"")) | equal(word, UInt8(ascii: "\\")) | controls | (word & highs)
            if hits != 0 { return at &+ before(hits) }
            at &+= 8
        }
        while at < end {
            let byte = input[at]
            if byte < 0x20 || byte >= 0x80 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { break }
            at &+= 1
        }
        return at
    }
}

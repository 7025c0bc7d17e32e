/// Finds where a line ends. A line of an event stream ends at CR, LF or both (WHATWG HTML section 9.2.5).
enum LineScanner {
    static let cr = UInt8(ascii: "\r")
    static let lf = UInt8(ascii: "\n")

    /// The offset of the first CR or LF at or after `start`; the count if there is none. Eight bytes at a time.
    @inline(__always)
    static func lineEnd(in bytes: UnsafeRawBufferPointer, from start: Int) -> Int {
        guard let base = bytes.baseAddress else { return 0 }
        let count = bytes.count
        var offset = start
        while offset &+ 8 <= count {
            let word = UInt64(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
            let hits = zeroBytes(word ^ 0x0A0A_0A0A_0A0A_0A0A) | zeroBytes(word ^ 0x0D0D_0D0D_0D0D_0D0D)
            if hits != 0 { return offset &+ hits.trailingZeroBitCount / 8 }
            offset &+= 8
        }
        while offset < count {
            let byte = bytes[offset]
            if byte == cr || byte == lf { return offset }
            offset &+= 1
        }
        return count
    }

    /// Has the high bit of each byte set that is zero in `word`. Above the lowest such byte it may err, below it never does.
    @inline(__always)
    private static func zeroBytes(_ word: UInt64) -> UInt64 {
        (word &- 0x0101_0101_0101_0101) & ~word & 0x8080_8080_8080_8080
    }
}

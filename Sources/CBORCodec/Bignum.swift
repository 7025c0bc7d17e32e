/// Whole numbers of up to 1088 bits, on the stack: as many as a bignum of `CBORLimits.bignumBytesMax` needs, and one word to carry into.
struct Bignum: ~Copyable {
    /// 10^19, the largest power of ten in a word.
    private static let chunk: UInt64 = 10_000_000_000_000_000_000
    private static let chunkDigits = 19

    /// Lowest word first.
    private var words = InlineArray<17, UInt64>(repeating: 0)
    /// Words from here on are zero.
    private var used = 0

    /// - Parameter bytes: most significant first; at most `CBORLimits.bignumBytesMax`.
    init(bigEndian bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count <= CBORLimits.bignumBytesMax)
        for (index, byte) in bytes.reversed().enumerated() { words[index >> 3] |= UInt64(byte) << UInt64(8 * (index & 7)) }
        used = (bytes.count + 7) / 8
        trim()
    }

    /// As many digits as 2^1024 has. So no number of `CBORLimits.bignumBytesMax` is lost, and the work is bounded.
    static let digitsMax = 309

    /// - Parameter digits: decimal ones, at most `digitsMax`.
    init(digits: UnsafeRawBufferPointer) {
        precondition(digits.count <= Self.digitsMax)
        var at = 0
        while at < digits.count {
            // A short chunk first, then full ones.
            let end = at + 1 + (digits.count - at - 1) % Self.chunkDigits
            var value: UInt64 = 0
            var scale: UInt64 = 1
            for index in at..<end {
                value = value &* 10 &+ UInt64(digits[index] &- UInt8(ascii: "0"))
                scale &*= 10
            }
            multiply(by: scale, adding: value)
            at = end
        }
    }

    private mutating func trim() {
        while used > 0, words[used - 1] == 0 { used -= 1 }
    }

    private mutating func multiply(by factor: UInt64, adding summand: UInt64) {
        var carry = summand
        for index in 0..<used {
            let product = words[index].multipliedFullWidth(by: factor)
            let (low, overflow) = product.low.addingReportingOverflow(carry)
            words[index] = low
            carry = product.high &+ (overflow ? 1 : 0)
        }
        if carry > 0 {
            words[used] = carry
            used += 1
        }
    }

    /// The number, if it fits into a word.
    var word: UInt64? { used > 1 ? nil : words[0] }

    var isZero: Bool { used == 0 }

    mutating func subtractOne() {
        precondition(!isZero)
        var index = 0
        while words[index] == 0 {
            words[index] = .max
            index += 1
        }
        words[index] -= 1
        trim()
    }

    mutating func addOne() {
        for index in 0..<used {
            words[index] &+= 1
            if words[index] != 0 { return }
        }
        words[used] = 1
        used += 1
    }

    /// How many bytes it has, without zeros before it.
    var byteCount: Int { used == 0 ? 0 : 8 * used - words[used - 1].leadingZeroBitCount / 8 }

    /// Most significant byte first.
    func appendBytes(to out: inout ByteSink) {
        for index in stride(from: byteCount - 1, through: 0, by: -1) {
            out.append(UInt8(truncatingIfNeeded: words[index >> 3] >> UInt64(8 * (index & 7))))
        }
    }

    /// Appends its decimal digits. Leaves zero behind.
    consuming func appendDigits(to out: inout [UInt8]) {
        let start = out.count
        repeat {
            var rest: UInt64 = 0
            for index in stride(from: used - 1, through: 0, by: -1) {
                (words[index], rest) = Self.chunk.dividingFullWidth((rest, words[index]))
            }
            trim()
            var digits = 0
            repeat {
                out.append(UInt8(ascii: "0") + UInt8(rest % 10))
                rest /= 10
                digits += 1
            } while isZero ? rest > 0 : digits < Self.chunkDigits
        } while !isZero
        out[start...].reverse()
    }
}

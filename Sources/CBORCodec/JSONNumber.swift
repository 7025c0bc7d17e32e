/// A number as JSON writes it (RFC 8259, section 6), read digit by digit: digits x 10^exponent.
struct JSONNumber {
    private static let digitsMax = 19  // 10^19 - 1 fits into a word
    private static let powersMax = 27  // 5^27 fits into a word

    private(set) var isNegative = false
    /// The first 19 digits that count.
    private(set) var digits: UInt64 = 0
    private(set) var exponent = 0
    /// Whether a digit other than 0 came after those.
    private(set) var isCut = false
    /// Whether it is written without fraction and exponent.
    private(set) var isWhole = true
    /// How many digits of `digits` count.
    private var counted = 0
    /// Where it ends.
    private(set) var end: Int

    /// - Parameter start: where a number begins in a checked text.
    init(_ text: UnsafeRawBufferPointer, from start: Int) {
        end = start
        if text[end] == UInt8(ascii: "-") {
            isNegative = true
            end += 1
        }
        readDigits(text, isFraction: false)
        if end < text.count, text[end] == UInt8(ascii: ".") {
            isWhole = false
            end += 1
            readDigits(text, isFraction: true)
        }
        if end < text.count, text[end] | 0x20 == UInt8(ascii: "e") {
            isWhole = false
            end += 1
            readExponent(text)
        }
    }

    @inline(__always)
    private static func digit(_ text: UnsafeRawBufferPointer, _ at: Int) -> UInt8? {
        guard at < text.count else { return nil }
        let digit = text[at] &- UInt8(ascii: "0")
        return digit < 10 ? digit : nil
    }

    @inline(__always)
    private mutating func readDigits(_ text: UnsafeRawBufferPointer, isFraction: Bool) {
        let start = end
        while let digit = Self.digit(text, end) {
            if counted < Self.digitsMax {
                digits = digits &* 10 &+ UInt64(digit)
                // Zeros before the first other digit do not count.
                if digits > 0 { counted &+= 1 }
                if isFraction { exponent &-= 1 }
            } else {
                if digit > 0 { isCut = true }
                if !isFraction { exponent &+= 1 }
            }
            end &+= 1
        }
        precondition(end > start, "not a checked text")
    }

    private mutating func readExponent(_ text: UnsafeRawBufferPointer) {
        // Far beyond what the digits of any text can make up for.
        let exponentMax = 1 << 50
        var isBelow = false
        if end < text.count, text[end] == UInt8(ascii: "-") || text[end] == UInt8(ascii: "+") {
            isBelow = text[end] == UInt8(ascii: "-")
            end += 1
        }
        let start = end
        var written = 0
        while let digit = Self.digit(text, end) {
            written = min(written * 10 + Int(digit), exponentMax)
            end += 1
        }
        precondition(end > start, "not a checked text")
        exponent += isBelow ? -written : written
    }

    /// The nearest double, ties to even (IEEE 754, section 4.3.1), as RFC 8949, section 6.2, wants it; an infinity if it is beyond them.
    ///
    /// - Parameter text: the number's own text.
    func double(_ text: UnsafeRawBufferPointer) -> Double {
        guard let magnitude = magnitude() else { return Double(String(decoding: text, as: UTF8.self))! }
        return isNegative ? -magnitude : magnitude
    }

    /// Without allocation: for nearly all numbers that are met.
    private func magnitude() -> Double? {
        if digits == 0 { return 0 }
        guard abs(exponent) <= Self.powersMax else { return nil }
        let nearest = Self.nearest(digits, exponent)
        // What was cut off lies between these digits and the next: if both are nearest to one double, so is the number.
        if isCut, Self.nearest(digits + 1, exponent) != nearest { return nil }
        return nearest
    }

    /// Exact digits x 5^exponent, or their quotient to 63 bits and whether a rest is left; rounded once, then scaled by a power of two.
    private static func nearest(_ digits: UInt64, _ exponent: Int) -> Double {
        let shift = digits.leadingZeroBitCount
        let number = digits << UInt64(shift)
        var power: UInt64 = 1
        for _ in 0..<abs(exponent) { power &*= 5 }

        var top: UInt64
        let rest: UInt64
        var scale = exponent - shift
        if exponent >= 0 {
            let product = UInt128(number) * UInt128(power)
            let zeros = product.leadingZeroBitCount
            let aligned = product << UInt128(zeros)
            top = UInt64(truncatingIfNeeded: aligned >> 64)
            rest = UInt64(truncatingIfNeeded: aligned)
            scale += 64 - zeros
        } else {
            let zeros = power.leadingZeroBitCount
            (top, rest) = (power << UInt64(zeros)).dividingFullWidth((number >> 1, number << 63))
            scale += zeros - 63
        }
        // The lowest bit is far below those of a double: it only has to say whether there is a rest.
        if rest > 0 { top |= 1 }
        let rounded = Double(top)
        // Between 2^-130 and 2^190: neither subnormal nor too large.
        return Double(bitPattern: UInt64(bitPattern: Int64(bitPattern: rounded.bitPattern) + Int64(scale) << 52))
    }
}

/// The first bytes of every CBOR item (RFC 8949, section 3): its major type in three bits and its argument in the other five, or, where
/// those say 24 to 27, in the 1, 2, 4 or 8 bytes that follow, most significant first.
///
///     +-+-+-+-+-+-+-+-+----------------+
///     |major|argument | 0 1 2 4 8 bytes|        0 to 23: it is the argument itself; 28 to 30: reserved;
///     +-+-+-+-+-+-+-+-+----------------+        31: no length is told, a break (0xff) ends it
enum CBORMajor {
    static let unsigned: UInt8 = 0
    /// The number -1 - argument.
    static let negative: UInt8 = 1
    static let bytes: UInt8 = 2
    static let text: UInt8 = 3
    static let array: UInt8 = 4
    /// The argument counts pairs.
    static let map: UInt8 = 5
    static let tag: UInt8 = 6
    /// false, true, null and such, floats, and the break.
    static let simple: UInt8 = 7
}

/// Tags that mean something to us (section 3.4).
enum CBORTag {
    /// A byte string that is a number, most significant byte first (section 3.4.3).
    static let unsignedBignum: UInt64 = 2
    /// The same for -1 - number.
    static let negativeBignum: UInt64 = 3
    /// Says only that CBOR follows (section 3.4.6).
    static let selfDescribed: UInt64 = 55799
}

/// Writes heads and floats in their shortest form (section 4.1).
extension ByteSink {
    @inline(__always)
    mutating func appendHead(_ major: UInt8, _ argument: UInt64) {
        if argument < 24 {
            append(major << 5 | UInt8(truncatingIfNeeded: argument))
        } else {
            let size = Self.argumentBytes(argument)
            append(Self.longHead(major, size))
            appendBigEndian(argument, bytes: size)
        }
    }

    @inline(__always)
    private static func argumentBytes(_ argument: UInt64) -> Int {
        argument <= 0xff ? 1 : argument <= 0xffff ? 2 : argument <= 0xffff_ffff ? 4 : 8
    }

    /// 1, 2, 4 and 8 bytes are 24, 25, 26 and 27.
    @inline(__always)
    private static func longHead(_ major: UInt8, _ size: Int) -> UInt8 { major << 5 | UInt8(24 &+ size.trailingZeroBitCount) }

    /// Makes a head of the one byte that was put where an array or map begins, now that its length is known. What it holds moves up if
    /// the length does not fit into that byte.
    mutating func setHead(_ major: UInt8, _ length: Int, at place: Int) {
        let argument = UInt64(length)
        guard argument >= 24 else { return set(major << 5 | UInt8(argument), at: place) }
        let size = Self.argumentBytes(argument)
        set(Self.longHead(major, size), at: place)
        makeRoom(size, at: place + 1)
        for index in 0..<size { set(UInt8(truncatingIfNeeded: argument >> UInt64(8 * (size - 1 - index))), at: place + 1 + index) }
    }

    /// Appends a number as the shortest of the three floats that is exactly it. Not for NaN.
    mutating func appendFloat(_ number: Double) {
        precondition(!number.isNaN)
        if let half = HalfFloat.bits(number) {
            append(Self.longHead(CBORMajor.simple, 2))
            appendBigEndian(UInt64(half), bytes: 2)
        } else if Double(Float(number)) == number {
            append(Self.longHead(CBORMajor.simple, 4))
            appendBigEndian(UInt64(Float(number).bitPattern), bytes: 4)
        } else {
            append(Self.longHead(CBORMajor.simple, 8))
            appendBigEndian(number.bitPattern, bytes: 8)
        }
    }
}

/// IEEE 754 binary16: a sign bit, five bits of exponent (bias 15), ten of fraction. By hand, because `Float16` is not there on every
/// platform.
enum HalfFloat {
    /// The half float that is exactly this number; nil if there is none. Not for NaN.
    static func bits(_ number: Double) -> UInt16? {
        let sign = UInt16(truncatingIfNeeded: number.bitPattern >> 48) & 0x8000
        if number == 0 { return sign }
        if number.isInfinite { return sign | 0x7c00 }
        let exponent = Int(number.bitPattern >> 52 & 0x7ff) - 1023
        let fraction = number.bitPattern & (1 << 52 - 1)
        switch exponent {
        case -14...15:
            guard fraction & (1 << 42 - 1) == 0 else { return nil }
            return sign | UInt16(exponent + 15) << 10 | UInt16(fraction >> 42)
        case -24 ... -15:
            // A multiple of 2^-24, without the leading one that is not written.
            let shift = UInt64(28 - exponent)
            let whole = fraction | 1 << 52
            guard whole & (1 << shift - 1) == 0 else { return nil }
            return sign | UInt16(whole >> shift)
        default:
            return nil
        }
    }

    /// The number that a half float is; infinities and NaN as they are.
    static func double(_ bits: UInt16) -> Double {
        let exponent = Int(bits >> 10 & 0x1f)
        let fraction = UInt64(bits & 0x3ff)
        let sign = UInt64(bits >> 15) << 63
        let magnitude: Double =
            switch exponent {
            case 0: Double(fraction) * 0x1p-24
            case 31: fraction == 0 ? .infinity : .nan
            default: Double(bitPattern: UInt64(exponent - 15 + 1023) << 52 | fraction << 42)
            }
        return Double(bitPattern: magnitude.bitPattern | sign)
    }
}

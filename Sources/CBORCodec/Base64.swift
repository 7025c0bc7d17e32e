/// Base64 (RFC 4648, section 4): with padding, without line breaks.
enum Base64 {
    private static let alphabet: StaticString = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

    @inline(__always)
    private static func letter(_ sextet: UInt32) -> UInt8 { alphabet.utf8Start[Int(sextet & 63)] }

    /// How many bytes a text stands for whose length and padding are right; nil if they are not.
    static func bytes(letters: UnsafeRawBufferPointer) -> Int? {
        let count = letters.count
        guard count % 4 == 0 else { return nil }
        guard count > 0, letters[count - 1] == UInt8(ascii: "=") else { return count / 4 * 3 }
        return count / 4 * 3 - (letters[count - 2] == UInt8(ascii: "=") ? 2 : 1)
    }

    /// Appends what a text stands for.
    ///
    /// - Returns: false if it is not the one right way to write some bytes; something may have been appended then.
    static func decode(_ letters: UnsafeRawBufferPointer, into out: inout [UInt8]) -> Bool {
        guard let count = bytes(letters: letters) else { return false }
        let whole = letters.count - (count % 3 == 0 ? 0 : 4)
        var at = 0
        while at < whole {
            guard let a = value(letters[at]), let b = value(letters[at &+ 1]), let c = value(letters[at &+ 2]),
                let d = value(letters[at &+ 3])
            else { return false }
            let bits = a << 18 | b << 12 | c << 6 | d
            out.append(UInt8(truncatingIfNeeded: bits >> 16))
            out.append(UInt8(truncatingIfNeeded: bits >> 8))
            out.append(UInt8(truncatingIfNeeded: bits))
            at &+= 4
        }
        if count % 3 == 0 { return true }
        guard let a = value(letters[at]), let b = value(letters[at + 1]) else { return false }
        out.append(UInt8(truncatingIfNeeded: a << 2 | b >> 4))
        if count % 3 == 1 { return b & 15 == 0 }
        guard let c = value(letters[at + 2]) else { return false }
        out.append(UInt8(truncatingIfNeeded: b << 4 | c >> 2))
        return c & 3 == 0
    }

    @inline(__always)
    private static func value(_ letter: UInt8) -> UInt32? {
        switch letter {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(letter - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(letter - UInt8(ascii: "a") + 26)
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(letter - UInt8(ascii: "0") + 52)
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }

    /// Writes bytes that come in pieces.
    struct Encoder {
        private var bits: UInt32 = 0
        private var held = 0

        mutating func append(_ bytes: UnsafeRawBufferPointer, to out: inout [UInt8]) {
            for byte in bytes {
                bits = bits << 8 | UInt32(byte)
                held += 1
                if held == 3 {
                    for shift: UInt32 in [18, 12, 6, 0] { out.append(Base64.letter(bits >> shift)) }
                    bits = 0
                    held = 0
                }
            }
        }

        /// Writes the last one or two bytes, and the padding.
        mutating func finish(to out: inout [UInt8]) {
            guard held > 0 else { return }
            bits <<= UInt32(8 * (3 - held))
            out.append(Base64.letter(bits >> 18))
            out.append(Base64.letter(bits >> 12))
            out.append(held == 2 ? Base64.letter(bits >> 6) : UInt8(ascii: "="))
            out.append(UInt8(ascii: "="))
            bits = 0
            held = 0
        }
    }
}

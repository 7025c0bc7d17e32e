/// Base64 (RFC 4648, section 4): with padding, without line breaks.
enum Base64 {
    private static let alphabet: StaticString = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

    @inline(__always)
    private static func letter(_ sextet: UInt32) -> UInt8 { alphabet.utf8Start[Int(sextet & 63)] }

    /// What each byte stands for; 255 if it is no letter.
    private static let values: [UInt8] = {
        var values = [UInt8](repeating: 255, count: 256)
        for value in 0..<64 { values[Int(letter(UInt32(value)))] = UInt8(value) }
        return values
    }()

    /// How many bytes a text stands for whose length and padding are right; nil if they are not.
    static func bytes(letters: UnsafeRawBufferPointer) -> Int? {
        let count = letters.count
        guard count % 4 == 0 else { return nil }
        guard count > 0, letters[count - 1] == UInt8(ascii: "=") else { return count / 4 * 3 }
        return count / 4 * 3 - (letters[count - 2] == UInt8(ascii: "=") ? 2 : 1)
    }

    /// Writes what a text stands for.
    ///
    /// - Parameter out: has room for `bytes(letters:)`, which is not nil.
    /// - Returns: false if it is not the one right way to write some bytes.
    static func decode(_ letters: UnsafeRawBufferPointer, to out: UnsafeMutablePointer<UInt8>) -> Bool {
        guard let count = bytes(letters: letters) else { return false }
        return values.withUnsafeBufferPointer { values in
            func value(_ place: Int) -> UInt32 { UInt32(values[Int(letters[place])]) }
            // What is no letter sets bits that no letter has.
            var all: UInt32 = 0
            for group in 0..<count / 3 {
                let (a, b, c, d) = (value(4 &* group), value(4 &* group &+ 1), value(4 &* group &+ 2), value(4 &* group &+ 3))
                all |= a | b | c | d
                let bits = a << 18 | b << 12 | c << 6 | d
                out[3 &* group] = UInt8(truncatingIfNeeded: bits >> 16)
                out[3 &* group &+ 1] = UInt8(truncatingIfNeeded: bits >> 8)
                out[3 &* group &+ 2] = UInt8(truncatingIfNeeded: bits)
            }
            if count % 3 > 0 {
                let last = letters.count - 4
                let (a, b, c) = (value(last), value(last + 1), count % 3 == 2 ? value(last + 2) : 0)
                let bits = a << 18 | b << 12 | c << 6
                all |= a | b | c
                // The bits that do not make a byte are zero.
                guard bits & (count % 3 == 2 ? 0xff : 0xffff) == 0 else { return false }
                out[count - 1] = UInt8(truncatingIfNeeded: bits >> (count % 3 == 2 ? 8 : 16))
                if count % 3 == 2 { out[count - 2] = UInt8(truncatingIfNeeded: bits >> 16) }
            }
            return all < 64
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

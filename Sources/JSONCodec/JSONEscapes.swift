/// Escapes of checked strings, undone (RFC 8259, section 7).
enum JSONEscapes {
    /// - Parameter inner: what stands between the quotes.
    static func decode(_ inner: UnsafeRawBufferPointer) -> String {
        guard let firstEscape = ByteScan.firstIndex(of: UInt8(ascii: "\\"), in: inner, from: 0) else {
            return String(decoding: inner, as: UTF8.self)
        }
        // No escape is shorter than what it stands for.
        return String(unsafeUninitializedCapacity: inner.count) { out in
            var used = 0
            func copy(_ range: Range<Int>) {
                for index in range { out.initializeElement(at: used + index - range.lowerBound, to: inner[index]) }
                used += range.count
            }
            copy(0..<firstEscape)
            var at = firstEscape
            while at < inner.count {
                let scalar = escape(inner, &at)
                for byte in UTF8.encode(scalar)! {
                    out.initializeElement(at: used, to: byte)
                    used += 1
                }
                let next = ByteScan.firstIndex(of: UInt8(ascii: "\\"), in: inner, from: at) ?? inner.count
                copy(at..<next)
                at = next
            }
            return used
        }
    }

    /// Reads the escape at `at`, or two if they are a pair of surrogates.
    private static func escape(_ inner: UnsafeRawBufferPointer, _ at: inout Int) -> Unicode.Scalar {
        precondition(at + 1 < inner.count, "not a checked text")
        let letter = inner[at + 1]
        guard letter == UInt8(ascii: "u") else {
            at += 2
            switch letter {
            case UInt8(ascii: "b"): return "\u{8}"
            case UInt8(ascii: "f"): return "\u{c}"
            case UInt8(ascii: "n"): return "\n"
            case UInt8(ascii: "r"): return "\r"
            case UInt8(ascii: "t"): return "\t"
            default: return Unicode.Scalar(letter)
            }
        }
        guard let unit = codeUnit(inner, at) else { preconditionFailure("not a checked text") }
        at += 6
        if let scalar = Unicode.Scalar(unit) { return scalar }
        guard unit < 0xdc00, let low = codeUnit(inner, at), 0xdc00...0xdfff ~= low else { return "\u{fffd}" }
        at += 6
        return Unicode.Scalar(0x10000 + (unit - 0xd800) << 10 + (low - 0xdc00))!
    }

    /// The four digits of a `\u` escape at `at`; nil if something else is there.
    private static func codeUnit(_ inner: UnsafeRawBufferPointer, _ at: Int) -> UInt32? {
        guard inner.count - at >= 6, inner[at] == UInt8(ascii: "\\"), inner[at + 1] == UInt8(ascii: "u") else { return nil }
        var unit: UInt32 = 0
        for index in at + 2..<at + 6 {
            guard let digit = hexadecimalDigit(inner[index]) else { return nil }
            unit = unit << 4 | digit
        }
        return unit
    }
}

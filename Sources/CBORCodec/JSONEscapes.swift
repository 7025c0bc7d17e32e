/// Escapes of checked JSON strings, undone (RFC 8259, section 7).
enum JSONEscapes {
    /// Hands out what a string stands for, as UTF-8, in pieces: runs without escapes, and characters that were escaped. A lone surrogate
    /// is U+FFFD.
    ///
    /// - Parameter start: behind the opening quote.
    /// - Returns: behind the closing quote.
    @inline(__always)
    static func forEachPiece(_ text: UnsafeRawBufferPointer, from start: Int, _ body: (UnsafeRawBufferPointer) -> Void) -> Int {
        var at = start
        while true {
            let end = ByteScan.firstQuoteOrBackslash(in: text, from: at)
            precondition(end < text.count, "not a checked text")
            if end > at { body(UnsafeRawBufferPointer(rebasing: text[at..<end])) }
            at = end
            if text[at] == UInt8(ascii: "\"") { return at + 1 }
            let scalar = escape(text, &at)
            var bytes: UInt32 = 0
            var count = 0
            for byte in UTF8.encode(scalar)! {
                bytes |= UInt32(byte) << UInt32(8 * count)
                count += 1
            }
            withUnsafeBytes(of: bytes.littleEndian) { body(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        }
    }

    /// Reads the escape at `at`, or two if they are a pair of surrogates.
    private static func escape(_ text: UnsafeRawBufferPointer, _ at: inout Int) -> Unicode.Scalar {
        precondition(at + 1 < text.count, "not a checked text")
        let letter = text[at + 1]
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
        guard let unit = codeUnit(text, at) else { preconditionFailure("not a checked text") }
        at += 6
        if let scalar = Unicode.Scalar(unit) { return scalar }
        guard unit < 0xdc00, let low = codeUnit(text, at), 0xdc00...0xdfff ~= low else { return "\u{fffd}" }
        at += 6
        return Unicode.Scalar(0x10000 + (unit - 0xd800) << 10 + (low - 0xdc00))!
    }

    /// The four digits of a `\u` escape at `at`; nil if something else is there.
    private static func codeUnit(_ text: UnsafeRawBufferPointer, _ at: Int) -> UInt32? {
        guard text.count - at >= 6, text[at] == UInt8(ascii: "\\"), text[at + 1] == UInt8(ascii: "u") else { return nil }
        var unit: UInt32 = 0
        for index in at + 2..<at + 6 {
            guard let digit = hexadecimalDigit(text[index]) else { return nil }
            unit = unit << 4 | digit
        }
        return unit
    }

    private static func hexadecimalDigit(_ byte: UInt8) -> UInt32? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt32(byte - UInt8(ascii: "a") + 10)
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt32(byte - UInt8(ascii: "A") + 10)
        default: nil
        }
    }
}

/// JSON (RFC 8259) as text: checked, and kept as it was sent.
///
/// Every published payload goes through here. Numbers, escapes and the order of members are not touched; only white space between
/// tokens is left out, so that the result has no line break and fits where one line is wanted.
///
/// Strict: one value and nothing behind it, no byte order mark, no comments, no trailing commas, UTF-8 only (section 8.1). What the
/// grammar allows is allowed even where readers differ: names may repeat (section 4), and an escape may be a lone surrogate
/// (`"\ud800"`, section 8.2).
package enum JSONText {
    /// Checks one JSON value with nothing behind it, and appends it to `out` without insignificant white space.
    ///
    /// - Throws: why the input is not a JSON text; `out` is as it was then.
    package static func minify(
        _ input: UnsafeRawBufferPointer, limits: JSONLimits = JSONLimits(), into out: inout [UInt8]
    ) throws(JSONFault) {
        let countBefore = out.count
        var scanner = JSONScanner(input: input, limits: limits)
        do throws(JSONFault) {
            try scanner.scan(into: &out)
        } catch {
            out.removeSubrange(countBefore...)
            throw error
        }
    }

    /// Appends a JSON string: in quotes, with what has to be escaped escaped (section 7), and nothing else.
    package static func appendString(_ text: String, into out: inout [UInt8]) {
        var text = text
        text.withUTF8 { appendString(UnsafeRawBufferPointer($0), into: &out) }
    }

    /// - Parameter utf8: the text; has to be valid UTF-8.
    package static func appendString(_ utf8: UnsafeRawBufferPointer, into out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        var runStart = 0
        while true {
            let special = ByteScan.firstSpecial(in: utf8, from: runStart)
            out.append(contentsOf: UnsafeRawBufferPointer(rebasing: utf8[runStart..<special]))
            if special == utf8.count { break }
            appendEscaped(utf8[special], into: &out)
            runStart = special + 1
        }
        out.append(UInt8(ascii: "\""))
    }

    private static func appendEscaped(_ byte: UInt8, into out: inout [UInt8]) {
        func hexadecimal(_ digit: UInt8) -> UInt8 { digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10 }
        out.append(UInt8(ascii: "\\"))
        switch byte {
        case 0x08: out.append(UInt8(ascii: "b"))
        case 0x09: out.append(UInt8(ascii: "t"))
        case 0x0a: out.append(UInt8(ascii: "n"))
        case 0x0c: out.append(UInt8(ascii: "f"))
        case 0x0d: out.append(UInt8(ascii: "r"))
        case ..<0x20:
            out.append(contentsOf: [UInt8(ascii: "u"), UInt8(ascii: "0"), UInt8(ascii: "0")])
            out.append(hexadecimal(byte >> 4))
            out.append(hexadecimal(byte & 15))
        default: out.append(byte)
        }
    }

    /// Appends a number without fraction.
    package static func appendInteger(_ number: some FixedWidthInteger, into out: inout [UInt8]) {
        if number < 0 { out.append(UInt8(ascii: "-")) }
        guard let magnitude = UInt64(exactly: number.magnitude) else {
            out.append(contentsOf: String(number.magnitude).utf8)
            return
        }
        appendDigits(magnitude, into: &out)
    }

    private static func appendDigits(_ number: UInt64, into out: inout [UInt8]) {
        // 2^64 has 20 digits.
        withUnsafeTemporaryAllocation(byteCount: 20, alignment: 1) { digits in
            var start = digits.count
            var rest = number
            repeat {
                start -= 1
                digits[start] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
                rest /= 10
            } while rest > 0
            out.append(contentsOf: UnsafeRawBufferPointer(rebasing: digits[start...]))
        }
    }
}

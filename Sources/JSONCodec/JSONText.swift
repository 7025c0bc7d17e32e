/// JSON (RFC 8259) as text: checked, and kept as it was sent.
///
/// Every published payload goes through here. Its numbers and the order of its members are not touched, only white space between
/// tokens is left out, so that the result has no line break and fits where one line is wanted.
package enum JSONText {
    /// Checks one JSON value with nothing behind it, and appends it to `out` without insignificant white space.
    ///
    /// A lone surrogate in an escape (`"\ud800"`) is let through, as the grammar does. Names may repeat.
    package static func minify(
        _ input: UnsafeRawBufferPointer, limits: JSONLimits = JSONLimits(), into out: inout [UInt8]
    ) throws(JSONFault) {
        var scanner = JSONScanner(input: input, limits: limits)
        try scanner.scan(into: &out)
    }

    /// Appends a JSON string: in quotes, with what has to be escaped escaped.
    package static func appendString(_ text: String, into out: inout [UInt8]) {
        var text = text
        text.withUTF8 { appendString(UnsafeRawBufferPointer($0), into: &out) }
    }

    /// - Parameter utf8: has to be valid UTF-8.
    package static func appendString(_ utf8: UnsafeRawBufferPointer, into out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        var runStart = 0
        for (index, byte) in utf8.enumerated() where byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") {
            out.append(contentsOf: utf8[runStart..<index])
            runStart = index + 1
            out.append(UInt8(ascii: "\\"))
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): out.append(byte)
            case 0x0a: out.append(UInt8(ascii: "n"))
            case 0x0d: out.append(UInt8(ascii: "r"))
            case 0x09: out.append(UInt8(ascii: "t"))
            default:
                let digits = Array("0123456789abcdef".utf8)
                out.append(contentsOf: "u00".utf8)
                out.append(digits[Int(byte >> 4)])
                out.append(digits[Int(byte & 15)])
            }
        }
        out.append(contentsOf: utf8[runStart...])
        out.append(UInt8(ascii: "\""))
    }

    package static func appendInteger(_ number: some FixedWidthInteger, into out: inout [UInt8]) {
        out.append(contentsOf: String(number).utf8)
    }
}

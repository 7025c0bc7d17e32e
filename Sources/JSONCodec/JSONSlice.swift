/// A view of one value inside a JSON text that was checked and minified: walks over it without building a tree.
///
/// Nothing is decoded before it is asked for, and a slice shares the text's storage. Asking costs a walk: whoever wants several
/// members of an object goes over `members` once.
package struct JSONSlice: Sendable {
    package enum Kind: Sendable {
        case object, array, string, number, bool, null
    }

    /// The value's own text.
    package let bytes: ArraySlice<UInt8>

    /// - Parameter bytes: one value, as `JSONText.minify` leaves it. Anything else may trap.
    package init(_ bytes: ArraySlice<UInt8>) {
        precondition(!bytes.isEmpty, "no value")
        self.bytes = bytes
    }

    package var kind: Kind {
        switch bytes[bytes.startIndex] {
        case UInt8(ascii: "{"): .object
        case UInt8(ascii: "["): .array
        case UInt8(ascii: "\""): .string
        case UInt8(ascii: "t"), UInt8(ascii: "f"): .bool
        case UInt8(ascii: "n"): .null
        default: .number
        }
    }

    /// The text of a string; nil for other kinds. A lone surrogate becomes U+FFFD.
    package func string() -> String? {
        guard kind == .string else { return nil }
        return bytes.withUnsafeBytes { text in
            let inner = UnsafeRawBufferPointer(rebasing: text[1..<text.count - 1])
            return JSONEscapes.decode(inner)
        }
    }

    /// A whole number that was written without fraction or exponent and fits; nil otherwise.
    package func integer() -> Int64? {
        guard let (isNegative, magnitude) = wholeNumber() else { return nil }
        return isNegative ? Int64(exactly: 0 - Int128(magnitude)) : Int64(exactly: magnitude)
    }

    /// As `integer()`, for numbers up to 2^64 - 1.
    package func unsignedInteger() -> UInt64? {
        guard let (isNegative, magnitude) = wholeNumber(), !isNegative || magnitude == 0 else { return nil }
        return magnitude
    }

    private func wholeNumber() -> (isNegative: Bool, magnitude: UInt64)? {
        guard kind == .number else { return nil }
        let isNegative = bytes[bytes.startIndex] == UInt8(ascii: "-")
        var magnitude: UInt64 = 0
        for byte in isNegative ? bytes.dropFirst() : bytes {
            let digit = byte &- UInt8(ascii: "0")
            guard digit < 10 else { return nil }
            let (tens, overflow) = magnitude.multipliedReportingOverflow(by: 10)
            let (sum, carry) = tens.addingReportingOverflow(UInt64(digit))
            if overflow || carry { return nil }
            magnitude = sum
        }
        return (isNegative, magnitude)
    }

    /// The number nearest to what was written; nil for other kinds and for what is beyond a Double.
    package func double() -> Double? {
        guard kind == .number, let number = Double(String(decoding: bytes, as: UTF8.self)), number.isFinite else { return nil }
        return number
    }

    package func bool() -> Bool? {
        guard kind == .bool else { return nil }
        return bytes[bytes.startIndex] == UInt8(ascii: "t")
    }
}

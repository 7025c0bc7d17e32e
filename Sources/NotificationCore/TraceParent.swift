/// Which trace a publication belongs to, and which span of it has published: the field `traceparent` (W3C Trace Context, section 3.2).
///
///     00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
///     version  trace id: 16 bytes, not all 0   parent id: 8 bytes, not all 0   flags
///
/// A value of this type is always well-formed.
package struct TraceParent: Hashable, Sendable, CustomStringConvertible {
    package static let byteCount = 25

    package let traceID: SIMD2<UInt64>
    package let spanID: UInt64
    package let flags: UInt8

    /// - Returns: nil if the trace or the span is 0.
    package init?(traceID: SIMD2<UInt64>, spanID: UInt64, flags: UInt8) {
        guard traceID != .zero, spanID != 0 else { return nil }
        self.traceID = traceID
        self.spanID = spanID
        self.flags = flags
    }

    /// Of a later version what this one knows is taken: the ids, and whether the trace is sampled (section 4.3).
    ///
    /// - Returns: nil if it is not well-formed.
    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count >= 55, bytes[2] == Self.dash, bytes[35] == Self.dash, bytes[52] == Self.dash,
            let version = Self.number(bytes[0..<2]), version != 0xff,
            version == 0 ? bytes.count == 55 : bytes.count == 55 || bytes[55] == Self.dash,
            let high = Self.number(bytes[3..<19]), let low = Self.number(bytes[19..<35]), let span = Self.number(bytes[36..<52]),
            let flags = Self.number(bytes[53..<55])
        else { return nil }
        self.init(traceID: SIMD2(high, low), spanID: span, flags: version == 0 ? UInt8(flags) : UInt8(flags) & 1)
    }

    /// - Parameter bytes: as `bytes` gives them.
    package init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        func number(_ part: some Sequence<UInt8>) -> UInt64 { part.reduce(0) { $0 << 8 | UInt64($1) } }
        self.init(
            traceID: SIMD2(number(bytes.prefix(8)), number(bytes.dropFirst(8).prefix(8))), spanID: number(bytes.dropFirst(16).prefix(8)),
            flags: bytes.dropFirst(24).first!
        )
    }

    package var bytes: [UInt8] {
        var out: [UInt8] = []
        for number in [traceID.x, traceID.y, spanID] { withUnsafeBytes(of: number.bigEndian) { out.append(contentsOf: $0) } }
        return out + [flags]
    }

    package var description: String {
        "00-\(traceText)-\(Self.hexadecimal(spanID))-\(flags < 16 ? "0" : "")\(String(flags, radix: 16))"
    }

    package var traceText: String { Self.hexadecimal(traceID.x) + Self.hexadecimal(traceID.y) }

    /// 16 digits.
    package static func hexadecimal(_ number: UInt64) -> String {
        let text = String(number, radix: 16)
        return String(repeating: "0", count: 16 - text.count) + text
    }

    private static let dash = UInt8(ascii: "-")

    /// Lower-case digits only.
    private static func number(_ digits: ArraySlice<UInt8>) -> UInt64? {
        var number: UInt64 = 0
        for digit in digits {
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): number = number << 4 | UInt64(digit - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): number = number << 4 | UInt64(digit - UInt8(ascii: "a") + 10)
            default: return nil
            }
        }
        return number
    }
}

import Glibc

// What every published payload carries, so that whoever finds it in any wrapping knows which message it is and how late it comes:
//
//     {"b":"@tbRRRRRRRRNNNNNNNNTTTTTTTTTTTTTT~xxxxxxxxx"}
//           |  run     number  due, ns      |padding
//
// Hexadecimal digits; the due time is CLOCK_MONOTONIC. None of these characters is escaped in JSON, in an event stream or in a header,
// and `@` stands nowhere else in it, so that a search which fails begins anew at the byte that it failed on.

/// Makes payloads.
package struct PayloadMaker: Sendable {
    package static let markerBytes = 34
    /// The marker in the least JSON around it.
    package static let payloadBytesMin = markerBytes + 8

    package let run: UInt32
    package let payloadBytes: Int

    package init(run: UInt32, payloadBytes: Int) {
        precondition(payloadBytes >= Self.payloadBytesMin, "the marker has to fit")
        self.run = run
        self.payloadBytes = payloadBytes
    }

    package func append(number: UInt32, due: Int64, into out: inout [UInt8]) {
        out.append(contentsOf: #"{"b":"@tb"#.utf8)
        Self.appendHexadecimal(UInt64(run), digits: 8, into: &out)
        Self.appendHexadecimal(UInt64(number), digits: 8, into: &out)
        Self.appendHexadecimal(UInt64(due), digits: 14, into: &out)
        out.append(UInt8(ascii: "~"))
        out.append(contentsOf: repeatElement(UInt8(ascii: "x"), count: payloadBytes - Self.payloadBytesMin))
        out.append(contentsOf: #""}"#.utf8)
    }

    private static func appendHexadecimal(_ value: UInt64, digits: Int, into out: inout [UInt8]) {
        for digit in (0..<UInt64(digits)).reversed() {
            let nibble = UInt8(truncatingIfNeeded: value >> (digit * 4)) & 15
            out.append(nibble < 10 ? UInt8(ascii: "0") + nibble : UInt8(ascii: "a") + nibble - 10)
        }
    }
}

/// The first bytes of the markers of one run.
package struct MarkerPrefix: Sendable {
    static let count = 11
    let bytes: InlineArray<11, UInt8>

    package init(run: UInt32) {
        var text: [UInt8] = []
        PayloadMaker(run: run, payloadBytes: PayloadMaker.payloadBytesMin).append(number: 0, due: 0, into: &text)
        let begin = 6
        bytes = InlineArray { text[begin + $0] }
    }
}

/// Finds markers in bytes that are cut anywhere. It keeps what it has read of one as numbers, not as bytes.
package struct MarkerScanner: Sendable {
    private static let numberEnd: UInt8 = 19
    private static let dueEnd: UInt8 = 33

    /// How many bytes of a marker came.
    private var place: UInt8 = 0
    private var number: UInt32 = 0
    private var due: UInt64 = 0

    package init() {}

    /// - Parameter found: gets the number and the due time of each marker, in order.
    @inline(__always)
    package mutating func scan(_ bytes: UnsafeRawBufferPointer, prefix: MarkerPrefix, found: (UInt32, Int64) -> Void) {
        var index = 0
        while index < bytes.count {
            if place == 0 {
                guard let at = memchr(bytes.baseAddress! + index, Int32(UInt8(ascii: "@")), bytes.count - index) else { return }
                index = UnsafeRawPointer(at) - bytes.baseAddress! + 1
                (place, number, due) = (1, 0, 0)
                continue
            }
            let byte = bytes[index]
            if place < MarkerPrefix.count {
                guard byte == prefix.bytes[Int(place)] else {
                    place = 0
                    continue
                }
            } else if place < Self.dueEnd {
                guard let digit = Self.digit(byte) else {
                    place = 0
                    continue
                }
                if place < Self.numberEnd {
                    number = number << 4 | UInt32(digit)
                } else {
                    due = due << 4 | UInt64(digit)
                }
            } else {
                place = 0
                guard byte == UInt8(ascii: "~") else { continue }
                index += 1
                found(number, Int64(due))
                continue
            }
            place += 1
            index += 1
        }
    }

    @inline(__always)
    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        default: nil
        }
    }
}

/// Checks UTF-8 (RFC 3629) as it comes, in pieces cut anywhere, and says no at the first byte that cannot stand where it stands.
///
/// The state is one byte: what has to come next. Besides the number of continuation bytes that are missing, there are four first bytes
/// after which the *second* byte has a narrower range; that range keeps out overlong forms, surrogates and what is above U+10FFFF:
///
///     first    second    kept out
///     E0       A0...BF   overlong forms of U+0000...U+07FF
///     ED       80...9F   surrogates U+D800...U+DFFF
///     F0       90...BF   overlong forms of U+0000...U+FFFF
///     F4       80...8F   above U+10FFFF
///
/// C0, C1 and F5...FF are never right.
struct UTF8Validator: Sendable {
    private enum Next: UInt8 {
        case start
        case one, two, three
        case afterE0, afterED, afterF0, afterF4
    }

    private var next = Next.start

    /// Whether the bytes so far end with a whole character.
    var isComplete: Bool { next == .start }

    /// Reads the next bytes.
    ///
    /// - Returns: false if they can no longer become UTF-8, whatever follows. The validator is of no use then.
    mutating func accept(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let base = bytes.baseAddress else { return true }
        let count = bytes.count
        var offset = 0
        var next = next
        while offset < count {
            if next == .start {
                // ASCII: 16 bytes at a time, then 8.
                while offset &+ 16 <= count {
                    let both =
                        base.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
                        | base.loadUnaligned(fromByteOffset: offset &+ 8, as: UInt64.self)
                    guard both & 0x8080_8080_8080_8080 == 0 else { break }
                    offset &+= 16
                }
                if offset &+ 8 <= count,
                    base.loadUnaligned(fromByteOffset: offset, as: UInt64.self) & 0x8080_8080_8080_8080 == 0
                {
                    offset &+= 8
                }
                // A run of other characters, or the last bytes: not back to the words for each of them.
                let stop = min(count, offset &+ 32)
                while offset < stop {
                    guard let after = Self.step(next, bytes[offset]) else { return false }
                    next = after
                    offset &+= 1
                }
            } else {
                guard let after = Self.step(next, bytes[offset]) else { return false }
                next = after
                offset &+= 1
            }
        }
        self.next = next
        return true
    }

    @inline(__always)
    private static func step(_ next: Next, _ byte: UInt8) -> Next? {
        switch next {
        case .start:
            switch byte {
            case 0x00...0x7F: .start
            case 0xC2...0xDF: .one
            case 0xE0: .afterE0
            case 0xED: .afterED
            case 0xE1...0xEF: .two
            case 0xF0: .afterF0
            case 0xF1...0xF3: .three
            case 0xF4: .afterF4
            default: nil
            }
        case .one: isContinuation(byte) ? .start : nil
        case .two: isContinuation(byte) ? .one : nil
        case .three: isContinuation(byte) ? .two : nil
        case .afterE0: (0xA0...0xBF).contains(byte) ? .one : nil
        case .afterED: (0x80...0x9F).contains(byte) ? .one : nil
        case .afterF0: (0x90...0xBF).contains(byte) ? .two : nil
        case .afterF4: (0x80...0x8F).contains(byte) ? .two : nil
        }
    }

    @inline(__always)
    private static func isContinuation(_ byte: UInt8) -> Bool { byte & 0xC0 == 0x80 }

    /// Whether `bytes` are UTF-8 as a whole.
    static func isValid(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var validator = UTF8Validator()
        return validator.accept(bytes) && validator.isComplete
    }
}

/// Numbers as in protocol buffers: seven bits a byte, low ones first, the high bit says that more follow.
extension [UInt8] {
    package mutating func appendVarint(_ number: UInt64) {
        var rest = number
        while rest >= 0x80 {
            append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        append(UInt8(truncatingIfNeeded: rest))
    }

    /// Small for numbers near 0 on either side.
    package mutating func appendZigzag(_ number: Int64) {
        appendVarint(UInt64(bitPattern: (number << 1) ^ (number >> 63)))
    }

    package mutating func appendLengthAndBytes(of text: String) {
        var text = text
        text.withUTF8 {
            appendVarint(UInt64($0.count))
            append(contentsOf: $0)
        }
    }

    /// Room for a checksum at the front, to be filled in by `sealChecksum`.
    static var withRoomForChecksum: [UInt8] { [0, 0, 0, 0] }

    /// - Parameter checksum: of what stands beside these bytes and has to fit to them.
    mutating func sealChecksum(_ checksum: Checksum) {
        var checksum = checksum
        withUnsafeMutableBytes { bytes in
            checksum.add(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(bytes)[4...]))
            bytes.storeBytes(of: checksum.value.littleEndian, as: UInt32.self)
        }
    }
}

/// Reads what was written so. Takes any bytes without trapping: what is not there or does not fit is `Damage`.
package struct ByteReader {
    package struct Damage: Error {
        package init() {}
    }

    private let bytes: UnsafeRawBufferPointer
    private var index = 0

    package init(_ bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
    }

    /// Begins behind the checksum, which has to fit.
    init(sealed bytes: UnsafeRawBufferPointer, _ checksum: Checksum) throws(Damage) {
        guard bytes.count >= 4 else { throw Damage() }
        var checksum = checksum
        checksum.add(UnsafeRawBufferPointer(rebasing: bytes[4...]))
        guard UInt32(littleEndian: bytes.loadUnaligned(as: UInt32.self)) == checksum.value else { throw Damage() }
        self.bytes = bytes
        index = 4
    }

    package var isAtEnd: Bool { index == bytes.count }

    /// All that is left.
    package var rest: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[index...]) }

    package mutating func byte() throws(Damage) -> UInt8 {
        guard index < bytes.count else { throw Damage() }
        index += 1
        return bytes[index - 1]
    }

    @inline(__always)
    package mutating func varint() throws(Damage) -> UInt64 {
        guard index < bytes.count else { throw Damage() }
        let first = bytes[index]
        if first < 0x80 {
            index += 1
            return UInt64(first)
        }
        return try longVarint()
    }

    private mutating func longVarint() throws(Damage) -> UInt64 {
        var number: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let next = try byte()
            // The tenth byte holds one bit.
            guard shift < 63 || (shift == 63 && next <= 1) else { throw Damage() }
            number |= UInt64(next & 0x7f) << shift
            if next < 0x80 { return number }
            shift += 7
        }
    }

    package mutating func zigzag() throws(Damage) -> Int64 {
        let number = try varint()
        return Int64(bitPattern: number >> 1) ^ -Int64(bitPattern: number & 1)
    }

    package mutating func count(upTo most: Int) throws(Damage) -> Int {
        let number = try varint()
        guard number <= UInt64(most) else { throw Damage() }
        return Int(number)
    }

    /// A length and that many bytes, in place.
    package mutating func slice() throws(Damage) -> UnsafeRawBufferPointer {
        let wanted = try varint()
        guard wanted <= UInt64(bytes.count - index) else { throw Damage() }
        let length = Int(wanted)
        index += length
        return UnsafeRawBufferPointer(rebasing: bytes[index - length..<index])
    }

    package mutating func text() throws(Damage) -> String {
        guard let text = String(validating: try slice(), as: UTF8.self) else { throw Damage() }
        return text
    }
}

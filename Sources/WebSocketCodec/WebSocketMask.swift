/// The masking of payloads (RFC 6455 section 5.3): payload byte i is combined with key byte i modulo 4 by exclusive or.
///
/// The key is kept as a number whose lowest byte is the one for the next payload byte. So a frame that comes in pieces needs no
/// counter: after n bytes the key has been rotated by n bytes.
struct WebSocketMask: Sendable {
    private(set) var key: UInt32

    /// - Parameter key: its lowest byte is the first on the wire.
    init(lowestByteFirst key: UInt32) {
        self.key = key
    }

    /// Masks or unmasks the next bytes of a payload in place, 32 bytes at a time.
    mutating func apply(to bytes: UnsafeMutableRawBufferPointer) {
        // A zero key changes nothing; some clients use it where masking serves no purpose.
        guard key != 0, let base = bytes.baseAddress else { return }
        let count = bytes.count
        let word = UInt64(key) << 32 | UInt64(key)
        // In memory order on any machine, which for the rotation is a number again.
        let pattern = word.littleEndian
        var offset = 0
        while offset &+ 32 <= count {
            let at = base + offset
            let a = at.loadUnaligned(fromByteOffset: 0, as: UInt64.self) ^ pattern
            let b = at.loadUnaligned(fromByteOffset: 8, as: UInt64.self) ^ pattern
            let c = at.loadUnaligned(fromByteOffset: 16, as: UInt64.self) ^ pattern
            let d = at.loadUnaligned(fromByteOffset: 24, as: UInt64.self) ^ pattern
            at.storeBytes(of: a, toByteOffset: 0, as: UInt64.self)
            at.storeBytes(of: b, toByteOffset: 8, as: UInt64.self)
            at.storeBytes(of: c, toByteOffset: 16, as: UInt64.self)
            at.storeBytes(of: d, toByteOffset: 24, as: UInt64.self)
            offset &+= 32
        }
        while offset &+ 8 <= count {
            let masked = base.loadUnaligned(fromByteOffset: offset, as: UInt64.self) ^ pattern
            base.storeBytes(of: masked, toByteOffset: offset, as: UInt64.self)
            offset &+= 8
        }
        // Whole words so far, so the key stands where it began.
        while offset < count {
            bytes[offset] ^= UInt8(truncatingIfNeeded: key)
            key = key >> 8 | key << 24
            offset &+= 1
        }
    }
}

import COpenSSL

/// The keys by which a server seals session tickets (RFC 5077 section 4, RFC 8446 section 4.6.1): the current one, and older ones that
/// still open what they sealed.
///
///     rotate:   new ---> current ---> previous 1 ---> ... ---> previous `previousMax` ---> erased
///
/// A value: randomness is given, and nothing here looks at a clock. Whoever has a key can read the TLS 1.2 sessions of its tickets, so
/// keys are never written down, and the memory of one that nobody holds any more is erased.
package struct TicketKeys: Sendable {
    /// How many random bytes make a key.
    package static let randomBytes = TicketKey.bytes

    /// Seals new tickets.
    private(set) var current: TicketKey
    /// Newest first.
    private(set) var previous: [TicketKey] = []
    /// How many generations besides the current one open tickets.
    package let previousMax: Int

    /// - Parameters:
    ///   - random: `randomBytes` bytes of a generator that is fit for keys.
    ///   - previousMax: with rotation every N hours, tickets are accepted for N to N × (`previousMax` + 1) hours.
    package init(random: [UInt8], previousMax: Int = 1) {
        precondition(previousMax >= 0, "a count")
        current = TicketKey(random: random)
        self.previousMax = previousMax
    }

    /// Makes a new key the current one, and forgets the oldest if there are too many.
    ///
    /// - Parameter random: `randomBytes` fresh random bytes.
    package mutating func rotate(random: [UInt8]) {
        let key = TicketKey(random: random)
        precondition(find(key.name) == nil, "the random bytes are those of a key that is in use")
        previous.insert(current, at: 0)
        current = key
        previous.removeLast(max(0, previous.count - previousMax))
    }

    /// How many keys open tickets.
    package var count: Int { 1 + previous.count }

    /// The key by the name that stands on a ticket.
    func find(_ name: UnsafeRawBufferPointer) -> TicketKey? {
        if current.name.elementsEqual(name) { return current }
        return previous.first { $0.name.elementsEqual(name) }
    }
}

/// One key of tickets. Sendable unchecked: its bytes are written before `init` returns and when nobody holds it any more.
final class TicketKey: @unchecked Sendable {
    static let bytes = nameBytes + cipherBytes + macBytes
    static let nameBytes = 16
    private static let cipherBytes = 32
    private static let macBytes = 32

    private let memory: UnsafeMutableRawBufferPointer

    init(random: [UInt8]) {
        precondition(random.count == Self.bytes, "a ticket key has \(Self.bytes) bytes")
        // Keys of zeros are what a generator that was never asked gives (CVE-2020-13777).
        precondition(random.contains { $0 != 0 }, "no random bytes")
        memory = .allocate(byteCount: Self.bytes, alignment: 16)
        memory.copyBytes(from: random)
    }

    deinit {
        OPENSSL_cleanse(memory.baseAddress, memory.count)
        memory.deallocate()
    }

    /// What stands in the clear on a ticket.
    var name: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: memory[..<Self.nameBytes]) }
    /// Of AES-256-CBC.
    var cipher: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: memory[Self.nameBytes..<Self.nameBytes + Self.cipherBytes])
    }
    /// Of HMAC-SHA256.
    var mac: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(rebasing: memory[(Self.nameBytes + Self.cipherBytes)...]) }
}

import DequeModule

/// Names a ticket: 120 random bits and the number of the process that gave it out, 32 hexadecimal digits in small letters on the wire.
package struct TicketID: Hashable, Sendable, CustomStringConvertible {
    private let high: UInt64
    private let low: UInt64

    /// - Parameters:
    ///   - random: bits of a generator that cannot be foretold, of which 120 count.
    ///   - process: 0 to 255.
    package init(random: (UInt64, UInt64), process: Int) {
        precondition((0...255).contains(process))
        high = random.0 >> 8 | UInt64(process) << 56
        low = random.1
    }

    /// Where it is known.
    package var process: Int { Int(high >> 56) }

    package init?(_ text: String) {
        let digits = Array(text.utf8)
        guard digits.count == 32, digits.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }),
            let high = UInt64(text.prefix(16), radix: 16), let low = UInt64(text.suffix(16), radix: 16)
        else { return nil }
        self.high = high
        self.low = low
    }

    package var description: String { Self.digits(high) + Self.digits(low) }

    private static func digits(_ bits: UInt64) -> String {
        let digits = String(bits, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

/// Tickets that were given out for tokens and may be used once: safe in a URL, where a token would be remembered by whoever sees it.
package struct TicketTable: Sendable {
    package static let lifetimeMilliseconds: Int64 = 30_000
    /// Given out within a lifetime: some 200 bytes each.
    package static let countMax = 100_000
    /// Of one principal: a page needs one for each connection.
    package static let countOfOneMax = 100

    private var identities: [TicketID: Identity] = [:]
    /// In the order in which they end; used ones stay until then.
    private var ends: Deque<(milliseconds: Int64, id: TicketID, principal: Identity.Principal)> = []
    private var counts: [Identity.Principal: Int] = [:]

    package init() {}

    /// - Returns: false if there are too many.
    package mutating func issue(_ id: TicketID, _ identity: Identity, nowMilliseconds now: Int64) -> Bool {
        expire(now)
        guard ends.count < Self.countMax, counts[identity.principal, default: 0] < Self.countOfOneMax, identities[id] == nil else {
            return false
        }
        identities[id] = identity
        ends.append((now + Self.lifetimeMilliseconds, id, identity.principal))
        counts[identity.principal, default: 0] += 1
        return true
    }

    /// Uses a ticket up.
    ///
    /// - Returns: nil if there is none of that name, no longer, or if it was used.
    package mutating func take(_ id: TicketID, nowMilliseconds now: Int64) -> Identity? {
        expire(now)
        return identities.removeValue(forKey: id)
    }

    private mutating func expire(_ now: Int64) {
        while let first = ends.first, first.milliseconds <= now {
            ends.removeFirst()
            identities[first.id] = nil
            let left = counts[first.principal]! - 1
            counts[first.principal] = left == 0 ? nil : left
        }
    }
}

import DequeModule

/// What was answered to recent requests that carried an `Idempotency-Key`, bounded by count and age.
package struct IdempotencyTable {
    package enum Look {
        case new
        case repeated([AppendReceipt])
        /// The key was used for a request with another content.
        case otherRequest
    }

    private let countMax: Int
    private let ageMillisecondsMax: Int64
    private var entries: [FieldText: IdempotencyRecord] = [:]
    private var order: Deque<FieldText> = []

    /// - Parameters:
    ///   - countMax: keys remembered; over it the oldest is forgotten.
    ///   - ageSecondsMax: a day by default: longer than any sensible retry.
    package init(countMax: Int = 100_000, ageSecondsMax: Int = 24 * 3600) {
        self.countMax = countMax
        ageMillisecondsMax = Int64(ageSecondsMax) * 1000
    }

    package var count: Int { entries.count }

    package func look(_ key: FieldText, fingerprint: UInt64, nowMilliseconds: Int64) -> Look {
        guard let entry = entries[key], nowMilliseconds - entry.timeMilliseconds <= ageMillisecondsMax else { return .new }
        return entry.fingerprint == fingerprint ? .repeated(entry.receipts) : .otherRequest
    }

    package mutating func remember(_ record: IdempotencyRecord) {
        expire(nowMilliseconds: record.timeMilliseconds)
        // A clock that went back may have left one of this name.
        if entries.updateValue(record, forKey: record.key) != nil { order.removeAll { $0 == record.key } }
        order.append(record.key)
        if order.count > countMax { entries[order.removeFirst()] = nil }
    }

    package mutating func expire(nowMilliseconds: Int64) {
        while let oldest = order.first, nowMilliseconds - entries[oldest]!.timeMilliseconds > ageMillisecondsMax {
            entries[order.removeFirst()] = nil
        }
    }
}

/// FNV-1a, 64 bits: a fingerprint to tell requests apart. It does not protect against somebody who looks for collisions: such a one
/// can only fool himself, as the key is his own.
package struct Fingerprint {
    package private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    package init() {}

    package mutating func add(_ bytes: some Sequence<UInt8>) {
        for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
        value = (value ^ 0xff) &* 0x100_0000_01b3
    }
}

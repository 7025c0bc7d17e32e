/// What an `Idempotency-Key` is known by: two publishers may use the same one, each for a request of its own.
package struct IdempotencyKey: Hashable, Sendable {
    /// Who publishes; empty where there are no tokens.
    package var publisher: String
    package var text: FieldText

    package init(_ text: FieldText, publisher: String = "") {
        self.text = text
        self.publisher = publisher
    }
}

/// How many answers are kept for requests that come again. What goes over is forgotten from the old end, and counted.
package struct IdempotencyLimits: Sendable, Hashable {
    /// Ten a second for a day, or a thousand for a quarter of an hour.
    package var countMax = 1_000_000
    /// As they are stored, with their index: a million requests of one message each take about half of it.
    package var bytesMax = 256 << 20
    /// A day: longer than any sensible retry.
    package var ageSecondsMax = 24 * 3600

    package init() {}
}

/// What was answered to a request that carried an `Idempotency-Key`.
package struct IdempotencyRecord: Sendable, Equatable {
    /// Where one of its publications went.
    package struct Place: Sendable, Equatable {
        package var channel: ChannelID
        package var sequence: UInt64
        package var offset: UInt64

        package init(channel: ChannelID, sequence: UInt64, offset: UInt64) {
            self.channel = channel
            self.sequence = sequence
            self.offset = offset
        }
    }

    package var key: IdempotencyKey
    /// nil: an earlier version has stored it, which took it of something else.
    package var fingerprint: UInt64?
    /// In order; nil: that one was refused.
    package var places: [Place?]
    package var timeMilliseconds: Int64

    package init(key: IdempotencyKey, fingerprint: UInt64?, places: [Place?], timeMilliseconds: Int64) {
        self.key = key
        self.fingerprint = fingerprint
        self.places = places
        self.timeMilliseconds = timeMilliseconds
    }
}

/// FNV-1a, 64 bits: a fingerprint to tell requests apart. It does not protect against somebody who looks for collisions: such a one
/// can only fool himself, as the key is his own and nobody else's.
package struct Fingerprint {
    package private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    package init() {}

    /// Of all that is stored of a request, however it was written. The span that has published it is left out: that of another try is
    /// another one.
    package init(_ publications: [Publication]) {
        for publication in publications {
            add(publication.channel.string.utf8)
            add(publication.data)
            add([publication.isBase64 ? 1 : 0, publication.change == nil ? 0 : 1])
            add(publication.priority.rawValue.utf8)
            add((publication.ttlSeconds.map(String.init) ?? "").utf8)
            // None of them is empty where it is there.
            for text in [publication.event, publication.key, publication.replaces] { add((text?.string ?? "").utf8) }
        }
    }

    package mutating func add(_ bytes: some Sequence<UInt8>) {
        for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
        value = (value ^ 0xff) &* 0x100_0000_01b3
    }
}

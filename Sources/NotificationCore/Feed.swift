/// What kind of thing a feed carries, which decides how it is delivered to somebody who was away or is slow.
package enum FeedKind: String, Sendable, CaseIterable {
    /// Every one matters: never conflated, read state per user, may expire.
    case alerts
    /// A state that evolves by merge patches: who is far behind gets the state instead of the changes.
    case scores
    /// The latest value of each key counts: who is behind gets that.
    case dashboards
}

/// How a feed is kept and delivered.
package struct Feed: Sendable, Hashable {
    /// nil: a plain log. Every message is delivered, nothing else is known of it.
    package var kind: FeedKind?
    package var retention: Retention
    /// Dashboards: keys of a channel. A thousand panels, ten times over.
    package var keysMax = 10_000
    /// Scores: the merged state of a channel; dashboards: the values of all keys together.
    package var stateBytesMax = 1 << 20
    /// No subscriber is sent more often than so many times a second; nil: as often as there is something.
    package var ratePerSecondMax: Double?
    /// Dashboards: a value without a successor for so long is stale; nil: never.
    package var maxAgeSeconds: Int?

    package init(kind: FeedKind?, retention: Retention = Retention()) {
        self.kind = kind
        self.retention = retention
    }

    /// As a feed of this kind is kept unless it is configured: alerts may wait for somebody who is on holiday, and a score for the next
    /// match day.
    package static func standard(_ kind: FeedKind?) -> Feed {
        switch kind {
        case .alerts: Feed(kind: kind, retention: Retention(ageSecondsMax: 30 * 86_400))
        case .scores: Feed(kind: kind, retention: Retention(ageSecondsMax: 7 * 86_400))
        case .dashboards, nil: Feed(kind: kind)
        }
    }
}

/// All feeds by name. Channels of feeds that are not named have `other`.
package struct FeedTable: Sendable {
    package var named: [String: Feed]
    package var other: Feed
    /// The server's own channels: what a user's devices tell each other is of interest for some days.
    private static let own = Feed(kind: nil, retention: Retention(countMax: 200, bytesMax: 1 << 20, ageSecondsMax: 7 * 86_400))

    /// What was taken back of tokens is wanted as long as one of them could be good: for a year, so often as one takes back.
    private static let revocations = Feed(
        kind: nil, retention: Retention(countMax: 1_000_000, bytesMax: 1 << 30, ageSecondsMax: 366 * 86_400)
    )

    /// What has come back is of no more use.
    private static let canary = Feed(kind: nil, retention: Retention(countMax: 4, bytesMax: 64 << 10, ageSecondsMax: 3600))

    package init(named: [String: Feed], other: Feed = Feed(kind: nil)) {
        self.named = named
        self.other = other
    }

    /// The three feeds there are without a configuration.
    package static var standard: FeedTable {
        FeedTable(named: [
            "alerts": .standard(.alerts), "scores": .standard(.scores), "dashboards": .standard(.dashboards),
        ])
    }

    package subscript(channel: ChannelName) -> Feed {
        if channel.isReserved { return channel.isCanary ? Self.canary : channel == .revocations ? Self.revocations : Self.own }
        return named.isEmpty ? other : named[String(channel.feed)] ?? other
    }
}

/// How much of a channel is kept. What goes over is dropped from the old end.
package struct Retention: Sendable, Hashable {
    /// Messages in a channel. Enough for a client that was away for some minutes.
    package var countMax: Int
    /// Bytes in a channel.
    package var bytesMax: Int
    /// Age of a message, seconds.
    package var ageSecondsMax: Int

    package init(countMax: Int = 10_000, bytesMax: Int = 64 << 20, ageSecondsMax: Int = 24 * 3600) {
        self.countMax = countMax
        self.bytesMax = bytesMax
        self.ageSecondsMax = ageSecondsMax
    }
}

/// Bounds of a log.
package struct LogLimits: Sendable {
    /// Channels that ever had a message: their last sequence is kept for good. The users who have acknowledged something have a channel
    /// of the server's own each; there may be as many of those besides.
    package var channelsMax: Int
    /// Bytes of all channels together that a loop keeps in memory. Over it, the oldest message of all goes first; the store still has it.
    package var memoryBytesMax: Int
    package var idempotency = IdempotencyLimits()
    package var feeds: FeedTable

    package init(channelsMax: Int = 100_000, memoryBytesMax: Int = 64 << 20, feeds: FeedTable = .standard) {
        self.channelsMax = channelsMax
        self.memoryBytesMax = memoryBytesMax
        self.feeds = feeds
    }

    /// All feeds as plain logs with this retention.
    package init(retention: Retention) {
        self.init(feeds: FeedTable(named: [:], other: Feed(kind: nil, retention: retention)))
    }
}

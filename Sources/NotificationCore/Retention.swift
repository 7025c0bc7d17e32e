/// How much of a channel is kept. What goes over is dropped from the old end.
package struct Retention: Sendable, Hashable {
    /// Messages in a channel. Enough for a client that was away for some minutes.
    package var countMax: Int
    /// Bytes in a channel, as `Notification.bytes` counts them.
    package var bytesMax: Int
    /// Age of a message, seconds.
    package var ageSecondsMax: Int

    package init(countMax: Int = 10_000, bytesMax: Int = 8 << 20, ageSecondsMax: Int = 24 * 3600) {
        self.countMax = countMax
        self.bytesMax = bytesMax
        self.ageSecondsMax = ageSecondsMax
    }
}

/// Bounds of a log in memory.
package struct LogLimits: Sendable {
    /// Channels that ever had a message: their last sequence is kept for good, some 300 bytes each.
    package var channelsMax: Int
    /// Bytes of all channels together. Over it, the oldest message of all goes first.
    package var bytesMax: Int
    /// Per feed; feeds that are not named have `retention`.
    package var feeds: [String: Retention]
    package var retention: Retention

    package init(
        channelsMax: Int = 100_000, bytesMax: Int = 256 << 20, retention: Retention = Retention(), feeds: [String: Retention] = [:]
    ) {
        self.channelsMax = channelsMax
        self.bytesMax = bytesMax
        self.retention = retention
        self.feeds = feeds
    }

    package func retention(for channel: ChannelName) -> Retention {
        feeds.isEmpty ? retention : feeds[String(channel.feed)] ?? retention
    }
}

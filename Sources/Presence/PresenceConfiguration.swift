package import NotificationCore

/// Whose channels are watched for who is on them, and how much of that is kept and told.
package struct PresenceConfiguration: Sendable, Hashable {
    /// What clients are told of the channels of a feed.
    package enum Mode: String, Sendable, CaseIterable {
        /// Nothing, and nothing is kept.
        case off
        /// How many connections and users there are.
        case count
        /// Who they are, too.
        case users
    }

    package var feeds: [String: Mode] = [:]
    /// Of feeds that are not named.
    package var other = Mode.off
    /// Channels of which the server itself wants to know when somebody is on them, whatever clients are told.
    package var occupancy: [ChannelPattern] = []
    /// Who is gone is counted for so long: a client that reconnects, or goes to another transport, has not left. Longer than a browser
    /// takes to reconnect (2 s, and the handshakes).
    package var graceMilliseconds: Int64 = 5000
    /// A channel's subscribers are told of changes at most so often.
    package var intervalMilliseconds: Int64 = 1000
    /// With more users than this on a channel events have only counts: with names, what a channel costs would grow with the square of
    /// its users.
    package var membersMax = 100
    /// Channels that somebody is on. As many as the log has by default.
    package var channelsMax = 100_000
    /// Users of a channel who are known by name. More count as connections only.
    package var usersMax = 10_000
    /// A client that polls is there for so many seconds after its last poll would have ended; as long as its session is kept.
    package var pollSeconds = 60

    /// Longer names are not listed: events and pages have a bound.
    package static let userBytesMax = 256
    /// Members of a page.
    package static let pageMax = 1000

    package init() {}

    /// - Parameter feed: a name, or `*` for feeds that are not named.
    package mutating func set(_ feed: String, _ mode: Mode) {
        if feed == "*" { other = mode } else { feeds[feed] = mode }
    }

    /// Whether anything is kept at all.
    package var isOn: Bool { other != .off || feeds.values.contains { $0 != .off } || !occupancy.isEmpty }

    package func mode(of channel: ChannelName) -> Mode {
        channel.isReserved ? .off : feeds[String(channel.feed)] ?? other
    }

    /// Whether it is kept who is on a channel.
    package func tracks(_ channel: ChannelName) -> Bool {
        if channel.isReserved { return false }
        return mode(of: channel) != .off || occupancy.contains { $0.matches(channel) }
    }

    /// The feed in whose figures a channel is. Names come from the configuration, so there are few.
    package func label(of channel: ChannelName) -> String {
        let feed = String(channel.feed)
        return feeds[feed] == nil ? "*" : feed
    }
}

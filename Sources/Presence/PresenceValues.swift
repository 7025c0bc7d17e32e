package import NotificationCore

/// What is new at one event loop about one channel. Numbers are what is there now and not by how much they changed, so that saying one
/// twice, or the newest only, does no harm.
package struct PresenceUpdate: Sendable, Hashable {
    package struct User: Sendable, Hashable {
        package var name: String
        /// 0: none any more.
        package var connections: Int

        package init(_ name: String, _ connections: Int) {
            self.name = name
            self.connections = connections
        }
    }

    package var channel: ChannelName
    /// Subscriptions that name the channel.
    package var connections: Int
    /// Those of them whose user is not listed, for want of room.
    package var unlisted = 0
    /// Users whose number of connections has changed.
    package var users: [User] = []
    /// `users` are all that there are: nothing was said of the channel before.
    package var isWhole = false
    /// Somebody wants to be told of changes.
    package var isWatching = false
    /// Somebody has just begun to want that, and is to be told the counts at once.
    package var greets = false

    package init(channel: ChannelName, connections: Int) {
        self.channel = channel
        self.connections = connections
    }
}

/// How many are on a channel.
package struct PresenceCounts: Sendable, Hashable {
    package var connections = 0
    package var users = 0
    /// There are users who are not counted: more than are listed.
    package var isAtLeast = false

    package init(connections: Int = 0, users: Int = 0, isAtLeast: Bool = false) {
        self.connections = connections
        self.users = users
        self.isAtLeast = isAtLeast
    }
}

/// What those are told who want to know who comes and goes.
package struct PresenceChange: Sendable, Hashable {
    package var channel: ChannelName
    package var counts: PresenceCounts
    /// Who has come and who has left since the last change, in the order of names; nil: that is not told, or not known any more.
    package var joined: [String]?
    package var left: [String]?
    /// For those who have just begun to want it.
    package var isGreeting = false

    package init(channel: ChannelName, counts: PresenceCounts) {
        self.channel = channel
        self.counts = counts
    }
}

/// Who is on a channel, in the order of names.
package struct PresencePage: Sendable, Hashable {
    package struct Member: Sendable, Hashable {
        package var user: String
        /// 0: the last one has just ended.
        package var connections: Int
        /// When the user came, in milliseconds of the book's clock.
        package var sinceMilliseconds: Int64

        package init(user: String, connections: Int, sinceMilliseconds: Int64) {
            self.user = user
            self.connections = connections
            self.sinceMilliseconds = sinceMilliseconds
        }
    }

    package var counts = PresenceCounts()
    /// nil: names are not told.
    package var members: [Member]?
    /// Where the next page begins; nil: there is none.
    package var next: String?
    /// There are more channels than are kept, and this is none of those that are.
    package var isUnknown = false

    package init() {}
}

/// Channels of a feed that somebody is on, for `/metrics`.
package struct PresenceFigure: Sendable, Hashable {
    package var feed: String
    package var channels = 0
    package var connections = 0
    package var users = 0

    package init(feed: String) {
        self.feed = feed
    }
}

/// Told when a channel gets its first subscription that names it, and when it has had none for the grace. For each channel the two
/// alternate, and calls come one after the other, on the thread of the book.
package protocol ChannelOccupancyObserver: AnyObject, Sendable {
    /// - Parameter milliseconds: since 1970.
    func channelOccupied(_ channel: ChannelName, atMilliseconds milliseconds: Int64)
    func channelVacated(_ channel: ChannelName, atMilliseconds milliseconds: Int64)
}

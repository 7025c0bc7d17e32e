/// What a hub counts for those who run the server: by feed, and by kind of what a batch held. Once a notification, not once a delivery.
struct HubFigures {
    /// Feeds that have figures of their own: those that are configured, then those that come first. All others share one row, so that
    /// publishers cannot make the figures grow.
    static let feedsMax = 32
    static let others = "other"

    /// Of a channel: which feed's figures, and the bit of its kind.
    private struct Place {
        var feed: UInt8
        var kind: UInt8
    }

    private var places: [Place] = []
    private var feedOfName: [String: UInt8] = [:]
    private(set) var feeds: [FeedFigures] = []
    /// Bits of the kinds that the newest batch held.
    private(set) var kinds: UInt8 = 0
    /// Channels of canaries, and the nodes of those who listen to them: they count nowhere.
    private(set) var canaries: [ChannelID] = []
    private(set) var canaryNodes: [Int32] = []

    /// Stands for no feed: channels of the server's own.
    static let own = UInt8.max
    private static let everywhere: UInt8 = 1

    init(_ table: FeedTable) {
        feeds = [FeedFigures(name: Self.others, kind: table.other.kind), FeedFigures(name: FeedFigures.everywhere, kind: nil)]
        for (name, feed) in table.named.sorted(by: { $0.key < $1.key }) { _ = place(Substring(name), feed.kind) }
    }

    private mutating func place(_ name: Substring, _ kind: FeedKind?) -> UInt8 {
        if let known = feedOfName[String(name)] { return known }
        guard feeds.count < Self.feedsMax + 2 else { return 0 }
        let place = UInt8(feeds.count)
        feeds.append(FeedFigures(name: String(name), kind: kind))
        feedOfName[String(name)] = place
        return place
    }

    /// A channel is there from now on. Channels come in the order of their numbers.
    mutating func connect(_ channel: ChannelID, _ name: ChannelName, _ kind: FeedKind?) {
        precondition(Int(channel) == places.count)
        guard !name.isReserved else {
            if name.isCanary { canaries.append(channel) }
            return places.append(Place(feed: Self.own, kind: 0))
        }
        places.append(Place(feed: place(name.feed, kind), kind: 1 << UInt8(NotificationKind(kind).rawValue)))
    }

    mutating func begin() { kinds = 0 }

    @inline(__always)
    mutating func count(_ channel: ChannelID, bytes: Int) {
        let place = places[Int(channel)]
        guard place.feed != Self.own else { return }
        kinds |= place.kind
        feeds[Int(place.feed)].notifications += 1
        feeds[Int(place.feed)].bytes += bytes
    }

    /// The feed that a pattern's subscriptions count for.
    func feed(of pattern: ChannelPattern) -> UInt8 {
        if pattern.isReserved { return Self.own }
        let first = pattern.string.prefix { $0 != "." }
        return first == "*" || first == ">" ? Self.everywhere : feedOfName[String(first)] ?? 0
    }

    mutating func note(subscriptions count: Int, feed: UInt8) {
        if feed != Self.own { feeds[Int(feed)].subscriptions += count }
    }

    mutating func noteNode(_ node: Int32, _ pattern: ChannelPattern, isThere: Bool) {
        guard pattern.isReserved, pattern.string.hasPrefix(ChannelName.canaryPrefix) else { return }
        if isThere { canaryNodes.append(node) } else { canaryNodes.removeAll { $0 == node } }
    }
}

/// What came on the channels of a feed since the loop began.
package struct FeedFigures: Sendable {
    /// The name under which patterns that go over all feeds have their subscriptions.
    package static let everywhere = "*"

    package let name: String
    package let kind: FeedKind?
    package var notifications = 0
    package var bytes = 0
    /// Subscriptions to channels or patterns of the feed now.
    package var subscriptions = 0
}

/// The kinds of feeds, with the plain ones as one of them.
package enum NotificationKind: Int, Sendable, CaseIterable {
    case alerts, scores, dashboards, plain

    package init(_ kind: FeedKind?) {
        self =
            switch kind {
            case .alerts: .alerts
            case .scores: .scores
            case .dashboards: .dashboards
            case nil: .plain
            }
    }

    package var name: String {
        switch self {
        case .alerts: "alerts"
        case .scores: "scores"
        case .dashboards: "dashboards"
        case .plain: "plain"
        }
    }
}

/// How far subscribers are behind. What a hub looks at is a part of them if there are many.
package struct CursorLag: Sendable {
    /// Upper bounds in notifications of the log; what is more is in a last bucket.
    package static let bounds: [UInt64] = [0, 1, 10, 100, 1000, 10_000, 100_000]

    package var counts = Array(repeating: 0, count: bounds.count + 1)
    package var max: UInt64 = 0
    /// Subscribers there are, and how many of them were looked at.
    package var subscribers = 0
    package var looked = 0

    package init() {}

    mutating func note(_ lag: UInt64) {
        counts[Self.bounds.firstIndex { lag <= $0 } ?? Self.bounds.count] += 1
        max = Swift.max(max, lag)
        looked += 1
    }
}

extension Hub {
    /// Places of the subscriber table that are or were in use.
    package var subscriberPlaces: Int { table.usedPlaces }

    /// Bits of the kinds, as `NotificationKind` numbers them, that the newest batch held; without the server's own channels.
    package var batchKinds: UInt8 { figures.kinds }

    package var feedFigures: [FeedFigures] { figures.feeds }

    /// What canaries have of the tail, and of the patterns.
    package var canaryFigures: (channels: Int, messages: Int, bytes: Int, patterns: Int) {
        var sum = (channels: figures.canaries.count, messages: 0, bytes: 0, patterns: 0)
        for id in figures.canaries {
            let channel = tail.channels[Int(id)]
            sum.messages += channel.count
            sum.bytes += channel.bytes
        }
        sum.patterns = figures.canaryNodes.count
        return sum
    }

    /// How far subscribers are behind: notifications of the log between a cursor and the newest one on its channels. Without canaries.
    ///
    /// - Parameters:
    ///   - start: the place in the table at which to begin, so that one look after the other sees all of them.
    ///   - most: places to look at.
    ///   - counts: called with each that is stopped and has something to read: whether it is one to be counted.
    package func cursorLag(from start: Int, most: Int, counts: (SubscriberID) -> Bool) -> CursorLag {
        var lag = CursorLag()
        let places = table.usedPlaces
        let canaries = Set(figures.canaryNodes.flatMap { nodes[Int($0)].subscribers.map { Int($0) } })
        lag.subscribers = table.count - canaries.count
        for step in 0..<min(places, most) {
            let index = (start + step) % places
            let slot = table.slots[index]
            guard slot.state != .free, canaries.isEmpty || !canaries.contains(index) else { continue }
            var behind: UInt64 = 0
            if slot.state != .live {
                let newest = profiles[index].subscriptions.reduce(UInt64(0)) { max($0, nodes[Int($1.node)].lastOffset) }
                if newest > slot.cursor { behind = newest - slot.cursor }
            }
            if slot.state == .stopped, behind > 0, !counts(SubscriberID(index: UInt32(index), generation: slot.generation)) { continue }
            lag.note(behind)
        }
        return lag
    }
}

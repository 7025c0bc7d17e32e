package import NotificationCore

/// Who is on which channels, at all event loops of all processes together. A value; time is an argument.
///
///     event loops ── updates, some times a second ──> book ── greetings at once, changes once an interval ──> event loops
///                                                       └──── occupied, vacated ──> whoever wants to know
///
/// A channel is in it from its first subscription until the grace after its last one has passed.
package struct PresenceBook {
    /// What has to be told, in this order.
    package struct News: Sendable {
        package struct Transition: Sendable, Hashable {
            package var channel: ChannelName
            package var isOccupied: Bool

            package init(channel: ChannelName, isOccupied: Bool) {
                self.channel = channel
                self.isOccupied = isOccupied
            }
        }

        package struct Tell: Sendable, Hashable {
            package var change: PresenceChange
            /// Event loops.
            package var sources: [Int]
        }

        package var transitions: [Transition] = []
        package var tells: [Tell] = []

        package var isEmpty: Bool { transitions.isEmpty && tells.isEmpty }
    }

    /// Ends of the grace are looked at so often.
    package static let tickMilliseconds: Int64 = 250

    private let configuration: PresenceConfiguration
    private var rooms: [ChannelName: PresenceRoom] = [:]
    /// By time: channels where somebody has left then, unless they are back.
    private var expiries: [Int64: Set<ChannelName>] = [:]
    /// Watched channels where something has changed.
    private var changed: Set<ChannelName> = []
    private var news = News()
    private var figureOfFeed: [String: PresenceFigure] = [:]
    /// Updates of channels for which there was no room.
    package private(set) var refused = 0

    package init(_ configuration: PresenceConfiguration) {
        self.configuration = configuration
    }

    package var channelCount: Int { rooms.count }

    package var figures: [PresenceFigure] { figureOfFeed.values.sorted { $0.feed < $1.feed } }

    package mutating func takeNews() -> News {
        defer { news = News() }
        return news
    }

    // MARK: what event loops say

    package mutating func take(_ updates: [PresenceUpdate], from source: Int, now: Int64) {
        for update in updates { take(update, from: source, now: now) }
    }

    private mutating func take(_ update: PresenceUpdate, from source: Int, now: Int64) {
        let channel = update.channel
        if rooms[channel] == nil {
            guard update.connections > 0 else { return }
            guard rooms.count < configuration.channelsMax else {
                refused += 1
                return
            }
            rooms[channel] = PresenceRoom(listsNames: configuration.mode(of: channel) == .users)
            news.transitions.append(News.Transition(channel: channel, isOccupied: true))
            note(channel, channels: 1)
        }
        let due = due(now)
        change(channel) { [configuration] room in
            room.take(update, from: source, now: now, due: due, limits: configuration)
        }
        expiries[due, default: []].insert(channel)
        guard update.greets, let room = rooms[channel] else { return }
        var greeting = PresenceChange(channel: channel, counts: room.counts)
        greeting.isGreeting = true
        news.tells.append(News.Tell(change: greeting, sources: [source]))
    }

    /// The process with these event loops has ended. Its clients have so long to come back as others who are gone.
    package mutating func drop(_ sources: Range<Int>, now: Int64) {
        let due = due(now)
        for channel in rooms.filter({ $0.value.shares.keys.contains { sources.contains($0) } }).keys {
            change(channel) { [configuration] room in
                for source in sources { room.drop(source, now: now, due: due, limits: configuration) }
            }
            expiries[due, default: []].insert(channel)
        }
    }

    private func due(_ now: Int64) -> Int64 {
        let tick = Self.tickMilliseconds
        return (now + configuration.graceMilliseconds + tick - 1) / tick * tick
    }

    private mutating func change(_ channel: ChannelName, _ body: (inout PresenceRoom) -> Void) {
        guard var room = rooms.removeValue(forKey: channel) else { return }
        let before = room.counts
        body(&room)
        let after = room.counts
        note(channel, connections: after.connections - before.connections, users: after.users - before.users)
        if room.isWatched { changed.insert(channel) } else { changed.remove(channel) }
        rooms[channel] = room
    }

    private mutating func note(_ channel: ChannelName, channels: Int = 0, connections: Int = 0, users: Int = 0) {
        guard channels != 0 || connections != 0 || users != 0 else { return }
        let feed = configuration.label(of: channel)
        var figure = figureOfFeed[feed] ?? PresenceFigure(feed: feed)
        figure.channels += channels
        figure.connections += connections
        figure.users += users
        figureOfFeed[feed] = figure
    }

    // MARK: time

    /// To be called four times a second: those leave whose grace is over, and changes are told whose time has come.
    package mutating func advance(now: Int64) {
        for due in expiries.keys.filter({ $0 <= now }).sorted() {
            for channel in expiries.removeValue(forKey: due) ?? [] {
                change(channel) { [configuration] in $0.expire(now: now, limits: configuration) }
                if rooms[channel]?.isEmpty ?? false { vacate(channel) }
            }
        }
        for channel in changed {
            guard let room = rooms[channel], now - configuration.intervalMilliseconds >= room.toldMilliseconds else { continue }
            changed.remove(channel)
            guard let change = rooms[channel]!.takeChange(channel, now: now, limits: configuration) else { continue }
            news.tells.append(News.Tell(change: change, sources: room.watching))
        }
    }

    private mutating func vacate(_ channel: ChannelName) {
        rooms[channel] = nil
        changed.remove(channel)
        news.transitions.append(News.Transition(channel: channel, isOccupied: false))
        note(channel, channels: -1)
    }

    // MARK: questions

    /// - Parameters:
    ///   - after: the `next` of the page before.
    ///   - limit: members of a page.
    package mutating func page(of channel: ChannelName, after: String?, limit: Int) -> PresencePage {
        var page = PresencePage()
        let listsNames = configuration.mode(of: channel) == .users
        if listsNames { page.members = [] }
        guard let room = rooms[channel] else {
            page.isUnknown = rooms.count >= configuration.channelsMax
            return page
        }
        page.counts = room.counts
        guard listsNames else { return page }
        let (members, next) = rooms[channel]!.page(after: after, limit: max(1, min(limit, PresenceConfiguration.pageMax)))
        page.members = members
        page.next = next
        return page
    }
}

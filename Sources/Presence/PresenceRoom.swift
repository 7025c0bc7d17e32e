import NotificationCore

/// One channel that somebody is on, or was a moment ago.
///
/// Each event loop has a share in it, so that what a process had can be taken back when it ends. Connections and users that are gone are
/// counted until their time is over; a connection that comes takes the place of one that went, since it may well be the same client.
struct PresenceRoom {
    struct Share {
        var connections = 0
        var unlisted = 0
        var isWatching = false
        var users: [String: Int] = [:]

        var isEmpty: Bool { connections == 0 && !isWatching && users.isEmpty }
    }

    struct User {
        var connections: Int
        var sinceMilliseconds: Int64
        /// When a user without connections has left; nil: there are some.
        var dueMilliseconds: Int64?
    }

    /// Who has come and gone since that was last told.
    private struct News {
        var joined: Set<String> = []
        var left: Set<String> = []
        /// There were more of them than are told by name.
        var isTooMuch = false
    }

    let listsNames: Bool
    private(set) var shares: [Int: Share] = [:]
    private var connections = 0
    private var unlisted = 0
    /// Connections of users for whom there was no room here.
    private var overflow = 0
    /// The book learnt of the channel when it was in use already, for want of room: there are users that it does not know.
    private var isTainted = false
    /// Connections that are gone, by when they have left.
    private var departed: [(dueMilliseconds: Int64, count: Int)] = []
    private var departedCount = 0
    private var users: [String: User] = [:]
    /// Users without connections.
    private var leaving = 0
    /// Their names, sorted; nil: not known since somebody came or left.
    private var order: [String]?
    private var news = News()
    private var told: PresenceCounts?
    private(set) var toldMilliseconds = Int64.min

    init(listsNames: Bool) {
        self.listsNames = listsNames
    }

    var isEmpty: Bool { connections == 0 && departedCount == 0 && users.isEmpty && shares.isEmpty }

    var counts: PresenceCounts {
        PresenceCounts(
            connections: connections + departedCount, users: users.count, isAtLeast: unlisted > 0 || overflow > 0 || isTainted
        )
    }

    /// Event loops where somebody wants to be told.
    var watching: [Int] { shares.filter { $0.value.isWatching }.keys.sorted() }

    var isWatched: Bool { shares.values.contains { $0.isWatching } }

    // MARK: what event loops say

    /// - Parameter due: when what goes now has left.
    mutating func take(_ update: PresenceUpdate, from source: Int, now: Int64, due: Int64, limits: PresenceConfiguration) {
        let wasWatched = isWatched
        let known = shares.removeValue(forKey: source)
        if known == nil, !update.isWhole { isTainted = true }
        var share = known ?? Share()
        change(connectionsBy: update.connections - share.connections, due)
        unlisted += update.unlisted - share.unlisted
        (share.connections, share.unlisted, share.isWatching) = (update.connections, update.unlisted, update.isWatching)
        for user in update.users {
            let before = share.users.removeValue(forKey: user.name) ?? 0
            if user.connections > 0 { share.users[user.name] = user.connections }
            note(user.name, before: before, after: user.connections, now, due, limits, isWatched: wasWatched)
        }
        if !share.isEmpty { shares[source] = share }
        if !wasWatched {
            // Whoever begins to watch is told the counts, and of what changes after that.
            news = News()
            told = counts
        }
    }

    /// What an event loop had is gone with its process.
    mutating func drop(_ source: Int, now: Int64, due: Int64, limits: PresenceConfiguration) {
        let wasWatched = isWatched
        guard let share = shares.removeValue(forKey: source) else { return }
        change(connectionsBy: -share.connections, due)
        unlisted -= share.unlisted
        for (name, count) in share.users {
            note(name, before: count, after: 0, now, due, limits, isWatched: wasWatched)
        }
    }

    private mutating func change(connectionsBy difference: Int, _ due: Int64) {
        connections += difference
        if difference < 0 {
            departedCount -= difference
            if departed.last?.dueMilliseconds == due {
                departed[departed.count - 1].count -= difference
            } else {
                departed.append((due, -difference))
            }
        }
        var come = difference
        while come > 0, let last = departed.last {
            let taken = min(come, last.count)
            come -= taken
            departedCount -= taken
            if taken == last.count { departed.removeLast() } else { departed[departed.count - 1].count -= taken }
        }
    }

    /// One event loop has another number of a user's connections than before.
    private mutating func note(
        _ name: String, before: Int, after: Int, _ now: Int64, _ due: Int64, _ limits: PresenceConfiguration, isWatched: Bool
    ) {
        if var user = users[name] {
            let had = user.connections
            user.connections += after - before
            if had > 0, user.connections == 0 {
                user.dueMilliseconds = due
                leaving += 1
            } else if had == 0, user.connections > 0 {
                user.dueMilliseconds = nil
                leaving -= 1
            }
            users[name] = user
            return
        }
        let others = shares.values.reduce(0) { $0 + ($1.users[name] ?? 0) }
        overflow -= others + before
        let sum = others + after
        if sum == 0 { return }
        guard users.count < limits.usersMax else {
            overflow += sum
            return
        }
        users[name] = User(connections: sum, sinceMilliseconds: now)
        order = nil
        tell(limits, isWatched) { if $0.left.remove(name) == nil { $0.joined.insert(name) } }
    }

    // MARK: time

    /// Those have left whose time is over.
    mutating func expire(now: Int64, limits: PresenceConfiguration) {
        let over = departed.prefix { $0.dueMilliseconds <= now }
        departedCount -= over.reduce(0) { $0 + $1.count }
        departed.removeFirst(over.count)
        guard leaving > 0 else { return }
        let isWatched = isWatched
        for (name, user) in users where (user.dueMilliseconds ?? .max) <= now {
            users[name] = nil
            leaving -= 1
            order = nil
            tell(limits, isWatched) { if $0.joined.remove(name) == nil { $0.left.insert(name) } }
        }
    }

    // MARK: what is told

    private mutating func tell(_ limits: PresenceConfiguration, _ isWatched: Bool, _ change: (inout News) -> Void) {
        guard listsNames, !news.isTooMuch, isWatched else { return }
        change(&news)
        if news.joined.count + news.left.count > limits.membersMax { news = News(isTooMuch: true) }
    }

    /// - Returns: what has changed since the last time; nil: nothing.
    mutating func takeChange(_ channel: ChannelName, now: Int64, limits: PresenceConfiguration) -> PresenceChange? {
        let counts = counts
        defer { news = News() }
        guard counts != told || news.isTooMuch || !news.joined.isEmpty || !news.left.isEmpty else { return nil }
        told = counts
        toldMilliseconds = now
        var change = PresenceChange(channel: channel, counts: counts)
        if listsNames, !news.isTooMuch, counts.users <= limits.membersMax, !counts.isAtLeast {
            change.joined = news.joined.sorted()
            change.left = news.left.sorted()
        }
        return change
    }

    // MARK: pages

    /// Users whose names come after one, in their order: who is there all the time is on exactly one page.
    mutating func page(after: String?, limit: Int) -> (members: [PresencePage.Member], next: String?) {
        let order = self.order ?? users.keys.sorted()
        self.order = order
        // The first one whose name is greater.
        var (low, high) = (0, after == nil ? 0 : order.count)
        while low < high {
            let middle = (low + high) / 2
            if order[middle] <= after! { low = middle + 1 } else { high = middle }
        }
        let end = min(order.count, low + limit)
        let members = order[low..<end].compactMap { name in
            users[name].map { PresencePage.Member(user: name, connections: $0.connections, sinceMilliseconds: $0.sinceMilliseconds) }
        }
        return (members, end < order.count ? order[end - 1] : nil)
    }
}

import JSONCodec
import NIOCore
import NotificationCore
import NotificationStore
import Transports

/// A subscriber that named a user, and the count of alerts that this user has not read on its channels.
struct UnreadSession {
    var user: FieldText
    var patterns: [ChannelPattern] {
        didSet {
            head = nil
            generation += 1
        }
    }
    /// Counts the changes of `patterns`.
    private(set) var generation = 0
    /// What it was last told.
    var told: Int?
    /// The counts of the channels that have any, as of `head`; nil: not known.
    private(set) var counts: [ChannelID: UnreadCount] = [:]
    private(set) var head: UInt64?
    /// The log is being asked: there is one question of each session at most.
    var isCounting = false
    /// When something changes though nothing comes: the first alert expires, or what retention drops is looked for.
    private(set) var lookMilliseconds = Int64.max
    /// When all is counted anew.
    private(set) var recountMilliseconds = Int64.max

    /// What retention drops is noticed within ten minutes; it may take a second of the log's reader, for a user with thousands of channels.
    private static let recountEveryMilliseconds: Int64 = 600_000

    init(user: FieldText, patterns: [ChannelPattern], told: Int?) {
        self.user = user
        self.patterns = patterns
        self.told = told
    }

    var count: Int { counts.values.reduce(0) { $0 + $1.count } }

    /// Takes the counts of some channels.
    ///
    /// - Parameter isAll: there are no others.
    mutating func take(_ found: [(channel: ChannelID, count: UnreadCount)], isAll: Bool, head: UInt64, nowMilliseconds now: Int64) {
        if isAll {
            counts = [:]
            recountMilliseconds = now + Self.recountEveryMilliseconds
        }
        for (channel, count) in found { counts[channel] = count.count == 0 ? nil : count }
        self.head = head
        noteLook()
    }

    mutating func noteLook() {
        let first = counts.values.reduce(Int64.max) { min($0, $1.expiresMilliseconds) }
        lookMilliseconds = counts.isEmpty ? .max : min(first, recountMilliseconds)
    }

    mutating func lookAgain(at milliseconds: Int64) {
        lookMilliseconds = milliseconds
    }
}

/// Alert channels on which something has come lately, so that nobody has to count the others again.
struct AlertChanges {
    private struct Change {
        var offset: UInt64
        var channel: ChannelID
        /// Whose acknowledgement it is; nil: it is an alert, and everybody's.
        var owner: ChannelName?
    }

    private static let countMax = 4096
    private var changes: CircularBuffer<Change> = []
    /// Everything after this number is among them.
    private var floor: UInt64?

    /// - Parameter head: before these.
    mutating func note(_ notifications: [NotificationCore.Notification], head: UInt64, _ hub: Hub) {
        if floor == nil { floor = head }
        for notification in notifications {
            if notification.channel.isReserved {
                let data = JSONSlice(notification.object[notification.data])
                guard let name = data["channel"]?.string().flatMap({ ChannelName($0) }), let channel = hub.tail.index(of: name) else {
                    continue
                }
                changes.append(Change(offset: notification.offset, channel: channel, owner: notification.channel))
            } else if hub.tail.channels[Int(notification.channelID)].feed.kind == .alerts {
                changes.append(Change(offset: notification.offset, channel: notification.channelID, owner: nil))
            }
        }
        while changes.count > Self.countMax { floor = changes.removeFirst().offset }
    }

    mutating func removeAll() {
        changes.removeAll()
        floor = nil
    }

    /// The channels that may count otherwise for somebody since; nil: any.
    func channels(after head: UInt64, of session: UnreadSession, _ hub: Hub) -> Set<ChannelID>? {
        guard let floor, head >= floor else { return nil }
        var found: Set<ChannelID> = []
        let own = ChannelName(acknowledgementsOf: session.user)
        for change in changes.reversed() {
            if change.offset <= head { break }
            if found.contains(change.channel) || (change.owner != nil && change.owner != own) { continue }
            let name = hub.tail.channels[Int(change.channel)].name
            if session.patterns.contains(where: { $0.matches(name) }) { found.insert(change.channel) }
        }
        return found
    }
}

extension ServerLoop {
    /// How many alerts a user has not read on these channels; nil: the log cannot be read now.
    func unread(_ user: FieldText, _ patterns: [ChannelPattern], completion: @escaping @Sendable (Int?) -> Void) {
        let channels = alertChannels(patterns)
        if channels.isEmpty { return completion(0) }
        server.log.read(from: self) { store throws(StoreFault) in
            try store.unreadCount(user: user, channels: channels, nowMilliseconds: Clock.wallMilliseconds())
        } completion: { result in
            completion(try? result.get())
        }
    }

    /// Has the counts looked at that are not what they were though nothing has come.
    func lookAtUnread() {
        if unreadSessions.isEmpty { return alertChanges.removeAll() }
        #if DEFECTS
            if Defect.active == .expiryIsNotCounted { return }
        #endif
        let now = Clock.wallMilliseconds()
        for (id, session) in unreadSessions where session.lookMilliseconds <= now { unreadDirty.insert(id) }
    }

    /// Tells those whose count may have changed, if it has: at most once a tick.
    func tellUnread() {
        if unreadDirty.isEmpty { return }
        let dirty = Set(unreadDirty.map { unreadOwners[$0] ?? $0 })
        unreadDirty.removeAll(keepingCapacity: true)
        for id in dirty where hub.isCurrent(id) {
            guard let session = unreadSessions[id], !outlets[id].kind.isPoll else { continue }
            if session.isCounting {
                unreadDirty.insert(id)
            } else {
                count(session, id)
            }
        }
    }

    private func count(_ session: UnreadSession, _ id: SubscriberID) {
        let now = Clock.wallMilliseconds()
        var some = session.recountMilliseconds <= now ? nil : session.head.flatMap { alertChanges.channels(after: $0, of: session, hub) }
        if some != nil { for (channel, count) in session.counts where count.expiresMilliseconds <= now { some?.insert(channel) } }
        let channels = some.map { $0.sorted() } ?? alertChannels(session.patterns)
        let (isAll, head, user) = (some == nil, hub.head, session.user)
        if channels.isEmpty {
            unreadSessions[id]?.take([], isAll: isAll, head: head, nowMilliseconds: now)
            return tellCount(id)
        }
        unreadSessions[id]?.isCounting = true
        let bound = bind(self)
        server.log.read(from: self) { store throws(StoreFault) in
            try store.unreadCounts(user: user, channels: channels, nowMilliseconds: Clock.wallMilliseconds())
        } completion: { result in
            let loop = bound.value
            guard loop.hub.isCurrent(id), loop.unreadSessions[id] != nil else { return }
            loop.unreadSessions[id]?.isCounting = false
            if loop.unreadSessions[id]?.generation != session.generation { return }
            let now = Clock.wallMilliseconds()
            guard case .success(let counts) = result else {
                loop.unreadSessions[id]?.lookAgain(at: now + 1000)
                return
            }
            loop.unreadSessions[id]?.take(Array(zip(channels, counts)), isAll: isAll, head: head, nowMilliseconds: now)
            loop.tellCount(id)
        }
    }

    private func tellCount(_ id: SubscriberID) {
        guard let session = unreadSessions[id], session.told != session.count else { return }
        let outlet = outlets[id]
        guard let connection = outlet.connection?.takeUnretainedValue(), connection.hasRoom(stream: outlet.stream) else {
            unreadDirty.insert(id)
            return
        }
        unreadSessions[id]?.told = session.count
        var out: [UInt8] = []
        outlet.shape.append(control: ControlObject.unread(session.count), event: "unread", to: &out)
        connection.write(out, stream: outlet.stream)
        if hub.isCurrent(id), !connection.hasRoom(stream: outlet.stream) { stop(id) }
    }
}

import Identity
import NIOCore
import NotificationCore
import Presence
import Transports

/// Who is on which channels at one event loop, who of them wants to be told, and what of that is under way. There is one only where
/// something is to be kept at all.
///
///     subscriptions begin and end ──> ledger ── at the tick, if the last report has arrived ──> book
///     book ── changes ──> streams: at the loop's turns, a small message each, with room for it; else later, the counts
///                    └──> polls: answered where they are parked, or at the next poll
final class LoopPresence {
    /// A subscription of a stream, or of a poll without a session.
    struct Member {
        var places: [PresenceLedger.Place]
        let user: String?
        var isWatching = false
    }

    /// A client that polls. It is there from its first poll until its time is over without another one.
    struct Poller {
        var places: [PresenceLedger.Place] = []
        var wish: PollPresence
        var expiresTick: UInt32
        /// When that is looked at.
        var lookTick: UInt32
        /// Its last poll waits, as far as is known here.
        var isParked: Bool
        /// Channels whose counts it has been told, or will be.
        var greeted: Set<ChannelName> = []
        /// What it has not been told.
        var unsaid: [ChannelName: PresenceChange] = [:]
        /// What is on its way to the loop where the poll is parked; nil: nothing.
        var saying: [ChannelName: PresenceChange]?
    }

    /// How a stream stands that wants to be told of a channel.
    enum Standing {
        /// It waits for the first counts.
        case new
        case told
        /// Something was not told, since there was no room: the counts are due.
        case behind
    }

    struct Audience {
        var streams: [SubscriberID: Standing] = [:]
        var pollers: Set<SessionID> = []
        /// As they were told last.
        var counts = PresenceCounts()

        var isEmpty: Bool { streams.isEmpty && pollers.isEmpty }
    }

    /// A change on its way to those who watch, one after the other.
    struct Telling {
        var change: PresenceChange
        var ids: [SubscriberID]
        var next = 0
        var frames = PresenceFrames()
    }

    struct Figures: Sendable {
        var events = 0
        var refused = 0

        mutating func add(_ other: Figures) {
            events += other.events
            refused += other.refused
        }
    }

    let configuration: PresenceConfiguration
    var ledger: PresenceLedger
    var members: [SubscriberID: Member] = [:]
    var pollers: [SessionID: Poller] = [:]
    /// By tick: clients that poll whose time is over then, unless they have polled since.
    var pollerExpiries: [UInt32: [SessionID]] = [:]
    var audiences: [ChannelName: Audience] = [:]
    /// Streams of which some are `behind`.
    var behind: [ChannelName: Set<SubscriberID>] = [:]
    var tellings = CircularBuffer<Telling>()
    /// Channels that have one of those, but for greetings: at most one each.
    var toldChannels: Set<ChannelName> = []
    /// A report has not arrived.
    var isReporting = false
    var events = 0

    init(_ configuration: PresenceConfiguration) {
        self.configuration = configuration
        ledger = PresenceLedger(channelsMax: configuration.channelsMax, usersMax: configuration.usersMax)
    }

    var figures: Figures { Figures(events: events, refused: ledger.refused) }

    /// Those of some patterns on which one is: that name a channel which is tracked.
    func channels(_ patterns: [ChannelPattern]) -> [ChannelName] {
        var channels: [ChannelName] = []
        for pattern in patterns {
            guard let name = pattern.name, configuration.tracks(name), !channels.contains(name) else { continue }
            channels.append(name)
        }
        return channels
    }

    private func enter(_ channel: ChannelName, _ user: String?) -> PresenceLedger.Place? {
        ledger.enter(channel, user: configuration.mode(of: channel) == .off ? nil : user)
    }

    /// Whether clients are told anything of a channel.
    func isShown(_ channel: ChannelName) -> Bool { configuration.mode(of: channel) != .off }

    // MARK: streams

    func enter(_ id: SubscriberID, _ channels: [ChannelName], user: String?) {
        let places = channels.compactMap { enter($0, user) }
        if !places.isEmpty { members[id] = Member(places: places, user: user) }
    }

    func watch(_ id: SubscriberID) {
        guard let member = members[id], !member.isWatching else { return }
        members[id]!.isWatching = true
        for place in member.places where isShown(place.channel) {
            audiences[place.channel, default: Audience()].streams[id] = .new
            ledger.watch(place.channel)
        }
    }

    /// A subscription has only these channels left.
    func keep(_ id: SubscriberID, only channels: [ChannelName]) {
        guard var member = members[id] else { return }
        for place in member.places where !channels.contains(place.channel) { leave(place, id, isWatching: member.isWatching) }
        member.places.removeAll { !channels.contains($0.channel) }
        members[id] = member.places.isEmpty ? nil : member
    }

    func leave(_ id: SubscriberID) {
        guard let member = members.removeValue(forKey: id) else { return }
        for place in member.places { leave(place, id, isWatching: member.isWatching) }
    }

    private func leave(_ place: PresenceLedger.Place, _ id: SubscriberID, isWatching: Bool) {
        let channel = place.channel
        if isWatching, audiences[channel]?.streams.removeValue(forKey: id) != nil {
            behind[channel]?.remove(id)
            if behind[channel]?.isEmpty ?? false { behind[channel] = nil }
            if audiences[channel]!.isEmpty { audiences[channel] = nil }
            ledger.unwatch(channel)
        }
        ledger.leave(place)
    }

    // MARK: polls

    /// More have no place.
    private static let pollersMax = 100_000

    /// A poll has come. What it wants to be told from now on, and until when it is there.
    ///
    /// - Returns: false: there is no such client, or it is not this one's.
    func keep(_ id: SessionID, _ wish: PollPresence, expiresTick: UInt32) -> Bool {
        if pollers[id] == nil {
            guard !wish.channels.isEmpty, pollers.count < Self.pollersMax else { return false }
            pollers[id] = Poller(wish: wish, expiresTick: expiresTick, lookTick: expiresTick, isParked: true)
            pollerExpiries[expiresTick, default: []].append(id)
            for channel in wish.channels { enter(id, channel) }
            return true
        }
        let known = pollers[id]!.wish
        guard known.principal == wish.principal else { return false }
        if known.user != wish.user || known.isWatching != wish.isWatching {
            leaveAll(id)
        } else {
            leave(id) { !wish.channels.contains($0.channel) }
        }
        pollers[id]!.wish = wish
        pollers[id]!.expiresTick = expiresTick
        if expiresTick < pollers[id]!.lookTick { lookAt(id, expiresTick) }
        pollers[id]!.isParked = true
        let here = pollers[id]!.places.map(\.channel)
        for channel in wish.channels where !here.contains(channel) { enter(id, channel) }
        return true
    }

    /// Another entry of the same client is stale.
    private func lookAt(_ id: SessionID, _ tick: UInt32) {
        pollers[id]!.lookTick = tick
        pollerExpiries[tick, default: []].append(id)
    }

    /// The same poll has come again.
    func prolong(_ id: SessionID, expiresTick: UInt32) {
        pollers[id]?.expiresTick = expiresTick
    }

    private func enter(_ id: SessionID, _ channel: ChannelName) {
        let wish = pollers[id]!.wish
        guard let place = enter(channel, wish.user) else { return }
        pollers[id]!.places.append(place)
        guard wish.isWatching, isShown(channel) else { return }
        audiences[channel, default: Audience()].pollers.insert(id)
        ledger.watch(channel)
    }

    private func leaveAll(_ id: SessionID) {
        leave(id) { _ in true }
    }

    private func leave(_ id: SessionID, where isLeaving: (PresenceLedger.Place) -> Bool) {
        guard let places = pollers[id]?.places else { return }
        for place in places where isLeaving(place) {
            let channel = place.channel
            if audiences[channel]?.pollers.remove(id) != nil {
                if audiences[channel]!.isEmpty { audiences[channel] = nil }
                ledger.unwatch(channel)
            }
            pollers[id]!.greeted.remove(channel)
            pollers[id]!.unsaid[channel] = nil
            ledger.leave(place)
        }
        pollers[id]!.places.removeAll(where: isLeaving)
    }

    /// Those are gone whose time is over.
    func expirePollers(tick: UInt32) {
        guard let due = pollerExpiries.removeValue(forKey: tick) else { return }
        for id in due {
            guard let poller = pollers[id], poller.lookTick == tick else { continue }
            if poller.expiresTick > tick {
                lookAt(id, poller.expiresTick)
            } else {
                leaveAll(id)
                pollers[id] = nil
            }
        }
    }

    // MARK: what the book tells

    /// - Returns: clients that poll, and have something to be told.
    func take(_ changes: [PresenceChange]) -> [SessionID] {
        var pollersTold: [SessionID] = []
        for change in changes {
            guard var audience = audiences[change.channel] else { continue }
            audience.counts = change.counts
            // Who is new waits for the greeting; who is not has no use for it.
            let ids = audience.streams.filter { ($0.value == .new) == change.isGreeting }.map(\.key)
            if change.isGreeting { for id in ids { audience.streams[id] = .told } }
            if !ids.isEmpty {
                if change.isGreeting || toldChannels.insert(change.channel).inserted {
                    tellings.append(Telling(change: change, ids: ids))
                } else {
                    // The one before has not reached everybody yet: the counts will do.
                    for id in ids { audience.streams[id] = .behind }
                    behind[change.channel, default: []].formUnion(ids)
                }
            }
            audiences[change.channel] = audience
            for id in audience.pollers where note(change, for: id) { pollersTold.append(id) }
        }
        return pollersTold
    }

    private func note(_ change: PresenceChange, for id: SessionID) -> Bool {
        guard let poller = pollers[id] else { return false }
        if change.isGreeting {
            guard pollers[id]!.greeted.insert(change.channel).inserted else { return false }
        } else if !poller.greeted.contains(change.channel) {
            return false
        }
        // Of two that come together only the counts are known.
        pollers[id]!.unsaid[change.channel] = poller.unsaid[change.channel] == nil ? change : change.withoutNames
        return true
    }

    /// What a poll is answered with; it counts as told until `said` says otherwise. nil: nothing, or it is on its way already.
    func say(_ id: SessionID) -> [PresenceChange]? {
        guard let poller = pollers[id], poller.isParked, poller.saying == nil, !poller.unsaid.isEmpty else { return nil }
        pollers[id]!.saying = poller.unsaid
        pollers[id]!.unsaid = [:]
        return poller.unsaid.values.sorted { $0.channel.string < $1.channel.string }
    }

    /// - Parameter place: where it was said.
    /// - Returns: whether there is more to say.
    func said(_ id: SessionID, at place: ParkedPollPlace, isTold: Bool) -> Bool {
        guard let poller = pollers[id], let saying = poller.saying else { return false }
        pollers[id]!.saying = nil
        // Another poll may have come meanwhile.
        if poller.wish.place == place { pollers[id]!.isParked = false }
        if isTold {
            events += saying.count
        } else {
            for (channel, change) in saying where poller.greeted.contains(channel) {
                pollers[id]!.unsaid[channel] = poller.unsaid[channel]?.withoutNames ?? change
            }
        }
        return pollers[id]!.isParked && !pollers[id]!.unsaid.isEmpty
    }
}

/// What a poll says of who is there: at home in its session's loop, wherever it is parked.
struct PollPresence: Sendable, Equatable {
    /// Those that it names, and that are tracked.
    var channels: [ChannelName]
    /// nil: nobody in particular.
    var user: String?
    /// Of the token that its polls have; nil: they have none.
    var principal: Identity.Principal?
    /// It wants to be told who comes and leaves.
    var isWatching: Bool
    /// Where it is parked.
    var place: ParkedPollPlace
}

/// One change in the forms in which it goes out; each is made once.
struct PresenceFrames {
    private var frames: [WireShape: [UInt8]] = [:]

    mutating func frame(_ change: PresenceChange, _ shape: WireShape) -> [UInt8] {
        if let made = frames[shape] { return made }
        var out: [UInt8] = []
        shape.append(control: PresenceText.event(change), event: "presence", to: &out)
        frames[shape] = out
        return out
    }
}

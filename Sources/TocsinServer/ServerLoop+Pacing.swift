import NIOCore
import NotificationCore
import Transports

/// Subscribers with the same time between two turns. All have their turn together, so what they get can be shared; a turn comes at
/// least that time after the one before, however late that was.
final class PaceGroup {
    /// Those that joined since the last turn sit the next one out: what they began with may have just been sent.
    var members: [SubscriberID: Bool] = [:]
    var task: RepeatedTask?
}

extension ServerLoop {
    /// The rate of a subscriber: what it asked for, capped by the feeds of its channels.
    func rate(_ wanted: Rate?, _ patterns: [ChannelPattern]) -> Rate? {
        var rate = wanted
        for pattern in patterns where !pattern.isReserved {
            for feed in feeds(of: pattern) {
                guard let max = feed.ratePerSecondMax else { continue }
                rate = Rate(perSecond: max).capped(rate)
            }
        }
        return rate
    }

    private func feeds(of pattern: ChannelPattern) -> [Feed] {
        let feeds = server.configuration.log.feeds
        let first = String(pattern.string.prefix { $0 != "." })
        if first == "*" || first == ">" { return Array(feeds.named.values) + [feeds.other] }
        return [feeds.named[first] ?? feeds.other]
    }

    func pace(_ id: SubscriberID, _ rate: Rate) {
        unpace(id)
        let interval = rate.intervalMilliseconds
        paceIntervals[id] = interval
        if let group = paceGroups[interval] {
            group.members[id] = true
            return
        }
        // The time begins now.
        let group = PaceGroup()
        group.members[id] = false
        let bound = bind(self)
        group.task = eventLoop.scheduleRepeatedTask(initialDelay: .milliseconds(interval), delay: .milliseconds(interval)) { _ in
            bound.value.takeTurn(interval)
        }
        paceGroups[interval] = group
    }

    /// A poll has turns of its own: its client has had nothing since its last answer.
    func pacePoll(_ id: SubscriberID, milliseconds: Int64) {
        let bound = bind((self, id))
        eventLoop.scheduleTask(in: .milliseconds(milliseconds)) {
            let (loop, id) = bound.value
            guard loop.hub.isCurrent(id) else { return }
            if loop.hub.wake(id) { loop.readOn(id) }
            if loop.hub.isCurrent(id) { loop.pacePoll(id, milliseconds: milliseconds) }
        }
    }

    func unpace(_ id: SubscriberID) {
        guard let interval = paceIntervals.removeValue(forKey: id), let group = paceGroups[interval] else { return }
        group.members[id] = nil
        if group.members.isEmpty {
            group.task?.cancel()
            paceGroups[interval] = nil
        }
    }

    private func takeTurn(_ interval: Int64) {
        guard let group = paceGroups[interval] else { return }
        for (id, isNew) in group.members where group.members[id] != nil {
            if isNew {
                group.members[id] = false
            } else if hub.isCurrent(id), hub.wake(id) {
                readOn(id)
            }
        }
    }
}

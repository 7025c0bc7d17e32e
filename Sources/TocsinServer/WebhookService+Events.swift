import Limits
import Logging
import NIOCore
import NotificationCore
import NotificationStore
import Synchronization
import Webhooks

/// What happens, on its way into the outbox.
extension WebhookService {
    /// Events that wait in memory for the store: some seconds of a busy server, or what there is room for while the disk is full.
    private static let eventsMax = 10_000
    private static let eventBytesMax = 16 << 20
    /// Channels that are told of as vacated in one turn after a start.
    private static let unseenPerTurn = 500

    /// Somebody is on a channel where nobody was, or nobody is any more. May be told more than once of the same; per channel in order.
    func take(_ change: OutboxEvent.Transition, of channel: ChannelName, atMilliseconds time: Int64) {
        if let event = event(change, channel, time) { enqueue([event]) }
    }

    private func event(_ change: OutboxEvent.Transition, _ channel: ChannelName, _ time: Int64) -> OutboxEvent? {
        let types = [WebhookEventType.channelOccupied, .channelVacated]
        // Who wants only one of the two still needs to know of the other, to tell the next one from the last.
        guard types.contains(where: { !configuration.receivers(of: $0, channel).isEmpty }) else { return nil }
        let type = change == .occupied ? WebhookEventType.channelOccupied : .channelVacated
        var event = makeEvent(type, channel, time, WebhookBody.channel(type, channel, timeMilliseconds: time))
        event.transition = (channel.string, change)
        return event
    }

    /// Connections that were refused, of this process or another.
    func take(_ reports: [RefusalBook.Report]) {
        state.withLock { state in
            for report in reports { state.book.note(report) }
        }
    }

    func takeRefusals(_ now: Int64) {
        let reports = state.withLock { $0.book.isEmpty ? [] : $0.book.takeDue(nowMilliseconds: now) }
        enqueue(
            reports.map { report in
                let body = WebhookBody.connectionRefused(report, timeMilliseconds: report.lastMilliseconds)
                return makeEvent(.connectionRefused, nil, report.lastMilliseconds, body)
            }
        )
    }

    private func makeEvent(_ type: WebhookEventType, _ channel: ChannelName?, _ time: Int64, _ body: [UInt8]) -> OutboxEvent {
        var event = OutboxEvent(
            message: Self.newMessage(), type: type.rawValue, endpoints: configuration.receivers(of: type, channel), timeMilliseconds: time,
            body: body
        )
        event.isSupersedable = type.isSupersedable
        return event
    }

    /// 128 random bits: never given twice.
    private static func newMessage() -> String {
        var generator = Randomness()
        let digits = (0..<2).map { _ in
            let word = String(generator.next() as UInt64, radix: 16)
            return String(repeating: "0", count: 16 - word.utf8.count) + word
        }
        return "msg_" + digits.joined()
    }

    private func enqueue(_ events: [OutboxEvent]) {
        if events.isEmpty { return }
        let dropped = state.withLock { state in
            var dropped = 0
            for event in events {
                guard state.events.count < Self.eventsMax, state.eventBytes + event.body.count <= Self.eventBytesMax else {
                    state.counts.drop(event.type, .queue)
                    dropped += 1
                    continue
                }
                state.events.append(event)
                state.eventBytes += event.body.count
            }
            return dropped
        }
        if dropped > 0 { noteDropped("the store cannot take them") }
        wantTurn()
    }

    /// Says in the log that events were dropped, at once and then once in a while.
    func noteDropped(_ why: String) {
        let now = Clock.monotonicNanoseconds()
        guard let times = state.withLock({ $0.dropNote.note(nowNanoseconds: now) }) else { return }
        logger.error("webhooks are dropped", metadata: ["reason": "\(why)", "times": "\(times)"])
    }

    // MARK: by the clock

    func tellUnread() {
        guard configuration.wants(.alertUnread), !state.withLock({ $0.isStopped }) else { return }
        let now = Clock.wallMilliseconds()
        let before = figuresBox.withLock { $0 }
        let hasMore = log.withStore { store throws(StoreFault) in
            try store.tellUnread(
                throughMilliseconds: now - configuration.unreadAfterMilliseconds, nowMilliseconds: now,
                owner: { configuration.user(of: $0) }
            ) { alert in
                let event = makeEvent(
                    .alertUnread, alert.entry.publication.channel, now,
                    WebhookBody.alertUnread(alert.entry, user: alert.user.string, timeMilliseconds: now)
                )
                return event.endpoints.isEmpty ? nil : event
            }
        }
        noteFigures()
        if figuresBox.withLock({ $0.waiting }) != before.waiting {
            lookAgain()
            wantTurn()
        }
        // A piece at a time, so that publishers do not wait long.
        if hasMore == true { log.storeLoop.execute { self.tellUnread() } }
    }

    /// Some time after the start, channels to which nobody has come back are vacant: nobody was here to see when they became so.
    func settle(_ now: Int64) {
        guard Clock.monotonicMilliseconds() - startedMilliseconds >= configuration.settleMilliseconds, !isSettled.withLock({ $0 }),
            !state.withLock({ $0.isStopped })
        else { return }
        let unseen = log.withStore { store throws(StoreFault) in try store.unseenOccupied(limit: Self.unseenPerTurn) }
        guard let unseen else { return }
        if unseen.count < Self.unseenPerTurn { isSettled.withLock { $0 = true } }
        let events = unseen.compactMap { ChannelName($0) }.map { channel in
            event(.vacated, channel, now) ?? forgetting(channel, now)
        }
        if events.isEmpty { return }
        _ = log.withStore { store throws(StoreFault) in try store.turnOutbox(events, [], nowMilliseconds: now) }
        noteFigures()
        lookAgain()
        wantTurn()
    }

    /// Nobody wants to hear of the channel any more.
    private func forgetting(_ channel: ChannelName, _ now: Int64) -> OutboxEvent {
        var event = OutboxEvent(
            message: Self.newMessage(), type: WebhookEventType.channelVacated.rawValue, endpoints: [], timeMilliseconds: now, body: [])
        event.transition = (channel.string, .vacated)
        return event
    }
}

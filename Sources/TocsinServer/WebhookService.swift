import Limits
import Logging
import NIOCore
import NotificationCore
import NotificationStore
import Synchronization
import Webhooks

/// Tells others over HTTP what happens here, at least once: in the process that has the log.
///
///     event ──take──> queue in memory ──turn──> outbox in the log's file ──due──> attempt ──2xx──> gone
///                                                  ^                                 └──else──> due again later
///                                                  └──alerts that nobody has read: tell
///
/// A turn is made on the thread that writes the log, some of its milliseconds after something came: one transaction for all that came
/// and all that came of attempts. While the store cannot be written, both wait. What is under way when the process is killed is sent
/// again, since its row goes only after the answer.
final class WebhookService: Sendable {
    private struct Receiver {
        let endpoint: WebhookEndpoint
        var secrets: WebhookSecrets
        /// Attempts under way.
        var active = 0
        /// Whether the last attempt failed: there is one at a time then.
        var isFailing = false
        /// It has said that it is gone for good.
        var isGone = false
        /// It has asked not to be told anything until then, milliseconds since 1970.
        var restUntilMilliseconds: Int64 = 0
        /// When something is due for it; nil: nothing waits.
        var nextDueMilliseconds: Int64? = 0
    }

    private struct State {
        var receivers: [Receiver]
        var events: [OutboxEvent] = []
        var eventBytes = 0
        var outcomes: [OutboxOutcome] = []
        var damaged: [Int64] = []
        /// Rows that are under way, or whose outcome is not stored yet.
        var held: Set<Int64> = []
        var book = RefusalBook()
        var isTurnDue = false
        var isStopped = false
        var counts = WebhookCounts()
        var dropNote = SeldomNote()
    }

    /// What waits for a turn.
    private struct Work {
        var events: [OutboxEvent] = []
        var outcomes: [OutboxOutcome] = []
        var damaged: [Int64] = []
    }

    /// Events that wait in memory for the store: some seconds of a busy server, or what there is room for while the disk is full.
    private static let eventsMax = 10_000
    private static let eventBytesMax = 16 << 20
    /// What comes within so long goes into one transaction.
    private static let gatherMilliseconds: Int64 = 20
    private static let tickMilliseconds: Int64 = 250
    private static let ticksPerSecond = 4
    /// Of an answer so much is read, and not looked at.
    private static let answerBytesMax = 64 << 10
    /// Attempts have so long to end when the server goes down; those that have not are made again after the next start.
    private static let farewellMilliseconds = 2000
    /// A `Retry-After` beyond that is a mistake.
    private static let restMillisecondsMax: Int64 = 86_400_000
    /// And one of 0 is no reason to ask without a pause.
    private static let restMillisecondsMin: Int64 = 1000
    /// Channels that are told of as vacated in one turn after a start.
    private static let unseenPerTurn = 500

    let configuration: WebhookConfiguration
    private let log: EmbeddedLog
    private let http: OutgoingHTTP
    private let logger: Logger
    private let state: Mutex<State>
    private let startedMilliseconds = Clock.monotonicMilliseconds()
    private let figuresBox = Mutex(OutboxFigures())
    private let tick = Mutex<RepeatedTask?>(nil)
    private let ticks = Mutex(0)
    private let isSettled = Mutex(false)

    /// - Throws: `ServerStartFault`: a file has no secrets.
    init(_ configuration: WebhookConfiguration, log: EmbeddedLog, authorityFile: String?, logger: Logger) throws(ServerStartFault) {
        var receivers: [Receiver] = []
        for endpoint in configuration.endpoints {
            receivers.append(Receiver(endpoint: endpoint, secrets: try Self.secrets(endpoint)))
        }
        self.configuration = configuration
        self.log = log
        self.logger = logger
        http = OutgoingHTTP(authorityFile: authorityFile)
        state = Mutex(State(receivers: receivers))
    }

    func start() {
        for endpoint in configuration.endpoints where SystemCall.isReadableByAll(endpoint.secretFile) {
            logger.warning("everybody on this host can read the secret of a webhook: chmod o-r", metadata: ["webhook": "\(endpoint.name)"])
        }
        let interval = TimeAmount.milliseconds(Self.tickMilliseconds)
        log.storeLoop.execute {
            _ = self.log.withStore { store throws(StoreFault) in try store.forgetSeen() }
            self.turn()
            let task = self.log.storeLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { _ in self.onTick() }
            self.tick.withLock { $0 = task }
        }
    }

    /// Nothing is sent any more; what comes of what is under way is waited for a moment, and what waits in memory is stored. To be called
    /// before the log is closed.
    func stop() async {
        state.withLock { $0.isStopped = true }
        let deadline = Clock.monotonicMilliseconds() + Int64(Self.farewellMilliseconds)
        while Clock.monotonicMilliseconds() < deadline, state.withLock({ $0.receivers.contains { $0.active > 0 } }) {
            try? await Task.sleep(for: .milliseconds(20))
        }
        await http.shutDown()
        _ = try? await log.storeLoop.submit {
            self.endTicks()
            self.turn()
        }.get()
    }

    private func endTicks() {
        tick.withLock { task in
            task?.cancel()
            task = nil
        }
    }

    // MARK: secrets

    private static func secrets(_ endpoint: WebhookEndpoint) throws(ServerStartFault) -> WebhookSecrets {
        guard let bytes = SystemCall.contents(of: endpoint.secretFile) else {
            throw ServerStartFault(description: "cannot read \(endpoint.secretFile), the secret of the webhook \(endpoint.name)")
        }
        do throws(WebhookSecretFault) {
            return try WebhookSecrets(file: bytes)
        } catch {
            throw ServerStartFault(description: "\(endpoint.secretFile), the secret of the webhook \(endpoint.name): \(error.description)")
        }
    }

    /// Reads the files again. Those that are not good leave the old secrets, and the log says why.
    func reloadSecrets() {
        for (place, endpoint) in configuration.endpoints.enumerated() {
            do throws(ServerStartFault) {
                let secrets = try Self.secrets(endpoint)
                state.withLock { $0.receivers[place].secrets = secrets }
                logger.info("the secrets of a webhook were read again", metadata: ["webhook": "\(endpoint.name)"])
            } catch {
                logger.error("the new secrets of a webhook are not good, the old ones stay", metadata: ["error": "\(error.description)"])
            }
        }
    }

    // MARK: what happens

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

    private func takeRefusals(_ now: Int64) {
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
        var generator = SystemRandomNumberGenerator()
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
    private func noteDropped(_ why: String) {
        let now = Clock.monotonicNanoseconds()
        guard let times = state.withLock({ $0.dropNote.note(nowNanoseconds: now) }) else { return }
        logger.error("webhooks are dropped", metadata: ["reason": "\(why)", "times": "\(times)"])
    }

    // MARK: turns

    private func wantTurn() {
        let isNew = state.withLock { state in
            defer { state.isTurnDue = true }
            return !state.isTurnDue
        }
        guard isNew else { return }
        log.storeLoop.scheduleTask(in: .milliseconds(Self.gatherMilliseconds)) { self.turn() }
    }

    /// On the thread that writes the log.
    private func turn() {
        let now = Clock.wallMilliseconds()
        let work = state.withLock { state in
            defer { (state.events, state.eventBytes, state.outcomes, state.damaged, state.isTurnDue) = ([], 0, [], [], false) }
            return Work(events: state.events, outcomes: state.outcomes, damaged: state.damaged)
        }
        let isStored = log.withStore { store throws(StoreFault) in
            try store.turnOutbox(work.events, work.outcomes, damaged: work.damaged, nowMilliseconds: now)
            return true
        }
        guard isStored == true else { return putBack(work) }
        noteFigures()
        state.withLock { state in
            for outcome in work.outcomes { state.held.remove(outcome.id) }
            // New ones are for anybody.
            if !work.events.isEmpty || !work.outcomes.isEmpty {
                for place in state.receivers.indices { state.receivers[place].nextDueMilliseconds = 0 }
            }
        }
        send(now)
    }

    private func putBack(_ work: Work) {
        state.withLock { state in
            state.events.insert(contentsOf: work.events, at: 0)
            state.eventBytes += work.events.reduce(0) { $0 + $1.body.count }
            state.outcomes.insert(contentsOf: work.outcomes, at: 0)
            state.damaged.insert(contentsOf: work.damaged, at: 0)
        }
    }

    private func noteFigures() {
        guard let figures = log.withStore({ store throws(StoreFault) in store.outboxFigures }) else { return }
        let before = figuresBox.withLock { box in
            defer { box = figures }
            return box
        }
        func sum(_ figures: OutboxFigures, _ loss: OutboxFigures.Loss) -> Int { figures.lost[loss]?.values.reduce(0, +) ?? 0 }
        if sum(figures, .room) > sum(before, .room) { noteDropped("more wait than there is room for") }
        if sum(figures, .age) > sum(before, .age) { noteDropped("they have waited for too long") }
        if sum(figures, .damage) > sum(before, .damage) { noteDropped("their rows are damaged") }
        if figures.unwatched > before.unwatched { noteDropped("more alerts are unread than are watched") }
    }

    private func onTick() {
        let now = Clock.wallMilliseconds()
        let isSecond = ticks.withLock { ticks in
            ticks += 1
            return ticks.isMultiple(of: Self.ticksPerSecond)
        }
        if isSecond {
            tellUnread()
            takeRefusals(now)
            settle(now)
        }
        let isWanted = state.withLock { state in
            isSecond || !(state.events.isEmpty && state.outcomes.isEmpty && state.damaged.isEmpty)
                || state.receivers.contains { $0.nextDueMilliseconds.map { $0 <= now } ?? false }
        }
        if isWanted { turn() }
    }

    private func tellUnread() {
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
            state.withLock { state in
                for place in state.receivers.indices { state.receivers[place].nextDueMilliseconds = 0 }
            }
            wantTurn()
        }
        // A piece at a time, so that publishers do not wait long.
        if hasMore == true { log.storeLoop.execute { self.tellUnread() } }
    }

    /// Some time after the start, channels to which nobody has come back are vacant: nobody was here to see when they became so.
    private func settle(_ now: Int64) {
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
        wantTurn()
    }

    /// Nobody wants to hear of the channel any more.
    private func forgetting(_ channel: ChannelName, _ now: Int64) -> OutboxEvent {
        var event = OutboxEvent(
            message: Self.newMessage(), type: WebhookEventType.channelVacated.rawValue, endpoints: [], timeMilliseconds: now, body: [])
        event.transition = (channel.string, .vacated)
        return event
    }

    // MARK: attempts

    private func send(_ now: Int64) {
        for place in configuration.endpoints.indices {
            let (room, held) = state.withLock { state in (state.isStopped ? 0 : freeSlots(state.receivers[place], now), state.held.count) }
            guard room > 0 else { continue }
            let name = configuration.endpoints[place].name
            let found = log.withStore { store throws(StoreFault) in
                (
                    try store.dueOutbox(name, nowMilliseconds: now, limit: room + held), try store.nextDueOutbox(name)
                )
            }
            guard let (due, next) = found else { return }
            let rows = state.withLock { state in
                let rows = due.rows.filter { !state.held.contains($0.id) }.prefix(room)
                state.held.formUnion(rows.map(\.id))
                state.receivers[place].active += rows.count
                state.receivers[place].nextDueMilliseconds = next
                for id in due.damaged where !state.damaged.contains(id) { state.damaged.append(id) }
                return Array(rows)
            }
            for row in rows { Task { await self.attempt(row, place) } }
        }
    }

    private func freeSlots(_ receiver: Receiver, _ now: Int64) -> Int {
        guard !receiver.isGone, receiver.restUntilMilliseconds <= now, receiver.nextDueMilliseconds.map({ $0 <= now }) ?? false else {
            return 0
        }
        return (receiver.isFailing ? 1 : configuration.concurrencyMax) - receiver.active
    }

    private func attempt(_ row: OutboxRow, _ place: Int) async {
        let endpoint = configuration.endpoints[place]
        let secrets = state.withLock { $0.receivers[place].secrets }
        let seconds = Clock.wallMilliseconds() / 1000
        let fields: [(name: String, value: String)] = [
            ("webhook-id", row.message), ("webhook-timestamp", "\(seconds)"),
            ("webhook-signature", secrets.signature(id: row.message, timestampSeconds: seconds, body: row.body)),
        ]
        let result: Result<OutgoingHTTP.Reply, OutgoingHTTP.Fault>
        do throws(OutgoingHTTP.Fault) {
            result = .success(
                try await http.post(
                    endpoint.url, fields: fields, json: row.body, timeoutMilliseconds: configuration.timeoutMilliseconds,
                    bytesMax: Self.answerBytesMax
                )
            )
        } catch {
            result = .failure(error)
        }
        var generator = SystemRandomNumberGenerator()
        finish(row, place, WebhookAnswer(result), random: generator.next())
    }

    private func finish(_ row: OutboxRow, _ place: Int, _ answer: WebhookAnswer, random: UInt64) {
        let now = Clock.wallMilliseconds()
        let attempts = row.attempts + 1
        let delay = configuration.schedule.delay(afterAttempts: attempts, random: random)
        let name = configuration.endpoints[place].name
        let (wasFailing, isGivenUp) = state.withLock { state -> (Bool, Bool) in
            state.receivers[place].active -= 1
            let wasFailing = state.receivers[place].isFailing
            if case .taken = answer {
                state.counts.sent[row.type, default: 0] += 1
                state.receivers[place].isFailing = false
                state.outcomes.append(OutboxOutcome(id: row.id, message: row.message, .done))
                return (wasFailing, false)
            }
            if state.isStopped {
                // The server goes down: that says nothing of the receiver.
                state.held.remove(row.id)
                return (true, false)
            }
            state.counts.failed[row.type, default: 0] += 1
            state.receivers[place].isFailing = true
            if case .gone = answer {
                state.receivers[place].isGone = true
                // Due again after the next start, if it is back by then.
                state.outcomes.append(OutboxOutcome(id: row.id, message: row.message, .later(milliseconds: now, attempts: row.attempts)))
                return (wasFailing, false)
            }
            guard let delay else {
                state.counts.drop(row.type, .attempts)
                state.outcomes.append(OutboxOutcome(id: row.id, message: row.message, .done))
                return (wasFailing, true)
            }
            var due = now + delay
            if case .failed(_, let rest?) = answer {
                due = now + min(max(rest, Self.restMillisecondsMin), Self.restMillisecondsMax)
                state.receivers[place].restUntilMilliseconds = max(state.receivers[place].restUntilMilliseconds, due)
            }
            state.outcomes.append(OutboxOutcome(id: row.id, message: row.message, .later(milliseconds: due, attempts: attempts)))
            return (wasFailing, false)
        }
        say(answer, name, wasFailing: wasFailing)
        if isGivenUp { noteDropped("all attempts failed") }
        wantTurn()
    }

    private func say(_ answer: WebhookAnswer, _ name: String, wasFailing: Bool) {
        switch answer {
        case .taken:
            if wasFailing { logger.notice("a webhook's receiver takes events again", metadata: ["webhook": "\(name)"]) }
        case .gone:
            logger.error(
                "a webhook's receiver says that it is gone (410): nothing is sent to it until the server is started again",
                metadata: ["webhook": "\(name)"]
            )
        case .failed(let why, _):
            if !wasFailing {
                logger.warning("a webhook's receiver does not take an event", metadata: ["webhook": "\(name)", "error": "\(why)"])
            }
        }
    }

    // MARK: figures

    /// Prometheus text format, version 0.0.4.
    var exposition: String {
        let (counts, failing) = state.withLock { state in
            (state.counts, state.receivers.map { (name: $0.endpoint.name, isFailing: $0.isFailing || $0.isGone) })
        }
        return counts.exposition(figuresBox.withLock { $0 }, failing: failing, nowMilliseconds: Clock.wallMilliseconds())
    }
}

/// What a receiver says to an event.
enum WebhookAnswer: Sendable, Equatable {
    case taken
    /// It does not want to hear of anything any more.
    case gone
    /// - Parameter restMilliseconds: it asks not to be told anything for so long.
    case failed(String, restMilliseconds: Int64?)

    init(_ result: Result<OutgoingHTTP.Reply, OutgoingHTTP.Fault>) {
        switch result {
        case .failure(let fault): self = .failed(fault.description, restMilliseconds: nil)
        case .success(let reply):
            switch reply.status {
            case 200..<300: self = .taken
            case 410: self = .gone
            case 429, 503:
                self = .failed(
                    "it answers \(reply.status)", restMilliseconds: reply.retryAfter.flatMap { TimeText.retryAfterMilliseconds($0) })
            default: self = .failed("it answers \(reply.status)", restMilliseconds: nil)
            }
        }
    }
}

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
/// A turn is made on the thread that writes the log, some milliseconds after something came: one transaction for all that came and all
/// that came of attempts. While the store cannot be written, both wait. What is under way when the process is killed is sent
/// again, since its row goes only after the answer.
final class WebhookService: Sendable {
    struct Receiver {
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

    struct State {
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

    /// What comes within so long goes into one transaction.
    private static let gatherMilliseconds: Int64 = 20
    private static let tickMilliseconds: Int64 = 250
    private static let ticksPerSecond = 4
    /// Attempts have so long to end when the server goes down; those that have not are made again after the next start.
    private static let farewellMilliseconds = 2000

    let configuration: WebhookConfiguration
    let log: EmbeddedLog
    let http: OutgoingHTTP
    let logger: Logger
    let state: Mutex<State>
    let startedMilliseconds = Clock.monotonicMilliseconds()
    let figuresBox = Mutex(OutboxFigures())
    private let tick = Mutex<RepeatedTask?>(nil)
    private let ticks = Mutex(0)
    let isSettled = Mutex(false)

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

    // MARK: turns

    func wantTurn() {
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
        }
        if !work.events.isEmpty || !work.outcomes.isEmpty || !work.damaged.isEmpty { lookAgain() }
        send(now)
    }

    /// There may be something due for anybody.
    func lookAgain() {
        state.withLock { state in
            for place in state.receivers.indices { state.receivers[place].nextDueMilliseconds = 0 }
        }
    }

    private func putBack(_ work: Work) {
        state.withLock { state in
            state.events.insert(contentsOf: work.events, at: 0)
            state.eventBytes += work.events.reduce(0) { $0 + $1.body.count }
            state.outcomes.insert(contentsOf: work.outcomes, at: 0)
            state.damaged.insert(contentsOf: work.damaged, at: 0)
        }
    }

    func noteFigures() {
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
            // A clock that was set is no reason to wait.
            if figuresBox.withLock({ $0.rows > 0 }) { lookAgain() }
        }
        let isWanted = state.withLock { state in
            isSecond || !(state.events.isEmpty && state.outcomes.isEmpty && state.damaged.isEmpty)
                || state.receivers.contains { $0.nextDueMilliseconds.map { $0 <= now } ?? false }
        }
        if isWanted { turn() }
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

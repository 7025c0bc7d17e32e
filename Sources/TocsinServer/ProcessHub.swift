import Glibc
import JSONCodec
import Logging
import NIOCore
import NotificationCore
import NotificationStore
import Presence

/// The main process's side of its workers: starts them, hands each batch of the log to all of them and their requests to the log, and
/// starts one anew that ends. On one event loop.
///
///     resting ──its time has come──> starting ──ready──> running
///        ^                              │                   │
///        └────── it ended, or does not take what is sent ───┘
final class ProcessHub: LogFollower {
    struct Settings {
        var processes: Int
        var welcome: LinkFrame.Welcome
        /// Who is on which channels, and how many event loops a process has; nil: it is not kept for any.
        var presence: (hub: PresenceHub, loops: Int)?
        /// Starts the worker of a place.
        var start: (_ process: Int) throws(SystemFault) -> any WorkerProcess
    }

    private final class Worker {
        enum Stage {
            case resting(untilMilliseconds: Int64)
            case starting(sinceMilliseconds: Int64)
            case running(sinceMilliseconds: Int64)
        }

        let process: Int
        var stage = Stage.resting(untilMilliseconds: 0)
        var child: (any WorkerProcess)?
        var link: LinkChannel?
        /// Whether it has the log up to here, and is sent what comes.
        var isFollowing = false
        /// Ticks since its link has ended; it may still be busy with its end.
        var orphanTicks = 0
        var answers: [LinkFrame.Appended] = []
        var backoffMilliseconds: Int64 = firstBackoffMilliseconds
        static let firstBackoffMilliseconds: Int64 = 250

        init(process: Int) {
            self.process = process
        }
    }

    let number = 0
    let eventLoop: any EventLoop
    /// Tells others of what happens; nil: there are none.
    var webhooks: WebhookService?
    private let log: EmbeddedLog
    private let settings: Settings
    private let logger: Logger
    private var workers: [Worker]
    private var ticketKeys: [[UInt8]]
    private var restarts = 0
    private var isStopping = false
    private var lastFault: StoreFault?
    private var ticks = 0
    private var tickTask: RepeatedTask?
    private let started: EventLoopPromise<Void>
    private let stopped: EventLoopPromise<Void>

    private static let tickMilliseconds: Int64 = 250
    private static let backoffMillisecondsMax: Int64 = 8000
    /// A worker that has run for so long is well.
    private static let wellMilliseconds: Int64 = 10_000
    /// A worker that takes nothing of what waits for it for 10 seconds is not well: its clients get nothing either. Nor is one that says
    /// nothing for 15: it is asked each second.
    private static let stalledTicksMax = 40
    private static let orphanTicksMax = 8
    private static let silentTicksMax = 60
    /// So much may wait for a worker: eight times what the loops keep in memory of the log.
    private static let queuedBytesMax = 512 << 20
    private static let startMillisecondsMax: Int64 = 120_000
    /// After so many the start of the server has failed, if it has not succeeded before.
    private static let firstRestartsMax = 3
    /// One frame of a batch has about so much.
    private static let frameBytes = 1 << 20

    init(_ eventLoop: any EventLoop, _ log: EmbeddedLog, _ settings: Settings, ticketKeys: [[UInt8]], logger: Logger) {
        self.eventLoop = eventLoop
        self.log = log
        self.settings = settings
        self.logger = logger
        self.ticketKeys = ticketKeys
        workers = (0..<settings.processes).map { Worker(process: $0) }
        started = eventLoop.makePromise()
        stopped = eventLoop.makePromise()
    }

    /// - Returns: when all workers serve; it fails if one of them cannot.
    func start() -> EventLoopFuture<Void> {
        log.follow(self)
        for worker in workers { spawn(worker) }
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        let interval = TimeAmount.milliseconds(Self.tickMilliseconds)
        tickTask = eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { _ in bound.value.onTick() }
        startPresence()
        return started.futureResult
    }

    /// Asks all workers to go, and ends after so long those that have not.
    ///
    /// - Returns: when all are gone.
    func stop(milliseconds: Int64) -> EventLoopFuture<Void> {
        isStopping = true
        started.fail(ServerStartFault(description: "the server is told to go"))
        tell(.drain)
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        eventLoop.scheduleTask(in: .milliseconds(milliseconds)) { for worker in bound.value.workers { worker.child?.kill() } }
        finishIfAlone()
        return stopped.futureResult
    }

    func setTicketKeys(_ keys: [[UInt8]]) {
        ticketKeys = keys
        tell(.ticketKeys(keys))
    }

    func reload() {
        tell(.reload)
    }

    private func tell(_ frame: LinkFrame) {
        for worker in workers { worker.link?.send(frame) }
    }

    // MARK: processes

    private func spawn(_ worker: Worker) {
        let now = Clock.monotonicMilliseconds()
        do throws(SystemFault) {
            let child = try settings.start(worker.process)
            let link = LinkChannel()
            link.onFrame = { [weak self, weak link] frame in if let link { self?.receive(frame, worker, link) } }
            link.onEnd = { [weak self] in self?.lost(worker, link) }
            worker.child = child
            worker.link = link
            worker.isFollowing = false
            worker.answers = []
            worker.stage = .starting(sinceMilliseconds: now)
            let bound = NIOLoopBound((self, worker, link), eventLoop: eventLoop)
            LinkChannel.open(child.link, eventLoop, link).whenComplete { result in
                let (hub, worker, link) = bound.value
                if case .failure = result { return hub.lost(worker, link) }
                hub.welcome(worker, link)
            }
        } catch {
            logger.error("a process cannot be started", metadata: ["error": "\(error)"])
            rest(worker)
        }
    }

    /// The log as it is now, and then every batch.
    private func welcome(_ worker: Worker, _ link: LinkChannel) {
        let bound = NIOLoopBound((self, worker, link), eventLoop: eventLoop)
        log.preload(for: self) { preload in
            let (hub, worker, link) = bound.value
            guard link.isOpen, worker.link === link else { return }
            guard let preload else {
                hub.eventLoop.scheduleTask(in: .milliseconds(Self.tickMilliseconds)) { bound.value.0.welcome(bound.value.1, bound.value.2) }
                return
            }
            hub.send(preload, worker, link)
        }
    }

    private func send(_ preload: LogPreload, _ worker: Worker, _ link: LinkChannel) {
        var welcome = settings.welcome
        welcome.process = worker.process
        welcome.epoch = preload.epoch
        welcome.pastEpochs = preload.pastEpochs
        welcome.head = preload.head
        welcome.channelCount = preload.channels.count
        link.send(.ticketKeys(ticketKeys))
        link.send(.welcome(welcome))
        var some: [LogPreload.Channel] = []
        var bytes = 0
        for channel in preload.channels {
            some.append(channel)
            bytes += 300 + (channel.document?.byteCount ?? 0) + channel.latest.reduce(0) { $0 + $1.bytes }
            if bytes < Self.frameBytes { continue }
            link.send(.channels(some))
            (some, bytes) = ([], 0)
        }
        if !some.isEmpty { link.send(.channels(some)) }
        worker.isFollowing = true
        link.send(.status(status))
        if isStopping { link.send(.drain) }
    }

    /// The link has ended: so has the process, or it is of no use any more.
    private func lost(_ worker: Worker, _ link: LinkChannel) {
        guard worker.link === link else { return }
        worker.link = nil
        worker.isFollowing = false
        worker.orphanTicks = 0
        dropPresence(worker)
        reap(worker)
    }

    private func reap(_ worker: Worker) {
        guard let child = worker.child, let how = child.reap() else { return }
        worker.child = nil
        if worker.link != nil { dropPresence(worker) }
        worker.link?.close()
        worker.link = nil
        worker.isFollowing = false
        if isStopping {
            logger.debug("a process has ended", metadata: ["process": "\(worker.process)", "how": "\(how)"])
            return finishIfAlone()
        }
        logger.error(
            "a process has ended and is started anew", metadata: ["process": "\(worker.process)", "pid": "\(child.id)", "how": "\(how)"]
        )
        restarts += 1
        if restarts == Self.firstRestartsMax { started.fail(ServerStartFault(description: "its processes end: the last with \(how)")) }
        rest(worker)
    }

    private func rest(_ worker: Worker) {
        let now = Clock.monotonicMilliseconds()
        if case .running(let since) = worker.stage, now - since > Self.wellMilliseconds {
            worker.backoffMilliseconds = Worker.firstBackoffMilliseconds
        }
        worker.stage = .resting(untilMilliseconds: now + worker.backoffMilliseconds)
        worker.backoffMilliseconds = min(2 * worker.backoffMilliseconds, Self.backoffMillisecondsMax)
    }

    private func finishIfAlone() {
        guard isStopping, workers.allSatisfy({ $0.child == nil }) else { return }
        tickTask?.cancel()
        tickTask = nil
        stopped.succeed(())
    }

    private func onTick() {
        let now = Clock.monotonicMilliseconds()
        for worker in workers {
            reap(worker)
            if case .resting(let until) = worker.stage, until <= now, worker.child == nil, !isStopping { spawn(worker) }
            if case .starting(let since) = worker.stage, now - since > Self.startMillisecondsMax {
                end(worker, "it does not say that it serves")
            }
            guard let link = worker.link else {
                worker.orphanTicks += 1
                if worker.orphanTicks > Self.orphanTicksMax { worker.child?.kill() }
                continue
            }
            link.tick()
            if link.stalledTicks > Self.stalledTicksMax || link.queuedBytes > Self.queuedBytesMax {
                end(worker, "it does not take what is sent to it")
            } else if case .running = worker.stage, link.silentTicks > Self.silentTicksMax {
                end(worker, "it does not answer")
            }
        }
        ticks += 1
        let fault = log.fault
        if ticks.isMultiple(of: 4) || fault != lastFault {
            lastFault = fault
            for worker in workers where worker.isFollowing { worker.link?.send(.status(status)) }
            tellPresenceFigures()
        }
    }

    private func end(_ worker: Worker, _ why: String) {
        guard let child = worker.child else { return }
        logger.error("a process is ended", metadata: ["process": "\(worker.process)", "pid": "\(child.id)", "error": "\(why)"])
        child.kill()
    }

    private var status: LinkFrame.Status {
        let running = workers.filter { if case .running = $0.stage { $0.link != nil } else { false } }.count
        return LinkFrame.Status(
            fault: log.fault, statistics: log.statistics, processes: running, restarts: restarts,
            webhooks: webhooks?.exposition ?? "")
    }

    // MARK: the log

    /// Encoded once for all workers.
    func apply(_ batch: LogBatch) {
        guard workers.contains(where: { $0.isFollowing }) else { return }
        var start = 0
        while start < batch.notifications.count {
            var end = start
            var bytes = 0
            repeat {
                bytes += batch.notifications[end].bytes
                end += 1
            } while end < batch.notifications.count && bytes < Self.frameBytes
            var frame: [UInt8] = []
            frame.reserveCapacity(bytes + 64)
            LinkFrame.batch(Array(batch.notifications[start..<end]), takenNanoseconds: batch.takenNanoseconds).append(to: &frame)
            let buffer = ByteBuffer(bytes: frame)
            for worker in workers where worker.isFollowing { worker.link?.send(buffer) }
            start = end
        }
    }

    private func receive(_ frame: LinkFrame, _ worker: Worker, _ link: LinkChannel) {
        switch frame {
        case .append(let number, let request):
            let bound = NIOLoopBound((self, worker, link), eventLoop: eventLoop)
            log.append(request, from: self) { outcomes in
                let (hub, worker, link) = bound.value
                if worker.link === link { hub.answer(LinkFrame.Appended(number: number, outcomes: outcomes), worker, link) }
            }
        case .acknowledge(let number, let wanted):
            let bound = NIOLoopBound(link, eventLoop: eventLoop)
            log.acknowledge(wanted.user, wanted.channel, wanted.ranges, isDismissed: wanted.isDismissed, from: self) { outcome in
                bound.value.send(.acknowledged(number: number, outcome))
            }
        case .refusals(let reports): webhooks?.take(reports)
        case .question(let process, let number, let body):
            if workers.indices.contains(process), case .running = workers[process].stage, let other = workers[process].link {
                other.send(.question(process: worker.process, number: number, body))
            } else if number != 0 {
                link.send(.reply(process: process, number: number, nil))
            }
        case .reply(let process, let number, let body):
            if workers.indices.contains(process) {
                workers[process].link?.send(.reply(process: worker.process, number: number, body))
            }
        case .presence(let body): takePresence(body, link)
        case .ready:
            guard case .starting = worker.stage else { return }
            worker.stage = .running(sinceMilliseconds: Clock.monotonicMilliseconds())
            logger.debug("a process serves", metadata: ["process": "\(worker.process)"])
            if workers.allSatisfy({ if case .running = $0.stage { true } else { false } }) { started.succeed(()) }
            for worker in workers where worker.isFollowing { worker.link?.send(.status(status)) }
        case .failed(let text):
            logger.error("a process does not start", metadata: ["process": "\(worker.process)", "error": "\(text)"])
            started.fail(ServerStartFault(description: text))
        case .welcome, .channels, .batch, .appended, .acknowledged, .status, .ticketKeys, .reload, .drain:
            link.close()
        }
    }

    // MARK: presence

    private func startPresence() {
        guard let (presence, loops) = settings.presence else { return }
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        presence.start { [eventLoop] source, changes in
            eventLoop.execute {
                let hub = bound.value
                guard hub.workers.indices.contains(source / loops), let link = hub.workers[source / loops].link else { return }
                for part in PresenceMessage.parts(changes, bytes: { $0.frameBytes }) {
                    link.send(.presence(PresenceMessage.changes(source: source, Array(part)).bytes))
                }
            }
        }
    }

    private func takePresence(_ body: [UInt8], _ link: LinkChannel) {
        let (bound, eventLoop) = (NIOLoopBound(link, eventLoop: eventLoop), eventLoop)
        settings.presence?.hub.take(body) { reply in
            eventLoop.execute { bound.value.send(.presence(reply)) }
        }
    }

    /// Its clients are gone, unless they come back elsewhere.
    private func dropPresence(_ worker: Worker) {
        guard let (presence, loops) = settings.presence else { return }
        presence.drop(worker.process * loops..<(worker.process + 1) * loops)
    }

    private func tellPresenceFigures() {
        guard let figures = settings.presence?.hub.figures else { return }
        for worker in workers where worker.isFollowing { worker.link?.send(.presence(PresenceMessage.figures(figures).bytes)) }
    }

    /// The answers of one commit go out together.
    private func answer(_ answer: LinkFrame.Appended, _ worker: Worker, _ link: LinkChannel) {
        worker.answers.append(answer)
        guard worker.answers.count == 1 else { return }
        let bound = NIOLoopBound((worker, link), eventLoop: eventLoop)
        eventLoop.execute {
            let (worker, link) = bound.value
            let answers = worker.answers
            worker.answers = []
            if worker.link === link { link.send(.appended(answers)) }
        }
    }
}

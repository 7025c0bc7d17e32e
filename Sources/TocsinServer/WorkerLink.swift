import JSONCodec
import Logging
import NIOCore
import NotificationCore
import NotificationStore

/// A worker's end of the link to the main process, and what the worker knows of the log by it. On one event loop, which is none of those
/// that serve clients.
///
///     opening ──welcome, all channels──> waiting: batches are kept ──begin──> following ──the link ends──> ended
///
/// A server that another one takes over follows that one's log in the same way. It has had the log itself until then, so it is told nothing
/// of it (`adopt`).
final class WorkerLink {
    struct Opening: Sendable {
        var welcome: LinkFrame.Welcome
        var preload: LogPreload
        var ticketKeys: [[UInt8]]
    }

    let eventLoop: any EventLoop
    let channel = LinkChannel()
    /// Told all that concerns the process, not the log.
    var onDirection: (WorkerDirection) -> Void = { _ in }
    var onStatus: (LinkFrame.Status) -> Void = { _ in }
    /// The main process has ended.
    var onEnd: () -> Void = {}
    /// A question of another worker; `reply` may come later, once, on this loop.
    var onQuestion: (_ process: Int, _ body: [UInt8], _ reply: @escaping ([UInt8]) -> Void) -> Void = { _, _, _ in }
    /// What the main process says of who is on which channels.
    var onPresence: ([UInt8]) -> Void = { _ in }
    /// What the other process says of why it goes; only one that takes over says so.
    var onFarewell: ((String) -> Void)?
    /// Number of the newest notification that the followers were told of.
    private(set) var toldOffset: UInt64 = 0
    private let feeds: FeedTable
    private let opened: EventLoopPromise<Opening>
    private var welcome: LinkFrame.Welcome?
    private var preload: LogPreload?
    private var ticketKeys: [[UInt8]] = []
    private var names: [ChannelName] = []
    /// By channel: whether its messages make a document.
    private var isScores: [Bool] = []
    private var documents: [ChannelID: JSONDocument] = [:]
    private var followers: [NIOLoopBound<any LogFollower>] = []
    private var store: NotificationStore?
    /// What the loops have to be told, in one hop each.
    private var batches: [LogBatch] = []
    private var answers: [[@Sendable () -> Void]] = []
    /// Of requests; begins where no earlier process of this place has been.
    private var number: UInt64
    private var appends: [UInt64: (loop: Int, completion: AppendCompletion)] = [:]
    /// Requests that are under way, if they are to be asked again when the other process ends.
    private var requests: [UInt64: AppendRequest] = [:]
    private var keepsRequests = false
    private var acknowledgements: [UInt64: (loop: Int, completion: @Sendable (AcknowledgeOutcome) -> Void)] = [:]
    private var questions = LinkQuestions()
    private var isServing = false
    private var tick: RepeatedTask?

    /// So much may wait for the main process; more is refused. Four of the largest requests.
    private static let queuedBytesMax = 64 << 20
    /// The main process says something each second; silent for a minute, it will not come back.
    private static let silentTicksMax = 240

    init(_ eventLoop: any EventLoop, feeds: FeedTable, processID: UInt64) {
        self.eventLoop = eventLoop
        self.feeds = feeds
        number = processID << 32
        opened = eventLoop.makePromise()
        channel.name = { [unowned self] in names.indices.contains(Int($0)) ? names[Int($0)] : nil }
        channel.onFrame = { [unowned self] in receive($0) }
        channel.onPause = { [unowned self] in hop() }
        channel.onEnd = { [unowned self] in end() }
    }

    /// - Returns: what the main process says of the log.
    func open(_ descriptor: Int32) -> EventLoopFuture<Opening> {
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        startTicking()
        LinkChannel.open(descriptor, eventLoop, channel).whenFailure { bound.value.opened.fail($0) }
        return opened.futureResult
    }

    /// The link goes over a channel that is open already, to a process that takes the log over as it is in `preload`.
    ///
    /// - Returns: when that process has it.
    func adopt(_ preload: LogPreload, _ channel: any Channel) throws -> EventLoopFuture<Opening> {
        for known in preload.channels {
            if let document = known.document { documents[ChannelID(names.count)] = document }
            know(known.name)
        }
        toldOffset = preload.head
        keepsRequests = true
        startTicking()
        try channel.pipeline.syncOperations.addHandler(self.channel)
        return opened.futureResult
    }

    private func startTicking() {
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        tick = eventLoop.scheduleRepeatedTask(initialDelay: .milliseconds(250), delay: .milliseconds(250)) { _ in bound.value.onTick() }
    }

    /// From now on the followers are told what comes, and what has come since the beginning.
    func begin(_ store: NotificationStore, _ followers: [NIOLoopBound<any LogFollower>]) {
        self.store = store
        self.followers = followers
        answers = Array(repeating: [], count: followers.count)
        for batch in batches { store.follow(batch.notifications) }
        hop()
    }

    /// Clients are served from now on.
    func serve() {
        isServing = true
        channel.send(.ready)
    }

    private func end() {
        tick?.cancel()
        opened.fail(ServerStartFault(description: "the main process has ended"))
        hop()
        for completion in questions.takeAll() { completion(nil) }
        onEnd()
        onDirection(.mainProcessEnded)
    }

    private func onTick() {
        for completion in questions.takeExpired(nowMilliseconds: Clock.monotonicMilliseconds()) { completion(nil) }
        channel.tick()
        if channel.silentTicks > Self.silentTicksMax { channel.close() }
    }

    // MARK: from the main process

    private func receive(_ frame: LinkFrame) {
        switch frame {
        case .refusals: channel.close()
        case .welcome(let welcome):
            self.welcome = welcome
            preload = LogPreload(epoch: welcome.epoch, head: welcome.head)
            preload?.pastEpochs = welcome.pastEpochs
            openIfWhole()
        case .channels(let channels):
            for channel in channels {
                if let document = channel.document { documents[ChannelID(names.count)] = document }
                know(channel.name)
            }
            preload?.channels += channels
            openIfWhole()
        case .batch(let notifications, let taken): take(notifications, taken)
        case .appended(let answers):
            for answer in answers {
                guard let (loop, completion) = appends.removeValue(forKey: answer.number) else { continue }
                if keepsRequests { requests[answer.number] = nil }
                let outcomes = answer.outcomes
                self.answers[loop].append { completion(outcomes) }
            }
        case .acknowledged(let number, let outcome):
            guard let (loop, completion) = acknowledgements.removeValue(forKey: number) else { return }
            answers[loop].append { completion(outcome) }
        case .status(let status):
            onStatus(status)
            // That it is alive.
            if isServing { channel.send(.ready) }
        case .ticketKeys(let keys):
            ticketKeys = keys
            onDirection(.ticketKeys(keys))
        case .reload: onDirection(.reload)
        case .drain: onDirection(.drain)
        case .question(let process, let number, let body):
            onQuestion(process, body) { [weak self] reply in
                if number != 0 { self?.channel.send(.reply(process: process, number: number, reply)) }
            }
        case .reply(_, let number, let body):
            questions.take(number)?(body)
        case .presence(let body): onPresence(body)
        case .failed(let text):
            if let onFarewell { onFarewell(text) } else { channel.close() }
        case .ready, .append, .acknowledge:
            channel.close()
        }
    }

    private func know(_ name: ChannelName) {
        names.append(name)
        isScores.append(feeds[name].kind == .scores)
    }

    private func openIfWhole() {
        guard let welcome, let preload, preload.channels.count >= welcome.channelCount else { return }
        self.preload = nil
        opened.succeed(Opening(welcome: welcome, preload: preload, ticketKeys: ticketKeys))
    }

    /// A commit, or a part of one. The states of scores are made here, as the writer made them: they are not sent.
    private func take(_ notifications: [Notification], _ takenNanoseconds: Int64) {
        var batch = LogBatch(notifications: notifications)
        batch.takenNanoseconds = takenNanoseconds
        var changed: [ChannelID: Int] = [:]
        for (index, notification) in notifications.enumerated() {
            let channel = notification.channelID
            if Int(channel) == names.count { know(notification.channel) }
            guard isScores[Int(channel)] else { continue }
            let data = notification.object[notification.data]
            if !notification.isChange {
                documents[channel] = JSONDocument(data)
            } else if var document = documents.removeValue(forKey: channel) {
                document.merge(data)
                documents[channel] = document
            }
            changed[channel] = index
        }
        batch.documents = changed.sorted { $0.value < $1.value }.compactMap { channel, index in documents[channel].map { (index, $0) } }
        store?.follow(notifications)
        if let last = notifications.last { toldOffset = last.offset }
        batches.append(batch)
    }

    /// One hop to each loop: first the batches, then the answers to those who asked there.
    private func hop() {
        guard store != nil else { return }
        let batches = batches
        self.batches.removeAll(keepingCapacity: true)
        for (number, follower) in followers.enumerated() {
            let answers = answers[number]
            if batches.isEmpty && answers.isEmpty { continue }
            self.answers[number].removeAll(keepingCapacity: true)
            follower.eventLoop.execute {
                for batch in batches { follower.value.apply(batch) }
                for answer in answers { answer() }
            }
        }
    }

    // MARK: to the main process

    /// Whether requests of clients wait for the main process.
    var isWaiting: Bool { channel.isOpen && unanswered > 0 }

    /// How many requests have been asked and not answered.
    var unanswered: Int { appends.count + acknowledgements.count }

    func append(_ request: AppendRequest, loop: Int, completion: @escaping AppendCompletion) {
        guard channel.queuedBytes < Self.queuedBytesMax else {
            let outcomes = request.publications.map { _ in AppendOutcome.refused(.storeFailed) }
            return followers[loop].eventLoop.execute { completion(outcomes) }
        }
        number += 1
        appends[number] = (loop, completion)
        if keepsRequests { requests[number] = request }
        channel.send(.append(number: number, request))
    }

    /// What was asked and not answered, in the order in which it was asked; nobody waits for it here any more.
    func takeUnanswered() -> (
        appends: [(request: AppendRequest, loop: Int, completion: AppendCompletion)],
        acknowledgements: [(loop: Int, completion: @Sendable (AcknowledgeOutcome) -> Void)]
    ) {
        let open = appends.sorted { $0.key < $1.key }.compactMap { number, asked in
            requests[number].map { (request: $0, loop: asked.loop, completion: asked.completion) }
        }
        let others = acknowledgements.sorted { $0.key < $1.key }.map { (loop: $0.value.loop, completion: $0.value.completion) }
        appends = [:]
        requests = [:]
        acknowledgements = [:]
        return (open, others)
    }

    func acknowledge(
        _ acknowledge: LinkFrame.Acknowledge, loop: Int, completion: @escaping @Sendable (AcknowledgeOutcome) -> Void
    ) {
        number += 1
        acknowledgements[number] = (loop, completion)
        channel.send(.acknowledge(number: number, acknowledge))
    }

    /// - Parameter completion: nil: that process is not there, or does not answer in time.
    func ask(_ process: Int, _ body: [UInt8], completion: @escaping ([UInt8]?) -> Void) {
        guard channel.isOpen else { return completion(nil) }
        number += 1
        questions.ask(number, nowMilliseconds: Clock.monotonicMilliseconds(), completion: completion)
        channel.send(.question(process: process, number: number, body))
    }

    /// The same, without a reply.
    func tell(_ process: Int, _ body: [UInt8]) {
        channel.send(.question(process: process, number: 0, body))
    }
}

/// What the main process wants of a worker.
package enum WorkerDirection: Sendable {
    case ticketKeys([[UInt8]])
    /// Certificates are to be read again.
    case reload
    case drain
    case mainProcessEnded
}

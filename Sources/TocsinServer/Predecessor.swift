import Logging
import NIOCore
import NotificationCore
import NotificationStore
import Presence

/// The server that this one has taken over, while its clients go: it follows the log and appends through this process, as a worker does.
/// On one event loop, which is none of those that serve clients.
///
///     welcomed ──released: it lets its clients go──> leaving ──it has ended──> gone
final class Predecessor: LogFollower {
    let number: Int
    let eventLoop: any EventLoop
    private let log: EmbeddedLog
    private let logger: Logger
    private let channel = LinkChannel()
    private var isFollowing = false
    /// It is told first where it left the log. What is committed before that is told after it.
    private var isWelcomed = false
    private var early: [ByteBuffer] = []
    private var questions = LinkQuestions()
    private var questionNumber: UInt64 = 0
    private var answers: [LinkFrame.Appended] = []
    private var lastFault: StoreFault?
    private var ticks = 0
    private var tick: RepeatedTask?
    /// A question of its loops.
    var onQuestion: (_ body: [UInt8], _ reply: @escaping ([UInt8]) -> Void) -> Void = { _, _ in }
    /// What it says of who is on which channels; `reply` may come later, on any thread.
    var onPresence: (_ body: [UInt8], _ reply: @escaping @Sendable ([UInt8]) -> Void) -> Void = { _, _ in }
    /// It has gone.
    var onEnd: () -> Void = {}

    /// Four times a second: so often it is looked whether it takes what is sent. As for workers, it has 10 seconds, and so much may wait.
    private static let stalledTicksMax = 40
    private static let queuedBytesMax = 512 << 20

    /// - Parameter number: of this follower, behind those of the loops.
    init(_ eventLoop: any EventLoop, _ log: EmbeddedLog, number: Int, logger: Logger) {
        self.eventLoop = eventLoop
        self.log = log
        self.number = number
        self.logger = logger
    }

    /// Tells it that the log is open here: from now on it is sent every commit, and what it holds comes.
    ///
    /// - Parameter head: where it left the log. Nothing was appended since.
    func welcome(_ socket: Int32, epoch: LogEpoch, head: UInt64) -> EventLoopFuture<Void> {
        channel.onFrame = { [unowned self] in receive($0) }
        channel.onEnd = { [unowned self] in end() }
        log.follow(self)
        isFollowing = true
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        tick = eventLoop.scheduleRepeatedTask(initialDelay: .milliseconds(250), delay: .milliseconds(250)) { _ in bound.value.onTick() }
        return LinkChannel.open(socket, eventLoop, channel).map {
            let welcome = LinkFrame.Welcome(
                process: 0, port: 0, tlsPort: nil, path: "", folder: nil, epoch: epoch, pastEpochs: [:], head: head, channelCount: 0
            )
            let this = bound.value
            this.channel.send(.welcome(welcome))
            for buffer in this.early { this.channel.send(buffer) }
            (this.isWelcomed, this.early) = (true, [])
        }
    }

    /// This server listens: the other one need not any more.
    func release() {
        channel.send(.drain)
    }

    /// This server goes, or has not got as far as to serve. The other one has the log again as soon as the link ends, if it is closed here.
    ///
    /// - Returns: when that was said.
    func farewell(_ reason: String) -> EventLoopFuture<Void> {
        guard channel.isOpen else { return eventLoop.makeSucceededVoidFuture() }
        channel.send(.failed(reason))
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        // It goes out at the end of this turn.
        return eventLoop.scheduleTask(in: .milliseconds(50)) { bound.value.channel.close() }.futureResult
    }

    /// Without a word.
    func close() {
        channel.close()
    }

    private func end() {
        tick?.cancel()
        tick = nil
        for completion in questions.takeAll() { completion(nil) }
        if isFollowing { log.unfollow(number) }
        isFollowing = false
        early = []
        onEnd()
    }

    private func onTick() {
        for completion in questions.takeExpired(nowMilliseconds: Clock.monotonicMilliseconds()) { completion(nil) }
        channel.tick()
        if channel.stalledTicks > Self.stalledTicksMax || channel.queuedBytes > Self.queuedBytesMax {
            logger.error("the server that was taken over does not take what is sent to it: it is left to itself")
            return channel.close()
        }
        ticks += 1
        let fault = log.fault
        if ticks.isMultiple(of: 4) || fault != lastFault {
            lastFault = fault
            channel.send(.status(LinkFrame.Status(fault: fault, statistics: log.statistics, processes: 1, restarts: 0)))
        }
    }

    // MARK: the log

    func apply(_ batch: LogBatch) {
        guard isFollowing else { return }
        let buffers = LinkFrame.buffers(of: batch)
        guard isWelcomed else { return early += buffers }
        for buffer in buffers { channel.send(buffer) }
    }

    private func receive(_ frame: LinkFrame) {
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        switch frame {
        case .append(let number, let request):
            log.append(request, from: self) { outcomes in bound.value.answer(LinkFrame.Appended(number: number, outcomes: outcomes)) }
        case .acknowledge(let number, let wanted):
            log.acknowledge(wanted.user, wanted.channel, wanted.ranges, isDismissed: wanted.isDismissed, from: self) { outcome in
                bound.value.channel.send(.acknowledged(number: number, outcome))
            }
        case .question(_, let number, let body):
            onQuestion(body) { [weak self] reply in
                if number != 0 { self?.channel.send(.reply(process: 0, number: number, reply)) }
            }
        case .reply(_, let number, let body):
            questions.take(number)?(body)
        case .presence(let body):
            onPresence(body) { [eventLoop] reply in eventLoop.execute { bound.value.channel.send(.presence(reply)) } }
        case .ready:
            // That it is alive.
            break
        case .welcome, .channels, .batch, .appended, .acknowledged, .status, .ticketKeys, .reload, .drain, .failed, .refusals:
            channel.close()
        }
    }

    /// The answers of one commit go out together.
    private func answer(_ answer: LinkFrame.Appended) {
        answers.append(answer)
        guard answers.count == 1 else { return }
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        eventLoop.execute {
            let this = bound.value
            let answers = this.answers
            this.answers = []
            this.channel.send(.appended(answers))
        }
    }

    /// What has changed on channels that somebody watches there.
    func tellPresence(_ source: Int, _ changes: [PresenceChange]) {
        guard channel.isOpen else { return }
        for part in PresenceMessage.parts(changes, bytes: { $0.frameBytes }) {
            channel.send(.presence(PresenceMessage.changes(source: source, Array(part)).bytes))
        }
    }

    // MARK: what loops ask each other

    /// - Parameter completion: nil: it is not there, or does not answer in time.
    func ask(_ body: [UInt8], completion: @escaping ([UInt8]?) -> Void) {
        guard channel.isOpen else { return completion(nil) }
        questionNumber += 1
        questions.ask(questionNumber, nowMilliseconds: Clock.monotonicMilliseconds(), completion: completion)
        channel.send(.question(process: 0, number: questionNumber, body))
    }

    /// The same, without a reply.
    func tell(_ body: [UInt8]) {
        channel.send(.question(process: 0, number: 0, body))
    }
}

import Glibc
import Logging
import NIOCore
import NIOPosix
import NotificationCore
import NotificationStore

/// The side of the server that runs, when another one takes it over: listens on a Unix socket beside the log, and gives away the log and
/// the listeners of whoever asks and may have them. On the loop of the log's writer.
///
///     idle ──take──> passing ──welcome──> following ──drain──> leaving
///      ^  the log is closed,  the other one   it listens, too:
///      │  what comes is held   has the log     the clients go
///      │               │            │            │
///      └───────────────┴────────────┴────────────┘  the other one ends: the log is opened here again
///
/// Until `welcome` both have the lock of the log. So this process goes on only when the other one has gone for good, which the end of the
/// socket says; one that hangs is killed. After that the lock itself says it.
final class TakeoverOffer {
    struct Settings {
        var logPath: String
        var feeds: FeedTable
        var version: String
        var place: Int
        /// Of the number that both processes read.
        var numberDescriptor: Int32
        var listeners: [(listener: TakeoverMessage.Listener, descriptor: Int32)]
        /// The log has to be open in the other one after so long, and it has to listen after as long again.
        var patienceSeconds = TakeoverOffer.patienceSeconds
        /// Who has connected has so long to ask for it.
        var visitorSeconds = 5
        /// Why it cannot be now; nil: it can.
        var hindrance: () -> String? = { nil }
        /// The other process can be asked, or not any more.
        var onNeighbour: (_ link: NIOLoopBound<WorkerLink>?) -> Void = { _ in }
        var onQuestion: (_ body: [UInt8], _ reply: @escaping ([UInt8]) -> Void) -> Void = { _, _ in }
        /// The clients are to go within a time.
        var onTaken: (_ drainMilliseconds: Int) -> Void = { _ in }
        /// It has ended after that.
        ///
        /// - Parameter isOrderly: it was told to.
        var onReturned: (_ isOrderly: Bool) -> Void = { _ in }
    }

    enum Stage { case idle, passing, following, leaving }

    let eventLoop: any EventLoop
    private let log: EmbeddedLog
    fileprivate let settings: Settings
    private let logger: Logger
    private(set) var stage = Stage.idle
    private var listener: (any Channel)?
    private var file: UnixSocket.File?
    private(set) var visitors = 0
    private(set) var link: WorkerLink?
    private var isFarewellSaid = false
    private var isClosed = false

    /// A log of 100,000 channels is open in about two.
    static let patienceSeconds = 15
    /// One that takes over, and some that are told that it is under way.
    private static let visitorsMax = 8

    /// - Parameter log: whose writer is on this loop.
    init(_ log: EmbeddedLog, _ settings: Settings, logger: Logger) {
        eventLoop = log.writerLoop
        self.log = log
        self.settings = settings
        self.logger = logger
    }

    private var path: String { UnixSocket.path(ofLog: settings.logPath) }

    /// Listens from now on, in the place of any other.
    func open() throws(SystemFault) -> EventLoopFuture<Void> {
        eventLoop.preconditionInEventLoop()
        let descriptor = try UnixSocket.listen(at: path)
        file = UnixSocket.File(path)
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        return ServerBootstrap(group: eventLoop)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(TakeoverVisitor(bound.value, channel))
                }
            }
            .withBoundSocket(descriptor)
            .map { channel in
                let offer = bound.value
                offer.listener?.close(promise: nil)
                offer.listener = channel
                if offer.isClosed { channel.close(promise: nil) }
            }
    }

    /// Nobody can take over from now on. The socket's file stays where it is if it is another server's by now.
    func close() {
        isClosed = true
        listener?.close(promise: nil)
        listener = nil
        if let file, file == UnixSocket.File(path) { unlink(path) }
        file = nil
    }

    // MARK: visitors

    /// - Returns: why nobody may come in; nil: one more may.
    fileprivate func enter() -> String? {
        if visitors == Self.visitorsMax { return "there are too many at the socket" }
        visitors += 1
        return nil
    }

    fileprivate func leave() { visitors -= 1 }

    /// What is said to one who introduces itself.
    fileprivate func answer(_ hello: TakeoverMessage.Hello) -> TakeoverMessage {
        let own = TakeoverMessage.Hello.own(version: settings.version, drainMilliseconds: 0)
        if let reason = own.reasonAgainst(hello) {
            logger.warning("a takeover was refused", metadata: ["reason": "\(reason)", "version": "\(hello.version)"])
            return .refused(reason)
        }
        if let why = refusal { return .refused(why) }
        return .hello(own)
    }

    private var refusal: String? {
        if isClosed { return "the server goes down" }
        if stage != .idle { return "another server is taking this one over" }
        return settings.hindrance()
    }

    // MARK: the takeover

    fileprivate func give(_ visitor: TakeoverVisitor, _ hello: TakeoverMessage.Hello, _ peer: UnixSocket.Peer) {
        if let why = refusal { return visitor.say(.refused(why)) }
        stage = .passing
        logger.notice("another server takes over", metadata: ["pid": "\(peer.process)", "version": "\(hello.version)"])
        let began = Clock.monotonicMilliseconds()
        log.passOn { [self] result in
            switch result {
            case .failure(let fault):
                stage = .idle
                logger.error("the log cannot be handed over", metadata: ["error": "\(fault)"])
                visitor.say(.refused("the log cannot be handed over: \(fault)"))
            case .success(let passed):
                do {
                    try give(passed, visitor, hello, peer, began: began)
                } catch {
                    logger.error("the takeover has failed, this server goes on", metadata: ["error": "\(error)"])
                    visitor.channel.close(promise: nil)
                    end()
                }
            }
        }
    }

    private func give(
        _ passed: EmbeddedLog.Passed, _ visitor: TakeoverVisitor, _ hello: TakeoverMessage.Hello, _ peer: UnixSocket.Peer, began: Int64
    ) throws {
        guard let lock = passed.lock else { throw SystemFault("the log's lock", code: ENOENT) }
        guard let descriptor = visitor.descriptor else { throw SystemFault("the socket", code: EPIPE) }
        let given = TakeoverMessage.Given(
            place: settings.place, epoch: passed.preload.epoch, head: passed.preload.head, channelCount: passed.preload.channels.count,
            listeners: settings.listeners.map(\.listener)
        )
        let descriptors = [lock.descriptor, settings.numberDescriptor] + settings.listeners.map(\.descriptor)
        try UnixSocket.send(TakeoverMessage.given(given).bytes, descriptors, to: descriptor)
        visitor.becomeLink()
        let link = WorkerLink(eventLoop, feeds: settings.feeds, processID: UInt64(getpid()))
        self.link = link
        isFarewellSaid = false
        link.onEnd = { [weak self, weak link] in if let self, self.link === link { end() } }
        link.onFarewell = { [weak self] reason in
            self?.isFarewellSaid = true
            self?.logger.warning("the server that takes over goes again", metadata: ["reason": "\(reason)"])
        }
        link.onQuestion = { [settings] _, body, reply in settings.onQuestion(body, reply) }
        link.onDirection = { [weak self] direction in if case .drain = direction { self?.go(hello) } }
        let bound = NIOLoopBound((self, link, passed.store, given, visitor), eventLoop: eventLoop)
        hurry(.passing, peer, visitor)
        try link.adopt(passed.preload, visitor.channel).whenSuccess { opening in
            let (offer, link, store, given, visitor) = bound.value
            let welcome = opening.welcome
            guard welcome.epoch == given.epoch, welcome.head == given.head else { return visitor.channel.close(promise: nil) }
            offer.follow(link, store, peer, visitor, began: began)
        }
    }

    private func follow(
        _ link: WorkerLink, _ store: NotificationStore, _ peer: UnixSocket.Peer, _ visitor: TakeoverVisitor, began: Int64
    ) {
        guard stage == .passing, self.link === link else { return }
        stage = .following
        log.follow(link, store)
        link.serve()
        settings.onNeighbour(NIOLoopBound(link, eventLoop: eventLoop))
        hurry(.following, peer, visitor)
        logger.notice(
            "the log has changed hands", metadata: ["held_ms": "\(Clock.monotonicMilliseconds() - began)", "head": "\(log.head)"]
        )
    }

    /// Ends who hangs: nobody is served by a log that two have and none writes.
    private func hurry(_ hurried: Stage, _ peer: UnixSocket.Peer, _ visitor: TakeoverVisitor) {
        let bound = NIOLoopBound((self, visitor, link), eventLoop: eventLoop)
        eventLoop.scheduleTask(in: .seconds(Int64(settings.patienceSeconds))) {
            let (offer, visitor, link) = bound.value
            guard offer.stage == hurried, offer.link === link else { return }
            offer.logger.error("the server that takes over hangs and is ended", metadata: ["pid": "\(peer.process)"])
            // Its end closes the socket. Only then is it certain that it writes no more.
            if peer.process == getpid() || kill(peer.process, SIGKILL) != 0 { visitor.channel.close(promise: nil) }
        }
    }

    /// The other one listens.
    private func go(_ hello: TakeoverMessage.Hello) {
        guard stage == .following else { return }
        stage = .leaving
        settings.onTaken(hello.drainMilliseconds)
    }

    /// The other process has ended, or has closed the log and says so by closing the link.
    private func end() {
        let (was, link) = (stage, link)
        stage = .idle
        self.link = nil
        settings.onNeighbour(nil)
        guard was != .idle else { return }
        if !isClosed { logger.error("the server that takes over has ended", metadata: ["stage": "\(was)"]) }
        log.takeBack(was == .passing ? nil : link)
        if was == .leaving { settings.onReturned(isFarewellSaid) }
        if isClosed || (was == .leaving && isFarewellSaid) { return }
        // The path may be the other one's. One's own socket stays: who has connected to it just now is not to be dropped.
        if let file, file == UnixSocket.File(path), listener?.isActive == true { return }
        do { try open().whenFailure { [logger] in Self.complain($0, logger) } } catch { Self.complain(error, logger) }
    }

    private static func complain(_ error: any Error, _ logger: Logger) {
        logger.warning("no other server can take this one over", metadata: ["error": "\(error)"])
    }
}

/// Whoever has connected to the socket, before its connection is a link.
private final class TakeoverVisitor: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    let channel: any Channel
    private let offer: TakeoverOffer
    private var reader = TakeoverMessageReader()
    private var hello: TakeoverMessage.Hello?
    private var isLink = false
    private var isIn = false
    private var deadline: Scheduled<Void>?

    init(_ offer: TakeoverOffer, _ channel: any Channel) {
        self.offer = offer
        self.channel = channel
    }

    /// nil: it has gone.
    var descriptor: Int32? {
        guard channel.isActive else { return nil }
        return try? channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { $0 }
    }

    /// From now on its bytes are for the next handler.
    func becomeLink() {
        deadline?.cancel()
        isLink = true
    }

    /// The last word, if it is a refusal.
    func say(_ message: TakeoverMessage) {
        channel.writeAndFlush(ByteBuffer(bytes: message.bytes), promise: nil)
        if case .refused = message { channel.close(promise: nil) }
    }

    func channelActive(context: ChannelHandlerContext) {
        if let full = offer.enter() { return say(.refused(full)) }
        isIn = true
        let patience = TimeAmount.seconds(Int64(offer.settings.visitorSeconds))
        deadline = context.eventLoop.scheduleTask(in: patience) { [channel] in channel.close(promise: nil) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if isLink { return context.fireChannelRead(data) }
        reader.feed(unwrapInboundIn(data).readableBytesView)
        do throws(LinkDamage) {
            while let message = try reader.next() { take(message) }
        } catch {
            channel.close(promise: nil)
        }
    }

    private func take(_ message: TakeoverMessage) {
        guard isIn, let descriptor, let peer = UnixSocket.Peer(descriptor), peer.mayTakeOver(from: getuid()) else {
            return say(.refused("only the user of a server takes it over"))
        }
        switch message {
        case .hello(let said) where hello == nil:
            let answer = offer.answer(said)
            if case .hello = answer { hello = said }
            say(answer)
        case .take:
            guard let hello, deadline != nil else { return channel.close(promise: nil) }
            deadline?.cancel()
            deadline = nil
            offer.give(self, hello, peer)
        case .refused(let why):
            // It thinks that the two do not fit.
            offer.noteRefusal(why)
            channel.close(promise: nil)
        case .hello, .given: channel.close(promise: nil)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        deadline?.cancel()
        if isIn { offer.leave() }
        isIn = false
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        channel.close(promise: nil)
    }
}

extension TakeoverOffer {
    fileprivate func noteRefusal(_ why: String) {
        logger.warning("a server does not take over", metadata: ["reason": "\(why)"])
    }
}

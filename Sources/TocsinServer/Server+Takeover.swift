import Glibc
import Logging
import NIOCore
import NIOPosix
import NotificationCore
import NotificationStore
import Synchronization

/// What a server has to do with the one before it and the one after it.
final class Succession: Sendable {
    private struct State {
        var offer: NIOLoopBound<TakeoverOffer>?
        var predecessor: NIOLoopBound<Predecessor>?
        var isPredecessorThere = false
        /// What the one after it has left: nil, it is there. Whether it was told to go.
        var hasReturned: Bool?
    }

    private let state = Mutex(State())
    /// Another server has taken this one over: over how many milliseconds the clients are to go.
    let takeovers: AsyncStream<Int>
    private let continuation: AsyncStream<Int>.Continuation

    init() {
        (takeovers, continuation) = AsyncStream.makeStream()
    }

    // MARK: the one before

    func set(_ predecessor: NIOLoopBound<Predecessor>) {
        state.withLock { state in
            state.predecessor = predecessor
            state.isPredecessorThere = true
        }
    }

    func predecessorHasEnded() {
        state.withLock { state in
            state.predecessor = nil
            state.isPredecessorThere = false
        }
    }

    /// From then on the other one lets its clients go.
    func releasePredecessor() {
        guard let predecessor = state.withLock({ $0.predecessor }) else { return }
        predecessor.eventLoop.execute { predecessor.value.release() }
    }

    /// The log is closed here, and was for good.
    func farewell(_ reason: String) async {
        guard let predecessor = state.withLock({ $0.predecessor }) else { return }
        try? await predecessor.eventLoop.flatSubmit { predecessor.value.farewell(reason) }.get()
    }

    // MARK: the one after

    /// Another server may take this one over from now on.
    func offer(_ server: ServerState, _ log: EmbeddedLog, _ number: SharedNumber, _ acceptor: Acceptor) async {
        let logger = server.logger
        do {
            let offer = try await log.writerLoop.submit { [self] in
                let settings = makeSettings(server, number, acceptor, on: log.writerLoop)
                return NIOLoopBound(TakeoverOffer(log, settings, logger: logger), eventLoop: log.writerLoop)
            }.get()
            state.withLock { $0.offer = offer }
            try await log.writerLoop.flatSubmit {
                do { return try offer.value.open() } catch { return offer.eventLoop.makeFailedFuture(error) }
            }.get()
        } catch {
            logger.warning("no other server can take this one over", metadata: ["error": "\(error)"])
        }
    }

    private func makeSettings(
        _ server: ServerState, _ number: SharedNumber, _ acceptor: Acceptor, on loop: any EventLoop
    ) -> TakeoverOffer.Settings {
        let configuration = server.configuration
        var settings = TakeoverOffer.Settings(
            logPath: configuration.storePath, feeds: configuration.log.feeds, version: server.version, place: server.place,
            numberDescriptor: number.descriptor,
            listeners: acceptor.sockets.map { socket in
                let place = TakeoverMessage.Listener(host: socket.host, port: socket.address.port ?? 0, isTLS: socket.isTLS)
                return (place, socket.descriptor)
            }
        )
        settings.hindrance = { [self] in
            if server.isDraining { return "it drains" }
            if state.withLock({ $0.isPredecessorThere }) {
                return "it has taken another server over itself, whose clients are still going: ask again when that one has ended"
            }
            return nil
        }
        settings.onNeighbour = { link in
            server.handPresence(to: link.map { SharedPresence($0) })
            server.neighbours = link.map {
                Neighbours(
                    process: server.place, processes: 2, loopsPerProcess: ServerState.loopsPerPlace, link: SuccessorLink(link: $0),
                    isOneServer: false
                )
            }
        }
        settings.onQuestion = { body, reply in server.take(body, on: loop, reply: reply) }
        settings.onTaken = { [self] milliseconds in
            state.withLock { $0.hasReturned = nil }
            continuation.yield(milliseconds)
        }
        settings.onReturned = { [self] isOrderly in state.withLock { $0.hasReturned = isOrderly } }
        return settings
    }

    /// nil: the other server is there. Whether it was told to go.
    var hasReturned: Bool? { state.withLock { $0.hasReturned } }

    func close() async {
        guard let offer = state.withLock({ $0.offer }) else { return }
        _ = try? await offer.eventLoop.submit { offer.value.close() }.get()
    }
}

/// To the server that has taken this one over.
private struct SuccessorLink: NeighbourLink {
    let link: NIOLoopBound<WorkerLink>

    func ask(_ process: Int, _ body: [UInt8], completion: @escaping @Sendable ([UInt8]?) -> Void) {
        link.eventLoop.execute { link.value.ask(0, body, completion: completion) }
    }

    func tell(_ process: Int, _ body: [UInt8]) {
        link.eventLoop.execute { link.value.tell(0, body) }
    }

    var restarts: Int { 0 }
    var addedFigures: String { "" }
}

/// To the server that this one has taken over.
private struct PredecessorLink: NeighbourLink {
    let predecessor: NIOLoopBound<Predecessor>

    func ask(_ process: Int, _ body: [UInt8], completion: @escaping @Sendable ([UInt8]?) -> Void) {
        predecessor.eventLoop.execute { predecessor.value.ask(body, completion: completion) }
    }

    func tell(_ process: Int, _ body: [UInt8]) {
        predecessor.eventLoop.execute { predecessor.value.tell(body) }
    }

    var restarts: Int { 0 }
    var addedFigures: String { "" }
}

extension Server {
    /// Takes over from the server with this log that runs.
    ///
    /// - Parameter eventLoop: whose thread waits for the answer.
    /// - Returns: nil: there is none, or it is not wanted.
    static func inherit(
        _ configuration: ServerConfiguration, _ version: String, _ logger: Logger, on eventLoop: any EventLoop
    ) async throws -> Inheritance? {
        guard configuration.takesOver else { return nil }
        let path = configuration.storePath
        let hello = TakeoverMessage.Hello.own(version: version, drainMilliseconds: configuration.drainSeconds * 1000)
        let found = try await eventLoop.submit { try Inheritance.receive(log: path, hello) }.get()
        if let found {
            logger.notice(
                "taking over",
                metadata: [
                    "pid": "\(found.process)", "version": "\(found.version)", "head": "\(found.given.head)",
                    "drain_ms": "\(hello.drainMilliseconds)",
                ]
            )
        } else {
            logger.notice("there is no server to take over: this one starts as usual", metadata: ["store": "\(path)"])
        }
        return found
    }

    /// Whether the log is as the other server has left it.
    static func check(_ inheritance: Inheritance, _ preload: LogPreload) throws(ServerStartFault) {
        let given = inheritance.given
        guard preload.epoch == given.epoch, preload.head == given.head, preload.channels.count == given.channelCount else {
            throw ServerStartFault(
                description: "the log is not as the other server has left it: \(preload.head) in \(preload.epoch), "
                    + "not \(given.head) in \(given.epoch)"
            )
        }
    }

    /// Tells the other server that the log is open: what its clients publish comes from now on, and it is told every commit.
    static func welcome(
        _ inheritance: Inheritance, _ log: EmbeddedLog, _ state: ServerState, loops: Int, on eventLoop: any EventLoop,
        _ succession: Succession
    ) async throws {
        guard let socket = inheritance.takeSocket() else { return }
        let given = inheritance.given
        let predecessor = try await eventLoop.submit {
            let predecessor = Predecessor(eventLoop, log, number: loops, logger: state.logger)
            predecessor.onQuestion = { body, reply in state.take(body, on: eventLoop, reply: reply) }
            let there = (1 - state.place) * ServerState.loopsPerPlace
            let presence = state.presence as? PresenceHub
            predecessor.onPresence = { body, reply in presence?.take(body, reply: reply) }
            let bound = NIOLoopBound(predecessor, eventLoop: eventLoop)
            presence?.startElsewhere(there..<there + ServerState.loopsPerPlace) { source, changes in
                eventLoop.execute { bound.value.tellPresence(source, changes) }
            }
            predecessor.onEnd = {
                state.neighbours = nil
                presence?.endElsewhere(there..<there + ServerState.loopsPerPlace)
                succession.predecessorHasEnded()
                state.logger.notice("the server that was taken over has ended")
            }
            return bound
        }.get()
        succession.set(predecessor)
        state.neighbours = Neighbours(
            process: state.place, processes: 2, loopsPerProcess: ServerState.loopsPerPlace,
            link: PredecessorLink(predecessor: predecessor), isOneServer: false
        )
        try await eventLoop.flatSubmit { predecessor.value.welcome(socket, epoch: given.epoch, head: given.head) }.get()
    }

    /// Over how many milliseconds the clients are to go, each time that another server takes this one over.
    package var takeovers: AsyncStream<Int> { succession.takeovers }

    /// Who has come at the last moment still is a client of this server: so long it takes nobody up, and lets nobody go.
    private static let lateMilliseconds = 500

    /// Another server has the log and listens: the clients go, each with a slot to come back in.
    ///
    /// - Returns: whether they have gone, or the time is over. false: the other one has ended meanwhile, and this server serves again.
    package func leaveToSuccessor(overMilliseconds milliseconds: Int) async throws -> Bool {
        let deadline = Clock.monotonicMilliseconds() + Int64(milliseconds)
        await acceptor.pause()
        try await Task.sleep(for: .milliseconds(min(Self.lateMilliseconds, milliseconds / 10)))
        await state.canary?.stop()
        state.isHandedOver = true
        state.beginDraining(overMilliseconds: milliseconds)
        let spread = max(0, Int(deadline - Clock.monotonicMilliseconds()))
        for reference in state.loops { reference.eventLoop.execute { reference.value.leave(spreadMilliseconds: spread) } }
        while Clock.monotonicMilliseconds() < deadline {
            if succession.hasReturned == false { return try await serveAgain() }
            var open = 0
            for reference in state.loops { open += try await reference.eventLoop.submit { reference.value.openConnections }.get() }
            if open == 0 { break }
            try await Task.sleep(for: .milliseconds(50))
        }
        return true
    }

    /// The clients that were told to come back find this server. Those that are still here stay.
    private func serveAgain() async throws -> Bool {
        state.endDraining()
        state.isHandedOver = false
        acceptor.resume()
        if let canary = state.canary { canary.start(at: acceptor.sockets[0].address, state) }
        return false
    }
}

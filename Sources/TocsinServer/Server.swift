import Glibc
package import Logging
import NIOCore
import NIOPosix
package import NotificationCore
import NotificationStore
import TLSEngine
import Webhooks

/// A Tocsin server: listeners, loops and the log.
package final class Server: Sendable {
    let state: ServerState
    private let group: MultiThreadedEventLoopGroup
    /// The threads of the log, of which one writes and one reads, and the worker.
    private let logGroup: MultiThreadedEventLoopGroup
    let acceptor: Acceptor
    let succession: Succession
    let certificates: TLSContexts?
    /// The ports that it listens on; useful where 0 was asked for.
    package let port: Int
    package let tlsPort: Int?

    private init(
        state: ServerState, group: MultiThreadedEventLoopGroup, logGroup: MultiThreadedEventLoopGroup,
        acceptor: Acceptor, succession: Succession, certificates: TLSContexts?
    ) {
        self.state = state
        self.group = group
        self.logGroup = logGroup
        self.acceptor = acceptor
        self.succession = succession
        self.certificates = certificates
        port = acceptor.sockets.first { !$0.isTLS }?.address.port ?? 0
        tlsPort = acceptor.sockets.first { $0.isTLS }?.address.port
    }

    package static func start(
        _ configuration: ServerConfiguration, logger: Logger, version: String, pages: [String: StaticPage] = [:]
    ) async throws -> Server {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: max(1, configuration.loops))
        do {
            return try await start(configuration, logger, version, pages, group)
        } catch {
            try? await group.shutdownGracefully()
            throw error
        }
    }

    private static func start(
        _ configuration: ServerConfiguration, _ logger: Logger, _ version: String, _ pages: [String: StaticPage],
        _ group: MultiThreadedEventLoopGroup
    ) async throws -> Server {
        // What may be wrong with files is found before a server that runs is asked for anything.
        let gate = try await openGate(configuration, logger)
        let certificates = configuration.tlsPort == nil ? nil : try TLSContexts(server: configuration.tls)
        let logGroup = MultiThreadedEventLoopGroup(numberOfThreads: 3)
        let logLoops = Array(logGroup.makeIterator())
        let inheritance = try await inherit(configuration, version, logger, on: logLoops[1])
        var configuration = configuration
        // Clients come in the slots that the other server has given them.
        if inheritance != nil {
            configuration.limits.rampSeconds = 0
            // Channels are occupied by those who are still there, and who come meanwhile.
            let settle = Int64(configuration.drainSeconds + 10) * 1000
            let settleMilliseconds = max(configuration.webhooks?.settleMilliseconds ?? 0, settle)
            configuration.webhooks?.settleMilliseconds = settleMilliseconds
        }
        var options = ownStoreOptions(configuration)
        var number = inheritance?.number
        if let inheritance {
            options.lock = inheritance.takeLock()
            options.ongoingEpoch = inheritance.given.epoch
        } else if configuration.offersTakeover {
            options.lock = try LockFile(of: options.path)
            number = SharedNumber()
        }
        let (log, preload) = try await EmbeddedLog.open(
            options, writerLoop: logLoops[0], readerLoop: logLoops[1], logger: logger, sharedNumber: number
        )
        options.lock = nil
        let webhooks: WebhookService?
        let state: ServerState
        let succession = Succession()
        let server: Server
        do {
            webhooks = try makeWebhooks(configuration, log, logger)
            state = ServerState(
                webhooks: webhooks, configuration: configuration, log: log, worker: logLoops[2], logger: logger, version: version,
                pages: pages, gate: gate, place: inheritance.map { 1 - $0.given.place } ?? 0
            )
            (state.presence as? PresenceHub)?.setObserver(webhooks)
            if let inheritance { try check(inheritance, preload) }
            let references = try await makeLoops(state, group, preload)
            if let inheritance { try await welcome(inheritance, log, state, loops: references.count, on: logLoops[1], succession) }
            try await state.readRevocations()
            server = try await listen(state, group, logGroup, references, certificates, succession, inheritance)
        } catch {
            // The log is the other server's again, if that one is there.
            await log.close()
            await succession.farewell("\(error)")
            throw error
        }
        if let webhooks { reportRefusals(state, on: state.loops[0].eventLoop) { webhooks.take($0) } }
        if let certificates {
            let interval = TimeAmount.seconds(Int64(configuration.ticketKeySeconds))
            state.loops[0].eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { _ in certificates.ticketKeys.rotate() }
        }
        if configuration.offersTakeover, let number { await succession.offer(state, log, number, server.acceptor) }
        succession.releasePredecessor()
        return server
    }

    static func storeOptions(_ configuration: ServerConfiguration) -> StoreOptions {
        StoreOptions(path: configuration.storePath, durability: configuration.durability, limits: configuration.log)
    }

    /// The loops of this process, each of which follows the log.
    static func makeLoops(
        _ state: ServerState, _ group: MultiThreadedEventLoopGroup, _ preload: LogPreload
    ) async throws -> [LoopReference] {
        var references: [LoopReference] = []
        for (number, eventLoop) in Array(group.makeIterator()).enumerated() {
            let reference = try await eventLoop.submit { () -> LoopReference in
                let loop = ServerLoop(number: number, eventLoop: eventLoop, server: state, preload: preload)
                loop.start()
                state.log.follow(loop)
                return NIOLoopBound(loop, eventLoop: eventLoop)
            }.get()
            try await eventLoop.flatSubmit {
                do { return try reference.value.openWaker() } catch { return eventLoop.makeFailedFuture(error) }
            }.get()
            references.append(reference)
        }
        state.loops = references
        state.startPresence()
        return references
    }

    static func listen(
        _ state: ServerState, _ group: MultiThreadedEventLoopGroup, _ logGroup: MultiThreadedEventLoopGroup,
        _ references: [LoopReference], _ certificates: TLSContexts?, _ succession: Succession = Succession(),
        _ inheritance: Inheritance? = nil
    ) async throws -> Server {
        let configuration = state.configuration
        // Who is behind, or sends large bodies, waits for those who are live.
        for loop in Array(logGroup.makeIterator())[1...] { loop.execute { SystemCall.lowerPriority() } }
        let sockets = try listeningSockets(configuration, inheritance, isShared: state.neighbours?.isOneServer == true)
        let acceptor = try Acceptor(sockets, state, references)
        try await acceptor.start(certificates)
        if let certificates {
            for warning in certificates.current.warnings { state.logger.warning("certificate", metadata: ["warning": "\(warning)"]) }
        }
        state.limitConnections()
        state.keySource?.start { [weak state] in state?.setTokens($0) }
        if let canary = state.canary { canary.start(at: acceptor.sockets[0].address, state) }
        return Server(
            state: state, group: group, logGroup: logGroup, acceptor: acceptor, succession: succession, certificates: certificates
        )
    }

    static func openGate(_ configuration: ServerConfiguration, _ logger: Logger) async throws -> Gate? {
        let gate = try await Gate.open(configuration.identity)
        for warning in gate?.warnings ?? [] { logger.warning("keys", metadata: ["warning": "\(warning)"]) }
        return gate
    }

    /// - Parameter inheritance: sockets that listen there already.
    private static func listeningSockets(
        _ configuration: ServerConfiguration, _ inheritance: Inheritance?, isShared: Bool
    ) throws -> [ListeningSocket] {
        var wanted: [(port: Int, isTLS: Bool)] = [(configuration.port, false)]
        if let port = configuration.tlsPort { wanted.append((port, true)) }
        var sockets: [ListeningSocket] = []
        do {
            for (port, isTLS) in wanted {
                if let descriptor = inheritance?.takeListener(host: configuration.host, port: port, isTLS: isTLS) {
                    sockets.append(ListeningSocket(host: configuration.host, descriptor: descriptor, isTLS: isTLS))
                } else {
                    sockets.append(try ListeningSocket(host: configuration.host, port: port, isShared: isShared, isTLS: isTLS))
                }
            }
        } catch {
            for socket in sockets { SystemCall.close(socket.descriptor) }
            throw error
        }
        return sockets
    }

    /// Reads the certificates again. If they are not good, the old ones stay and the error says why.
    package func reloadCertificates() throws {
        try certificates?.reload()
    }

    /// Reads the keys of tokens and of publishers again. If a file is not good, the old ones stay and the error says why. Streams of API
    /// keys that are gone, or have other grants now, end; those of tokens go on until their token ends.
    ///
    /// - Returns: false if there are none.
    package func reloadKeys() async throws -> Bool {
        guard let gate = try await Self.openGate(state.configuration, state.logger) else { return false }
        state.setGate(gate)
        for reference in state.loops {
            reference.eventLoop.execute {
                reference.value.endSessions { !gate.isCurrent($0) }
                // A poll may have come between the two.
                reference.value.server.noteAccessChange()
            }
        }
        return true
    }

    /// Serves a page from now on.
    package func setPage(_ path: String, _ page: StaticPage) {
        state.pages[path] = page
    }

    package struct ConnectionCounts: Sendable {
        package var total = 0
        package var webSocket = 0
        package var eventStream = 0
        package var longPoll = 0
    }

    package func connectionCounts() async throws -> ConnectionCounts {
        var sum = LoopCounters()
        for reference in state.loops {
            sum.add(try await reference.eventLoop.submit { reference.value.currentCounters() }.get())
        }
        return ConnectionCounts(
            total: sum.connections, webSocket: sum.subscribers[0], eventStream: sum.subscribers[1], longPoll: sum.subscribers[2]
        )
    }

    /// Publishes from inside the process.
    @discardableResult
    package func publish(_ publications: [Publication]) async throws -> [AppendOutcome] {
        let reference = state.loops[0]
        let promise = reference.eventLoop.makePromise(of: [AppendOutcome].self)
        reference.eventLoop.execute {
            let loop = reference.value
            loop.server.log.append(AppendRequest(publications), from: loop) { promise.succeed($0) }
        }
        return try await promise.futureResult.get()
    }

    /// Goes down in order: takes nobody new, asks everybody to come back in a slot of their own, waits for what is under way, closes.
    ///
    /// - Parameter overMilliseconds: how long that may take; nil: as it is configured.
    package func shutDown(overMilliseconds: Int? = nil) async throws {
        let spread = overMilliseconds ?? state.configuration.drainSeconds * 1000
        await succession.close()
        state.beginDraining(overMilliseconds: spread)
        await state.canary?.stop()
        try await acceptor.close()
        for reference in state.loops {
            try await reference.eventLoop.submit { reference.value.leave(spreadMilliseconds: spread) }.get()
        }
        let deadline = Clock.monotonicMilliseconds() + Int64(spread)
        while Clock.monotonicMilliseconds() < deadline {
            var open = 0
            for reference in state.loops { open += try await reference.eventLoop.submit { reference.value.openConnections }.get() }
            if open == 0 { break }
            try await Task.sleep(for: .milliseconds(50))
        }
        state.keySource?.stop()
        await state.outgoing.shutDown()
        // What the worker still has goes to loops that run.
        try await state.worker.submit {}.get()
        await state.webhooks?.stop()
        await state.log.close()
        await succession.farewell("it goes down")
        for reference in state.loops {
            try await reference.eventLoop.submit {
                reference.value.closeAll()
                reference.value.stop()
            }.get()
        }
        state.loops = []
        try await group.shutdownGracefully()
        try await logGroup.shutdownGracefully()
    }
}

/// Why a server does not start.
package struct ServerStartFault: Error, CustomStringConvertible {
    package let description: String
}

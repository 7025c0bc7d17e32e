import Glibc
package import Logging
import NIOCore
import NIOPosix
package import NotificationCore
import NotificationStore
import TLSEngine

/// A Tocsin server: listeners, loops and the log.
package final class Server: Sendable {
    let state: ServerState
    private let group: MultiThreadedEventLoopGroup
    /// The threads of the log, of which one writes and one reads, and the worker.
    private let logGroup: MultiThreadedEventLoopGroup
    /// Takes connections up. A thread of its own: when many come at once, a loop that serves those which are there would let the queue of
    /// the kernel overflow, and who is dropped there comes again after a second.
    private let acceptGroup: MultiThreadedEventLoopGroup
    private let channels: [any Channel]
    let certificates: TLSContexts?
    /// The ports that it listens on; useful where 0 was asked for.
    package let port: Int
    package let tlsPort: Int?

    private init(
        state: ServerState, group: MultiThreadedEventLoopGroup, logGroup: MultiThreadedEventLoopGroup,
        acceptGroup: MultiThreadedEventLoopGroup, channels: [any Channel], certificates: TLSContexts?, port: Int, tlsPort: Int?
    ) {
        self.state = state
        self.group = group
        self.logGroup = logGroup
        self.acceptGroup = acceptGroup
        self.channels = channels
        self.certificates = certificates
        self.port = port
        self.tlsPort = tlsPort
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
        let gate = try await openGate(configuration, logger)
        let logGroup = MultiThreadedEventLoopGroup(numberOfThreads: 3)
        let logLoops = Array(logGroup.makeIterator())
        let (log, preload) = try await EmbeddedLog.open(
            ownStoreOptions(configuration), writerLoop: logLoops[0], readerLoop: logLoops[1], logger: logger
        )
        let webhooks = try makeWebhooks(configuration, log, logger)
        let state = ServerState(
            webhooks: webhooks, configuration: configuration, log: log, worker: logLoops[2], logger: logger, version: version,
            pages: pages, gate: gate
        )
        (state.presence as? PresenceHub)?.setObserver(webhooks)
        let certificates = configuration.tlsPort == nil ? nil : try TLSContexts(server: configuration.tls)
        let references = try await makeLoops(state, group, preload)
        try await state.readRevocations()
        let server = try await listen(state, group, logGroup, references, certificates)
        if let webhooks { reportRefusals(state, on: references[0].eventLoop) { webhooks.take($0) } }
        if let certificates {
            let interval = TimeAmount.seconds(Int64(configuration.ticketKeySeconds))
            references[0].eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { _ in certificates.ticketKeys.rotate() }
        }
        return server
    }

    static func storeOptions(_ configuration: ServerConfiguration) -> StoreOptions {
        var options = StoreOptions(path: configuration.storePath, durability: configuration.durability, limits: configuration.log)
        options.bootID = SystemCall.bootID()
        return options
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
        _ references: [LoopReference], _ certificates: TLSContexts?
    ) async throws -> Server {
        let configuration = state.configuration
        // Who is behind, or sends large bodies, waits for those who are live.
        for loop in Array(logGroup.makeIterator())[1...] { loop.execute { SystemCall.lowerPriority() } }
        let acceptGroup = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let admission = Admission(eventLoop: acceptGroup.next(), loops: references.count)
        for reference in references { try await reference.eventLoop.submit { reference.value.admission = admission }.get() }
        let bootstrap = { (certificates: TLSContexts?) in
            Self.bootstrap(acceptGroup, group, state, admission, references, certificates)
        }
        var channels: [any Channel] = []
        do {
            channels.append(try await listen(configuration.host, configuration.port, bootstrap(nil)))
            if let tlsPort = configuration.tlsPort {
                channels.append(try await listen(configuration.host, tlsPort, bootstrap(certificates)))
            }
        } catch {
            try? await acceptGroup.shutdownGracefully()
            throw error
        }
        if let certificates {
            for warning in certificates.current.warnings { state.logger.warning("certificate", metadata: ["warning": "\(warning)"]) }
        }
        state.limitConnections()
        state.keySource?.start { [weak state] in state?.setTokens($0) }
        if let canary = state.canary, let address = channels[0].localAddress { canary.start(at: address, state) }
        return Server(
            state: state, group: group, logGroup: logGroup, acceptGroup: acceptGroup, channels: channels, certificates: certificates,
            port: channels[0].localAddress?.port ?? 0,
            tlsPort: channels.count > 1 ? channels[1].localAddress?.port : nil
        )
    }

    static func openGate(_ configuration: ServerConfiguration, _ logger: Logger) async throws -> Gate? {
        let gate = try await Gate.open(configuration.identity)
        for warning in gate?.warnings ?? [] { logger.warning("keys", metadata: ["warning": "\(warning)"]) }
        return gate
    }

    private static func listen(_ host: String, _ port: Int, _ bootstrap: ServerBootstrap) async throws -> any Channel {
        do {
            return try await bootstrap.bind(host: host, port: port).get()
        } catch let error as IOError {
            throw ServerStartFault(description: "cannot listen on \(host):\(port): \(String(cString: strerror(error.errnoCode)))")
        }
    }

    /// How much the kernel keeps for a connection that it has not sent, about (tcp(7), `TCP_NOTSENT_LOWAT`).
    private static let notSentBytes = 128 << 10

    private static func bootstrap(
        _ acceptGroup: MultiThreadedEventLoopGroup, _ group: MultiThreadedEventLoopGroup, _ state: ServerState, _ admission: Admission,
        _ loops: [LoopReference], _ certificates: TLSContexts?
    ) -> ServerBootstrap {
        ServerBootstrap(group: acceptGroup, childGroup: group)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let guardian = AcceptGuard(server: state, admission: admission, isTLS: certificates != nil)
                    try channel.pipeline.syncOperations.addHandler(guardian)
                }
            }
            .serverChannelOption(.backlog, value: 4096)
            // Who comes back with many others is taken up before the queue is full.
            .serverChannelOption(.maxMessagesPerRead, value: 32)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(ChannelOptions.socket(SocketOptionLevel(SOL_SOCKET), SO_REUSEPORT), value: state.neighbours == nil ? 0 : 1)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            // Each idle connection keeps this buffer: larger reads go on in the loop's own.
            .childChannelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 512))
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelInitializer { channel in
                let loop = loops.first { $0.eventLoop === channel.eventLoop }!.value
                return loop.enter().assumeIsolated().flatMapThrowing {
                    try channel.pipeline.syncOperations.addHandler(Connection(loop: loop, tls: certificates?.current))
                    // The kernel may refuse, if the peer has gone.
                    try? channel.syncOptions?.setOption(.tcpOption(.tcp_nodelay), value: 1)
                    // What a slow reader has not been sent waits in the log, not in the kernel.
                    try? channel.syncOptions?.setOption(
                        .tcpOption(NIOBSDSocket.Option(rawValue: TCP_NOTSENT_LOWAT)), value: Self.notSentBytes
                    )
                }.nonisolated()
            }
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
    package func shutDown() async throws {
        state.beginDraining(overMilliseconds: state.configuration.drainSeconds * 1000)
        await state.canary?.stop()
        for channel in channels { try? await channel.close() }
        let spread = state.configuration.drainSeconds * 1000
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
        for reference in state.loops {
            try await reference.eventLoop.submit {
                reference.value.closeAll()
                reference.value.stop()
            }.get()
        }
        state.loops = []
        try await acceptGroup.shutdownGracefully()
        try await group.shutdownGracefully()
        try await logGroup.shutdownGracefully()
    }
}

/// Why a server does not start.
package struct ServerStartFault: Error, CustomStringConvertible {
    package let description: String
}

import Glibc
package import Logging
import NIOCore
import NIOPosix
import NotificationCore
import NotificationStore
import Presence
import TLSEngine

extension Server {
    /// Starts a worker of `ProcessServer`, in a process that it has started.
    ///
    /// - Returns: the worker, which listens, and what the main process wants of it from then on.
    package static func startWorker(
        _ configuration: ServerConfiguration, logger: Logger, version: String, pages: [String: StaticPage] = [:]
    ) async throws -> (server: Server, directions: AsyncStream<WorkerDirection>) {
        // What a terminal tells all of its processes is for the main process.
        for number in [SIGPIPE, SIGINT, SIGHUP] { signal(number, SIG_IGN) }
        ChildProcess.endWithParent()
        guard let newest = SharedNumber(descriptor: ChildProcess.numberDescriptor) else {
            throw ServerStartFault(description: "this is for a server to start, not for its user")
        }
        let logGroup = MultiThreadedEventLoopGroup(numberOfThreads: 3)
        let linkLoop = Array(logGroup.makeIterator())[0]
        let (directions, continuation) = AsyncStream.makeStream(of: WorkerDirection.self)
        let link = try await linkLoop.submit {
            let link = WorkerLink(linkLoop, feeds: configuration.log.feeds, processID: UInt64(getpid()))
            link.onDirection = { continuation.yield($0) }
            return NIOLoopBound(link, eventLoop: linkLoop)
        }.get()
        let opening = try await linkLoop.flatSubmit { link.value.open(ChildProcess.linkDescriptor) }.get()
        do {
            let server = try await startWorker(configuration, logger, version, pages, logGroup, link, opening, newest)
            try await linkLoop.submit { link.value.serve() }.get()
            return (server, directions)
        } catch {
            try? await linkLoop.submit { link.value.channel.send(.failed("\(error)")) }.get()
            // It goes out before this process does.
            try? await linkLoop.scheduleTask(in: .milliseconds(200)) {}.futureResult.get()
            throw error
        }
    }

    private static func startWorker(
        _ configuration: ServerConfiguration, _ logger: Logger, _ version: String, _ pages: [String: StaticPage],
        _ logGroup: MultiThreadedEventLoopGroup, _ link: NIOLoopBound<WorkerLink>, _ opening: WorkerLink.Opening, _ newest: SharedNumber
    ) async throws -> Server {
        let welcome = opening.welcome
        var configuration = configuration
        configuration.port = welcome.port
        configuration.tlsPort = welcome.tlsPort
        let logLoops = Array(logGroup.makeIterator())
        precondition(logLoops[0] === link.eventLoop)
        let log = try SharedLog(
            link, opening, storeOptions(configuration), newest: newest, readerLoop: logLoops[1], logger: logger
        )
        let limits = LimitMemory(
            descriptor: newest.descriptor, offset: SharedNumber.offset, process: welcome.process, processes: configuration.processes
        )
        guard let limits else { throw ServerStartFault(description: "there is no memory to share with other processes") }
        limits.clear()
        let state = ServerState(
            configuration: configuration, log: log, worker: logLoops[2], logger: logger, version: version, pages: pages,
            gate: try await openGate(configuration, logger),
            neighbours: Neighbours(process: welcome.process, processes: configuration.processes, log: log), limitMemory: limits,
            presence: configuration.presence.isOn ? SharedPresence(link) : nil
        )
        let certificates =
            configuration.tlsPort == nil ? nil : try TLSContexts(server: configuration.tls, ticketKeys: ticketKeys(opening.ticketKeys))
        let group = MultiThreadedEventLoopGroup(numberOfThreads: max(1, configuration.loops))
        let references = try await makeLoops(state, group, opening.preload)
        let linkLoop = link.eventLoop
        try await linkLoop.submit {
            link.value.onQuestion = { _, body, reply in state.take(body, on: linkLoop, reply: reply) }
        }.get()
        try await log.begin()
        try await state.readRevocations()
        reportRefusals(state, on: references[0].eventLoop) { log.report($0) }
        return try await listen(state, group, logGroup, references, certificates)
    }

    /// - Parameter random: of each key, the newest first.
    private static func ticketKeys(_ random: [[UInt8]]) -> TicketKeys? {
        let good = random.filter { $0.count == TicketKeys.randomBytes }
        guard let oldest = good.last else { return nil }
        var keys = TicketKeys(random: oldest)
        for key in good.dropLast().reversed() { keys.rotate(random: key) }
        return keys
    }

    /// The keys of session tickets that all processes of a server have from now on.
    package func setTicketKeys(_ random: [[UInt8]]) {
        if let keys = Self.ticketKeys(random) { certificates?.ticketKeys.replace(with: keys) }
    }

    /// The main process has ended: so does this one, if need be by the kernel's hand. To be called when it begins to go.
    package func endSoon() {
        ChildProcess.endAfter(seconds: state.configuration.drainSeconds + 5)
    }

    /// What the main process leaves behind when it is killed: a log that was to be forgotten with it.
    package func removeRemains() {
        guard let log = state.log as? SharedLog, log.isLost else { return }
        log.removeFolder()
    }
}

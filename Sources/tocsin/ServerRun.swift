import ArgumentParser
import Foundation
import Identity
import Logging
import NotificationStore
import ServiceLifecycle
import TocsinServer
import UnixSignals

/// Runs a server until it is told to go: SIGTERM and SIGINT drain it, SIGHUP reads certificates, keys and secrets again.
struct ServerRun {
    let options: ServeOptions
    let processes: Int
    let isConformanceDoorOpen: Bool
    let takesOver: Bool
    let pages: [String: StaticPage]
    let logger: Logger
    /// Told the server when it listens; runs beside it, and is cancelled when it goes.
    let beside: (@Sendable (Server) async throws -> Void)?

    /// Of a server that another one may take over: the numbers of sessions have room for so many in each of the two.
    static let takeoverLoopsMax = 128

    init(
        _ options: ServeOptions, processes: Int = 1, isConformanceDoorOpen: Bool = false, takesOver: Bool = false,
        pages: [String: StaticPage] = [:],
        beside: (@Sendable (Server) async throws -> Void)? = nil
    ) {
        self.options = options
        self.processes = processes
        self.isConformanceDoorOpen = isConformanceDoorOpen
        self.takesOver = takesOver
        self.pages = pages.merging([
            "/tocsin.js": StaticPage(
                contentType: "text/javascript; charset=utf-8", bytes: PackageResources.tocsin_js, isPublic: true
            )
        ]) { $1 }
        self.beside = beside
        LoggingSystem.bootstrap { JSONLogHandler(label: $0) }
        var logger = Logger(label: "tocsin")
        logger.logLevel = Logger.Level(rawValue: options.logLevel) ?? .info
        self.logger = logger
    }

    private func makeConfiguration() throws -> ServerConfiguration {
        let cores = ProcessInfo.processInfo.activeProcessorCount
        var configuration = try options.makeConfiguration(coreCount: max(1, cores / processes))
        configuration.processes = processes
        configuration.isConformanceDoorOpen = isConformanceDoorOpen
        configuration.takesOver = takesOver
        configuration.offersTakeover =
            processes == 1 && configuration.storePath != ":memory:" && configuration.loops <= Self.takeoverLoopsMax
        return configuration
    }

    func run() async throws {
        let configuration = try makeConfiguration()
        let server: Server
        do {
            server = try await Server.start(configuration, logger: logger, version: Tocsin.version, pages: pages)
        } catch {
            throw CommandFailure(description: "the server does not start: \(error)")
        }
        // Who hears that it listens may send the signal at once.
        let hangUps = await UnixSignalsSequence(trapping: .sighup)
        logListening(configuration, port: server.port, tlsPort: server.tlsPort)
        try await serve(ServerService(server: server, logger: logger, hangUps: hangUps, beside: beside))
    }

    /// The main process of several.
    func runProcesses(arguments: [String]) async throws {
        let configuration = try makeConfiguration()
        let server: ProcessServer
        do {
            server = try await ProcessServer.start(configuration, arguments: arguments, logger: logger)
        } catch {
            throw CommandFailure(description: "the server does not start: \(error)")
        }
        let hangUps = await UnixSignalsSequence(trapping: .sighup)
        logListening(configuration, port: server.port, tlsPort: server.tlsPort)
        try await serve(ProcessService(server: server, logger: logger, hangUps: hangUps))
    }

    /// One of the others.
    func runWorker(_ number: Int) async throws {
        var logger = logger
        logger[metadataKey: "process"] = "\(number)"
        let (server, directions) = try await Server.startWorker(
            try makeConfiguration(), logger: logger, version: Tocsin.version, pages: pages)
        try await serve(WorkerService(server: server, directions: directions, logger: logger), signals: [.sigterm])
    }

    private func serve(_ service: some Service, signals: [UnixSignal] = [.sigterm, .sigint]) async throws {
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [
                    ServiceGroupConfiguration.ServiceConfiguration(
                        service: service, successTerminationBehavior: .gracefullyShutdownGroup
                    )
                ],
                gracefulShutdownSignals: signals, logger: Logger(label: "services") { _ in SwiftLogNoOpLogHandler() }
            )
        )
        try await group.run()
    }

    private func logListening(_ configuration: ServerConfiguration, port: Int, tlsPort: Int?) {
        logger.info(
            "listening",
            metadata: [
                "host": "\(configuration.host)", "port": "\(port)", "tls_port": "\(tlsPort.map(String.init) ?? "none")",
                "processes": "\(processes)", "loops": "\(configuration.loops)", "store": "\(configuration.storePath)",
                "durability": "\(configuration.durability.rawValue)", "version": "\(Tocsin.version)",
            ]
        )
        if configuration.identity.isClosed {
            logger.info(
                configuration.identity.access.hasPublic ? "feeds that are not public need a token" : "every request needs a token"
            )
        } else if configuration.host != "127.0.0.1" && configuration.host != "::1" && configuration.host != "localhost" {
            logger.warning("anyone who can reach this address may publish and subscribe")
        } else {
            logger.info("open to anyone on this host: feeds alerts, scores, dashboards")
        }
    }
}

private struct ServerService: Service {
    let server: Server
    let logger: Logger
    let hangUps: UnixSignalsSequence
    let beside: (@Sendable (Server) async throws -> Void)?

    func run() async throws {
        let reloading = Task { for await _ in hangUps { await server.reload(logger) } }
        defer { reloading.cancel() }
        while let milliseconds = await serve() {
            logger.notice("another server has taken over: draining", metadata: ["over_ms": "\(milliseconds)"])
            if try await server.leaveToSuccessor(overMilliseconds: milliseconds) {
                try await server.shutDown(overMilliseconds: 0)
                return logger.info("stopped")
            }
            logger.notice("the other server has ended: this one serves again")
        }
        logger.info("draining")
        try await server.shutDown()
        logger.info("stopped")
    }

    /// Until it is told to go, or another server has taken this one over.
    ///
    /// - Returns: over how many milliseconds the clients are to go to that one; nil: it is told to go.
    private func serve() async -> Int? {
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Int?.self) { group in
                if let beside {
                    group.addTask {
                        do {
                            try await beside(server)
                        } catch is CancellationError {
                        } catch {
                            logger.error("what runs beside the server failed", metadata: ["error": "\(error)"])
                        }
                        return nil
                    }
                }
                group.addTask {
                    for await milliseconds in server.takeovers { return milliseconds }
                    return nil
                }
                group.addTask {
                    try? await Task.sleep(for: .seconds(1 << 40))
                    return nil
                }
                var taken: Int?
                for await milliseconds in group where milliseconds != nil {
                    taken = milliseconds
                    group.cancelAll()
                }
                return taken
            }
        }
    }
}

extension Server {
    fileprivate func reload(_ logger: Logger) async {
        do {
            try reloadCertificates()
            logger.info("certificates read again")
        } catch {
            logger.error("the new certificates are not good, the old ones stay", metadata: ["error": "\(error)"])
        }
        reloadWebhooks()
        do {
            if try await reloadKeys() { logger.info("keys read again") }
        } catch {
            logger.error("the new keys are not good, the old ones stay", metadata: ["error": "\(error)"])
        }
    }
}

/// The main process of several: it passes on what it is told.
private struct ProcessService: Service {
    let server: ProcessServer
    let logger: Logger
    let hangUps: UnixSignalsSequence

    func run() async throws {
        await cancelWhenGracefulShutdown {
            for await _ in hangUps { server.reload() }
        }
        logger.info("draining")
        try await server.shutDown()
        logger.info("stopped")
    }
}

/// A worker: it goes when the main process says so, when that has ended, and when it is told to by a signal.
private struct WorkerService: Service {
    let server: Server
    let directions: AsyncStream<WorkerDirection>
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            for await direction in directions {
                switch direction {
                case .ticketKeys(let keys): server.setTicketKeys(keys)
                case .reload: await server.reload(logger)
                case .drain: return
                case .mainProcessEnded:
                    logger.error("the main process has ended")
                    return
                }
            }
        }
        server.endSoon()
        server.removeRemains()
        try await server.shutDown()
        server.removeRemains()
    }
}

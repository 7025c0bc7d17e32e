import ArgumentParser
import Foundation
import Logging
import NotificationStore
import ServiceLifecycle
import TocsinServer
import UnixSignals

/// Runs a server until it is told to go: SIGTERM and SIGINT drain it, SIGHUP reads certificates and keys again.
struct ServerRun {
    let options: ServeOptions
    let isConformanceDoorOpen: Bool
    let pages: [String: StaticPage]
    let logger: Logger
    /// Told the server when it listens; runs beside it, and is cancelled when it goes.
    let beside: (@Sendable (Server) async throws -> Void)?

    init(
        _ options: ServeOptions, isConformanceDoorOpen: Bool = false, pages: [String: StaticPage] = [:],
        beside: (@Sendable (Server) async throws -> Void)? = nil
    ) {
        self.options = options
        self.isConformanceDoorOpen = isConformanceDoorOpen
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

    func run() async throws {
        var configuration = try options.makeConfiguration(coreCount: ProcessInfo.processInfo.activeProcessorCount)
        configuration.isConformanceDoorOpen = isConformanceDoorOpen
        let server: Server
        do {
            server = try await Server.start(configuration, logger: logger, version: Tocsin.version, pages: pages)
        } catch {
            throw CommandFailure(description: "the server does not start: \(error)")
        }
        logger.info(
            "listening",
            metadata: [
                "host": "\(configuration.host)", "port": "\(server.port)", "tls_port": "\(server.tlsPort.map(String.init) ?? "none")",
                "loops": "\(configuration.loops)", "store": "\(configuration.storePath)",
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
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [ServerService(server: server, logger: logger, beside: beside)], gracefulShutdownSignals: [.sigterm, .sigint],
                logger: Logger(label: "services") { _ in SwiftLogNoOpLogHandler() }
            )
        )
        try await group.run()
    }
}

private struct ServerService: Service {
    let server: Server
    let logger: Logger
    let beside: (@Sendable (Server) async throws -> Void)?

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    for await _ in await UnixSignalsSequence(trapping: .sighup) { await reload() }
                }
                if let beside {
                    group.addTask {
                        do {
                            try await beside(server)
                        } catch is CancellationError {
                        } catch {
                            logger.error("what runs beside the server failed", metadata: ["error": "\(error)"])
                        }
                    }
                }
                group.addTask { try? await Task.sleep(for: .seconds(1 << 40)) }
                await group.waitForAll()
            }
        }
        logger.info("draining")
        try await server.shutDown()
        logger.info("stopped")
    }

    private func reload() async {
        do {
            try server.reloadCertificates()
            logger.info("certificates read again")
        } catch {
            logger.error("the new certificates are not good, the old ones stay", metadata: ["error": "\(error)"])
        }
        do {
            if try await server.reloadKeys() { logger.info("keys read again") }
        } catch {
            logger.error("the new keys are not good, the old ones stay", metadata: ["error": "\(error)"])
        }
    }
}

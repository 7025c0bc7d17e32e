import Glibc
package import Logging
import NIOCore
import NIOPosix
import NotificationCore
import NotificationStore
import Presence
import Synchronization
import TLSEngine

/// A server of several processes: the main process, which has the log and serves nobody, and workers, which serve clients and follow that
/// log. Workers listen to one port, and the kernel spreads the connections over them (SO_REUSEPORT, socket(7)).
package final class ProcessServer: Sendable {
    private let group: MultiThreadedEventLoopGroup
    private let log: EmbeddedLog
    private let hub: NIOLoopBound<ProcessHub>
    private let configuration: ServerConfiguration
    private let folder: String?
    private let webhooks: WebhookService?
    /// Bound as long as this is there.
    private let ports: Ports
    private let keys: Mutex<[[UInt8]]>
    package let port: Int
    package let tlsPort: Int?

    private final class Ports: Sendable {
        let plain: ReservedPort
        let tls: ReservedPort?

        init(_ configuration: ServerConfiguration) throws(ServerStartFault) {
            plain = try ReservedPort(host: configuration.host, port: configuration.port)
            if let port = configuration.tlsPort {
                tls = try ReservedPort(host: configuration.host, port: port)
            } else {
                tls = nil
            }
        }

        var tlsPort: Int? {
            switch tls {
            case .some(let reserved): reserved.port
            case .none: nil
            }
        }
    }

    private init(
        _ configuration: ServerConfiguration, _ group: MultiThreadedEventLoopGroup, _ log: EmbeddedLog, _ hub: NIOLoopBound<ProcessHub>,
        _ ports: Ports, _ folder: String?, _ keys: [[UInt8]], _ webhooks: WebhookService?
    ) {
        self.webhooks = webhooks
        self.configuration = configuration
        self.group = group
        self.log = log
        self.hub = hub
        self.ports = ports
        self.folder = folder
        self.keys = Mutex(keys)
        port = ports.plain.port
        tlsPort = ports.tlsPort
    }

    /// Starts the workers: this program, with `arguments` and the number of a worker's place.
    package static func start(_ configuration: ServerConfiguration, arguments: [String], logger: Logger) async throws -> ProcessServer {
        signal(SIGPIPE, SIG_IGN)
        let ports = try Ports(configuration)
        guard let newest = SharedNumber(room: LimitMemory.bytes(processes: configuration.processes)),
            let limits = LimitMemory(descriptor: newest.descriptor, offset: SharedNumber.offset, processes: configuration.processes)
        else { throw ServerStartFault(description: "there is no memory to share with other processes") }
        limits.writeKey()
        let folder = configuration.storePath == ":memory:" ? try PassingFolder.make() : nil
        // The book of who is on which channels keeps nobody waiting who writes or reads the log, or passes it on.
        let group = MultiThreadedEventLoopGroup(numberOfThreads: configuration.presence.isOn ? 3 : 2)
        do {
            return try await start(configuration, arguments, logger, ports, newest, folder, group)
        } catch {
            if let folder { PassingFolder.remove(folder) }
            try? await group.shutdownGracefully()
            throw error
        }
    }

    private static func start(
        _ configuration: ServerConfiguration, _ arguments: [String], _ logger: Logger, _ ports: Ports, _ newest: SharedNumber,
        _ folder: String?, _ group: MultiThreadedEventLoopGroup
    ) async throws -> ProcessServer {
        let loops = Array(group.makeIterator())
        var options = StoreOptions(
            path: folder.map { $0 + "/log.sqlite" } ?? configuration.storePath, durability: configuration.durability,
            limits: configuration.log
        )
        options.isPassing = folder != nil
        options.outbox = configuration.webhooks?.outbox
        let (log, preload) = try await EmbeddedLog.open(
            options, writerLoop: loops[0], readerLoop: loops[1], logger: logger, onHead: { newest.set($0) }
        )
        let webhooks = try Server.makeWebhooks(configuration, log, logger)
        let welcome = LinkFrame.Welcome(
            process: 0, port: ports.plain.port, tlsPort: ports.tlsPort, path: options.path, folder: folder, epoch: preload.epoch,
            pastEpochs: [:], head: 0, channelCount: 0
        )
        let keys = [newKey()]
        let loop = loops[1]
        let presence = configuration.presence.isOn ? PresenceHub(configuration.presence, eventLoop: loops[2]) : nil
        presence?.setObserver(webhooks)
        let hub = try await loop.submit {
            let settings = ProcessHub.Settings(
                processes: configuration.processes, welcome: welcome, presence: presence.map { (hub: $0, loops: configuration.loops) }
            ) { process throws(SystemFault) in
                try ChildProcess.start(arguments + ["--worker", "\(process)"], number: newest.descriptor)
            }
            return NIOLoopBound(ProcessHub(loop, log, settings, ticketKeys: keys, logger: logger), eventLoop: loop)
        }.get()
        try await loop.submit { hub.value.webhooks = webhooks }.get()
        let server = ProcessServer(configuration, group, log, hub, ports, folder, keys, webhooks)
        do {
            try await loop.flatSubmit { hub.value.start() }.get()
        } catch {
            try? await loop.flatSubmit { hub.value.stop(milliseconds: 2000) }.get()
            await log.close()
            throw error
        }
        let interval = TimeAmount.seconds(Int64(configuration.ticketKeySeconds))
        loop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { _ in server.rotateKeys() }
        return server
    }

    /// Certificates are read again, by every worker; secrets of webhooks, here.
    package func reload() {
        webhooks?.reloadSecrets()
        hub.eventLoop.execute { self.hub.value.reload() }
    }

    /// Workers ask their clients to come back later and go, then the log is closed.
    package func shutDown() async throws {
        let milliseconds = Int64(configuration.drainSeconds) * 1000 + 5000
        try await hub.eventLoop.flatSubmit { self.hub.value.stop(milliseconds: milliseconds) }.get()
        await webhooks?.stop()
        await log.close()
        if let folder { PassingFolder.remove(folder) }
        try await group.shutdownGracefully()
    }

    // MARK: keys of session tickets

    private static func newKey() -> [UInt8] {
        // The system's generator is getrandom(2).
        var generator = Randomness()
        return (0..<TicketKeys.randomBytes).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }

    /// The last one still opens what it has sealed.
    private func rotateKeys() {
        let keys = keys.withLock { keys in
            keys = [Self.newKey()] + keys.prefix(1)
            return keys
        }
        hub.value.setTicketKeys(keys)
    }
}

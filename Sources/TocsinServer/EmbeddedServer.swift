package import Logging
package import NIOCore
package import NotificationCore
package import NotificationStore
import Synchronization
import Transports

/// A server without threads, listeners and sockets: its log, its loops and their connections, on event loops that somebody else runs.
/// For the simulation.
package final class EmbeddedServer {
    package let log: EmbeddedLog
    private let state: ServerState
    private let loops: [ServerLoop]

    /// - Parameters:
    ///   - eventLoops: one for each loop of the server.
    ///   - worker: of large bodies.
    ///   - observer: told every batch, besides the loops. Its number is the next after theirs.
    ///   - newEpoch: of a new log, or of one that may have lost its end.
    ///   - nanoseconds: the clock by which a loop's time is shared out.
    package init(
        _ configuration: ServerConfiguration, _ options: StoreOptions, eventLoops: [any EventLoop], writerLoop: any EventLoop,
        readerLoop: any EventLoop, worker: any EventLoop, observer: any LogFollower, newEpoch: LogEpoch, logger: Logger,
        nanoseconds: @escaping () -> Int64
    ) throws(StoreFault) {
        let (log, preload) = try EmbeddedLog.open(
            options, newEpoch: newEpoch, writerLoop: writerLoop, readerLoop: readerLoop, logger: logger
        )
        self.log = log
        let state = ServerState(
            configuration: configuration, log: log, worker: worker, logger: logger, version: "simulated", pages: [:]
        )
        self.state = state
        loops = eventLoops.enumerated().map { number, eventLoop in
            ServerLoop(number: number, eventLoop: eventLoop, server: state, preload: preload, nanoseconds: nanoseconds)
        }
        for loop in loops {
            log.follow(loop)
            loop.start()
        }
        log.follow(observer)
        state.loops = loops.map { NIOLoopBound($0, eventLoop: $0.eventLoop) }
    }

    /// A connection that has come in on a loop: its only handler.
    package func connect(loop: Int) -> EmbeddedConnection {
        EmbeddedConnection(Connection(loop: loops[loop], tls: nil))
    }

    /// Looks into the log, from outside of all loops.
    package func withStore<Value>(_ body: (NotificationStore) throws(StoreFault) -> Value) throws(StoreFault) -> Value {
        guard let store = log.readable.withLock({ $0 }) else { throw log.fault ?? .io("the log is closed") }
        return try body(store)
    }

    /// By channel, the newest sequence that a loop has applied.
    package func applied(loop: Int) -> [(channel: ChannelName, sequence: UInt64)] {
        loops[loop].hub.tail.channels.map { ($0.name, $0.lastSequence) }
    }

    /// The process is gone.
    package func abandon() {
        log.abandon()
        for loop in loops { loop.stop() }
        state.loops = []
    }
}

/// A connection of an embedded server, as seen by those who look on.
package final class EmbeddedConnection {
    private let connection: Connection

    fileprivate init(_ connection: Connection) {
        self.connection = connection
    }

    package var handler: any ChannelHandler & ChannelInboundHandler { connection }

    /// Whether each of its subscribers, in the order of its subscriptions, has begun to read, and whether it is handed what comes at once.
    package var readers: [(hasBegun: Bool, isLive: Bool)] {
        let ids: [SubscriberID] =
            switch connection.state {
            case .webSocket(let session): session.adapter.subscribers
            case .eventStream(let session): session.subscribers
            case .http1(let exchange): exchange.poll?.subscribers ?? []
            case .http2(let exchange): exchange.streams.keys.sorted().flatMap { exchange.streams[$0]!.subscribers }
            case .sniffing, .lingering, .closed: []
            }
        let hub = connection.loop.hub
        return ids.filter { hub.isCurrent($0) }.map { (hub.readingState(of: $0).hasBegun, hub.isLive($0)) }
    }
}

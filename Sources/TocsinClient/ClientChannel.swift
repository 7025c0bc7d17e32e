import HTTPTypes
import NIOCore
import NIOPosix
import Synchronization
import TLSEngine
import WebSocketCodec

/// A connection, and the queue of what comes over it.
final class ClientChannel: Sendable {
    /// A few of the largest reads.
    private static let queuedBytesMax = 256 << 10

    private let queue: BoundedQueue<ArrivedEvent>
    private let connection: NIOLoopBound<ClientConnection>
    private let channel: any Channel
    private let reading: ReadingSwitch

    private init(
        queue: BoundedQueue<ArrivedEvent>, connection: NIOLoopBound<ClientConnection>, channel: any Channel, reading: ReadingSwitch
    ) {
        self.queue = queue
        self.reading = reading
        self.connection = connection
        self.channel = channel
    }

    deinit {
        reading.clear()
        channel.close(promise: nil)
    }

    /// - Parameter isTunneled: a WebSocket, which a proxy carries in a tunnel only.
    static func open(_ configuration: ClientConfiguration, _ tls: TLSContext?, isTunneled: Bool = false) async throws -> ClientChannel {
        let address = configuration.address
        var route = ClientConnection.Route()
        if configuration.proxy != nil {
            if isTunneled || address.isTLS {
                route.tunnel = address.tunnelAuthority
            } else {
                route.absolutePrefix = "http://\(address.authority)"
            }
        }
        let peer = configuration.proxy ?? address
        let reading = ReadingSwitch()
        let queue = BoundedQueue<ArrivedEvent>(weightMax: queuedBytesMax) { reading.resume() }
        let channel: any Channel
        do {
            channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(.seconds(5))
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                .channelOption(.autoRead, value: false)
                .channelInitializer { [route] channel in
                    channel.eventLoop.makeCompletedFuture {
                        let engine = tls.map { TLSEngine(client: $0, serverName: address.host) }
                        try channel.pipeline.syncOperations.addHandler(ClientConnection(tls: engine, route: route, queue: queue))
                    }
                }
                .connect(host: peer.host, port: peer.port).get()
        } catch {
            throw ClientFault("cannot reach \(peer): \(error)")
        }
        let connection = try await channel.eventLoop.submit {
            NIOLoopBound(try channel.pipeline.syncOperations.handler(type: ClientConnection.self), eventLoop: channel.eventLoop)
        }.get()
        reading.set(connection, channel.eventLoop)
        return ClientChannel(queue: queue, connection: connection, channel: channel, reading: reading)
    }

    /// - Returns: nil at the end, and when the task is cancelled.
    func next() async -> ArrivedEvent? {
        try? await queue.next()
    }

    func send(_ request: HTTPRequest, body: [UInt8] = []) {
        onLoop { $0.send(request, body: body) }
    }

    func send(_ opcode: WebSocketOpcode, _ payload: [UInt8]) {
        onLoop { $0.send(opcode, payload) }
    }

    func watchLateness() {
        onLoop { $0.watchLateness() }
    }

    func close() {
        onLoop { $0.close() }
    }

    private func onLoop(_ body: @escaping @Sendable (ClientConnection) -> Void) {
        let connection = connection
        channel.eventLoop.execute { body(connection.value) }
    }
}

/// The way from a queue back to the connection that fills it.
private final class ReadingSwitch: Sendable {
    private let connection = Mutex<(NIOLoopBound<ClientConnection>, any EventLoop)?>(nil)

    func set(_ connection: NIOLoopBound<ClientConnection>, _ loop: any EventLoop) {
        self.connection.withLock { $0 = (connection, loop) }
    }

    func clear() {
        connection.withLock { $0 = nil }
    }

    func resume() {
        guard let (connection, loop) = connection.withLock({ $0 }) else { return }
        loop.execute { connection.value.resume() }
    }
}

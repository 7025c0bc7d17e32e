import NIOCore
import NIOPosix
import Synchronization

/// A bad network for the demo: a TCP relay in front of the server that refuses upgrades, holds back, cuts or drops, as it is told.
///
///     POST /fault/MODE on its own port sets the mode; everything else goes to the server.
final class FaultRelay: Sendable {
    enum Mode: String, Sendable, CaseIterable {
        /// Bytes go both ways as they come.
        case clear
        /// Upgrades are answered with 403; WebSockets that are open are closed.
        case refuse
        /// What the server says is held until an answer of known length is whole, or 16 KiB of another are together, or it ends.
        case buffer
        /// Every connection is closed when it is 5 seconds old.
        case cut
        /// No byte goes either way, and nobody is told. Connections that lost some are closed when the mode ends.
        case drop
    }

    static let bufferBytes = 16 << 10
    /// Clients take what lives 5 seconds for good enough to come back to (Docs/fallback.md); this is to be seen as worse.
    static let cutAfter = TimeAmount.seconds(5)

    private let current = Mutex(Mode.clear)
    private let connections = Mutex<[ObjectIdentifier: any Channel]>([:])
    private let port: Int

    /// - Parameter port: of the server, on this host.
    init(to port: Int) {
        self.port = port
    }

    var mode: Mode { current.withLock { $0 } }

    /// - Parameter answer: says so to who asked for it. It holds by then, and connections that it ends are ended after that.
    func set(_ mode: Mode, answer: () -> Void) {
        current.withLock { $0 = mode }
        answer()
        for channel in connections.withLock({ Array($0.values) }) { channel.pipeline.fireUserInboundEventTriggered(mode) }
    }

    /// - Parameter ports: which to try, best first.
    /// - Returns: the listener, which has to be closed, and its port.
    func listen(_ host: String, _ ports: [Int]) async throws -> (channel: any Channel, port: Int) {
        for port in ports.dropLast() {
            if let listener = try? await listen(host, port) { return listener }
        }
        return try await listen(host, ports.last ?? 0)
    }

    private func listen(_ host: String, _ port: Int) async throws -> (channel: any Channel, port: Int) {
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelInitializer { [self] channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(FaultConnection(self, server: self.port))
                }
            }
            .bind(host: host, port: port).get()
        return (channel, channel.localAddress?.port ?? port)
    }

    fileprivate func add(_ channel: any Channel) {
        connections.withLock { $0[ObjectIdentifier(channel)] = channel }
    }

    fileprivate func remove(_ channel: any Channel) {
        _ = connections.withLock { $0.removeValue(forKey: ObjectIdentifier(channel)) }
    }
}

/// One connection of a client, and the one to the server that belongs to it.
private final class FaultConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private enum State {
        /// Of the first request no whole head has come.
        case head
        /// The connection to the server is being made.
        case connecting
        case open(any Channel)
        case over
    }

    private static let headBytesMax = 16 << 10
    private static let answerBytesMax = 4 << 20
    private static let command = "post /fault/"

    private let relay: FaultRelay
    private let serverPort: Int
    private var context: ChannelHandlerContext?
    private var state = State.head
    /// What came before the connection to the server was there.
    private var early = ByteBuffer()
    /// What the server said and is held back.
    private var held = ByteBuffer()
    private var isUpgrade = false
    private var hasLost = false

    init(_ relay: FaultRelay, server port: Int) {
        self.relay = relay
        serverPort = port
    }

    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        relay.add(context.channel)
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: FaultRelay.cutAfter) { bound.value.onAge() }
    }

    func channelInactive(context: ChannelHandlerContext) {
        relay.remove(context.channel)
        close()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        close()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let mode = event as? FaultRelay.Mode {
            if hasLost && mode != .drop || isUpgrade && mode == .refuse { return close() }
            if mode != .buffer, mode != .drop { passOn() }
        } else if let half = event as? ChannelEvent, half == .inputClosed, relay.mode != .drop, case .open(let server) = state {
            server.close(mode: .output, promise: nil)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        switch state {
        case .over: return
        case .head, .connecting: early.writeBuffer(&bytes)
        case .open(let server):
            // A browser may say it on a connection that has carried other requests; it begins a read then.
            let start = String(buffer: bytes.getSlice(at: bytes.readerIndex, length: min(bytes.readableBytes, 64)) ?? bytes).lowercased()
            if start.hasPrefix(Self.command) { return setMode(start) }
            if relay.mode == .drop { hasLost = true } else { server.writeAndFlush(bytes, promise: nil) }
        }
        guard case .head = state else { return }
        let text = String(buffer: early).lowercased()
        guard text.contains("\r\n\r\n") else {
            if early.readableBytes > Self.headBytesMax { close() }
            return
        }
        if text.hasPrefix(Self.command) { return setMode(text) }
        if relay.mode == .drop { return hasLost = true }
        isUpgrade = text.contains("upgrade: websocket")
        if isUpgrade, relay.mode == .refuse { return answer("403 Forbidden") }
        connect(context)
    }

    private func setMode(_ text: String) {
        let name = text.dropFirst(Self.command.count).prefix { $0 != " " && $0 != "?" }
        guard let mode = FaultRelay.Mode(rawValue: String(name)) else { return answer("404 Not Found") }
        relay.set(mode) { answer("204 No Content") }
    }

    private func answer(_ status: String) {
        guard let context else { return }
        endServer()
        let head = "HTTP/1.1 \(status)\r\nContent-Length: 0\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n"
        let channel = context.channel
        context.writeAndFlush(NIOAny(context.channel.allocator.buffer(string: head))).whenComplete { _ in channel.close(promise: nil) }
    }

    private func connect(_ context: ChannelHandlerContext) {
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        state = .connecting
        context.channel.setOption(.autoRead, value: false).whenFailure { _ in }
        ClientBootstrap(group: context.eventLoop)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(FaultAnswers(bound.value))
                }
            }
            .connect(host: "127.0.0.1", port: serverPort)
            .whenComplete { result in bound.value.onConnected(try? result.get()) }
    }

    private func onConnected(_ channel: (any Channel)?) {
        guard let channel, let context, case .connecting = state else {
            channel?.close(promise: nil)
            return close()
        }
        state = .open(channel)
        channel.writeAndFlush(early, promise: nil)
        early.clear()
        context.channel.setOption(.autoRead, value: true).whenFailure { _ in }
    }

    /// The server says something.
    func receive(_ bytes: ByteBuffer) {
        var bytes = bytes
        switch relay.mode {
        case .drop: hasLost = true
        case .buffer:
            held.writeBuffer(&bytes)
            let wanted = wholeAnswer ?? FaultRelay.bufferBytes
            if wanted > Self.answerBytesMax { close() } else if held.readableBytes >= wanted { passOn() }
        case .clear, .refuse, .cut:
            held.writeBuffer(&bytes)
            passOn()
        }
    }

    /// How many bytes the held answer has with its head, if it begins here and says so.
    private var wholeAnswer: Int? {
        let text = held.readableBytesView.prefix(Self.headBytesMax)
        guard text.starts(with: "HTTP/1.1 ".utf8), let end = text.firstRange(of: "\r\n\r\n".utf8)?.upperBound else { return nil }
        let head = String(decoding: text[..<end], as: UTF8.self).lowercased()
        let bytes = end - text.startIndex
        if ["204", "304"].contains(head.dropFirst(9).prefix(3)) { return bytes }
        guard let name = head.firstRange(of: "\r\ncontent-length:") else { return nil }
        return Int(head[name.upperBound...].drop { $0 == " " }.prefix { $0.isNumber }).map { bytes + $0 }
    }

    func onServerEnd() {
        guard case .open = state else { return }
        if relay.mode == .drop { return hasLost = true }
        passOn()
        context?.close(mode: .output, promise: nil)
    }

    private func passOn() {
        guard held.readableBytes > 0, let context else { return }
        context.writeAndFlush(NIOAny(held), promise: nil)
        held.clear()
    }

    private func onAge() {
        guard let context else { return }
        if relay.mode == .cut { return close() }
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: .seconds(1)) { bound.value.onAge() }
    }

    private func close() {
        context?.close(promise: nil)
        context = nil
        endServer()
    }

    private func endServer() {
        let last = state
        state = .over
        if case .open(let server) = last { server.close(promise: nil) }
    }
}

/// The server's side.
private final class FaultAnswers: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let connection: FaultConnection

    init(_ connection: FaultConnection) {
        self.connection = connection
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        connection.receive(unwrapInboundIn(data))
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let half = event as? ChannelEvent, half == .inputClosed { connection.onServerEnd() }
    }

    func channelInactive(context: ChannelHandlerContext) {
        connection.onServerEnd()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}

import HTTP1Codec
import HTTPTypes
import NIOCore
import NIOPosix
import TLSEngine
import WebSocketCodec

/// What comes from a server over one connection.
enum ClientEvent: Sendable {
    case head(HTTPResponse)
    case body([UInt8])
    case end
    case webSocket(WebSocketEvent)
    case closed(ClientFault?)
}

/// One connection of a client: HTTP/1.1, and WebSocket after an upgrade, with or without TLS. It only carries; what it means is the
/// reader's business.
final class ClientConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let tls: TLSEngine?
    private let onEvent: (ClientEvent) -> Void
    private var parser = HTTP1ResponseParser(requestMethod: .get)
    private var webSocket: WebSocketDecoder?
    private var context: ChannelHandlerContext?
    /// Waits for the handshake.
    private var unsent: [UInt8] = []
    private var isDone = false

    init(tls: TLSEngine?, onEvent: @escaping (ClientEvent) -> Void) {
        self.tls = tls
        self.onEvent = onEvent
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func channelActive(context: ChannelHandlerContext) {
        guard let tls else { return }
        var outgoing: [UInt8] = []
        do throws(TLSFault) {
            try tls.startHandshake(outgoing: &outgoing)
        } catch {
            return finish(ClientFault("TLS: \(error)", isFinal: true))
        }
        transmit(outgoing)
    }

    func channelInactive(context: ChannelHandlerContext) {
        if webSocket == nil, let event = try? parser.connectionClosed(), case .end = event { onEvent(.end) }
        finish(nil)
        self.context = nil
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        finish(ClientFault("\(error)"))
    }

    func send(_ request: HTTPRequest, body: [UInt8]) {
        if parser.isComplete { parser.nextResponse(to: request.method) }
        var out: [UInt8] = []
        HTTP1RequestEncoder.head(
            request, framing: body.isEmpty && request.method == .get ? .none : .length(body.count), into: &out
        )
        write(out + body)
    }

    func send(_ opcode: WebSocketOpcode, _ payload: [UInt8]) {
        var out: [UInt8] = []
        WebSocketEncoder.maskedFrame(opcode, payload: payload, maskingKey: .random(in: .min ... .max), into: &out)
        write(out)
    }

    func close() {
        context?.close(promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var buffer = unwrapInboundIn(data)
        guard let tls else { return buffer.withUnsafeMutableReadableBytes { receive($0) } }
        var plain: [UInt8] = []
        var outgoing: [UInt8] = []
        do throws(TLSFault) {
            var fault: TLSFault?
            buffer.withUnsafeReadableBytes { bytes in
                do throws(TLSFault) { try tls.receive(bytes, plaintext: &plain, outgoing: &outgoing) } catch { fault = error }
            }
            if let fault { throw fault }
        } catch {
            transmit(outgoing)
            return finish(ClientFault("TLS: \(error)", isFinal: !tls.isEstablished))
        }
        transmit(outgoing)
        if tls.isEstablished, !unsent.isEmpty {
            let waiting = unsent
            unsent = []
            write(waiting)
        }
        if !plain.isEmpty { plain.withUnsafeMutableBytes { receive($0) } }
    }

    private func receive(_ bytes: UnsafeMutableRawBufferPointer) {
        var consumed = 0
        while !isDone {
            let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[consumed...])
            var taken = 0
            if webSocket != nil {
                do throws(WebSocketFault) {
                    let event = try webSocket!.next(rest, consumed: &taken)
                    consumed += taken
                    guard let event else { return }
                    onEvent(.webSocket(event))
                } catch {
                    return finish(ClientFault("WebSocket: \(error.reason)"))
                }
            } else {
                do throws(HTTP1Fault) {
                    let event = try parser.next(UnsafeRawBufferPointer(rest), consumed: &taken)
                    consumed += taken
                    guard let event else { return }
                    handle(event, rest)
                } catch {
                    return finish(ClientFault("HTTP: \(error.detail)"))
                }
            }
        }
    }

    private func handle(_ event: HTTP1ResponseEvent, _ input: UnsafeMutableRawBufferPointer) {
        switch event {
        case .head(let head):
            if head.response.status.code == 101 {
                webSocket = WebSocketDecoder(role: .client, limits: WebSocketLimits(messageBytesMax: 16 << 20))
            }
            onEvent(.head(head.response))
        case .body(let range):
            onEvent(.body(Array(input[range])))
        case .end:
            onEvent(.end)
        }
    }

    private func write(_ bytes: [UInt8]) {
        guard let tls else { return transmit(bytes) }
        guard tls.isEstablished else {
            unsent += bytes
            return
        }
        var outgoing: [UInt8] = []
        bytes.withUnsafeBytes { try? tls.send($0, outgoing: &outgoing) }
        transmit(outgoing)
    }

    private func transmit(_ bytes: [UInt8]) {
        guard !bytes.isEmpty, let context else { return }
        context.writeAndFlush(NIOAny(context.channel.allocator.buffer(bytes: bytes)), promise: nil)
    }

    private func finish(_ fault: ClientFault?) {
        guard !isDone else { return }
        isDone = true
        onEvent(.closed(fault))
        context?.close(promise: nil)
    }
}

/// A connection as an asynchronous sequence of its events.
struct ClientChannel: Sendable {
    let events: AsyncStream<ClientEvent>
    private let connection: NIOLoopBound<ClientConnection>
    private let channel: any Channel

    static func open(_ configuration: ClientConfiguration, _ tls: TLSContext?) async throws -> ClientChannel {
        let (events, continuation) = AsyncStream.makeStream(of: ClientEvent.self)
        let address = configuration.address
        let channel: any Channel
        do {
            channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(.seconds(5))
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let engine = tls.map { TLSEngine(client: $0, serverName: address.host) }
                        let connection = ClientConnection(tls: engine) { event in
                            continuation.yield(event)
                            if case .closed = event { continuation.finish() }
                        }
                        try channel.pipeline.syncOperations.addHandler(connection)
                    }
                }
                .connect(host: address.host, port: address.port).get()
        } catch {
            throw ClientFault("cannot reach \(address): \(error)")
        }
        let connection = try await channel.eventLoop.submit {
            NIOLoopBound(try channel.pipeline.syncOperations.handler(type: ClientConnection.self), eventLoop: channel.eventLoop)
        }.get()
        return ClientChannel(events: events, connection: connection, channel: channel)
    }

    func send(_ request: HTTPRequest, body: [UInt8] = []) {
        channel.eventLoop.execute { connection.value.send(request, body: body) }
    }

    func send(_ opcode: WebSocketOpcode, _ payload: [UInt8]) {
        channel.eventLoop.execute { connection.value.send(opcode, payload) }
    }

    func close() {
        channel.eventLoop.execute { connection.value.close() }
    }
}

import HTTP1Codec
import HTTPTypes
import NIOCore
import TLSEngine
import WebSocketCodec

/// What comes from a server over one connection.
enum ClientEvent: Sendable {
    case head(HTTPResponse, keepsAlive: Bool)
    case body([UInt8])
    case end
    case webSocket(WebSocketEvent)
    case closed(ClientFault?)

    /// What it counts for in a queue.
    var weight: Int {
        switch self {
        case .body(let bytes), .webSocket(.text(let bytes)), .webSocket(.binary(let bytes)): 64 + bytes.count
        case .head, .end, .webSocket, .closed: 64
        }
    }
}

/// An event, and when its bytes came, as far as that is the network's doing and not this program's.
struct ArrivedEvent: Sendable {
    var event: ClientEvent
    var at: ContinuousClock.Instant
}

/// One connection of a client: HTTP/1.1, and WebSocket after an upgrade, with or without TLS, and through a tunnel if a proxy is to
/// make one. It only carries; what it means is the reader's business. It reads from the socket while there is room in the queue.
///
///     [tunnel: CONNECT] -> [TLS handshake] -> HTTP/1.1 -> [WebSocket]
final class ClientConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    /// How the server is reached.
    struct Route {
        /// The authority for CONNECT.
        var tunnel: String?
        /// What stands before a path when a proxy is asked for it.
        var absolutePrefix = ""
    }

    /// A stream has no end, so its body has no limit; who collects a body sees to its own.
    private static let limits = HTTP1Limits(bodyBytesMax: .max)
    /// A message of 1 MiB, a digest of a hundred of them among the largest that a server makes.
    private static let messageBytesMax = 128 << 20
    private static let watchInterval = TimeAmount.milliseconds(50)
    /// Longer than the probes of the server take.
    private static let watchTurns = 100

    private let tls: TLSEngine?
    private let route: Route
    private let queue: BoundedQueue<ArrivedEvent>
    private var tunnelParser: HTTP1ResponseParser?
    private var parser = HTTP1ResponseParser(limits: ClientConnection.limits, requestMethod: .get)
    private var webSocket: WebSocketDecoder?
    private var context: ChannelHandlerContext?
    /// Waits for the tunnel and the handshake.
    private var unsent: [UInt8] = []
    private var isDone = false
    /// Nothing is read until the queue has room.
    private var isPaused = false
    private var arrival = ContinuousClock.now
    /// When the event loop took its last turn, while it is watched.
    private var lastTurn: ContinuousClock.Instant?

    init(tls: TLSEngine?, route: Route, queue: BoundedQueue<ArrivedEvent>) {
        self.tls = tls
        self.route = route
        self.queue = queue
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func channelActive(context: ChannelHandlerContext) {
        if let authority = route.tunnel {
            tunnelParser = HTTP1ResponseParser(limits: Self.limits, requestMethod: .connect)
            var out: [UInt8] = []
            let request = HTTPRequest(method: .connect, scheme: nil, authority: authority, path: nil)
            HTTP1RequestEncoder.head(request, framing: .none, into: &out)
            transmit(out)
        } else {
            begin()
        }
        context.read()
    }

    /// There is a way to the server.
    private func begin() {
        guard let tls else { return flushUnsent() }
        var outgoing: [UInt8] = []
        do throws(TLSFault) {
            try tls.startHandshake(outgoing: &outgoing)
        } catch {
            return finish(ClientFault("TLS: \(error)"))
        }
        transmit(outgoing)
    }

    func channelInactive(context: ChannelHandlerContext) {
        if webSocket == nil, tunnelParser == nil, let event = try? parser.connectionClosed(), case .end = event { report(.end) }
        finish(nil)
        self.context = nil
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        finish(ClientFault("\(error)"))
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if queue.hasRoom { context.read() } else { isPaused = true }
    }

    /// The queue has room again.
    func resume() {
        guard isPaused else { return }
        isPaused = false
        context?.read()
    }

    /// Watches for some seconds whether this event loop is late itself, so that a busy machine is not taken for a slow network.
    func watchLateness() {
        guard let context else { return }
        watchTurn(context.eventLoop.assumeIsolated(), left: Self.watchTurns)
    }

    private func watchTurn(_ loop: NIOIsolatedEventLoop, left: Int) {
        guard left > 0, !isDone else {
            lastTurn = nil
            return
        }
        lastTurn = .now
        loop.scheduleTask(in: Self.watchInterval) { self.watchTurn(loop, left: left - 1) }
    }

    private func noteArrival() {
        arrival = .now
        guard let lastTurn, arrival - lastTurn > .milliseconds(100) else { return }
        arrival = lastTurn + .milliseconds(50)
    }

    private func report(_ event: ClientEvent) {
        queue.push(ArrivedEvent(event: event, at: arrival), weight: event.weight)
    }

    // MARK: sending

    func send(_ request: HTTPRequest, body: [UInt8]) {
        if parser.isComplete { parser.nextResponse(to: request.method) }
        var out: [UInt8] = []
        HTTP1RequestEncoder.head(
            request, framing: body.isEmpty && request.method == .get ? .none : .length(body.count), into: &out
        )
        if !route.absolutePrefix.isEmpty {
            out.insert(contentsOf: route.absolutePrefix.utf8, at: request.method.rawValue.utf8.count + 1)
        }
        write(out + body)
    }

    func send(_ opcode: WebSocketOpcode, _ payload: [UInt8]) {
        guard webSocket != nil else { return }
        var out: [UInt8] = []
        WebSocketEncoder.maskedFrame(opcode, payload: payload, maskingKey: .random(in: .min ... .max), into: &out)
        write(out)
    }

    func close() {
        context?.close(promise: nil)
    }

    private func write(_ bytes: [UInt8]) {
        if tunnelParser != nil || context?.channel.isActive != true || tls?.isEstablished == false {
            unsent += bytes
            return
        }
        guard let tls else { return transmit(bytes) }
        var outgoing: [UInt8] = []
        bytes.withUnsafeBytes { try? tls.send($0, outgoing: &outgoing) }
        transmit(outgoing)
    }

    private func flushUnsent() {
        let waiting = unsent
        unsent = []
        if !waiting.isEmpty { write(waiting) }
    }

    private func transmit(_ bytes: [UInt8]) {
        guard !bytes.isEmpty, let context else { return }
        context.writeAndFlush(NIOAny(context.channel.allocator.buffer(bytes: bytes)), promise: nil)
    }

    private func finish(_ fault: ClientFault?) {
        guard !isDone else { return }
        isDone = true
        report(.closed(fault))
        queue.finish()
        context?.close(promise: nil)
    }
}

// MARK: - Reading

extension ClientConnection {
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        noteArrival()
        var buffer = unwrapInboundIn(data)
        buffer.withUnsafeMutableReadableBytes { bytes in
            var rest = bytes
            if tunnelParser != nil {
                rest = UnsafeMutableRawBufferPointer(rebasing: bytes[readTunnel(UnsafeRawBufferPointer(bytes))...])
            }
            guard tunnelParser == nil, !isDone, !rest.isEmpty else { return }
            if let tls { decrypt(UnsafeRawBufferPointer(rest), tls) } else { receive(rest) }
        }
    }

    /// - Returns: how many bytes belong to the proxy's answer.
    private func readTunnel(_ bytes: UnsafeRawBufferPointer) -> Int {
        var consumed = 0
        do throws(HTTP1Fault) {
            guard case .head(let head) = try tunnelParser!.next(bytes, consumed: &consumed) else { return consumed }
            let status = head.response.status
            guard (200..<300).contains(status.code) else {
                finish(ClientFault("the proxy answered \(status.code) \(status.reasonPhrase)"))
                return bytes.count
            }
            tunnelParser = nil
            begin()
        } catch {
            finish(ClientFault("the proxy's answer: \(error.detail)"))
        }
        return consumed
    }

    private func decrypt(_ bytes: UnsafeRawBufferPointer, _ tls: TLSEngine) {
        var plain: [UInt8] = []
        var outgoing: [UInt8] = []
        let wasEstablished = tls.isEstablished
        do throws(TLSFault) {
            try tls.receive(bytes, plaintext: &plain, outgoing: &outgoing)
        } catch {
            transmit(outgoing)
            return finish(ClientFault("TLS: \(error)"))
        }
        transmit(outgoing)
        if !wasEstablished, tls.isEstablished { flushUnsent() }
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
                    report(.webSocket(event))
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
                webSocket = WebSocketDecoder(role: .client, limits: WebSocketLimits(messageBytesMax: Self.messageBytesMax))
            }
            report(.head(head.response, keepsAlive: head.keepAlive))
        case .body(let range):
            report(.body(Array(input[range])))
        case .end:
            report(.end)
        }
    }
}

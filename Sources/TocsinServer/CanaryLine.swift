import Glibc
import HTTP1Codec
import HTTPTypes
import NIOCore
import NIOPosix
import Transports
import WebSocketCodec

/// One of the canary's subscribers: a client on a socket of its own, which connects again whenever it has to. It lives on the canary's
/// thread.
final class CanaryLine {
    /// Refused by another process: the next connection may come to this one.
    private static let elsewhereMilliseconds: Int64 = 10
    private static let againMilliseconds: Int64 = 250

    let transport: Transport
    private let target: String
    private let preface: String
    private let place: SocketAddress
    private let eventLoop: any EventLoop
    private let onEnd: (SocketAddress) -> Void
    private let onNumber: (UInt64) -> Void
    private var reader: CanaryReader?
    private var isStopped = false
    /// Seconds since it began to connect.
    private var age = 0

    /// - Parameters:
    ///   - preface: what the server wants to hear before a request.
    ///   - onEnd: called with its own end of a connection, before it is opened.
    init(
        _ transport: Transport, target: String, preface: String, _ place: SocketAddress, _ eventLoop: any EventLoop,
        onEnd: @escaping (SocketAddress) -> Void, onNumber: @escaping (UInt64) -> Void
    ) {
        self.transport = transport
        self.target = target
        self.preface = preface
        self.onEnd = onEnd
        self.place = place
        self.eventLoop = eventLoop
        self.onNumber = onNumber
    }

    func connect() {
        guard !isStopped else { return }
        age = 0
        let reader = CanaryReader(transport, target: target, preface: preface, onNumber: onNumber)
        self.reader = reader
        let bound = NIOLoopBound((self, reader), eventLoop: eventLoop)
        var own = place
        own.port = 0
        ClientBootstrap(group: eventLoop)
            .bind(to: own)
            .connectTimeout(.seconds(1))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandlers([CanaryEnd(bound.value.0.onEnd), bound.value.1])
                }
            }
            .connect(to: place)
            .flatMap { $0.closeFuture }
            .whenComplete { _ in
                let (line, reader) = bound.value
                line.ended(reader)
            }
    }

    private func ended(_ ended: CanaryReader) {
        guard ended === reader, !isStopped else { return }
        reader = nil
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        let delay = ended.isRefused ? Self.elsewhereMilliseconds : Self.againMilliseconds
        eventLoop.scheduleTask(in: .milliseconds(delay)) { bound.value.connect() }
    }

    /// Once a second: a connection that brings nothing is given up for another.
    func tend(isLate: Bool) {
        age += 1
        if isLate, age > 3 { reader?.close() }
    }

    func stop() {
        isStopped = true
        reader?.close()
        reader = nil
    }
}

/// Says which end of a connection is its own, when it has one and the server cannot have seen it.
private final class CanaryEnd: ChannelOutboundHandler {
    typealias OutboundIn = ByteBuffer

    private let onEnd: (SocketAddress) -> Void

    init(_ onEnd: @escaping (SocketAddress) -> Void) {
        self.onEnd = onEnd
    }

    func connect(context: ChannelHandlerContext, to address: SocketAddress, promise: EventLoopPromise<Void>?) {
        if let own = context.localAddress { onEnd(own) }
        context.connect(to: address, promise: promise)
    }
}

/// Reads what the server sends to a line, and asks for more where the transport wants it.
private final class CanaryReader: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let transport: Transport
    private let target: String
    private let preface: String
    private let onNumber: (UInt64) -> Void
    private var parser = HTTP1ResponseParser(limits: CanaryReader.limits, requestMethod: .get)
    private var decoder: WebSocketDecoder?
    /// Of an answer, or of a stream, what has not been looked at.
    private var text: [UInt8] = []
    private var context: ChannelHandlerContext?
    /// The server did not let it subscribe.
    private(set) var isRefused = false

    private static var limits: HTTP1Limits {
        var limits = HTTP1Limits()
        limits.bodyBytesMax = .max
        return limits
    }
    private static let textBytesMax = 64 << 10

    init(_ transport: Transport, target: String, preface: String, onNumber: @escaping (UInt64) -> Void) {
        self.transport = transport
        self.target = target
        self.preface = preface
        self.onNumber = onNumber
    }

    func close() { context?.close(promise: nil) }

    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        if !preface.isEmpty { send(Array(preface.utf8)) }
        ask(after: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.context = nil
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private func ask(after: String?) {
        var head = "GET \(target)\(after.map { "&after=" + $0 } ?? "") HTTP/1.1\r\nHost: localhost\r\n"
        switch transport {
        case .webSocket:
            head +=
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dG9jc2luLWNhbmFyeS0wMQ==\r\nSec-WebSocket-Version: 13\r\n"
        case .eventStream: head += "Accept: text/event-stream\r\n"
        case .longPoll: break
        }
        send(Array((head + "\r\n").utf8))
    }

    private func send(_ bytes: [UInt8]) {
        guard let context else { return }
        context.writeAndFlush(NIOAny(context.channel.allocator.buffer(bytes: bytes)), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = [UInt8](unwrapInboundIn(data).readableBytesView)
        do {
            try bytes.withUnsafeMutableBytes { try read($0) }
        } catch {
            close()
        }
    }

    private func read(_ bytes: UnsafeMutableRawBufferPointer) throws {
        var at = 0
        while decoder == nil {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[at...])
            var consumed = 0
            guard let event = try parser.next(rest, consumed: &consumed) else { return }
            at += consumed
            switch event {
            case .head(let head):
                guard head.response.status.code == (transport == .webSocket ? 101 : 200) else {
                    isRefused = true
                    return close()
                }
                if transport == .webSocket { decoder = WebSocketDecoder(role: .client) }
            case .body(let range):
                text.append(contentsOf: rest[range])
                if transport == .eventStream { readStream() }
                if text.count > Self.textBytesMax { return close() }
            case .end:
                guard transport == .longPoll else { return close() }
                readAnswer()
            }
        }
        while at < bytes.count {
            var consumed = 0
            let event = try decoder!.next(UnsafeMutableRawBufferPointer(rebasing: bytes[at...]), consumed: &consumed)
            at += consumed
            switch event {
            case .text(let message): CanaryText.numbers(in: message).forEach(onNumber)
            case .ping(let payload):
                var out: [UInt8] = []
                var generator = Randomness()
                WebSocketEncoder.maskedFrame(.pong, payload: payload, maskingKey: generator.next(), into: &out)
                send(out)
            case .close: return close()
            case .binary, .pong: break
            case nil: return
            }
        }
    }

    /// Whole lines.
    private func readStream() {
        guard let end = text.lastIndex(of: UInt8(ascii: "\n")) else { return }
        CanaryText.numbers(in: text[...end]).forEach(onNumber)
        text.removeFirst(end + 1)
    }

    /// One answer after the other: the next poll goes on where this one ended.
    private func readAnswer() {
        CanaryText.numbers(in: text).forEach(onNumber)
        let position = CanaryText.position(in: text)
        text.removeAll(keepingCapacity: true)
        guard let position, parser.isComplete else { return close() }
        parser.nextResponse(to: .get)
        ask(after: position)
    }
}

import HTTP1Codec
import HTTP2Session
import HTTPTypes
import Limits
import Logging
import NIOCore
import NotificationCore
import TLSEngine
import Transports

/// One connection: the only handler of its channel. It feeds the codecs, and holds what the connection is at the moment as an enum; no
/// pipeline is rebuilt when that changes, and a whole connection can be run in a test as bytes in, bytes out.
///
///     [TLS] ──> sniffing ──"PRI * HTTP/2"──────> http2
///                  │
///                  └──anything else──> http1 ──101──> webSocket
///                                        │  └─SSE──> eventStream
///                                        └──fault──> lingering (answered and half closed; what comes is thrown away)
///
/// Bytes for the peer go straight to the descriptor while nothing waits; what the socket does not take goes through the channel, and
/// until that has drained the connection has no room: its subscribers' cursors stop.
final class Connection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    enum State {
        case sniffing([UInt8])
        case http1(HTTP1Exchange)
        case http2(HTTP2Exchange)
        case webSocket(WebSocketSession)
        case eventStream(EventStreamSession)
        case lingering
        case closed
    }

    /// How long a peer may take to end its half after we have ended ours.
    static let lingerSeconds = 2
    /// How long it may take nothing of what is sent to it before we end.
    static let drainSeconds = 5
    /// Of what waits in the channel: when so many have gone, the peer has got on.
    private static let progressBytes = 16 << 10

    // The small ones stand together: there is one of these for each connection.
    unowned(unsafe) let loop: ServerLoop
    /// Of the client, as far as the connection tells: a proxy that says so before the first byte speaks for another.
    var address = NetworkAddress.unknown
    var opening: ConnectionOpening?
    var spending: ConnectionSpending?
    var tls: TLSEngine?
    private(set) var context: ChannelHandlerContext?
    /// Bytes that went to the channel and have not reached the socket.
    private(set) var pendingBytes = 0
    /// What came and has not been taken yet: as it came, if that is TLS, and what was in it.
    var heldSealed: [UInt8] = []
    var heldPlain: [UInt8] = []
    /// What the fan-out that is under way has for it, if it has several subscriptions.
    private var gathered: [UInt8] = []
    private(set) var descriptor: Int32 = -1
    /// Its place among the loop's connections; the entry of the timer wheel.
    private(set) var index: UInt32 = 0
    /// The tick at which the connection is looked at next; other entries of the wheel are stale.
    private var lookTick: UInt32 = 0
    /// What has to happen until then: of the request head, the body, the handshake, an idle connection, lingering.
    var deadlineTick: UInt32 = 0
    /// When the pending bytes last became fewer.
    private var progressTick: UInt32 = 0
    /// Microseconds of the loop that its peer has taken, as of that tick.
    var cost: UInt32 = 0
    var costTick: UInt32 = 0
    var state = State.sniffing([])
    private var isPlaced = false
    /// Among the connections of its address.
    var isCounted = false
    /// Close when everything has been sent.
    private(set) var closesWhenDrained = false
    /// The peer has ended its half, and may still read.
    var isInputClosed = false
    /// The channel is writing. If the socket refuses for good, it reads what is left inside that call, only to close then.
    private var isChannelWriting = false
    private(set) var isReadPaused = false
    /// It is among the jobs of the loop's turns.
    var isWaitingForTurn = false
    /// A slice of its own is under way.
    var isAtWork = false
    /// It is the canary's.
    var isOwn = false

    /// - Parameter refusal: what the listener found, which has made room for the answer.
    init(loop: ServerLoop, tls: TLSContext?, address: NetworkAddress = .unknown, refusal: LimitRefusal? = nil) {
        self.loop = loop
        self.address = address
        opening = refusal.map { ConnectionOpening(found: $0) }
        self.tls = tls.map { TLSEngine(server: $0, sealer: loop.sealer) }
    }

    var isOpen: Bool {
        if case .closed = state { false } else { context != nil }
    }

    /// Whether a subscriber may be given more.
    func hasRoom(stream: Int32) -> Bool {
        guard pendingBytes == 0, isOpen else { return false }
        guard stream != 0, case .http2(let exchange) = state else { return true }
        return exchange.session.pendingBytes(stream) == 0 && exchange.streams[stream]?.webSocket?.waiting.isEmpty != false
    }

    // MARK: the channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
    }

    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        guard let place = loop.add(self) else { return close() }
        index = place
        isPlaced = true
        let handle = try? context.channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { $0 }
        descriptor = handle ?? -1
        let configuration = loop.server.configuration
        setDeadline(seconds: tls == nil ? configuration.headSecondsMax : configuration.handshakeSecondsMax)
        beginAdmission()
    }

    func channelInactive(context: ChannelHandlerContext) {
        descriptor = -1
        release()
        if isPlaced { loop.remove(self) }
        isPlaced = false
        endAdmission()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if isChannelWriting { return }
        var buffer = unwrapInboundIn(data)
        guard buffer.writableBytes == 0, descriptor >= 0, isOpen, hasRoomToRead, buffer.readableBytes < loop.receiveBuffer.count else {
            return buffer.withUnsafeMutableReadableBytes { receive($0) }
        }
        // The channel's own buffer is small, as every idle connection keeps one. A larger read goes on in the loop's; once, so that others
        // have their turn: what is still in the socket brings the channel back here.
        let start = buffer.readableBytes
        buffer.withUnsafeReadableBytes { loop.receiveBuffer.copyMemory(from: $0) }
        let count = SystemCall.receive(descriptor, UnsafeMutableRawBufferPointer(rebasing: loop.receiveBuffer[start...]))
        // The channel sees an end or an error itself.
        receive(UnsafeMutableRawBufferPointer(rebasing: loop.receiveBuffer[..<(start + max(0, count))]))
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard let event = event as? ChannelEvent, event == .inputClosed else { return }
        isInputClosed = true
        leaveIfDone()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        close()
    }

    // MARK: bytes in

    /// - Returns: how many bytes were taken; fewer only while HTTP/1.1 answers.
    func receivePlain(_ bytes: UnsafeMutableRawBufferPointer) -> Int {
        switch state {
        case .sniffing(let earlier): return sniff(earlier, bytes)
        // Behind the last answer there is nothing more to be served (RFC 9112, section 9.6).
        case .http1(let exchange): return closesWhenDrained ? bytes.count : receiveHTTP1(exchange, UnsafeRawBufferPointer(bytes))
        case .http2(let exchange): receiveHTTP2(exchange, UnsafeRawBufferPointer(bytes))
        case .webSocket(let session): receiveWebSocket(session, bytes)
        case .eventStream(let session): receiveWhileStreaming(session, bytes.count)
        case .lingering, .closed: break
        }
        return bytes.count
    }

    /// Tells HTTP/2 by prior knowledge from HTTP/1.1 (RFC 9113, section 3.3).
    private func sniff(_ earlier: [UInt8], _ bytes: UnsafeMutableRawBufferPointer) -> Int {
        let all = earlier + bytes
        let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
        let length = min(all.count, preface.count)
        if all[..<length].elementsEqual(preface[..<length]) {
            if length < preface.count {
                state = .sniffing(all)
                return bytes.count
            }
            beginHTTP2()
        } else {
            state = .http1(HTTP1Exchange(limits: loop.server.configuration.http1))
        }
        var first = all
        // A part of the preface is no whole request, so that what is left is of these bytes.
        return first.withUnsafeMutableBytes { receivePlain($0) } - earlier.count
    }

    func beginHTTP2() {
        state = .http2(HTTP2Exchange(limits: loop.server.configuration.http2))
        setDeadline(seconds: loop.server.configuration.idleSecondsMax)
        flushHTTP2()
    }

    // MARK: bytes out

    /// Sends bytes of the protocol inside TLS, or of the connection itself.
    func write(_ bytes: [UInt8]) {
        write(bytes, 0..<bytes.count)
    }

    func write(_ bytes: [UInt8], _ range: Range<Int>) {
        bytes.withUnsafeBytes { write(UnsafeRawBufferPointer(rebasing: $0[range])) }
    }

    func write(_ bytes: UnsafeRawBufferPointer) {
        guard !bytes.isEmpty, isOpen else { return }
        guard let tls else { return transmit(bytes) }
        var sealed = loop.takeSpareBytes()
        if (try? tls.send(bytes, outgoing: &sealed)) != nil {
            sealed.withUnsafeBytes { transmit($0) }
        } else {
            close()
        }
        loop.keepSpareBytes(sealed)
    }

    /// Sends bytes to a subscriber: on its stream, if it has one.
    func write(_ bytes: [UInt8], stream: Int32) {
        guard stream != 0 else { return write(bytes) }
        // Only asked where there is room: what is not taken is for a stream that the peer has just closed.
        _ = offer(stream: stream, bytes, 0..<bytes.count)
        flushHTTP2()
    }

    /// Takes a part of what the fan-out has for several subscriptions of this connection.
    func gather(_ bytes: ArraySlice<UInt8>) {
        if gathered.isEmpty { loop.markDirty(self) }
        gathered.append(contentsOf: bytes)
    }

    /// The fan-out is through.
    func flush() {
        if case .http2(let exchange) = state { return flushDirty(exchange) }
        if gathered.isEmpty { return }
        let bytes = gathered
        gathered = []
        write(bytes)
    }

    /// Straight to the socket while nothing waits, the rest through the channel.
    func transmit(_ bytes: UnsafeRawBufferPointer) {
        guard !bytes.isEmpty, context != nil else { return }
        let sent = pendingBytes == 0 && descriptor >= 0 ? max(0, SystemCall.send(descriptor, bytes)) : 0
        if sent < bytes.count { enqueue(Array(bytes[sent...])) }
    }

    func transmit(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { transmit($0) }
    }

    /// Gives bytes to the channel. The connection has no room until they are gone.
    func enqueue(_ bytes: [UInt8]) {
        guard let context, !bytes.isEmpty else { return }
        if pendingBytes == 0 { progressTick = loop.tick }
        pendingBytes += bytes.count
        var buffer = context.channel.allocator.buffer(bytes: bytes)
        isChannelWriting = true
        while let part = buffer.readSlice(length: min(Self.progressBytes, buffer.readableBytes)), part.readableBytes > 0 {
            let count = part.readableBytes
            let promise = context.eventLoop.makePromise(of: Void.self)
            promise.futureResult.assumeIsolated().whenComplete { [self] result in
                pendingBytes -= count
                progressTick = loop.tick
                if pendingBytes == 0, case .success = result { loop.afterFanOut { self.onDrained() } }
            }
            context.write(NIOAny(part), promise: promise)
        }
        context.flush()
        isChannelWriting = false
        updateReading()
        // They may be gone already.
        if pendingBytes > 0, !loop.isFanningOut { stopSubscriber() }
        look(at: loop.tick + loop.ticks(seconds: loop.server.configuration.stallSecondsMax) + 1)
    }

    /// Something of the connection waits in the channel: the fan-out must not overtake it.
    private func stopSubscriber() {
        switch state {
        case .webSocket(let session):
            for id in session.adapter.subscribers { loop.stop(id) }
        case .eventStream(let session):
            for id in session.subscribers { loop.stop(id) }
        case .http1, .http2, .sniffing, .lingering, .closed: break
        }
    }

    private func onDrained() {
        guard isOpen, pendingBytes == 0 else { return }
        if closesWhenDrained { return finishClose() }
        updateReading()
        #if DEFECTS
            if Defect.active == .drainedIsNotWoken { return }
        #endif
        switch state {
        case .webSocket(let session):
            for id in session.adapter.subscribers { loop.readOnSoon(id, milliseconds: 0) }
        case .eventStream(let session):
            for id in session.subscribers { loop.readOnSoon(id, milliseconds: 0) }
        case .http2(let exchange):
            flushHTTP2()
            readOnStreams(exchange)
        case .http1: resume()
        case .sniffing, .lingering, .closed: break
        }
    }

    private var hasRoomToRead: Bool {
        let max = loop.server.configuration.backlogBytesMax
        return pendingBytes <= max && heldBytes <= max
    }

    /// A peer that sends and does not read, or that waits for its turn, is not listened to meanwhile.
    func updateReading() {
        let isPaused = isOpen && (isWaitingForTurn || !hasRoomToRead)
        guard isReadPaused != isPaused, let context else { return }
        isReadPaused = isPaused
        try? context.channel.syncOptions?.setOption(.autoRead, value: !isPaused)
    }

    // MARK: time

    func setDeadline(seconds: Int) {
        deadlineTick = loop.tick + loop.ticks(seconds: seconds)
        look(at: deadlineTick)
    }

    func clearDeadline() {
        deadlineTick = 0
    }

    /// Makes sure that `onLook` is called at that tick or earlier.
    func look(at tick: UInt32) {
        guard lookTick <= loop.tick || tick < lookTick else { return }
        lookTick = loop.wheel.schedule(index, at: tick)
    }

    /// The timer wheel came round.
    func onLook() {
        // Another entry of the wheel is the one that counts.
        guard isOpen, loop.tick == lookTick else { return }
        let configuration = loop.server.configuration
        if pendingBytes > 0, loop.tick - progressTick > loop.ticks(seconds: configuration.stallSecondsMax) {
            return close()
        }
        var next = UInt32.max
        if deadlineTick > 0 {
            if loop.tick >= deadlineTick {
                onDeadline()
                guard isOpen else { return }
            }
            if deadlineTick > loop.tick { next = min(next, deadlineTick) }
        }
        next = min(next, onHeartbeatLook())
        if pendingBytes > 0 { next = min(next, progressTick + loop.ticks(seconds: configuration.stallSecondsMax) + 1) }
        if isOpen, next != .max { look(at: next) }
    }

    private func onDeadline() {
        if closesWhenDrained {
            let isReading = loop.tick - progressTick < loop.ticks(seconds: Self.drainSeconds)
            return isReading ? setDeadline(seconds: Self.drainSeconds) : close()
        }
        switch state {
        case .http1(let exchange): onHTTP1Deadline(exchange)
        case .http2(let exchange): onHTTP2Idle(exchange)
        case .webSocket: closeWhenDrained()
        case .sniffing, .lingering, .eventStream: close()
        case .closed: break
        }
    }

    private func onHeartbeatLook() -> UInt32 {
        switch state {
        case .webSocket(let session): min(lookAtToken(.webSocket(session)), heartbeat(session))
        case .eventStream(let session): lookAtStream(session)
        case .http1(let exchange): lookAtPoll(exchange)
        case .http2(let exchange): lookAtStreams(exchange)
        case .sniffing, .lingering, .closed: .max
        }
    }

    // MARK: the end

    /// The peer broke the protocol.
    func fail(_ protocolName: String, _ detail: String) {
        loop.counters.faults[protocolName, default: 0] += 1
        loop.server.logger.debug("connection failed", metadata: ["protocol": "\(protocolName)", "detail": "\(detail)"])
        closeWhenDrained()
    }

    func closeWhenDrained() {
        guard isOpen else { return }
        closesWhenDrained = true
        if pendingBytes == 0 { finishClose() } else { setDeadline(seconds: Self.drainSeconds) }
    }

    /// All has been sent: ends our half, and gives the peer a moment to read before the rest is thrown away (RFC 9112, section 9.6).
    private func finishClose() {
        closesWhenDrained = false
        release()
        if let tls, tls.isEstablished {
            var outgoing: [UInt8] = []
            tls.close(outgoing: &outgoing)
            transmit(outgoing)
        }
        guard descriptor >= 0, pendingBytes == 0, !isInputClosed else { return close() }
        state = .lingering
        SystemCall.shutDownWriting(descriptor)
        updateReading()
        setDeadline(seconds: Self.lingerSeconds)
    }

    func close() {
        release()
        context?.close(promise: nil)
    }

    /// Takes its subscribers out; nothing is delivered to it from now on.
    private func release() {
        switch state {
        case .http1(let exchange):
            for id in exchange.poll?.subscribers ?? [] { loop.detachLater(id, self) }
            forgetPoll(exchange)
            loop.parkedBytes -= exchange.body.count
            exchange.body = []
        case .http2(let exchange):
            exchange.park(-exchange.bodyBytes, loop)
            for stream in exchange.streams.values {
                for id in stream.subscribers { loop.detachLater(id, self) }
                stream.webSocket?.isClosed = true
                stream.webSocket?.isEnded = true
            }
        case .webSocket(let session):
            for id in session.adapter.subscribers { loop.detachLater(id, self) }
            session.isClosed = true
            session.isEnded = true
        case .eventStream(let session):
            for id in session.subscribers { loop.detachLater(id, self) }
        case .sniffing, .lingering, .closed: break
        }
        state = .closed
    }
}

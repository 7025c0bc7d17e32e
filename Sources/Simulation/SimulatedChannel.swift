import NIOCore
import TocsinServer

/// A connection on the simulated network, both ends of it: the server's is a channel of NIO's with a descriptor, the client's is calls.
///
///     client ──send──> on its way ──> arrived ──channelRead, receive──> server
///     client <──────── under way, at most `room` bytes <──send, write── server
///
/// Unchecked: there is one thread.
final class SimulatedChannel: Channel, ChannelCore, NIOTransportAccessibleChannelCore, NIOSynchronousChannelOptions, @unchecked Sendable {
    /// As `Acceptor`'s connections have it.
    private static let receiveBytes = 256

    let network: Network
    let descriptor: Int32
    let loop: SimulatedEventLoop
    private(set) var server: EmbeddedConnection?
    /// What the server's socket takes before it is full.
    private let room: Int
    private var pipelineBox: ChannelPipeline!
    private let closePromise: EventLoopPromise<Void>
    private var autoRead = true
    /// The server's end is open.
    private(set) var isActive = false
    private var hasServerEnded = false
    private var hasClientEnded = false
    private var isReset = false
    private var arrived: [UInt8] = []
    private var isReadScheduled = false
    private var pending: [(buffer: ByteBuffer, promise: EventLoopPromise<Void>?)] = []
    private var lastArrival: Int64 = 0
    /// Bytes on their way to the client.
    private(set) var underWay: [UInt8] = []
    private var isDraining = false
    /// The client has let go of it.
    private(set) var isGone = false
    /// Given what comes, and told the end.
    var onBytes: (SimulatedChannel, [UInt8]) -> Void = { _, _ in }
    var onEnd: (SimulatedChannel) -> Void = { _ in }
    /// Takes little at a time, while things are busy.
    var isSlow = false
    /// Something was sent to the client since this was last set to false.
    var hasServerWritten = false
    /// When something last came to the client; set by it.
    var lastReceived: Int64 = 0

    init(_ network: Network, descriptor: Int32, loop: SimulatedEventLoop, server: EmbeddedConnection, room: Int) {
        self.network = network
        self.descriptor = descriptor
        self.loop = loop
        self.server = server
        self.room = room
        closePromise = loop.makePromise()
        pipelineBox = ChannelPipeline(channel: self)
    }

    private var run: Run { network.run }

    /// The connection is there, at the server's end.
    func activate() {
        loop.execute { [self] in
            if isReset { return }
            isActive = true
            try? pipelineBox.syncOperations.addHandler(server!.handler)
            pipelineBox.fireChannelActive()
            readSoon()
        }
    }

    /// The process of the server is gone.
    func abandon() {
        isActive = false
        for (_, promise) in pending { promise?.fail(ChannelError.ioOnClosedChannel) }
        pending = []
        removeHandlers(pipeline: pipelineBox)
        closePromise.succeed(())
        server = nil
        isReset = true
    }

    // MARK: the client's end

    func send(_ bytes: [UInt8]) {
        if isGone { return }
        lastArrival = max(lastArrival, run.now + run.chance.milliseconds(0...5))
        let life = run.server.life
        run.after(lastArrival - run.now) { [self] in
            guard run.server.life == life, !isReset else { return }
            arrived += bytes
            readSoon()
        }
    }

    /// The client lets go: a part of what is under way still comes to it, the server notices later.
    ///
    /// - Returns: how many bytes are lost.
    @discardableResult
    func cut() -> Int {
        if isGone { return 0 }
        let count = run.chance.number(0...underWay.count)
        let piece = Array(underWay.prefix(count))
        let lost = underWay.count - count
        underWay = []
        if !piece.isEmpty { onBytes(self, piece) }
        isGone = true
        notice()
        return lost
    }

    /// Nothing more is wanted of it.
    func close() {
        if isGone { return }
        isGone = true
        underWay = []
        notice()
    }

    private func notice() {
        let life = run.server.life
        let isGraceful = run.chance.happens(40)
        run.after(run.chance.happens(50) ? 0 : run.chance.milliseconds(1...400)) { [self] in
            guard run.server.life == life, !isReset else { return }
            loop.execute { [self] in isGraceful ? endInput() : reset() }
            if isGraceful { run.after(run.chance.milliseconds(0...600)) { [self] in loop.execute { [self] in reset() } } }
        }
    }

    private func endInput() {
        guard isActive, !hasClientEnded else { return }
        hasClientEnded = true
        if arrived.isEmpty { pipelineBox.fireUserInboundEventTriggered(ChannelEvent.inputClosed) }
    }

    private func reset() {
        guard isActive else { return }
        isReset = true
        pipelineBox.fireErrorCaught(IOError(errnoCode: 104, reason: "reset"))
        if isActive { close0(error: ChannelError.eof, mode: .all, promise: nil) }
    }

    private func drainSoon() {
        if isDraining || isGone || (underWay.isEmpty && !hasServerEnded) { return }
        isDraining = true
        let isSlow = isSlow && run.isBusy
        run.after(isSlow ? run.chance.milliseconds(20...400) : run.chance.milliseconds(0...5)) { [self] in
            isDraining = false
            if isGone { return }
            let count = min(underWay.count, run.chance.number(1...(isSlow ? 400 : 4000)))
            let piece = Array(underWay.prefix(count))
            underWay.removeFirst(count)
            if !piece.isEmpty { onBytes(self, piece) }
            if !pending.isEmpty, !isReset { loop.execute { [self] in writePending() } }
            if !isGone, hasServerEnded, underWay.isEmpty {
                isGone = true
                return onEnd(self)
            }
            drainSoon()
        }
    }

    // MARK: the server's socket

    func take(_ bytes: UnsafeRawBufferPointer) -> Int {
        if isReset || hasServerEnded { return -1 }
        // What is sent to who is gone is lost.
        if isGone { return bytes.count }
        let count = min(bytes.count, room - underWay.count)
        if count <= 0 { return -1 }
        underWay += bytes[..<count]
        hasServerWritten = true
        drainSoon()
        return count
    }

    func give(_ buffer: UnsafeMutableRawBufferPointer) -> Int {
        let count = min(buffer.count, arrived.count)
        if count == 0 { return hasClientEnded ? 0 : -1 }
        buffer.copyBytes(from: arrived.prefix(count))
        arrived.removeFirst(count)
        return count
    }

    func shutDownWriting() {
        hasServerEnded = true
        drainSoon()
    }

    private func readSoon() {
        if isReadScheduled || !autoRead || arrived.isEmpty { return }
        isReadScheduled = true
        loop.execute { [self] in
            isReadScheduled = false
            guard isActive, autoRead, !arrived.isEmpty else { return }
            let piece = Array(arrived.prefix(Self.receiveBytes))
            arrived.removeFirst(piece.count)
            pipelineBox.syncOperations.fireChannelRead(NIOAny(ByteBuffer(bytes: piece)))
            pipelineBox.fireChannelReadComplete()
            if arrived.isEmpty, hasClientEnded, isActive { pipelineBox.fireUserInboundEventTriggered(ChannelEvent.inputClosed) }
            readSoon()
        }
    }

    private func writePending() {
        guard isActive else { return }
        while let (buffer, promise) = pending.first {
            let count = buffer.withUnsafeReadableBytes { take($0) }
            if count < 0 {
                if isReset { reset() }
                return
            }
            if count < buffer.readableBytes {
                pending[0].buffer.moveReaderIndex(forwardBy: count)
                return
            }
            pending.removeFirst()
            promise?.succeed(())
            if !isActive { return }
        }
    }

    // MARK: Channel

    var allocator: ByteBufferAllocator { ByteBufferAllocator() }
    var closeFuture: EventLoopFuture<Void> { closePromise.futureResult }
    var pipeline: ChannelPipeline { pipelineBox }
    var eventLoop: any EventLoop { loop }
    var localAddress: SocketAddress? { nil }
    var remoteAddress: SocketAddress? { nil }
    var parent: (any Channel)? { nil }
    var isWritable: Bool { pending.isEmpty }
    var _channelCore: any ChannelCore { self }
    var syncOptions: (any NIOSynchronousChannelOptions)? { self }

    func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) -> EventLoopFuture<Void> {
        let _: Void = setOption(option, value: value)
        return loop.makeSucceededVoidFuture()
    }

    func getOption<Option: ChannelOption>(_ option: Option) -> EventLoopFuture<Option.Value> {
        preconditionFailure("no option is asked for")
    }

    func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) {
        guard option is ChannelOptions.Types.AutoReadOption, let value = value as? Bool else {
            preconditionFailure("\(option) is not simulated")
        }
        autoRead = value
        readSoon()
    }

    func getOption<Option: ChannelOption>(_ option: Option) throws -> Option.Value {
        preconditionFailure("no option is asked for")
    }

    func withUnsafeTransport<Result>(_ body: (NIOBSDSocket.Handle) throws -> Result) rethrows -> Result { try body(descriptor) }

    // MARK: ChannelCore

    func localAddress0() throws -> SocketAddress { throw ChannelError.operationUnsupported }
    func remoteAddress0() throws -> SocketAddress { throw ChannelError.operationUnsupported }
    func register0(promise: EventLoopPromise<Void>?) { promise?.succeed(()) }
    func registerAlreadyConfigured0(promise: EventLoopPromise<Void>?) { promise?.succeed(()) }
    func bind0(to: SocketAddress, promise: EventLoopPromise<Void>?) { promise?.fail(ChannelError.operationUnsupported) }
    func connect0(to: SocketAddress, promise: EventLoopPromise<Void>?) { promise?.fail(ChannelError.operationUnsupported) }
    func read0() {}
    func triggerUserOutboundEvent0(_ event: Any, promise: EventLoopPromise<Void>?) { promise?.succeed(()) }
    func channelRead0(_ data: NIOAny) {}
    func errorCaught0(error: any Error) {}

    func write0(_ data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard isActive else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        pending.append((unwrapData(data), promise))
    }

    func flush0() { writePending() }

    func close0(error: any Error, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        guard isActive else {
            promise?.fail(ChannelError.alreadyClosed)
            return
        }
        isActive = false
        let waiting = pending
        pending = []
        for (_, promise) in waiting { promise?.fail(error) }
        promise?.succeed(())
        pipelineBox.fireChannelInactive()
        hasServerEnded = true
        drainSoon()
        loop.execute { [self] in
            removeHandlers(pipeline: pipelineBox)
            closePromise.succeed(())
            server = nil
            network.forget(self)
        }
    }
}

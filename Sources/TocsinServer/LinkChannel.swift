import NIOCore
import NIOPosix
import NotificationCore

/// One end of a link between the main process and a worker: frames in and out, on one event loop.
final class LinkChannel: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private var reader = LinkFrameReader()
    private var context: ChannelHandlerContext?
    private var isFlushDue = false
    /// Bytes that the other process has not taken yet.
    private(set) var queuedBytes = 0
    /// Calls of `tick` since it last took some, or had none to take; and since it last said something. Not times: when all processes
    /// are held up together, nobody is to blame.
    private(set) var stalledTicks = 0
    private(set) var silentTicks = 0
    /// Names of the channels that notifications come without.
    var name: (ChannelID) -> ChannelName? = { _ in nil }
    var onFrame: (LinkFrame) -> Void = { _ in }
    /// All frames that came at once have been handed over.
    var onPause: () -> Void = {}
    /// The other process has ended, or says what cannot be understood.
    var onEnd: () -> Void = {}

    var isOpen: Bool { context != nil }

    /// To be called on the loop, which takes the descriptor over.
    static func open(_ descriptor: Int32, _ eventLoop: any EventLoop, _ link: LinkChannel) -> EventLoopFuture<Void> {
        let bound = NIOLoopBound(link, eventLoop: eventLoop)
        return ClientBootstrap(group: eventLoop)
            .channelOption(.recvAllocator, value: AdaptiveRecvByteBufferAllocator(minimum: 1024, initial: 64 << 10, maximum: 1 << 20))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(bound.value) }
            }
            .withConnectedSocket(descriptor)
            .map { _ in }
    }

    func send(_ frame: LinkFrame) {
        guard let context else { return }
        send(context.channel.allocator.buffer(bytes: frame.bytes))
    }

    /// Sends frames that are encoded already.
    func send(_ buffer: ByteBuffer) {
        guard let context else { return }
        let count = buffer.readableBytes
        queuedBytes += count
        let promise = context.eventLoop.makePromise(of: Void.self)
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        promise.futureResult.whenComplete { _ in
            bound.value.queuedBytes -= count
            bound.value.stalledTicks = 0
        }
        context.write(wrapOutboundOut(buffer), promise: promise)
        guard !isFlushDue else { return }
        isFlushDue = true
        // What is said in one go goes out in one.
        context.eventLoop.execute {
            bound.value.isFlushDue = false
            bound.value.context?.flush()
        }
    }

    /// To be called four times a second.
    func tick() {
        silentTicks += 1
        stalledTicks = queuedBytes == 0 ? 0 : stalledTicks + 1
    }

    func close() {
        context?.close(promise: nil)
    }

    // MARK: ChannelInboundHandler

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        silentTicks = 0
        reader.feed(unwrapInboundIn(data).readableBytesView)
        do throws(LinkDamage) {
            while let frame = try reader.next(name: name) { onFrame(frame) }
        } catch {
            context.close(promise: nil)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        onPause()
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.context = nil
        onEnd()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}

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
    /// When it last took some, or last had none to take; `Clock.monotonicMilliseconds`.
    private(set) var progressMilliseconds = Clock.monotonicMilliseconds()
    /// When it last said something.
    private(set) var heardMilliseconds = Clock.monotonicMilliseconds()
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
        if queuedBytes == 0 { progressMilliseconds = Clock.monotonicMilliseconds() }
        queuedBytes += count
        let promise = context.eventLoop.makePromise(of: Void.self)
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        promise.futureResult.whenComplete { _ in
            bound.value.queuedBytes -= count
            bound.value.progressMilliseconds = Clock.monotonicMilliseconds()
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
        heardMilliseconds = Clock.monotonicMilliseconds()
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

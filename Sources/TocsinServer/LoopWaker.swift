import Glibc
import NIOCore
import NIOPosix

/// Calls back when the event loop has looked at its sockets once more: through a pipe, since what comes of a socket comes only then.
///
/// A task, also one for a moment later, does not say so: NIO runs tasks until none is due, and others may keep it at that for long.
final class LoopWaker: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let writeEnd: Int32
    private let onWake: () -> Void

    private init(writeEnd: Int32, onWake: @escaping () -> Void) {
        self.writeEnd = writeEnd
        self.onWake = onWake
    }

    deinit {
        SystemCall.close(writeEnd)
    }

    /// To be called on the loop.
    ///
    /// - Throws: an `IOError` if there is no descriptor left.
    static func open(_ eventLoop: any EventLoop, onWake: @escaping () -> Void) throws -> (waker: LoopWaker, opened: EventLoopFuture<Void>) {
        guard let ends = SystemCall.pipe() else { throw IOError(errnoCode: errno, reason: "pipe") }
        let waker = LoopWaker(writeEnd: ends.write, onWake: onWake)
        let bound = NIOLoopBound(waker, eventLoop: eventLoop)
        let opened = NIOPipeBootstrap(group: eventLoop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(bound.value) }
            }
            .takingOwnershipOfDescriptor(input: ends.read)
        return (waker, opened.map { _ in })
    }

    /// `onWake` is called once for it, or for several together.
    func wake() {
        SystemCall.writeByte(writeEnd)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        onWake()
    }
}

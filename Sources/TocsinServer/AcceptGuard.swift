import Admission
import Glibc
import NIOCore

/// Stands at a listener, before anything is made for a new connection.
///
/// One that is over a limit ends here: reset, so that nothing is left of it, or let through with a mark, so that its loop tells it why and
/// when to come back. When the process has no descriptor left for a new connection, it ends that connection with one kept in reserve. Else
/// the connection would stay in the listener's queue, the listener would be ready again at once, and its loop would spin.
final class AcceptGuard: ChannelInboundHandler {
    typealias InboundIn = Channel

    /// What one error may end at once.
    private static let closedMax = 64

    private let server: ServerState
    private let isTLS: Bool
    private var reserve = SystemCall.openNothing()

    init(server: ServerState, isTLS: Bool) {
        self.server = server
        self.isTLS = isTLS
    }

    deinit {
        if reserve >= 0 { SystemCall.close(reserve) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let limits = server.limits
        guard limits.isAskedAtAccept else { return context.fireChannelRead(data) }
        let channel = unwrapInboundIn(data)
        // Without an address it is gone already.
        guard let address = NetworkAddress(channel.remoteAddress) else { return Self.reset(channel, context.eventLoop) }
        // Of one that says first whose it is, that is asked.
        guard !limits.wantsProxyHeader(address), let refusal = limits.refusal(of: address) else { return context.fireChannelRead(data) }
        if limits.mark(channel, refusal, isSecret: isTLS) { return context.fireChannelRead(data) }
        limits.refuse(refusal, address)
        server.noteRefused(1)
        Self.reset(channel, context.eventLoop)
    }

    /// Ends a connection without a trace: no segment waits for an answer, no port for a time to pass.
    private static func reset(_ channel: any Channel, _ eventLoop: any EventLoop) {
        if channel.eventLoop === eventLoop { reset(channel) } else { channel.eventLoop.execute { reset(channel) } }
    }

    private static func reset(_ channel: any Channel) {
        let descriptor = try? channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { $0 }
        if let descriptor { SystemCall.resetWhenClosed(descriptor) }
        channel.close(promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let fault = error as? IOError, fault.errnoCode == EMFILE || fault.errnoCode == ENFILE,
            let listener = try? context.channel.pipeline.syncOperations
                .withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self, { $0 })
        else {
            return context.fireErrorCaught(error)
        }
        if reserve >= 0 { SystemCall.close(reserve) }
        var closed = 0
        while closed < Self.closedMax, SystemCall.acceptAndClose(listener) { closed += 1 }
        reserve = SystemCall.openNothing()
        server.noteRefused(closed)
        if closed > 0 { return }
        // Another part of the process was quicker: the listener rests for a moment.
        let channel = context.channel
        try? channel.syncOptions?.setOption(.autoRead, value: false)
        context.eventLoop.scheduleTask(in: .milliseconds(100)) { try? channel.syncOptions?.setOption(.autoRead, value: true) }
    }
}

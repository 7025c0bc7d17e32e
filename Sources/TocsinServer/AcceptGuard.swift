import Glibc
import NIOCore

/// Stands at a listener. It lets connections in as `Admission` has room; and when the process has no descriptor left for a new
/// connection, it ends that connection with one kept in reserve.
///
/// Else that connection would stay in the listener's queue, the listener would be ready again at once, and its loop would spin.
final class AcceptGuard: ChannelInboundHandler {
    typealias InboundIn = Channel

    /// What one error may end at once.
    private static let closedMax = 64

    private let server: ServerState
    private let admission: Admission
    private var isClosed = false
    private var reserve = SystemCall.openNothing()

    init(server: ServerState, admission: Admission) {
        self.server = server
        self.admission = admission
    }

    deinit {
        if reserve >= 0 { SystemCall.close(reserve) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let hasRoom = admission.take { [self] in
            if isClosed { unwrapInboundIn(data).close(promise: nil) } else { context.fireChannelRead(data) }
        }
        if hasRoom { return }
        try? context.channel.syncOptions?.setOption(.autoRead, value: false)
        admission.whenRoom { [channel = context.channel] in try? channel.syncOptions?.setOption(.autoRead, value: true) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        isClosed = true
        context.fireChannelInactive()
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

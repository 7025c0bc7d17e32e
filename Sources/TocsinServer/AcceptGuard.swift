import Glibc
import NIOCore

/// Stands at a listener: when the process has no descriptor left for a new connection, it ends that connection with one kept in reserve.
///
/// Else the connection would stay in the listener's queue, the listener would be ready again at once, and its loop would spin.
final class AcceptGuard: ChannelInboundHandler {
    typealias InboundIn = Channel

    /// What one error may end at once.
    private static let closedMax = 64

    private let server: ServerState
    private var reserve = SystemCall.openNothing()

    init(server: ServerState) {
        self.server = server
    }

    deinit {
        if reserve >= 0 { SystemCall.close(reserve) }
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

import Glibc
import Limits
import NIOCore

/// Stands at a listener, before anything is made for a new connection.
///
///     accepted ──over a limit──> refused: a reset
///        │            └──a few of them, with a mark──┐
///        └──────────────────────────────────────> Admission ──as it has room──> a loop
///
/// One that is over a limit ends here: reset, so that nothing is left of it, or let through with a mark, so that its loop tells it why and
/// when to come back. When the process has no descriptor left for a new connection, it ends that connection with one kept in reserve. Else
/// the connection would stay in the listener's queue, the listener would be ready again at once, and its loop would spin.
final class AcceptGuard: ChannelInboundHandler {
    typealias InboundIn = Channel

    /// What one error may end at once.
    private static let closedMax = 64
    /// Refused and not closed yet. With more of them nothing is accepted: a loop does all that it was given before it looks at its sockets,
    /// and one takes it about 5 us.
    private static let refusedMax = 128

    private let server: ServerState
    private let admission: Admission
    private let isTLS: Bool
    private var isClosed = false
    private var reserve = SystemCall.openNothing()
    /// Of this turn of the listener.
    private var refused: [any Channel] = []
    /// Refused in earlier turns, and not closed yet.
    private var refusedCount = 0

    init(server: ServerState, admission: Admission, isTLS: Bool) {
        self.server = server
        self.admission = admission
        self.isTLS = isTLS
    }

    deinit {
        if reserve >= 0 { SystemCall.close(reserve) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if server.limits.isAskedAtAccept, isRefused(unwrapInboundIn(data)) { return refused.append(unwrapInboundIn(data)) }
        let hasRoom = admission.take { [self] in
            if isClosed { unwrapInboundIn(data).close(promise: nil) } else { context.fireChannelRead(data) }
        }
        if hasRoom { return }
        try? context.channel.syncOptions?.setOption(.autoRead, value: false)
        admission.whenRoom { [channel = context.channel] in try? channel.syncOptions?.setOption(.autoRead, value: true) }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        endRefused(context.channel)
        context.fireChannelReadComplete()
    }

    func channelInactive(context: ChannelHandlerContext) {
        isClosed = true
        endRefused(context.channel)
        context.fireChannelInactive()
    }

    // MARK: limits

    /// Whether a connection is over a limit and is not to be told so.
    private func isRefused(_ channel: any Channel) -> Bool {
        // Without an address it is gone already.
        guard let address = NetworkAddress(channel.remoteAddress) else { return true }
        let limits = server.limits
        if let canary = server.canary, canary.isOwn(channel.remoteAddress) { return false }
        // Of one that says first whose it is, that is asked.
        guard !limits.wantsProxyHeader(address), let refusal = limits.refusal(of: address) else { return false }
        if limits.mark(channel, refusal, isSecret: isTLS) { return false }
        limits.refuse(refusal, address)
        return true
    }

    /// A channel can only be closed by the loop that it is meant for: all of one turn in one task, so that a loop is woken once for them.
    private func endRefused(_ listener: any Channel) {
        if refused.isEmpty { return }
        let byLoop = Dictionary(grouping: refused) { ObjectIdentifier($0.eventLoop) }
        refusedCount += refused.count
        refused = []
        let bound = NIOLoopBound((self, listener), eventLoop: listener.eventLoop)
        for channels in byLoop.values {
            channels[0].eventLoop.execute {
                for channel in channels { Self.reset(channel) }
                bound.eventLoop.execute {
                    let (this, listener) = bound.value
                    this.ended(channels.count, listener)
                }
            }
        }
        if refusedCount >= Self.refusedMax { try? listener.syncOptions?.setOption(.autoRead, value: false) }
    }

    private func ended(_ count: Int, _ listener: any Channel) {
        let wasFull = refusedCount >= Self.refusedMax
        refusedCount -= count
        if wasFull, refusedCount < Self.refusedMax, !isClosed { try? listener.syncOptions?.setOption(.autoRead, value: true) }
    }

    /// Ends a connection without a trace: no segment waits for an answer, no port for a time to pass.
    private static func reset(_ channel: any Channel) {
        let descriptor = try? channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { $0 }
        if let descriptor { SystemCall.resetWhenClosed(descriptor) }
        channel.close(promise: nil)
    }

    // MARK: descriptors

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        endRefused(context.channel)
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

import Glibc
import NIOCore
import NIOPosix
import TLSEngine

/// Where connections enter a loop.
///
/// Belongs to the loop.
final class LoopEntry {
    /// How much the kernel keeps for a connection that it has not sent, about (tcp(7), `TCP_NOTSENT_LOWAT`).
    private static let notSentBytes = 128 << 10

    private let queue: EntryQueue
    private let room: EntryRoom
    private let certificates: TLSContexts?
    /// Tells the listeners that there is room again.
    private let onRoom: () -> Void
    private var bootstrap: ClientBootstrap?
    /// The one whose channel is being made.
    private var entering: AcceptedConnection?

    init(
        _ loop: LoopReference, _ queue: EntryQueue, _ room: EntryRoom, _ certificates: TLSContexts?, onRoom: @escaping () -> Void
    ) {
        self.queue = queue
        self.room = room
        self.certificates = certificates
        self.onRoom = onRoom
        let bound = NIOLoopBound((self, loop.value), eventLoop: loop.eventLoop)
        bootstrap = Self.bootstrap(loop.eventLoop) { channel in
            let (entry, loop) = bound.value
            try channel.pipeline.syncOperations.addHandler(entry.connection(on: loop))
        }
    }

    private static func bootstrap(
        _ eventLoop: any EventLoop, _ prepare: @escaping @Sendable (any Channel) throws -> Void
    ) -> ClientBootstrap {
        // TCP_NODELAY is among its defaults.
        ClientBootstrap(group: eventLoop)
            .channelOption(.allowRemoteHalfClosure, value: true)
            // Each idle connection keeps this buffer: larger reads go on in the loop's own.
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 256))
            .channelOption(.maxMessagesPerRead, value: 1)
            // What a slow reader has not been sent waits in the log, not in the kernel.
            .channelOption(.tcpOption(NIOBSDSocket.Option(rawValue: TCP_NOTSENT_LOWAT)), value: SocketOptionValue(notSentBytes))
            .channelInitializer { channel in channel.eventLoop.makeCompletedFuture { try prepare(channel) } }
    }

    private func connection(on loop: ServerLoop) -> Connection {
        guard let entering else { preconditionFailure("a channel is made in one go") }
        return Connection(
            loop: loop, tls: entering.isTLS ? certificates?.current : nil, address: entering.peer.address, refusal: entering.refusal
        )
    }

    /// Those whose turn it is enter.
    ///
    /// - Returns: whether there are more.
    func takeTurn() -> Bool {
        let (now, isMore) = queue.take()
        if room.left(now.count) { onRoom() }
        for accepted in now {
            entering = accepted
            // It closes the descriptor if it fails.
            _ = bootstrap?.withConnectedSocket(accepted.descriptor)
            entering = nil
        }
        return isMore
    }

    /// The loop ends.
    func close() {
        for accepted in queue.takeAll() { SystemCall.close(accepted.descriptor) }
        // It holds this.
        bootstrap = nil
    }
}

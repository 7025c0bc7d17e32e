import Glibc
import Limits
import Logging
import NIOCore
import NIOPosix
import Synchronization
import TLSEngine

/// Takes connections off the listeners, on a thread of its own, before anything is made for them.
///
///     kernel's queue ──accept──over a limit──> refused: a reset
///                        │           └──a few of them, with what to tell them──┐
///                        └──────────────────────────────────────────────> `EntryQueue` of a loop ──some a turn──> a channel
///
/// One that is over a limit ends here: reset, so that nothing is left of it, or let through with a mark, so that its loop tells it why and
/// when to come back. When the process has no descriptor left for a new connection, it ends that connection with one kept in reserve. Else
/// the connection would stay in the listener's queue, the listener would be ready again at once, and this thread would spin.
///
/// A thread of its own: when many come at once, a loop that serves those who are there would let the kernel's queue overflow. And no
/// channels here: to make one and close it again takes four times as long as accept(2) and close(2) do, which a flood makes felt.
final class Acceptor: Sendable {
    /// Of one listener, before the others have their turn.
    private static let acceptedMax = 32
    /// What one error may end at once.
    private static let closedMax = 64
    private static let restMilliseconds: Int32 = 100

    private struct Entrance {
        let loop: LoopReference
        let queue: EntryQueue
    }

    private let server: ServerState
    let sockets: [ListeningSocket]
    private let entrances: [Entrance]
    private let room: EntryRoom
    private let threads = NIOThreadPool(numberOfThreads: 1)
    private let wakeEnds: (read: Int32, write: Int32)
    private let isClosing = Atomic<Bool>(false)
    private let isPaused = Atomic<Bool>(false)
    /// Who waits for the thread to have seen that.
    private let pausing = Mutex<[CheckedContinuation<Void, Never>]>([])

    /// - Parameter sockets: are closed at the end.
    init(_ sockets: [ListeningSocket], _ server: ServerState, _ loops: [LoopReference]) throws(SystemFault) {
        guard let ends = SystemCall.pipe() else { throw SystemFault("pipe") }
        wakeEnds = ends
        self.sockets = sockets
        self.server = server
        room = EntryRoom()
        entrances = loops.map { Entrance(loop: $0, queue: EntryQueue()) }
    }

    deinit {
        SystemCall.close(wakeEnds.read)
        SystemCall.close(wakeEnds.write)
    }

    func start(_ certificates: TLSContexts?) async throws {
        for entrance in entrances {
            let bound = entrance.loop
            try await bound.eventLoop.submit { [self] in
                bound.value.entry = LoopEntry(bound, entrance.queue, room, certificates) { self.wake() }
            }.get()
        }
        threads.start()
        threads.submit { [self] _ in run() }
    }

    /// Nobody is taken up between the return from this and `resume`; the sockets go on listening, for another process perhaps. Those who
    /// were taken up go on entering.
    func pause() async {
        isPaused.store(true, ordering: .sequentiallyConsistent)
        if isClosing.load(ordering: .sequentiallyConsistent) { return }
        await withCheckedContinuation { continuation in
            pausing.withLock { $0.append(continuation) }
            wake()
        }
    }

    func resume() {
        isPaused.store(false, ordering: .sequentiallyConsistent)
        wake()
    }

    /// Nobody is taken up any more, and the sockets are closed. Those who were taken up go on entering.
    func close() async throws {
        isClosing.store(true, ordering: .sequentiallyConsistent)
        wake()
        try await threads.shutdownGracefully()
    }

    private func wake() { SystemCall.writeByte(wakeEnds.write) }

    // MARK: the thread

    /// What only the thread has.
    private struct Turn {
        var reserve = SystemCall.openNothing()
        var accepted: [[AcceptedConnection]]
        /// Whose turn is next.
        var next = 0
        var isFull = false
        /// Until then nothing is accepted, in milliseconds; 0: it is.
        var restsUntil: Int64 = 0
        /// An error of accept(2) that was logged.
        var logged: Int32 = 0
    }

    private func run() {
        var turn = Turn(accepted: entrances.map { _ in [] })
        var polled = ([wakeEnds.read] + sockets.map(\.descriptor)).map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        while !isClosing.load(ordering: .sequentiallyConsistent) {
            let isPaused = isPaused.load(ordering: .sequentiallyConsistent)
            if isPaused { tellPaused() }
            let rest = turn.restsUntil - Clock.monotonicMilliseconds()
            let isOpen = !isPaused && !turn.isFull && rest <= 0
            guard poll(&polled, isOpen ? nfds_t(polled.count) : 1, isOpen || rest <= 0 ? -1 : Int32(rest)) > 0 else { continue }
            if polled[0].revents != 0 {
                SystemCall.drain(wakeEnds.read)
                turn.isFull = false
            }
            guard isOpen else { continue }
            for (index, socket) in sockets.enumerated() where polled[index + 1].revents != 0 { accept(socket, &turn) }
            handOver(&turn)
        }
        tellPaused()
        for socket in sockets { SystemCall.close(socket.descriptor) }
        if turn.reserve >= 0 { SystemCall.close(turn.reserve) }
    }

    private func tellPaused() {
        let waiting = pausing.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    private func accept(_ socket: ListeningSocket, _ turn: inout Turn) {
        for _ in 0..<Self.acceptedMax {
            let (descriptor, peer) = SystemCall.accept(socket.descriptor)
            guard descriptor >= 0 else {
                let code = errno
                // The peer has gone already, or a packet filter says no (accept(2)): the next one may be there.
                if [EINTR, ECONNABORTED, EPROTO, EPERM].contains(code) { continue }
                return fail(code, socket, &turn)
            }
            // Without an address it is gone already.
            guard let peer else {
                SystemCall.close(descriptor)
                continue
            }
            var accepted = AcceptedConnection(descriptor: descriptor, peer: peer, isTLS: socket.isTLS)
            if server.limits.isAskedAtAccept, isRefused(&accepted) {
                SystemCall.resetWhenClosed(descriptor)
                SystemCall.close(descriptor)
                continue
            }
            turn.accepted[turn.next].append(accepted)
            turn.next = (turn.next + 1) % entrances.count
        }
    }

    /// Whether a connection is over a limit and is not to be told so.
    private func isRefused(_ accepted: inout AcceptedConnection) -> Bool {
        let (limits, address) = (server.limits, accepted.peer.address)
        if let canary = server.canary, canary.isOwn(accepted.peer) { return false }
        // Of one that says first whose it is, that is asked.
        guard !limits.wantsProxyHeader(address), let refusal = limits.refusal(of: address) else { return false }
        if limits.mayTell(refusal, isSecret: accepted.isTLS) {
            accepted.refusal = refusal
            return false
        }
        limits.note(refusal, address)
        return true
    }

    private func handOver(_ turn: inout Turn) {
        for (index, entrance) in entrances.enumerated() where !turn.accepted[index].isEmpty {
            if !room.add(turn.accepted[index].count) { turn.isFull = true }
            if entrance.queue.append(turn.accepted[index]) {
                entrance.loop.eventLoop.execute { entrance.loop.value.connectionsCame() }
            }
            turn.accepted[index].removeAll(keepingCapacity: true)
        }
    }

    /// accept(2) said no.
    private func fail(_ code: Int32, _ socket: ListeningSocket, _ turn: inout Turn) {
        if code == EAGAIN { return }
        if code == EMFILE || code == ENFILE {
            if turn.reserve >= 0 { SystemCall.close(turn.reserve) }
            var closed = 0
            while closed < Self.closedMax, SystemCall.acceptAndClose(socket.descriptor) { closed += 1 }
            turn.reserve = SystemCall.openNothing()
            server.noteRefused(closed)
            if closed > 0 { return }
            // Another part of the process was quicker.
        } else if turn.logged != code {
            turn.logged = code
            server.logger.error("cannot accept connections", metadata: ["detail": "\(String(cString: strerror(code)))"])
        }
        turn.restsUntil = Clock.monotonicMilliseconds() + Int64(Self.restMilliseconds)
    }
}

import NIOCore
import Synchronization

/// A connection that was accepted, and that no loop has yet.
struct AcceptedConnection: Sendable {
    var descriptor: Int32
    var peer: PeerAddress
    var isTLS: Bool
    /// Its loop tells it so.
    var refusal: LimitRefusal?
}

/// How many connections wait to enter loops; shared by the listeners' thread and all loops.
final class EntryRoom: Sendable {
    /// With more of them nothing is accepted.
    static let waitingMax = 4096

    private let waiting = Atomic<Int>(0)
    private let isFull = Atomic<Bool>(false)

    /// - Returns: whether more may be accepted. If not, a later `left` says that it may.
    func add(_ count: Int) -> Bool {
        guard waiting.add(count, ordering: .sequentiallyConsistent).newValue >= Self.waitingMax else { return true }
        isFull.store(true, ordering: .sequentiallyConsistent)
        // They may all have entered in between.
        return waiting.load(ordering: .sequentiallyConsistent) < Self.waitingMax / 2
            && isFull.exchange(false, ordering: .sequentiallyConsistent)
    }

    /// - Returns: whether the listeners' thread has to be told that there is room again.
    func left(_ count: Int) -> Bool {
        guard waiting.subtract(count, ordering: .sequentiallyConsistent).newValue < Self.waitingMax / 2 else { return false }
        return isFull.load(ordering: .sequentiallyConsistent) && isFull.exchange(false, ordering: .sequentiallyConsistent)
    }
}

/// Connections that wait to enter one loop; each turn takes some, and between two turns the loop looks at its sockets.
///
/// The kernel's queue is no place to wait in: who finds it full comes again after a second. And what comes of a new connection keeps a loop
/// busy: a flood of them would keep everybody waiting who is there already.
final class EntryQueue: Sendable {
    /// One takes about 50 us, and what it then wants more.
    private static let perTurn = 4
    /// Places that stay when nobody waits.
    private static let keptMax = 64

    private let waiting = Mutex<CircularBuffer<AcceptedConnection>>(CircularBuffer())

    /// - Returns: whether there was none: then the loop has to be told.
    func append(_ connections: [AcceptedConnection]) -> Bool {
        waiting.withLock { waiting in
            let wasEmpty = waiting.isEmpty
            waiting.append(contentsOf: connections)
            return wasEmpty
        }
    }

    /// Those that enter now, and whether there are more.
    func take() -> (now: [AcceptedConnection], isMore: Bool) {
        waiting.withLock { waiting in
            let now = (0..<min(waiting.count, Self.perTurn)).map { _ in waiting.removeFirst() }
            // After a flood nothing is kept of it.
            if waiting.isEmpty, waiting.capacity > Self.keptMax { waiting = CircularBuffer() }
            return (now, !waiting.isEmpty)
        }
    }

    /// The loop ends: those that do not enter any more.
    func takeAll() -> [AcceptedConnection] {
        waiting.withLock { waiting in
            defer { waiting.removeAll() }
            return Array(waiting)
        }
    }
}

import Glibc
import Synchronization

/// How far a load is. Threads arrive at each phase when they have done what it begins with.
enum LoadPhase: Int {
    case subscribing
    /// Nothing is published, and it is measured what that costs. This phase and the next three begin with reading what has gone over the
    /// wires.
    case idling
    /// Messages that are not timed.
    case warming
    case measuring
    case measured
    /// Begins with cutting all connections.
    case cut
    /// Begins with coming back.
    case resuming
    /// Ends the thread.
    case done
}

/// What the coordinator tells the threads.
final class LoadControl: Sendable {
    private let number = Atomic<Int>(LoadPhase.subscribing.rawValue)
    /// When the first message of each part is due; 0 before that is known.
    let warmUpStart = Atomic<Int64>(0)
    let measureStart = Atomic<Int64>(0)
    /// When the subscribers may come back.
    let resumeStart = Atomic<Int64>(0)
    let cutStart = Atomic<Int64>(0)

    var phase: LoadPhase {
        get { LoadPhase(rawValue: number.load(ordering: .acquiring))! }
        set { number.store(newValue.rawValue, ordering: .releasing) }
    }
}

/// What a thread tells the coordinator.
final class ThreadGauge<Result: Sendable>: Sendable {
    let arrived = Atomic<Int>(-1)
    let ready = Atomic<Int>(0)
    let ended = Atomic<Int>(0)
    let delivered = Atomic<Int>(0)
    private let shared = Mutex<(result: Result?, why: String?)>((nil, nil))

    func arrive(at phase: LoadPhase) {
        arrived.store(phase.rawValue, ordering: .releasing)
    }

    func hasArrived(at phase: LoadPhase) -> Bool {
        arrived.load(ordering: .acquiring) >= phase.rawValue
    }

    var result: Result? {
        get { shared.withLock { $0.result } }
        set { shared.withLock { $0.result = newValue } }
    }

    /// Why the first connection ended that did.
    var firstEnd: String? {
        get { shared.withLock { $0.why } }
        set { shared.withLock { $0.why = newValue } }
    }
}

/// A thread that is waited for.
struct LoadThread {
    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    private var thread = pthread_t()

    init(_ run: @escaping @Sendable () -> Void) {
        let body = Unmanaged.passRetained(Body(run))
        let result = pthread_create(
            &thread, nil,
            {
                Unmanaged<Body>.fromOpaque($0!).takeRetainedValue().run()
                return nil
            }, body.toOpaque())
        precondition(result == 0, "no thread")
    }

    func join() {
        pthread_join(thread, nil)
    }
}

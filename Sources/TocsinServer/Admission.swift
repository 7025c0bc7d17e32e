import NIOCore

/// Lets connections that were accepted into the loops, a few at a time.
///
///     kernel's queue ──accept──> waiting ──as there is room──> `EntryQueue` of a loop ──some a turn──> registered
///
/// NIO runs tasks until there are none and only then looks at the sockets again, and each new connection is some tasks: a flood of them
/// would keep everybody waiting who is there already. In the kernel's queue they must not stay for long either: who finds it full comes
/// again after a second.
final class Admission: Sendable {
    /// Of each loop: as many as some of its turns take, so that these do not wait for the listeners' thread.
    private static let inFlightOfLoop = 32
    /// Accepted and not let in yet. With more of them nothing is accepted.
    static let waitingMax = 4096

    private struct Queue {
        var waiting = CircularBuffer<() -> Void>()
        var inFlight = 0
        var onRoom: [() -> Void] = []
    }

    /// The listeners'.
    private let eventLoop: any EventLoop
    private let inFlightMax: Int
    private let queue: NIOLoopBoundBox<Queue>

    init(eventLoop: any EventLoop, loops: Int) {
        self.eventLoop = eventLoop
        inFlightMax = Self.inFlightOfLoop * max(1, loops)
        queue = .makeBoxSendingValue(Queue(), eventLoop: eventLoop)
    }

    /// On the listeners' loop: a connection was accepted.
    ///
    /// - Parameter enter: gives it to its loop, which has to say `entered` for it.
    /// - Returns: whether there is room for more.
    func take(_ enter: @escaping () -> Void) -> Bool {
        if queue.value.inFlight < inFlightMax {
            queue.value.inFlight += 1
            enter()
        } else {
            queue.value.waiting.append(enter)
        }
        return queue.value.waiting.count < Self.waitingMax
    }

    /// On the listeners' loop: `action` is called once when there is room again.
    func whenRoom(_ action: @escaping () -> Void) {
        queue.value.onRoom.append(action)
    }

    /// From a loop: so many have entered.
    func entered(_ count: Int) {
        eventLoop.execute { self.go(on: count) }
    }

    private func go(on count: Int) {
        queue.value.inFlight -= count
        while queue.value.inFlight < inFlightMax, let enter = queue.value.waiting.popFirst() {
            queue.value.inFlight += 1
            enter()
        }
        guard !queue.value.onRoom.isEmpty, queue.value.waiting.count < Self.waitingMax / 2 else { return }
        let actions = queue.value.onRoom
        queue.value.onRoom = []
        for action in actions { action() }
    }
}

/// Connections that wait to enter a loop; each turn takes some, and between two turns the loop looks at its sockets.
struct EntryQueue {
    /// One takes about 50 us, and what it then wants more.
    private static let perTurn = 4

    private var waiting = CircularBuffer<EventLoopPromise<Void>>()

    var isEmpty: Bool { waiting.isEmpty }

    mutating func append(_ promise: EventLoopPromise<Void>) {
        waiting.append(promise)
    }

    /// Those that enter now.
    mutating func take() -> [EventLoopPromise<Void>] {
        (0..<min(waiting.count, Self.perTurn)).map { _ in waiting.removeFirst() }
    }

    /// The loop ends: those that do not enter any more.
    mutating func takeAll() -> [EventLoopPromise<Void>] {
        defer { waiting.removeAll() }
        return Array(waiting)
    }
}

import NIOCore
import NotificationCore

/// How much of a loop's time goes to those who want a lot of it, and what waits for that.
///
///     bytes of a peer that has cost little ────> served at once, for a slice ──something is left──┐
///     bytes of one that has cost much, handshakes, long reads, commands by POST ────────> queue <─┘
///                                                                                          │ ^
///                                              a turn: slices, one after the other <───────┘ │
///                                              what is not done after its slice goes to the end
///
/// There are two queues, from which jobs are taken alternately: one is of connections that are new. However many of them shake hands, those
/// who are there wait for each other and for as many handshakes.
///
/// A slice is a time and not a count of bytes, since bytes do not tell the work: a request of 80 bytes may ask for a MiB, and 22 bytes of
/// TLS bring one of text. Who works looks at the clock after each piece, request, event or page.
///
/// The odd case: NIO runs tasks until there are none and only then looks at the sockets again. Work that went on in a task of its own
/// would keep everybody waiting who is heard through a socket. So the next turn comes through a pipe (`LoopWaker`).
final class TurnQueue {
    enum Job {
        case connection(Connection)
        case reader(SubscriberID)
        /// Reads that wait for nothing any more.
        case readsAhead
        case commands(SessionCommands)
        /// Connections that wait to enter.
        case entries
        /// Those who watch are told who comes and leaves.
        case presence
    }

    /// A few requests, or a page of 128 KiB.
    static let sliceNanoseconds: Int64 = 200_000
    /// A message waits for a turn about three times on its way: at the publisher's loop, at the subscriber's, and for the next poll.
    static let turnNanoseconds: Int64 = 500_000
    /// To the next turn, on loops without a waker (which have no sockets either).
    static let pause = TimeAmount.microseconds(20)

    private let eventLoop: any EventLoop
    private let nanoseconds: () -> Int64
    private let perform: (Job) -> Void
    /// Has `turn` called when the loop has looked at its sockets.
    var waker: LoopWaker?
    private var jobs = CircularBuffer<Job>()
    private var newcomers = CircularBuffer<Job>()
    /// Whose job is next, if both have one.
    private var isNewcomersTurn = false
    private var isScheduled = false
    /// Of the slice that is under way.
    private var sliceEnd = Int64.max

    /// - Parameters:
    ///   - nanoseconds: a clock that does not run backwards.
    ///   - perform: does a job, for a slice.
    init(eventLoop: any EventLoop, nanoseconds: @escaping () -> Int64, perform: @escaping (Job) -> Void) {
        self.eventLoop = eventLoop
        self.nanoseconds = nanoseconds
        self.perform = perform
    }

    var count: Int { jobs.count + newcomers.count }

    /// A slice is under way.
    var isAtWork: Bool { sliceEnd != .max }

    /// Whether there is time left in the slice; outside of one there is. To be asked after a step and not before it, so that each slice
    /// gets on by one at least.
    var mayGoOn: Bool { sliceEnd == .max || nanoseconds() < sliceEnd }

    /// Does something that asks `mayGoOn`.
    ///
    /// - Returns: how long it took, in nanoseconds.
    func slice(_ work: () -> Void) -> Int64 {
        precondition(!isAtWork, "a slice inside a slice")
        let start = nanoseconds()
        sliceEnd = start + Self.sliceNanoseconds
        work()
        sliceEnd = .max
        return nanoseconds() - start
    }

    func add(_ job: Job, isNewcomer: Bool = false) {
        if isNewcomer { newcomers.append(job) } else { jobs.append(job) }
        if !isScheduled { schedule() }
    }

    private func schedule() {
        isScheduled = true
        if let waker { return waker.wake() }
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        eventLoop.scheduleTask(in: Self.pause) { bound.value.turn() }
    }

    func turn() {
        isScheduled = false
        let end = nanoseconds() + Self.turnNanoseconds
        repeat {
            guard let job = next() else { return }
            perform(job)
        } while nanoseconds() < end
        if count > 0, !isScheduled { schedule() }
    }

    private func next() -> Job? {
        isNewcomersTurn.toggle()
        return isNewcomersTurn ? newcomers.popFirst() ?? jobs.popFirst() : jobs.popFirst() ?? newcomers.popFirst()
    }

    /// Forgets what waits: the loop ends.
    func removeAll() {
        jobs.removeAll()
        newcomers.removeAll()
        waker = nil
    }
}

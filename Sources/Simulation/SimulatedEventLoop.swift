import Dispatch
import NIOCore

/// An event loop on the simulated clock. It does what it was given in order, some time after it was given, as a thread does that other
/// threads keep from its processor.
///
/// Unchecked: there is one thread.
final class SimulatedEventLoop: EventLoop, @unchecked Sendable {
    /// The loop whose task is under way; nil: none.
    nonisolated(unsafe) private static var current: SimulatedEventLoop?

    /// Something that is to be done at its time, or was.
    private final class Appointment: @unchecked Sendable {
        var isOver = false
        var cancel: () -> Void = {}
    }

    private let timeline: Timeline
    private let pause: (() -> Int64)?
    /// Called after each task.
    var afterTask: () -> Void = {}
    private var tasks: [() -> Void] = []
    private var isWakeful = false
    private var isDead = false
    private var appointments: [Appointment] = []

    /// - Parameter pause: milliseconds from when there is something to do until it is begun; nil: it is done inside `execute`.
    init(_ timeline: Timeline, pause: (() -> Int64)?) {
        self.timeline = timeline
        self.pause = pause
    }

    /// What is to be done is not done any more.
    func die() {
        isDead = true
        tasks = []
        // NIO wants every promise to be kept or broken.
        for appointment in appointments where !appointment.isOver { appointment.cancel() }
        appointments = []
    }

    /// While nothing runs on any loop, what is prepared counts as done on each.
    var inEventLoop: Bool { Self.current == nil || Self.current === self }

    /// Runs something on the loop now.
    func run(_ body: () -> Void) {
        let before = Self.current
        Self.current = self
        body()
        Self.current = before
        afterTask()
    }

    func execute(_ task: @escaping @Sendable () -> Void) {
        if isDead { return }
        guard let pause else { return run(task) }
        tasks.append(task)
        if !isWakeful { wake(after: pause()) }
    }

    private func wake(after milliseconds: Int64) {
        isWakeful = true
        timeline.after(milliseconds) { [self] in
            isWakeful = false
            let batch = tasks
            tasks = []
            for task in batch where !isDead { run(task) }
            if !tasks.isEmpty, !isWakeful { wake(after: 0) }
        }
    }

    var now: NIODeadline { .uptimeNanoseconds(UInt64(timeline.now) * 1_000_000) }

    func scheduleTask<T>(deadline: NIODeadline, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
        let promise = makePromise(of: T.self)
        let appointment = Appointment()
        appointment.cancel = {
            appointment.isOver = true
            promise.fail(EventLoopError.cancelled)
        }
        if isDead {
            appointment.cancel()
            return Scheduled(promise: promise) {}
        }
        if appointments.count > 100 { appointments.removeAll(where: \.isOver) }
        appointments.append(appointment)
        timeline.at(Int64((deadline.uptimeNanoseconds + 999_999) / 1_000_000)) { [self] in
            if isDead || appointment.isOver { return }
            execute {
                if appointment.isOver { return }
                appointment.isOver = true
                do { promise.assumeIsolated().succeed(try task()) } catch { promise.fail(error) }
            }
        }
        return Scheduled(promise: promise) { if !appointment.isOver { appointment.cancel() } }
    }

    func scheduleTask<T>(in amount: TimeAmount, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
        scheduleTask(deadline: now + amount, task)
    }

    func shutdownGracefully(queue: DispatchQueue, _ callback: @escaping @Sendable ((any Error)?) -> Void) {
        preconditionFailure("a simulated loop dies")
    }
}

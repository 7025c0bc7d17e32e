package import Logging
package import NIOCore
package import NotificationCore
package import NotificationStore
import Synchronization

/// The log inside this process: one writer, on a thread of its own, in front of the store.
///
/// Appending is asynchronous and batched: what the loops ask while a commit is being made durable goes together into the next one. When a
/// commit is durable its batch goes to each loop in one hop. A publisher is answered by its own loop after that loop has applied the
/// batch; reads on the others wait until they have, too.
///
///     open ──a commit fails──> failed: nothing is taken; the store is opened anew about once a second
///       ^                        │
///       └────────opened──────────┘
package final class EmbeddedLog: LogService {
    private enum Work {
        case append(AppendRequest, AppendCompletion)
        case acknowledge(FieldText, ChannelName, [ClosedRange<UInt64>], isDismissed: Bool, @Sendable (AcknowledgeOutcome) -> Void)
    }

    private struct Pending {
        var work: Work
        var loop: Int
    }

    private struct Queue {
        var pending: [Pending] = []
        var isScheduled = false
        var isClosed = false
    }

    /// What belongs to the writer's thread.
    private struct Writing {
        var store: NotificationStore?
        var writer: LogWriter
        /// While it cannot be written: what can still be read.
        var readOnlyStore: NotificationStore?
        /// Calls of `tend` since the store was opened anew.
        var calmTicks = 0
        /// Whether `writer` stands where the store does: not after a commit that failed, until the store is opened anew.
        var isWriterSound = true
    }

    package let epoch: LogEpoch
    private let options: StoreOptions
    private let logger: Logger
    private let newestNumber: Atomic<UInt64>
    private let writerLoop: any EventLoop
    private let readerLoop: any EventLoop
    private let writing: NIOLoopBoundBox<Writing>
    private let queue = Mutex(Queue())
    private let followers = Mutex<[NIOLoopBound<any LogFollower>]>([])
    private let pastEpochs: [LogEpoch: UInt64]
    /// Told each number that is given out, before anybody else is.
    private let onHead: (@Sendable (UInt64) -> Void)?
    /// The same store, for the reader's thread; nil while it cannot be used.
    private let readable: Mutex<NotificationStore?>
    private let faultBox = Mutex<StoreFault?>(nil)
    private let statisticsBox = Mutex(StoreStatistics())

    private init(
        _ opened: OpenedLog, _ options: StoreOptions, writerLoop: any EventLoop, readerLoop: any EventLoop, logger: Logger,
        onHead: (@Sendable (UInt64) -> Void)?
    ) {
        epoch = opened.writer.epoch
        pastEpochs = opened.preload.pastEpochs
        self.onHead = onHead
        self.options = options
        self.logger = logger
        self.writerLoop = writerLoop
        self.readerLoop = readerLoop
        newestNumber = Atomic(opened.writer.head)
        writing = .makeBoxSendingValue(Writing(store: opened.store, writer: opened.writer), eventLoop: writerLoop)
        readable = Mutex(opened.store)
        onHead?(opened.writer.head)
    }

    /// Opens the store, or makes a new one, on the writer's thread.
    ///
    /// - Returns: the log, and what a loop that follows it has to know.
    package static func open(
        _ options: StoreOptions, writerLoop: any EventLoop, readerLoop: any EventLoop, logger: Logger,
        onHead: (@Sendable (UInt64) -> Void)? = nil
    ) async throws -> (log: EmbeddedLog, preload: LogPreload) {
        try await writerLoop.submit {
            var generator = SystemRandomNumberGenerator()
            return try open(
                options, newEpoch: LogEpoch(random: generator.next()), writerLoop: writerLoop, readerLoop: readerLoop, logger: logger,
                onHead: onHead
            )
        }.get()
    }

    /// The same, for a caller that is on the writer's loop.
    package static func open(
        _ options: StoreOptions, newEpoch: LogEpoch, writerLoop: any EventLoop, readerLoop: any EventLoop, logger: Logger,
        onHead: (@Sendable (UInt64) -> Void)? = nil
    ) throws(StoreFault) -> (log: EmbeddedLog, preload: LogPreload) {
        let opened = try OpenedLog(options, newEpoch: newEpoch, nowMilliseconds: Clock.wallMilliseconds())
        let log = EmbeddedLog(opened, options, writerLoop: writerLoop, readerLoop: readerLoop, logger: logger, onHead: onHead)
        writerLoop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in log.tend() }
        return (log, opened.preload)
    }

    /// The newest number that was given out. A loop may not have applied it yet.
    package var head: UInt64 { newestNumber.load(ordering: .acquiring) }

    /// Why nothing is taken at the moment; nil: all is well.
    package var fault: StoreFault? { faultBox.withLock { $0 } }

    package var statistics: StoreStatistics { statisticsBox.withLock { $0 } }

    /// Adds a loop that is told every batch from now on. To be called before anything is appended.
    package func follow(_ follower: any LogFollower) {
        let bound = NIOLoopBound(follower, eventLoop: follower.eventLoop)
        followers.withLock { followers in
            precondition(follower.number == followers.count)
            followers.append(bound)
        }
    }

    /// The log as it is now, for one who begins to follow it: told to `follower` after all the batches that are in it, and before all
    /// those that are not. nil: not at the moment, ask again.
    package func preload(for follower: any LogFollower, completion: @escaping @Sendable (LogPreload?) -> Void) {
        let eventLoop = follower.eventLoop
        writerLoop.execute {
            var preload = self.writing.value.isWriterSound ? self.writing.value.writer.preload() : nil
            preload?.pastEpochs = self.pastEpochs
            eventLoop.execute { [preload] in completion(preload) }
        }
    }

    // MARK: writing

    package func append(_ request: AppendRequest, from follower: any LogFollower, completion: @escaping AppendCompletion) {
        var request = request
        if request.takenNanoseconds == 0 { request.takenNanoseconds = Clock.monotonicNanoseconds() }
        guard enqueue(Pending(work: .append(request, completion), loop: follower.number)) else {
            return completion(request.publications.map { _ in .refused(.shuttingDown) })
        }
    }

    /// Stores what a user has read. The user's other devices are told through the user's own channel.
    package func acknowledge(
        _ user: FieldText, _ channel: ChannelName, _ ranges: [ClosedRange<UInt64>], isDismissed: Bool, from follower: any LogFollower,
        completion: @escaping @Sendable (AcknowledgeOutcome) -> Void
    ) {
        let work = Work.acknowledge(user, channel, ranges, isDismissed: isDismissed, completion)
        if !enqueue(Pending(work: work, loop: follower.number)) { completion(.storeFailed) }
    }

    private func enqueue(_ pending: Pending) -> Bool {
        enum Next { case schedule, wait, refuse }
        let next = queue.withLock { queue -> Next in
            if queue.isClosed { return .refuse }
            queue.pending.append(pending)
            if queue.isScheduled { return .wait }
            queue.isScheduled = true
            return .schedule
        }
        if case .schedule = next { writerLoop.execute { self.drain() } }
        if case .refuse = next { return false }
        return true
    }

    private func drain() {
        let pending = queue.withLock { queue in
            queue.isScheduled = false
            let pending = queue.pending
            queue.pending = []
            return pending
        }
        let now = Clock.wallMilliseconds()
        var answers: [(loop: Int, answer: @Sendable (_ isStored: Bool) -> Void)] = []
        answers.reserveCapacity(pending.count)
        var oldest = Int64.max
        for entry in pending {
            switch entry.work {
            case .append(let request, let completion):
                oldest = min(oldest, request.takenNanoseconds)
                let outcomes = writing.value.store == nil ? [] : writing.value.writer.append(request, nowMilliseconds: now)
                answers.append(
                    (entry.loop, { isStored in completion(isStored ? outcomes : request.publications.map { _ in .refused(.storeFailed) }) })
                )
            case .acknowledge(let user, let channel, let ranges, let isDismissed, let completion):
                let outcome = acknowledge(user, channel, ranges, isDismissed, now)
                answers.append((entry.loop, { isStored in completion(isStored ? outcome : .storeFailed) }))
            }
        }
        commit(answers, takenNanoseconds: oldest == .max ? 0 : oldest)
    }

    private func acknowledge(
        _ user: FieldText, _ channel: ChannelName, _ ranges: [ClosedRange<UInt64>], _ isDismissed: Bool, _ now: Int64
    ) -> AcknowledgeOutcome {
        guard let store = writing.value.store else { return .storeFailed }
        guard let id = writing.value.writer.id(of: channel) else { return .noChannel }
        do throws(StoreFault) {
            let stored = try store.receipt(user: user, channel: id)
            let isDone = writing.value.writer.acknowledge(
                user, channel, ranges, isDismissed: isDismissed, stored: stored, nowMilliseconds: now
            )
            return isDone ? .done : .noChannel
        } catch {
            return .storeFailed
        }
    }

    /// Makes durable what is staged, and then tells everybody.
    private func commit(_ answers: [(loop: Int, answer: @Sendable (_ isStored: Bool) -> Void)], takenNanoseconds: Int64 = 0) {
        var batch = LogBatch(notifications: [])
        var isStored = writing.value.store != nil
        if let store = writing.value.store {
            let commit = writing.value.writer.takeCommit()
            if !commit.isEmpty {
                do throws(StoreFault) {
                    try store.commit(commit)
                    batch = writing.value.writer.batch(commit)
                    batch.takenNanoseconds = takenNanoseconds
                    noteHead(writing.value.writer.head)
                    if !commit.entries.isEmpty { recover() }
                } catch {
                    isStored = false
                    fail(error)
                }
            }
        }
        tell(batch, answers: answers, isStored: isStored)
    }

    private func noteHead(_ head: UInt64) {
        newestNumber.store(head, ordering: .releasing)
        onHead?(head)
    }

    /// One hop to each loop: first the batch, then the answers to those who asked there.
    private func tell(_ batch: LogBatch, answers: [(loop: Int, answer: @Sendable (_ isStored: Bool) -> Void)], isStored: Bool) {
        let followers = followers.withLock { $0 }
        var perLoop = Array(repeating: [@Sendable (Bool) -> Void](), count: followers.count)
        for (loop, answer) in answers { perLoop[loop].append(answer) }
        for (number, follower) in followers.enumerated() {
            let answers = perLoop[number]
            if batch.notifications.isEmpty && answers.isEmpty { continue }
            follower.eventLoop.execute { [batch, isStored] in
                if !batch.notifications.isEmpty { follower.value.apply(batch) }
                for answer in answers { answer(isStored) }
            }
        }
    }

    /// The store did not take a commit. What was staged is forgotten, since nobody was told of it: the writer begins anew with what the
    /// store has.
    private func fail(_ fault: StoreFault) {
        logger.error("the log cannot be written", metadata: ["error": "\(fault)"])
        faultBox.withLock { $0 = fault }
        writing.value.isWriterSound = false
        if case .full = fault {
            // The disk is not free in the next moment; meanwhile what was stored can be read.
            writing.value.readOnlyStore = writing.value.store
            writing.value.store = nil
        } else {
            writing.value.store?.close(isOrderly: false)
            writing.value.store = nil
            reopen()
        }
    }

    private func reopen() {
        readable.withLock { $0 = nil }
        writing.value.readOnlyStore?.close(isOrderly: false)
        writing.value.readOnlyStore = nil
        do throws(StoreFault) {
            // The epoch is that of before, or else this is refused below.
            let opened = try OpenedLog(options, newEpoch: epoch, nowMilliseconds: Clock.wallMilliseconds(), needsWriting: false)
            guard opened.writer.epoch == epoch, opened.writer.head >= head else {
                opened.store.close(isOrderly: false)
                throw .corrupt("the log in \(options.path) is not the one that this server has been serving: restart the server")
            }
            let batch = try opened.batch(after: head, nowMilliseconds: Clock.wallMilliseconds())
            noteHead(opened.writer.head)
            tell(batch, answers: [], isStored: true)
            readable.withLock { $0 = opened.store }
            writing.value.writer = opened.writer
            writing.value.isWriterSound = true
            if let fault = opened.writeFault {
                writing.value.readOnlyStore = opened.store
                faultBox.withLock { $0 = fault }
            } else {
                writing.value.store = opened.store
                writing.value.calmTicks = 0
            }
        } catch {
            faultBox.withLock { $0 = error }
        }
    }

    /// The store has taken something, or has been open for some seconds without a fault: what was wrong is over.
    private func recover() {
        let hadFault = faultBox.withLock { fault in
            defer { fault = nil }
            return fault != nil
        }
        if hadFault { logger.notice("the log can be written again") }
    }

    /// What is to be done about once a second: expiry, retention, and another try if the store failed.
    private func tend() {
        guard let store = writing.value.store else {
            if !queue.withLock({ $0.isClosed }) { reopen() }
            return
        }
        writing.value.calmTicks += 1
        if writing.value.calmTicks == 3 { recover() }
        writing.value.writer.expire(nowMilliseconds: Clock.wallMilliseconds())
        commit([])
        statisticsBox.withLock { $0 = store.statistics }
        maintain()
    }

    private func maintain() {
        guard let store = writing.value.store else { return }
        do throws(StoreFault) {
            // A piece at a time, so that publishers do not wait long.
            if try store.maintain(nowMilliseconds: Clock.wallMilliseconds()) { writerLoop.execute { self.maintain() } }
        } catch {
            fail(error)
        }
    }

    /// The thread on which the store is written.
    var storeLoop: any EventLoop { writerLoop }

    /// Runs `body` with the store, on its thread. A fault of it is the log's, as of a commit.
    ///
    /// - Returns: nil while the store cannot be written.
    func withStore<Value>(_ body: (NotificationStore) throws(StoreFault) -> Value) -> Value? {
        guard let store = writing.value.store else { return nil }
        do throws(StoreFault) {
            return try body(store)
        } catch {
            fail(error)
            return nil
        }
    }

    /// Nothing is taken any more; what was taken before is still appended. Then the store is closed.
    package func close() async {
        queue.withLock { $0.isClosed = true }
        _ = try? await writerLoop.submit {
            self.drain()
            self.readable.withLock { $0 = nil }
            self.writing.value.store?.close(isOrderly: true)
            self.writing.value.store = nil
            self.writing.value.readOnlyStore?.close(isOrderly: false)
            self.writing.value.readOnlyStore = nil
        }.get()
    }

    // MARK: reading

    /// Reads from the store, on the reader's thread; the answer comes on the loop that asked.
    package func read<Value: Sendable>(
        from follower: any LogFollower, _ body: @escaping @Sendable (NotificationStore) throws(StoreFault) -> Value,
        completion: @escaping @Sendable (Result<Value, StoreFault>) -> Void
    ) {
        let eventLoop = follower.eventLoop
        readerLoop.execute {
            let result: Result<Value, StoreFault>
            if let store = self.readable.withLock({ $0 }) {
                do throws(StoreFault) { result = .success(try body(store)) } catch { result = .failure(error) }
            } else {
                result = .failure(self.fault ?? .io("the log is closed"))
            }
            if case .failure(let fault) = result { self.logger.error("the log cannot be read", metadata: ["error": "\(fault)"]) }
            eventLoop.execute { completion(result) }
        }
    }
}

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
///
/// Another process may take the writing over, and give it back: `EmbeddedLog+HandingOver.swift`.
package final class EmbeddedLog: LogService {
    enum Work {
        case append(AppendRequest, AppendCompletion)
        case acknowledge(FieldText, ChannelName, [ClosedRange<UInt64>], isDismissed: Bool, @Sendable (AcknowledgeOutcome) -> Void)
    }

    struct Pending {
        var work: Work
        var loop: Int
    }

    struct Queue {
        var pending: [Pending] = []
        var isScheduled = false
        var isClosed = false
        /// While nobody writes: what waits is bounded. nil: it is taken at once.
        var heldBytes: Int?
    }

    /// What belongs to the writer's thread.
    struct Writing {
        var options: StoreOptions
        var role = Role.writing
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
    let logger: Logger
    /// The newest that this process has given out or was told of.
    let newestNumber: Atomic<UInt64>
    /// The same, where another process may have part in it: what that one gives out stands here, too.
    let sharedNumber: SharedNumber?
    let writerLoop: any EventLoop
    let readerLoop: any EventLoop
    let writing: NIOLoopBoundBox<Writing>
    let queue = Mutex(Queue())
    let followers = Mutex<[NIOLoopBound<any LogFollower>]>([])
    private let pastEpochs: [LogEpoch: UInt64]
    /// Told each number that is given out, before anybody else is.
    private let onHead: (@Sendable (UInt64) -> Void)?
    /// The same store, for the reader's thread; nil while it cannot be used.
    let readable: Mutex<NotificationStore?>
    let faultBox = Mutex<StoreFault?>(nil)
    private let readFaults = Mutex(ReadFaultLog())
    let statisticsBox = Mutex(StoreStatistics())
    /// So much may wait while the log changes hands; what comes beyond it is refused.
    let heldMax: HeldMax

    private init(
        _ opened: OpenedLog, _ options: StoreOptions, writerLoop: any EventLoop, readerLoop: any EventLoop, logger: Logger,
        onHead: (@Sendable (UInt64) -> Void)?, sharedNumber: SharedNumber?, heldMax: HeldMax
    ) {
        epoch = opened.writer.epoch
        pastEpochs = opened.preload.pastEpochs
        self.onHead = onHead
        self.sharedNumber = sharedNumber
        self.heldMax = heldMax
        self.logger = logger
        self.writerLoop = writerLoop
        self.readerLoop = readerLoop
        newestNumber = Atomic(opened.writer.head)
        var options = options
        options.ongoingEpoch = opened.writer.epoch
        var began = Writing(options: options, writer: opened.writer)
        if let fault = opened.writeFault {
            began.readOnlyStore = opened.store
            faultBox.withLock { $0 = fault }
        } else {
            began.store = opened.store
        }
        writing = .makeBoxSendingValue(began, eventLoop: writerLoop)
        readable = Mutex(opened.store)
        sharedNumber?.set(opened.writer.head)
        onHead?(opened.writer.head)
    }

    /// Opens the store, or makes a new one, on the writer's thread.
    ///
    /// - Parameter sharedNumber: where the newest number stands that was given out, for a process that takes the log over later.
    /// - Returns: the log, and what a loop that follows it has to know.
    package static func open(
        _ options: StoreOptions, writerLoop: any EventLoop, readerLoop: any EventLoop, logger: Logger,
        onHead: (@Sendable (UInt64) -> Void)? = nil, sharedNumber: SharedNumber? = nil, heldMax: HeldMax = HeldMax()
    ) async throws -> (log: EmbeddedLog, preload: LogPreload) {
        try await writerLoop.submit {
            var generator = Randomness()
            return try open(
                options, newEpoch: LogEpoch(random: generator.next()), writerLoop: writerLoop, readerLoop: readerLoop, logger: logger,
                onHead: onHead, sharedNumber: sharedNumber, heldMax: heldMax
            )
        }.get()
    }

    /// The same, for a caller that is on the writer's loop.
    package static func open(
        _ options: StoreOptions, newEpoch: LogEpoch, writerLoop: any EventLoop, readerLoop: any EventLoop, logger: Logger,
        onHead: (@Sendable (UInt64) -> Void)? = nil, sharedNumber: SharedNumber? = nil, heldMax: HeldMax = HeldMax()
    ) throws(StoreFault) -> (log: EmbeddedLog, preload: LogPreload) {
        // On a full disk it can be read, and there may be room soon.
        let opened = try OpenedLog(options, newEpoch: newEpoch, nowMilliseconds: Clock.wallMilliseconds(), needsWriting: false)
        if let fault = opened.writeFault {
            logger.error("the log cannot be written", metadata: ["error": "\(fault)"])
            guard case .full = fault else {
                opened.store.close(isOrderly: false)
                throw fault
            }
        }
        let log = EmbeddedLog(
            opened, options, writerLoop: writerLoop, readerLoop: readerLoop, logger: logger, onHead: onHead, sharedNumber: sharedNumber,
            heldMax: heldMax
        )
        writerLoop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in log.tend() }
        return (log, opened.preload)
    }

    /// The newest number that was given out. A loop may not have applied it yet.
    package var head: UInt64 { sharedNumber?.value ?? newestNumber.load(ordering: .acquiring) }

    /// How many messages are in the file that nobody was told of, since it is not certain that the disk has them. On the writer's loop.
    package var untoldCount: UInt64 { writing.value.writer.head - min(head, writing.value.writer.head) }

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
        if let refusal = enqueue(Pending(work: .append(request, completion), loop: follower.number)) {
            completion(request.publications.map { _ in .refused(refusal) })
        }
    }

    /// Stores what a user has read. The user's other devices are told through the user's own channel.
    package func acknowledge(
        _ user: FieldText, _ channel: ChannelName, _ ranges: [ClosedRange<UInt64>], isDismissed: Bool, from follower: any LogFollower,
        completion: @escaping @Sendable (AcknowledgeOutcome) -> Void
    ) {
        let work = Work.acknowledge(user, channel, ranges, isDismissed: isDismissed, completion)
        if enqueue(Pending(work: work, loop: follower.number)) != nil { completion(.storeFailed) }
    }

    /// - Returns: why it is not taken.
    private func enqueue(_ pending: Pending) -> AppendRefusal? {
        enum Next { case schedule, wait, refuse(AppendRefusal) }
        let next = queue.withLock { queue -> Next in
            if queue.isClosed { return .refuse(.shuttingDown) }
            if let held = queue.heldBytes {
                let bytes = held + pending.work.bytes
                guard bytes <= heldMax.bytes, queue.pending.count < heldMax.count else { return .refuse(.storeFailed) }
                queue.heldBytes = bytes
            }
            queue.pending.append(pending)
            if queue.isScheduled { return .wait }
            queue.isScheduled = true
            return .schedule
        }
        if case .schedule = next { writerLoop.execute { self.drain() } }
        if case .refuse(let why) = next { return why }
        return nil
    }

    func drain() {
        if case .passing = writing.value.role { return }
        let pending = queue.withLock { queue in
            queue.isScheduled = false
            let pending = queue.pending
            queue.pending = []
            return pending
        }
        if case .following(let link) = writing.value.role { return forward(pending, link.value) }
        let now = Clock.wallMilliseconds()
        var answers: [(loop: Int, answer: @Sendable (_ isStored: Bool) -> Void)] = []
        answers.reserveCapacity(pending.count)
        var oldest = Int64.max
        for entry in pending {
            switch entry.work {
            case .append(let request, let completion):
                oldest = min(oldest, request.takenNanoseconds)
                let outcomes = writing.value.store == nil ? [] : writing.value.writer.append(request, nowMilliseconds: now)
                let count = request.publications.count
                #if DEFECTS
                    if Defect.active == .answerBeforeCommit {
                        followers.withLock { $0[entry.loop] }.eventLoop.execute { completion(outcomes) }
                        continue
                    }
                #endif
                answers.append(
                    (entry.loop, { completion($0 ? outcomes : Array(repeating: .refused(.storeFailed), count: count)) })
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
            return isDone ? .done : .tooManyUsers
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
                    let told = writing.value.writer.batch(commit)
                    try store.commit(commit, as: told.notifications)
                    batch = told
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

    func noteHead(_ head: UInt64) {
        newestNumber.store(head, ordering: .releasing)
        sharedNumber?.set(head)
        onHead?(head)
    }

    /// One hop to each loop: first the batch, then the answers to those who asked there.
    func tell(_ batch: LogBatch, answers: [(loop: Int, answer: @Sendable (_ isStored: Bool) -> Void)], isStored: Bool) {
        let followers = followers.withLock { $0 }
        var perLoop = Array(repeating: [@Sendable (Bool) -> Void](), count: followers.count)
        // Who asked may not follow any more.
        for (loop, answer) in answers where loop < perLoop.count { perLoop[loop].append(answer) }
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
        #if DEFECTS
            if Defect.active == .writerIsKept { return }
        #endif
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

    /// - Parameter isFull: whether there is no sense in trying to write.
    func reopen(isFull: Bool = false) {
        readable.withLock { $0 = nil }
        writing.value.readOnlyStore?.close(isOrderly: false)
        writing.value.readOnlyStore = nil
        // What the followers were told of; others may have been told of more.
        let told = newestNumber.load(ordering: .acquiring)
        let path = writing.value.options.path
        do throws(StoreFault) {
            if let lock = writing.value.options.lock, !lock.isInPlace(beside: path) {
                writing.value.options.lock = try LockFile(of: path, mustExist: true)
            }
            let options = writing.value.options
            let opened = try OpenedLog(
                options, newEpoch: epoch, nowMilliseconds: Clock.wallMilliseconds(), needsWriting: false, isAfterFault: true, isFull: isFull
            )
            // A copy of before has the epoch, but not the numbers.
            guard opened.writer.head >= head else {
                opened.store.close(isOrderly: false)
                throw .replaced(path: path)
            }
            // What a commit that failed has left may be in the file and not on the disk: then nobody is told of it yet.
            if opened.writeFault == nil || options.durability == .memory || Self.tellsWhatIsNotSynced {
                let batch = try opened.batch(after: told, nowMilliseconds: Clock.wallMilliseconds())
                noteHead(opened.writer.head)
                tellOfFailed(batch)
            }
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

    private func tellOfFailed(_ batch: LogBatch) {
        #if DEFECTS
            if Defect.active == .failedCommitNotTold { return }
        #endif
        tell(batch, answers: [], isStored: true)
    }

    #if DEFECTS
        private static var tellsWhatIsNotSynced: Bool { Defect.active == .unsyncedIsTold }
    #else
        private static let tellsWhatIsNotSynced = false
    #endif

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
        guard case .writing = writing.value.role else { return tendAnothers() }
        guard let store = writing.value.store else {
            if !queue.withLock({ $0.isClosed }) { tryAgain() }
            return
        }
        writing.value.calmTicks += 1
        if writing.value.calmTicks == 3 { recover() }
        writing.value.writer.expire(nowMilliseconds: Clock.wallMilliseconds())
        commit([])
        statisticsBox.withLock { $0 = store.statistics }
        maintain()
    }

    /// The store failed. On a full disk room is made as far as retention allows it, while it is read from as before.
    private func tryAgain() {
        guard case .full = fault else { return reopen() }
        guard let store = writing.value.readOnlyStore, writing.value.isWriterSound else { return reopen(isFull: true) }
        let now = Clock.wallMilliseconds()
        store.relieve(nowMilliseconds: now)
        do throws(StoreFault) { try store.probe() } catch { return }
        reopen()
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
        await finishFollowing()
        _ = try? await writerLoop.submit {
            self.drain()
            self.readable.withLock { $0 = nil }
            self.writing.value.store?.close(isOrderly: true)
            self.writing.value.store = nil
            self.writing.value.readOnlyStore?.close(isOrderly: false)
            self.writing.value.readOnlyStore = nil
            self.writing.value.options.lock = nil
        }.get()
    }

    /// Lets go of the store at once, as the end of the process would: nothing that waits is done, nobody is answered. For the simulation.
    package func abandon() {
        queue.withLock { $0.isClosed = true }
        readable.withLock { $0 = nil }
        followers.withLock { $0 = [] }
        writing.value.store?.close(isOrderly: false)
        writing.value.store = nil
        writing.value.readOnlyStore?.close(isOrderly: false)
        writing.value.readOnlyStore = nil
    }

    // MARK: reading

    /// Reads from the store, on the reader's thread; the answer comes on the loop that asked.
    package func read<Value: Sendable>(
        from follower: any LogFollower, _ body: @escaping @Sendable (NotificationStore) throws(StoreFault) -> Value,
        completion: @escaping @Sendable (Result<Value, StoreFault>) -> Void
    ) {
        let eventLoop = follower.eventLoop
        readerLoop.execute { self.read(0, eventLoop, body, completion) }
    }

    /// How often a reading is tried again while the store is being opened anew, and the pause before: together some times what that takes.
    private static let readTriesMax = 5
    private static let readPause = TimeAmount.milliseconds(20)

    private func read<Value: Sendable>(
        _ tries: Int, _ eventLoop: any EventLoop, _ body: @escaping @Sendable (NotificationStore) throws(StoreFault) -> Value,
        _ completion: @escaping @Sendable (Result<Value, StoreFault>) -> Void
    ) {
        let store = readable.withLock { $0 }
        let result: Result<Value, StoreFault>
        if let store {
            do throws(StoreFault) { result = .success(try body(store)) } catch { result = .failure(error) }
        } else {
            result = .failure(fault ?? .io("the log is closed"))
        }
        if case .failure(let fault) = result {
            // It was closed under the reading, or is just being opened: what comes after it is asked.
            if store == nil || readable.withLock({ $0 !== store }), tries < Self.readTriesMax {
                readerLoop.scheduleTask(in: Self.readPause) { self.read(tries + 1, eventLoop, body, completion) }
                return
            }
            if readFaults.withLock({ $0.isNews(fault) }) {
                logger.error("the log cannot be read", metadata: ["error": "\(fault)"])
            }
        }
        eventLoop.execute { completion(result) }
    }
}

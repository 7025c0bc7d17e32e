import CSimulatedDisk
import NotificationCore
import NotificationStore

/// The server's log and its loops, as `TocsinServer` has them, on a simulated disk and without threads.
///
///     down ──start──> open ──a commit fails──> failed ──reopen──> open
///      ^               │                        │
///      └──── crash ────┴────────────────────────┘
final class SimulatedServer {
    typealias Completion = ([AppendOutcome]) -> Void

    enum AcknowledgeOutcome { case done, noChannel, storeFailed }

    private enum Work {
        case append(AppendRequest, Completion)
        case acknowledge(FieldText, ChannelName, [ClosedRange<UInt64>], isDismissed: Bool, (AcknowledgeOutcome) -> Void)
    }

    let run: Run
    let disk: Int32
    private(set) var store: NotificationStore?
    private var writer: LogWriter?
    private(set) var head: UInt64 = 0
    private(set) var loops: [SimulatedLoop] = []
    /// Counts lives: what was begun in an earlier one is nobody's business.
    private(set) var life = 0
    private(set) var isUp = false
    private var isPowerCut = false
    private var boot = 1
    private var pending: [(work: Work, loop: Int)] = []
    private var isScheduled = false
    private(set) var crashes = 0

    init(_ run: Run, diskSeed: UInt64) {
        self.run = run
        disk = sd_create(diskSeed)
        if run.scenario.losesAfterFailedSync { sd_set_options(disk, SD_LOSE_AFTER_FAILED_SYNC) }
    }

    deinit {
        sd_power_cut(disk, 0)
        store?.close(isOrderly: false)
        sd_destroy(disk)
    }

    private var options: StoreOptions {
        var options = StoreOptions(path: "/simulated/\(disk)/log.sqlite", durability: run.scenario.durability, limits: run.scenario.limits)
        options.cacheBytesMax = run.scenario.cacheBytesMax
        return options
    }

    /// Without the disk's number, which is another in each run.
    private func words(_ fault: StoreFault) -> String {
        let path = "/simulated/\(disk)/"
        var text = fault.description[...]
        var words = ""
        while let character = text.first {
            if text.hasPrefix(path) {
                text.removeFirst(path.count)
            } else {
                words.append(character)
                text.removeFirst()
            }
        }
        return words
    }

    // MARK: up and down

    func start() {
        precondition(!isUp && store == nil)
        do throws(StoreFault) {
            let opened = try OpenedLog(options, newEpoch: LogEpoch(random: run.chance.next()), nowMilliseconds: run.now)
            guard try look(at: opened.store, isStart: true) else { return }
            store = opened.store
            writer = opened.writer
            head = opened.writer.head
            isUp = true
            isScheduled = false
            loops = (0..<2).map { SimulatedLoop(number: $0, server: self, preload: opened.preload) }
            run.note("the server is up, epoch \(opened.writer.epoch), head \(head)")
            let life = life
            run.after(1000) { [unowned self] in if self.life == life { tend() } }
        } catch {
            if sd_is_stopped(disk) { return crash() }
            run.note("the server does not start: \(words(error))")
            if case .corrupt = error { run.oracle.fail("the file stays sound", "\(error)") }
            let life = life
            run.after(500) { [unowned self] in if self.life == life, !isUp { start() } }
        }
    }

    /// Tells the oracle what is in the log.
    ///
    /// - Returns: false if it was not to be read, and the server is down.
    private func look(at store: NotificationStore, isStart: Bool) throws(StoreFault) -> Bool {
        do throws(StoreFault) {
            let contents = try store.contents()
            var found: [(record: ChannelRecord, entries: [LogEntry])] = []
            for record in contents.channels {
                found.append((record, try store.entries(of: record.id, afterSequence: 0, limit: 100_000)))
            }
            run.oracle.opened(epoch: store.epoch.description, found)
            return true
        } catch {
            store.close(isOrderly: false)
            throw error
        }
    }

    /// The process dies, or the machine.
    func crash() {
        life += 1
        crashes += 1
        isUp = false
        let isCut = run.scenario.hasPowerCuts && run.chance.happens(50)
        for client in run.clients { client.loseConnection() }
        loops = []
        pending = []
        writer = nil
        if isCut {
            boot += 1
            if run.scenario.durability == .memory { run.oracle.mayHaveLost = true }
            sd_power_cut(disk, run.chance.next())
        } else {
            sd_kill(disk)
        }
        store?.close(isOrderly: false)
        store = nil
        run.note(isCut ? "the power is cut" : "the server is killed")
        let life = life
        run.after(run.chance.milliseconds(10...600)) { [unowned self] in if self.life == life { start() } }
    }

    private func crashIfStopped() -> Bool {
        guard sd_is_stopped(disk) else { return false }
        crash()
        return true
    }

    // MARK: writing

    /// - Returns: false if there is nobody who takes it.
    func append(_ request: AppendRequest, loop: Int, _ completion: @escaping Completion) -> Bool {
        enqueue(.append(request, completion), loop)
    }

    func acknowledge(
        _ user: FieldText, _ channel: ChannelName, _ ranges: [ClosedRange<UInt64>], isDismissed: Bool, loop: Int,
        _ completion: @escaping (AcknowledgeOutcome) -> Void
    ) -> Bool {
        enqueue(.acknowledge(user, channel, ranges, isDismissed: isDismissed, completion), loop)
    }

    private func enqueue(_ work: Work, _ loop: Int) -> Bool {
        guard isUp else { return false }
        pending.append((work, loop))
        if isScheduled { return true }
        isScheduled = true
        let life = life
        run.after(run.chance.milliseconds(0...8)) { [unowned self] in if self.life == life { drain() } }
        return true
    }

    private func drain() {
        isScheduled = false
        let pending = pending
        self.pending = []
        var answers: [(loop: Int, answer: (_ isStored: Bool) -> Void)] = []
        for (work, loop) in pending {
            switch work {
            case .append(let request, let completion):
                let outcomes = store == nil ? [] : writer!.append(request, nowMilliseconds: run.now)
                #if DEFECTS
                    if Defect.active == .answerBeforeCommit {
                        completion(outcomes)
                        continue
                    }
                #endif
                answers.append(
                    (loop, { isStored in completion(isStored ? outcomes : request.publications.map { _ in .refused(.storeFailed) }) }))
            case .acknowledge(let user, let channel, let ranges, let isDismissed, let completion):
                let outcome = acknowledge(user, channel, ranges, isDismissed)
                answers.append((loop, { isStored in completion(isStored ? outcome : .storeFailed) }))
            }
        }
        commit(answers)
    }

    private func acknowledge(
        _ user: FieldText, _ channel: ChannelName, _ ranges: [ClosedRange<UInt64>], _ isDismissed: Bool
    ) -> AcknowledgeOutcome {
        guard let store else { return .storeFailed }
        guard let id = writer!.id(of: channel) else { return .noChannel }
        do throws(StoreFault) {
            let stored = try store.receipt(user: user, channel: id)
            let isDone = writer!.acknowledge(user, channel, ranges, isDismissed: isDismissed, stored: stored, nowMilliseconds: run.now)
            return isDone ? .done : .noChannel
        } catch {
            return .storeFailed
        }
    }

    /// Makes durable what is staged, and then tells everybody.
    private func commit(_ answers: [(loop: Int, answer: (_ isStored: Bool) -> Void)]) {
        var batch = LogBatch(notifications: [])
        var isStored = store != nil
        if let store {
            let commit = writer!.takeCommit()
            if !commit.isEmpty {
                do throws(StoreFault) {
                    try store.commit(commit)
                    batch = writer!.batch(commit)
                    head = writer!.head
                    run.oracle.committed(commit.entries)
                    run.note("committed \(commit.entries.count) up to \(head)")
                } catch {
                    if crashIfStopped() { return }
                    isStored = false
                    fail(error)
                }
            }
        }
        for loop in loops {
            let mine = answers.filter { $0.loop == loop.number }.map(\.answer)
            loop.receive(batch) { for answer in mine { answer(isStored) } }
        }
    }

    private func fail(_ fault: StoreFault) {
        run.note("the log cannot be written: \(words(fault))")
        #if DEFECTS
            if Defect.active == .writerIsKept { return }
        #endif
        store?.close(isOrderly: false)
        store = nil
        if crashIfStopped() { return }
        reopen()
    }

    private func reopen() {
        do throws(StoreFault) {
            let opened = try OpenedLog(options, newEpoch: writer!.epoch, nowMilliseconds: run.now)
            guard opened.writer.epoch == writer!.epoch, opened.writer.head >= head else {
                opened.store.close(isOrderly: false)
                throw .corrupt("another log")
            }
            guard try look(at: opened.store, isStart: false) else { return }
            store = opened.store
            writer = opened.writer
            run.note("the log can be written again, head \(opened.writer.head)")
            try catchUp(opened.store)
        } catch {
            if crashIfStopped() { return }
            run.note("the log cannot be opened: \(words(error))")
            if case .corrupt = error { run.oracle.fail("the file stays sound", "\(error)") }
        }
    }

    /// A commit that failed is in the log all the same (its last write failed, and the next opening found all of it): the loops have
    /// not seen it.
    private func catchUp(_ store: NotificationStore) throws(StoreFault) {
        guard writer!.head > head else { return }
        #if DEFECTS
            if Defect.active == .failedCommitNotTold { return }
        #endif
        var commit = LogCommit()
        for record in try store.contents().channels where record.lastOffset > head {
            commit.entries += try store.entries(of: record.id, afterSequence: 0, limit: 100_000).filter { $0.offset > head }
        }
        commit.entries.sort { $0.offset < $1.offset }
        head = writer!.head
        run.note("the loops are told \(commit.entries.count) messages of a commit that failed")
        let batch = writer!.batch(commit)
        for loop in loops { loop.receive(batch) {} }
    }

    private func tend() {
        let life = life
        run.after(1000) { [unowned self] in if self.life == life { tend() } }
        guard store != nil else { return reopen() }
        writer!.expire(nowMilliseconds: run.now)
        commit([])
        if self.life == life { maintain() }
    }

    private func maintain() {
        guard let store else { return }
        do throws(StoreFault) {
            if try store.maintain(nowMilliseconds: run.now) {
                let life = life
                run.after(0) { [unowned self] in if self.life == life { maintain() } }
            }
        } catch {
            if crashIfStopped() { return }
            fail(error)
        }
    }

    // MARK: reading

    /// Reads from the store after a while; the answer comes after another.
    func read<Result>(
        _ body: @escaping (NotificationStore) throws(StoreFault) -> Result, _ completion: @escaping (Result?) -> Void
    ) {
        let life = life
        run.after(run.chance.milliseconds(0...6)) { [unowned self] in
            guard self.life == life else { return }
            var result: Result?
            if let store {
                do throws(StoreFault) { result = try body(store) } catch {
                    if crashIfStopped() { return }
                    run.note("the log cannot be read: \(words(error))")
                }
            }
            run.after(run.chance.milliseconds(0...6)) { [unowned self] in if self.life == life { completion(result) } }
        }
    }
}

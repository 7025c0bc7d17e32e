import Logging
import NIOCore
import NotificationCore
import NotificationStore
import Synchronization

// A log that changes hands. One process writes at a time; the other one follows it over a link, as the workers of a server of several
// processes do, and appends through it.
//
//     writing ──passOn──> passing: nothing is written, what comes is held
//       ^                   │  └────the other one fails──────────────┐
//       │                   └──the other one has the log: follow──> following ──the link ends──┐
//       │                                                                                      v
//       └──────────── the log is open again here <──the lock is free── orphaned: appends are refused
//
// The kernel's lock on the log says who may write. It is handed over with the log, and is the other process's alone as soon as that one
// follows it with `welcome`; so a process that comes back can only do so when that one has ended.
//
// The numbers that loops were told of are the same in both: what has been committed elsewhere and not come over the link is read from the
// file when the log comes back.

/// What may wait while the log changes hands, which takes some milliseconds, or as long as a large log takes to be opened.
package struct HeldMax: Sendable {
    /// Requests. Some seconds of a busy server.
    package var count = 10_000
    /// Bytes of their payloads: four of the largest requests.
    package var bytes = 64 << 20

    package init(count: Int = 10_000, bytes: Int = 64 << 20) {
        (self.count, self.bytes) = (count, bytes)
    }
}

extension EmbeddedLog {
    /// What this process is to the log.
    enum Role {
        case writing
        /// The log is closed, and nobody has it yet.
        case passing
        /// Another process writes.
        case following(NIOLoopBound<WorkerLink>)
        /// The one that wrote is not to be reached, and may still be there.
        case orphaned
    }

    /// A log that can be opened by another process.
    struct Passed {
        /// As it is, with every commit in it.
        var preload: LogPreload
        /// This process reads on from it.
        var store: NotificationStore
        var lock: LockFile?
    }

    /// Stops writing after a commit that has in it all that was asked before, and closes the log's file for writing. What is asked from
    /// now on waits.
    ///
    /// To be called on the writer's loop, where `completion` comes as well. A failure leaves everything as it was.
    func passOn(completion: @escaping (Result<Passed, StoreFault>) -> Void) {
        writerLoop.preconditionInEventLoop()
        guard case .writing = writing.value.role, !queue.withLock({ $0.isClosed }) else {
            return completion(.failure(.io("this process does not write the log")))
        }
        drain()
        guard let store = writing.value.store else { return completion(.failure(fault ?? .io("the log is closed"))) }
        writing.value.role = .passing
        queue.withLock { queue in
            queue.heldBytes = 0
            queue.isScheduled = true
        }
        let preload = writing.value.writer.preload()
        let followed: NotificationStore
        do throws(StoreFault) {
            let known = preload.channels.map { (name: $0.name, lastSequence: $0.lastSequence, lastOffset: $0.lastOffset) }
            followed = try NotificationStore(following: writing.value.options, epoch: epoch, channels: known)
        } catch {
            writing.value.role = .writing
            release()
            return completion(.failure(error))
        }
        readable.withLock { $0 = followed }
        let bound = NIOLoopBound(completion, eventLoop: writerLoop)
        // The reader's thread may still be at work with the other one.
        readerLoop.execute {
            self.writerLoop.execute {
                // Somebody waits.
                store.close(isOrderly: false)
                self.writing.value.store = nil
                bound.value(.success(Passed(preload: preload, store: followed, lock: self.writing.value.options.lock)))
            }
        }
    }

    /// Another process has the log, and says so: it is followed from now on, and what was held goes to it. On the writer's loop. Nothing
    /// happens if the log was closed meanwhile.
    func follow(_ link: WorkerLink, _ store: NotificationStore) {
        guard case .passing = writing.value.role else { return }
        // Alone with the one who writes: so its end is noticed by it.
        writing.value.options.lock = nil
        writing.value.role = .following(NIOLoopBound(link, eventLoop: writerLoop))
        link.onStatus = { [self] status in
            faultBox.withLock { $0 = status.fault }
            var statistics = status.statistics
            let own = store.statistics
            (statistics.pagesCached, statistics.cachedBytes) = (own.pagesCached, own.cachedBytes)
            statisticsBox.withLock { $0 = statistics }
        }
        link.begin(store, followers.withLock { $0 })
        release()
    }

    /// The other process has ended, or did not get as far as to open the log. On the writer's loop, after `link` has told the loops all
    /// that came.
    ///
    /// Requests that were under way are asked again if they have an idempotency key; the others are refused, since nobody knows whether
    /// they were stored.
    ///
    /// - Parameter link: nil: it was not followed yet.
    func takeBack(_ link: WorkerLink?) {
        switch writing.value.role {
        case .passing, .following: break
        case .writing, .orphaned: return
        }
        writing.value.role = .orphaned
        if let link {
            newestNumber.store(link.toldOffset, ordering: .releasing)
            let (appends, acknowledgements) = link.takeUnanswered()
            let again = appends.filter { $0.request.idempotencyKey != nil }.map {
                Pending(work: .append($0.request, $0.completion), loop: $0.loop)
            }
            var refused: [(loop: Int, answer: @Sendable (_ isStored: Bool) -> Void)] = []
            for (request, loop, completion) in appends where request.idempotencyKey == nil {
                refused.append((loop, { _ in completion(request.publications.map { _ in .refused(.storeFailed) }) }))
            }
            for (loop, completion) in acknowledgements { refused.append((loop, { _ in completion(.storeFailed) })) }
            tell(LogBatch(notifications: []), answers: refused, isStored: false)
            queue.withLock { queue in
                queue.pending = again + queue.pending
                queue.heldBytes = queue.heldBytes ?? 0
                queue.isScheduled = true
            }
        }
        returnToWriting()
        release()
    }

    /// Opens the log as its writer, if nobody else is.
    private func returnToWriting() {
        if queue.withLock({ $0.isClosed }) { return }
        do throws(StoreFault) {
            if writing.value.options.lock == nil { writing.value.options.lock = try LockFile(of: writing.value.options.path) }
        } catch {
            logger.error("the log cannot be taken back", metadata: ["error": "\(error)"])
            return faultBox.withLock { $0 = error }
        }
        let followed = readable.withLock { $0 }
        writing.value.role = .writing
        faultBox.withLock { $0 = nil }
        reopen()
        readerLoop.execute { followed?.close(isOrderly: false) }
        let state = fault.map { "\($0)" } ?? "it is open"
        logger.notice("the log is this process's own again", metadata: ["head": "\(head)", "state": "\(state)"])
    }

    /// About once a second, while another process has the log.
    func tendAnothers() {
        if case .orphaned = writing.value.role { returnToWriting() }
    }

    /// What was held is taken.
    private func release() {
        queue.withLock { queue in
            queue.heldBytes = nil
            queue.isScheduled = false
        }
        drain()
    }

    func forward(_ pending: [Pending], _ link: WorkerLink) {
        for entry in pending {
            switch entry.work {
            case .append(let request, let completion): link.append(request, loop: entry.loop, completion: completion)
            case .acknowledge(let user, let channel, let ranges, let isDismissed, let completion):
                let acknowledge = LinkFrame.Acknowledge(user: user, channel: channel, ranges: ranges, isDismissed: isDismissed)
                link.acknowledge(acknowledge, loop: entry.loop, completion: completion)
            }
        }
    }

    /// The log is closed here: what was asked of the other process is waited for, for some seconds.
    func finishFollowing() async {
        for _ in 0..<60 {
            let isWaiting = try? await writerLoop.submit { () -> Bool in
                switch self.writing.value.role {
                case .passing: return true
                case .following(let link):
                    self.drain()
                    return link.value.isWaiting
                case .writing, .orphaned: return false
                }
            }.get()
            guard isWaiting == true else { break }
            try? await Task.sleep(for: .milliseconds(50))
        }
        _ = try? await writerLoop.submit {
            if case .writing = self.writing.value.role { return }
            let role = self.writing.value.role
            self.writing.value.role = .orphaned
            if case .following(let link) = role { link.value.channel.close() }
        }.get()
    }

    /// The last one that began to follow does so no more. What it asked and was not answered, nobody is told of.
    func unfollow(_ number: Int) {
        followers.withLock { followers in
            precondition(number == followers.count - 1, "only the last one can go: the others are numbered")
            followers.removeLast()
        }
    }
}

extension EmbeddedLog.Work {
    /// About what it takes while it waits.
    var bytes: Int {
        switch self {
        case .append(let request, _): request.publications.reduce(256) { $0 + 256 + $1.data.count }
        case .acknowledge(_, _, let ranges, _, _): 256 + 16 * ranges.count
        }
    }
}

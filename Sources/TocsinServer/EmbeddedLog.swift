package import NIOCore
package import NotificationCore
import Synchronization
import Transports

/// The log inside this process: one writer, in memory, on one of the event loops.
///
/// Appending is asynchronous and batched: what the loops publish in one turn becomes one batch, and the batch goes to each loop in one
/// hop. A publisher is answered by its own loop after that loop has applied the batch, so what it reads next on the same connection
/// has what it wrote.
package final class EmbeddedLog: Sendable {
    /// Told the outcomes on the loop that asked, after it has applied them.
    package typealias Completion = @Sendable ([AppendOutcome]) -> Void

    private struct Pending {
        var request: AppendRequest
        var loop: Int
        var completion: Completion
    }

    private struct Queue {
        var pending: [Pending] = []
        var isScheduled = false
        var isClosed = false
    }

    package let epoch: LogEpoch
    private let newestNumber = Atomic<UInt64>(0)
    private let writerLoop: any EventLoop
    private let writer: NIOLoopBoundBox<LogWriter>
    private let queue = Mutex(Queue())
    private let followers = Mutex<[NIOLoopBound<ServerLoop>]>([])

    package init(epoch: LogEpoch, limits: LogLimits, writerLoop: any EventLoop) {
        self.epoch = epoch
        self.writerLoop = writerLoop
        writer = .makeBoxSendingValue(LogWriter(epoch: epoch, limits: limits), eventLoop: writerLoop)
    }

    /// The newest number that was given out. A loop may not have applied it yet.
    package var head: UInt64 { newestNumber.load(ordering: .acquiring) }

    /// Adds a loop that is told every batch from now on. To be called before anything is appended.
    func follow(_ loop: ServerLoop) {
        let bound = NIOLoopBound(loop, eventLoop: loop.eventLoop)
        followers.withLock { followers in
            precondition(loop.number == followers.count)
            followers.append(bound)
        }
    }

    func append(_ request: AppendRequest, from loop: ServerLoop, completion: @escaping Completion) {
        enum Next { case schedule, wait, refuse }
        let next = queue.withLock { queue -> Next in
            if queue.isClosed { return .refuse }
            queue.pending.append(Pending(request: request, loop: loop.number, completion: completion))
            if queue.isScheduled { return .wait }
            queue.isScheduled = true
            return .schedule
        }
        switch next {
        case .schedule: writerLoop.execute { self.drain() }
        case .wait: break
        case .refuse: completion(request.publications.map { _ in .refused(.shuttingDown) })
        }
    }

    /// A page of a channel by sequence, and what is known of the channel; nil if it never had a message. The answer comes on the loop
    /// that asked, after it has applied all that the page holds.
    func read(
        _ channel: ChannelName, afterSequence: UInt64, limit: Int, from loop: ServerLoop,
        completion: @escaping @Sendable ((tail: ChannelTail, page: [Notification])?) -> Void
    ) {
        let eventLoop = loop.eventLoop
        writerLoop.execute {
            let tail = self.writer.value.tail[channel]
            let page = tail?.page(afterSequence: afterSequence, limit: limit, bytesMax: LongPollAnswer.bytesMax) ?? []
            eventLoop.execute { completion(tail.map { ($0, page) }) }
        }
    }

    /// Nothing is taken any more; what was taken before is still appended.
    package func close() {
        queue.withLock { $0.isClosed = true }
    }

    package func expire() {
        writerLoop.execute { self.writer.value.expire(nowMilliseconds: Clock.wallMilliseconds()) }
    }

    private func drain() {
        let pending = queue.withLock { queue in
            queue.isScheduled = false
            let pending = queue.pending
            queue.pending = []
            return pending
        }
        var batch: [Notification] = []
        let now = Clock.wallMilliseconds()
        let followers = followers.withLock { $0 }
        var answers = Array(repeating: [@Sendable () -> Void](), count: followers.count)
        for entry in pending {
            let outcomes = writer.value.append(entry.request, nowMilliseconds: now, batch: &batch)
            answers[entry.loop].append { entry.completion(outcomes) }
        }
        newestNumber.store(writer.value.head, ordering: .releasing)
        for (number, follower) in followers.enumerated() {
            let answers = answers[number]
            if batch.isEmpty && answers.isEmpty { continue }
            let hop = { @Sendable [batch] in
                if !batch.isEmpty { follower.value.apply(batch) }
                for answer in answers { answer() }
            }
            if follower.eventLoop === writerLoop { hop() } else { follower.eventLoop.execute(hop) }
        }
    }
}

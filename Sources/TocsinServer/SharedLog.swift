import Logging
import NIOCore
package import NotificationCore
package import NotificationStore
import Synchronization
import Webhooks

/// The log of the main process, as a worker has it: appending goes over the link, batches come over it, and what is further back is read
/// from the same file, over a connection of this process that only reads.
package final class SharedLog: LogService {
    private enum Work {
        case append(AppendRequest, loop: Int, AppendCompletion)
        case acknowledge(LinkFrame.Acknowledge, loop: Int, @Sendable (AcknowledgeOutcome) -> Void)
    }

    private struct Queue {
        var works: [Work] = []
        var isScheduled = false
        var isClosed = false
    }

    package let epoch: LogEpoch
    private let newest: SharedNumber
    private let link: NIOLoopBound<WorkerLink>
    private let readerLoop: any EventLoop
    private let store: NotificationStore
    private let logger: Logger
    private let folder: String?
    private let lost = Atomic<Bool>(false)
    private let queue = Mutex(Queue())
    private let readFaults = Mutex(ReadFaultLog())
    private let statusBox = Mutex(LinkFrame.Status())
    private let followers = Mutex<[NIOLoopBound<any LogFollower>]>([])

    /// - Parameter newest: the number that the main process shares.
    init(
        _ link: NIOLoopBound<WorkerLink>, _ opening: WorkerLink.Opening, _ options: StoreOptions, newest: SharedNumber,
        readerLoop: any EventLoop, logger: Logger
    ) throws(StoreFault) {
        epoch = opening.welcome.epoch
        self.link = link
        self.newest = newest
        self.readerLoop = readerLoop
        self.logger = logger
        folder = opening.welcome.folder
        var options = options
        options.path = opening.welcome.path
        let known = opening.preload.channels.map { (name: $0.name, lastSequence: $0.lastSequence, lastOffset: $0.lastOffset) }
        store = try NotificationStore(following: options, epoch: epoch, channels: known)
    }

    package var head: UInt64 { newest.value }

    package var fault: StoreFault? { status.fault }

    var status: LinkFrame.Status { statusBox.withLock { $0 } }

    /// Of the main process, but what this one keeps for its own readers.
    package var statistics: StoreStatistics {
        var statistics = status.statistics
        let own = store.statistics
        (statistics.pagesCached, statistics.cachedBytes) = (own.pagesCached, own.cachedBytes)
        return statistics
    }

    package func follow(_ follower: any LogFollower) {
        let bound = NIOLoopBound(follower, eventLoop: follower.eventLoop)
        followers.withLock { followers in
            precondition(follower.number == followers.count)
            followers.append(bound)
        }
    }

    /// To be called once, when all loops follow.
    func begin() async throws {
        let followers = followers.withLock { $0 }
        try await link.eventLoop.submit {
            self.link.value.onStatus = { status in self.statusBox.withLock { $0 = status } }
            self.link.value.onEnd = { self.lost.store(true, ordering: .relaxed) }
            self.link.value.begin(self.store, followers)
        }.get()
    }

    // MARK: writing

    package func append(_ request: AppendRequest, from follower: any LogFollower, completion: @escaping AppendCompletion) {
        var request = request
        request.takenNanoseconds = Clock.monotonicNanoseconds()
        guard enqueue(.append(request, loop: follower.number, completion)) else {
            return completion(request.publications.map { _ in .refused(.shuttingDown) })
        }
    }

    package func acknowledge(
        _ user: FieldText, _ channel: ChannelName, _ ranges: [ClosedRange<UInt64>], isDismissed: Bool, from follower: any LogFollower,
        completion: @escaping @Sendable (AcknowledgeOutcome) -> Void
    ) {
        let acknowledge = LinkFrame.Acknowledge(user: user, channel: channel, ranges: ranges, isDismissed: isDismissed)
        if !enqueue(.acknowledge(acknowledge, loop: follower.number, completion)) { completion(.storeFailed) }
    }

    private func enqueue(_ work: Work) -> Bool {
        enum Next { case schedule, wait, refuse }
        let next = queue.withLock { queue -> Next in
            if queue.isClosed { return .refuse }
            queue.works.append(work)
            if queue.isScheduled { return .wait }
            queue.isScheduled = true
            return .schedule
        }
        if case .schedule = next { link.eventLoop.execute { self.drain() } }
        if case .refuse = next { return false }
        return true
    }

    private func drain() {
        let works = queue.withLock { queue in
            queue.isScheduled = false
            defer { queue.works = [] }
            return queue.works
        }
        for work in works {
            switch work {
            case .append(let request, let loop, let completion): link.value.append(request, loop: loop, completion: completion)
            case .acknowledge(let acknowledge, let loop, let completion):
                link.value.acknowledge(acknowledge, loop: loop, completion: completion)
            }
        }
    }

    /// What was asked before is waited for, for some seconds.
    package func close() async {
        queue.withLock { $0.isClosed = true }
        for _ in 0..<60 {
            let isWaiting = try? await link.eventLoop.submit {
                self.drain()
                return self.link.value.isWaiting
            }.get()
            guard isWaiting == true else { break }
            try? await Task.sleep(for: .milliseconds(50))
        }
    }

    /// Whether the main process has ended.
    var isLost: Bool { lost.load(ordering: .relaxed) }

    /// The folder of a log that goes with the server.
    func removeFolder() {
        if let folder { PassingFolder.remove(folder) }
    }

    // MARK: reading

    package func read<Value: Sendable>(
        from follower: any LogFollower, _ body: @escaping @Sendable (NotificationStore) throws(StoreFault) -> Value,
        completion: @escaping @Sendable (Result<Value, StoreFault>) -> Void
    ) {
        let eventLoop = follower.eventLoop
        readerLoop.execute {
            let result: Result<Value, StoreFault>
            do throws(StoreFault) { result = .success(try body(self.store)) } catch { result = .failure(error) }
            if case .failure(let fault) = result, self.readFaults.withLock({ $0.isNews(fault) }) {
                self.logger.error("the log cannot be read", metadata: ["error": "\(fault)"])
            }
            eventLoop.execute { completion(result) }
        }
    }

    // MARK: the other workers

    /// Asks another worker; `completion` comes on the link's loop, with nil if it is not there.
    func ask(_ process: Int, _ body: [UInt8], completion: @escaping @Sendable ([UInt8]?) -> Void) {
        link.eventLoop.execute { self.link.value.ask(process, body, completion: completion) }
    }

    /// Connections that this process has refused, for the one that tells others of it.
    func report(_ refusals: [RefusalBook.Report]) {
        link.eventLoop.execute { self.link.value.channel.send(.refusals(refusals)) }
    }

    func tell(_ process: Int, _ body: [UInt8]) {
        link.eventLoop.execute { self.link.value.tell(process, body) }
    }
}

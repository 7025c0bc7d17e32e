import Synchronization

/// What one caller subscribed to, and the queue to it.
final class Subscription: Sendable {
    /// What waits for a slow consumer, before its connection is no longer read: a message of the largest kind, or thousands of small
    /// ones.
    private static let queuedBytesMax = 1 << 20

    let id: Int
    let filters: [ChannelFilter]
    let queue = BoundedQueue<ClientMessage>(weightMax: Subscription.queuedBytesMax)
    private let check = Mutex(SequenceCheck())

    init(id: Int, channels: [String]) {
        self.id = id
        filters = channels.map { ChannelFilter($0) }
    }

    var channels: [String] { filters.map(\.text) }
    var lost: Int { check.withLock { $0.lost } }
    var duplicates: Int { check.withLock { $0.duplicates } }

    func overlaps(_ others: [ChannelFilter]) -> Bool {
        filters.contains { filter in others.contains { filter.overlaps($0) } }
    }

    /// Hands a message to the consumer, unless it had it before.
    func take(_ object: WireObject) {
        guard check.withLock({ $0.take(object) }) else { return }
        queue.push(object.message, weight: 256 + object.message.json.count)
    }
}

import DequeModule

/// The messages of one channel that are still kept, oldest first, and what is known of those that are not.
package struct ChannelTail {
    package let name: ChannelName
    package let retention: Retention
    private(set) var notifications: Deque<Notification> = []
    package private(set) var bytes = 0
    /// Of the newest message; 0 if there was none.
    package private(set) var lastSequence: UInt64 = 0
    package private(set) var lastOffset: UInt64 = 0
    /// Of the newest message that is no longer kept; 0 if all are.
    package private(set) var trimmedSequence: UInt64 = 0
    package private(set) var trimmedOffset: UInt64 = 0

    init(name: ChannelName, retention: Retention) {
        self.name = name
        self.retention = retention
    }

    mutating func append(_ notification: Notification) {
        precondition(notification.sequence == lastSequence + 1 && notification.offset > lastOffset, "the log is out of order")
        lastSequence = notification.sequence
        lastOffset = notification.offset
        notifications.append(notification)
        bytes += notification.bytes
    }

    package var count: Int { notifications.count }
    package var first: Notification? { notifications.first }
    package var last: Notification? { notifications.last }

    /// - Returns: the bytes given back.
    @discardableResult
    mutating func dropOldest() -> Int {
        guard let oldest = notifications.popFirst() else { return 0 }
        trimmedSequence = oldest.sequence
        trimmedOffset = oldest.offset
        bytes -= oldest.bytes
        return oldest.bytes
    }

    func isOverLimit(nowMilliseconds: Int64) -> Bool {
        guard let oldest = notifications.first else { return false }
        return notifications.count > retention.countMax || bytes > retention.bytesMax
            || nowMilliseconds - oldest.timeMilliseconds > Int64(retention.ageSecondsMax) * 1000
    }

    /// Index of the first kept message with a greater log number.
    func index(afterOffset offset: UInt64) -> Int {
        var low = 0
        var high = notifications.count
        while low < high {
            let middle = (low + high) / 2
            if notifications[middle].offset > offset { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// Up to `limit` kept messages with a greater sequence, oldest first; none more once their objects have `bytesMax`.
    package func page(afterSequence sequence: UInt64, limit: Int, bytesMax: Int) -> [Notification] {
        guard let first = notifications.first else { return [] }
        let start = sequence < first.sequence ? 0 : Int(min(sequence - first.sequence + 1, UInt64(notifications.count)))
        var bytes = 0
        return Array(
            notifications[start..<min(notifications.count, start + limit)].prefix { notification in
                defer { bytes += notification.object.count }
                return bytes < bytesMax
            }
        )
    }
}

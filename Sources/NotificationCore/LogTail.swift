import DequeModule

/// The part of the log that is in memory: a tail per channel, bounded by count, bytes and age, and by bytes over all channels.
///
/// The writer has one, and so has each event loop that serves subscribers: they hold the same notifications (references), and each
/// reads its own without a lock. A loop is to the writer what a node is to a shared log: a cache that follows it.
package struct LogTail {
    package private(set) var channels: [ChannelTail] = []
    package private(set) var bytes = 0
    /// Messages kept.
    package private(set) var count = 0
    /// Number of the newest message, of all channels.
    package private(set) var head: UInt64 = 0
    package let limits: LogLimits
    private var indices: [ChannelName: Int32] = [:]
    /// Every kept message, oldest first, and some that are gone already: these are passed over.
    private var order: Deque<Entry> = []

    private struct Entry {
        var offset: UInt64
        var channel: Int32
    }

    package init(limits: LogLimits) {
        self.limits = limits
    }

    package var channelCount: Int { indices.count }

    package func index(of channel: ChannelName) -> Int32? { indices[channel] }

    package subscript(channel: ChannelName) -> ChannelTail? { indices[channel].flatMap { channels[Int($0)] } }

    subscript(index: Int32) -> ChannelTail { channels[Int(index)] }

    /// Makes room for a channel that was not known. `channelsMax` is held by the writer, which refuses the publication.
    private mutating func insert(_ channel: ChannelName) -> Int32 {
        let tail = ChannelTail(name: channel, retention: limits.retention(for: channel))
        let index = Int32(channels.count)
        channels.append(tail)
        indices[channel] = index
        return index
    }

    /// - Returns: the index of its channel.
    package mutating func append(_ notification: Notification, nowMilliseconds: Int64) -> Int32 {
        precondition(notification.offset > head, "the log is out of order")
        head = notification.offset
        let index = indices[notification.channel] ?? insert(notification.channel)
        channels[Int(index)].append(notification)
        bytes += notification.bytes
        count += 1
        order.append(Entry(offset: notification.offset, channel: index))
        while channels[Int(index)].isOverLimit(nowMilliseconds: nowMilliseconds) { dropOldest(index) }
        while bytes > limits.bytesMax, dropOldestOfAll() {}
        if order.count > 64 + 2 * count { forgetDropped() }
        return index
    }

    /// Drops what is too old, also in channels that are silent. To be called now and then.
    package mutating func expire(nowMilliseconds: Int64) {
        for index in channels.indices {
            while channels[index].isOverLimit(nowMilliseconds: nowMilliseconds) { dropOldest(Int32(index)) }
        }
        forgetDropped()
    }

    private mutating func dropOldest(_ index: Int32) {
        bytes -= channels[Int(index)].dropOldest()
        count -= 1
    }

    private mutating func dropOldestOfAll() -> Bool {
        while let entry = order.popFirst() {
            if channels[Int(entry.channel)].notifications.first?.offset == entry.offset {
                dropOldest(entry.channel)
                return true
            }
        }
        return false
    }

    private mutating func forgetDropped() {
        let channels = channels
        order.removeAll { entry in
            guard let first = channels[Int(entry.channel)].notifications.first else { return true }
            return entry.offset < first.offset
        }
    }
}

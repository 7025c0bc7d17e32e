import DequeModule
import JSONCodec

/// The part of the log that is in memory: a tail per channel, bounded by count, bytes and age, and by bytes over all channels.
///
/// Each event loop that serves subscribers has one: they hold the same notifications (references), and each reads its own without a
/// lock. A loop is to the log what a node is to a shared log: a cache that follows it. What is no longer here is asked of the log.
package struct LogTail {
    package private(set) var channels: [ChannelTail] = []
    package private(set) var bytes = 0
    /// Messages kept.
    package private(set) var count = 0
    /// Number of the newest message, of all channels.
    package private(set) var head: UInt64 = 0
    package let limits: LogLimits
    private var indices: [ChannelName: Int32] = [:]
    /// The channel that `expire` looks at next.
    private var nextToExpire = 0
    /// Every kept message, oldest first, and some that are gone already: these are passed over.
    private var order: Deque<Entry> = []

    private struct Entry {
        var offset: UInt64
        var channel: Int32
    }

    package init(_ preload: LogPreload, limits: LogLimits) {
        self.limits = limits
        head = preload.head
        for seed in preload.channels { insert(seed) }
    }

    package var channelCount: Int { indices.count }
    /// Of these, those of the users who have acknowledged something, and the server's own.
    package private(set) var usersOwnCount = 0
    package private(set) var reservedCount = 0

    package func index(of channel: ChannelName) -> Int32? { indices[channel] }

    package subscript(channel: ChannelName) -> ChannelTail? { indices[channel].flatMap { channels[Int($0)] } }

    subscript(index: Int32) -> ChannelTail { channels[Int(index)] }

    private mutating func insert(_ seed: LogPreload.Channel) {
        indices[seed.name] = ChannelID(channels.count)
        if seed.name.isReserved { reservedCount += 1 }
        if seed.name.isUsersOwn { usersOwnCount += 1 }
        channels.append(ChannelTail(seed, feed: limits.feeds[seed.name]))
    }

    /// - Returns: whether the channel is new.
    package mutating func append(_ notification: Notification, nowMilliseconds: Int64) -> Bool {
        precondition(notification.offset > head, "the log is out of order")
        head = notification.offset
        let index = notification.channelID
        let isNew = Int(index) == channels.count
        if isNew { insert(LogPreload.Channel(name: notification.channel, lastSequence: 0, lastOffset: 0)) }
        channels[Int(index)].append(notification)
        bytes += notification.bytes
        count += 1
        order.append(Entry(offset: notification.offset, channel: index))
        while channels[Int(index)].isOverLimit(nowMilliseconds: nowMilliseconds) { dropOldest(index) }
        while bytes > limits.memoryBytesMax, dropOldestOfAll() {}
        if order.count > 64 + 2 * count { forgetDropped() }
        return isNew
    }

    mutating func set(_ document: JSONDocument, channel: ChannelID) {
        channels[Int(channel)].set(document)
    }

    /// Channels that one call of `expire` looks at: less than a millisecond.
    private static let channelsPerLook = 20_000

    /// Drops what is too old, also in channels that are silent: some channels a call, round and round. To be called once a second, as
    /// the store's retention is, so that what it has dropped is not handed out from here.
    package mutating func expire(nowMilliseconds: Int64) {
        let end = min(nextToExpire + Self.channelsPerLook, channels.count)
        for index in nextToExpire..<end {
            while channels[index].isOverLimit(nowMilliseconds: nowMilliseconds) { dropOldest(Int32(index)) }
        }
        nextToExpire = end < channels.count ? end : 0
        if nextToExpire == 0 { forgetDropped() }
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

import DequeModule
import NotificationCore
import Synchronization

/// The messages of a log that is in memory, by channel: what the table `run` is to a log on disk. All other tables are the same.
///
/// They are kept as readers get them, and are the same objects that the loops have in their tails: storing one is to put it at the end
/// of a queue. No message belongs to one run more than to another, so each look is answered with a run that suits it.
///
/// Messages may be added at any time: a reader goes by what was known of its channels before. They are dropped by who has the
/// connection, of which there is one, so that nothing goes while somebody reads.
final class MemoryRuns: Sendable {
    private struct Item {
        let notification: Notification
        /// Bytes of the channel's messages up to and with this one, since there is a log.
        let total: UInt64
    }

    private struct Contents {
        var channels: [Deque<Item>] = []
        var bytes = 0
    }

    private let contents = Mutex(Contents())
    /// Messages of one answer to who reads on.
    private static let countMax = 64

    /// Of all messages.
    var bytes: Int { contents.withLock { $0.bytes } }

    /// - Parameter total: asked for each message, in order: bytes of its channel's messages up to and with it.
    func append(_ notifications: [Notification], total: (Notification) -> UInt64) {
        contents.withLock { contents in
            for notification in notifications {
                let channel = Int(notification.channelID)
                while contents.channels.count <= channel { contents.channels.append([]) }
                contents.bytes += notification.bytes
                contents.channels[channel].append(Item(notification: notification, total: total(notification)))
            }
        }
    }

    /// Drops the channel's messages up to and with this log number.
    func drop(_ channel: ChannelID, through offset: UInt64) {
        contents.withLock { contents in
            guard contents.channels.indices.contains(Int(channel)) else { return }
            while let first = contents.channels[Int(channel)].first, first.notification.offset <= offset {
                contents.bytes -= first.notification.bytes
                contents.channels[Int(channel)].removeFirst()
            }
        }
    }

    // MARK: looking

    /// The message with the lowest number greater than `offset`.
    func first(_ channel: ChannelID, after offset: UInt64) -> RunRow? {
        look(channel) { items in
            let index = Self.index(items, after: offset)
            return index < items.count ? Self.row(items[index]) : nil
        }
    }

    /// The last message at or before `offset`.
    func last(_ channel: ChannelID, through offset: UInt64) -> RunHeader? {
        look(channel) { items in
            let index = Self.index(items, after: offset)
            return index > 0 ? Self.row(items[index - 1]).header : nil
        }
    }

    func containing(_ channel: ChannelID, sequence: UInt64) -> RunHeader? {
        look(channel) { items in
            guard let first = items.first?.notification.sequence, sequence >= first, sequence - first < UInt64(items.count) else {
                return nil
            }
            return Self.row(items[Int(sequence - first)]).header
        }
    }

    /// Some messages after `offset`, as one run; nil if there are none.
    func next(_ channel: ChannelID, after offset: UInt64) -> DecodedRun? {
        look(channel) { items in
            let start = Self.index(items, after: offset)
            let some = items[start..<min(start + Self.countMax, items.count)]
            guard let first = some.first, let last = some.last else { return nil }
            var header = Self.row(first).header
            header.lastOffset = last.notification.offset
            header.count = some.count
            header.duration = (some.lazy.map(\.notification.timeMilliseconds).max() ?? 0) - header.firstTime
            header.total = last.total
            return DecodedRun(header: header, notifications: some.map(\.notification))
        }
    }

    /// The messages that a header is of.
    func notifications(_ header: RunHeader) -> [Notification]? {
        look(header.channel) { items in
            guard let first = items.first?.notification.sequence, header.firstSequence >= first else { return nil }
            let start = Int(header.firstSequence - first)
            guard start + header.count <= items.count else { return nil }
            return items[start..<start + header.count].map(\.notification)
        }
    }

    private func look<Result: Sendable>(_ channel: ChannelID, _ body: (borrowing Deque<Item>) -> Result?) -> Result? {
        contents.withLock { contents in
            contents.channels.indices.contains(Int(channel)) ? body(contents.channels[Int(channel)]) : nil
        }
    }

    private static func row(_ item: Item) -> RunRow {
        let notification = item.notification
        let header = RunHeader(
            channel: notification.channelID, firstOffset: notification.offset, lastOffset: notification.offset,
            firstSequence: notification.sequence, count: 1, firstTime: notification.timeMilliseconds, duration: 0, total: item.total
        )
        return RunRow(header: header, bytes: UInt64(notification.bytes))
    }

    /// Of the first message after `offset`; the count if there is none.
    private static func index(_ items: borrowing Deque<Item>, after offset: UInt64) -> Int {
        var low = 0
        var high = items.count
        while low < high {
            let middle = (low + high) / 2
            if items[middle].notification.offset <= offset { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

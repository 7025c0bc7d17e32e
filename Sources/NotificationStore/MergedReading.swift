import GRDB
import NotificationCore

/// The smallest first: cursors by the log number they stand at.
struct OffsetHeap {
    private var items: [(offset: UInt64, index: Int)] = []

    var first: (offset: UInt64, index: Int)? { items.first }

    /// The smallest but the first.
    var second: UInt64 {
        switch items.count {
        case ...1: .max
        case 2: items[1].offset
        default: min(items[1].offset, items[2].offset)
        }
    }

    mutating func insert(_ offset: UInt64, _ index: Int) {
        items.append((offset, index))
        var place = items.count - 1
        while place > 0, items[(place - 1) / 2].offset > items[place].offset {
            items.swapAt(place, (place - 1) / 2)
            place = (place - 1) / 2
        }
    }

    mutating func removeFirst() {
        let last = items.removeLast()
        guard !items.isEmpty else { return }
        items[0] = last
        sink()
    }

    mutating func moveFirst(to offset: UInt64) {
        items[0].offset = offset
        sink()
    }

    private mutating func sink() {
        var place = 0
        while true {
            var least = place
            for child in [2 * place + 1, 2 * place + 2] where child < items.count && items[child].offset < items[least].offset {
                least = child
            }
            if least == place { return }
            items.swapAt(place, least)
            place = least
        }
    }
}

/// Reads one channel's messages in order, some runs at a time: one at first, since most readers want little, then more and more.
struct MessageCursor {
    private let channel: ChannelID
    /// As of the transaction in which is read, or earlier.
    private let state: ChannelState
    private var after: UInt64
    private var runs: ArraySlice<DecodedRun> = []
    private var index = 0
    private var runsPerFetch = 1
    /// A page of the usual size.
    private static let fetchBytes = 64 << 10
    private var isAtEnd = false
    private var lastSequence: UInt64?
    /// What cannot be read here; nothing comes before it is passed.
    private(set) var damage: TrimMark?

    private let isFound: Bool

    /// - Parameters:
    ///   - after: nothing between the channel's trim mark and this number may be left out silently, so it is not before that.
    ///   - isFound: the message behind that number is known to be there.
    init(_ channel: ChannelID, _ state: ChannelState, after: UInt64, isFound: Bool = false) {
        self.isFound = isFound
        self.channel = channel
        self.state = state
        self.after = after
    }

    /// The message it stands at.
    @inline(__always)
    mutating func current(_ table: RunTable) throws -> Notification? {
        if let run = runs.first { return run.notifications[index] }
        try fetch(table)
        return runs.first?.notifications[index]
    }

    @inline(__always)
    mutating func advance() {
        index += 1
        if index == runs.first?.notifications.count {
            runs.removeFirst()
            index = 0
        }
    }

    mutating func passDamage() {
        damage = nil
    }

    private mutating func fetch(_ table: RunTable) throws {
        guard !isAtEnd, damage == nil else { return }
        var fetched: [DecodedRun] = []
        var bytes = 0
        var isDamaged = false
        do {
            isAtEnd = try table.forEach(channel, state.name, after: after) { run in
                fetched.append(run)
                bytes += run.notifications.reduce(0) { $0 + $1.object.count }
                return fetched.count < runsPerFetch && bytes < Self.fetchBytes
            }
            if isAtEnd, max(fetched.last?.header.lastSequence ?? lastSequence ?? 0, state.trimmedSequence) < state.lastSequence {
                isDamaged = true
            }
        } catch let error where StoreProblem.isDamage(error) {
            isDamaged = true
        }
        if let first = fetched.first?.header,
            try lastSequence.map({ first.firstSequence != $0 + 1 }) ?? !(isFound || table.isNext(first, state, after: after))
        {
            fetched = []
            isDamaged = true
        }
        if isDamaged {
            // What is sound before it comes first: it is met again then.
            isAtEnd = false
            if fetched.isEmpty { return try noteDamage(table) }
        }
        if let first = fetched.first { index = lastSequence == nil ? first.index(after: after) : 0 }
        if let last = fetched.last {
            after = last.header.lastOffset
            lastSequence = last.header.lastSequence
        }
        runs = fetched[...]
        runsPerFetch = min(runsPerFetch * 4, 256)
    }

    private mutating func noteDamage(_ table: RunTable) throws {
        let found = try table.damage(channel, state, after: after, last: lastSequence)
        damage = found.mark
        if let next = found.next {
            (after, lastSequence) = (next.after, next.sequence)
            if damage == nil { try fetch(table) }
        } else {
            isAtEnd = true
        }
    }
}

/// Collects a page.
struct PageBuilder {
    private(set) var notifications: [Notification] = []
    private var bytes = 0
    private let notificationsMax: Int
    private let bytesMax: Int

    init(notificationsMax: Int, bytesMax: Int) {
        // A page without anything would have its reader ask for ever.
        self.notificationsMax = max(1, notificationsMax)
        self.bytesMax = bytesMax
    }

    /// - Returns: whether it fits; the first always does.
    @inline(__always)
    mutating func append(_ notification: Notification) -> Bool {
        let size = notification.object.count
        guard notifications.isEmpty || (notifications.count < notificationsMax && size <= bytesMax - bytes) else { return false }
        notifications.append(notification)
        bytes += size
        return true
    }
}

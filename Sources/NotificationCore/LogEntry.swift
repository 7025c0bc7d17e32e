/// Which channel of a log, numbered 0, 1, 2, … as they got their first message. Stays for the log's life.
package typealias ChannelID = Int32

/// A publication with the numbers that the log gave it: what is stored.
package struct LogEntry: Sendable, Equatable {
    package var channel: ChannelID
    /// Its number in the log, over all channels: 1, 2, 3, …
    package var offset: UInt64
    /// Its number in its channel: 1, 2, 3, …
    package var sequence: UInt64
    /// Milliseconds since 1970, by the clock of the node that took it.
    package var timeMilliseconds: Int64
    /// Scores: bytes of the channel's state after it; else 0.
    package var stateBytes: UInt32
    package var publication: Publication

    package init(
        channel: ChannelID, offset: UInt64, sequence: UInt64, timeMilliseconds: Int64, stateBytes: UInt32 = 0, publication: Publication
    ) {
        self.channel = channel
        self.offset = offset
        self.sequence = sequence
        self.timeMilliseconds = timeMilliseconds
        self.stateBytes = stateBytes
        self.publication = publication
    }

    /// When it is not to be delivered any more, milliseconds since 1970; `Int64.max`: never.
    package var expiresMilliseconds: Int64 {
        guard let ttl = publication.ttlSeconds else { return .max }
        let (end, isNever) = timeMilliseconds.addingReportingOverflow(Int64(ttl) * 1000)
        return isNever ? .max : end
    }
}

/// What one commit makes durable, all of it or nothing.
package struct LogCommit: Sendable {
    /// Channels that are new, in the order of their numbers.
    package var channels: [ChannelRecord] = []
    /// In the order of the log.
    package var entries: [LogEntry] = []
    package var idempotency: [IdempotencyRecord] = []
    package var states: [StateRecord] = []
    package var receipts: [ReceiptRecord] = []

    package init() {}

    package var isEmpty: Bool { channels.isEmpty && entries.isEmpty && idempotency.isEmpty && states.isEmpty && receipts.isEmpty }
}

/// A channel, as the store knows it.
package struct ChannelRecord: Sendable, Equatable {
    package var id: ChannelID
    package var name: ChannelName
    /// Of the newest message; 0 if there was none.
    package var lastSequence: UInt64
    package var lastOffset: UInt64
    /// Of the newest message that is no longer stored; 0 if all are.
    package var trimmedSequence: UInt64
    package var trimmedOffset: UInt64

    package init(
        id: ChannelID, name: ChannelName, lastSequence: UInt64 = 0, lastOffset: UInt64 = 0, trimmedSequence: UInt64 = 0,
        trimmedOffset: UInt64 = 0
    ) {
        self.id = id
        self.name = name
        self.lastSequence = lastSequence
        self.lastOffset = lastOffset
        self.trimmedSequence = trimmedSequence
        self.trimmedOffset = trimmedOffset
    }
}

/// The state of a scores or dashboards channel after one of its messages. It is kept beside the log, so that retention may drop the
/// messages that made it. What came later is applied to it when the log is opened.
package struct StateRecord: Sendable, Equatable {
    package enum Body: Sendable, Equatable {
        /// Scores: JSON text.
        case document([UInt8])
        /// Dashboards: the newest entry of each key, in the order of the log.
        case latest([LogEntry])
    }

    package var channel: ChannelID
    package var sequence: UInt64
    package var body: Body
    /// Scores: log number of the newest message that was a change; 0 if none was.
    package var lastChangeOffset: UInt64
    /// Of the newest message that is in it, milliseconds since 1970.
    package var timeMilliseconds: Int64

    package init(
        channel: ChannelID, sequence: UInt64, body: Body, lastChangeOffset: UInt64 = 0, timeMilliseconds: Int64 = 0
    ) {
        self.timeMilliseconds = timeMilliseconds
        self.channel = channel
        self.sequence = sequence
        self.body = body
        self.lastChangeOffset = lastChangeOffset
    }
}

/// What a user has read and dismissed of a channel: the whole of it, to replace what was stored.
package struct ReceiptRecord: Sendable, Equatable {
    package var user: FieldText
    package var channel: ChannelID
    package var receipt: Receipt

    package init(user: FieldText, channel: ChannelID, receipt: Receipt) {
        self.user = user
        self.channel = channel
        self.receipt = receipt
    }
}

package struct Receipt: Sendable, Equatable {
    package var read: SequenceSet
    /// Read, and not wanted in the inbox any more.
    package var dismissed: SequenceSet

    package init(read: SequenceSet = SequenceSet(), dismissed: SequenceSet = SequenceSet()) {
        self.read = read
        self.dismissed = dismissed
    }
}

/// A set of sequences, as ranges: few, since people read what is new. At most one to every two messages that the channel keeps, and one,
/// as long as `mergeBelow` is told what it keeps no longer.
package struct SequenceSet: Sendable, Equatable {
    /// Ascending, not touching.
    package private(set) var ranges: [ClosedRange<UInt64>] = []

    package init() {}

    package init(_ ranges: [ClosedRange<UInt64>]) {
        for range in ranges { insert(range) }
    }

    package func contains(_ sequence: UInt64) -> Bool {
        let place = place(of: sequence)
        return place < ranges.count && ranges[place].contains(sequence)
    }

    /// The first range that does not end before this sequence.
    private func place(of sequence: UInt64) -> Int {
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].upperBound < sequence { low = middle + 1 } else { high = middle }
        }
        return low
    }

    package mutating func insert(_ range: ClosedRange<UInt64>) {
        // Those that it touches, or that lie in it, become one with it.
        let first = place(of: max(range.lowerBound, 1) - 1)
        var last = first
        var merged = range
        while last < ranges.count, range.upperBound == .max || ranges[last].lowerBound <= range.upperBound + 1 {
            merged = min(merged.lowerBound, ranges[last].lowerBound)...max(merged.upperBound, ranges[last].upperBound)
            last += 1
        }
        ranges.replaceSubrange(first..<last, with: CollectionOfOne(merged))
    }

    /// Makes one range of all that begin at or below `floor`: of what is between them nothing is kept.
    package mutating func mergeBelow(_ floor: UInt64) {
        guard let first = ranges.first, first.lowerBound <= floor else { return }
        let place = place(of: floor)
        let isIn = place < ranges.count && ranges[place].lowerBound <= floor
        let last = isIn ? place : place - 1
        ranges.replaceSubrange(0...last, with: CollectionOfOne(first.lowerBound...ranges[last].upperBound))
    }
}

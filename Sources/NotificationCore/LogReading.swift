/// What a store has when it is opened: all but the messages.
package struct LogContents: Sendable {
    package var epoch: LogEpoch
    /// Earlier lives of this log, and how far each of them is still in it.
    package var pastEpochs: [LogEpoch: UInt64]
    /// By number, without a hole.
    package var channels: [ChannelRecord]
    package var states: [StateRecord]

    package init(
        epoch: LogEpoch, pastEpochs: [LogEpoch: UInt64] = [:], channels: [ChannelRecord] = [], states: [StateRecord] = []
    ) {
        self.epoch = epoch
        self.pastEpochs = pastEpochs
        self.channels = channels
        self.states = states
    }

    /// Number of the newest message.
    package var head: UInt64 { channels.reduce(0) { max($0, $1.lastOffset) } }
}

/// What a reader that is behind its loop's memory asks of the log.
package struct LogQuery: Sendable, Equatable {
    package enum Subject: Sendable, Equatable {
        /// Messages of these channels, in the order of the log.
        case messages
        /// The same, but only what this user has not read, that has not expired and was not replaced. The answer has `sequences` as well,
        /// as of `through`.
        case unread(user: FieldText)
        /// What the messages amount to: one channel.
        case digest
        /// The state of one scores channel as it is now.
        case state
        /// For each channel, the sequence of its newest message that is not after `after`.
        case sequences
    }

    package var subject: Subject
    package var channels: [ChannelID]
    /// Greater log numbers only.
    package var after: UInt64
    /// Up to and with this log number.
    package var through: UInt64
    package var notificationsMax: Int
    package var bytesMax: Int

    package init(
        _ subject: Subject, channels: [ChannelID], after: UInt64, through: UInt64, notificationsMax: Int = 256, bytesMax: Int = 64 << 10
    ) {
        self.subject = subject
        self.channels = channels
        self.after = after
        self.through = through
        self.notificationsMax = notificationsMax
        self.bytesMax = bytesMax
    }
}

package struct LogAnswer: Sendable {
    /// In the order of the log.
    package var notifications: [Notification] = []
    /// Everything that was asked for is in the answer up to and with this log number.
    package var through: UInt64 = 0
    /// Channels that have lost messages after `after`. None of `notifications` is before a damaged stretch of its channel that is here.
    package var trimmed: [TrimMark] = []
    package var digest: Digest?
    package var state: ChannelSnapshot?
    /// `sequences`: by channel, as asked.
    package var sequences: [UInt64] = []

    package init() {}
}

/// The newest message of a channel that is no longer stored, or the newest one of a stretch that is damaged.
package struct TrimMark: Sendable, Equatable {
    package var channel: ChannelID
    package var sequence: UInt64
    /// Of that message; of a damaged stretch: of some place before it.
    package var offset: UInt64
    /// The lowest sequence of a damaged stretch; nil: retention has dropped everything up to here.
    package var damagedFrom: UInt64?
    /// Of a damaged stretch: the channel is read on behind this log number.
    package var damagedThrough: UInt64 = 0

    package init(channel: ChannelID, sequence: UInt64, offset: UInt64, damagedFrom: UInt64? = nil, damagedThrough: UInt64 = 0) {
        self.damagedThrough = damagedThrough
        self.channel = channel
        self.sequence = sequence
        self.offset = offset
        self.damagedFrom = damagedFrom
    }
}

/// The state of a channel as one message.
package struct ChannelSnapshot: Sendable {
    package var channel: ChannelName
    /// It stands for everything up to here.
    package var sequence: UInt64
    package var offset: UInt64
    package var timeMilliseconds: Int64
    /// JSON text.
    package var data: [UInt8]
    /// Dashboards: keys whose value is stale.
    package var staleKeys: [String]

    package init(
        channel: ChannelName, sequence: UInt64, offset: UInt64, timeMilliseconds: Int64, data: [UInt8], staleKeys: [String] = []
    ) {
        self.channel = channel
        self.sequence = sequence
        self.offset = offset
        self.timeMilliseconds = timeMilliseconds
        self.data = data
        self.staleKeys = staleKeys
    }
}

/// A range of a channel's messages in short: for somebody who comes back after long.
package struct Digest: Sendable {
    /// Keys are told apart up to here.
    package static let newestMax = 100

    /// The lowest and highest sequence that it stands for.
    package var from: UInt64
    package var to: UInt64
    /// How many of them have not expired and were not replaced.
    package var count: Int
    package var byPriority: [Priority: Int]
    /// The newest of each key, and of those without one; in order.
    package var newest: [Notification]

    package init(from: UInt64, to: UInt64, count: Int, byPriority: [Priority: Int], newest: [Notification]) {
        self.from = from
        self.to = to
        self.count = count
        self.byPriority = byPriority
        self.newest = newest
    }
}

package import NotificationCore

/// When a commit is taken for done.
package enum Durability: String, Sendable, CaseIterable {
    /// When the operating system has it: outlives the process, not the machine.
    case memory
    /// When the disk has it.
    case disk
}

package struct StoreOptions: Sendable {
    /// Of the file, or `:memory:`.
    package var path: String
    package var durability: Durability
    package var limits: LogLimits
    /// Messages that the reader keeps decoded. Some 60 000 small ones: what a thousand readers that come back at once ask for is
    /// mostly the same.
    package var cacheBytesMax = 16 << 20
    /// The epoch that the log is in, and stays in: it is opened by a process that has had it open before, or that takes it over from
    /// the one that has. No other log is opened then, and none is made. nil: a new epoch begins.
    package var ongoingEpoch: LogEpoch?
    /// The file goes with the process: nobody opens it after that, and its folder may be removed when everything ends.
    package var isPassing = false
    /// Whether, and how, events that are to be told to others are kept; nil: what there may be of them stays as it is.
    package var outbox: OutboxOptions?
    /// The log's lock, if it is held already, by who opens the log. nil: it is taken when the log is opened, and given back with it.
    package var lock: LockFile?

    package init(path: String, durability: Durability, limits: LogLimits = LogLimits()) {
        self.path = path
        self.durability = durability
        self.limits = limits
    }

    var isInMemory: Bool { path == ":memory:" }
    /// In the file system, not in a simulation's.
    var isReal: Bool { !isInMemory && !path.hasPrefix("/simulated/") }
}

package struct StoreStatistics: Sendable, Equatable {
    /// Since it was opened.
    package var commits = 0
    package var entries = 0
    /// Bytes of the file and of its write-ahead log when `maintain` last looked.
    package var fileBytes = 0
    package var walBytes = 0
    /// Decoded runs that the reader keeps.
    package var pagesCached = 0
    package var cachedBytes = 0
    /// Answers to idempotency keys, and about what they take, when `maintain` last looked.
    package var idempotencyKeys = 0
    package var idempotencyBytes = 0
    /// Those that were forgotten before their time, for want of room; since it was opened.
    package var idempotencyForgotten = 0

    package init() {}
}

/// What is known of a channel.
package struct ChannelInfo: Sendable, Equatable {
    /// The lowest sequence that is kept; one more than `lastSequence` if none is.
    package var firstSequence: UInt64
    /// 0 if there never was a message.
    package var lastSequence: UInt64
    package var lastOffset: UInt64
    /// Messages that are kept.
    package var count: Int
    /// Bytes they take in the store.
    package var bytes: Int
    /// When the newest was taken, milliseconds since 1970; nil if none is kept.
    package var newestMilliseconds: Int64?
}

/// An alert as a user's inbox shows it.
package struct InboxItem: Sendable {
    package var notification: Notification
    package var isRead: Bool
}

/// How many alerts of a channel a user has not read.
package struct UnreadCount: Sendable, Equatable {
    package var count: Int
    /// When the first of them expires, milliseconds since 1970; `Int64.max`: none does.
    package var expiresMilliseconds: Int64

    package init(count: Int = 0, expiresMilliseconds: Int64 = .max) {
        self.count = count
        self.expiresMilliseconds = expiresMilliseconds
    }

    mutating func add(_ other: UnreadCount) {
        count += other.count
        expiresMilliseconds = min(expiresMilliseconds, other.expiresMilliseconds)
    }
}

package import NotificationCore

// What is to be told to others over HTTP, in the log's file, until it has been told.
//
// One row for each event and receiver. Who sends takes rows that are due (`dueOutbox`), and says with the next turn (`turnOutbox`) what
// came of them. Nothing here knows what is in a body, or how it is sent.
//
// Events of one subject are kept in order: only the first of them is due, the others wait until it is gone. Two that follow each other
// and undo each other (a channel is occupied, and vacated) need not be told when neither has been: the first may be under way, so it
// stays, but what came after it never is. So a subject has at most two rows for a receiver.
//
//     occupied                              occupied, due
//     occupied, vacated                     occupied, due     vacated, waits
//     occupied, vacated, occupied           occupied, due
//
// Which subjects are occupied is kept as well: after a restart nobody says of them that they were vacated meanwhile.

/// Bounds of what waits to be told.
package struct OutboxOptions: Sendable, Equatable {
    /// Over one of these, what a later event supersedes goes first, then what has waited for longest.
    package var rowsMax = 100_000
    package var bytesMax = 256 << 20
    package var ageSecondsMax = 96 * 3600
    /// Whether alerts are watched: `tellUnread` then finds those that nobody has read for a while.
    package var watchesAlerts = false
    /// Alerts that are watched at a time.
    package var watchedMax = 1_000_000
    /// Subjects that are known to be occupied. As many as a log has channels.
    package var occupiedMax = 100_000

    package init() {}
}

/// Something to be told.
package struct OutboxEvent: Sendable, Equatable {
    /// A subject gets something, or loses it.
    package enum Transition: String, Sendable {
        case occupied, vacated
    }

    /// What the receiver knows it by: the same with each attempt, and never given twice.
    package var message: String
    /// Its type, in words.
    package var type: String
    /// The names of its receivers.
    package var endpoints: [String]
    /// Milliseconds since 1970.
    package var timeMilliseconds: Int64
    package var body: [UInt8]
    /// Whether it is among those that go first when there is no room.
    package var isSupersedable = false
    /// Of what events are kept in order, and what happened to it.
    package var transition: (subject: String, change: Transition)?

    package init(message: String, type: String, endpoints: [String], timeMilliseconds: Int64, body: [UInt8]) {
        self.message = message
        self.type = type
        self.endpoints = endpoints
        self.timeMilliseconds = timeMilliseconds
        self.body = body
    }

    package static func == (one: OutboxEvent, other: OutboxEvent) -> Bool {
        one.message == other.message && one.type == other.type && one.endpoints == other.endpoints
            && one.timeMilliseconds == other.timeMilliseconds && one.body == other.body && one.isSupersedable == other.isSupersedable
            && one.transition?.subject == other.transition?.subject && one.transition?.change == other.transition?.change
    }
}

/// An event on its way to one receiver.
package struct OutboxRow: Sendable, Equatable {
    package var id: Int64
    package var endpoint: String
    package var message: String
    package var type: String
    package var timeMilliseconds: Int64
    /// Made so far.
    package var attempts: Int
    package var body: [UInt8]
}

/// What came of a row.
package struct OutboxOutcome: Sendable, Equatable {
    package enum What: Sendable, Equatable {
        /// It was taken, or given up: it goes.
        case done
        /// It is due again at this time, in milliseconds since 1970.
        case later(milliseconds: Int64, attempts: Int)
    }

    package var id: Int64
    /// The row may have gone meanwhile, and its number be another's.
    package var message: String
    package var what: What

    package init(id: Int64, message: String, _ what: What) {
        self.id = id
        self.message = message
        self.what = what
    }
}

/// What waits, and what did not find room.
package struct OutboxFigures: Sendable, Equatable {
    package enum Loss: String, Sendable, CaseIterable {
        /// The table was full.
        case room
        /// It has waited for too long.
        case age
        /// The row was changed on the disk.
        case damage
    }

    /// By type.
    package var waiting: [String: Int] = [:]
    package var bytes = 0
    /// When the oldest that waits happened; nil: none waits.
    package var oldestMilliseconds: Int64?
    /// Since the store was opened, by type.
    package var lost: [Loss: [String: Int]] = [:]
    package var watched = 0
    /// Alerts that are not watched because there were too many.
    package var unwatched = 0
    package var occupied = 0

    package init() {}

    package var rows: Int { waiting.values.reduce(0, +) }

    mutating func add(_ type: String, bytes more: Int) {
        waiting[type, default: 0] += 1
        bytes += more
    }

    mutating func remove(_ type: String, bytes less: Int) {
        waiting[type, default: 1] -= 1
        if waiting[type] == 0 { waiting[type] = nil }
        bytes -= less
    }

    mutating func lose(_ type: String, _ loss: Loss) {
        lost[loss, default: [:]][type, default: 0] += 1
    }
}

/// An alert that a user has left unread.
package struct UnreadAlert: Sendable {
    package var entry: LogEntry
    package var user: FieldText
}

import GRDB
package import NotificationCore
import Synchronization

extension NotificationStore {
    /// Users that one call of `tellUnread` looks at: some milliseconds.
    private static let usersPerCall = 256
    /// Alerts that one call takes.
    private static let alertsPerCall = 256

    package var outboxFigures: OutboxFigures { outbox.withLock { $0 } }

    /// Stores what is to be told, and what came of what was tried: one transaction.
    ///
    /// - Precondition: the store was opened with an outbox.
    package func turnOutbox(
        _ events: [OutboxEvent], _ outcomes: [OutboxOutcome], damaged: [Int64] = [], nowMilliseconds: Int64
    ) throws(StoreFault) {
        guard let limits = options.outbox else { preconditionFailure("there is no outbox") }
        let before = outboxFigures
        let isAged = before.oldestMilliseconds.map { $0 < nowMilliseconds - Int64(limits.ageSecondsMax) * 1000 } ?? false
        guard !events.isEmpty || !outcomes.isEmpty || !damaged.isEmpty || isAged else { return }
        let after = try onWriter { database in
            var table = OutboxTable(database: database, options: limits, figures: before)
            try database.inTransaction(.immediate) {
                for outcome in outcomes { try table.take(outcome, nowMilliseconds: nowMilliseconds) }
                for id in damaged { try table.dropDamaged(id, nowMilliseconds: nowMilliseconds) }
                for event in events { try table.insert(event, nowMilliseconds: nowMilliseconds) }
                try table.dropOld(nowMilliseconds: nowMilliseconds)
                try table.noteOldest()
                return .commit
            }
            return table.figures
        }
        outbox.withLock { $0 = after }
        noteWriting()
    }

    /// What may be tried now at a receiver, those that have been due for longest first, and the numbers of rows that are damaged.
    package func dueOutbox(
        _ endpoint: String, nowMilliseconds: Int64, limit: Int
    ) throws(StoreFault) -> (rows: [OutboxRow], damaged: [Int64]) {
        try onWriter { try OutboxTable.due($0, endpoint, nowMilliseconds: nowMilliseconds, limit: limit) }
    }

    /// When something is to be tried at a receiver, in milliseconds since 1970; nil: nothing waits for it.
    package func nextDueOutbox(_ endpoint: String) throws(StoreFault) -> Int64? {
        try onWriter { try OutboxTable.nextDue($0, endpoint) }
    }

    /// The server has just started, and so nobody has come back yet.
    package func forgetSeen() throws(StoreFault) {
        try onWriter { try OccupiedTable.forgetSeen($0) }
        noteWriting()
    }

    /// Subjects that were occupied, and have not been since `forgetSeen`.
    package func unseenOccupied(limit: Int) throws(StoreFault) -> [String] {
        try onWriter { try OccupiedTable.unseen($0, limit: limit) }
    }

    private func noteWriting() { maintenance.withLock { $0.isCheckpointed = false } }

    // MARK: unread alerts

    /// Looks at the alerts that have been there for a while, in the order of their times, each once: who has not read them is told of.
    /// A bounded piece of it, in one transaction. An alert that has expired, was replaced, or is no longer kept, is unread by nobody.
    ///
    /// The users of an alert are those that have read something in its channel, and the one whose channel it is by its name.
    ///
    /// - Parameters:
    ///   - throughMilliseconds: alerts that were published until then.
    ///   - owner: the user whose channel it is; nil: it is nobody's.
    ///   - event: what is to be told; nil: nothing.
    /// - Returns: whether there is more to look at.
    package func tellUnread(
        throughMilliseconds: Int64, nowMilliseconds: Int64, owner: (ChannelName) -> FieldText?, event: (UnreadAlert) -> OutboxEvent?
    ) throws(StoreFault) -> Bool {
        guard let limits = options.outbox else { preconditionFailure("there is no outbox") }
        let before = outboxFigures
        guard before.watched > 0 else { return false }
        let (figures, hasMore): (OutboxFigures, Bool) = try onWriter { database in
            let due = try WatchRow.due(database, throughMilliseconds: throughMilliseconds, limit: Self.alertsPerCall)
            if due.rows.isEmpty, due.damaged.isEmpty { return (before, false) }
            var table = OutboxTable(database: database, options: limits, figures: before)
            var users = Self.usersPerCall
            try database.inTransaction(.immediate) {
                for key in due.damaged {
                    try WatchRow.drop(database, time: key.time, offset: key.offset)
                    table.figures.watched -= 1
                }
                for row in due.rows {
                    guard users > 0 else { break }
                    do {
                        users -= try tell(row, &table, usersMax: users, nowMilliseconds, owner, event)
                    } catch is StoreProblem {
                        // An alert, or what was read of it, that is damaged: whoever reads it is told so. The log goes on.
                        try row.drop(database)
                        table.figures.watched -= 1
                        table.figures.unwatched += 1
                        users -= 1
                    }
                }
                try table.noteOldest()
                return .commit
            }
            return (table.figures, users <= 0 || due.rows.count + due.damaged.count == Self.alertsPerCall)
        }
        outbox.withLock { $0 = figures }
        if figures != before { noteWriting() }
        return hasMore
    }

    /// - Returns: about how much of what one call may do it has taken: the users that were looked at.
    private func tell(
        _ row: WatchRow, _ table: inout OutboxTable, usersMax: Int, _ now: Int64, _ owner: (ChannelName) -> FieldText?,
        _ event: (UnreadAlert) -> OutboxEvent?
    ) throws -> Int {
        let database = table.database
        func end() throws {
            try row.drop(database)
            table.figures.watched -= 1
        }
        guard let state = channels[row.channel], row.sequence > state.hiddenSequence, row.sequence <= state.lastSequence,
            let alert = try AlertTable.rows(
                database, row.channel, row.sequence...row.sequence, isNewestFirst: false, limit: 1
            ).first, alert.expires > now
        else {
            try end()
            return 1
        }
        var unread: [FieldText] = []
        let personal = owner(state.name)
        if row.user.isEmpty, let personal, try !ReceiptTable.find(database, user: personal, channel: row.channel).hasSeen(row.sequence) {
            unread.append(personal)
        }
        let readers = try WatchRow.readers(database, row.channel, after: row.user, limit: usersMax)
        for reader in readers where reader.user != personal && !reader.ranges.hasSeen(row.sequence) { unread.append(reader.user) }
        if !unread.isEmpty {
            let runs = runs(database)
            let entry = try runs.entry(row.channel, state.name, offset: row.offset)
            for user in unread {
                guard let told = event(UnreadAlert(entry: entry, user: user)) else { continue }
                try table.insert(told, nowMilliseconds: now)
            }
        }
        if readers.count == usersMax, let last = readers.last {
            var rest = row
            rest.user = last.user.string
            try rest.storeUser(database)
        } else {
            try end()
        }
        return readers.count + 1
    }
}

extension RunTable {
    /// The message with this number, as it was published.
    fileprivate func entry(_ channel: ChannelID, _ name: ChannelName, offset: UInt64) throws -> LogEntry {
        if memory != nil { return LogEntry(try notification(channel, name, offset: offset)) }
        if let header = try first(channel, after: offset - 1)?.header, header.firstOffset <= offset {
            let query = try Query(database, "SELECT body FROM run WHERE id = ?")
            query.bind(1, header.id)
            if try query.step() {
                let entries = try query.withBlob(0) { try RunCodec.decode(header, $0, name: name) }
                if let entry = entries.first(where: { $0.offset == offset }) { return entry }
            }
        }
        throw StoreProblem.corrupt("message number \(offset), which is in channel \(name), is missing")
    }
}

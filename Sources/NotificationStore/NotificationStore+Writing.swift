import GRDB
package import NotificationCore
import Synchronization

extension NotificationStore {
    /// Makes `commit` durable, all of it or nothing. One transaction; with `Durability.disk` it returns after the disk has it, in a file
    /// that is still where the next process looks for it.
    ///
    /// - Parameter notifications: what its entries are to readers, where that is there already.
    /// - Precondition: channels, sequences and log numbers go on where the last commit ended.
    package func commit(_ commit: LogCommit, as notifications: [Notification]? = nil) throws(StoreFault) {
        guard !commit.isEmpty else { return }
        if let memory { return try self.commit(commit, notifications ?? commit.entries.map { Notification($0, epoch: epoch) }, memory) }
        #if DEFECTS
            var commit = commit
            if Defect.active == .idempotencyNotStored { commit.idempotency = [] }
            if Defect.active == .receiptsNotStored { commit.receipts = [] }
        #endif
        var work = CommitWork(channels, options.limits.feeds)
        for record in commit.channels { work.add(record) }
        for entry in commit.entries { work.add(entry) }
        work.finish()
        let tails = maintenance.withLock { $0.tails } &+ work.tailsChange
        let alerts = commit.entries.filter { $0.publication.kind == .notification && work.kind(of: $0.channel) == .alerts }
        var further = FurtherRows()
        try onWriter { database in
            try database.inTransaction(.immediate) {
                for record in commit.channels { try StoreOpening.store(database, record) }
                try work.store(database)
                if work.changesTails { try Meta.storeTails(database, tails) }
                further = try store(commit, alerts, database)
                return .commit
            }
        }
        try files?.check()
        work.publish()
        maintenance.withLock {
            $0.tails = tails
            $0.isCheckpointed = false
        }
        note(commit, further)
    }

    /// The same for a log in memory: most commits have nothing for the tables.
    private func commit(_ commit: LogCommit, _ notifications: [Notification], _ memory: MemoryRuns) throws(StoreFault) {
        let added = commit.channels.map { ChannelState($0, feed: options.limits.feeds[$0.name]) }
        let alerts = channels.withAll { states in
            commit.entries.filter { entry in
                let place = Int(entry.channel)
                let kind = place < states.count ? states[place].kind : added[place - states.count].kind
                return kind == .alerts && entry.publication.kind == .notification
            }
        }
        var further = FurtherRows()
        if !alerts.isEmpty || !commit.idempotency.isEmpty || !commit.states.isEmpty || !commit.receipts.isEmpty {
            try onWriter { database in
                try database.inTransaction(.immediate) {
                    further = try store(commit, alerts, database)
                    return .commit
                }
            }
        }
        channels.withAll { states in
            states.append(contentsOf: added)
            memory.append(notifications) { states[Int($0.channelID)].take($0) }
        }
        note(commit, further)
    }

    private struct FurtherRows {
        var watched = 0
        var unwatched = 0
    }

    /// What a commit has beside messages.
    private func store(_ commit: LogCommit, _ alerts: [LogEntry], _ database: Database) throws -> FurtherRows {
        var rows = FurtherRows()
        try AlertTable.store(database, alerts)
        if let options = options.outbox, options.watchesAlerts {
            let room = max(0, options.watchedMax - outboxFigures.watched)
            (rows.watched, rows.unwatched) = try WatchRow.store(database, alerts, room: room)
        }
        for record in commit.idempotency { try AnswerTable.store(database, record) }
        for state in commit.states { try StateTable.store(database, state) }
        for receipt in commit.receipts { try ReceiptTable.store(database, receipt) }
        return rows
    }

    private func note(_ commit: LogCommit, _ rows: FurtherRows) {
        if !commit.states.isEmpty {
            channels.withAll { states in
                for state in commit.states { states[Int(state.channel)].stateSequence = state.sequence }
            }
        }
        if rows.watched + rows.unwatched > 0 {
            outbox.withLock {
                $0.watched += rows.watched
                $0.unwatched += rows.unwatched
            }
        }
        countCommit(entries: commit.entries.count)
    }

    /// What was answered to a key, as it was last committed; nil: it is not known (any more).
    package func answer(to key: IdempotencyKey) throws(StoreFault) -> IdempotencyRecord? {
        try onWriter { try AnswerTable.find($0, key) ?? EarlierAnswers.find($0, key) }
    }

    /// What a user has read and dismissed, as it was last committed.
    package func receipt(user: FieldText, channel: ChannelID) throws(StoreFault) -> Receipt {
        let ranges = try onWriter { try ReceiptTable.find($0, user: user, channel: channel) }
        return Receipt(read: SequenceSet(ranges.read), dismissed: SequenceSet(ranges.dismissed))
    }

    /// Writes what is in the write-ahead log once more, into the file, and waits for the disk. What a sync left out that failed, the next
    /// one does not write: the kernel takes it for written (fsync(2), EIO). What comes behind it in that log would be lost with it when the
    /// power goes.
    func emptyWriteAheadLog() throws(StoreFault) {
        if options.isInMemory { return }
        try onWriter { database in
            try Schema.setSynchronous(database, .disk)
            _ = try database.checkpoint(.truncate)
            try Schema.setSynchronous(database, options.durability)
        }
    }

    /// The same, if nobody is reading the file just now.
    func emptyIfIdle() throws(StoreFault) {
        do throws(StoreFault) { try emptyWriteAheadLog() } catch {
            guard case .busy = error else { throw error }
        }
    }

    /// Writes a little and waits for the disk: whether it can be written to (again).
    package func probe() throws(StoreFault) {
        try onWriter { database in
            try Schema.setSynchronous(database, .disk)
            try database.inTransaction(.immediate) {
                try Query.run(database, "UPDATE meta SET probes = probes + 1")
                return .commit
            }
            try Schema.setSynchronous(database, options.durability)
        }
    }
}

extension ChannelState {
    /// The channel's newest message, of a log in memory.
    ///
    /// - Returns: its `total`.
    fileprivate mutating func take(_ notification: Notification) -> UInt64 {
        precondition(
            notification.sequence == lastSequence + 1 && notification.offset > lastOffset,
            "message \(notification.sequence), number \(notification.offset), does not follow the last one of its channel")
        lastSequence = notification.sequence
        lastOffset = notification.offset
        total += UInt64(notification.bytes)
        if notification.sequence == trimmedSequence + 1 {
            oldest = OldestRun(
                lastSequence: lastSequence, lastTime: notification.timeMilliseconds, total: total, bytes: UInt64(notification.bytes))
        }
        return total
    }
}

/// A commit on its way: its entries by channel, in runs.
private struct CommitWork {
    private struct Channel {
        let id: ChannelID
        var state: ChannelState
        var open: RunBuilder?
    }

    private let table: ChannelTable
    private let feeds: FeedTable
    /// Those that the commit touches.
    private var touched: [Channel] = []
    private var places: [ChannelID: Int] = [:]
    private var added: [ChannelState] = []
    private var lastPlace = 0
    private var lastOffset: UInt64 = 0
    private var finished: [(header: RunHeader, body: [UInt8])] = []
    private let countBefore: Int
    /// What is to be added to the sum of where the channels end.
    private(set) var tailsChange: UInt64 = 0
    var changesTails: Bool { !touched.isEmpty || !added.isEmpty }

    init(_ table: ChannelTable, _ feeds: FeedTable) {
        self.table = table
        self.feeds = feeds
        countBefore = table.count
    }

    mutating func add(_ record: ChannelRecord) {
        precondition(Int(record.id) == countBefore + added.count, "channels are numbered without a hole")
        precondition(record.id <= RunID.channelMax, "too many channels")
        precondition(record.lastSequence == record.trimmedSequence, "a new channel has no messages yet")
        added.append(ChannelState(record, feed: feeds[record.name]))
        tailsChange &+= Meta.tail(record.id, sequence: record.lastSequence, offset: record.lastOffset)
    }

    mutating func add(_ entry: LogEntry) {
        precondition(entry.offset > lastOffset && entry.offset <= RunID.offsetMax, "log numbers go up")
        lastOffset = entry.offset
        let place = place(entry.channel)
        precondition(
            entry.sequence == touched[place].state.lastSequence + 1 && entry.offset > touched[place].state.lastOffset,
            "message \(entry.sequence), number \(entry.offset), does not follow the last one of its channel")
        touched[place].state.lastSequence = entry.sequence
        touched[place].state.lastOffset = entry.offset
        if touched[place].open == nil {
            touched[place].open = RunBuilder(first: entry)
        } else if touched[place].open!.takes(entry) {
            touched[place].open!.append(entry)
        } else {
            close(place)
            touched[place].open = RunBuilder(first: entry)
        }
    }

    private mutating func place(_ channel: ChannelID) -> Int {
        if lastPlace < touched.count, touched[lastPlace].id == channel { return lastPlace }
        if let place = places[channel] {
            lastPlace = place
            return place
        }
        let isNew = Int(channel) >= countBefore
        guard let state = isNew ? added[Int(channel) - countBefore] : table[channel] else {
            preconditionFailure("there is no channel number \(channel)")
        }
        tailsChange &-= Meta.tail(channel, sequence: state.lastSequence, offset: state.lastOffset)
        touched.append(Channel(id: channel, state: state))
        lastPlace = touched.count - 1
        places[channel] = lastPlace
        return lastPlace
    }

    private mutating func close(_ place: Int) {
        guard var builder = touched[place].open.take() else { return }
        let run = builder.finish(totalBefore: touched[place].state.total)
        if run.header.firstSequence == touched[place].state.trimmedSequence + 1 {
            touched[place].state.oldest = ChannelState.OldestRun(
                lastSequence: run.header.lastSequence, lastTime: run.header.lastTime, total: run.header.total,
                bytes: UInt64(run.body.count))
        }
        touched[place].state.total = run.header.total
        finished.append(run)
    }

    mutating func finish() {
        for place in touched.indices {
            close(place)
            let state = touched[place].state
            tailsChange &+= Meta.tail(touched[place].id, sequence: state.lastSequence, offset: state.lastOffset)
        }
        // In the order of the table: neighbours are on one page.
        finished.sort { $0.header.id < $1.header.id }
    }

    func kind(of channel: ChannelID) -> FeedKind? {
        places[channel].flatMap { touched[$0].state.kind }
    }

    func store(_ database: Database) throws {
        guard !finished.isEmpty else { return }
        for (header, body) in finished {
            let query = try Query(
                database,
                """
                INSERT INTO run (id, first_offset, first_sequence, count, first_time, duration, total, body)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                """)
            query.bind(1, header.id)
            query.bind(2, header.firstOffset)
            query.bind(3, header.firstSequence)
            query.bind(4, Int64(header.count))
            query.bind(5, header.firstTime)
            query.bind(6, header.duration)
            query.bind(7, header.total)
            query.bind(8, body)
            try query.run()
        }
    }

    /// Once it is committed: lets the readers know.
    func publish() {
        table.withAll { states in
            states.append(contentsOf: added)
            for channel in touched {
                let place = Int(channel.id)
                states[place].lastSequence = channel.state.lastSequence
                states[place].lastOffset = channel.state.lastOffset
                states[place].total = channel.state.total
                states[place].oldest = channel.state.oldest
            }
        }
    }
}

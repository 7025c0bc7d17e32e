import GRDB
import NotificationCore
import Synchronization

/// What the writer keeps: how far `maintain` has come with what it does bit by bit, and a sum.
struct Maintenance: Sendable {
    /// The sum of where the channels end, as it was last committed.
    var tails: UInt64
    /// The channel that is looked at next.
    var nextChannel = 0
    /// Whether the write-ahead log has nothing that is not in the file, too.
    var isCheckpointed = false
    /// The receipt that is looked at next: the one after this.
    var lastReceipt: (user: String, channel: ChannelID) = ("", -1)
    var isReceiptSweepDue = false

    init(tails: UInt64) {
        self.tails = tails
    }
}

extension NotificationStore {
    /// Runs that one call deletes: some milliseconds.
    private static let runsPerCall = 256
    /// The same of a log in memory, message by message.
    private static let messagesPerCall = 4096
    private static let bytesPerCall: UInt64 = 8 << 20
    /// Rows of the small tables that one call looks at.
    private static let rowsPerCall = 500
    private static let vacuumPagesPerCall = 128
    /// Channels that are looked at under one lock.
    private static let channelsPerLook = 1024

    /// Drops what the feeds keep no longer, gives free pages back, and moves the write-ahead log into the file: a bounded piece of it.
    /// To be called about once a second, and again at once as often as there is time when it says that there is more.
    ///
    /// - Returns: whether there is more to do.
    package func maintain(nowMilliseconds: Int64) throws(StoreFault) -> Bool {
        try files?.check()
        var hasMore = try dropRuns(nowMilliseconds)
        if try dropIdempotencyKeys(nowMilliseconds) { hasMore = true }
        try sweepReceipts()
        if try vacuum() { hasMore = true }
        try checkpoint()
        if !hasMore { takeReserve() }
        return hasMore
    }

    func takeReserve() {
        if let reserve, !reserve.isWhole { reserve.take() }
    }

    /// The disk is full: drops what the feeds keep no longer, with the space that is kept in reserve for that, as far as it goes. Whether
    /// it was of any use is for `probe` to say.
    package func relieve(nowMilliseconds: Int64) {
        guard let reserve else { return }
        let hasGivenUp = reserve.giveUp() || wasFull
        // SQLite does not move anything into the file by itself meanwhile, which might take all that is free and be of no use.
        _ = try? onWriter { try $0.execute(sql: "PRAGMA wal_autocheckpoint = 0") }
        defer {
            if hasGivenUp { reserve.takeBack() }
            _ = try? onWriter { try $0.execute(sql: "PRAGMA wal_autocheckpoint = \(Schema.checkpointPages)") }
        }
        // If some of it works, `maintain` does the rest.
        for _ in 0..<8 {
            do throws(StoreFault) {
                try moveIntoFile(reserve)
                let hasMore = try dropRuns(nowMilliseconds)
                guard try vacuum() || hasMore else { return try moveIntoFile(reserve) }
            } catch { return }
        }
    }

    /// Moves the write-ahead log into the file, if there is room for that; its own space is free then. Else all that is free would be in
    /// the file, and nothing be won.
    private func moveIntoFile(_ reserve: Reserve) throws(StoreFault) {
        try onWriter { database in
            let wanted = (try Query.number(database, "PRAGMA page_count") ?? 0) * Int64(Schema.pageBytes)
            guard wanted - Reserve.size(of: options.path) <= reserve.freeBytes else { return }
            _ = try database.checkpoint(.truncate)
        }
    }

    // MARK: Messages

    private func dropRuns(_ nowMilliseconds: Int64) throws(StoreFault) -> Bool {
        var runs = memory == nil ? Self.runsPerCall : Self.messagesPerCall
        var bytes = Self.bytesPerCall
        let count = channels.count
        var looked = 0
        var next = maintenance.withLock { $0.nextChannel }
        while looked < count {
            if next >= count { next = 0 }
            let some = next..<min(next + min(Self.channelsPerLook, count - looked), count)
            let due = channels.withAll { states in
                some.filter { states[$0].isDue(nowMilliseconds: nowMilliseconds) }
            }
            for channel in due {
                try dropRuns(ChannelID(channel), nowMilliseconds, &runs, &bytes)
                if runs <= 0 || bytes == 0 {
                    maintenance.withLock { $0.nextChannel = channel }
                    return true
                }
            }
            looked += some.count
            next = some.upperBound
        }
        maintenance.withLock { $0.nextChannel = next }
        return false
    }

    /// Drops what is to go of one channel, as far as `runs` and `bytes` allow it, and takes that off them.
    private func dropRuns(
        _ channel: ChannelID, _ nowMilliseconds: Int64, _ runs: inout Int, _ bytes: inout UInt64
    ) throws(StoreFault) {
        guard let state = channels[channel] else { return }
        var dropped: [Int64] = []
        var newest: RunHeader?
        var oldest: ChannelState.OldestRun?
        var (runsLeft, bytesLeft) = (runs, bytes)
        try onWriter { database in
            let table = self.runs(database)
            try table.forEachHeader(channel, after: state.trimmedOffset) { row in
                let header = row.header
                let run = ChannelState.OldestRun(
                    lastSequence: header.lastSequence, lastTime: header.lastTime, total: header.total, bytes: row.bytes)
                oldest = run
                runsLeft -= 1
                guard state.drops(run, nowMilliseconds: nowMilliseconds) else { return false }
                oldest = nil
                dropped.append(header.id)
                newest = header
                bytesLeft -= min(bytesLeft, row.bytes)
                return runsLeft > 0 && bytesLeft > 0
            }
            guard let newest else { return }
            var trimmed = state
            (trimmed.trimmedSequence, trimmed.trimmedOffset) = (newest.lastSequence, newest.lastOffset)
            func note() {
                channels.withAll { states in
                    states[Int(channel)].trimmedSequence = newest.lastSequence
                    states[Int(channel)].trimmedOffset = newest.lastOffset
                }
                memory?.drop(channel, through: newest.lastOffset)
            }
            if memory != nil, state.kind != .alerts { return note() }
            try database.inTransaction(.immediate) {
                if memory == nil {
                    try Query.run(
                        database, "DELETE FROM run WHERE id > ? AND id <= ?", RunID.make(channel, 0),
                        RunID.make(channel, newest.lastOffset))
                }
                try AlertTable.drop(database, channel, throughSequence: newest.lastSequence)
                try StoreOpening.store(database, trimmed.record(id: channel))
                // Before it is committed: a reader may see that something is gone that it can still read, not the other way round.
                note()
                return .commit
            }
        }
        (runs, bytes) = (runsLeft, bytesLeft)
        channels.withAll { $0[Int(channel)].oldest = oldest }
        guard !dropped.isEmpty else { return }
        cache.remove(dropped)
        maintenance.withLock {
            $0.isCheckpointed = false
            $0.isReceiptSweepDue = true
        }
    }

    // MARK: The small tables

    private func dropIdempotencyKeys(_ nowMilliseconds: Int64) throws(StoreFault) -> Bool {
        let limits = options.limits.idempotency
        let timeMin = nowMilliseconds &- Int64(limits.ageSecondsMax) * 1000
        let dropped = try onWriter { database in
            // Two rows tell whether there is anything to do.
            let figures = try AnswerTable.figures(database)
            let isOld = try (figures.oldestTime ?? .max) < timeMin || EarlierAnswers.hasOlder(database, timeMin)
            guard isOld || figures.count > limits.countMax || figures.bytes > limits.bytesMax else {
                noteIdempotency(keys: figures.count, bytes: figures.bytes, forgotten: 0)
                return 0
            }
            var dropped = AnswerTable.Dropped()
            try database.inTransaction(.immediate) {
                dropped = try AnswerTable.drop(database, timeMin: timeMin, limits: limits, limit: Self.rowsPerCall)
                dropped.count += try EarlierAnswers.drop(database, timeMin: timeMin, limit: Self.rowsPerCall)
                return .commit
            }
            let left = try AnswerTable.figures(database)
            noteIdempotency(keys: left.count, bytes: left.bytes, forgotten: dropped.early)
            return dropped.count
        }
        guard dropped > 0 else { return false }
        maintenance.withLock { $0.isCheckpointed = false }
        return dropped >= Self.rowsPerCall
    }

    /// Deletes receipts that are only of messages that are gone. Nobody waits for it, so it goes over the table some rows a call, and
    /// only after something was dropped.
    private func sweepReceipts() throws(StoreFault) {
        let (isDue, last) = maintenance.withLock { ($0.isReceiptSweepDue, $0.lastReceipt) }
        guard isDue else { return }
        var seen: (user: String, channel: ChannelID) = last
        var count = 0
        try onWriter { database in
            var gone: [(user: String, channel: ChannelID)] = []
            do {
                let query = try Query(
                    database,
                    """
                    SELECT user, channel, read, dismissed FROM receipt WHERE (user, channel) > (?, ?) ORDER BY user, channel LIMIT ?
                    """)
                query.bind(1, last.user)
                query.bind(2, Int64(last.channel))
                query.bind(3, Int64(Self.rowsPerCall))
                while try query.step() {
                    count += 1
                    guard let user = FieldText(try query.text(0)), let channel = ChannelID(exactly: try query.integer(1)) else {
                        throw StoreProblem.corrupt("the row of a receipt was changed")
                    }
                    seen = (user.string, channel)
                    let ranges = try ReceiptTable.ranges(query, 2, user: user, channel: channel)
                    let newest = max(ranges.read.last?.upperBound ?? 0, ranges.dismissed.last?.upperBound ?? 0)
                    if newest <= channels[channel]?.trimmedSequence ?? 0 { gone.append(seen) }
                }
            }
            guard !gone.isEmpty else { return }
            try database.inTransaction(.immediate) {
                for row in gone {
                    let query = try Query(database, "DELETE FROM receipt WHERE user = ? AND channel = ?")
                    query.bind(1, row.user)
                    query.bind(2, Int64(row.channel))
                    try query.run()
                }
                return .commit
            }
        }
        let isAtEnd = count < Self.rowsPerCall
        maintenance.withLock {
            $0.lastReceipt = isAtEnd ? ("", -1) : seen
            $0.isReceiptSweepDue = !isAtEnd
        }
    }

    // MARK: The file

    /// Gives pages back that are free, but for those that the next messages will want: an eighth of the file.
    private func vacuum() throws(StoreFault) -> Bool {
        let excess = try onWriter { database -> Int64 in
            let free = try Query.number(database, "PRAGMA freelist_count") ?? 0
            let pages = try Query.number(database, "PRAGMA page_count") ?? 0
            let excess = free - max(64, pages / 8)
            guard excess > 0 else { return 0 }
            try database.execute(sql: "PRAGMA incremental_vacuum(\(min(excess, Int64(Self.vacuumPagesPerCall))))")
            return excess
        }
        if excess > 0 { maintenance.withLock { $0.isCheckpointed = false } }
        return excess > Int64(Self.vacuumPagesPerCall)
    }

    /// Once a second this is a short thing: a page that was written a thousand times since then goes into the file once.
    private func checkpoint() throws(StoreFault) {
        if options.isInMemory { return try refreshFigures(walFrames: nil) }
        guard !maintenance.withLock({ $0.isCheckpointed }) else { return }
        let frames = try onWriter { try $0.checkpoint(.passive).walFrameCount }
        maintenance.withLock { $0.isCheckpointed = true }
        try refreshFigures(walFrames: frames)
    }
}

extension ChannelState {
    /// Whether its oldest run has to go, or has not been looked at yet.
    fileprivate func isDue(nowMilliseconds: Int64) -> Bool {
        guard hasRuns else { return false }
        guard let oldest else { return true }
        return drops(oldest, nowMilliseconds: nowMilliseconds)
    }
}

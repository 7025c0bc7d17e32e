import GRDB
import NotificationCore

/// Opens the file, or makes it, and finds out what is in it.
struct StoreOpening {
    let writer: DatabaseQueue
    let reader: DatabaseQueue
    let epoch: LogEpoch
    let outbox: OutboxFigures

    /// - Parameter isFull: whether there is only what was kept in reserve: then SQLite does not move the write-ahead log into the file by
    ///   itself, which might take all of it and be of no use.
    init(_ options: StoreOptions, newEpoch: LogEpoch, nowMilliseconds: Int64, isFull: Bool = false, channels: ChannelTable) throws {
        writer = try Self.open(options.path)
        let path = options.path
        (epoch, outbox) = try writer.writeWithoutTransaction { database in
            let isNew = try Schema.identify(database, path: path)
            if isNew, options.ongoingEpoch != nil { throw StoreFault.replaced(path: path) }
            if isNew { try Schema.begin(database) }
            try Schema.configure(database, isReader: false, isInMemory: options.isInMemory)
            if isFull { try database.execute(sql: "PRAGMA wal_autocheckpoint = 0") }
            // What is written here is on the disk, whatever the durability, before the first commit is taken.
            try Schema.setSynchronous(database, .disk)
            try Schema.migrate(database)
            try Self.loadChannels(database, options.limits.feeds, into: channels)
            let epoch = try Self.beginEpoch(database, options, newEpoch: newEpoch, channels: channels.withAll { $0 })
            try WatchRow.prepare(database, isWanted: options.outbox?.watchesAlerts ?? false)
            let outbox = options.outbox == nil ? OutboxFigures() : try OutboxTable.open(database, nowMilliseconds: nowMilliseconds)
            try Schema.setSynchronous(database, options.durability)
            return (epoch, outbox)
        }
        if options.isInMemory {
            reader = writer
        } else {
            reader = try Self.open(options.path)
            try reader.unsafeRead { try Schema.configure($0, isReader: true, isInMemory: false) }
            // A write that fails at the wrong moment leaves a new file with a rollback journal, and SQLite says nothing: a commit would
            // not outlive a power cut then.
            guard try writer.writeWithoutTransaction({ try String.fetchOne($0, sql: "PRAGMA journal_mode") }) == "wal" else {
                throw StoreFault.io("\(path) has no write-ahead log")
            }
        }
    }

    static func open(_ path: String, isReadOnly: Bool = false) throws -> DatabaseQueue {
        var configuration = Configuration()
        configuration.readonly = isReadOnly
        // Nobody but a tool that looks at the file holds a lock, and not for long.
        configuration.busyMode = .timeout(2)
        configuration.foreignKeysEnabled = false
        do {
            return try DatabaseQueue(path: path, configuration: configuration)
        } catch let error as DatabaseError where error.resultCode == .SQLITE_NOTADB {
            throw StoreFault.notALog(path: path)
        }
    }

    #if DEFECTS
        private static var keepsEpoch: Bool { Defect.active == .epochIsKept }
    #else
        private static let keepsEpoch = false
    #endif

    /// What is found need not be all that was given out: a copy of before, or a log that has lost its end, looks like any other. So each
    /// process that opens the log begins an epoch, as leaders do in Raft, and the log knows of those before how far each of them got here.
    ///
    /// What is there is a beginning of what was given out, whichever way the rest was lost: commits are in the write-ahead log one after
    /// the other, and SQLite takes none whose checksum, which goes over all of them, is wrong.
    ///
    /// - Returns: the epoch from here on.
    private static func beginEpoch(
        _ database: Database, _ options: StoreOptions, newEpoch: LogEpoch, channels: [ChannelState]
    ) throws -> LogEpoch {
        var epoch = newEpoch
        try database.inTransaction(.immediate) {
            let isNew = try Query.number(database, "SELECT count(*) FROM meta") == 0 && channels.isEmpty
            if !isNew {
                let last = try Meta(database)
                try Meta.checkTails(database, channels)
                if let ongoing = options.ongoingEpoch {
                    guard ongoing == last.epoch else { throw StoreFault.replaced(path: options.path) }
                    epoch = ongoing
                    return .commit
                }
                if keepsEpoch { epoch = last.epoch }
                if epoch != last.epoch {
                    let lastOffset = channels.reduce(0) { max($0, $1.lastOffset) }
                    try Meta.limitPastEpochs(database, lastOffset: lastOffset)
                    try Meta.storePastEpoch(database, last.epoch, lastOffset: lastOffset)
                }
            }
            try Meta(epoch: epoch, durability: options.durability).store(database)
            return .commit
        }
        return epoch
    }

    // MARK: Channels

    static func loadChannels(_ database: Database, _ feeds: FeedTable, into channels: ChannelTable) throws {
        let runs = RunTable(database: database, epoch: LogEpoch(random: 0), cache: nil)
        var states: [ChannelState] = []
        for var record in try records(database) {
            guard Int(record.id) == states.count else {
                throw StoreProblem.corrupt("channel number \(states.count) is missing")
            }
            let last = try runs.last(record.id)
            guard (last?.lastSequence ?? record.trimmedSequence) >= max(record.lastSequence, record.trimmedSequence) else {
                throw StoreProblem.corrupt("the newest messages of channel \(record.name) are missing")
            }
            if let last { (record.lastSequence, record.lastOffset) = (last.lastSequence, last.lastOffset) }
            var state = ChannelState(record, feed: feeds[record.name])
            state.total = last?.total ?? 0
            states.append(state)
        }
        let query = try Query(database, "SELECT channel, sequence FROM state")
        while try query.step() {
            guard let channel = Int(exactly: try query.integer(0)), states.indices.contains(channel) else {
                throw StoreProblem.corrupt("there is a state of a channel that does not exist")
            }
            states[channel].stateSequence = try query.unsigned(1)
        }
        channels.withAll { $0 = states }
    }

    /// The rows, as retention last wrote them.
    static func records(_ database: Database) throws -> [ChannelRecord] {
        let query = try Query(database, "\(columns) FROM channel ORDER BY id")
        var records: [ChannelRecord] = []
        while try query.step() { records.append(try record(query)) }
        return records
    }

    /// One of them; nil if there is no such channel.
    static func record(_ database: Database, _ channel: ChannelID) throws -> ChannelRecord? {
        let query = try Query(database, "\(columns) FROM channel WHERE id = ?")
        query.bind(1, Int64(channel))
        return try query.step() ? try record(query) : nil
    }

    private static let columns =
        #"SELECT id, name, last_sequence, last_offset, trimmed_sequence, trimmed_offset, "check""#

    private static func record(_ query: borrowing Query) throws -> ChannelRecord {
        guard let id = ChannelID(exactly: try query.integer(0)), let name = ChannelName(try query.text(1)) else {
            throw StoreProblem.corrupt("the row of a channel was changed")
        }
        let record = ChannelRecord(
            id: id, name: name, lastSequence: try query.unsigned(2), lastOffset: try query.unsigned(3),
            trimmedSequence: try query.unsigned(4), trimmedOffset: try query.unsigned(5))
        guard try query.integer(6) == RecordCodec.check(record),
            max(record.lastOffset, record.lastSequence, record.trimmedOffset, record.trimmedSequence) <= RunID.offsetMax
        else {
            throw StoreProblem.corrupt("the row of channel \(name) was changed")
        }
        return record
    }

    static func store(_ database: Database, _ record: ChannelRecord) throws {
        let query = try Query(
            database,
            """
            INSERT INTO channel (id, name, last_sequence, last_offset, trimmed_sequence, trimmed_offset, "check")
            VALUES (?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET last_sequence = excluded.last_sequence, last_offset = excluded.last_offset,
                trimmed_sequence = excluded.trimmed_sequence, trimmed_offset = excluded.trimmed_offset, "check" = excluded."check"
            """)
        query.bind(1, Int64(record.id))
        query.bind(2, record.name.string)
        query.bind(3, record.lastSequence)
        query.bind(4, record.lastOffset)
        query.bind(5, record.trimmedSequence)
        query.bind(6, record.trimmedOffset)
        query.bind(7, RecordCodec.check(record))
        try query.run()
    }
}

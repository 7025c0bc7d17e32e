import GRDB
import NotificationCore

/// Table `watch`: alerts that may have to be told of when nobody reads them, in the order of their times. A row goes once its time has
/// come and its users were looked at, so what a look costs does not depend on how many alerts there are.
///
/// `user` is the last of its users that was looked at; empty before the first.
struct WatchRow {
    var time: Int64
    var offset: UInt64
    var channel: ChannelID
    var sequence: UInt64
    var user: String

    private var check: Int64 {
        var checksum = Checksum()
        for word in [UInt64(bitPattern: time), offset, UInt64(bitPattern: Int64(channel)), sequence] { checksum.add(word) }
        checksum.add(user)
        return Int64(checksum.value)
    }

    init(_ entry: LogEntry) {
        time = entry.timeMilliseconds
        offset = entry.offset
        channel = entry.channel
        sequence = entry.sequence
        user = ""
    }

    func store(_ database: Database) throws {
        let query = try Query(
            database, #"INSERT OR REPLACE INTO watch (time, offset, channel, sequence, user, "check") VALUES (?, ?, ?, ?, ?, ?)"#)
        query.bind(1, time)
        query.bind(2, offset)
        query.bind(3, Int64(channel))
        query.bind(4, sequence)
        query.bind(5, user)
        query.bind(6, check)
        try query.run()
    }

    func drop(_ database: Database) throws {
        try Self.drop(database, time: time, offset: Int64(bitPattern: offset))
    }

    func storeUser(_ database: Database) throws {
        let query = try Query(database, #"UPDATE watch SET user = ?, "check" = ? WHERE time = ? AND offset = ?"#)
        query.bind(1, user)
        query.bind(2, check)
        query.bind(3, time)
        query.bind(4, offset)
        try query.run()
    }

    /// Those whose time has come, and the keys of rows that are not as they were written.
    static func due(
        _ database: Database, throughMilliseconds: Int64, limit: Int
    ) throws -> (rows: [WatchRow], damaged: [(time: Int64, offset: Int64)]) {
        let query = try Query(
            database,
            #"SELECT time, offset, channel, sequence, user, "check" FROM watch WHERE time <= ? ORDER BY time, offset LIMIT ?"#)
        query.bind(1, throughMilliseconds)
        query.bind(2, Int64(limit))
        var rows: [WatchRow] = []
        var damaged: [(Int64, Int64)] = []
        while try query.step() {
            let row = WatchRow(
                time: try query.integer(0), offset: UInt64(bitPattern: try query.integer(1)),
                channel: ChannelID(truncatingIfNeeded: try query.integer(2)), sequence: UInt64(bitPattern: try query.integer(3)),
                user: try query.text(4))
            if try query.integer(5) == row.check, row.offset > 0 {
                rows.append(row)
            } else {
                damaged.append((row.time, Int64(bitPattern: row.offset)))
            }
        }
        return (rows, damaged)
    }

    static func drop(_ database: Database, time: Int64, offset: Int64) throws {
        try Query.run(database, "DELETE FROM watch WHERE time = ? AND offset = ?", time, offset)
    }

    private init(time: Int64, offset: UInt64, channel: ChannelID, sequence: UInt64, user: String) {
        self.time = time
        self.offset = offset
        self.channel = channel
        self.sequence = sequence
        self.user = user
    }

    /// What is needed to find a channel's readers, only where it is wanted.
    static func prepare(_ database: Database, isWanted: Bool) throws {
        let isThere = try Query.number(database, "SELECT count(*) FROM sqlite_master WHERE name = 'receipt_channel'") != 0
        if isWanted {
            if !isThere { try database.execute(sql: "CREATE INDEX receipt_channel ON receipt (channel, user)") }
            return
        }
        if isThere { try database.execute(sql: "DROP INDEX receipt_channel") }
        // Alerts of a time in which somebody wanted to hear of them.
        if try Query.number(database, "SELECT 1 FROM watch LIMIT 1") != nil { try Query.run(database, "DELETE FROM watch") }
    }

    /// Adds the alerts of a commit.
    ///
    /// - Returns: how many are watched, and how many there was no room for.
    static func store(_ database: Database, _ alerts: [LogEntry], room: Int) throws -> (watched: Int, unwatched: Int) {
        for alert in alerts.prefix(room) { try WatchRow(alert).store(database) }
        return (min(alerts.count, room), max(0, alerts.count - room))
    }

    /// Users who have read something in the channel, after `user`, with what each has seen of it.
    static func readers(
        _ database: Database, _ channel: ChannelID, after user: String, limit: Int
    ) throws -> [(user: FieldText, ranges: ReceiptTable.Ranges)] {
        let query = try Query(
            database, "SELECT user, read, dismissed FROM receipt WHERE channel = ? AND user > ? ORDER BY user LIMIT ?")
        query.bind(1, Int64(channel))
        query.bind(2, user)
        query.bind(3, Int64(limit))
        var readers: [(FieldText, ReceiptTable.Ranges)] = []
        while try query.step() {
            guard let user = FieldText(try query.text(0)) else { throw StoreProblem.corrupt("the row of a receipt was changed") }
            readers.append((user, try ReceiptTable.ranges(query, 1, user: user, channel: channel)))
        }
        return readers
    }
}

extension ReceiptTable.Ranges {
    /// Whether a message was read or dismissed.
    func hasSeen(_ sequence: UInt64) -> Bool { [read, dismissed].contains { ranges in Self.contains(ranges, sequence) } }

    private static func contains(_ ranges: [ClosedRange<UInt64>], _ sequence: UInt64) -> Bool {
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].upperBound < sequence { low = middle + 1 } else { high = middle }
        }
        return low < ranges.count && ranges[low].contains(sequence)
    }
}

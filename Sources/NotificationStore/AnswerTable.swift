import GRDB
import NotificationCore

/// Table `answer`: what was answered to requests with an `Idempotency-Key`, in the order in which they came.
///
/// Nothing of it is in memory: the writer asks by the index, so that a million of them cost no memory, and nothing when a log is opened.
/// How many there are, and what they take, is told by the first row and the last: numbers go up by one, and `total` is the sum up to a
/// row. (A key that is used again after its time is a new row, so for a while there are fewer than that.)
enum AnswerTable {
    struct Figures {
        var count = 0
        var bytes = 0
        /// When the first row came; nil: there is none.
        var oldestTime: Int64?
    }

    struct Dropped {
        var count = 0
        /// Of these, before their time.
        var early = 0
    }

    static func store(_ database: Database, _ record: IdempotencyRecord) throws {
        let deletion = try Query(database, "DELETE FROM answer WHERE publisher = ? AND key = ?")
        deletion.bind(1, record.key.publisher)
        deletion.bind(2, record.key.text.string)
        try deletion.run()
        var body = RecordCodec.encode(record)
        let total = try last(database).total + bytes(record.key, body: body.count)
        RecordCodec.seal(&body, of: record, total: total)
        let query = try Query(
            database, "INSERT INTO answer (publisher, key, fingerprint, time, total, body) VALUES (?, ?, ?, ?, ?, ?)")
        query.bind(1, record.key.publisher)
        query.bind(2, record.key.text.string)
        query.bind(3, record.fingerprint ?? 0)
        query.bind(4, record.timeMilliseconds)
        query.bind(5, total)
        query.bind(6, body)
        try query.run()
    }

    /// About what a row takes in the file: its key stands in the index, too, and there are numbers and lengths.
    private static func bytes(_ key: IdempotencyKey, body: Int) -> Int64 {
        Int64(2 * (key.publisher.utf8.count + key.text.string.utf8.count) + body + 48)
    }

    static func find(_ database: Database, _ key: IdempotencyKey) throws -> IdempotencyRecord? {
        let query = try Query(database, "\(columns) WHERE publisher = ? AND key = ?")
        query.bind(1, key.publisher)
        query.bind(2, key.text.string)
        return try query.step() ? try record(query) : nil
    }

    static func check(_ database: Database) throws {
        // A file of before has no such table.
        guard try Query.number(database, "SELECT count(*) FROM sqlite_master WHERE name = 'answer'") == 1 else { return }
        let query = try Query(database, "\(columns) ORDER BY id")
        while try query.step() { _ = try record(query) }
    }

    private static let columns = "SELECT publisher, key, fingerprint, time, total, body FROM answer"

    private static func record(_ query: borrowing Query) throws -> IdempotencyRecord {
        let publisher = try query.text(0)
        guard let text = FieldText(try query.text(1)) else { throw StoreProblem.corrupt("an idempotency key was changed") }
        var record = IdempotencyRecord(
            key: IdempotencyKey(text, publisher: publisher), fingerprint: UInt64(bitPattern: try query.integer(2)), places: [],
            timeMilliseconds: try query.integer(3))
        let total = try query.integer(4)
        do {
            record.places = try query.withBlob(5) { try RecordCodec.places($0, of: record, total: total) }
        } catch is ByteReader.Damage {
            throw StoreProblem.corrupt("what was answered to the idempotency key \(text) is not as it was written")
        }
        return record
    }

    // MARK: What goes

    private static func last(_ database: Database) throws -> (id: Int64, total: Int64) {
        let query = try Query(database, "SELECT id, total FROM answer ORDER BY id DESC LIMIT 1")
        return try query.step() ? (try query.integer(0), try query.integer(1)) : (0, 0)
    }

    static func figures(_ database: Database) throws -> Figures {
        let last = try last(database)
        let query = try Query(
            database, "SELECT id, time, total, length(publisher) + length(key), length(body) FROM answer ORDER BY id LIMIT 1")
        guard try query.step() else { return Figures() }
        let first = 2 * (try query.integer(3)) + (try query.integer(4)) + 48
        return Figures(
            count: Int(last.id - (try query.integer(0)) + 1), bytes: Int(max(0, last.total - (try query.integer(2)) + first)),
            oldestTime: try query.integer(1))
    }

    /// Deletes rows from the old end while they are older than `timeMin` or there are too many, at most `limit`.
    static func drop(_ database: Database, timeMin: Int64, limits: IdempotencyLimits, limit: Int) throws -> Dropped {
        let last = try last(database)
        var dropped = Dropped()
        var through: Int64?
        do {
            let query = try Query(database, "SELECT id, time, total FROM answer ORDER BY id LIMIT ?")
            query.bind(1, Int64(limit))
            var before: Int64?
            while try query.step() {
                let (id, time, total) = (try query.integer(0), try query.integer(1), try query.integer(2))
                let isExcess = last.id - id >= Int64(limits.countMax) || last.total - (before ?? total) > Int64(limits.bytesMax)
                guard isExcess || time < timeMin else { break }
                if time >= timeMin { dropped.early += 1 }
                dropped.count += 1
                (through, before) = (id, total)
            }
        }
        if let through { try Query.run(database, "DELETE FROM answer WHERE id <= ?", through) }
        return dropped
    }
}

/// Table `idempotency`: the same, as versions before `answer` wrote it. Whose a key was it does not say, so it is everybody's, as it was
/// then; a day later there are none.
enum EarlierAnswers {
    static func find(_ database: Database, _ key: IdempotencyKey) throws -> IdempotencyRecord? {
        let query = try Query(database, "SELECT key, fingerprint, time, body FROM idempotency WHERE key = ?")
        query.bind(1, key.text.string)
        guard try query.step() else { return nil }
        let places = try receipts(query).map { receipt -> IdempotencyRecord.Place? in
            guard receipt.sequence > 0 else { return nil }
            let named = try Query(database, "SELECT id FROM channel WHERE name = ?")
            named.bind(1, receipt.channel.string)
            guard try named.step(), let channel = ChannelID(exactly: try named.integer(0)) else {
                throw StoreProblem.corrupt("there is an answer about a channel that does not exist")
            }
            return IdempotencyRecord.Place(channel: channel, sequence: receipt.sequence, offset: receipt.offset)
        }
        return IdempotencyRecord(key: key, fingerprint: nil, places: places, timeMilliseconds: try query.integer(2))
    }

    static func check(_ database: Database) throws {
        let query = try Query(database, "SELECT key, fingerprint, time, body FROM idempotency")
        while try query.step() { _ = try receipts(query) }
    }

    private static func receipts(_ query: borrowing Query) throws -> [AppendReceipt] {
        guard let key = FieldText(try query.text(0)) else { throw StoreProblem.corrupt("an idempotency key was changed") }
        let (fingerprint, time) = (UInt64(bitPattern: try query.integer(1)), try query.integer(2))
        do {
            return try query.withBlob(3) { try RecordCodec.earlierReceipts($0, key: key, fingerprint: fingerprint, time: time) }
        } catch is ByteReader.Damage {
            throw StoreProblem.corrupt("what was answered to the idempotency key \(key) is not as it was written")
        }
    }

    static func hasOlder(_ database: Database, _ timeMin: Int64) throws -> Bool {
        try Query.number(database, "SELECT time FROM idempotency ORDER BY id LIMIT 1").map { $0 < timeMin } ?? false
    }

    /// - Returns: how many.
    static func drop(_ database: Database, timeMin: Int64, limit: Int) throws -> Int {
        try Query.run(
            database, "DELETE FROM idempotency WHERE id IN (SELECT id FROM idempotency ORDER BY id LIMIT ?) AND time < ?", Int64(limit),
            timeMin)
        return database.rowsChanged
    }
}

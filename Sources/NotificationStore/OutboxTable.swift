import GRDB
import NotificationCore

/// Table `outbox`, in one transaction. What is counted becomes true with its commit.
///
/// `next` is when a row is due, in milliseconds since 1970; `waits` of one that stands behind another of its subject. `rank` is 0 of what
/// goes first when there is no room.
struct OutboxTable {
    let database: Database
    let options: OutboxOptions
    var figures: OutboxFigures

    static let waits = Int64.max
    /// Rows that one turn gives up for their age.
    private static let agedPerTurn = 500

    // MARK: in

    /// - Parameter nowMilliseconds: when the rows are due.
    mutating func insert(_ event: OutboxEvent, nowMilliseconds now: Int64) throws {
        if let (subject, change) = event.transition, try !OccupiedTable.take(database, subject, change, options, &figures) { return }
        for endpoint in event.endpoints { try insert(event, endpoint, now) }
    }

    private mutating func insert(_ event: OutboxEvent, _ endpoint: String, _ now: Int64) throws {
        var next = now
        if let subject = event.transition?.subject {
            let earlier = try rows(endpoint, subject)
            if let last = earlier.last {
                if last.type == event.type { return }
                // The first may be under way; what stands behind it is not, and the new one undoes it.
                if earlier.count > 1 { return try remove(last.id, now) }
                next = Self.waits
            }
        }
        let bytes = event.body.count + Self.rowBytes
        guard try makeRoom(event, bytes, now) else { return figures.lose(event.type, .room) }
        // What it stood behind may have gone.
        if next == Self.waits, let subject = event.transition?.subject, try rows(endpoint, subject).isEmpty { next = now }
        let query = try Query(
            database,
            """
            INSERT INTO outbox (endpoint, type, message, subject, rank, time, attempts, next, body) VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)
            """)
        query.bind(1, endpoint)
        query.bind(2, event.type)
        query.bind(3, event.message)
        query.bind(4, event.transition?.subject as String?)
        query.bind(5, event.isSupersedable ? 0 : 1 as Int64)
        query.bind(6, event.timeMilliseconds)
        query.bind(7, next)
        query.bind(8, Self.seal(event.body, Self.checksum(endpoint, event.type, event.message, event.timeMilliseconds)))
        try query.run()
        figures.add(event.type, bytes: bytes)
    }

    /// What a row takes besides its body, about.
    static let rowBytes = 150

    private func rows(_ endpoint: String, _ subject: String) throws -> [(id: Int64, type: String)] {
        let query = try Query(database, "SELECT id, type FROM outbox WHERE endpoint = ? AND subject = ? ORDER BY id")
        query.bind(1, endpoint)
        query.bind(2, subject)
        var rows: [(Int64, String)] = []
        while try query.step() { rows.append((try query.integer(0), try query.text(1))) }
        return rows
    }

    /// - Returns: false if everything else that is there is worth more than the event.
    private mutating func makeRoom(_ event: OutboxEvent, _ bytes: Int, _ now: Int64) throws -> Bool {
        if bytes > options.bytesMax || options.rowsMax < 1 { return false }
        while figures.rows >= options.rowsMax || figures.bytes + bytes > options.bytesMax {
            guard let first = try first() else { return true }
            if first.rank == 1, event.isSupersedable { return false }
            figures.lose(first.type, .room)
            try remove(first.id, now)
        }
        return true
    }

    private func first() throws -> (id: Int64, rank: Int64, type: String)? {
        let query = try Query(database, "SELECT id, rank, type FROM outbox ORDER BY rank, id LIMIT 1")
        return try query.step() ? (try query.integer(0), try query.integer(1), try query.text(2)) : nil
    }

    // MARK: out

    mutating func take(_ outcome: OutboxOutcome, nowMilliseconds now: Int64) throws {
        let query = try Query(database, "SELECT 1 FROM outbox WHERE id = ? AND message = ?")
        query.bind(1, outcome.id)
        query.bind(2, outcome.message)
        guard try query.step() else { return }
        switch outcome.what {
        case .done: try remove(outcome.id, now)
        case .later(let milliseconds, let attempts):
            try Query.run(
                database, "UPDATE outbox SET next = ?, attempts = ? WHERE id = ?", min(milliseconds, Self.waits - 1), Int64(attempts),
                outcome.id)
        }
    }

    /// Takes a row out, and lets the one behind it go.
    mutating func remove(_ id: Int64, _ now: Int64) throws {
        var subject: (endpoint: String, name: String)?
        do {
            let query = try Query(database, "SELECT endpoint, subject, type, length(body) FROM outbox WHERE id = ?")
            query.bind(1, id)
            guard try query.step() else { return }
            if !query.isNull(1) { subject = (try query.text(0), try query.text(1)) }
            figures.remove(try query.text(2), bytes: Int(try query.integer(3)) - 4 + Self.rowBytes)
        }
        try Query.run(database, "DELETE FROM outbox WHERE id = ?", id)
        guard let subject else { return }
        let query = try Query(database, "UPDATE outbox SET next = ? WHERE endpoint = ? AND subject = ? AND next = ?")
        query.bind(1, now)
        query.bind(2, subject.endpoint)
        query.bind(3, subject.name)
        query.bind(4, Self.waits)
        try query.run()
    }

    /// Gives up what has waited for too long.
    mutating func dropOld(nowMilliseconds now: Int64) throws {
        let timeMin = now - Int64(options.ageSecondsMax) * 1000
        guard let oldest = figures.oldestMilliseconds, oldest < timeMin else { return }
        var old: [(id: Int64, type: String)] = []
        do {
            let query = try Query(database, "SELECT id, type, time FROM outbox ORDER BY id LIMIT ?")
            query.bind(1, Int64(Self.agedPerTurn))
            while try query.step() {
                guard try query.integer(2) < timeMin else { break }
                old.append((try query.integer(0), try query.text(1)))
            }
        }
        for row in old {
            figures.lose(row.type, .age)
            try remove(row.id, now)
        }
    }

    /// A row that was changed on the disk is of no use to anybody.
    mutating func dropDamaged(_ id: Int64, nowMilliseconds now: Int64) throws {
        let query = try Query(database, "SELECT type FROM outbox WHERE id = ?")
        query.bind(1, id)
        guard try query.step() else { return }
        figures.lose(try query.text(0), .damage)
        try remove(id, now)
    }

    /// After all that changes rows.
    mutating func noteOldest() throws {
        figures.oldestMilliseconds = try Query.number(database, "SELECT time FROM outbox ORDER BY id LIMIT 1")
    }

    // MARK: reading

    /// What is there when the store is opened. Times to come that no schedule has are of a clock that was wrong: those rows are due.
    static func open(_ database: Database, nowMilliseconds now: Int64) throws -> OutboxFigures {
        try Query.run(database, "UPDATE outbox SET next = ? WHERE next > ? AND next < ?", now, now + 14 * 86_400_000, waits)
        var figures = OutboxFigures()
        do {
            let query = try Query(database, "SELECT type, count(*), sum(length(body)) FROM outbox GROUP BY type")
            while try query.step() {
                let count = Int(try query.integer(1))
                let type = try query.text(0)
                figures.waiting[type] = count
                figures.bytes += Int(try query.integer(2)) + count * (rowBytes - 4)
            }
        }
        figures.oldestMilliseconds = try Query.number(database, "SELECT time FROM outbox ORDER BY id LIMIT 1")
        figures.watched = Int(try Query.number(database, "SELECT count(*) FROM watch") ?? 0)
        figures.occupied = Int(try Query.number(database, "SELECT count(*) FROM occupied") ?? 0)
        return figures
    }

    private static let columns = "SELECT id, type, message, time, attempts, body, endpoint FROM outbox"

    /// - Returns: rows of a receiver that are due, those that have been for longest first; and the numbers of damaged ones.
    static func due(
        _ database: Database, _ endpoint: String, nowMilliseconds: Int64, limit: Int
    ) throws -> (rows: [OutboxRow], damaged: [Int64]) {
        let query = try Query(database, "\(columns) WHERE endpoint = ? AND next <= ? ORDER BY next, id LIMIT ?")
        query.bind(1, endpoint)
        query.bind(2, nowMilliseconds)
        query.bind(3, Int64(limit))
        var rows: [OutboxRow] = []
        var damaged: [Int64] = []
        while try query.step() {
            if let row = try Self.row(query) { rows.append(row) } else { damaged.append(try query.integer(0)) }
        }
        return (rows, damaged)
    }

    /// When the next row of a receiver is due; nil: there is none.
    static func nextDue(_ database: Database, _ endpoint: String) throws -> Int64? {
        let query = try Query(database, "SELECT next FROM outbox WHERE endpoint = ? AND next < ? ORDER BY next LIMIT 1")
        query.bind(1, endpoint)
        query.bind(2, waits)
        return try query.step() ? try query.integer(0) : nil
    }

    /// - Returns: nil of a row that is not as it was written.
    private static func row(_ query: borrowing Query) throws -> OutboxRow? {
        do {
            let (type, message, time, endpoint) = (try query.text(1), try query.text(2), try query.integer(3), try query.text(6))
            let checksum = checksum(endpoint, type, message, time)
            let body = try query.withBlob(5) { [UInt8](try ByteReader(sealed: $0, checksum).rest) }
            return OutboxRow(
                id: try query.integer(0), endpoint: endpoint, message: message, type: type, timeMilliseconds: time,
                attempts: Int(clamping: try query.integer(4)), body: body)
        } catch is StoreProblem {
            return nil
        } catch is ByteReader.Damage {
            return nil
        }
    }

    /// All of them, for `tocsin log check`.
    ///
    /// - Returns: how many are not as they were written.
    static func damagedCount(_ database: Database) throws -> Int {
        let query = try Query(database, columns)
        var count = 0
        while try query.step() {
            if try row(query) == nil { count += 1 }
        }
        return count
    }

    private static func checksum(_ endpoint: String, _ type: String, _ message: String, _ time: Int64) -> Checksum {
        var checksum = Checksum()
        checksum.add(UInt64(bitPattern: time))
        for text in [endpoint, type, message] { checksum.add(text) }
        return checksum
    }

    private static func seal(_ body: [UInt8], _ checksum: Checksum) -> [UInt8] {
        var bytes = [UInt8].withRoomForChecksum
        bytes.append(contentsOf: body)
        bytes.sealChecksum(checksum)
        return bytes
    }
}

/// Table `occupied`: subjects that somebody has, as far as receivers were or will be told.
///
/// `seen` is 1 of those that somebody has had since the server was started.
enum OccupiedTable {
    /// - Returns: whether it is news.
    static func take(
        _ database: Database, _ subject: String, _ change: OutboxEvent.Transition, _ options: OutboxOptions, _ figures: inout OutboxFigures
    ) throws -> Bool {
        switch change {
        case .occupied:
            do {
                let query = try Query(database, "UPDATE occupied SET seen = 1 WHERE subject = ?")
                query.bind(1, subject)
                try query.run()
            }
            if database.rowsChanged > 0 { return false }
            // Over the bound it is told, and forgotten.
            guard figures.occupied < options.occupiedMax else { return true }
            let query = try Query(database, "INSERT INTO occupied (subject, seen) VALUES (?, 1)")
            query.bind(1, subject)
            try query.run()
            figures.occupied += 1
        case .vacated:
            let query = try Query(database, "DELETE FROM occupied WHERE subject = ?")
            query.bind(1, subject)
            try query.run()
            figures.occupied -= database.rowsChanged
        }
        return true
    }

    static func forgetSeen(_ database: Database) throws {
        try Query.run(database, "UPDATE occupied SET seen = 0 WHERE seen <> 0")
    }

    static func unseen(_ database: Database, limit: Int) throws -> [String] {
        let query = try Query(database, "SELECT subject FROM occupied WHERE seen = 0 LIMIT ?")
        query.bind(1, Int64(limit))
        var subjects: [String] = []
        while try query.step() { subjects.append(try query.text(0)) }
        return subjects
    }
}

import GRDB
import NotificationCore

/// Table `alert`: of each alert what decides whether somebody has still to see it, so that finding the unread ones needs no messages.
struct AlertRow {
    var channel: ChannelID
    var sequence: UInt64
    var offset: UInt64
    var priority: Priority
    /// Milliseconds since 1970; `Int64.max`: never.
    var expires: Int64
    var key: String?

    init(_ entry: LogEntry) {
        channel = entry.channel
        sequence = entry.sequence
        offset = entry.offset
        priority = entry.publication.priority
        expires = entry.expiresMilliseconds
        key = entry.publication.key?.string
    }

    /// What the column `standing` has as long as nothing replaced the alert; 0 from then on. Never 0.
    var standing: Int64 {
        var checksum = Checksum()
        checksum.add(UInt64(bitPattern: Int64(channel)))
        checksum.add(sequence)
        checksum.add(offset)
        checksum.add(PriorityCode.code(priority))
        checksum.add(UInt64(bitPattern: expires))
        if let key { checksum.add(key) }
        return Int64(checksum.value) | 1 << 32
    }

    static let columns = "SELECT sequence, offset, priority, expires, key, standing"

    /// - Parameter query: of `columns`; only alerts that stand.
    init(_ query: borrowing Query, _ channel: ChannelID) throws {
        self.channel = channel
        sequence = try query.unsigned(0)
        offset = try query.unsigned(1)
        expires = try query.integer(3)
        key = query.isNull(4) ? nil : try query.text(4)
        guard let priority = PriorityCode.priority(try query.unsigned(2)) else { throw Self.changed(channel, sequence) }
        self.priority = priority
        guard offset > 0, try query.integer(5) == standing else { throw Self.changed(channel, sequence) }
    }

    private static func changed(_ channel: ChannelID, _ sequence: UInt64) -> StoreProblem {
        .corrupt("the row of alert \(sequence) of channel number \(channel) was changed")
    }
}

enum AlertTable {
    static func store(_ database: Database, _ alerts: [LogEntry]) throws {
        for entry in alerts {
            if let replaced = entry.publication.replaces {
                let query = try Query(
                    database, "UPDATE alert SET standing = 0 WHERE channel = ? AND key = ? AND key IS NOT NULL AND standing <> 0")
                query.bind(1, Int64(entry.channel))
                query.bind(2, replaced.string)
                try query.run()
            }
            let row = AlertRow(entry)
            let query = try Query(
                database,
                "INSERT INTO alert (channel, sequence, offset, priority, expires, key, standing) VALUES (?, ?, ?, ?, ?, ?, ?)")
            query.bind(1, Int64(row.channel))
            query.bind(2, row.sequence)
            query.bind(3, row.offset)
            query.bind(4, PriorityCode.code(row.priority))
            query.bind(5, row.expires)
            query.bind(6, row.key)
            query.bind(7, row.standing)
            try query.run()
        }
    }

    static func drop(_ database: Database, _ channel: ChannelID, throughSequence sequence: UInt64) throws {
        try Query.run(database, "DELETE FROM alert WHERE channel = ? AND sequence <= ?", Int64(channel), Int64(sequence))
    }

    /// - Parameter nowMilliseconds: those that have expired by then do not count.
    static func count(
        _ database: Database, _ channel: ChannelID, _ range: ClosedRange<UInt64>, nowMilliseconds: Int64
    ) throws -> UnreadCount {
        let query = try Query(
            database,
            """
            SELECT count(*), min(expires) FROM alert
            WHERE channel = ?1 AND sequence >= ?2 AND sequence <= ?3 AND standing <> 0 AND expires > ?4
            """)
        query.bind(1, Int64(channel))
        query.bind(2, Int64(clamping: range.lowerBound))
        query.bind(3, Int64(clamping: range.upperBound))
        query.bind(4, nowMilliseconds)
        guard try query.step(), !query.isNull(1) else { return UnreadCount() }
        return UnreadCount(count: Int(try query.integer(0)), expiresMilliseconds: try query.integer(1))
    }

    /// The same of several ranges, ascending. Where there are many, one walk over all costs less than a question for each.
    static func count(
        _ database: Database, _ channel: ChannelID, _ ranges: [ClosedRange<UInt64>], nowMilliseconds: Int64
    ) throws -> UnreadCount {
        var found = UnreadCount()
        guard ranges.count > 32 else {
            for range in ranges { found.add(try count(database, channel, range, nowMilliseconds: nowMilliseconds)) }
            return found
        }
        let query = try Query(
            database,
            """
            SELECT sequence, expires FROM alert
            WHERE channel = ?1 AND sequence >= ?2 AND sequence <= ?3 AND standing <> 0 AND expires > ?4 ORDER BY sequence
            """)
        query.bind(1, Int64(channel))
        query.bind(2, Int64(clamping: ranges[0].lowerBound))
        query.bind(3, Int64(clamping: ranges[ranges.count - 1].upperBound))
        query.bind(4, nowMilliseconds)
        var rest = ranges[...]
        while try query.step() {
            let sequence = try query.unsigned(0)
            while let first = rest.first, first.upperBound < sequence { rest.removeFirst() }
            if rest.first?.contains(sequence) == true { found.add(UnreadCount(count: 1, expiresMilliseconds: try query.integer(1))) }
        }
        return found
    }

    /// Alerts that stand, in a range of sequences, in order or the other way round.
    static func rows(
        _ database: Database, _ channel: ChannelID, _ range: ClosedRange<UInt64>, isNewestFirst: Bool, limit: Int
    ) throws -> [AlertRow] {
        let query =
            isNewestFirst
            ? try Query(
                database,
                """
                \(AlertRow.columns) FROM alert WHERE channel = ?1 AND sequence >= ?2 AND sequence <= ?3 AND standing <> 0
                ORDER BY sequence DESC LIMIT ?4
                """)
            : try Query(
                database,
                """
                \(AlertRow.columns) FROM alert WHERE channel = ?1 AND sequence >= ?2 AND sequence <= ?3 AND standing <> 0
                ORDER BY sequence LIMIT ?4
                """)
        query.bind(1, Int64(channel))
        query.bind(2, Int64(clamping: range.lowerBound))
        query.bind(3, Int64(clamping: range.upperBound))
        query.bind(4, Int64(limit))
        var rows: [AlertRow] = []
        while try query.step() { rows.append(try AlertRow(query, channel)) }
        return rows
    }
}

/// Walks over the alerts of one channel that stand and are in none of some ranges, from either end, some rows at a time.
struct AlertCursor {
    let channel: ChannelID
    let name: ChannelName
    /// Ascending.
    private let skipped: [ClosedRange<UInt64>]
    private let isNewestFirst: Bool
    private let nowMilliseconds: Int64
    /// What is still to be looked at; nil: nothing.
    private var rest: ClosedRange<UInt64>?
    private var rows: ArraySlice<AlertRow> = []
    private var limit = 8

    init(
        _ channel: ChannelID, _ name: ChannelName, _ range: ClosedRange<UInt64>, skipping skipped: [ClosedRange<UInt64>],
        isNewestFirst: Bool, nowMilliseconds: Int64
    ) {
        self.channel = channel
        self.name = name
        self.skipped = skipped
        self.isNewestFirst = isNewestFirst
        self.nowMilliseconds = nowMilliseconds
        rest = range
    }

    mutating func next(_ database: Database) throws -> AlertRow? {
        while true {
            while let row = rows.popFirst() {
                if row.expires > nowMilliseconds { return row }
            }
            guard let gap = nextGap() else { return nil }
            rows = try AlertTable.rows(database, channel, gap, isNewestFirst: isNewestFirst, limit: limit)[...]
            if rows.count < limit {
                // That was all of the gap.
                advance(past: isNewestFirst ? gap.lowerBound : gap.upperBound)
            } else if let last = rows.last {
                advance(past: last.sequence)
            }
            limit = min(limit * 2, 256)
        }
    }

    private mutating func advance(past sequence: UInt64) {
        guard let rest else { return }
        if isNewestFirst {
            self.rest = sequence > rest.lowerBound ? rest.lowerBound...(sequence - 1) : nil
        } else {
            self.rest = sequence < rest.upperBound ? (sequence + 1)...rest.upperBound : nil
        }
    }

    /// The first part of `rest` that is in none of the skipped ranges; `rest` begins with it then.
    private mutating func nextGap() -> ClosedRange<UInt64>? {
        while let rest {
            let edge = isNewestFirst ? rest.upperBound : rest.lowerBound
            // The first range that does not end before the edge.
            var low = 0
            var high = skipped.count
            while low < high {
                let middle = (low + high) / 2
                if skipped[middle].upperBound < edge { low = middle + 1 } else { high = middle }
            }
            if low < skipped.count, skipped[low].contains(edge) {
                advance(past: isNewestFirst ? skipped[low].lowerBound : skipped[low].upperBound)
            } else if isNewestFirst {
                let bound = low > 0 ? max(rest.lowerBound, skipped[low - 1].upperBound + 1) : rest.lowerBound
                return bound...edge
            } else {
                let bound = low < skipped.count ? min(rest.upperBound, skipped[low].lowerBound - 1) : rest.upperBound
                return edge...bound
            }
        }
        return nil
    }

    /// The parts of a range that are in none of the skipped ranges.
    static func gaps(_ range: ClosedRange<UInt64>, skipping skipped: [ClosedRange<UInt64>]) -> [ClosedRange<UInt64>] {
        var gaps: [ClosedRange<UInt64>] = []
        var start = range.lowerBound
        for other in skipped where other.upperBound >= start {
            if other.lowerBound > range.upperBound { break }
            if other.lowerBound > start { gaps.append(start...(other.lowerBound - 1)) }
            if other.upperBound >= range.upperBound { return gaps }
            start = other.upperBound + 1
        }
        gaps.append(start...range.upperBound)
        return gaps
    }

    /// Two ascending lists of ranges as one.
    static func union(_ one: [ClosedRange<UInt64>], _ other: [ClosedRange<UInt64>]) -> [ClosedRange<UInt64>] {
        if other.isEmpty { return one }
        if one.isEmpty { return other }
        var merged: [ClosedRange<UInt64>] = []
        for range in (one + other).sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = merged.last, range.lowerBound <= last.upperBound || range.lowerBound - last.upperBound == 1 {
                merged[merged.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                merged.append(range)
            }
        }
        return merged
    }
}

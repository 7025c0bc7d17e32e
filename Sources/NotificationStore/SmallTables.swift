import GRDB
import NotificationCore

/// Table `state`: of each channel that has one, the newest.
enum StateTable {
    static func store(_ database: Database, _ state: StateRecord) throws {
        let query = try Query(database, "INSERT OR REPLACE INTO state (channel, sequence, body) VALUES (?, ?, ?)")
        query.bind(1, Int64(state.channel))
        query.bind(2, state.sequence)
        query.bind(3, RecordCodec.encode(state))
        try query.run()
    }

    /// - Parameter onDamage: told of a row that is damaged, which is passed over if it does not throw.
    static func all(
        _ database: Database, onDamage: (StoreProblem) throws -> Void = { throw $0 }, name: (ChannelID) -> ChannelName?
    ) throws -> [StateRecord] {
        let query = try Query(database, "SELECT channel, sequence, body FROM state ORDER BY channel")
        var states: [StateRecord] = []
        while try query.step() {
            do {
                states.append(try state(query, name))
            } catch let problem as StoreProblem {
                try onDamage(problem)
            }
        }
        return states
    }

    private static func state(_ query: borrowing Query, _ name: (ChannelID) -> ChannelName?) throws -> StateRecord {
        let sequence = try query.unsigned(1)
        guard let channel = ChannelID(exactly: try query.integer(0)), let name = name(channel) else {
            throw StoreProblem.corrupt("there is a state of a channel that does not exist")
        }
        do {
            return try query.withBlob(2) { try RecordCodec.state($0, channel: channel, name: name, sequence: sequence) }
        } catch is ByteReader.Damage {
            throw StoreProblem.corrupt("the state of channel \(name) is not as it was written")
        }
    }
}

/// Table `receipt`.
enum ReceiptTable {
    struct Ranges {
        /// Ascending, not touching.
        var read: [ClosedRange<UInt64>] = []
        var dismissed: [ClosedRange<UInt64>] = []
    }

    static func store(_ database: Database, _ record: ReceiptRecord) throws {
        let checksum = RecordCodec.checksum(user: record.user, channel: record.channel)
        let query = try Query(database, "INSERT OR REPLACE INTO receipt (user, channel, read, dismissed) VALUES (?, ?, ?, ?)")
        query.bind(1, record.user.string)
        query.bind(2, Int64(record.channel))
        query.bind(3, RecordCodec.encode(record.receipt.read, checksum))
        query.bind(4, RecordCodec.encode(record.receipt.dismissed, checksum))
        try query.run()
    }

    static func find(_ database: Database, user: FieldText, channel: ChannelID) throws -> Ranges {
        let query = try Query(database, "SELECT read, dismissed FROM receipt WHERE user = ? AND channel = ?")
        query.bind(1, user.string)
        query.bind(2, Int64(channel))
        guard try query.step() else { return Ranges() }
        return try ranges(query, 0, user: user, channel: channel)
    }

    /// - Parameter onDamage: told of a row that is damaged, which is passed over if it does not throw.
    static func forEach(
        _ database: Database, onDamage: (StoreProblem) throws -> Void = { throw $0 }, _ take: (ReceiptRecord) throws -> Void
    ) throws {
        let query = try Query(database, "SELECT user, channel, read, dismissed FROM receipt ORDER BY user, channel")
        while try query.step() {
            let record: ReceiptRecord
            do {
                record = try self.record(query)
            } catch let problem as StoreProblem {
                try onDamage(problem)
                continue
            }
            try take(record)
        }
    }

    private static func record(_ query: borrowing Query) throws -> ReceiptRecord {
        guard let user = FieldText(try query.text(0)), let channel = ChannelID(exactly: try query.integer(1)) else {
            throw StoreProblem.corrupt("the row of a receipt was changed")
        }
        let ranges = try ranges(query, 2, user: user, channel: channel)
        let receipt = Receipt(read: SequenceSet(ranges.read), dismissed: SequenceSet(ranges.dismissed))
        return ReceiptRecord(user: user, channel: channel, receipt: receipt)
    }

    /// - Parameter column: of `read`; `dismissed` is the next.
    static func ranges(_ query: borrowing Query, _ column: Int32, user: FieldText, channel: ChannelID) throws -> Ranges {
        let checksum = RecordCodec.checksum(user: user, channel: channel)
        do {
            return Ranges(
                read: try query.withBlob(column) { try RecordCodec.ranges($0, checksum) },
                dismissed: try query.withBlob(column + 1) { try RecordCodec.ranges($0, checksum) })
        } catch is ByteReader.Damage {
            throw StoreProblem.corrupt("what user \(user) has read of channel number \(channel) is not as it was written")
        }
    }
}

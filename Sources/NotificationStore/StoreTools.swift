import GRDB
import Glibc
package import NotificationCore

/// What `tocsin log check` says.
package struct StoreReport: Sendable, Equatable {
    package struct Channel: Sendable, Equatable {
        package var name: ChannelName
        package var firstSequence: UInt64
        package var lastSequence: UInt64
        package var runs: Int
        package var bytes: Int
    }

    package var epoch: LogEpoch
    package var channels: [Channel] = []
    package var messages = 0
    package var runs = 0
    package var receipts = 0
    package var fileBytes = 0
    /// In words; empty: nothing is wrong.
    package var problems: [String] = []
}

/// What is done with the file of a log that no server has open. `check` and `export` only read, and get along with one that has.
package enum StoreTools {
    /// Problems that are listed: with more than that nobody mends a log by hand.
    private static let problemsMax = 100

    /// Reads everything there is.
    ///
    /// - Throws: if it is no log, or so damaged that it cannot be opened. What is wrong beyond that is in the report.
    package static func check(_ path: String) throws(StoreFault) -> StoreReport {
        try withReadOnly(path) { database in
            var report = StoreReport(epoch: try Meta(database).epoch)
            func note(_ problem: String) {
                if report.problems.count < problemsMax { report.problems.append(problem) }
            }
            func trying(_ body: () throws -> Void) {
                do { try body() } catch StoreProblem.corrupt(let what) { note(what) } catch { note("\(error)") }
            }
            report.fileBytes =
                Int(try Query.number(database, "PRAGMA page_count") ?? 0) * Int(try Query.number(database, "PRAGMA page_size") ?? 0)
            trying {
                let query = try Query(database, "PRAGMA integrity_check(\(problemsMax))")
                while try query.step() {
                    let line = try query.text(0)
                    if line != "ok" { note(line) }
                }
            }
            trying { _ = try Meta.pastEpochs(database) }
            var records: [ChannelRecord] = []
            trying { records = try StoreOpening.records(database) }
            let runs = RunTable(database: database, epoch: report.epoch, cache: nil)
            var reached: [ChannelRecord] = []
            for (index, record) in records.enumerated() {
                if Int(record.id) != index { note("channel number \(index) is missing") }
                var channel = StoreReport.Channel(
                    name: record.name, firstSequence: record.trimmedSequence + 1, lastSequence: record.trimmedSequence, runs: 0, bytes: 0)
                var last = record
                (last.lastSequence, last.lastOffset) = (record.trimmedSequence, record.trimmedOffset)
                trying { try check(record, runs, &channel, &last, note) }
                if last.lastSequence < record.lastSequence {
                    note("messages \(last.lastSequence + 1) to \(record.lastSequence) of channel \(record.name) are missing")
                }
                reached.append(last)
                report.channels.append(channel)
                report.runs += channel.runs
                report.messages += Int(channel.lastSequence + 1 - channel.firstSequence)
            }
            trying {
                let limit = RunID.make(ChannelID(records.count), 0)
                if try Query.number(database, "SELECT count(*) FROM run WHERE id < 0 OR id > ?", limit) != 0 {
                    note("there are messages of channels that do not exist")
                }
            }
            trying { _ = try StateTable.all(database) { records.indices.contains(Int($0)) ? records[Int($0)].name : nil } }
            trying { try AnswerTable.check(database) }
            trying { try EarlierAnswers.check(database) }
            trying { try ReceiptTable.forEach(database) { _ in report.receipts += 1 } }
            trying {
                try Meta.checkTails(database, reached.map { ChannelState($0, feed: Feed(kind: nil)) })
            }
            trying { try checkAlerts(database, records, runs, note) }
            trying {
                // A file of before there was an outbox has none.
                guard try Query.number(database, "SELECT count(*) FROM sqlite_master WHERE name = 'outbox'") == 1 else { return }
                let damaged = try OutboxTable.damagedCount(database)
                if damaged > 0 { note("\(damaged) webhooks that wait are not as they were written") }
            }
            return report
        }
    }

    private static func check(
        _ record: ChannelRecord, _ runs: RunTable, _ channel: inout StoreReport.Channel, _ last: inout ChannelRecord,
        _ note: (String) -> Void
    ) throws {
        var damaged: [String] = []
        try runs.forEachBody(record.id) { header, body in
            if header.firstSequence != last.lastSequence + 1 || header.firstOffset <= last.lastOffset {
                damaged.append(
                    header.firstSequence <= record.trimmedSequence
                        ? "there are messages of channel \(record.name) that retention had dropped"
                        : "messages \(last.lastSequence + 1) to \(header.firstSequence - 1) of channel \(record.name) are missing")
            }
            do throws(StoreProblem) {
                _ = try RunCodec.decode(header, body, name: record.name)
            } catch .corrupt(let what) {
                damaged.append(what)
            }
            channel.runs += 1
            channel.bytes += body.count
            (last.lastSequence, last.lastOffset) = (header.lastSequence, header.lastOffset)
        }
        channel.lastSequence = max(channel.lastSequence, last.lastSequence)
        for problem in damaged { note(problem) }
    }

    /// Each alert's row has to fit to its message.
    private static func checkAlerts(
        _ database: Database, _ records: [ChannelRecord], _ runs: RunTable, _ note: (String) -> Void
    ) throws {
        for record in records {
            let query = try Query(database, "\(AlertRow.columns) FROM alert WHERE channel = ? AND standing <> 0 ORDER BY sequence")
            query.bind(1, Int64(record.id))
            var rows: [UInt64: AlertRow] = [:]
            while try query.step() {
                let row = try AlertRow(query, record.id)
                rows[row.offset] = row
            }
            guard !rows.isEmpty else { continue }
            try runs.forEachEntries(record.id, record.name, after: 0) { _, entries in
                for entry in entries {
                    guard let row = rows.removeValue(forKey: entry.offset) else { continue }
                    if row.standing != AlertRow(entry).standing {
                        note("the row of alert \(row.sequence) of channel \(record.name) does not fit to its message")
                    }
                }
                return true
            }
            if let row = rows.values.min(by: { $0.offset < $1.offset }) {
                note("\(rows.count) alerts of channel \(record.name) have a row but no message, the first is \(row.sequence)")
            }
        }
    }

    /// Writes the file anew without holes, and gives the space back. Needs as much space again while it is at it.
    package static func compact(_ path: String) throws(StoreFault) {
        let lock = try LockFile(beside: path, mustExist: true)
        defer { withExtendedLifetime(lock) {} }
        do {
            let queue = try StoreOpening.open(path)
            try queue.writeWithoutTransaction { database in
                guard try !Schema.identify(database, path: path) else { throw StoreFault.notALog(path: path) }
                try Schema.configure(database, isReader: false, isInMemory: false)
                try Schema.setSynchronous(database, .disk)
                try database.checkpoint(.truncate)
                try database.execute(sql: "VACUUM")
                try database.checkpoint(.truncate)
            }
            try queue.close()
        } catch {
            throw StoreFault(error, path: path)
        }
    }

    static func withReadOnly<Result>(_ path: String, _ body: (Database) throws -> Result) throws(StoreFault) -> Result {
        try LockFile.checkSize(of: path)
        do {
            let queue = try openReadOnly(path)
            defer { try? queue.close() }
            return try queue.unsafeRead { database in
                guard try !Schema.identify(database, path: path) else { throw StoreFault.notALog(path: path) }
                try Schema.configure(database, isReader: true, isInMemory: false)
                try Query.run(database, "BEGIN")
                defer { try? Query.run(database, "ROLLBACK") }
                return try body(database)
            }
        } catch {
            throw StoreFault(error, path: path)
        }
    }

    /// Also where nothing can be written beside the file: SQLite makes a file for its locks there. Without it the log can be read only if
    /// all of it is in the one file.
    private static func openReadOnly(_ path: String) throws -> DatabaseQueue {
        do {
            let queue = try StoreOpening.open(path, isReadOnly: true)
            _ = try queue.unsafeRead { try Query.number($0, "SELECT count(*) FROM sqlite_master") }
            return queue
        } catch let error as DatabaseError where [.SQLITE_CANTOPEN, .SQLITE_READONLY].contains(error.resultCode) {
            var status = stat()
            guard stat(path, &status) == 0, access(path, R_OK) == 0 else { throw error }
            guard stat(path + "-wal", &status) != 0 || status.st_size == 0 else {
                throw StoreFault.io(
                    "\(path) has a write-ahead log beside it and nothing can be written there: copy the file and its -wal to where it can")
            }
            let bytes = path.utf8.map { byte in
                let isPlain =
                    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
                    || (UInt8(ascii: "-")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "_")
                return isPlain ? String(UnicodeScalar(byte)) : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
            return try StoreOpening.open("file:" + bytes.joined() + "?immutable=1", isReadOnly: true)
        }
    }
}

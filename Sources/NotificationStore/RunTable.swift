import GRDB
import NotificationCore

/// A run without its body.
struct RunRow {
    var header: RunHeader
    /// Of the body.
    var bytes: UInt64
}

/// Finding and reading runs, on either connection. Every way in is by row number, so it costs the same whatever lies before or after.
struct RunTable {
    let database: Database
    let epoch: LogEpoch
    /// Decoded runs; nil: they are not kept.
    let cache: PageCache?
    /// Where the messages are if they are not in the table: the log is in memory.
    var memory: MemoryRuns?

    private static let columns = "SELECT id, first_offset, first_sequence, count, first_time, duration, total, length(body)"

    static func header(_ query: borrowing Query) throws(StoreProblem) -> RunHeader {
        let id = try query.integer(0)
        let header = RunHeader(
            channel: RunID.channel(id), firstOffset: try query.unsigned(1), lastOffset: RunID.offset(id),
            firstSequence: try query.unsigned(2), count: Int(clamping: try query.integer(3)), firstTime: try query.integer(4),
            duration: try query.integer(5), total: try query.unsigned(6))
        guard header.isSound else { throw .corrupt("the columns of run \(id) were changed") }
        return header
    }

    // MARK: One run, without its body

    /// The run that has the message with the lowest number greater than `offset`.
    func first(_ channel: ChannelID, after offset: UInt64) throws -> RunRow? {
        if let memory { return memory.first(channel, after: offset) }
        let query = try Query(database, "\(Self.columns) FROM run WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1")
        query.bind(1, RunID.make(channel, offset))
        query.bind(2, RunID.make(channel, RunID.offsetMax))
        guard try query.step() else { return nil }
        return RunRow(header: try Self.header(query), bytes: try query.unsigned(7))
    }

    /// The last run that ends at or before `offset`.
    func last(_ channel: ChannelID, through offset: UInt64 = RunID.offsetMax) throws -> RunHeader? {
        if let memory { return memory.last(channel, through: offset) }
        let query = try Query(database, "\(Self.columns) FROM run WHERE id > ?1 AND id <= ?2 ORDER BY id DESC LIMIT 1")
        query.bind(1, RunID.make(channel, 0))
        query.bind(2, RunID.make(channel, offset))
        guard try query.step() else { return nil }
        return try Self.header(query)
    }

    /// The run that has `sequence`, which has to be stored.
    ///
    /// There is no index of sequences, it would cost each commit a page. But a channel's sequences and log numbers go up together, so
    /// they are searched like a telephone book: by proportion, and by halves where that does not help.
    func containing(_ channel: ChannelID, sequence: UInt64, _ state: ChannelState) throws -> RunHeader {
        precondition(sequence > state.trimmedSequence && sequence <= state.lastSequence, "sequence \(sequence) is not stored")
        if let memory {
            guard let header = memory.containing(channel, sequence: sequence) else { throw Self.missing(sequence, state.name) }
            return header
        }
        var low = (sequence: state.trimmedSequence, offset: state.trimmedOffset)
        var high = (sequence: state.lastSequence + 1, offset: state.lastOffset + 1)
        // Between which log numbers it is, since each message between has one, too.
        var from = low.offset + (sequence - low.sequence)
        var through = state.lastOffset - min(state.lastOffset, state.lastSequence - sequence)
        var byProportion = true
        while from <= through {
            var place = from + (through - from) / 2
            if byProportion, high.sequence > low.sequence, high.offset > low.offset {
                let share = Double(sequence - low.sequence) / Double(high.sequence - low.sequence)
                place = min(through, max(from, low.offset + UInt64(Double(high.offset - low.offset) * share)))
            }
            byProportion.toggle()
            guard let run = try firstSound(channel, after: place - 1) else { break }
            if run.firstSequence > sequence {
                // What is sought ends before `place`: this run is the first that does not.
                high = (run.firstSequence, run.firstOffset)
                through = min(through, place - 1, run.firstOffset - min(run.firstOffset, run.firstSequence - sequence))
            } else if run.lastSequence < sequence {
                low = (run.lastSequence, run.lastOffset)
                from = max(from, run.lastOffset + (sequence - run.lastSequence))
            } else {
                return run
            }
        }
        throw Self.missing(sequence, state.name)
    }

    private static func missing(_ sequence: UInt64, _ name: ChannelName) -> StoreProblem {
        .corrupt("message \(sequence) of channel \(name) is missing")
    }

    /// The columns of a channel's runs from the oldest on, and the bytes of their bodies, until `take` says that it is enough.
    func forEachHeader(_ channel: ChannelID, after offset: UInt64, take: (RunRow) throws -> Bool) throws {
        if let memory {
            var after = offset
            while let row = memory.first(channel, after: after), try take(row) { after = row.header.lastOffset }
            return
        }
        let query = try Query(database, "\(Self.columns) FROM run WHERE id > ?1 AND id <= ?2 ORDER BY id")
        query.bind(1, RunID.make(channel, offset))
        query.bind(2, RunID.make(channel, RunID.offsetMax))
        while try query.step() {
            guard try take(RunRow(header: Self.header(query), bytes: query.unsigned(7))) else { return }
        }
    }

    // MARK: Runs with their messages

    /// Decoded messages of a run whose row is at hand.
    private func notifications(_ header: RunHeader, _ query: borrowing Query, body: Int32, _ name: ChannelName) throws -> DecodedRun {
        if let run = cache?.find(header.id) {
            guard run.header == header else { throw StoreProblem.corrupt("the columns of run \(header.id) were changed") }
            return run
        }
        var notifications: [Notification] = []
        notifications.reserveCapacity(header.count)
        let epoch = epoch
        try query.withBlob(body) { bytes in
            try RunCodec.forEach(header, bytes, name: name) { notifications.append(Notification($0, epoch: epoch)) }
        }
        let run = DecodedRun(header: header, notifications: notifications)
        cache?.insert(run)
        return run
    }

    private static let withBody =
        "SELECT id, first_offset, first_sequence, count, first_time, duration, total, body FROM run WHERE id > ?1 AND id <= ?2 ORDER BY id"

    /// Reads the runs of a channel that have messages after `offset`, from the oldest on, until `take` says that it is enough.
    ///
    /// - Returns: whether there was an end, and not `take`'s word.
    @discardableResult
    func forEach(_ channel: ChannelID, _ name: ChannelName, after offset: UInt64, take: (DecodedRun) throws -> Bool) throws -> Bool {
        if let memory {
            var after = offset
            while let run = memory.next(channel, after: after) {
                guard try take(run) else { return false }
                after = run.header.lastOffset
            }
            return true
        }
        let query = try Query(database, Self.withBody)
        query.bind(1, RunID.make(channel, offset))
        query.bind(2, RunID.make(channel, RunID.offsetMax))
        var last: UInt64?
        var place = offset
        while try query.step() {
            let header = try Self.header(query)
            guard header.lastOffset > place else { throw StoreProblem.corrupt("the runs of channel \(name) are out of order") }
            place = header.lastOffset
            if let last, header.firstSequence != last + 1 {
                throw StoreProblem.corrupt("messages \(last + 1) to \(header.firstSequence - 1) of channel \(name) are missing")
            }
            last = header.lastSequence
            guard try take(notifications(header, query, body: 7, name)) else { return false }
        }
        return true
    }

    /// The same as entries, which are not kept.
    func forEachEntries(
        _ channel: ChannelID, _ name: ChannelName, after offset: UInt64, take: (RunHeader, [LogEntry]) throws -> Bool
    ) throws {
        if memory != nil {
            try forEach(channel, name, after: offset) { try take($0.header, $0.notifications.map(LogEntry.init)) }
            return
        }
        let query = try Query(database, Self.withBody)
        query.bind(1, RunID.make(channel, offset))
        query.bind(2, RunID.make(channel, RunID.offsetMax))
        var last: UInt64?
        while try query.step() {
            let header = try Self.header(query)
            if let last, header.firstSequence != last + 1 {
                throw StoreProblem.corrupt("messages \(last + 1) to \(header.firstSequence - 1) of channel \(name) are missing")
            }
            last = header.lastSequence
            let entries = try query.withBlob(7) { try RunCodec.decode(header, $0, name: name) }
            guard try take(header, entries) else { return }
        }
    }

    /// A channel's runs as they are stored, whatever is in them: `take` gets the body in place.
    func forEachBody(_ channel: ChannelID, take: (RunHeader, UnsafeRawBufferPointer) throws -> Void) throws {
        let query = try Query(database, Self.withBody)
        query.bind(1, RunID.make(channel, 0))
        query.bind(2, RunID.make(channel, RunID.offsetMax))
        while try query.step() {
            let header = try Self.header(query)
            try query.withBlob(7) { try take(header, $0) }
        }
    }

    /// One run, known by its columns.
    func decoded(_ header: RunHeader, _ name: ChannelName) throws -> DecodedRun {
        if let memory {
            guard let found = memory.notifications(header) else { throw Self.missing(header.firstSequence, name) }
            return DecodedRun(header: header, notifications: found)
        }
        if let run = cache?.find(header.id), run.header == header { return run }
        let query = try Query(database, "SELECT body FROM run WHERE id = ?")
        query.bind(1, header.id)
        guard try query.step() else { throw StoreProblem.corrupt("run \(header.id) of channel \(name) is missing") }
        return try notifications(header, query, body: 0, name)
    }

    /// The message with this number.
    func notification(_ channel: ChannelID, _ name: ChannelName, offset: UInt64) throws -> Notification {
        if let header = try first(channel, after: offset - 1)?.header, header.firstOffset <= offset {
            let run = try decoded(header, name)
            let index = run.index(after: offset - 1)
            if index < run.notifications.count, run.notifications[index].offset == offset { return run.notifications[index] }
        }
        throw StoreProblem.corrupt("message number \(offset), which is in channel \(name), is missing")
    }
}

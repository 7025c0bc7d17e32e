import GRDB
package import NotificationCore
import Synchronization

/// The log on disk: one SQLite file with a write-ahead log.
///
/// Two connections. On the writer's, `commit` appends what the log's writer has gathered, and `maintain` drops what is older than the
/// feeds keep; both are made from one thread, one after the other. On the reader's, subscribers that are behind are answered, from
/// another thread and without waiting for the writer. Between the two stands `ChannelTable`, in memory: what there is of each channel.
///
/// Everything is synchronous, and neither clock nor randomness is in it. After a fault in `commit`, `maintain` or `probe` the object
/// is to be closed and opened anew: what `commit` returned for is there then.
///
/// What is stored where, and why: `RunCodec.swift` (messages), `Schema.swift` (tables).
package final class NotificationStore: Sendable {
    /// Of the tables: who reads a file that another process writes has to have the same.
    package static var schemaVersion: Int { Schema.versions.count }
    package let options: StoreOptions
    package let epoch: LogEpoch
    let channels: ChannelTable
    let cache: PageCache
    /// The messages, if the log is in memory.
    let memory: MemoryRuns?
    let writer: DatabaseQueue
    let reader: DatabaseQueue
    let maintenance: Mutex<Maintenance>
    /// As of the last commit that changed them; changed by the writer's thread alone.
    let outbox: Mutex<OutboxFigures>
    private let figures = Mutex(StoreStatistics())
    private let lock: Mutex<LockFile?>
    /// nil: it has none, or another process has them.
    let files: OpenFiles?
    let reserve: Reserve?
    /// Whether the disk was so full that the log could be opened only with what was kept in reserve.
    let wasFull: Bool
    /// Whether another process writes: what it has dropped is read from the file then.
    let isFollower: Bool

    /// - Parameters:
    ///   - newEpoch: begins now, unless the log is in it already, or the options say in which one it goes on.
    ///   - nowMilliseconds: since 1970.
    package init(_ options: StoreOptions, newEpoch: LogEpoch, nowMilliseconds: Int64) throws(StoreFault) {
        // Held as long as this is open, and not longer.
        let held = options.lock
        var options = options
        options.lock = nil
        self.options = options
        isFollower = false
        memory = options.isInMemory ? MemoryRuns() : nil
        if options.isReal {
            if options.ongoingEpoch != nil, !LockFile.isThere(options.path) { throw .replaced(path: options.path) }
            try LockFile.makeDirectory(of: options.path)
            try LockFile.checkSize(of: options.path)
            if let held { lock = Mutex(held) } else { lock = Mutex(try LockFile(beside: options.path)) }
            LockFile.makePrivate(options.path)
        } else {
            lock = Mutex(nil)
        }
        let reserve = options.isReal && !options.isPassing ? Reserve(beside: options.path) : nil
        self.reserve = reserve
        let table = ChannelTable()
        channels = table
        cache = PageCache(bytesMax: options.cacheBytesMax)
        do {
            var wasFull = false
            var opened: StoreOpening
            do {
                opened = try StoreOpening(options, newEpoch: newEpoch, nowMilliseconds: nowMilliseconds, channels: table)
            } catch {
                guard let reserve, Reserve.canHelp(StoreFault(error, path: options.path)), reserve.giveUp() else { throw error }
                wasFull = true
                opened = try StoreOpening(options, newEpoch: newEpoch, nowMilliseconds: nowMilliseconds, isFull: true, channels: table)
            }
            self.wasFull = wasFull
            writer = opened.writer
            reader = opened.reader
            epoch = opened.epoch
            files = options.isReal && !options.isPassing ? try OpenFiles(options.path, lock.withLock { $0 }) : nil
            outbox = Mutex(opened.outbox)
            maintenance = Mutex(Maintenance(tails: table.withAll { Meta.tails($0) }))
        } catch {
            throw StoreFault(error, path: options.path)
        }
        try refreshFigures(walFrames: nil)
    }

    /// The file that another process writes, for reading only. Every read sees what that process has dropped as it is in the file; of
    /// what it has appended, only what this object was told of.
    ///
    /// - Parameter channels: all of them by number, and where each ends as far as this process knows.
    package init(
        following options: StoreOptions, epoch: LogEpoch, channels known: [(name: ChannelName, lastSequence: UInt64, lastOffset: UInt64)]
    ) throws(StoreFault) {
        precondition(!options.isInMemory, "another process has no part in that")
        var options = options
        options.lock = nil
        // There is one process that tells others of what happens.
        options.outbox = nil
        self.options = options
        outbox = Mutex(OutboxFigures())
        self.epoch = epoch
        isFollower = true
        memory = nil
        files = nil
        reserve = nil
        wasFull = false
        lock = Mutex(nil)
        cache = PageCache(bytesMax: options.cacheBytesMax)
        channels = ChannelTable()
        maintenance = Mutex(Maintenance(tails: 0))
        do {
            reader = try StoreOpening.open(options.path, isReadOnly: true)
            try reader.unsafeRead { try Schema.configure($0, isReader: true, isInMemory: false) }
        } catch {
            throw StoreFault(error, path: options.path)
        }
        writer = reader
        channels.withAll { states in
            for (name, sequence, offset) in known {
                states.append(Self.state(name, ChannelID(states.count), sequence, offset, options.limits.feeds))
            }
        }
    }

    private static func state(
        _ name: ChannelName, _ id: ChannelID, _ sequence: UInt64, _ offset: UInt64, _ feeds: FeedTable
    ) -> ChannelState {
        ChannelState(ChannelRecord(id: id, name: name, lastSequence: sequence, lastOffset: offset), feed: feeds[name])
    }

    /// The process that writes has committed these; before anybody here is told of them.
    package func follow(_ notifications: [Notification]) {
        precondition(isFollower)
        channels.withAll { states in
            for notification in notifications {
                let place = Int(notification.channelID)
                if place == states.count {
                    states.append(Self.state(notification.channel, notification.channelID, 0, 0, options.limits.feeds))
                }
                states[place].lastSequence = notification.sequence
                states[place].lastOffset = notification.offset
            }
        }
    }

    /// What there is, to begin with.
    package func contents() throws(StoreFault) -> LogContents {
        try onWriter { database in
            let records = channels.withAll { states in states.enumerated().map { $1.record(id: ChannelID($0)) } }
            return LogContents(
                epoch: epoch,
                pastEpochs: Dictionary(try Meta.pastEpochs(database).map { ($0.epoch, $0.lastOffset) }, uniquingKeysWith: { max($0, $1) }),
                channels: records,
                states: try StateTable.all(database) { id in channels[id]?.name })
        }
    }

    /// Entries of a channel in order, those of which readers get nothing any more among them: to bring its state up to date.
    package func entries(of channel: ChannelID, afterSequence: UInt64, limit: Int) throws(StoreFault) -> [LogEntry] {
        guard let state = channels[channel], limit > 0 else { return [] }
        let from = max(afterSequence, state.trimmedSequence) + 1
        guard from <= state.lastSequence else { return [] }
        return try onWriter { database in
            let runs = runs(database)
            let start = try runs.containing(channel, sequence: from, state).firstOffset - 1
            var entries: [LogEntry] = []
            try runs.forEachEntries(channel, state.name, after: start) { _, some in
                entries.append(contentsOf: some.lazy.filter { $0.sequence >= from }.prefix(limit - entries.count))
                return entries.count < limit
            }
            return entries
        }
    }

    /// - Parameter isOrderly: whether the write-ahead log is moved into the file, which takes its time. Otherwise it is left as it is.
    package func close(isOrderly: Bool) {
        // The reader first: the last connection tidies the files up.
        if reader !== writer { try? reader.close() }
        if isOrderly, !options.isInMemory, !isFollower { _ = try? writer.writeWithoutTransaction { try $0.checkpoint(.truncate) } }
        try? writer.close()
        lock.withLock { $0 = nil }
    }

    // MARK: Figures

    package var statistics: StoreStatistics {
        var statistics = figures.withLock { $0 }
        (statistics.pagesCached, statistics.cachedBytes) = cache.figures
        return statistics
    }

    func countCommit(entries: Int) {
        figures.withLock {
            $0.commits += 1
            $0.entries += entries
        }
    }

    /// - Parameter forgotten: of these, how many were dropped before their time just now.
    func noteIdempotency(keys: Int, bytes: Int, forgotten: Int) {
        figures.withLock {
            ($0.idempotencyKeys, $0.idempotencyBytes) = (keys, bytes)
            $0.idempotencyForgotten += forgotten
        }
    }

    /// - Parameter walFrames: pages in the write-ahead log; nil: not known.
    func refreshFigures(walFrames: Int?) throws(StoreFault) {
        let pages = try onWriter { try Query.number($0, "PRAGMA page_count") ?? 0 }
        figures.withLock {
            $0.fileBytes = Int(pages) * Schema.pageBytes + (memory?.bytes ?? 0)
            // A frame has 24 bytes before the page.
            if let walFrames { $0.walBytes = max(0, walFrames) * (Schema.pageBytes + 24) }
        }
    }

    // MARK: Connections

    func runs(_ database: Database, _ cache: PageCache? = nil) -> RunTable {
        RunTable(database: database, epoch: epoch, cache: cache, memory: memory)
    }

    func onWriter<Result>(_ body: (Database) throws -> Result) throws(StoreFault) -> Result {
        do {
            return try writer.writeWithoutTransaction(body)
        } catch {
            throw StoreFault(error, path: options.path)
        }
    }

    /// In a transaction, so that all that `body` reads is of one moment.
    func onReader<Result>(_ body: (Database) throws -> Result) throws(StoreFault) -> Result {
        do {
            return try reader.unsafeRead { database in
                try Query.run(database, "BEGIN")
                do {
                    // The moment is that of the first reading.
                    _ = try Query.number(database, "SELECT id FROM meta")
                    let result = try body(database)
                    try Query.run(database, "COMMIT")
                    return result
                } catch {
                    try? Query.run(database, "ROLLBACK")
                    throw error
                }
            }
        } catch {
            throw StoreFault(error, path: options.path)
        }
    }
}

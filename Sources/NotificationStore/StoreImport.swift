import GRDB
import Glibc
import JSONCodec
package import NotificationCore

/// Why a line cannot be imported.
package struct ImportFault: Error, CustomStringConvertible {
    /// 1 for the first.
    package var line: Int
    package var reason: String

    package var description: String { "line \(line): \(reason)" }
}

extension StoreTools {
    /// Makes a log of what `export` wrote, with the same sequences, log numbers, times and epochs: positions stay valid.
    ///
    /// - Parameters:
    ///   - path: of a file that is not there yet.
    ///   - limits: the kinds of the feeds decide what is an alert.
    ///   - isPartial: whether the export may have been cut.
    ///   - lines: the next line without its end; nil after the last.
    /// - Throws: `ImportFault`, `StoreFault`, or what `lines` throws; there is no file at `path` then.
    package static func `import`(
        _ path: String, limits: LogLimits, nowMilliseconds: Int64, isPartial: Bool = false, lines: () throws -> [UInt8]?
    ) throws {
        guard access(path, F_OK) != 0 else { throw StoreFault.io("\(path) is there already: an import makes a new file") }
        var reader = ImportReader()
        do {
            guard let first = try lines() else { throw ImportFault(line: 1, reason: "there is nothing to import") }
            let epoch = try reader.header(first)
            // All or nothing here, so it need not wait for the disk before the end.
            let options = StoreOptions(path: path, durability: .memory, limits: limits)
            let store = try NotificationStore(options, newEpoch: epoch, nowMilliseconds: nowMilliseconds)
            do {
                try store.storePastEpochs(reader.pastEpochs)
                while let line = try lines() {
                    if let hole = try reader.line(line) {
                        try store.commit(reader.takeCommit())
                        try store.commit(hole)
                    }
                    if reader.isFull { try store.commit(reader.takeCommit()) }
                }
                if !isPartial { try reader.checkEnd() }
                try store.commit(reader.takeCommit())
                // `close` could not say whether the disk has it all.
                try store.onWriter { _ = try $0.checkpoint(.truncate) }
            } catch {
                store.close(isOrderly: false)
                throw error
            }
            store.close(isOrderly: true)
            unlink(path + ".lock")
        } catch {
            for ending in ["", "-wal", "-shm", ".lock", ".reserve"] { unlink(path + ending) }
            throw error
        }
    }
}

extension NotificationStore {
    fileprivate func storePastEpochs(_ epochs: [(epoch: LogEpoch, lastOffset: UInt64)]) throws(StoreFault) {
        try onWriter { database in
            try database.inTransaction(.immediate) {
                for (epoch, lastOffset) in epochs { try Meta.storePastEpoch(database, epoch, lastOffset: lastOffset) }
                return .commit
            }
        }
    }
}

/// Messages that an export could not read.
private struct ImportedHole {
    var channel: ChannelRecord
    var sequences: ClosedRange<UInt64>
    /// Of the last of them, at most.
    var offset: UInt64

    /// They take part in this for their numbers alone. Acknowledgements, since those are counted nowhere.
    var entries: [LogEntry] {
        sequences.map { sequence in
            var publication = Publication(channel: channel.name, data: Array("0".utf8))
            publication.kind = .acknowledgement
            return LogEntry(
                channel: channel.id, offset: offset - (sequences.upperBound - sequence), sequence: sequence, timeMilliseconds: 0,
                publication: publication)
        }
    }
}

extension NotificationStore {
    /// Stores messages that are damaged: who reads is told of them as it would be where they were damaged.
    fileprivate func commit(_ hole: ImportedHole) throws(StoreFault) {
        var commit = LogCommit()
        commit.entries = hole.entries
        try self.commit(commit)
        try onWriter { database in
            try database.inTransaction(.immediate) {
                try Query.run(
                    database, "UPDATE run SET body = zeroblob(0) WHERE id > ? AND id <= ?",
                    RunID.make(hole.channel.id, hole.offset - UInt64(commit.entries.count)), RunID.make(hole.channel.id, hole.offset))
                return .commit
            }
        }
    }
}

/// Checks the lines, so that nothing comes to the store that it takes for granted, and gathers commits.
private struct ImportReader {
    private(set) var pastEpochs: [(epoch: LogEpoch, lastOffset: UInt64)] = []
    private var commit = LogCommit()
    private var bytes = 0
    private var number = 0
    private var places: [ChannelName: Int] = [:]
    private var channels: [ChannelRecord] = []
    private var lastOffset: UInt64 = 0
    /// Lines that are not empty.
    private var count: UInt64 = 0
    private var isEnded = false

    /// Of what is imported: as much again is left for what comes.
    private static let numberMax = RunID.offsetMax / 2
    /// Up to the end of the year 9999, which is what a message's time can say.
    private static let times: ClosedRange<Int64> = 0...253_402_300_799_999

    /// Some megabytes are a good commit.
    var isFull: Bool { commit.entries.count >= 5000 || bytes >= 4 << 20 }

    mutating func takeCommit() -> LogCommit {
        defer {
            commit = LogCommit()
            bytes = 0
        }
        return commit
    }

    private func fault(_ reason: String) -> ImportFault { ImportFault(line: number, reason: reason) }

    // MARK: Lines

    private mutating func members(_ line: [UInt8]) throws(ImportFault) -> [String: JSONSlice] {
        number += 1
        var text: [UInt8] = []
        do {
            var limits = JSONLimits()
            // Payloads have been checked; the line puts a few levels around them.
            limits.depthMax += 4
            try line.withUnsafeBytes { try JSONText.minify($0, limits: limits, into: &text) }
        } catch {
            throw fault("it is no JSON: \(error)")
        }
        return try members(JSONSlice(text[...]))
    }

    private func members(_ slice: JSONSlice) throws(ImportFault) -> [String: JSONSlice] {
        guard slice.kind == .object else { throw fault("it is no JSON object") }
        return Dictionary(slice.memberList.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 })
    }

    mutating func header(_ line: [UInt8]) throws(ImportFault) -> LogEpoch {
        let members = try members(line)
        count = 1
        guard let version = members["tocsin_log"]?.unsignedInteger() else { throw fault("it does not begin an export of a log") }
        guard version == StoreTools.exportVersion else {
            throw fault("the export has form \(version), this tocsin knows form \(StoreTools.exportVersion)")
        }
        for past in members["past_epochs"]?.elementList ?? [] {
            let past = try self.members(past)
            let offset = try unsigned(past, "last_offset")
            guard offset <= Self.numberMax else { throw fault("past_epochs: last_offset is too large") }
            pastEpochs.append((try epoch(past), offset))
        }
        return try epoch(members)
    }

    /// - Returns: what is to be stored behind all that was read before.
    mutating func line(_ line: [UInt8]) throws(ImportFault) -> ImportedHole? {
        if line.allSatisfy({ $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\r") }) {
            number += 1
            return nil
        }
        let members = try members(line)
        guard !isEnded else { throw fault("it comes after the end of the export") }
        bytes += line.count
        if members["end"] != nil {
            guard try unsigned(members, "lines") == count else {
                throw fault("\(count) lines came before the end of the export, and not as many as it says: it is not whole")
            }
            isEnded = true
            return nil
        }
        count += 1
        if members["damaged"] != nil { return try hole(members) }
        if members["id"] != nil {
            try channel(members)
        } else if members["offset"] != nil {
            let entry = try entry(members)
            let place = Int(entry.channel)
            guard entry.offset > lastOffset else { throw fault("offset \(entry.offset) is not greater than \(lastOffset)") }
            guard entry.sequence == channels[place].lastSequence + 1 else {
                throw fault("sequence \(entry.sequence) does not follow \(channels[place].lastSequence)")
            }
            guard entry.offset > channels[place].lastOffset else { throw fault("the message is said to be gone already") }
            lastOffset = entry.offset
            (channels[place].lastSequence, channels[place].lastOffset) = (entry.sequence, entry.offset)
            commit.entries.append(entry)
        } else if members["state"] != nil {
            try state(members)
        } else if members["user"] != nil {
            try receipt(members)
        } else {
            throw fault("it is neither a channel, a message, a state nor what a user has read")
        }
        return nil
    }

    mutating func checkEnd() throws(ImportFault) {
        guard !isEnded else { return }
        number += 1
        throw fault(
            "the export has no end: it was cut, or made by an earlier version. Export again, or take what is there with --partial")
    }

    /// More messages than any channel keeps; each takes a row of memory here.
    private static let holeMax: UInt64 = 10_000_000

    private mutating func hole(_ members: [String: JSONSlice]) throws(ImportFault) -> ImportedHole {
        let place = try place(members, "damaged")
        let (from, to) = (try unsigned(members, "from"), try unsigned(members, "to"))
        let offset = try unsigned(members, "offset")
        let last = channels[place]
        guard from == last.lastSequence + 1, to >= from, to - from < Self.holeMax else {
            throw fault("from, to: they do not follow \(last.lastSequence)")
        }
        guard offset <= Self.numberMax, offset > last.lastOffset, offset - last.lastOffset > to - from else {
            throw fault("offset: there is no room for these messages")
        }
        (channels[place].lastSequence, channels[place].lastOffset) = (to, offset)
        return ImportedHole(channel: last, sequences: from...to, offset: offset)
    }

    private mutating func channel(_ members: [String: JSONSlice]) throws(ImportFault) {
        guard let name = ChannelName(try text(members, "name")), places[name] == nil else {
            throw fault("name: no channel name, or one that was there before")
        }
        guard try unsigned(members, "id") == UInt64(channels.count), channels.count <= Int(RunID.channelMax) else {
            throw fault("id: channels are numbered from 0, without a hole")
        }
        let (sequence, offset) = (try unsigned(members, "trimmed_sequence"), try unsigned(members, "trimmed_offset"))
        guard offset <= Self.numberMax else { throw fault("trimmed_offset: too large") }
        guard sequence <= offset else { throw fault("trimmed_sequence: larger than trimmed_offset, and each message has a number") }
        places[name] = channels.count
        let record = ChannelRecord(
            id: ChannelID(channels.count), name: name, lastSequence: sequence, lastOffset: offset, trimmedSequence: sequence,
            trimmedOffset: offset)
        channels.append(record)
        commit.channels.append(record)
    }

    private func entry(_ members: [String: JSONSlice]) throws(ImportFault) -> LogEntry {
        let place = try place(members, "channel")
        var publication = Publication(
            channel: channels[place].name, data: try json(members, "data"), isBase64: members["encoding"] != nil,
            event: try field(members, "event"), key: try field(members, "key"), replaces: try field(members, "replaces"))
        if members["priority"] != nil {
            guard let priority = Priority(rawValue: try text(members, "priority")) else { throw fault("priority: unknown") }
            publication.priority = priority
        }
        if members["change"] != nil {
            guard let change = Change(rawValue: try text(members, "change")) else { throw fault("change: unknown") }
            publication.change = change
        }
        if members["ttl"] != nil {
            guard let ttl = UInt32(exactly: try unsigned(members, "ttl")) else { throw fault("ttl: too large") }
            publication.ttlSeconds = ttl
        }
        if let since = members["stale_since"] {
            guard let since = since.integer(), Self.times.contains(since) else { throw fault("stale_since: no time") }
            publication.staleSinceMilliseconds = since
        }
        if members["kind"] != nil { publication.kind = .acknowledgement }
        if members["traceparent"] != nil {
            guard let trace = TraceParent(try text(members, "traceparent")) else { throw fault("traceparent: not well-formed") }
            publication.trace = trace
        }
        guard let time = members["time"]?.integer(), Self.times.contains(time) else { throw fault("time: missing, or no time") }
        guard let stateBytes = UInt32(exactly: members["state_bytes"] == nil ? 0 : try unsigned(members, "state_bytes")) else {
            throw fault("state_bytes: too large")
        }
        let (offset, sequence) = (try unsigned(members, "offset"), try unsigned(members, "sequence"))
        guard offset <= Self.numberMax, sequence > 0, sequence <= offset else {
            throw fault("offset, sequence: from 1 to 2^39, and sequence is the lower one")
        }
        return LogEntry(
            channel: ChannelID(place), offset: offset, sequence: sequence, timeMilliseconds: time, stateBytes: stateBytes,
            publication: publication)
    }

    private mutating func state(_ members: [String: JSONSlice]) throws(ImportFault) {
        let place = try place(members, "state")
        let sequence = try unsigned(members, "sequence")
        guard sequence <= channels[place].lastSequence else { throw fault("sequence: that message is not there yet") }
        let body: StateRecord.Body
        if let latest = members["latest"] {
            guard latest.kind == .array else { throw fault("latest: no array") }
            var entries: [LogEntry] = []
            for item in latest.elementList {
                let entry = try entry(self.members(item))
                if let last = entries.last, entry.offset <= last.offset || entry.sequence <= last.sequence {
                    throw fault("latest: not in order")
                }
                guard Int(entry.channel) == place else { throw fault("latest: of another channel") }
                entries.append(entry)
            }
            body = .latest(entries)
        } else {
            body = .document(try json(members, "document"))
        }
        let lastChange = members["last_change"] == nil ? 0 : try unsigned(members, "last_change")
        let time = members["time"] == nil ? 0 : try unsigned(members, "time")
        commit.states.append(
            StateRecord(
                channel: ChannelID(place), sequence: sequence, body: body, lastChangeOffset: lastChange,
                timeMilliseconds: Int64(clamping: time)
            )
        )
    }

    private mutating func receipt(_ members: [String: JSONSlice]) throws(ImportFault) {
        let place = try place(members, "channel")
        guard let user = try field(members, "user") else { throw fault("user: missing") }
        let receipt = Receipt(
            read: try ranges(members, "read", through: channels[place].lastSequence),
            dismissed: try ranges(members, "dismissed", through: channels[place].lastSequence))
        commit.receipts.append(ReceiptRecord(user: user, channel: ChannelID(place), receipt: receipt))
    }

    // MARK: Members

    private func epoch(_ members: [String: JSONSlice]) throws(ImportFault) -> LogEpoch {
        let text = try text(members, "epoch")
        guard text.utf8.count == 12, let bits = UInt64(text, radix: 16), LogEpoch(random: bits).description == text else {
            throw fault("epoch: not twelve hexadecimal digits")
        }
        return LogEpoch(random: bits)
    }

    private func place(_ members: [String: JSONSlice], _ name: String) throws(ImportFault) -> Int {
        guard let channel = ChannelName(try text(members, name)), let place = places[channel] else {
            throw fault("\(name): no channel that was there before")
        }
        return place
    }

    private func json(_ members: [String: JSONSlice], _ name: String) throws(ImportFault) -> [UInt8] {
        guard let value = members[name] else { throw fault("\(name): missing") }
        return [UInt8](value.bytes)
    }

    private func text(_ members: [String: JSONSlice], _ name: String) throws(ImportFault) -> String {
        guard let text = members[name]?.string() else { throw fault("\(name): missing, or no text") }
        return text
    }

    /// nil: there is none.
    private func field(_ members: [String: JSONSlice], _ name: String) throws(ImportFault) -> FieldText? {
        guard members[name] != nil else { return nil }
        guard let field = FieldText(try text(members, name)) else { throw fault("\(name): empty, too long, or with control characters") }
        return field
    }

    private func unsigned(_ members: [String: JSONSlice], _ name: String) throws(ImportFault) -> UInt64 {
        guard let number = members[name]?.unsignedInteger() else { throw fault("\(name): missing, or no number") }
        return number
    }

    private func ranges(
        _ members: [String: JSONSlice], _ name: String, through last: UInt64
    ) throws(ImportFault) -> SequenceSet {
        guard let list = members[name], list.kind == .array else { throw fault("\(name): missing, or no array") }
        var ranges: [ClosedRange<UInt64>] = []
        for item in list.elementList {
            guard item.kind == .array else { throw fault("\(name): no ranges") }
            let ends = item.elementList.compactMap { $0.unsignedInteger() }
            guard ends.count == 2, ends[0] <= ends[1], ends[0] > (ranges.last?.upperBound ?? 0) else {
                throw fault("\(name): no ranges, or not in order")
            }
            guard ends[1] <= last else { throw fault("\(name): up to \(ends[1]), and the channel's last message is \(last)") }
            ranges.append(ends[0]...ends[1])
        }
        return SequenceSet(ranges)
    }
}

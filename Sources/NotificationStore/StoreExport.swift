import GRDB
import JSONCodec
import NotificationCore

// A log as text, one JSON object a line: to be looked at, moved, and kept. In this order:
//
//     {"tocsin_log":1,"epoch":"5f3a9c01b7de","past_epochs":[{"epoch":"…","last_offset":120}]}
//     {"id":0,"name":"scores.wc2022.final","trimmed_sequence":0,"trimmed_offset":0}             each channel
//     {"channel":"scores.wc2022.final","sequence":1,"offset":1,"time":1700000000000,…,"data":…}  each message, in the order of the log
//     {"state":"scores.wc2022.final","sequence":41,"document":…}        a state of which messages are gone; or "latest":[messages]
//     {"user":"ann","channel":"alerts.x","read":[[1,7],[9,9]],"dismissed":[]}
//     {"end":true,"lines":1042}                                          so many lines came before; without it the file was cut
//
// Where damage is skipped, in place of the messages, and behind the last one of their channel that was readable before them:
//
//     {"damaged":"scores.wc2022.final","from":3,"to":9,"offset":40}      none of them has a greater log number
//
// Members of a message that are absent when they say nothing: event, key, priority, ttl (seconds), replaces, change, stale_since
// (milliseconds), encoding, kind (`ack`), traceparent, state_bytes. Times are milliseconds since 1970. `data` is what was published,
// byte for byte.
// Answers to idempotency keys are not in it: a day later nobody asks for them.

extension StoreTools {
    static let exportVersion: UInt64 = 1

    /// Hands the log out line by line, without the line ends. Sequences, log numbers, times and the epoch are in it, so that
    /// positions stay valid where it is imported.
    ///
    /// - Parameter skipped: told in words what is damaged, and left out; nil: damage ends the export.
    /// - Throws: a `StoreFault`, or what `line` throws.
    package static func export(
        _ path: String, skipped: ((String) -> Void)? = nil, to line: (_ line: [UInt8]) throws -> Void
    ) throws {
        var count: UInt64 = 0
        var failed: (any Error)?
        // What `line` throws is its caller's own, and no fault of the store.
        func hand(_ bytes: [UInt8]) throws {
            do { try line(bytes) } catch {
                failed = error
                throw error
            }
            count += 1
        }
        do throws(StoreFault) {
            try withReadOnly(path) { database in
                try export(database, DamageNotes(tell: skipped), to: hand)
                try hand(ExportLine.end(count))
            }
        } catch {
            throw failed ?? error
        }
    }

    /// What becomes of damage.
    private struct DamageNotes {
        let tell: ((String) -> Void)?

        func note(_ words: String) throws {
            guard let tell else { throw StoreProblem.corrupt(words) }
            tell(words)
        }

        /// Damage that `body` meets is told of, if it is to be skipped.
        func skipping(_ body: () throws -> Void) throws {
            do { try body() } catch let error where StoreProblem.isDamage(error) {
                guard let tell else { throw error }
                if case StoreProblem.corrupt(let words) = error { tell(words) } else { tell("\(error)") }
            }
        }
    }

    private static func export(_ database: Database, _ notes: DamageNotes, to line: ([UInt8]) throws -> Void) throws {
        let epoch = try Meta(database).epoch
        var header = ExportLine()
        header.member("tocsin_log", exportVersion)
        header.member("epoch", epoch.description)
        var pastEpochs: [(epoch: LogEpoch, lastOffset: UInt64)] = []
        try notes.skipping { pastEpochs = try Meta.pastEpochs(database) }
        header.member("past_epochs", pastEpochs) { past, out in
            var item = ExportLine()
            item.member("epoch", past.epoch.description)
            item.member("last_offset", past.lastOffset)
            out.append(contentsOf: item.finish())
        }
        try line(header.finish())

        var channels: [ChannelState] = []
        do {
            let table = ChannelTable()
            try StoreOpening.loadChannels(database, FeedTable(named: [:]), into: table)
            channels = table.withAll { $0 }
            try Meta.checkTails(database, channels)
        } catch let error where StoreProblem.isDamage(error) && notes.tell != nil {
            try notes.skipping { throw error }
            channels = try StoreOpening.records(database).map { ChannelState($0, feed: Feed(kind: nil)) }
        }
        for (id, channel) in channels.enumerated() {
            var out = ExportLine()
            out.member("id", UInt64(id))
            out.member("name", channel.name.string)
            out.member("trimmed_sequence", channel.trimmedSequence)
            out.member("trimmed_offset", channel.trimmedOffset)
            try line(out.finish())
        }
        let damaged = try exportMessages(database, channels, epoch, notes, to: line)
        let name = { (id: ChannelID) in channels.indices.contains(Int(id)) ? channels[Int(id)].name : nil }
        for state in try StateTable.all(database, onDamage: { problem in try notes.skipping { throw problem } }, name: name) {
            let channel = channels[Int(state.channel)]
            // The others come about again from the messages.
            if channel.trimmedSequence > 0 || damaged.contains(state.channel) { try line(ExportLine.state(state, channel.name)) }
        }
        try ReceiptTable.forEach(database, onDamage: { problem in try notes.skipping { throw problem } }) { record in
            guard channels.indices.contains(Int(record.channel)) else {
                return try notes.note("there is a receipt for a channel that does not exist")
            }
            try line(ExportLine.receipt(record, channels[Int(record.channel)].name))
        }
    }

    /// Runs in the order of their first messages; what a run has beyond the first message of the next one waits. Runs overlap only
    /// within a commit, so that is not much.
    ///
    /// - Returns: channels of which messages are damaged.
    private static func exportMessages(
        _ database: Database, _ channels: [ChannelState], _ epoch: LogEpoch, _ notes: DamageNotes, to line: ([UInt8]) throws -> Void
    ) throws -> Set<ChannelID> {
        var waiting: [ArraySlice<LogEntry>] = []
        var heap = OffsetHeap()
        func drain(before offset: UInt64) throws {
            while let (first, index) = heap.first, first < offset {
                let entry = waiting[index].removeFirst()
                try line(ExportLine.message(entry))
                if let next = waiting[index].first { heap.moveFirst(to: next.offset) } else { heap.removeFirst() }
            }
            if heap.first == nil { waiting = [] }
        }
        var ends = channels.map { (sequence: $0.trimmedSequence, offset: $0.trimmedOffset) }
        // The last log number of each channel that was seen, readable or not.
        var seen = channels.map { max($0.lastOffset, $0.trimmedOffset) }
        var damaged: Set<ChannelID> = []
        func tellHole(_ place: Int, through sequence: UInt64, _ offset: UInt64) throws {
            let from = ends[place].sequence + 1
            try notes.note("messages \(from) to \(sequence) of channel \(channels[place].name) are missing or damaged")
            try line(ExportLine.hole(channels[place].name, from...sequence, offset: offset))
            damaged.insert(ChannelID(place))
        }
        let runs = RunTable(database: database, epoch: epoch, cache: nil)
        let order = try Query(database, "SELECT id, first_offset FROM run ORDER BY first_offset")
        while try order.step() {
            var entries: [LogEntry] = []
            try notes.skipping {
                let (id, firstOffset) = (try order.integer(0), try order.unsigned(1))
                let place = Int(RunID.channel(id))
                guard channels.indices.contains(place) else {
                    throw StoreProblem.corrupt("there are messages of a channel that does not exist")
                }
                seen[place] = max(seen[place], RunID.offset(id))
                entries = try runs.entries(id, channels[place].name)
                if let first = entries.first, first.offset != firstOffset || first.sequence <= ends[place].sequence {
                    entries = []
                    throw StoreProblem.corrupt("there are messages of channel \(channels[place].name) out of order")
                }
            }
            guard let first = entries.first, let last = entries.last else { continue }
            try drain(before: first.offset)
            let place = Int(first.channel)
            if first.sequence != ends[place].sequence + 1 { try tellHole(place, through: first.sequence - 1, first.offset - 1) }
            ends[place] = (last.sequence, last.offset)
            heap.insert(first.offset, waiting.count)
            waiting.append(entries[...])
        }
        try drain(before: .max)
        for place in channels.indices where ends[place].offset < seen[place] || ends[place].sequence < channels[place].lastSequence {
            // No more than there are log numbers: those that were given out are not to be given out again.
            let most = ends[place].sequence + (seen[place] - min(seen[place], ends[place].offset))
            let header = try? runs.last(ChannelID(place))
            let known = max(channels[place].lastSequence, header?.lastSequence ?? 0)
            let through = known > ends[place].sequence && known <= most ? known : most
            if through > ends[place].sequence { try tellHole(place, through: through, seen[place]) }
        }
        return damaged
    }
}

/// A JSON object that is being written.
private struct ExportLine {
    private var bytes: [UInt8] = [UInt8(ascii: "{")]

    private mutating func name(_ name: String) {
        if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
        JSONText.appendString(name, into: &bytes)
        bytes.append(UInt8(ascii: ":"))
    }

    mutating func member(_ name: String, _ number: some FixedWidthInteger) {
        self.name(name)
        JSONText.appendInteger(number, into: &bytes)
    }

    mutating func member(_ name: String, _ text: String) {
        self.name(name)
        JSONText.appendString(text, into: &bytes)
    }

    /// Only if there is one.
    mutating func member(_ name: String, _ text: String?) {
        if let text { member(name, text) }
    }

    /// - Parameter json: as it stands.
    mutating func member(_ name: String, json: [UInt8]) {
        self.name(name)
        bytes.append(contentsOf: json)
    }

    mutating func member<Item>(_ name: String, _ items: [Item], _ append: (Item, inout [UInt8]) -> Void) {
        self.name(name)
        bytes.append(UInt8(ascii: "["))
        for (index, item) in items.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            append(item, &bytes)
        }
        bytes.append(UInt8(ascii: "]"))
    }

    consuming func finish() -> [UInt8] {
        bytes.append(UInt8(ascii: "}"))
        return bytes
    }

    static func message(_ entry: LogEntry) -> [UInt8] {
        let publication = entry.publication
        var line = ExportLine()
        line.member("channel", publication.channel.string)
        line.member("sequence", entry.sequence)
        line.member("offset", entry.offset)
        line.member("time", entry.timeMilliseconds)
        line.member("event", publication.event?.string)
        line.member("key", publication.key?.string)
        if publication.priority != .normal { line.member("priority", publication.priority.rawValue) }
        if let ttl = publication.ttlSeconds { line.member("ttl", ttl) }
        line.member("replaces", publication.replaces?.string)
        line.member("change", publication.change?.rawValue)
        if let since = publication.staleSinceMilliseconds { line.member("stale_since", since) }
        if publication.isBase64 { line.member("encoding", "base64") }
        if publication.kind == .acknowledgement { line.member("kind", "ack") }
        line.member("traceparent", publication.trace?.description)
        if entry.stateBytes > 0 { line.member("state_bytes", entry.stateBytes) }
        line.member("data", json: publication.data)
        return line.finish()
    }

    static func state(_ state: StateRecord, _ name: ChannelName) -> [UInt8] {
        var line = ExportLine()
        line.member("state", name.string)
        line.member("sequence", state.sequence)
        switch state.body {
        case .document(let text):
            if state.lastChangeOffset > 0 { line.member("last_change", state.lastChangeOffset) }
            if state.timeMilliseconds > 0 { line.member("time", UInt64(state.timeMilliseconds)) }
            line.member("document", json: text)
        case .latest(let entries): line.member("latest", entries) { $1.append(contentsOf: message($0)) }
        }
        return line.finish()
    }

    static func hole(_ name: ChannelName, _ range: ClosedRange<UInt64>, offset: UInt64) -> [UInt8] {
        var line = ExportLine()
        line.member("damaged", name.string)
        line.member("from", range.lowerBound)
        line.member("to", range.upperBound)
        line.member("offset", offset)
        return line.finish()
    }

    static func end(_ lines: UInt64) -> [UInt8] {
        var line = ExportLine()
        line.member("end", json: Array("true".utf8))
        line.member("lines", lines)
        return line.finish()
    }

    static func receipt(_ record: ReceiptRecord, _ name: ChannelName) -> [UInt8] {
        var line = ExportLine()
        line.member("user", record.user.string)
        line.member("channel", name.string)
        for (name, set) in [("read", record.receipt.read), ("dismissed", record.receipt.dismissed)] {
            line.member(name, set.ranges) { range, out in
                out.append(UInt8(ascii: "["))
                appendDecimal(range.lowerBound, to: &out)
                out.append(UInt8(ascii: ","))
                appendDecimal(range.upperBound, to: &out)
                out.append(UInt8(ascii: "]"))
            }
        }
        return line.finish()
    }
}

extension RunTable {
    /// The entries of the run with this row number.
    fileprivate func entries(_ id: Int64, _ name: ChannelName) throws -> [LogEntry] {
        var entries: [LogEntry] = []
        try forEachEntries(RunID.channel(id), name, after: RunID.offset(id) - 1) { _, some in
            entries = some
            return false
        }
        return entries
    }
}

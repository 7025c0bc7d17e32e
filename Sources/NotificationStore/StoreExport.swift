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
    /// - Throws: a `StoreFault`, or what `line` throws.
    package static func export(_ path: String, to line: (_ line: [UInt8]) throws -> Void) throws {
        var failed: (any Error)?
        // What `line` throws is its caller's own, and no fault of the store.
        func hand(_ bytes: [UInt8]) throws {
            do { try line(bytes) } catch {
                failed = error
                throw error
            }
        }
        do throws(StoreFault) {
            try withReadOnly(path) { try export($0, to: hand) }
        } catch {
            throw failed ?? error
        }
    }

    private static func export(_ database: Database, to line: ([UInt8]) throws -> Void) throws {
        let epoch = try Meta(database).epoch
        var header = ExportLine()
        header.member("tocsin_log", exportVersion)
        header.member("epoch", epoch.description)
        header.member("past_epochs", try Meta.pastEpochs(database)) { past, out in
            var item = ExportLine()
            item.member("epoch", past.epoch.description)
            item.member("last_offset", past.lastOffset)
            out.append(contentsOf: item.finish())
        }
        try line(header.finish())

        let table = ChannelTable()
        try StoreOpening.loadChannels(database, FeedTable(named: [:]), into: table)
        let channels = table.withAll { $0 }
        try Meta.checkTails(database, channels)
        for (id, channel) in channels.enumerated() {
            var out = ExportLine()
            out.member("id", UInt64(id))
            out.member("name", channel.name.string)
            out.member("trimmed_sequence", channel.trimmedSequence)
            out.member("trimmed_offset", channel.trimmedOffset)
            try line(out.finish())
        }
        try exportMessages(database, channels, epoch, to: line)
        for state in try StateTable.all(database, name: { channels[Int($0)].name }) {
            let channel = channels[Int(state.channel)]
            // The others come about again from the messages.
            if channel.trimmedSequence > 0 { try line(ExportLine.state(state, channel.name)) }
        }
        try ReceiptTable.forEach(database) { record in
            guard channels.indices.contains(Int(record.channel)) else {
                throw StoreProblem.corrupt("there is a receipt for a channel that does not exist")
            }
            try line(ExportLine.receipt(record, channels[Int(record.channel)].name))
        }
    }

    /// Runs in the order of their first messages; what a run has beyond the first message of the next one waits. Runs overlap only
    /// within a commit, so that is not much.
    private static func exportMessages(
        _ database: Database, _ channels: [ChannelState], _ epoch: LogEpoch, to line: ([UInt8]) throws -> Void
    ) throws {
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
        var lastSequences = channels.map(\.trimmedSequence)
        let order = try Query(database, "SELECT id, first_offset FROM run ORDER BY first_offset")
        while try order.step() {
            let (id, firstOffset) = (try order.integer(0), try order.unsigned(1))
            let place = Int(RunID.channel(id))
            guard channels.indices.contains(place) else {
                throw StoreProblem.corrupt("there are messages of a channel that does not exist")
            }
            try drain(before: firstOffset)
            let entries = try RunTable(database: database, epoch: epoch, cache: nil).entries(id, channels[place].name)
            guard let first = entries.first, let last = entries.last, first.sequence == lastSequences[place] + 1 else {
                throw StoreProblem.corrupt("messages after \(lastSequences[place]) of channel \(channels[place].name) are missing")
            }
            lastSequences[place] = last.sequence
            heap.insert(first.offset, waiting.count)
            waiting.append(entries[...])
        }
        try drain(before: .max)
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

import NotificationCore

// The messages of one channel that one commit wrote, as one row of the table `run`.
//
// A row has numbers of fixed meaning in columns, and a body:
//
//     id              channel << 40 | offset of the last message: a channel's runs lie together, in the order of the log
//     first_offset    first_sequence    count    first_time    duration (latest time less first_time)
//     total           bytes of the bodies of all runs that the channel ever had, with this one; differences of it are what a range takes
//     body            4 bytes  CRC-32, little-endian, of the columns (as 8-byte words in the order above, channel first) and of the rest
//                     1 byte   form of what follows: 1
//                     count entries
//
// An entry. Numbers are varints (`ByteCoding.swift`), ± means zigzag:
//
//     flags           bits as in `EntryFlags`
//     offset          less that of the entry before; the first: less first_offset, 0
//     sequence        only in lists that are no runs (a dashboard's latest values): less that of the entry before
//     ± time          less that of the entry before; the first: less first_time
//     [event] [key] [replaces]     a text
//     [ttl] [± stale since, less time] [stateBytes] [trace: length and bytes]
//     data            length and bytes
//
// The bit for a trace came later than the others. An entry without one is as it was before: what an earlier version wrote is read, and
// written again it has the same bytes (Fixtures/Store). To an earlier version an entry with a trace is damage, as any bit that it does not
// know; it can import an export.
//
// A text is its place in the list of texts so far; the place behind the last one means a new text, which follows: length and bytes.
// The messages of a run tend to have the same events and keys, so most texts take one byte.
//
// Sequences in a run go up by one, which is what makes holes visible. The epoch is not in it: it is the log's.

/// Columns of a run.
struct RunHeader: Equatable {
    var channel: ChannelID
    var firstOffset: UInt64
    var lastOffset: UInt64
    var firstSequence: UInt64
    var count: Int
    var firstTime: Int64
    var duration: Int64
    var total: UInt64

    var id: Int64 { RunID.make(channel, lastOffset) }
    var lastSequence: UInt64 { firstSequence + UInt64(count) - 1 }
    /// When its latest message was taken.
    var lastTime: Int64 { firstTime &+ duration }

    /// What the columns have to fulfil for the arithmetic on them to be safe.
    var isSound: Bool {
        channel >= 0 && count > 0 && count <= RunCodec.countMax && firstSequence > 0 && firstSequence < RunID.offsetMax
            && firstOffset > 0 && firstOffset <= lastOffset && lastOffset <= RunID.offsetMax
            && lastOffset - firstOffset >= UInt64(count - 1)
    }

    var checksum: Checksum {
        var checksum = Checksum()
        checksum.add(UInt64(bitPattern: Int64(channel)))
        checksum.add(lastOffset)
        checksum.add(firstOffset)
        checksum.add(firstSequence)
        checksum.add(UInt64(count))
        checksum.add(UInt64(bitPattern: firstTime))
        checksum.add(UInt64(bitPattern: duration))
        checksum.add(total)
        return checksum
    }
}

enum RunID {
    /// 2^40 messages: a million a second for twelve days, ten thousand a second for three years. Channels have the 23 bits above.
    static let offsetMax: UInt64 = 1 << 40 - 1
    static let channelMax: ChannelID = 1 << 23 - 1

    static func make(_ channel: ChannelID, _ offset: UInt64) -> Int64 {
        Int64(channel) << 40 | Int64(min(offset, offsetMax))
    }

    static func channel(_ id: Int64) -> ChannelID { ChannelID(truncatingIfNeeded: id >> 40) }
    static func offset(_ id: Int64) -> UInt64 { UInt64(bitPattern: id) & offsetMax }
}

private struct EntryFlags: OptionSet {
    let rawValue: UInt64

    static let event = EntryFlags(rawValue: 1 << 0)
    static let key = EntryFlags(rawValue: 1 << 1)
    static let replaces = EntryFlags(rawValue: 1 << 2)
    static let ttl = EntryFlags(rawValue: 1 << 3)
    static let merge = EntryFlags(rawValue: 1 << 4)
    static let base64 = EntryFlags(rawValue: 1 << 5)
    static let state = EntryFlags(rawValue: 1 << 6)
    static let stale = EntryFlags(rawValue: 1 << 7)
    static let acknowledgement = EntryFlags(rawValue: 1 << 8)
    // Bits 9 and 10: the priority, 0 for normal.
    static let priorityShift: UInt64 = 9
    static let priorityMask: UInt64 = 3
    static let trace = EntryFlags(rawValue: 1 << 11)
    static let known: UInt64 = 1 << 12 - 1
}

enum PriorityCode {
    static func code(_ priority: Priority) -> UInt64 {
        switch priority {
        case .normal: 0
        case .low: 1
        case .high: 2
        case .critical: 3
        }
    }

    static func priority(_ code: UInt64) -> Priority? {
        switch code {
        case 0: .normal
        case 1: .low
        case 2: .high
        case 3: .critical
        default: nil
        }
    }
}

/// Entries one after the other.
struct EntryEncoder {
    private(set) var bytes: [UInt8]
    private var texts: [FieldText: UInt64] = [:]
    private var offset: UInt64
    private var sequence: UInt64
    private var time: Int64
    private let hasSequences: Bool

    init(bytes: [UInt8], offset: UInt64, sequence: UInt64, time: Int64, hasSequences: Bool) {
        self.bytes = bytes
        self.offset = offset
        self.sequence = sequence
        self.time = time
        self.hasSequences = hasSequences
    }

    mutating func append(_ entry: LogEntry) {
        let publication = entry.publication
        var flags: EntryFlags = []
        if publication.event != nil { flags.insert(.event) }
        if publication.key != nil { flags.insert(.key) }
        if publication.replaces != nil { flags.insert(.replaces) }
        if publication.ttlSeconds != nil { flags.insert(.ttl) }
        if publication.change == .merge { flags.insert(.merge) }
        if publication.isBase64 { flags.insert(.base64) }
        if entry.stateBytes > 0 { flags.insert(.state) }
        if publication.staleSinceMilliseconds != nil { flags.insert(.stale) }
        if publication.kind == .acknowledgement { flags.insert(.acknowledgement) }
        if publication.trace != nil { flags.insert(.trace) }
        bytes.appendVarint(flags.rawValue | PriorityCode.code(publication.priority) << EntryFlags.priorityShift)
        bytes.appendVarint(entry.offset - offset)
        if hasSequences { bytes.appendVarint(entry.sequence - sequence) }
        bytes.appendZigzag(entry.timeMilliseconds &- time)
        if let event = publication.event { append(event) }
        if let key = publication.key { append(key) }
        if let replaces = publication.replaces { append(replaces) }
        if let ttl = publication.ttlSeconds { bytes.appendVarint(UInt64(ttl)) }
        if let since = publication.staleSinceMilliseconds { bytes.appendZigzag(since &- entry.timeMilliseconds) }
        if entry.stateBytes > 0 { bytes.appendVarint(UInt64(entry.stateBytes)) }
        if let trace = publication.trace {
            bytes.appendVarint(UInt64(TraceParent.byteCount))
            bytes.append(contentsOf: trace.bytes)
        }
        bytes.appendVarint(UInt64(publication.data.count))
        bytes.append(contentsOf: publication.data)
        (offset, sequence, time) = (entry.offset, entry.sequence, entry.timeMilliseconds)
    }

    private mutating func append(_ text: FieldText) {
        if let place = texts[text] {
            bytes.appendVarint(place)
        } else {
            bytes.appendVarint(UInt64(texts.count))
            texts[text] = UInt64(texts.count)
            bytes.appendLengthAndBytes(of: text.string)
        }
    }

    mutating func seal(_ checksum: Checksum) -> [UInt8] {
        bytes.sealChecksum(checksum)
        return bytes
    }
}

struct EntryDecoder {
    private(set) var reader: ByteReader
    private var texts: [FieldText] = []
    private var offset: UInt64
    private var sequence: UInt64
    private var time: Int64
    private let channel: ChannelID
    private let name: ChannelName
    private let hasSequences: Bool

    init(
        _ reader: ByteReader, channel: ChannelID, name: ChannelName, offset: UInt64, sequence: UInt64, time: Int64, hasSequences: Bool
    ) {
        self.reader = reader
        self.channel = channel
        self.name = name
        self.offset = offset
        self.sequence = sequence
        self.time = time
        self.hasSequences = hasSequences
    }

    mutating func next() throws(ByteReader.Damage) -> LogEntry {
        let bits = try reader.varint()
        let flags = EntryFlags(rawValue: bits)
        guard bits <= EntryFlags.known,
            let priority = PriorityCode.priority(bits >> EntryFlags.priorityShift & EntryFlags.priorityMask)
        else { throw ByteReader.Damage() }
        offset = try add(offset, reader.varint())
        sequence = hasSequences ? try add(sequence, reader.varint()) : sequence &+ 1
        time = time &+ (try reader.zigzag())
        let event = flags.contains(.event) ? try text() : nil
        let key = flags.contains(.key) ? try text() : nil
        let replaces = flags.contains(.replaces) ? try text() : nil
        var ttl: UInt32?
        if flags.contains(.ttl) { ttl = UInt32(try reader.count(upTo: Int(UInt32.max))) }
        var stale: Int64?
        if flags.contains(.stale) { stale = time &+ (try reader.zigzag()) }
        guard RunCodec.times.contains(time), stale.map({ RunCodec.times.contains($0) }) ?? true else { throw ByteReader.Damage() }
        let stateBytes = flags.contains(.state) ? UInt32(try reader.count(upTo: Int(UInt32.max))) : 0
        var trace: TraceParent?
        if flags.contains(.trace) {
            trace = TraceParent(bytes: try reader.slice())
            if trace == nil { throw ByteReader.Damage() }
        }
        var publication = Publication(
            channel: name, data: [UInt8](try reader.slice()), isBase64: flags.contains(.base64), event: event, key: key,
            priority: priority, ttlSeconds: ttl, replaces: replaces, change: flags.contains(.merge) ? .merge : nil)
        publication.staleSinceMilliseconds = stale
        publication.trace = trace
        if flags.contains(.acknowledgement) { publication.kind = .acknowledgement }
        return LogEntry(
            channel: channel, offset: offset, sequence: sequence, timeMilliseconds: time, stateBytes: stateBytes,
            publication: publication)
    }

    private func add(_ number: UInt64, _ more: UInt64) throws(ByteReader.Damage) -> UInt64 {
        let (sum, overflow) = number.addingReportingOverflow(more)
        guard !overflow, sum <= RunID.offsetMax else { throw ByteReader.Damage() }
        return sum
    }

    private mutating func text() throws(ByteReader.Damage) -> FieldText {
        let place = try reader.count(upTo: texts.count)
        if place < texts.count { return texts[place] }
        guard let text = FieldText(try reader.text()) else { throw ByteReader.Damage() }
        texts.append(text)
        return text
    }
}

enum RunCodec {
    /// No clock has said other times; arithmetic on these is safe.
    static let times: ClosedRange<Int64> = -(1 << 53)...1 << 53

    /// Some hundred messages: enough to make the columns and the row around them cheap, and little enough that a reader who wants one
    /// of them, or ten, need not decode a page.
    static let bytesMax = 16 << 10
    /// An entry takes at least five bytes.
    static let countMax = bytesMax
    static let form: UInt8 = 1

    /// - Returns: the entries of a run.
    static func decode(_ header: RunHeader, _ body: UnsafeRawBufferPointer, name: ChannelName) throws(StoreProblem) -> [LogEntry] {
        var entries: [LogEntry] = []
        try forEach(header, body, name: name) { entries.append($0) }
        return entries
    }

    /// Calls `take` with each entry of a run. What it was called with before it throws is not to be used.
    static func forEach(
        _ header: RunHeader, _ body: UnsafeRawBufferPointer, name: ChannelName, _ take: (LogEntry) -> Void
    ) throws(StoreProblem) {
        do throws(ByteReader.Damage) {
            guard header.isSound else { throw ByteReader.Damage() }
            var reader = try ByteReader(sealed: body, header.checksum)
            guard try reader.byte() == form else { throw ByteReader.Damage() }
            var decoder = EntryDecoder(
                reader, channel: header.channel, name: name, offset: header.firstOffset, sequence: header.firstSequence - 1,
                time: header.firstTime, hasSequences: false)
            var offset: UInt64 = 0
            for _ in 0..<header.count {
                let entry = try decoder.next()
                guard entry.offset > offset else { throw ByteReader.Damage() }
                offset = entry.offset
                take(entry)
            }
            guard offset == header.lastOffset, decoder.reader.isAtEnd else { throw ByteReader.Damage() }
        } catch {
            throw .corrupt(
                "the messages \(header.firstSequence) to \(header.firstSequence &+ UInt64(max(0, header.count))) of channel \(name) "
                    + "(run \(header.id)) are not as they were written")
        }
    }
}

/// A run that is being written.
struct RunBuilder {
    private(set) var header: RunHeader
    private var encoder: EntryEncoder

    init(first entry: LogEntry) {
        header = RunHeader(
            channel: entry.channel, firstOffset: entry.offset, lastOffset: entry.offset, firstSequence: entry.sequence, count: 0,
            firstTime: entry.timeMilliseconds, duration: 0, total: 0)
        var bytes = [UInt8].withRoomForChecksum
        bytes.append(RunCodec.form)
        encoder = EntryEncoder(
            bytes: bytes, offset: entry.offset, sequence: entry.sequence, time: entry.timeMilliseconds, hasSequences: false)
        append(entry)
    }

    /// Whether `entry` still belongs into it.
    func takes(_ entry: LogEntry) -> Bool {
        header.count < RunCodec.countMax && encoder.bytes.count + entry.publication.data.count + 64 <= RunCodec.bytesMax
    }

    mutating func append(_ entry: LogEntry) {
        encoder.append(entry)
        header.count += 1
        header.lastOffset = entry.offset
        header.duration = max(header.duration, entry.timeMilliseconds &- header.firstTime)
    }

    /// - Parameter totalBefore: `total` of the channel's run before.
    mutating func finish(totalBefore: UInt64) -> (header: RunHeader, body: [UInt8]) {
        header.total = totalBefore + UInt64(encoder.bytes.count)
        return (header, encoder.seal(header.checksum))
    }
}

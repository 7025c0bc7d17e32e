import JSONCodec
import NotificationCore

/// What one sequence of a channel holds.
struct Pin {
    var id: Int
    var offset: UInt64
    var timeMilliseconds: Int64
    var expiresMilliseconds: Int64
    var key: String?
    var replaces: String?
    var isStale: Bool
    var data: [UInt8]
}

/// Everything that the oracle knows of a channel.
final class ChannelTruth {
    let name: String
    let feed: Feed
    /// By sequence, from 1.
    var pins: [Pin] = []
    /// Scores: the state after each sequence.
    var states: [Value] = []
    /// Highest sequence that a publisher was told of.
    var acknowledged: UInt64 = 0
    /// By user: what was told as stored, and what may have been.
    var read: [String: Set<UInt64>] = [:]
    var maybeRead: [String: Set<UInt64>] = [:]

    init(_ name: String, _ feed: Feed) {
        self.name = name
        self.feed = feed
    }

    var last: UInt64 { UInt64(pins.count) }

    subscript(sequence: UInt64) -> Pin? {
        sequence >= 1 && sequence <= last ? pins[Int(sequence) - 1] : nil
    }

    /// Whether retention may have dropped a message by now.
    ///
    /// - Parameter untold: how many messages the log has that nobody was told of yet; some may be of this channel.
    func mayBeDropped(_ sequence: UInt64, now: Int64, untold: UInt64 = 0) -> Bool {
        guard let pin = self[sequence] else { return false }
        if sequence + UInt64(feed.retention.countMax) <= last + untold { return true }
        return pin.timeMilliseconds + Int64(feed.retention.ageSecondsMax) * 1000 <= now
    }

    func hasExpired(_ sequence: UInt64, now: Int64) -> Bool {
        self[sequence].map { $0.expiresMilliseconds <= now } ?? false
    }

    /// Whether there is a newer value of its key.
    func isSuperseded(_ sequence: UInt64) -> Bool {
        guard let pin = self[sequence] else { return false }
        return pins[Int(sequence)...].contains { $0.key == pin.key }
    }

    func isReplaced(_ sequence: UInt64) -> Bool {
        guard let key = self[sequence]?.key else { return false }
        return pins[Int(sequence)...].contains { $0.replaces == key }
    }

    /// The state after a sequence, as a snapshot has it, and which keys are stale.
    func snapshot(at sequence: UInt64) -> (data: Value, staleKeys: [String])? {
        guard sequence >= 1, sequence <= last else { return nil }
        if feed.kind == .scores { return (states[Int(sequence) - 1], []) }
        var members: [String: Value] = [:]
        var stale: Set<String> = []
        for pin in pins.prefix(Int(sequence)) {
            let key = pin.key ?? ""
            members[key] = Value(text: pin.data)
            if pin.isStale { stale.insert(key) } else { stale.remove(key) }
        }
        return (.object(members), stale.sorted())
    }

    func append(_ pin: Pin, isChange: Bool) {
        pins.append(pin)
        guard feed.kind == .scores else { return }
        let data = Value(text: pin.data)
        states.append(isChange ? (states.last ?? .null).merged(with: data) : data)
    }

    func cut(to last: UInt64) {
        pins.removeLast(pins.count - Int(last))
        if feed.kind == .scores { states.removeLast(states.count - Int(last)) }
        acknowledged = min(acknowledged, last)
        for user in read.keys { read[user] = read[user]!.filter { $0 <= last } }
    }
}

/// Checks what the server says against what it was told, without the server's own code.
final class Oracle {
    let limits: LogLimits
    let timeline: Timeline
    private(set) var violation: Violation?
    private(set) var channels: [String: ChannelTruth] = [:]
    private(set) var epoch: LogEpoch?
    /// The epochs of before, and the highest log number up to which positions of each are still right; nil: of all that it gave out.
    private var epochs: [LogEpoch: UInt64?] = [:]
    /// Power was cut while commits were kept in memory only, or the log was in the process that is gone: the end may be, too.
    var mayHaveLost = false
    /// How often it may have been.
    private(set) var losses = 0
    private let isInMemory: Bool
    /// Payload by its number.
    private var sent: [Int: Sent] = [:]
    private var receipts: [Int: UInt64] = [:]
    private(set) var acknowledgedCount = 0
    private(set) var deliveredCount = 0
    private(set) var notStoredCount = 0

    struct Sent {
        var publication: Publication
        var isRefused = false
    }

    init(limits: LogLimits, isInMemory: Bool, timeline: Timeline) {
        self.limits = limits
        self.isInMemory = isInMemory
        self.timeline = timeline
    }

    var now: Int64 { timeline.now }
    /// How many messages the log has that nobody was told of yet.
    var untoldCount: () -> UInt64 = { 0 }

    func fail(_ rule: String, _ words: String) {
        if violation == nil { violation = Violation(rule: rule, words: words) }
    }

    func channel(_ name: String) -> ChannelTruth {
        if let known = channels[name] { return known }
        let truth = ChannelTruth(name, limits.feeds[ChannelName(name)!])
        channels[name] = truth
        return truth
    }

    // MARK: publishers

    func willSend(_ id: Int, _ publication: Publication) { sent[id] = Sent(publication: publication) }

    /// A publisher was told where its message is.
    func acknowledged(_ id: Int, _ receipt: AppendReceipt) {
        let truth = channel(receipt.channel.string)
        acknowledgedCount += 1
        if let before = receipts[id], before != receipt.sequence, truth[before]?.id == id {
            fail("one sequence per request", "message \(id) on \(truth.name) was answered with \(before) and then with \(receipt.sequence)")
        }
        receipts[id] = receipt.sequence
        guard let pin = truth[receipt.sequence] else {
            // After a loss, an answer of before may still be under way.
            if mayHaveLost || losses > 0 { return }
            return fail(
                "answered only what is stored",
                "message \(id) was answered with \(truth.name)#\(receipt.sequence), the log has \(truth.last)")
        }
        if pin.id != id || pin.offset != receipt.offset {
            if losses > 0 { return }
            return fail("answered with its own place", "\(truth.name)#\(receipt.sequence) is message \(pin.id), not \(id)")
        }
        truth.acknowledged = max(truth.acknowledged, receipt.sequence)
    }

    func refused(_ id: Int, _ problem: String) {
        sent[id]?.isRefused = true
        if !["no-state", "bad-change", "refused-before"].contains(where: { problem.contains("/problems/\($0)\"") }) {
            fail("refused for a reason", "message \(id) was refused: \(problem)")
        }
    }

    // MARK: the log

    /// A commit went through.
    func committed(_ entries: [LogEntry]) {
        for entry in entries { take(entry) }
    }

    private func take(_ entry: LogEntry) {
        let truth = channel(entry.publication.channel.string)
        if entry.sequence != truth.last + 1 {
            return fail("sequences go up by one", "\(truth.name)#\(entry.sequence) after #\(truth.last)")
        }
        let id = Self.id(entry)
        let pin = Self.pin(entry, id)
        if entry.publication.kind == .notification {
            guard let message = sent[id] else { return fail("nothing invented", "\(truth.name)#\(entry.sequence) was never published") }
            if message.isRefused { fail("refused is refused", "message \(id) was refused and is \(truth.name)#\(entry.sequence)") }
            compare(entry.publication, message.publication, "\(truth.name)#\(entry.sequence)")
            if !pin.isStale, let other = truth.pins.firstIndex(where: { $0.id == id && !$0.isStale }) {
                fail("nothing stored twice", "message \(id) is \(truth.name)#\(other + 1) and #\(entry.sequence)")
            }
        }
        truth.append(pin, isChange: entry.publication.change != nil)
    }

    private func compare(_ found: Publication, _ wanted: Publication, _ name: String) {
        var found = found
        found.staleSinceMilliseconds = nil
        if found != wanted { fail("stored as it was published", "\(name) is not what was published") }
    }

    private static func pin(_ entry: LogEntry, _ id: Int) -> Pin {
        let publication = entry.publication
        return Pin(
            id: id, offset: entry.offset, timeMilliseconds: entry.timeMilliseconds,
            expiresMilliseconds: publication.ttlSeconds.map { entry.timeMilliseconds + Int64($0) * 1000 } ?? .max,
            key: publication.key?.string, replaces: publication.replaces?.string,
            isStale: publication.staleSinceMilliseconds != nil, data: publication.data
        )
    }

    private static func id(_ entry: LogEntry) -> Int {
        if entry.publication.kind == .acknowledgement { return -Int(entry.offset) }
        return JSONSlice(entry.publication.data[...])["id"]?.integer().map { Int($0) } ?? 0
    }

    /// The log was opened: what is in it now?
    func opened(epoch: LogEpoch, _ found: [(record: ChannelRecord, entries: [LogEntry])]) {
        if epoch == self.epoch || epochs[epoch] != nil { fail("each start begins an epoch", "\(epoch) was there before") }
        if let before = self.epoch { epochs[before] = .some(nil) }
        self.epoch = epoch
        if mayHaveLost { noteLoss(head: found.reduce(0) { max($0, $1.record.lastOffset) }) }
        for truth in channels.values.sorted(by: { $0.name < $1.name }) {
            let last = last(truth, found)
            guard last < truth.last else { continue }
            if !mayHaveLost {
                fail("nothing acknowledged is lost", "\(truth.name) ended with #\(truth.last), and with #\(last) after it was opened anew")
                return
            }
            truth.cut(to: last)
        }
        mayHaveLost = false
        // In the order of the log: what the server does not know to be stored may be there.
        for (record, entries) in found {
            let truth = channel(record.name.string)
            for sequence in stride(from: UInt64(1), through: record.trimmedSequence, by: 1) where !truth.mayBeDropped(sequence, now: now) {
                fail("dropped only by retention", "\(truth.name)#\(sequence) is gone, and neither count nor age wanted that")
            }
            var next = record.trimmedSequence + 1
            for entry in entries {
                if entry.sequence != next { fail("no holes", "\(truth.name) has #\(entry.sequence) where #\(next) is to be") }
                next = entry.sequence + 1
                if entry.sequence > truth.last {
                    take(entry)
                } else if let pin = truth[entry.sequence], pin.id != Self.id(entry) || pin.data != entry.publication.data {
                    fail("content stays", "\(truth.name)#\(entry.sequence) was message \(pin.id) and is \(Self.id(entry))")
                }
            }
            if next != record.lastSequence + 1 { fail("no holes", "\(truth.name) ends with #\(next - 1), not #\(record.lastSequence)") }
        }
    }

    private func noteLoss(head: UInt64) {
        losses += 1
        let known = channels.values.reduce(0) { max($0, $1.pins.last?.offset ?? 0) }
        if head < known { for (epoch, right) in epochs { epochs[epoch] = min(right ?? .max, head) } }
        // What was read may be lost with the end of the log.
        for truth in channels.values { truth.read = [:] }
    }

    /// Whether who comes with this position is to be told that what came between is not known.
    func isBeyond(_ position: Position) -> Bool {
        guard let place = position.places.first, position.epoch != epoch, let right = epochs[position.epoch] else { return false }
        switch place {
        case .beginning: return false
        case .at(let offset): return right.map { offset > $0 } ?? false
        case .within(let window): return right.map { window.through > $0 } ?? false
        }
    }

    /// Of the log of before, in the memory of a process, a new one knows nothing.
    func isUnknown(_ position: Position) -> Bool {
        isInMemory && position.epoch != epoch && position.places.first != .beginning
    }

    private func last(_ truth: ChannelTruth, _ found: [(record: ChannelRecord, entries: [LogEntry])]) -> UInt64 {
        found.first { $0.record.name.string == truth.name }?.record.lastSequence ?? 0
    }

    // MARK: acknowledgements

    /// - Parameter isSure: the user was told that it is stored.
    func read(_ user: String, _ channel: String, _ ranges: [ClosedRange<UInt64>], isSure: Bool) {
        let truth = self.channel(channel)
        for range in ranges where range.lowerBound <= truth.last {
            for sequence in range.lowerBound...min(range.upperBound, truth.last) {
                if isSure { truth.read[user, default: []].insert(sequence) } else { truth.maybeRead[user, default: []].insert(sequence) }
            }
        }
    }

    /// How many alerts a user has not read, at least and at most.
    ///
    /// - Parameter told: when a client was told that cannot be told of what has expired since.
    func unread(_ user: String, _ name: String, told: Int64? = nil) -> ClosedRange<Int> {
        let truth = channel(name)
        var (low, high) = (0, 0)
        for sequence in stride(from: UInt64(1), through: truth.last, by: 1) {
            if truth.hasExpired(sequence, now: told ?? now) || truth.isReplaced(sequence) { continue }
            if truth.read[user]?.contains(sequence) == true { continue }
            let isHidden = sequence + UInt64(truth.feed.retention.countMax) <= truth.last
            if isHidden { continue }
            high += 1
            if truth.maybeRead[user]?.contains(sequence) == true || truth.mayBeDropped(sequence, now: now) { continue }
            if truth.hasExpired(sequence, now: now) { continue }
            low += 1
        }
        return low...high
    }

    func countDelivery() { deliveredCount += 1 }
    func notStored() { notStoredCount += 1 }
}

import GRDB
import Glibc
import NotificationCore
import NotificationStore
import TestSupport

/// A folder of its own for a test's files, gone with it.
final class TemporaryFolder: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/tocsin-store-XXXXXX".utf8CString)
        path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
    }

    deinit {
        remove(path)
    }

    var log: String { path + "/log.sqlite" }

    private func remove(_ path: String) {
        if let folder = opendir(path) {
            while let item = readdir(folder) {
                let name = withUnsafePointer(to: item.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                if name != ".", name != ".." { remove("\(path)/\(name)") }
            }
            closedir(folder)
            rmdir(path)
        } else {
            unlink(path)
        }
    }
}

enum Files {
    static func read(_ path: String) -> [UInt8]? {
        guard let file = fopen(path, "rb") else { return nil }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = fread(&buffer, 1, buffer.count, file)
            if count == 0 { return bytes }
            bytes += buffer[..<count]
        }
    }

    static func write(_ path: String, _ bytes: [UInt8]) {
        guard let file = fopen(path, "wb") else { preconditionFailure("\(path) cannot be written") }
        fwrite(bytes, 1, bytes.count, file)
        fclose(file)
    }

    static func remove(_ path: String) { unlink(path) }

    /// What a crash of the process leaves of a log: the file and its write-ahead log as they are now.
    static func copyLog(_ from: String, _ to: String) {
        for ending in ["", "-wal"] {
            if let bytes = read(from + ending) { write(to + ending, bytes) } else { unlink(to + ending) }
        }
        unlink(to + "-shm")
    }
}

extension SeededRandom {
    mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self) < percent }
    mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }
}

func name(_ text: String) -> ChannelName { ChannelName(text)! }
func text(_ text: String) -> FieldText { FieldText(text)! }

let epochA = LogEpoch(random: 0xa1)
let epochB = LogEpoch(random: 0xb2)
/// When all tests take place.
let start: Int64 = 1_700_000_000_000

/// Every feed with this retention.
func limits(
    countMax: Int = 1_000_000, bytesMax: Int = 1 << 30, ageSecondsMax: Int = 1 << 30
) -> LogLimits {
    let retention = Retention(countMax: countMax, bytesMax: bytesMax, ageSecondsMax: ageSecondsMax)
    return LogLimits(
        feeds: FeedTable(
            named: [
                "alerts": Feed(kind: .alerts, retention: retention), "scores": Feed(kind: .scores, retention: retention),
                "dashboards": Feed(kind: .dashboards, retention: retention),
            ], other: Feed(kind: nil, retention: retention)))
}

func open(
    _ path: String, _ limits: LogLimits = limits(), durability: Durability = .disk, epoch: LogEpoch = epochA,
    at time: Int64 = start, cacheBytesMax: Int = 1 << 20
) throws(StoreFault) -> NotificationStore {
    var options = StoreOptions(path: path, durability: durability, limits: limits)
    options.cacheBytesMax = cacheBytesMax
    return try NotificationStore(options, newEpoch: epoch, nowMilliseconds: time)
}

/// What a log should have: plain arrays.
struct LogModel {
    var names: [ChannelName] = []
    var entries: [LogEntry] = []
    var sequences: [UInt64] = []
    var time = start
    /// Channels that the next commit has to make.
    private var unmade: [ChannelRecord] = []

    var head: UInt64 { UInt64(entries.count) }

    mutating func channel(_ text: String) -> ChannelID {
        if let index = names.firstIndex(of: name(text)) { return ChannelID(index) }
        names.append(name(text))
        sequences.append(0)
        unmade.append(ChannelRecord(id: ChannelID(names.count - 1), name: name(text)))
        return ChannelID(names.count - 1)
    }

    @discardableResult
    mutating func add(_ channel: ChannelID, _ change: (inout Publication) -> Void = { _ in }) -> LogEntry {
        sequences[Int(channel)] += 1
        let number = entries.count + 1
        var publication = Publication(channel: names[Int(channel)], data: Array(#"{"n":\#(number)}"#.utf8))
        change(&publication)
        let entry = LogEntry(
            channel: channel, offset: UInt64(number), sequence: sequences[Int(channel)], timeMilliseconds: time, publication: publication)
        entries.append(entry)
        return entry
    }

    /// With everything that a publication can have, now and then.
    mutating func addRandom(_ channel: ChannelID, _ random: inout SeededRandom) {
        time += Int64(random.number(-3...20))
        let replaces = random.chance(10)
        add(channel) { publication in
            let filler = String(repeating: "x", count: random.chance(2) ? random.number(0...9000) : random.number(0...60))
            publication.data = Array(#"{"a":"\#(filler)é"}"#.utf8)
            if random.chance(50) { publication.event = text("event-\(random.number(0...3))") }
            if random.chance(50) { publication.key = text("key \(random.number(0...5)) ü") }
            if random.chance(30) { publication.priority = Priority.allCases.randomElement(using: &random)! }
            if random.chance(20) { publication.ttlSeconds = UInt32(random.number(1...100)) }
            if replaces { publication.replaces = text("key \(random.number(0...5)) ü") }
            if random.chance(10) { publication.change = .merge }
            if random.chance(10) { publication.isBase64 = true }
            if random.chance(5) { publication.staleSinceMilliseconds = start - Int64(random.number(0...100_000)) }
            if random.chance(5) { publication.kind = .acknowledgement }
            if random.chance(10) {
                let (high, low, span) = (
                    UInt64(random.number(0...9)), UInt64(random.number(1...1 << 40)), UInt64(random.number(1...1 << 50))
                )
                publication.trace = TraceParent(traceID: SIMD2(high, low), spanID: span, flags: UInt8(random.number(0...255)))
            }
        }
        if random.chance(20) { entries[entries.count - 1].stateBytes = UInt32(random.number(1...1_000_000)) }
    }

    /// A commit of the last `count` entries.
    mutating func commit(last count: Int) -> LogCommit {
        var commit = LogCommit()
        commit.channels = unmade
        unmade = []
        commit.entries = Array(entries.suffix(count))
        return commit
    }

    func entries(of channel: ChannelID) -> [LogEntry] { entries.filter { $0.channel == channel } }
}

/// Reads on from `after` until there is nothing more, in pages.
func readAll(
    _ store: NotificationStore, _ channels: [ChannelID], after: UInt64 = 0, through: UInt64, notificationsMax: Int = 100,
    bytesMax: Int = 1 << 16, subject: LogQuery.Subject = .messages, at time: Int64 = start
) throws -> (objects: [[UInt8]], trimmed: [TrimMark]) {
    var after = after
    var objects: [[UInt8]] = []
    var trimmed: [TrimMark] = []
    while after < through {
        let query = LogQuery(
            subject, channels: channels, after: after, through: through, notificationsMax: notificationsMax, bytesMax: bytesMax)
        let answer = try store.answer(query, nowMilliseconds: time)
        precondition(answer.through > after, "a page that leads nowhere")
        objects += answer.notifications.map(\.object)
        trimmed += answer.trimmed
        after = answer.through
    }
    return (objects, trimmed)
}

func objects(_ entries: some Sequence<LogEntry>, _ epoch: LogEpoch = epochA) -> [[UInt8]] {
    entries.map { NotificationCore.Notification($0, epoch: epoch).object }
}

/// Changes the file by hand.
func sql(_ path: String, _ text: String) throws {
    let queue = try DatabaseQueue(path: path)
    try queue.writeWithoutTransaction { try $0.execute(sql: text) }
    try queue.close()
}

func number(_ path: String, _ text: String) throws -> Int {
    let queue = try DatabaseQueue(path: path)
    defer { try? queue.close() }
    return try queue.unsafeRead { try Int.fetchOne($0, sql: text) ?? -1 }
}

/// A file system of 2 MB, where this process may mount one.
enum TinyDisk {
    static func mount(_ path: String) -> Bool { Glibc.mount("tmpfs", path, "tmpfs", 0, "size=2m") == 0 }
    static func grow(_ path: String) { _ = Glibc.mount("tmpfs", path, "tmpfs", UInt(MS_REMOUNT), "size=8m") }
    static func makeReadOnly(_ path: String) {
        _ = Glibc.mount("tmpfs", path, "tmpfs", UInt(MS_REMOUNT | MS_RDONLY), "size=8m")
    }
    static func unmount(_ path: String) { _ = umount2(path, Int32(MNT_DETACH)) }
}

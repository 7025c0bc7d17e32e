import NotificationCore
import TestSupport
import Testing

@testable import NotificationStore

/// Alerts that nobody has read after a while.
@Suite struct UnreadTests {
    private static func open(
        _ path: String, _ logLimits: LogLimits = limits(), watchedMax: Int = 1000, isOn: Bool = true
    ) throws -> NotificationStore {
        var options = StoreOptions(path: path, durability: .disk, limits: logLimits)
        var outbox = OutboxOptions()
        outbox.watchesAlerts = isOn
        outbox.watchedMax = watchedMax
        options.outbox = outbox
        return try NotificationStore(options, newEpoch: epochA, nowMilliseconds: start)
    }

    /// Whose channel `alerts.NAME.…` is, unless the name begins with `team`.
    private static func owner(_ channel: ChannelName) -> FieldText? {
        let tokens = channel.string.split(separator: ".")
        return tokens.count > 1 && tokens[0] == "alerts" && !tokens[1].hasPrefix("team") ? FieldText(String(tokens[1])) : nil
    }

    /// Everything that is to be told by then, as `channel sequence user`.
    private static func told(_ store: NotificationStore, through: Int64, now: Int64? = nil) throws -> [String] {
        var told: [String] = []
        var calls = 0
        while true {
            let hasMore = try store.tellUnread(
                throughMilliseconds: through, nowMilliseconds: now ?? through, owner: owner
            ) { alert in
                told.append("\(alert.entry.publication.channel) \(alert.entry.sequence) \(alert.user)")
                return OutboxEvent(
                    message: told.last!, type: "unread", endpoints: ["x"], timeMilliseconds: start, body: alert.entry.publication.data)
            }
            calls += 1
            #expect(calls < 1000)
            if !hasMore { return told }
        }
    }

    private static func receipt(_ user: String, _ channel: ChannelID, _ ranges: ClosedRange<UInt64>..., isDismissed: Bool = false)
        -> ReceiptRecord
    {
        let set = SequenceSet(ranges)
        return ReceiptRecord(
            user: text(user), channel: channel,
            receipt: isDismissed ? Receipt(read: SequenceSet(), dismissed: set) : Receipt(read: set))
    }

    @Test("who has not read an alert in time is told of, once, and nobody else")
    func simple() throws {
        let store = try Self.open(":memory:")
        var model = LogModel()
        let (anna, team, plain) = (model.channel("alerts.anna"), model.channel("alerts.team"), model.channel("news.a"))
        model.add(anna)
        model.add(team)
        model.add(plain)
        model.add(team)
        var commit = model.commit(last: 4)
        // Otto and eve have read something on the team's channel before.
        commit.receipts = [Self.receipt("otto", team, 1...1), Self.receipt("eve", team, 1...2), Self.receipt("max", plain, 1...1)]
        try store.commit(commit)
        #expect(store.outboxFigures.watched == 3)
        #expect(try Self.told(store, through: start - 1) == [])
        #expect(try Self.told(store, through: start) == ["alerts.anna 1 anna", "alerts.team 2 otto"])
        #expect(try Self.told(store, through: start + 100_000) == [])
        #expect(store.outboxFigures.watched == 0 && store.outboxFigures.waiting == ["unread": 2])
        let due = try store.dueOutbox("x", nowMilliseconds: start, limit: 10).rows
        #expect(due.map(\.message) == ["alerts.anna 1 anna", "alerts.team 2 otto"] && due[0].body == model.entries[0].publication.data)
    }

    @Test("one that was read, dismissed, replaced or has expired meanwhile is not told of, nor one that is not kept any more")
    func over() throws {
        let store = try Self.open(":memory:", limits(countMax: 6))
        var model = LogModel()
        let channel = model.channel("alerts.anna.a")
        model.add(channel)  // 1: dropped by the count
        model.add(channel)  // 2: read
        model.add(channel)  // 3: dismissed
        model.add(channel) { $0.key = text("k") }  // 4: replaced
        model.add(channel) { $0.ttlSeconds = 60 }  // 5: expires
        model.add(channel) {  // 6: replaces
            $0.key = text("k")
            $0.replaces = text("k")
        }
        model.add(channel)  // 7
        try store.commit(model.commit(last: 7))
        var acknowledged = LogCommit()
        acknowledged.receipts = [
            ReceiptRecord(
                user: text("anna"), channel: channel, receipt: Receipt(read: SequenceSet([2...2]), dismissed: SequenceSet([3...3])))
        ]
        try store.commit(acknowledged)
        #expect(try Self.told(store, through: start, now: start + 60_000) == ["alerts.anna.a 6 anna", "alerts.anna.a 7 anna"])
        #expect(store.outboxFigures.watched == 0)
    }

    @Test("a restart forgets nothing and tells nothing twice")
    func restart() throws {
        let folder = TemporaryFolder()
        var store = try Self.open(folder.log)
        var model = LogModel()
        let channel = model.channel("alerts.anna")
        for _ in 0..<3 {
            model.add(channel)
            try store.commit(model.commit(last: 1))
            model.time += 1000
        }
        store.close(isOrderly: false)
        store = try Self.open(folder.log)
        #expect(store.outboxFigures.watched == 3)
        #expect(try Self.told(store, through: start) == ["alerts.anna 1 anna"])
        store.close(isOrderly: false)
        store = try Self.open(folder.log)
        #expect(try Self.told(store, through: start + 1000) == ["alerts.anna 2 anna"])
        #expect(store.outboxFigures.waiting == ["unread": 2] && store.outboxFigures.watched == 1)
        store.close(isOrderly: true)
        #expect(try StoreTools.check(folder.log).problems == [])

        // Turned off and on again: what was watched is not told of, what comes is.
        store = try Self.open(folder.log, isOn: false)
        model.add(channel)
        try store.commit(model.commit(last: 1))
        #expect(store.outboxFigures.watched == 0)
        store.close(isOrderly: true)
        #expect(try number(folder.log, "SELECT count(*) FROM sqlite_master WHERE name = 'receipt_channel'") == 0)
        store = try Self.open(folder.log)
        model.add(channel)
        try store.commit(model.commit(last: 1))
        #expect(try Self.told(store, through: start + 100_000) == ["alerts.anna 5 anna"])
        store.close(isOrderly: true)
    }

    @Test("a channel of many readers is told of in pieces, each reader once, across restarts")
    func many() throws {
        let folder = TemporaryFolder()
        var store = try Self.open(folder.log)
        var model = LogModel()
        let channel = model.channel("alerts.team")
        for _ in 0..<3 { model.add(channel) }
        var commit = model.commit(last: 3)
        commit.receipts = (0..<700).map { Self.receipt("user-\($0) ü", channel, 1...1) }
        try store.commit(commit)
        var told: [String] = []
        var calls = 0
        while true {
            let before = told.count
            let hasMore = try store.tellUnread(throughMilliseconds: start, nowMilliseconds: start, owner: Self.owner) { alert in
                told.append("\(alert.entry.sequence) \(alert.user)")
                return nil
            }
            calls += 1
            #expect(told.count - before <= 256)
            if !hasMore { break }
            if calls % 2 == 0 {
                store.close(isOrderly: false)
                store = try Self.open(folder.log)
            }
        }
        #expect(calls >= 8)
        #expect(told.count == 1400 && Set(told).count == 1400)
        store.close(isOrderly: true)
    }

    @Test("alerts that are watched have a bound, and the others are counted")
    func bound() throws {
        let store = try Self.open(":memory:", watchedMax: 3)
        var model = LogModel()
        let channel = model.channel("alerts.anna")
        for _ in 0..<5 { model.add(channel) }
        try store.commit(model.commit(last: 5))
        #expect(store.outboxFigures.watched == 3 && store.outboxFigures.unwatched == 2)
        #expect(try Self.told(store, through: start).count == 3)
        model.add(channel)
        try store.commit(model.commit(last: 1))
        #expect(store.outboxFigures.watched == 1)
    }

    @Test("a row that was changed on the disk is passed over")
    func damage() throws {
        let folder = TemporaryFolder()
        var store = try Self.open(folder.log)
        var model = LogModel()
        let channel = model.channel("alerts.anna")
        for _ in 0..<3 { model.add(channel) }
        try store.commit(model.commit(last: 3))
        store.close(isOrderly: true)
        try sql(folder.log, "UPDATE watch SET sequence = 3 WHERE sequence = 2")
        store = try Self.open(folder.log)
        #expect(try Self.told(store, through: start) == ["alerts.anna 1 anna", "alerts.anna 3 anna"])
        #expect(store.outboxFigures.watched == 0)
        store.close(isOrderly: true)
    }

    @Test("an alert that is damaged is counted, and the others are told of")
    func damagedAlert() throws {
        let folder = TemporaryFolder()
        var store = try Self.open(folder.log)
        var model = LogModel()
        let channel = model.channel("alerts.anna")
        for _ in 0..<3 { model.add(channel) }
        try store.commit(model.commit(last: 3))
        store.close(isOrderly: true)
        try sql(folder.log, "UPDATE alert SET expires = expires - 1 WHERE sequence = 2")
        store = try Self.open(folder.log)
        #expect(try Self.told(store, through: start) == ["alerts.anna 1 anna", "alerts.anna 3 anna"])
        #expect(store.outboxFigures.watched == 0 && store.outboxFigures.unwatched == 1)
        store.close(isOrderly: true)
    }

    @Test("what is told of is what the rules say", arguments: 0..<6 as Range<UInt64>)
    func model(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let folder = TemporaryFolder()
        var model = LogModel()
        let channels = ["alerts.anna", "alerts.team", "news.c", "alerts.team.b"].map { model.channel($0) }
        let users = ["anna", "otto", "eve"]
        var store = try Self.open(folder.log)
        var receipts: [ChannelID: [String: Receipt]] = [:]
        var told: Set<String> = []
        var wanted: Set<String> = []
        var looked: Set<UInt64> = []
        for _ in 0..<60 {
            let count = random.number(1...4)
            for _ in 0..<count { model.addRandom(channels.randomElement(using: &random)!, &random) }
            var commit = model.commit(last: count)
            let channel = channels.randomElement(using: &random)!
            if random.chance(60), model.sequences[Int(channel)] > 0 {
                let user = users.randomElement(using: &random)!
                let last = Int(model.sequences[Int(channel)])
                let lower = random.number(1...last)
                var receipt = receipts[channel]?[user] ?? Receipt()
                receipt.read.insert(UInt64(lower)...UInt64(min(last, lower + random.number(0...4))))
                receipts[channel, default: [:]][user] = receipt
                commit.receipts = [ReceiptRecord(user: text(user), channel: channel, receipt: receipt)]
            }
            try store.commit(commit)
            guard random.chance(30) else { continue }
            if random.chance(30) {
                store.close(isOrderly: false)
                store = try Self.open(folder.log)
            }
            let (through, now) = (model.time - Int64(random.number(0...100)), model.time + Int64(random.number(0...50_000)))
            let found = try Self.told(store, through: through, now: now)
            #expect(told.isDisjoint(with: found) && Set(found).count == found.count)
            told.formUnion(found)
            for entry in model.entries where entry.timeMilliseconds <= through && looked.insert(entry.offset).inserted {
                guard entry.publication.kind == .notification, entry.publication.channel.feed == "alerts", entry.expiresMilliseconds > now
                else { continue }
                let isReplaced = model.entries(of: entry.channel).contains {
                    $0.sequence > entry.sequence && $0.publication.kind == .notification && $0.publication.replaces != nil
                        && $0.publication.replaces == entry.publication.key
                }
                if isReplaced { continue }
                var readers = Set(receipts[entry.channel].map { Array($0.keys) } ?? [])
                if let owner = Self.owner(entry.publication.channel) { readers.insert(owner.string) }
                for user in readers where receipts[entry.channel]?[user]?.read.contains(entry.sequence) != true {
                    wanted.insert("\(entry.publication.channel) \(entry.sequence) \(user)")
                }
            }
            #expect(told == wanted)
        }
        #expect(!told.isEmpty)
        store.close(isOrderly: true)
        #expect(try StoreTools.check(folder.log).problems == [])
    }
}

import NotificationCore
import NotificationStore
import TestSupport
import Testing

@Suite struct AlertTests {
    private let ann = text("ann")

    @Test("unread, inbox, counts and digests are as a plain array has them", arguments: 0..<9 as Range<UInt64>)
    func model(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let folder = TemporaryFolder()
        var model = LogModel()
        let channels = ["alerts.a", "alerts.b", "plain.c", "alerts.d"].map { model.channel($0) }
        let countMax = seed % 2 == 0 ? 1000 : 30
        let isInMemory = seed > 5
        let store = try open(isInMemory ? ":memory:" : folder.log, limits(countMax: countMax))
        var receipts: [ChannelID: Receipt] = [:]
        for _ in 0..<50 {
            let count = random.number(1...6)
            for _ in 0..<count { model.addRandom(channels.randomElement(using: &random)!, &random) }
            var commit = model.commit(last: count)
            if random.chance(60), let channel = channels.randomElement(using: &random), model.sequences[Int(channel)] > 0 {
                let last = Int(model.sequences[Int(channel)])
                let lower = random.number(1...last)
                let range = UInt64(lower)...UInt64(min(last, lower + random.number(0...4)))
                receipts[channel, default: Receipt()].read.insert(range)
                if random.chance(40) { receipts[channel]?.dismissed.insert(range) }
                commit.receipts = [ReceiptRecord(user: ann, channel: channel, receipt: receipts[channel]!)]
            }
            try store.commit(commit)
            if random.chance(20) { _ = try store.maintain(nowMilliseconds: start) }
            guard random.chance(40) else { continue }

            let now = start + Int64(random.number(0...100_000))
            for channel in channels {
                // What was read of messages that are all gone may be forgotten.
                let (found, known) = (try store.receipt(user: ann, channel: channel), receipts[channel] ?? Receipt())
                let newest = max(known.read.ranges.last?.upperBound ?? 0, known.dismissed.ranges.last?.upperBound ?? 0)
                let isGone = Int(newest) <= Int(model.sequences[Int(channel)]) - countMax
                #expect(found == known || (isGone && found == Receipt()))
            }
            // By the rules, from the messages alone.
            let standing = model.entries.filter { entry in
                let all = model.entries(of: entry.channel)
                return entry.publication.kind == .notification && model.names[Int(entry.channel)].feed == "alerts"
                    && entry.expiresMilliseconds > now && Int(entry.sequence) > all.count - countMax
                    && !all.contains {
                        $0.sequence > entry.sequence && $0.publication.kind == .notification && $0.publication.replaces != nil
                            && $0.publication.replaces == entry.publication.key
                    }
            }
            func isRead(_ entry: LogEntry) -> Bool { receipts[entry.channel]?.read.contains(entry.sequence) ?? false }
            func isDismissed(_ entry: LogEntry) -> Bool { receipts[entry.channel]?.dismissed.contains(entry.sequence) ?? false }
            let unread = standing.filter { !isRead($0) && !isDismissed($0) }
            let inbox = standing.filter { !isDismissed($0) }

            let after = UInt64(random.number(0...model.entries.count))
            let found = try readAll(
                store, channels, after: after, through: model.head, notificationsMax: random.number(1...9), subject: .unread(user: ann),
                at: now)
            #expect(found.objects == objects(unread.filter { $0.offset > after }))
            #expect(try store.unreadCount(user: ann, channels: channels, nowMilliseconds: now) == unread.count)
            #expect(
                try store.unreadCount(user: text("bob"), channels: channels, nowMilliseconds: now) == standing.count)

            for (unreadOnly, all) in [(true, unread), (false, inbox)] {
                var before = UInt64.max
                var items: [InboxItem] = []
                while true {
                    let page = try store.inbox(
                        user: ann, channels: channels, before: before, unreadOnly: unreadOnly, limit: 7, nowMilliseconds: now)
                    guard let last = page.last else { break }
                    items += page
                    before = last.notification.offset
                }
                #expect(items.map(\.notification.object) == objects(all.reversed()))
                #expect(items.map(\.isRead) == all.reversed().map(isRead))
            }

            let channel = channels.randomElement(using: &random)!
            let through = UInt64(random.number(Int(after)...model.entries.count))
            let answer = try store.answer(LogQuery(.digest, channels: [channel], after: after, through: through), nowMilliseconds: now)
            let all = model.entries(of: channel)
            let range = all.suffix(countMax).filter { $0.offset > after && $0.offset <= through }
            #expect((answer.digest == nil) == range.isEmpty)
            guard let digest = answer.digest else { continue }
            let counted =
                model.names[Int(channel)].feed == "alerts"
                ? standing.filter { entry in range.contains { $0.offset == entry.offset } }
                : range.filter { entry in
                    entry.expiresMilliseconds > now
                        && !range.contains {
                            $0.sequence > entry.sequence && $0.publication.replaces != nil
                                && $0.publication.replaces == entry.publication.key
                        }
                }
            #expect(digest.from == range.first?.sequence && digest.to == range.last?.sequence)
            #expect(digest.count == counted.count)
            #expect(digest.byPriority == Dictionary(grouping: counted, by: \.publication.priority).mapValues(\.count))
            let newest = Dictionary(grouping: counted, by: \.publication.key).values.compactMap(\.last).sorted { $0.offset < $1.offset }
            #expect(digest.newest.map(\.object) == objects(newest))
        }
        store.close(isOrderly: true)
        if !isInMemory { #expect(try StoreTools.check(folder.log).problems == []) }
    }

    @Test("a digest tells a hundred keys apart, the newest ones")
    func manyKeys() throws {
        for feed in ["alerts.a", "plain.a"] {
            var model = LogModel()
            let channel = model.channel(feed)
            for index in 0..<150 { model.add(channel) { $0.key = text("k\(index)") } }
            let store = try open(":memory:")
            try store.commit(model.commit(last: 150))
            let digest = try store.answer(LogQuery(.digest, channels: [channel], after: 0, through: 150), nowMilliseconds: start).digest
            #expect(digest?.count == 150)
            #expect(digest?.newest.map(\.sequence) == Array(51...150))
        }
    }

    @Test("many replacements of one key, and a very long list of what was read")
    func heavy() throws {
        var model = LogModel()
        let channel = model.channel("alerts.a")
        let store = try open(":memory:")
        for index in 0..<3000 {
            model.add(channel) {
                if index % 2 == 0 {
                    $0.key = text("door")
                    $0.replaces = text("door")
                }
            }
        }
        var commit = model.commit(last: 3000)
        var odd = SequenceSet()
        for sequence in stride(from: 1 as UInt64, to: 2700, by: 3) { odd.insert(sequence...sequence) }
        commit.receipts = [ReceiptRecord(user: ann, channel: channel, receipt: Receipt(read: odd))]
        try store.commit(commit)
        let expected = model.entries.filter { entry in
            let isStanding = entry.publication.key == nil || entry.sequence == 2999
            return isStanding && !odd.contains(entry.sequence)
        }
        #expect(try store.unreadCount(user: ann, channels: [channel], nowMilliseconds: start) == expected.count)
        #expect(try readAll(store, [channel], through: 3000, subject: .unread(user: ann)).objects == objects(expected))
    }
}

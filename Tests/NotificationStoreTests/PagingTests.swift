import NotificationCore
import NotificationStore
import TestSupport
import Testing

@Suite struct PagingTests {
    @Test("all fields come back, from the file and from memory", arguments: [true, false])
    func roundTrip(isInMemory: Bool) throws {
        let folder = TemporaryFolder()
        var random = SeededRandom(seed: 1)
        var model = LogModel()
        let channels = ["alerts.a", "scores.b", "plain.c"].map { model.channel($0) }
        let store = try open(isInMemory ? ":memory:" : folder.log)
        for _ in 0..<40 {
            let count = random.number(1...30)
            for _ in 0..<count { model.addRandom(channels.randomElement(using: &random)!, &random) }
            try store.commit(model.commit(last: count))
        }
        #expect(try readAll(store, channels, through: model.head).objects == objects(model.entries))
        for channel in channels {
            #expect(try store.entries(of: channel, afterSequence: 0, limit: 10_000) == model.entries(of: channel))
            #expect(
                try store.entries(of: channel, afterSequence: 5, limit: 7) == Array(model.entries(of: channel)[5..<12]))
        }
        store.close(isOrderly: true)
        guard !isInMemory else { return }
        let again = try open(folder.log)
        #expect(try readAll(again, channels, through: model.head).objects == objects(model.entries))
        let contents = try again.contents()
        #expect(contents.epoch == epochA)
        #expect(contents.channels.map(\.name) == model.names)
        #expect(contents.channels.map(\.lastSequence) == model.sequences)
        #expect(contents.head == model.head)
        again.close(isOrderly: true)
    }

    @Test("a commit makes one row per channel, and more only when it is large")
    func grouping() throws {
        let folder = TemporaryFolder()
        var model = LogModel()
        let channels = (0..<4).map { model.channel("plain.c\($0)") }
        let store = try open(folder.log)
        for index in 0..<40 { model.add(channels[index % 4]) }
        try store.commit(model.commit(last: 40))
        for _ in 0..<10 { model.add(channels[0]) { $0.data = [UInt8](repeating: UInt8(ascii: "1"), count: 5000) } }
        model.add(channels[0]) { $0.data = [UInt8](repeating: UInt8(ascii: "1"), count: 200_000) }
        try store.commit(model.commit(last: 11))
        #expect(try readAll(store, channels, through: model.head).objects == objects(model.entries))
        store.close(isOrderly: true)
        #expect(try number(folder.log, "SELECT count(*) FROM run WHERE id >> 40 > 0") == 3)
        // Three of 5000 bytes fit in 16 KiB.
        #expect(try number(folder.log, "SELECT count(*) FROM run WHERE id >> 40 = 0") == 1 + 4 + 1)
    }

    @Test("paging from every place in any size finds what a plain array has", arguments: 0..<8 as Range<UInt64>)
    func model(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let folder = TemporaryFolder()
        let countMax = seed % 2 == 0 ? 1_000_000 : random.number(5...60)
        let store = try open(
            seed == 4 || seed > 5 ? ":memory:" : folder.log, limits(countMax: countMax), cacheBytesMax: seed == 2 ? 0 : 1 << 18)
        var model = LogModel()
        let channels = (0..<random.number(1...5)).map { model.channel("plain.c\($0)") }
        for _ in 0..<60 {
            let count = random.number(1...12)
            for _ in 0..<count { model.addRandom(channels.randomElement(using: &random)!, &random) }
            try store.commit(model.commit(last: count))
            if random.chance(20) { _ = try store.maintain(nowMilliseconds: start) }
            if random.chance(30) { try check(store, model, channels, countMax, &random) }
        }
        while try store.maintain(nowMilliseconds: start) {}
        for after in stride(from: 0, through: model.head, by: 3) { try check(store, model, channels, countMax, &random, after: after) }
        store.close(isOrderly: true)
    }

    private func check(
        _ store: NotificationStore, _ model: LogModel, _ channels: [ChannelID], _ countMax: Int, _ random: inout SeededRandom,
        after: UInt64? = nil
    ) throws {
        let after = after ?? UInt64(random.number(0...model.entries.count))
        let through = random.chance(70) ? model.head : UInt64(random.number(Int(after)...model.entries.count))
        let some = channels.filter { _ in random.chance(70) }
        let (found, trimmed) = try readAll(
            store, some, after: after, through: through, notificationsMax: random.number(1...40), bytesMax: random.number(1...8000))
        var expected: [LogEntry] = []
        var marks: [TrimMark] = []
        for channel in some {
            let all = model.entries(of: channel)
            let hidden = all.dropLast(countMax)
            if let last = hidden.last, last.offset > after {
                marks.append(TrimMark(channel: channel, sequence: last.sequence, offset: last.offset))
            }
            expected += all.suffix(countMax).filter { $0.offset > after && $0.offset <= through }
        }
        expected.sort { $0.offset < $1.offset }
        #expect(found == objects(expected))
        // Each is told on the first page; on later ones only as far as it is still news.
        if after < through {
            #expect(marks.allSatisfy(trimmed.contains))
            #expect(trimmed.allSatisfy(marks.contains))
        }

        let sequences = try store.answer(
            LogQuery(.sequences, channels: channels, after: after, through: through), nowMilliseconds: start
        ).sequences
        for (channel, sequence) in zip(channels, sequences) {
            let all = model.entries(of: channel)
            let exact = UInt64(all.count { $0.offset <= after })
            let hidden = UInt64(max(0, all.count - countMax))
            #expect(sequence == exact || (exact < hidden && sequence <= hidden))
        }
        let channel = channels.randomElement(using: &random)!
        let all = model.entries(of: channel)
        let from = random.number(0...all.count + 2)
        let limit = random.number(1...20)
        let history = try store.history(channel: channel, afterSequence: UInt64(from), limit: limit, bytesMax: 1 << 20)
        let kept = all.suffix(countMax).filter { $0.sequence > UInt64(from) }.prefix(limit)
        #expect(history.map(\.object) == objects(kept))
        let info = try store.info(channel: channel)
        #expect(info.lastSequence == UInt64(all.count))
        #expect(info.count == min(countMax, all.count))
        #expect(info.firstSequence == UInt64(all.count - info.count + 1))
        #expect(info.lastOffset == all.last?.offset ?? 0)
        #expect(info.newestMilliseconds == all.last?.timeMilliseconds)
        #expect((info.bytes > 0) == (info.count > 0))
    }

    @Test("bytes end a page, but never before the first message")
    func pageBytes() throws {
        var model = LogModel()
        let channel = model.channel("plain.a")
        let store = try open(":memory:")
        for _ in 0..<10 { model.add(channel) { $0.data = [UInt8](repeating: UInt8(ascii: "1"), count: 1000) } }
        try store.commit(model.commit(last: 10))
        func page(_ bytes: Int) throws -> LogAnswer {
            try store.answer(
                LogQuery(.messages, channels: [channel], after: 2, through: 10, bytesMax: bytes), nowMilliseconds: start)
        }
        #expect(try page(1).notifications.map(\.sequence) == [3])
        #expect(try page(1).through == 3)
        #expect(try page(2500).notifications.map(\.sequence) == [3, 4])
        #expect(try page(1 << 20).notifications.count == 8)
        #expect(try page(1 << 20).through == 10)
    }

    @Test("channels that do not exist are empty")
    func unknown() throws {
        let store = try open(":memory:")
        let answer = try store.answer(LogQuery(.messages, channels: [7, -1], after: 0, through: 5), nowMilliseconds: start)
        #expect(answer.notifications.isEmpty && answer.through == 5 && answer.trimmed.isEmpty)
        #expect(try store.answer(LogQuery(.sequences, channels: [7], after: 0, through: 5), nowMilliseconds: start).sequences == [0])
        #expect(try store.history(channel: 7, afterSequence: 0, limit: 5, bytesMax: 100).isEmpty)
        #expect(try store.info(channel: 7).lastSequence == 0)
    }
}

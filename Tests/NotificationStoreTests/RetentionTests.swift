import NotificationCore
import NotificationStore
import TestSupport
import Testing

@Suite struct RetentionTests {
    private func fill(_ store: NotificationStore, _ model: inout LogModel, _ channel: ChannelID, commits: Int, each: Int = 5) throws {
        for _ in 0..<commits {
            for _ in 0..<each { model.add(channel) { $0.data = [UInt8](repeating: UInt8(ascii: "7"), count: 300) } }
            try store.commit(model.commit(last: each))
        }
    }

    @Test("the count holds at once for readers, and on the disk after maintenance")
    func count() throws {
        let folder = TemporaryFolder()
        var model = LogModel()
        let channel = model.channel("plain.a")
        let store = try open(folder.log, limits(countMax: 12))
        try fill(store, &model, channel, commits: 20)
        let before = try store.answer(LogQuery(.messages, channels: [channel], after: 3, through: 100), nowMilliseconds: start)
        #expect(before.notifications.map(\.sequence) == Array(89...100))
        #expect(before.trimmed == [TrimMark(channel: channel, sequence: 88, offset: 88)])
        #expect(try store.entries(of: channel, afterSequence: 0, limit: 1000).count == 100)
        while try store.maintain(nowMilliseconds: start) {}
        // Whole runs of five.
        #expect(try store.entries(of: channel, afterSequence: 0, limit: 1000).map(\.sequence) == Array(86...100))
        let after = try store.answer(LogQuery(.messages, channels: [channel], after: 3, through: 100), nowMilliseconds: start)
        #expect(after.notifications.map(\.sequence) == before.notifications.map(\.sequence))
        #expect(after.trimmed == before.trimmed)
        store.close(isOrderly: true)
        #expect(try number(folder.log, "SELECT count(*) FROM run") == 3)
        let again = try open(folder.log, limits(countMax: 12))
        #expect(try again.contents().channels[0].trimmedSequence == 85)
        try fill(again, &model, channel, commits: 1)
        #expect(try again.info(channel: channel).firstSequence == 94)
        again.close(isOrderly: true)
    }

    @Test("what is too old goes, all of it if need be, and numbers go on")
    func age() throws {
        let folder = TemporaryFolder()
        var model = LogModel()
        let channel = model.channel("plain.a")
        let store = try open(folder.log, limits(ageSecondsMax: 60))
        try fill(store, &model, channel, commits: 3)
        model.time += 50_000
        try fill(store, &model, channel, commits: 2)
        while try store.maintain(nowMilliseconds: start + 61_000) {}
        #expect(try store.info(channel: channel).firstSequence == 16)
        while try store.maintain(nowMilliseconds: start + 200_000) {}
        let info = try store.info(channel: channel)
        #expect(info.firstSequence == 26 && info.lastSequence == 25 && info.count == 0 && info.bytes == 0)
        let answer = try store.answer(LogQuery(.messages, channels: [channel], after: 1, through: 25), nowMilliseconds: start)
        #expect(answer.notifications.isEmpty && answer.through == 25)
        #expect(answer.trimmed == [TrimMark(channel: channel, sequence: 25, offset: 25)])
        store.close(isOrderly: false)
        let again = try open(folder.log, limits(ageSecondsMax: 60))
        #expect(try again.contents().channels[0].lastSequence == 25)
        #expect(try again.contents().head == 25)
        try fill(again, &model, channel, commits: 1)
        #expect(try readAll(again, [channel], after: 25, through: 30).objects == objects(model.entries.suffix(5)))
        again.close(isOrderly: true)
    }

    @Test("bytes hold after maintenance, and the file shrinks")
    func bytes() throws {
        let folder = TemporaryFolder()
        var model = LogModel()
        let channel = model.channel("plain.a")
        var store = try open(folder.log, limits(bytesMax: 50_000))
        for _ in 0..<30 { try fill(store, &model, channel, commits: 1, each: 400) }
        store.close(isOrderly: true)
        let full = try #require(Files.read(folder.log)).count
        store = try open(folder.log, limits(bytesMax: 50_000))
        var calls = 0
        while try store.maintain(nowMilliseconds: start) { calls += 1 }
        #expect(calls > 0 && calls < 1000)
        let info = try store.info(channel: channel)
        // A run is not taken apart, and the newest one stays.
        #expect(info.bytes <= 64 << 10 && info.count > 0)
        store.close(isOrderly: true)
        #expect(try #require(Files.read(folder.log)).count < full / 4)
    }

    @Test("bytes hold also where messages make a state, since the state is stored in time", arguments: ["dashboards.d", "scores.s"])
    func bytesOfStates(_ name: String) throws {
        let folder = TemporaryFolder()
        var limits = limits(bytesMax: 400_000)
        limits.feeds.named["dashboards"]!.retention.bytesMax = 400_000
        limits.feeds.named["scores"]!.retention.bytesMax = 400_000
        let options = StoreOptions(path: folder.log, durability: .memory, limits: limits)
        var opened = try OpenedLog(options, newEpoch: epochA, nowMilliseconds: start)
        for number in 0..<100 {
            let data = Array("{\"n\":\(number),\"x\":\"\(String(repeating: "x", count: 20_000))\"}".utf8)
            _ = opened.writer.append(AppendRequest([Publication(channel: ChannelName(name)!, data: data)]), nowMilliseconds: start)
            try opened.store.commit(opened.writer.takeCommit())
        }
        while try opened.store.maintain(nowMilliseconds: start) {}
        #expect(try opened.store.info(channel: 0).bytes < 600_000)
        #expect(try opened.store.info(channel: 0).lastSequence == 100)
        opened.store.close(isOrderly: true)
        opened = try OpenedLog(options, newEpoch: epochB, nowMilliseconds: start)
        #expect(opened.preload.channels[0].lastSequence == 100)
        opened.store.close(isOrderly: true)
    }

    @Test("a log in memory drops message by message, by count, age and bytes, and gives the memory back")
    func inMemory() throws {
        var model = LogModel()
        let (channel, alerts, other) = (model.channel("plain.a"), model.channel("alerts.b"), model.channel("plain.c"))
        let store = try open(":memory:", limits(countMax: 12, bytesMax: 30_000, ageSecondsMax: 60))
        func maintain(_ now: Int64) throws { while try store.maintain(nowMilliseconds: now) {} }
        try maintain(start)
        let empty = store.statistics.fileBytes
        for each in [channel, alerts] { try fill(store, &model, each, commits: 4) }
        let filled = store.statistics.fileBytes
        try maintain(start)
        for each in [channel, alerts] {
            #expect(try store.entries(of: each, afterSequence: 0, limit: 100).map(\.sequence) == Array(9...20))
            #expect(try store.history(channel: each, afterSequence: 0, limit: 100, bytesMax: 1 << 20).map(\.sequence) == Array(9...20))
            #expect(try store.info(channel: each).count == 12)
        }
        #expect(try store.unreadCount(user: text("ann"), channels: [alerts], nowMilliseconds: start) == 12)
        #expect(store.statistics.fileBytes > empty + 24 * 300 && filled <= store.statistics.fileBytes)
        // The newest message stays, whatever its size.
        for _ in 0..<3 { model.add(other) { $0.data = [UInt8](repeating: UInt8(ascii: "7"), count: 20_000) } }
        try store.commit(model.commit(last: 3))
        try maintain(start)
        #expect(try store.entries(of: other, afterSequence: 0, limit: 100).map(\.sequence) == [3])
        model.time += 50_000
        try fill(store, &model, channel, commits: 1, each: 2)
        try maintain(start + 61_000)
        #expect(try store.entries(of: channel, afterSequence: 0, limit: 100).map(\.sequence) == [21, 22])
        #expect(try store.unreadCount(user: text("ann"), channels: [alerts], nowMilliseconds: start) == 0)
        try maintain(start + 200_000)
        let answer = try store.answer(
            LogQuery(.messages, channels: [channel, other], after: 1, through: model.head), nowMilliseconds: start)
        #expect(answer.notifications.isEmpty && answer.trimmed.map(\.sequence) == [22, 3])
        #expect(store.statistics.fileBytes < empty + 100_000)
        store.close(isOrderly: true)
    }

    @Test("scores and dashboards lose nothing that is not in the stored state", arguments: ["scores.a", "dashboards.a"])
    func states(channelName: String) throws {
        let folder = TemporaryFolder()
        var model = LogModel()
        let channel = model.channel(channelName)
        let store = try open(folder.log, limits(countMax: 5))
        try fill(store, &model, channel, commits: 20)
        while try store.maintain(nowMilliseconds: start) {}
        #expect(try store.entries(of: channel, afterSequence: 0, limit: 1000).count == 100)
        var commit = LogCommit()
        commit.states = [StateRecord(channel: channel, sequence: 52, body: .document(Array(#"{"a":1}"#.utf8)))]
        try store.commit(commit)
        while try store.maintain(nowMilliseconds: start) {}
        #expect(try store.entries(of: channel, afterSequence: 0, limit: 1000).first?.sequence == 51)
        store.close(isOrderly: false)
        let again = try open(folder.log, limits(countMax: 5))
        while try again.maintain(nowMilliseconds: start) {}
        #expect(try again.contents().states == commit.states)
        #expect(try again.entries(of: channel, afterSequence: 52, limit: 1000).map(\.sequence) == Array(53...100))
        again.close(isOrderly: true)
    }

    @Test("states of both kinds come back")
    func stateBodies() throws {
        let folder = TemporaryFolder()
        var random = SeededRandom(seed: 3)
        var model = LogModel()
        let channels = [model.channel("scores.a"), model.channel("dashboards.b")]
        for _ in 0..<50 { model.addRandom(channels[1], &random) }
        model.add(channels[0])
        let store = try open(folder.log)
        var commit = model.commit(last: 51)
        commit.states = [
            StateRecord(channel: channels[0], sequence: 1, body: .document(Array(#"{"score":[1,2]}"#.utf8))),
            StateRecord(channel: channels[1], sequence: 50, body: .latest(model.entries.prefix(50).filter { $0.sequence % 7 == 1 })),
        ]
        try store.commit(commit)
        store.close(isOrderly: false)
        let again = try open(folder.log)
        #expect(try again.contents().states == commit.states)
        again.close(isOrderly: true)
    }

    @Test("rows of alerts and receipts go with their messages")
    func smallRows() throws {
        let folder = TemporaryFolder()
        var model = LogModel()
        let channels = [model.channel("alerts.a"), model.channel("alerts.b")]
        let store = try open(folder.log, limits(ageSecondsMax: 60))
        for channel in channels { try fill(store, &model, channel, commits: 4) }
        var commit = LogCommit()
        for user in 0..<1200 {
            commit.receipts.append(
                ReceiptRecord(user: text("u\(user)"), channel: channels[user % 2], receipt: Receipt(read: SequenceSet([1...20]))))
        }
        try store.commit(commit)
        model.time += 120_000
        try fill(store, &model, channels[1], commits: 1)
        commit = LogCommit()
        commit.receipts = [ReceiptRecord(user: text("u1"), channel: channels[1], receipt: Receipt(read: SequenceSet([1...20, 25...25])))]
        try store.commit(commit)
        for _ in 0..<10 { _ = try store.maintain(nowMilliseconds: start + 120_000) }
        #expect(try store.receipt(user: text("u1"), channel: channels[1]) == commit.receipts[0].receipt)
        #expect(try store.receipt(user: text("u2"), channel: channels[0]) == Receipt())
        store.close(isOrderly: true)
        #expect(try number(folder.log, "SELECT count(*) FROM receipt") == 1)
        #expect(try number(folder.log, "SELECT count(*) FROM alert") == 5)
    }
}

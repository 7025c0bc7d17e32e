import NotificationCore
import Testing

@testable import NotificationStore

@Suite struct AnswerTests {
    private func key(_ name: String, of publisher: String = "") -> IdempotencyKey {
        IdempotencyKey(FieldText(name)!, publisher: publisher)
    }

    private func options(_ path: String, _ change: (inout IdempotencyLimits) -> Void) -> StoreOptions {
        var options = StoreOptions(path: path, durability: .memory, limits: limits())
        change(&options.limits.idempotency)
        return options
    }

    private func store(_ store: NotificationStore, _ records: [IdempotencyRecord]) throws {
        var commit = LogCommit()
        commit.idempotency = records
        try store.commit(commit)
    }

    private func record(_ key: IdempotencyKey, _ number: UInt64, at time: Int64 = start) -> IdempotencyRecord {
        let places: [IdempotencyRecord.Place?] = [
            IdempotencyRecord.Place(channel: 3, sequence: number, offset: number), nil,
            IdempotencyRecord.Place(channel: .max, sequence: .max, offset: number + 1),
            IdempotencyRecord.Place(channel: 0, sequence: 1, offset: 1),
        ]
        return IdempotencyRecord(key: key, fingerprint: .max - number, places: places, timeMilliseconds: time)
    }

    @Test("an answer is found as it was stored, by its publisher alone, and after a restart", arguments: [false, true])
    func finding(isInMemory: Bool) throws {
        let folder = TemporaryFolder()
        let options = options(isInMemory ? ":memory:" : folder.log) { _ in }
        var opened = try NotificationStore(options, newEpoch: epochA, nowMilliseconds: start)
        let records = [
            record(key("a"), 1), record(key("a", of: "user ann"), 2), record(key("a", of: "key ann"), 3), record(key("b"), 1 << 60),
            IdempotencyRecord(key: key("c"), fingerprint: 0, places: [], timeMilliseconds: start),
        ]
        try store(opened, records)
        // The same key again, after its time.
        try store(opened, [record(key("b"), 7)])
        if !isInMemory {
            opened.close(isOrderly: false)
            opened = try NotificationStore(options, newEpoch: epochA, nowMilliseconds: start)
        }
        for record in records where record.key != key("b") { #expect(try opened.answer(to: record.key) == record) }
        #expect(try opened.answer(to: key("b")) == record(key("b"), 7))
        #expect(try opened.answer(to: key("b", of: "user ann")) == nil)
        #expect(try opened.answer(to: key("d")) == nil)
        opened.close(isOrderly: true)
    }

    @Test("answers go with time, number and bytes, the oldest first; those that go early are counted")
    func bounds() throws {
        let folder = TemporaryFolder()
        func fill(_ change: (inout IdempotencyLimits) -> Void) throws -> NotificationStore {
            let opened = try NotificationStore(options(folder.log, change), newEpoch: epochA, nowMilliseconds: start)
            for number in 0..<2000 as Range<UInt64> {
                try store(opened, [record(key("key \(number)"), number, at: start + Int64(number) * 1000)])
            }
            return opened
        }
        func first(_ opened: NotificationStore) throws -> Int? {
            try (0..<2000).first { try opened.answer(to: key("key \($0)")) != nil }
        }
        var opened = try fill { $0.countMax = 300 }
        while try opened.maintain(nowMilliseconds: start + 2_000_000) {}
        #expect(try first(opened) == 1700)
        #expect(opened.statistics.idempotencyKeys == 300)
        #expect(opened.statistics.idempotencyForgotten == 1700)
        opened.close(isOrderly: true)

        opened = try fill { $0.bytesMax = 20_000 }
        while try opened.maintain(nowMilliseconds: start + 2_000_000) {}
        let statistics = opened.statistics
        #expect(try first(opened) == 2000 - statistics.idempotencyKeys)
        #expect(statistics.idempotencyBytes < 20_200 && statistics.idempotencyBytes > 19_800)
        #expect((100...250).contains(statistics.idempotencyKeys))
        opened.close(isOrderly: true)

        opened = try fill { $0.ageSecondsMax = 100 }
        while try opened.maintain(nowMilliseconds: start + 2_000_000) {}
        #expect(try first(opened) == 1900)
        #expect(opened.statistics.idempotencyForgotten == 0)
        while try opened.maintain(nowMilliseconds: start + 9_000_000) {}
        #expect(opened.statistics.idempotencyKeys == 0 && opened.statistics.idempotencyBytes == 0)
        opened.close(isOrderly: true)
        #expect(try number(folder.log, "SELECT count(*) FROM answer") == 0)
    }

    @Test("a batch for a thousand channels costs some bytes a message, whatever they are called")
    func size() {
        let places = (0..<1000 as Range<UInt64>).map {
            IdempotencyRecord.Place(channel: ChannelID(90_000 + $0), sequence: 200, offset: 1_000_000 + $0)
        }
        let record = IdempotencyRecord(key: key("k"), fingerprint: 1, places: places, timeMilliseconds: start)
        #expect(RecordCodec.encode(record).count < 7000)
    }

    @Test("what was changed in the file is noticed")
    func damage() throws {
        let folder = TemporaryFolder()
        for change in ["publisher = 'x'", "key = 'x'", "fingerprint = 1", "time = 1", "total = 1", "body = x'00'", "body = zeroblob(9)"] {
            let opened = try NotificationStore(options(folder.log) { _ in }, newEpoch: epochA, nowMilliseconds: start)
            try store(opened, [record(key("a", of: "user ann"), 1)])
            opened.close(isOrderly: true)
            #expect(try StoreTools.check(folder.log).problems == [])
            try sql(folder.log, "UPDATE answer SET \(change)")
            #expect(try StoreTools.check(folder.log).problems.count == 1, "\(change)")
            Files.remove(folder.log)
        }
    }

    @Test("what an earlier version has answered is still known, for its time", arguments: EarlierLog.all)
    func earlier(_ log: EarlierLog) throws {
        let folder = TemporaryFolder()
        try log.make(folder.log)
        let first = Int64(try number(folder.log, "SELECT min(time) FROM idempotency"))
        let last = Int64(try number(folder.log, "SELECT max(time) FROM idempotency"))
        let options = options(folder.log) { $0.ageSecondsMax = 10 }
        let opened = try NotificationStore(options, newEpoch: epochA, nowMilliseconds: first)
        let texts = try opened.onWriter { database in
            let query = try Query(database, "SELECT key FROM idempotency")
            var texts: [String] = []
            while try query.step() { texts.append(try query.text(0)) }
            return texts
        }
        #expect(!texts.isEmpty)
        for text in texts {
            let found = try #require(try opened.answer(to: key(text, of: "user ann")))
            #expect(found.fingerprint == nil && !found.places.isEmpty)
            for place in found.places {
                guard let place else {
                    #expect(text == "part")
                    continue
                }
                #expect(try opened.info(channel: place.channel).lastSequence >= place.sequence)
            }
        }
        while try opened.maintain(nowMilliseconds: last + 10_001) {}
        #expect(try opened.answer(to: key(texts[0])) == nil)
        opened.close(isOrderly: true)
    }
}

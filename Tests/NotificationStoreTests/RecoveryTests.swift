import GRDB
import NotificationCore
import TestSupport
import Testing

@testable import NotificationStore

@Suite struct RecoveryTests {
    @Test("nothing that was committed is lost in a crash, at whatever moment", arguments: 0..<4 as Range<UInt64>)
    func crashes(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let (folder, copies) = (TemporaryFolder(), TemporaryFolder())
        let countMax = 40
        var model = LogModel()
        let channels = ["plain.a", "plain.b", "alerts.c"].map { model.channel($0) }
        var store = try open(folder.log, limits(countMax: countMax), durability: seed % 2 == 0 ? .disk : .memory)
        for _ in 0..<80 {
            let count = random.number(1...10)
            for _ in 0..<count { model.addRandom(channels.randomElement(using: &random)!, &random) }
            try store.commit(model.commit(last: count))
            if random.chance(30) { _ = try store.maintain(nowMilliseconds: start) }
            if random.chance(15) {
                Files.copyLog(folder.log, copies.log)
                try checkCopy(copies.log, model, channels, countMax)
            }
            if random.chance(5) {
                store.close(isOrderly: random.chance(50))
                store = try open(folder.log, limits(countMax: countMax), durability: seed % 2 == 0 ? .disk : .memory)
            }
        }
        store.close(isOrderly: false)
    }

    private func checkCopy(_ path: String, _ model: LogModel, _ channels: [ChannelID], _ countMax: Int) throws {
        let store = try open(path, limits(countMax: countMax))
        let expected = channels.flatMap { model.entries(of: $0).suffix(countMax) }.sorted { $0.offset < $1.offset }
        #expect(try readAll(store, channels, through: model.head).objects == objects(expected))
        #expect(try store.contents().channels.map(\.lastSequence) == model.sequences)
        store.close(isOrderly: false)
        #expect(try StoreTools.check(path).problems == [])
    }

    @Test("a log whose write-ahead log ends in the midst has all that is before")
    func tornEnd() throws {
        let (folder, copies) = (TemporaryFolder(), TemporaryFolder())
        var model = LogModel()
        let channel = model.channel("plain.a")
        let store = try open(folder.log)
        for _ in 0..<20 {
            model.add(channel)
            try store.commit(model.commit(last: 1))
        }
        let wal = try #require(Files.read(folder.log + "-wal"))
        var heads: Set<UInt64> = []
        for part in 0...40 {
            Files.copyLog(folder.log, copies.log)
            Files.write(copies.log + "-wal", Array(wal.prefix(wal.count * part / 40)))
            // Before its tables are in it, it is a new log.
            let copy = try open(copies.log)
            let head = try copy.contents().head
            heads.insert(head)
            #expect(try readAll(copy, [channel], through: head).objects == objects(model.entries.prefix(Int(head))))
            copy.close(isOrderly: false)
        }
        #expect(heads.contains(20) && heads.count > 10)
        store.close(isOrderly: true)
    }

    @Test("every opening begins an epoch, and the log knows how far those before got", arguments: Durability.allCases, [true, false])
    func epochs(durability: Durability, isOrderly: Bool) throws {
        let folder = TemporaryFolder()
        var model = LogModel()
        let channel = model.channel("plain.a")
        for _ in 0..<3 { model.add(channel) }
        let store = try open(folder.log, durability: durability, epoch: epochA)
        try store.commit(model.commit(last: 3))
        store.close(isOrderly: isOrderly)
        let again = try open(folder.log, epoch: epochB)
        let contents = try again.contents()
        #expect(contents.epoch == epochB)
        #expect(contents.pastEpochs == [epochA: 3])
        #expect(contents.head == 3)
        let page = try again.history(channel: channel, afterSequence: 2, limit: 1, bytesMax: 1000)
        #expect(page.map(\.object) == objects([model.entries[2]], epochB))
        again.close(isOrderly: isOrderly)
        // Positions were given out in it, though no message was.
        let last = try open(folder.log, epoch: LogEpoch(random: 3))
        #expect(try last.contents().pastEpochs == [epochA: 3, epochB: 3])
        last.close(isOrderly: true)
        #expect(try StoreTools.check(folder.log).problems == [])
    }

    @Test("a copy of before that is put back knows how far its own epoch got in it, and no later one")
    func restored() throws {
        let (folder, copies) = (TemporaryFolder(), TemporaryFolder())
        var model = LogModel()
        let channel = model.channel("plain.a")
        for life in 1...2 as ClosedRange<UInt64> {
            let store = try open(folder.log, epoch: LogEpoch(random: life))
            for number in 1...10 {
                model.add(channel)
                try store.commit(model.commit(last: 1))
                if life == 1, number == 5 { Files.copyLog(folder.log, copies.log) }
            }
            store.close(isOrderly: life == 1)
        }
        let store = try open(copies.log, epoch: LogEpoch(random: 3))
        let contents = try store.contents()
        #expect(contents.pastEpochs == [LogEpoch(random: 1): 5])
        #expect(contents.head == 5)
        store.close(isOrderly: true)
    }

    @Test("a log that has lost a part of its write-ahead log says that its epochs ended before")
    func cutEnd() throws {
        let (folder, copies) = (TemporaryFolder(), TemporaryFolder())
        var model = LogModel()
        let channel = model.channel("plain.a")
        var store = try open(folder.log, epoch: epochA)
        for _ in 0..<3 { model.add(channel) }
        try store.commit(model.commit(last: 3))
        store.close(isOrderly: true)
        store = try open(folder.log, epoch: epochB)
        for _ in 0..<20 {
            model.add(channel)
            try store.commit(model.commit(last: 1))
        }
        let wal = try #require(Files.read(folder.log + "-wal"))
        var lasts: Set<UInt64> = []
        for part in 0...40 {
            Files.copyLog(folder.log, copies.log)
            Files.write(copies.log + "-wal", Array(wal.prefix(wal.count * part / 40)))
            let copy = try open(copies.log, epoch: LogEpoch(random: 3))
            let contents = try copy.contents()
            // Where even the beginning of the last one is gone, nothing is known of it.
            #expect(contents.pastEpochs[epochA] == 3)
            #expect(contents.head == contents.pastEpochs[epochB] ?? 3)
            contents.pastEpochs[epochB].map { _ = lasts.insert($0) }
            copy.close(isOrderly: false)
        }
        #expect(lasts.contains(23) && lasts.count > 10)
        store.close(isOrderly: true)
    }

    @Test("a log that goes on stays in its epoch, and no other one is opened or made in its place")
    func ongoing() throws {
        let folder = TemporaryFolder()
        var model = LogModel()
        let channel = model.channel("plain.a")
        model.add(channel)
        func goOn() throws(StoreFault) -> NotificationStore {
            var options = StoreOptions(path: folder.log, durability: .disk, limits: limits())
            options.ongoingEpoch = epochA
            return try NotificationStore(options, newEpoch: epochA, nowMilliseconds: start)
        }
        #expect(throws: StoreFault.replaced(path: folder.log)) { try goOn() }
        #expect(Files.read(folder.log) == nil)
        var store = try open(folder.log, epoch: epochA)
        try store.commit(model.commit(last: 1))
        store.close(isOrderly: false)
        store = try goOn()
        #expect(try store.contents().epoch == epochA)
        #expect(try store.contents().pastEpochs == [:])
        store.close(isOrderly: true)
        try open(folder.log, epoch: epochB).close(isOrderly: true)
        #expect(throws: StoreFault.replaced(path: folder.log)) { try goOn() }
        Files.write(folder.log, [])
        #expect(throws: StoreFault.replaced(path: folder.log)) { try goOn() }
        #expect(Files.read(folder.log) == [])
    }

    @Test("so many earlier epochs are remembered, the newest")
    func manyEpochs() throws {
        let folder = TemporaryFolder()
        try open(folder.log, epoch: LogEpoch(random: 1_000_000)).close(isOrderly: true)
        let queue = try DatabaseQueue(path: folder.log)
        let lives = Meta.pastEpochsMax + 10
        try queue.write { for life in 1...lives { try Meta.storePastEpoch($0, LogEpoch(random: UInt64(life)), lastOffset: 0) } }
        try queue.close()
        let store = try open(folder.log)
        let past = try store.contents().pastEpochs
        #expect(past.count == 4096)
        #expect(past[LogEpoch(random: 1_000_000)] == 0 && past[LogEpoch(random: 11)] == nil && past[LogEpoch(random: 12)] == 0)
        store.close(isOrderly: true)
    }

    @Test("a commit is all or nothing, and after a fault the log is opened again with all that was committed")
    func fullDisk() throws {
        let folder = TemporaryFolder()
        var model = LogModel()
        let channel = model.channel("plain.a")
        var store = try open(folder.log)
        for _ in 0..<5 { model.add(channel) }
        try store.commit(model.commit(last: 5))
        store.close(isOrderly: true)
        // A limit that stays in the file does not exist, so a tiny file system takes its place where one can be mounted.
        let mounted = TemporaryFolder()
        guard TinyDisk.mount(mounted.path) else { return }
        defer { TinyDisk.unmount(mounted.path) }
        Files.copyLog(folder.log, mounted.log)
        store = try open(mounted.log)
        var failed: StoreFault?
        var committed = 5
        for _ in 0..<200 {
            for _ in 0..<10 { model.add(channel) { $0.data = [UInt8](repeating: UInt8(ascii: "5"), count: 3000) } }
            do throws(StoreFault) {
                try store.commit(model.commit(last: 10))
                committed += 10
            } catch {
                failed = error
                break
            }
        }
        #expect(failed == .full(path: mounted.log))
        #expect(failed?.description.contains("full") == true)
        store.close(isOrderly: false)
        TinyDisk.grow(mounted.path)
        store = try open(mounted.log)
        #expect(try store.contents().head == UInt64(committed))
        #expect(try readAll(store, [channel], through: UInt64(committed)).objects == objects(model.entries.prefix(committed)))
        try store.probe()
        store.close(isOrderly: true)
        #expect(try StoreTools.check(mounted.log).problems == [])
    }
}

import NotificationCore
import NotificationStore
import TestSupport
import Testing

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

    struct Epochs: Sendable, CustomTestStringConvertible {
        var durability: Durability
        var isOrderly: Bool
        var bootBefore: String?
        var bootAfter: String?
        var isNew: Bool

        var testDescription: String {
            "\(durability), \(isOrderly ? "closed" : "not closed"), boot \(bootBefore ?? "-") then \(bootAfter ?? "-")"
        }
    }

    @Test(
        "a new epoch begins only when commits may be lost",
        arguments: [
            Epochs(durability: .disk, isOrderly: false, bootBefore: "1", bootAfter: "2", isNew: false),
            Epochs(durability: .disk, isOrderly: true, bootBefore: "1", bootAfter: "2", isNew: false),
            Epochs(durability: .memory, isOrderly: true, bootBefore: "1", bootAfter: "2", isNew: false),
            Epochs(durability: .memory, isOrderly: true, bootBefore: nil, bootAfter: nil, isNew: false),
            Epochs(durability: .memory, isOrderly: false, bootBefore: "1", bootAfter: "1", isNew: false),
            Epochs(durability: .memory, isOrderly: false, bootBefore: "1", bootAfter: "2", isNew: true),
            Epochs(durability: .memory, isOrderly: false, bootBefore: "1", bootAfter: nil, isNew: true),
            Epochs(durability: .memory, isOrderly: false, bootBefore: nil, bootAfter: nil, isNew: true),
        ])
    func epochs(_ item: Epochs) throws {
        let folder = TemporaryFolder()
        var model = LogModel()
        let channel = model.channel("plain.a")
        for _ in 0..<3 { model.add(channel) }
        let store = try open(folder.log, durability: item.durability, epoch: epochA, bootID: item.bootBefore)
        try store.commit(model.commit(last: 3))
        store.close(isOrderly: item.isOrderly)
        // How this run keeps its commits says nothing about the one before.
        let other: Durability = item.durability == .disk ? .memory : .disk
        let again = try open(folder.log, durability: other, epoch: epochB, bootID: item.bootAfter)
        let contents = try again.contents()
        #expect(contents.epoch == (item.isNew ? epochB : epochA))
        #expect(contents.pastEpochs == (item.isNew ? [epochA: 3] : [:]))
        #expect(contents.head == 3)
        let page = try again.history(channel: channel, afterSequence: 2, limit: 1, bytesMax: 1000)
        #expect(page.map(\.object) == objects([model.entries[2]], contents.epoch))
        again.close(isOrderly: true)
    }

    @Test("sixteen earlier epochs are remembered")
    func manyEpochs() throws {
        let folder = TemporaryFolder()
        var model = LogModel()
        let channel = model.channel("plain.a")
        for life in 1...20 {
            let store = try open(folder.log, durability: .memory, epoch: LogEpoch(random: UInt64(life)), bootID: "\(life)")
            model.add(channel)
            try store.commit(model.commit(last: 1))
            store.close(isOrderly: false)
        }
        let store = try open(folder.log, epoch: LogEpoch(random: 21), bootID: "21")
        let past = try store.contents().pastEpochs
        #expect(past == Dictionary(uniqueKeysWithValues: (5...20).map { (LogEpoch(random: UInt64($0)), UInt64($0)) }))
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

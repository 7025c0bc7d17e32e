import Glibc
import NotificationCore
import NotificationStore
import TestSupport
import Testing

@Suite struct FaultTests {
    /// A log with 300 messages, all in the file.
    private func makeLog(_ path: String, seed: UInt64 = 1) throws -> LogModel {
        var random = SeededRandom(seed: seed)
        var model = LogModel()
        let channels = ["plain.a", "alerts.b", "plain.c"].map { model.channel($0) }
        let store = try open(path)
        for _ in 0..<60 {
            for _ in 0..<5 { model.addRandom(channels.randomElement(using: &random)!, &random) }
            try store.commit(model.commit(last: 5))
        }
        var commit = LogCommit()
        commit.receipts = [ReceiptRecord(user: text("ann"), channel: 1, receipt: Receipt(read: SequenceSet([1...4, 9...9])))]
        commit.states = [StateRecord(channel: 0, sequence: 4, body: .document(Array("{}".utf8)))]
        try store.commit(commit)
        store.close(isOrderly: true)
        return model
    }

    private func fault(_ body: () throws -> Void) -> StoreFault? {
        do {
            try body()
            return nil
        } catch {
            return error as? StoreFault
        }
    }

    @Test("a second opener is refused, and the log is free again once it is closed")
    func second() throws {
        let folder = TemporaryFolder()
        let first = try open(folder.log)
        #expect(fault { _ = try open(folder.log) } == .busy(path: folder.log))
        first.close(isOrderly: true)
        try open(folder.log).close(isOrderly: true)
    }

    @Test("a log of a newer version is refused and not touched")
    func newer() throws {
        let folder = TemporaryFolder()
        _ = try makeLog(folder.log)
        try sql(folder.log, "PRAGMA user_version = 99")
        let before = try #require(Files.read(folder.log))
        #expect(fault { _ = try open(folder.log) } == .newerVersion(path: folder.log, found: 99, known: NotificationStore.schemaVersion))
        #expect(Files.read(folder.log) == before)
    }

    @Test("another application's database is refused and not touched")
    func foreign() throws {
        let folder = TemporaryFolder()
        try sql(folder.log, "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
        let before = try #require(Files.read(folder.log))
        #expect(fault { _ = try open(folder.log) } == .notALog(path: folder.log))
        #expect(fault { _ = try StoreTools.check(folder.log) } == .notALog(path: folder.log))
        #expect(Files.read(folder.log) == before)
    }

    @Test("a file that is no database is refused and not touched")
    func garbage() throws {
        let folder = TemporaryFolder()
        for bytes in [Array("what is this?".utf8), [UInt8](repeating: 0x5a, count: 20_000), [0]] {
            Files.write(folder.log, bytes)
            #expect(fault { _ = try open(folder.log) } == .notALog(path: folder.log))
            #expect(Files.read(folder.log) == bytes)
        }
    }

    @Test("an empty file is a new log")
    func empty() throws {
        let folder = TemporaryFolder()
        Files.write(folder.log, [])
        let store = try open(folder.log)
        #expect(try store.contents().epoch == epochA)
        store.close(isOrderly: true)
    }

    @Test("a log that cannot be made says why")
    func unwritable() throws {
        let folder = TemporaryFolder()
        Files.write(folder.path + "/file", [1])
        guard case .io(let words) = fault({ _ = try open(folder.path + "/file/log.sqlite") }) else {
            Issue.record("a file is no directory")
            return
        }
        #expect(words.contains(folder.path + "/file"))
        // The directories in between are made, for the owner alone.
        let deep = folder.path + "/a/b/log.sqlite"
        try open(deep).close(isOrderly: true)
        var status = stat()
        #expect(stat(deep, &status) == 0 && status.st_mode & 0o777 == 0o600)
        #expect(stat(folder.path + "/a/b", &status) == 0 && status.st_mode & 0o777 == 0o700)
    }

    @Test("a log on a read-only disk says so")
    func readOnly() throws {
        let folder = TemporaryFolder()
        guard TinyDisk.mount(folder.path) else { return }
        defer { TinyDisk.unmount(folder.path) }
        TinyDisk.grow(folder.path)
        _ = try makeLog(folder.log)
        TinyDisk.makeReadOnly(folder.path)
        let fault = fault { _ = try open(folder.log) }
        #expect(fault == .readOnly(path: folder.log))
        #expect(fault?.description.contains("cannot be written") == true)
    }

    /// Everything a damaged log hands out is as it was, or it says that it is corrupt. It never does a third thing.
    private func examine(_ path: String, _ model: LogModel) -> Bool {
        let faults: [(StoreFault) -> Bool] = [
            { if case .corrupt = $0 { "\($0)".contains(path) && "\($0)".contains("tocsin log check") } else { false } },
            { if case .notALog = $0 { true } else { false } },
            { if case .newerVersion = $0 { true } else { false } },
        ]
        let channels: [ChannelID] = [0, 1, 2]
        var isDamaged = false
        func guarded(_ body: () throws -> Void) {
            do {
                try body()
            } catch let fault as StoreFault {
                isDamaged = true
                #expect(faults.contains { $0(fault) }, "\(fault)")
            } catch {
                Issue.record("\(error)")
            }
        }
        guarded {
            let store = try open(path, epoch: epochB)
            defer { store.close(isOrderly: false) }
            guarded {
                let contents = try store.contents()
                #expect(contents.epoch == epochB && contents.pastEpochs == [epochA: model.head])
                #expect(contents.channels.map(\.lastSequence) == model.sequences)
                #expect(contents.states.count == 1)
            }
            guarded {
                let found = try readAll(store, channels, through: model.head, notificationsMax: 17)
                // What is not handed out is told as damaged. In a table that is out of order more may be told than is missing.
                let missing = model.entries.filter { entry in
                    found.trimmed.contains { $0.channel == entry.channel && ($0.damagedFrom!...$0.sequence).contains(entry.sequence) }
                }
                let told = Set(objects(missing, epochB))
                #expect(objects(model.entries, epochB).filter { !told.contains($0) } == found.objects.filter { !told.contains($0) })
                #expect(Set(found.objects).isSubset(of: objects(model.entries, epochB)) && Set(found.objects).count == found.objects.count)
                if !missing.isEmpty { isDamaged = true }
            }
            for channel in channels {
                guarded {
                    let found = try store.entries(of: channel, afterSequence: 0, limit: 1000)
                    #expect(found == model.entries(of: channel))
                }
                guarded {
                    let found = try store.history(channel: channel, afterSequence: 30, limit: 5, bytesMax: 100_000)
                    // A page ends before what is damaged.
                    let expected = objects(model.entries(of: channel)[30..<35].prefix(found.count), epochB)
                    #expect(!found.isEmpty && found.map(\.object) == expected)
                }
            }
            guarded {
                let found = try store.receipt(user: text("ann"), channel: 1)
                #expect(found.read == SequenceSet([1...4, 9...9]))
            }
            // Nothing must be handed out that is not there or was read.
            guarded {
                let unread = try store.answer(
                    LogQuery(.unread(user: text("ann")), channels: [1], after: 0, through: model.head, notificationsMax: 1000),
                    nowMilliseconds: start)
                let all = Set(objects(model.entries(of: 1).filter { ![1, 2, 3, 4, 9].contains($0.sequence) }, epochB))
                #expect(unread.notifications.allSatisfy { all.contains($0.object) })
            }
            guarded { _ = try store.maintain(nowMilliseconds: start) }
        }
        return isDamaged
    }

    @Test("a log that is cut off says so")
    func truncated() throws {
        let (folder, copy) = (TemporaryFolder(), TemporaryFolder())
        let model = try makeLog(folder.log)
        let bytes = try #require(Files.read(folder.log))
        for part in 1..<20 {
            Files.write(copy.log, Array(bytes.prefix(bytes.count * part / 20)))
            #expect(examine(copy.log, model), "\(part) of 20")
            for ending in ["-wal", "-shm"] { unlink(copy.log + ending) }
        }
    }

    @Test("flipped bytes are noticed or do no harm", arguments: 0..<10 as Range<UInt64>)
    func flips(seed: UInt64) throws {
        let (folder, copy) = (TemporaryFolder(), TemporaryFolder())
        let model = try makeLog(folder.log, seed: seed)
        let bytes = try #require(Files.read(folder.log))
        var random = SeededRandom(seed: seed)
        var noticed = 0
        for _ in 0..<30 {
            var damaged = bytes
            let place = random.number(0...bytes.count - 1)
            damaged[place] ^= random.chance(50) ? 1 << UInt8(random.number(0...7)) : UInt8(random.number(1...255))
            Files.write(copy.log, damaged)
            if examine(copy.log, model) { noticed += 1 }
            for ending in ["-wal", "-shm"] { unlink(copy.log + ending) }
            Files.write(copy.log, damaged)
            do throws(StoreFault) { _ = try StoreTools.check(copy.log) } catch {}
        }
        #expect(noticed > 2)
    }

    @Test("what is sound around a damaged run is handed out, in pages that end before it and begin with it")
    func around() throws {
        for statement in [
            "UPDATE run SET body = zeroblob(40) WHERE rowid = 100", "DELETE FROM run WHERE rowid = 100",
            "UPDATE run SET first_sequence = first_sequence + 3 WHERE rowid = 100", "UPDATE run SET count = 0 WHERE rowid = 100",
            "UPDATE run SET body = 'text' WHERE rowid = 100", "UPDATE run SET rowid = 104 WHERE rowid = 100",
        ] {
            let folder = TemporaryFolder()
            var model = LogModel()
            _ = (model.channel("plain.a"), model.channel("plain.b"))
            let store = try open(folder.log)
            for number in 1...200 {
                model.add(number % 10 == 0 || number < 91 || number > 110 ? 0 : 1)
                // One run each, but for the one that ends with number 100: ten of both channels in a commit.
                if number < 91 || number > 100 { try store.commit(model.commit(last: 1)) }
                if number == 100 { try store.commit(model.commit(last: 10)) }
            }
            store.close(isOrderly: true)
            try sql(folder.log, statement)
            let damaged = try open(folder.log)
            defer { damaged.close(isOrderly: false) }
            let entries = model.entries.filter { $0.offset != 100 }
            for size in [1, 7, 1000] {
                let found = try readAll(damaged, [0, 1], through: 200, notificationsMax: size)
                #expect(found.objects == objects(entries), "\(statement)")
                // Where a row is gone, a page may end anywhere in the hole: who comes from there is told once more.
                #expect(
                    Set(found.trimmed.map(\.sequence)) == [91] && Set(found.trimmed.map(\.damagedFrom)) == [91],
                    "\(statement) \(size) \(found.trimmed)")
            }
            // From a place in the midst, by which nobody knows the sequence.
            let query = LogQuery(.sequences, channels: [0, 1], after: 99, through: 99)
            let places = try damaged.answer(query, nowMilliseconds: start)
            #expect(places.sequences[1] == 9 && (places.sequences[0] == 90 || places.trimmed.map(\.sequence) == [91]), "\(statement)")
            let page = try damaged.history(channel: 0, afterSequence: 85, limit: 100, bytesMax: 100_000)
            #expect(page.map(\.sequence) == Array(86...90), "\(statement)")
            guard case .corrupt(let words) = fault({ _ = try damaged.history(channel: 0, afterSequence: 90, limit: 9, bytesMax: 1000) })
            else {
                Issue.record("\(statement): history begins with what is damaged")
                continue
            }
            #expect(words.contains("is corrupt"))
            #expect(try damaged.history(channel: 0, afterSequence: 91, limit: 1000, bytesMax: 100_000).count == 91)
        }
    }

    @Test("of damaged alerts each is told by itself, and the others are handed out")
    func damagedAlerts() throws {
        let folder = TemporaryFolder()
        var model = LogModel()
        let alerts = model.channel("alerts.a")
        let store = try open(folder.log)
        for _ in 1...10 {
            for _ in 1...3 { model.add(alerts) }
            try store.commit(model.commit(last: 3))
        }
        store.close(isOrderly: true)
        try sql(folder.log, "UPDATE run SET body = zeroblob(40) WHERE rowid = 12")
        let damaged = try open(folder.log)
        defer { damaged.close(isOrderly: false) }
        let found = try readAll(damaged, [alerts], through: 30, notificationsMax: 4, subject: .unread(user: text("ann")))
        #expect(found.objects == objects(model.entries.filter { !(10...12).contains($0.sequence) }))
        #expect(found.trimmed.flatMap { Array($0.damagedFrom!...$0.sequence) } == [10, 11, 12])
        let digest = try damaged.answer(LogQuery(.digest, channels: [alerts], after: 0, through: 30), nowMilliseconds: start)
        #expect(digest.digest?.count == 30 && digest.digest?.to == 30)
    }

    @Test("rows that are gone are noticed")
    func missingRows() throws {
        let (folder, copy) = (TemporaryFolder(), TemporaryFolder())
        let model = try makeLog(folder.log)
        for statement in [
            "DELETE FROM run WHERE rowid = (SELECT rowid FROM run WHERE rowid < 1 << 40 LIMIT 1 OFFSET 10)",
            "DELETE FROM run WHERE rowid = (SELECT min(rowid) FROM run)",
            "DELETE FROM channel WHERE id = 1", "DELETE FROM meta", "UPDATE meta SET epoch = 5", "DROP TABLE state",
            "UPDATE channel SET trimmed_sequence = 3", "UPDATE run SET body = 'text'", "UPDATE run SET first_sequence = first_sequence + 1",
            "DELETE FROM run WHERE rowid < 1 << 40",
        ] {
            Files.copyLog(folder.log, copy.log)
            try sql(copy.log, statement)
            #expect(examine(copy.log, model), "\(statement)")
            for ending in ["-wal", "-shm"] { unlink(copy.log + ending) }
        }
    }

    @Test("faults say what to do")
    func words() {
        #expect(StoreFault.full(path: "/p").description.contains("free some space"))
        #expect(StoreFault.busy(path: "/p").description.contains("another process"))
        #expect(StoreFault.newerVersion(path: "/p", found: 9, known: 1).description.contains("newer"))
    }

    @Test("after it is closed it answers with a fault")
    func closed() throws {
        let folder = TemporaryFolder()
        let store = try open(folder.log)
        store.close(isOrderly: true)
        #expect(fault { try store.probe() } != nil)
        #expect(fault { _ = try store.info(channel: 0) } != nil)
        store.close(isOrderly: false)
    }
}

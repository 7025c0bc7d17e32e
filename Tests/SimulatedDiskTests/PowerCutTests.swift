import CSimulatedDisk
import Testing

@Suite struct PowerCutTests {
    @Test("without syncs a power cut loses commits, and a WAL database that was not checkpointed stays whole", arguments: [UInt64(0)])
    func offLoses(_ base: UInt64) throws {
        var lost = 0, kept = 0
        for seed in base..<base + 200 {
            let disk = Disk(seed: seed)
            let setUp = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB);"
            let database = try disk.open(setUp + "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0")
            for id in 1...5 { try database.run("INSERT INTO t VALUES(\(id), randomblob(5000))") }
            sd_power_cut(disk.id, seed)
            #expect(throws: SQLError.self) { try database.run("INSERT INTO t VALUES(6, NULL)") }
            #expect(try disk.integrity() == "ok", "seed \(seed)")
            let rows = try disk.open().rows()
            #expect(rows == Array(1..<1 + rows.count), "seed \(seed): not the first commits but \(rows)")
            lost += rows.count < 5 ? 1 : 0
            kept += rows.count > 0 ? 1 : 0
        }
        #expect(lost > 20 && kept > 20, "\(lost) lost some, \(kept) kept some: the model decides nothing")
    }

    @Test("without syncs a power cut breaks some databases: the model is as bad as a disk can be")
    func offBreaks() throws {
        var broken = 0
        for seed in UInt64(0)..<60 {
            let disk = Disk(seed: seed)
            var scenario = Scenario("PRAGMA journal_mode=DELETE; PRAGMA synchronous=OFF;")
            scenario.run(on: disk)
            sd_power_cut(disk.id, seed)
            if (try? disk.integrity()) != "ok" { broken += 1 }
        }
        #expect(broken > 5, "\(broken) of 60")
    }

    @Test("synchronous=NORMAL loses commits and stays whole over checkpoints")
    func normal() throws {
        var lost = 0
        for seed in UInt64(0)..<200 {
            let disk = Disk(seed: seed)
            var scenario = Scenario(Scenario.walNormal)
            sd_stop_after(disk.id, 20 + seed % 90)
            scenario.run(on: disk)
            sd_power_cut(disk.id, seed)
            #expect(try disk.integrity() == "ok", "seed \(seed)")
            let rows = (try? disk.open().rows()) ?? []
            #expect(rows == Array(1..<1 + rows.count), "seed \(seed)")
            lost += rows.count < scenario.acknowledged.count ? 1 : 0
        }
        #expect(lost > 10)
    }

    @Test("what was committed survives a power cut after any call", arguments: [Scenario.walFull, Scenario.deleteExtra])
    func everyCall(_ setUp: String) throws {
        let whole = Disk()
        var reference = Scenario(setUp)
        reference.run(on: whole)
        #expect(reference.acknowledged.count == reference.transactions)
        let calls = sd_count(whole.id, UInt32(SD_MUTATING))
        #expect(calls > 50)
        var lostTail = 0
        for call in 0...calls {
            for seed in UInt64(0)..<6 {
                let disk = Disk(seed: seed)
                sd_stop_after(disk.id, call)
                var scenario = Scenario(setUp)
                scenario.run(on: disk)
                #expect(sd_is_stopped(disk.id))
                sd_power_cut(disk.id, seed &* 1000 &+ call)
                #expect(!sd_is_stopped(disk.id))
                try scenario.check(disk, "call \(call), seed \(seed)")
                lostTail += scenario.attempted.count > scenario.acknowledged.count ? 1 : 0
                // The store lives on after the crash, and crashes again.
                sd_stop_after(disk.id, call / 2 + seed)
                scenario.run(on: disk, from: 100)
                sd_power_cut(disk.id, seed)
                try scenario.check(disk, "call \(call), seed \(seed), second cut")
            }
        }
        #expect(lostTail > 20)
    }

    @Test("a power cut tears writes at multiples of 512 bytes and leaves holes")
    func torn() throws {
        var torn = 0, holes = 0
        for seed in UInt64(0)..<100 {
            let disk = Disk(seed: seed)
            let setUp = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0;"
            let database = try disk.open(setUp + "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
            try database.run("INSERT INTO t VALUES(1, randomblob(50000))")
            sd_power_cut(disk.id, seed)
            let log = disk.bytes("log.sqlite-wal") ?? []
            // A whole log is a header of 32 bytes and frames of a header of 24 bytes and a page.
            if log.count > 32, (log.count - 32) % (24 + 4096) > 24 {
                #expect(log.count % 512 == 0)
                torn += 1
            }
            let frames = stride(from: 32, to: log.count - 24, by: 24 + 4096)
            if frames.contains(where: { log[$0..<$0 + 24].allSatisfy { $0 == 0 } }) { holes += 1 }
        }
        #expect(torn > 10 && holes > 5, "\(torn) torn, \(holes) with holes")
    }

    @Test("a killed process loses nothing that was written, even without syncs")
    func kill() throws {
        let disk = Disk()
        let database = try disk.open("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; CREATE TABLE t(id INTEGER PRIMARY KEY)")
        for id in 1...50 { try database.run("INSERT INTO t VALUES(\(id))") }
        #expect(sd_handle_count(disk.id) == 2)
        sd_kill(disk.id)
        #expect(sd_handle_count(disk.id) == 0)
        #expect(throws: SQLError.self) { try database.run("INSERT INTO t VALUES(51)") }
        #expect(try disk.open().rows() == Array(1...50))
        #expect(try disk.integrity() == "ok")
    }

    @Test("a connection that outlives the crash of its disk harms nothing, open or closed")
    func outlives() throws {
        let disk = Disk()
        let setUp = Scenario.walFull + "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY)"
        var old: Database? = try disk.open(setUp)
        let reader = try disk.open()
        try old?.run("INSERT INTO t VALUES(1); BEGIN IMMEDIATE; INSERT INTO t VALUES(2)")
        try reader.run("BEGIN; SELECT * FROM t")
        sd_power_cut(disk.id, 3)
        let new = try disk.open(setUp)
        #expect(throws: SQLError(code: SQLError.ioError)) { try old?.run("COMMIT") }
        try new.run("INSERT INTO t VALUES(3); BEGIN IMMEDIATE")
        old = nil
        #expect(throws: SQLError(code: SQLError.ioError)) { try reader.run("COMMIT; SELECT * FROM t") }
        #expect(throws: SQLError(code: SQLError.busy)) { try disk.open().run("BEGIN IMMEDIATE") }
        try new.run("INSERT INTO t VALUES(4); COMMIT")
        #expect(try new.rows() == [1, 3, 4])
        #expect(try disk.integrity() == "ok")
    }

    @Test("a connection outlives its disk")
    func destroyed() throws {
        var disk: Disk? = Disk()
        let database = try #require(disk).open("PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY)")
        disk = nil
        #expect(throws: SQLError.self) { try database.rows() }
    }
}

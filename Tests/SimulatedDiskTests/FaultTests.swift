import CSimulatedDisk
import Testing

@Suite struct FaultTests {
    static let kinds: [(Int32, Int32)] = [
        (SD_WRITE, SQLError.ioErrorWrite), (SD_WRITE, SQLError.full), (SD_SYNC, SQLError.ioErrorSync),
        (SD_TRUNCATE, SQLError.ioError), (SD_OPEN, SQLError.cantOpen), (SD_DELETE, SQLError.ioError), (SD_READ, SQLError.ioError),
    ].map { (Int32($0), $1) }

    @Test("the n-th call fails, once or from then on: nothing breaks, nothing acknowledged is lost", arguments: kinds)
    func nth(kind: Int32, code: Int32) throws {
        for setUp in [Scenario.walFull, Scenario.deleteExtra] {
            let whole = Disk()
            var reference = Scenario(setUp)
            reference.run(on: whole)
            let calls = sd_count(whole.id, UInt32(kind))
            for call in 0..<calls {
                for times in [1, UInt64.max] {
                    for options in [UInt32(0), UInt32(SD_LOSE_AFTER_FAILED_SYNC)] {
                        let disk = Disk(seed: call)
                        sd_set_options(disk.id, options)
                        sd_fail(disk.id, UInt32(kind), call, times, code)
                        var scenario = Scenario(setUp)
                        scenario.run(on: disk)
                        sd_heal(disk.id)
                        scenario.run(on: disk, from: 100)
                        try scenario.check(disk, "call \(call) of \(kind), \(times) times, options \(options)")
                        sd_power_cut(disk.id, call)
                        try scenario.check(disk, "call \(call) of \(kind), \(times) times, options \(options), cut")
                    }
                }
            }
        }
    }

    @Test("a rule fails as many calls as it says, of its kinds only, with its code")
    func rule() throws {
        let disk = Disk()
        let database = try disk.open(Scenario.walFull + "CREATE TABLE t(id INTEGER PRIMARY KEY)")
        let syncs = sd_count(disk.id, UInt32(SD_SYNC))
        sd_fail(disk.id, UInt32(SD_SYNC), 1, 2, SQLError.ioErrorSync)
        try database.run("INSERT INTO t VALUES(1)")
        #expect(throws: SQLError(code: SQLError.ioErrorSync)) { try database.run("INSERT INTO t VALUES(2)") }
        #expect(throws: SQLError(code: SQLError.ioErrorSync)) { try database.run("INSERT INTO t VALUES(3)") }
        try database.run("INSERT INTO t VALUES(4)")
        #expect(sd_count(disk.id, UInt32(SD_SYNC)) == syncs + 4)
        sd_fail(disk.id, UInt32(SD_WRITE), 0, .max, SQLError.full)
        for _ in 1...3 { #expect(throws: SQLError(code: SQLError.full)) { try database.run("INSERT INTO t VALUES(5)") } }
        sd_heal(disk.id)
        try database.run("INSERT INTO t VALUES(6)")
        #expect(try database.rows() == [1, 4, 6])
    }

    @Test("with the option, a failed sync loses writes that a later sync says are done", arguments: [0, UInt32(SD_LOSE_AFTER_FAILED_SYNC)])
    func lostAfterFailedSync(_ options: UInt32) throws {
        var lost = 0
        for seed in UInt64(0)..<20 {
            let disk = Disk(seed: seed)
            sd_set_options(disk.id, options)
            let setUp = "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(id INTEGER PRIMARY KEY);"
            let database = try disk.open(setUp + "PRAGMA synchronous=NORMAL; INSERT INTO t VALUES(1)")
            sd_fail(disk.id, UInt32(SD_SYNC), 0, 1, SQLError.ioErrorSync)
            #expect(throws: SQLError(code: SQLError.ioErrorSync)) { try database.run("PRAGMA wal_checkpoint") }
            try database.run("PRAGMA synchronous=FULL; INSERT INTO t VALUES(2)")
            sd_power_cut(disk.id, seed)
            if try disk.open().rows() != [1, 2] { lost += 1 }
        }
        #expect(options == 0 ? lost == 0 : lost > 3, "\(lost) of 20")
    }

    @Test("a full disk says SQLITE_FULL, keeps what it has, and goes on when it grows")
    func capacity() throws {
        let disk = Disk()
        sd_set_capacity(disk.id, 200_000)
        let database = try disk.open(Scenario.walFull + "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
        var stored = 0
        let error = #expect(throws: SQLError.self) {
            while stored < 100 {
                try database.run("INSERT INTO t VALUES(\(stored + 1), randomblob(5000))")
                stored += 1
            }
        }
        #expect(error?.code == SQLError.full)
        #expect(stored > 10)
        #expect(sd_size(disk.id, "log.sqlite") + sd_size(disk.id, "log.sqlite-wal") <= 200_000)
        #expect(try database.rows() == Array(1...stored))
        sd_set_capacity(disk.id, 2_000_000)
        try database.run("INSERT INTO t VALUES(\(stored + 1), randomblob(5000))")
        sd_power_cut(disk.id, 5)
        #expect(try disk.open().rows() == Array(1...stored + 1))
        #expect(try disk.integrity() == "ok")
    }

    @Test("a read-only disk can be read and not be written")
    func readOnly() throws {
        let disk = Disk()
        let open = try disk.open("CREATE TABLE t(id INTEGER PRIMARY KEY); INSERT INTO t VALUES(1)")
        let before = sd_digest(disk.id)
        sd_set_read_only(disk.id, true)
        let late = try disk.open()
        #expect(throws: SQLError(code: SQLError.readOnly)) { try late.run("INSERT INTO t VALUES(2)") }
        let error = #expect(throws: SQLError.self) { try open.run("INSERT INTO t VALUES(2)") }
        #expect([SQLError.ioError, SQLError.cantOpen].contains(error?.primary))
        #expect(throws: SQLError(code: SQLError.cantOpen)) { try Database("/simulated/\(disk.id)/new", "CREATE TABLE t(id)") }
        #expect(try late.rows() == [1])
        #expect(sd_digest(disk.id) == before)
        sd_set_read_only(disk.id, false)
        try disk.open().run("INSERT INTO t VALUES(2)")
    }

    @Test("flipped bytes are seen by SQLite")
    func corrupt() throws {
        var seen = 0
        for seed in UInt64(0)..<40 {
            let disk = Disk(seed: seed)
            var scenario = Scenario(Scenario.deleteExtra)
            scenario.run(on: disk)
            let before = try disk.open().run("SELECT id, hex(body) FROM t")
            #expect(sd_corrupt(disk.id, "log.sqlite", seed) > 0)
            let after = try? disk.open().run("SELECT id, hex(body) FROM t")
            if (try? disk.integrity()) != "ok" || after != before { seen += 1 }
        }
        #expect(seen > 30, "\(seen) of 40")
        let empty = Disk()
        #expect(sd_corrupt(empty.id, "none", 1) == 0)
    }

    @Test("a stopped disk refuses every call until the crash")
    func stopped() throws {
        let disk = Disk()
        let database = try disk.open(Scenario.walFull + "CREATE TABLE t(id INTEGER PRIMARY KEY)")
        sd_stop_after(disk.id, 1)
        #expect(!sd_is_stopped(disk.id))
        #expect(throws: SQLError(code: SQLError.ioError)) { try database.run("INSERT INTO t VALUES(1)") }
        #expect(sd_is_stopped(disk.id))
        #expect(throws: SQLError(code: SQLError.ioError)) { try database.rows() }
        #expect(throws: SQLError.self) { try disk.open().rows() }
        sd_stop_after(disk.id, 100)
        #expect(sd_is_stopped(disk.id))
        sd_kill(disk.id)
        #expect(try disk.open().rows() == [])
    }
}

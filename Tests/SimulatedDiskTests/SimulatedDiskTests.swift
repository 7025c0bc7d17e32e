import CSimulatedDisk
import Foundation
import Testing

@Suite struct SimulatedDiskTests {
    @Test("a real path goes to the real file system", arguments: ["WAL", "DELETE"])
    func passThrough(_ mode: String) throws {
        #expect(sd_register() == 0)
        #expect(sd_register() == 0)
        let folder = FileManager.default.temporaryDirectory.appending(path: "simulated-disk-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appending(path: "real.sqlite").path
        do {
            let database = try Database(path, "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
            #expect(try database.run("PRAGMA journal_mode=\(mode)").uppercased() == mode)
            try database.run("INSERT INTO t VALUES(1, randomblob(9000)); DELETE FROM t; INSERT INTO t VALUES(2, NULL)")
            #expect(FileManager.default.fileExists(atPath: path + "-wal") == (mode == "WAL"))
            let other = try Database(path)
            try other.run("BEGIN; SELECT * FROM t")
            #expect(try other.rows() == [2])
            try database.run("BEGIN IMMEDIATE")
            #expect(throws: SQLError(code: SQLError.busy)) { try Database(path).run("BEGIN IMMEDIATE") }
            try other.run("COMMIT")
            try database.run("COMMIT; VACUUM main INTO '\(path).copy'")
        }
        #expect(try Database(path + ".copy").rows() == [2])
        #expect(try Database(path).run("PRAGMA integrity_check") == "ok")
        let header = try Data(contentsOf: URL(filePath: path)).prefix(15)
        #expect(String(decoding: header, as: UTF8.self) == "SQLite format 3")
    }

    @Test("a path of no disk cannot be opened, and a disk's file is not on the real file system")
    func paths() throws {
        let disk = Disk()
        try disk.open().run("CREATE TABLE t(id)")
        #expect(!FileManager.default.fileExists(atPath: disk.path))
        for path in ["/simulated/0/a", "/simulated/999999/a", "/simulated/x/a", "/simulated/\(disk.id)/", "/simulated/\(disk.id)"] {
            #expect(throws: SQLError.self) { try Database(path) }
        }
        let other = Disk()
        #expect(throws: SQLError.self) { try other.open().run("SELECT * FROM t") }
    }

    @Test("two connections of a WAL database: snapshots, one writer, checkpoints")
    func twoConnections() throws {
        let disk = Disk()
        let writer = try disk.open(Scenario.walFull + "CREATE TABLE t(id INTEGER PRIMARY KEY); INSERT INTO t VALUES(1)")
        let reader = try disk.open()
        #expect(try reader.run("PRAGMA journal_mode") == "wal")
        try reader.run("BEGIN")
        #expect(try reader.rows() == [1])
        try writer.run("INSERT INTO t VALUES(2)")
        #expect(try reader.rows() == [1])
        #expect(try writer.rows() == [1, 2])
        #expect(try writer.run("PRAGMA wal_checkpoint(RESTART)").hasPrefix("1|"), "a reader holds the log")
        try reader.run("COMMIT")
        #expect(try reader.rows() == [1, 2])
        try writer.run("BEGIN IMMEDIATE")
        #expect(throws: SQLError(code: SQLError.busy)) { try reader.run("BEGIN IMMEDIATE") }
        try writer.run("COMMIT")
        #expect(try writer.run("PRAGMA wal_checkpoint(TRUNCATE)") == "0|0|0")
        #expect(sd_size(disk.id, "log.sqlite-wal") == 0)
        #expect(disk.bytes("log.sqlite")?.prefix(15) == ArraySlice("SQLite format 3".utf8))
    }

    @Test("two connections with a rollback journal: readers hold up a commit, a waiting writer holds up readers")
    func rollbackLocks() throws {
        let disk = Disk()
        let writer = try disk.open("CREATE TABLE t(id INTEGER PRIMARY KEY)")
        let reader = try disk.open()
        try reader.run("BEGIN; SELECT * FROM t")
        try writer.run("BEGIN IMMEDIATE; INSERT INTO t VALUES(1)")
        #expect(throws: SQLError(code: SQLError.busy)) { try disk.open().run("BEGIN IMMEDIATE") }
        #expect(throws: SQLError(code: SQLError.busy)) { try writer.run("COMMIT") }
        #expect(throws: SQLError(code: SQLError.busy), "the lock is pending") { try disk.open().rows() }
        try reader.run("COMMIT")
        try writer.run("COMMIT")
        #expect(try reader.rows() == [1])
        #expect(sd_size(disk.id, "log.sqlite-journal") == -1)
    }

    @Test("connections on several threads lose no update", arguments: ["WAL", "DELETE"])
    func threads(_ mode: String) async throws {
        let disk = Disk()
        let setUp = "PRAGMA busy_timeout=20000; PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=20;"
        let first = try disk.open("PRAGMA journal_mode=\(mode); CREATE TABLE t(id INTEGER PRIMARY KEY); INSERT INTO t VALUES(0)")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 1...3 {
                group.addTask {
                    let database = try disk.open(setUp)
                    for _ in 1...60 { try database.run("UPDATE t SET id = id + 1") }
                }
            }
            group.addTask {
                let database = try disk.open(setUp)
                var last = 0
                for _ in 1...60 {
                    let now = try database.rows()[0]
                    #expect(now >= last)
                    last = now
                }
            }
            try await group.waitForAll()
        }
        #expect(try first.rows() == [180])
        #expect(try disk.integrity() == "ok")
    }

    @Test("a deleted name may be back after a power cut, until the folder was synced")
    func names() throws {
        var back = 0, gone = 0
        for seed in UInt64(0)..<40 {
            let disk = Disk(seed: seed)
            // FULL does not sync the folder after the journal's delete; EXTRA does.
            try disk.open("PRAGMA synchronous=FULL; CREATE TABLE t(id INTEGER PRIMARY KEY)").run("INSERT INTO t VALUES(1)")
            sd_power_cut(disk.id, seed)
            if sd_size(disk.id, "log.sqlite-journal") > 0 { back += 1 } else { gone += 1 }
            #expect(try disk.integrity() == "ok")
        }
        #expect(back > 3 && gone > 3, "\(back) back, \(gone) gone")
    }

    /// A life with commits, faults, a crash and a second life, as one number.
    private static func life(_ seed: UInt64) throws -> [UInt64] {
        let disk = Disk(seed: seed)
        var digests: [UInt64] = []
        sd_fail(disk.id, UInt32(SD_WRITE), 15 + seed, 2, SQLError.ioErrorWrite)
        sd_stop_after(disk.id, 40 + seed)
        var scenario = Scenario(Scenario.walFull)
        scenario.run(on: disk)
        digests.append(sd_digest(disk.id))
        sd_power_cut(disk.id, seed)
        digests.append(sd_digest(disk.id))
        scenario.run(on: disk, from: 100)
        try disk.open().run("UPDATE t SET body = random()")
        digests.append(sd_digest(disk.id))
        return digests
    }

    @Test("the same seed gives the same bytes, also while other threads use SQLite; another seed gives others")
    func determinism() async throws {
        let reference = try (UInt64(0)..<8).map { try Self.life($0) }
        #expect(Set(reference.map { $0[2] }).count == 8)
        let repeated = try await withThrowingTaskGroup(of: (UInt64, [UInt64]).self, returning: [(UInt64, [UInt64])].self) { group in
            for index in UInt64(0)..<64 { group.addTask { (index % 8, try Self.life(index % 8)) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        for (seed, digests) in repeated { #expect(digests == reference[Int(seed)], "seed \(seed)") }
    }

    @Test("a thread's seed gives the same randomness off the disks; without a seed it differs")
    func threadSeed() throws {
        #expect(sd_register() == 0)
        func sample() throws -> String { try Database(":memory:").run("SELECT hex(randomblob(32))") }
        sd_seed_randomness(5)
        let first = try sample()
        sd_seed_randomness(5)
        #expect(try sample() == first)
        sd_seed_randomness(6)
        #expect(try sample() != first)
        sd_seed_randomness(0)
        #expect(try sample() != sample())
    }
}

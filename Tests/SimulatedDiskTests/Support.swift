import CSimulatedDisk
import Testing

/// A simulated disk that is gone with its value.
final class Disk: Sendable {
    let id: Int32

    init(seed: UInt64 = 1) {
        #expect(sd_register() == 0)
        id = sd_create(seed)
    }

    deinit { sd_destroy(id) }

    var path: String { "/simulated/\(id)/log.sqlite" }

    func open(_ setUp: String = "") throws -> Database { try Database(path, setUp) }

    func bytes(_ name: String) -> [UInt8]? {
        let size = sd_size(id, name)
        guard size >= 0 else { return nil }
        return [UInt8](unsafeUninitializedCapacity: Int(size)) { $1 = sd_copy(id, name, 0, $0.baseAddress, Int(size)) }
    }

    /// "ok", or what is wrong with the database.
    func integrity() throws -> String { try open().run("PRAGMA integrity_check") }
}

struct SQLError: Error, Equatable {
    var code: Int32
    var primary: Int32 { code & 0xff }

    static let busy: Int32 = 5, readOnly: Int32 = 8, ioError: Int32 = 10, full: Int32 = 13, cantOpen: Int32 = 14
    static let ioErrorWrite: Int32 = 10 | 3 << 8, ioErrorSync: Int32 = 10 | 4 << 8
}

/// A connection that is closed with its value.
final class Database {
    private let handle: OpaquePointer

    init(_ path: String, _ setUp: String = "") throws {
        var code: Int32 = 0
        guard let handle = sd_sql_open(path, &code) else { throw SQLError(code: code) }
        self.handle = handle
        if !setUp.isEmpty { try run(setUp) }
    }

    deinit { sd_sql_close(handle) }

    /// Runs statements; the rows come one a line, without the last line's end.
    @discardableResult
    func run(_ statements: String) throws -> String {
        var out = [CChar](repeating: 0, count: 1 << 16)
        let code = sd_sql_run(handle, statements, &out, out.count)
        guard code == 0 else { throw SQLError(code: code) }
        let text = String(decoding: out.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return text.hasSuffix("\n") ? String(text.dropLast()) : text
    }

    func rows() throws -> [Int] { try run("SELECT id FROM t ORDER BY id").split(separator: "\n").compactMap { Int($0) } }
}

/// A life of a store: opens, makes its table, and appends rows in transactions of one or several pages, with checkpoints in between.
struct Scenario {
    var setUp: String
    var transactions = 12
    private(set) var attempted: Set<Int> = []
    private(set) var acknowledged: Set<Int> = []
    private(set) var errors: [SQLError] = []

    static let walFull = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=6;"
    static let walNormal = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=6;"
    static let deleteExtra = "PRAGMA journal_mode=DELETE; PRAGMA synchronous=EXTRA;"
    static let truncateFull = "PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=FULL;"

    init(_ setUp: String) { self.setUp = setUp }

    /// Goes on after an error, as a store does that answers "not stored".
    mutating func run(on disk: Disk, from first: Int = 1) {
        do {
            let database = try disk.open(setUp + "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body BLOB)")
            for id in first..<first + transactions {
                attempted.insert(id)
                do {
                    // Every third is larger than a page, so that a transaction has several frames and sometimes spills.
                    let size = id % 3 == 0 ? 9000 : 300
                    try database.run("BEGIN IMMEDIATE; INSERT INTO t VALUES(\(id), randomblob(\(size))); COMMIT")
                    acknowledged.insert(id)
                } catch let error as SQLError {
                    errors.append(error)
                    _ = try? database.run("ROLLBACK")
                }
            }
        } catch let error as SQLError {
            errors.append(error)
        } catch { Issue.record(error) }
    }

    /// What is there is whole, everything acknowledged is there, and nothing else that was not tried.
    func check(_ disk: Disk, _ comment: Comment) throws {
        #expect(try disk.integrity() == "ok", comment)
        let database = try disk.open("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body BLOB)")
        let rows = Set(try database.rows())
        #expect(acknowledged.isSubset(of: rows), comment)
        #expect(rows.isSubset(of: attempted), comment)
    }
}

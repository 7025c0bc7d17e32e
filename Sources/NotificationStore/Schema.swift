import GRDB

#if DEFECTS
    import NotificationCore
#endif

/// The tables, and how a connection is set up.
///
/// Every row that is not a run has a checksum over itself: SQLite has none for its pages, and a flipped bit has to be noticed. (The rows
/// of `occupied` have none: of a name that was changed, somebody is told that nobody is there.)
enum Schema {
    /// "TCSI". Other applications' databases are told by it, also by file(1).
    static let applicationID: Int64 = 0x5443_5349
    static let versions: [String] = [
        // 1
        """
        CREATE TABLE meta (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            epoch INTEGER NOT NULL,
            durability TEXT NOT NULL,
            orderly INTEGER NOT NULL,
            boot TEXT,
            "check" INTEGER NOT NULL,
            tails INTEGER NOT NULL DEFAULT 0,
            probes INTEGER NOT NULL DEFAULT 0
        );
        CREATE TABLE epoch (
            id INTEGER PRIMARY KEY,
            bits INTEGER NOT NULL,
            last_offset INTEGER NOT NULL,
            "check" INTEGER NOT NULL
        );
        CREATE TABLE channel (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            last_sequence INTEGER NOT NULL,
            last_offset INTEGER NOT NULL,
            trimmed_sequence INTEGER NOT NULL,
            trimmed_offset INTEGER NOT NULL,
            "check" INTEGER NOT NULL
        );
        CREATE TABLE run (
            id INTEGER PRIMARY KEY,
            first_offset INTEGER NOT NULL,
            first_sequence INTEGER NOT NULL,
            count INTEGER NOT NULL,
            first_time INTEGER NOT NULL,
            duration INTEGER NOT NULL,
            total INTEGER NOT NULL,
            body BLOB NOT NULL
        );
        CREATE TABLE alert (
            channel INTEGER NOT NULL,
            sequence INTEGER NOT NULL,
            offset INTEGER NOT NULL,
            priority INTEGER NOT NULL,
            expires INTEGER NOT NULL,
            key TEXT,
            standing INTEGER NOT NULL,
            PRIMARY KEY (channel, sequence)
        ) WITHOUT ROWID;
        CREATE INDEX alert_key ON alert (channel, key) WHERE key IS NOT NULL AND standing <> 0;
        CREATE TABLE state (
            channel INTEGER PRIMARY KEY,
            sequence INTEGER NOT NULL,
            body BLOB NOT NULL
        );
        CREATE TABLE receipt (
            user TEXT NOT NULL,
            channel INTEGER NOT NULL,
            read BLOB NOT NULL,
            dismissed BLOB NOT NULL,
            PRIMARY KEY (user, channel)
        ) WITHOUT ROWID;
        CREATE TABLE idempotency (
            id INTEGER PRIMARY KEY,
            key TEXT NOT NULL UNIQUE,
            fingerprint INTEGER NOT NULL,
            time INTEGER NOT NULL,
            body BLOB NOT NULL
        );
        """,
        // 2: what is to be told to others
        """
        CREATE TABLE outbox (
            id INTEGER PRIMARY KEY,
            endpoint TEXT NOT NULL,
            type TEXT NOT NULL,
            message TEXT NOT NULL,
            subject TEXT,
            rank INTEGER NOT NULL,
            time INTEGER NOT NULL,
            attempts INTEGER NOT NULL,
            next INTEGER NOT NULL,
            body BLOB NOT NULL
        );
        CREATE INDEX outbox_next ON outbox (endpoint, next);
        CREATE INDEX outbox_rank ON outbox (rank);
        CREATE INDEX outbox_subject ON outbox (endpoint, subject) WHERE subject IS NOT NULL;
        CREATE TABLE occupied (
            subject TEXT PRIMARY KEY,
            seen INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE TABLE watch (
            time INTEGER NOT NULL,
            offset INTEGER NOT NULL,
            channel INTEGER NOT NULL,
            sequence INTEGER NOT NULL,
            user TEXT NOT NULL,
            "check" INTEGER NOT NULL,
            PRIMARY KEY (time, offset)
        ) WITHOUT ROWID;
        """,
        // 3: answers to idempotency keys belong to who got them; what `idempotency` has goes with time
        """
        CREATE TABLE answer (
            id INTEGER PRIMARY KEY,
            publisher TEXT NOT NULL,
            key TEXT NOT NULL,
            fingerprint INTEGER NOT NULL,
            time INTEGER NOT NULL,
            total INTEGER NOT NULL,
            body BLOB NOT NULL,
            UNIQUE (publisher, key)
        );
        """,
    ]

    static let pageBytes = 8192
    /// Pages in the write-ahead log at which a commit takes the time to move them into the file: 16 MiB, for when `maintain` does not
    /// come to it. It comes once a second.
    static let checkpointPages = 2048

    /// What the file is, before anything is changed in it.
    ///
    /// - Returns: whether it is new.
    static func identify(_ database: Database, path: String) throws -> Bool {
        let application = try Query.number(database, "PRAGMA application_id") ?? 0
        let version = try Query.number(database, "PRAGMA user_version") ?? 0
        guard application == applicationID else {
            let tables = try Query.number(database, "SELECT count(*) FROM sqlite_master") ?? 0
            guard application == 0, version == 0, tables == 0 else { throw StoreFault.notALog(path: path) }
            return true
        }
        guard version >= 1 else { throw StoreProblem.corrupt("it has no schema version") }
        guard version <= versions.count else {
            throw StoreFault.newerVersion(path: path, found: Int(version), known: versions.count)
        }
        return false
    }

    /// Page size and vacuum mode are for good, so they come before the first page.
    static func begin(_ database: Database) throws {
        try database.execute(sql: "PRAGMA page_size = \(pageBytes); PRAGMA auto_vacuum = INCREMENTAL")
    }

    static func configure(_ database: Database, isReader: Bool, isInMemory: Bool) throws {
        try database.execute(sql: "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY")
        try database.execute(sql: "PRAGMA cache_size = -8192")
        if isReader {
            try database.execute(sql: "PRAGMA query_only = ON")
        } else if !isInMemory {
            guard try String.fetchOne(database, sql: "PRAGMA journal_mode = WAL") == "wal" else {
                throw StoreFault.io("there is no write-ahead log in this file system: put the log on a local disk")
            }
            try database.execute(sql: "PRAGMA wal_autocheckpoint = \(checkpointPages)")
            try database.execute(sql: "PRAGMA journal_size_limit = \(checkpointPages * pageBytes)")
        }
    }

    static func setSynchronous(_ database: Database, _ durability: Durability) throws {
        #if DEFECTS
            if Defect.active == .synchronousOff { return try database.execute(sql: "PRAGMA synchronous = OFF") }
        #endif
        try database.execute(sql: durability == .disk ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL")
    }

    /// Brings the tables up to what this version knows, each step with its number in one transaction.
    static func migrate(_ database: Database) throws {
        let found = Int(try Query.number(database, "PRAGMA user_version") ?? 0)
        for version in found..<versions.count {
            try database.inTransaction(.immediate) {
                try database.execute(sql: versions[version])
                try database.execute(sql: "PRAGMA application_id = \(applicationID); PRAGMA user_version = \(version + 1)")
                return .commit
            }
        }
    }
}

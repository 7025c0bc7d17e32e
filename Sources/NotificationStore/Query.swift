import GRDB
import GRDBSQLite

/// One use of a prepared statement, which the connection keeps for the next.
///
/// GRDB opens the connections, keeps the statements and runs the transactions; values go in and out here, straight through SQLite's C
/// functions: GRDB's typed columns trap on a value of another type, and in a damaged file there may be any.
struct Query: ~Copyable {
    private let statement: Statement
    private var handle: OpaquePointer { statement.sqliteStatement }

    init(_ database: Database, _ sql: String) throws {
        statement = try database.cachedStatement(sql: sql)
        precondition(sqlite3_stmt_busy(statement.sqliteStatement) == 0, "the statement is in use: \(sql)")
    }

    deinit {
        sqlite3_reset(statement.sqliteStatement)
        sqlite3_clear_bindings(statement.sqliteStatement)
    }

    /// Runs a statement that has no rows, with nothing but numbers.
    static func run(_ database: Database, _ sql: String, _ numbers: Int64...) throws {
        let query = try Query(database, sql)
        for (index, number) in numbers.enumerated() { query.bind(Int32(index + 1), number) }
        try query.run()
    }

    /// - Returns: the number in the only row; nil if there is no row.
    static func number(_ database: Database, _ sql: String, _ numbers: Int64...) throws -> Int64? {
        let query = try Query(database, sql)
        for (index, number) in numbers.enumerated() { query.bind(Int32(index + 1), number) }
        return try query.step() ? try query.integer(0) : nil
    }

    // MARK: Parameters, numbered from 1

    func bind(_ index: Int32, _ number: Int64) {
        sqlite3_bind_int64(handle, index, number)
    }

    func bind(_ index: Int32, _ number: UInt64) {
        sqlite3_bind_int64(handle, index, Int64(bitPattern: number))
    }

    func bind(_ index: Int32, _ text: String) {
        var text = text
        text.withUTF8 { bytes in
            _ = bytes.withMemoryRebound(to: CChar.self) {
                sqlite3_bind_text(handle, index, $0.baseAddress, Int32($0.count), Self.copied)
            }
        }
    }

    /// Null without a text.
    func bind(_ index: Int32, _ text: String?) {
        if let text { bind(index, text) } else { sqlite3_bind_null(handle, index) }
    }

    func bind(_ index: Int32, _ bytes: [UInt8]) {
        _ = bytes.withUnsafeBytes { sqlite3_bind_blob64(handle, index, $0.baseAddress, UInt64($0.count), Self.copied) }
    }

    /// SQLITE_TRANSIENT, a macro with a cast that Swift cannot import: SQLite takes a copy.
    private static var copied: sqlite3_destructor_type { unsafeBitCast(-1, to: sqlite3_destructor_type.self) }

    // MARK: Rows

    /// - Returns: whether there is a (further) row.
    func step() throws -> Bool {
        switch sqlite3_step(handle) {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        case let code:
            let message = sqlite3_errmsg(sqlite3_db_handle(handle)).map { String(cString: $0) }
            throw DatabaseError(resultCode: ResultCode(rawValue: code), message: message)
        }
    }

    func run() throws {
        while try step() {}
    }

    // MARK: Columns, numbered from 0

    func isNull(_ column: Int32) -> Bool {
        sqlite3_column_type(handle, column) == SQLITE_NULL
    }

    func integer(_ column: Int32) throws(StoreProblem) -> Int64 {
        guard sqlite3_column_type(handle, column) == SQLITE_INTEGER else { throw wrongType(column) }
        return sqlite3_column_int64(handle, column)
    }

    /// For numbers that count something.
    func unsigned(_ column: Int32) throws(StoreProblem) -> UInt64 {
        guard let number = UInt64(exactly: try integer(column)) else { throw wrongType(column) }
        return number
    }

    func text(_ column: Int32) throws(StoreProblem) -> String {
        guard sqlite3_column_type(handle, column) == SQLITE_TEXT, let start = sqlite3_column_text(handle, column) else {
            throw wrongType(column)
        }
        let bytes = UnsafeBufferPointer(start: start, count: Int(sqlite3_column_bytes(handle, column)))
        guard let text = withExtendedLifetime(self, { String(validating: bytes, as: UTF8.self) }) else { throw wrongType(column) }
        return text
    }

    /// - Parameter body: gets the bytes in place; they go with the next step.
    func withBlob<Result>(_ column: Int32, _ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
        guard sqlite3_column_type(handle, column) == SQLITE_BLOB else { throw wrongType(column) }
        guard let start = sqlite3_column_blob(handle, column) else {
            // An empty value, or the pages behind the first cannot be read.
            let database = sqlite3_db_handle(handle)
            let code = sqlite3_extended_errcode(database)
            if code & 0xff != SQLITE_OK, code & 0xff != SQLITE_ROW {
                let message = sqlite3_errmsg(database).map { String(cString: $0) }
                throw DatabaseError(resultCode: ResultCode(rawValue: code), message: message)
            }
            return try body(UnsafeRawBufferPointer(start: nil, count: 0))
        }
        let bytes = UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(handle, column)))
        // The optimiser takes the query for dead when nothing names it any more, and its end is the end of these bytes.
        return try withExtendedLifetime(self) { try body(bytes) }
    }

    private func wrongType(_ column: Int32) -> StoreProblem {
        .corrupt("column \(column) of a row has a value that was never written there, in: \(statement.sql)")
    }
}

extension Database {
    /// Rows that the last statement changed.
    var rowsChanged: Int { Int(sqlite3_changes(sqliteConnection)) }
}

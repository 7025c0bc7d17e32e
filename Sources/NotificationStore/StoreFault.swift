import GRDB

/// Why the store cannot do what it is asked to.
package enum StoreFault: Error, Equatable, CustomStringConvertible {
    /// No space on the disk.
    case full(path: String)
    case readOnly(path: String)
    /// What is on the disk is not what was written; which file, and what of it.
    case corrupt(String)
    case newerVersion(path: String, found: Int, known: Int)
    /// The file is another application's database, or none at all.
    case notALog(path: String)
    /// Another process has it open.
    case busy(path: String)
    case io(String)

    /// The file of a log that is in use is not there any more, or is another one.
    package static func replaced(path: String) -> StoreFault {
        .io("\(path) was removed or replaced while it was in use: put it back, or restart the server")
    }

    package var description: String {
        switch self {
        case .full(let path):
            "the disk of \(path) is full: free some space, or start the server again with a lower retention "
                + "(--keep-messages, --keep-hours); the log goes on by itself then"
        case .readOnly(let path):
            "\(path) cannot be written to: let this user write to the file and to its directory, and check that the disk is not read-only"
        case .corrupt(let what):
            "\(what); see what is left with `tocsin log check`, then restore a copy, or move the file away to begin a new log"
        case .newerVersion(let path, let found, let known):
            "\(path) was written by a newer tocsin (schema \(found), this one knows up to \(known)): run that one; the file was not touched"
        case .notALog(let path):
            "\(path) is not a log of tocsin's: it is another application's database, or no database, or its beginning is destroyed; "
                + "name another path"
        case .busy(let path):
            "\(path) is open in another process: stop that one first"
        case .io(let what):
            what
        }
    }
}

/// What the store's own code finds wrong; `StoreFault.init` adds which file it is.
enum StoreProblem: Error {
    case corrupt(String)

    /// Whether this is about what stands in the file, and not about reading it.
    static func isDamage(_ error: any Error) -> Bool {
        if error is StoreProblem { return true }
        return (error as? DatabaseError)?.resultCode == .SQLITE_CORRUPT
    }
}

extension StoreFault {
    /// The one place where result codes are read.
    init(_ error: any Error, path: String) {
        switch error {
        case let fault as StoreFault:
            self = fault
        case StoreProblem.corrupt(let what):
            self = .corrupt("\(path) is corrupt: \(what)")
        case let error as DatabaseError:
            self.init(error, path: path)
        default:
            self = .io("\(path): \(error)")
        }
    }

    private init(_ error: DatabaseError, path: String) {
        let message = error.message ?? "no message"
        let words = "SQLite says: \(message) (result \(error.extendedResultCode.rawValue))"
        switch error.extendedResultCode.primaryResultCode {
        case .SQLITE_FULL:
            self = .full(path: path)
        case .SQLITE_READONLY, .SQLITE_PERM, .SQLITE_AUTH:
            self = .readOnly(path: path)
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            self = .busy(path: path)
        case .SQLITE_CORRUPT, .SQLITE_NOTADB, .SQLITE_FORMAT, .SQLITE_MISMATCH, .SQLITE_CONSTRAINT, .SQLITE_ERROR, .SQLITE_SCHEMA:
            // The last four: our own statements are right, so it is the file in which a table or a row is not as it was made.
            self = .corrupt("\(path) is corrupt. \(words)")
        case .SQLITE_CANTOPEN:
            self = .io("\(path) cannot be opened: check that its directory exists and that this user may write there. \(words)")
        default:
            self = .io("\(path) cannot be read or written. \(words)")
        }
    }
}

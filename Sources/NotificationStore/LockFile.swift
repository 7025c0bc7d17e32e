import Glibc

/// Held as long as a log is open, so that no second process opens it. It is the kernel's lock on a file beside the log, so it dies with
/// the process, whatever way that goes, and costs nothing per commit. SQLite's own `locking_mode=EXCLUSIVE` would keep the reader's
/// connection out too.
///
/// The lock belongs to what `open` made, not to the process: who is given the descriptor (a server that takes another one over) holds it,
/// too, and nobody gets in between.
package final class LockFile: Sendable {
    package let descriptor: Int32

    /// - Parameters:
    ///   - log: path of the log.
    ///   - mustExist: whether the log has to be there already.
    init(beside log: String, mustExist: Bool = false) throws(StoreFault) {
        if mustExist, !Self.isThere(log) { throw .io("there is no file \(log)") }
        descriptor = open(Self.path(beside: log), O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            let code = errno
            switch code {
            case EACCES, EPERM, EROFS: throw .readOnly(path: log)
            case ENOSPC, EDQUOT: throw .full(path: log)
            default: throw .io("\(log) cannot be opened: \(String(cString: strerror(code))): \(log).lock")
            }
        }
        // Whether it throws or not, `deinit` closes it: once.
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { throw .busy(path: log) }
    }

    /// Of a log that is to be opened or made.
    ///
    /// - Parameter mustExist: whether it has to be there already.
    package convenience init(of log: String, mustExist: Bool = false) throws(StoreFault) {
        if mustExist, !Self.isThere(log) { throw .replaced(path: log) }
        try Self.makeDirectory(of: log)
        try Self.checkSize(of: log)
        try self.init(beside: log)
    }

    /// What another process has taken and handed over; it is this object's from now on.
    ///
    /// - Throws: if it does not hold the lock and cannot have it.
    package init(inherited descriptor: Int32, log: String) throws(StoreFault) {
        self.descriptor = descriptor
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { throw .busy(path: log) }
    }

    deinit {
        guard descriptor >= 0 else { return }
        let result = Glibc.close(descriptor)
        assert(result == 0 || errno != EBADF, "a descriptor is closed once: the second time it may be another's")
    }

    static func path(beside log: String) -> String { log + ".lock" }

    /// Whether the file that it is still has its name: another process would take another one else.
    package func isInPlace(beside log: String) -> Bool {
        FileIdentity(descriptor: descriptor) == FileIdentity(path: Self.path(beside: log))
    }

    static func isThere(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// Makes the file for its owner alone, if there is none; SQLite gives the files beside it the same permissions. Whether that went
    /// well shows when SQLite opens it.
    static func makePrivate(_ path: String) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        if descriptor >= 0 { Glibc.close(descriptor) }
    }

    /// SQLite takes a file of some bytes for an empty one and writes over it.
    static func checkSize(of path: String) throws(StoreFault) {
        if path.isEmpty { throw .io("the path of the log is empty: name a file") }
        var status = stat()
        guard stat(path, &status) == 0 else { return }
        if status.st_mode & S_IFMT == S_IFDIR { throw .io("\(path) is a directory: name a file in it") }
        if status.st_size > 0, status.st_size < 512 { throw .notALog(path: path) }
    }

    /// Makes the directory of `path`, for its owner alone, if there is none.
    static func makeDirectory(of path: String) throws(StoreFault) {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash > path.startIndex else { return }
        let directory = String(path[..<slash])
        if access(directory, F_OK) == 0 { return }
        try makeDirectory(of: directory)
        guard mkdir(directory, 0o700) == 0 || errno == EEXIST else {
            let code = errno
            if code == EACCES || code == EPERM || code == EROFS { throw .readOnly(path: path) }
            throw .io("\(directory) cannot be made: \(String(cString: strerror(code)))")
        }
    }
}

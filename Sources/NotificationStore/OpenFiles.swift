import Glibc

/// Which file it is, whatever its name.
struct FileIdentity: Equatable {
    private let device: dev_t
    private let inode: ino_t

    private init(_ status: stat) {
        (device, inode) = (status.st_dev, status.st_ino)
    }

    /// nil: there is none.
    init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        self.init(status)
    }

    init?(descriptor: Int32) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return nil }
        self.init(status)
    }
}

/// The files of a log that is open, by which the next one who opens the log has to find them.
///
/// What is written to a file that was removed, or that another one has taken the name of, is in nobody's log: it goes with the process.
/// And a lock on a file that was removed keeps nobody out.
struct OpenFiles {
    private let path: String
    private var files: [(path: String, identity: FileIdentity)] = []

    /// - Parameter path: of a log that has just been opened.
    init(_ path: String, _ lock: LockFile?) throws(StoreFault) {
        self.path = path
        guard let log = FileIdentity(path: path), let lock = lock.flatMap({ FileIdentity(descriptor: $0.descriptor) }) else {
            throw .replaced(path: path)
        }
        files = [(path, log), (LockFile.path(beside: path), lock)]
        // SQLite has them beside the file that a link leads to.
        let resolved = realpath(path, nil)
        defer { free(resolved) }
        guard let resolved else { return }
        for ending in ["-wal", "-shm"] {
            let path = String(cString: resolved) + ending
            if let identity = FileIdentity(path: path) { files.append((path, identity)) }
        }
    }

    /// Some microseconds.
    func check() throws(StoreFault) {
        for file in files where FileIdentity(path: file.path) != file.identity { throw .replaced(path: path) }
    }
}

import Glibc

/// Space beside the log that is given up when the disk is full.
///
/// To drop messages SQLite has to write: what is changed goes into the write-ahead log first, and that log into the file before its own
/// space is free again. So on a disk without a free byte nothing could be dropped that would make room.
struct Reserve {
    /// As much as the write-ahead log has before it is moved into the file, so that it can be, and a quarter more to drop messages with.
    private static let bytes = (Schema.checkpointPages + Schema.checkpointPages / 4) * Schema.pageBytes
    /// It is no more than this part of what is free.
    private static let shareOfFree: Int64 = 4
    let path: String

    init(beside log: String) {
        path = log + ".reserve"
    }

    /// SQLite has other words for it if there is no room for the file of 32 KiB that its connections share.
    static func canHelp(_ fault: StoreFault) -> Bool {
        switch fault {
        case .full, .io: true
        default: false
        }
    }

    var isWhole: Bool { Self.size(of: path) == Int64(Self.bytes) }

    /// - Returns: whether it was there.
    func giveUp() -> Bool { unlink(path) == 0 }

    /// Takes it if there is plenty of room.
    func take() {
        if freeBytes >= Int64(Self.bytes) * Self.shareOfFree { takeBack() }
    }

    /// Takes it, or what can be had of it.
    func takeBack() {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        for part in (1...16).reversed() {
            if posix_fallocate(descriptor, 0, off_t(Self.bytes / 16 * part)) == 0 { return }
            ftruncate(descriptor, 0)
        }
        unlink(path)
    }

    /// Of the disk, for this user.
    var freeBytes: Int64 {
        let directory = path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[...$0]) } ?? "."
        var status = statvfs()
        guard statvfs(directory, &status) == 0 else { return 0 }
        return Int64(clamping: UInt64(status.f_bavail) * UInt64(status.f_frsize))
    }

    static func size(of path: String) -> Int64 {
        var status = stat()
        return stat(path, &status) == 0 ? Int64(status.st_size) : 0
    }
}

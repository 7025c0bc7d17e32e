import CProcess
import Glibc

/// System calls on a connection's descriptor, beside the channel that owns it.
enum SystemCall {
    static let sendFlags = Int32(MSG_DONTWAIT | MSG_NOSIGNAL)

    /// - Returns: bytes sent; negative if none could be.
    @inline(__always)
    static func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int {
        if descriptor >= World.firstDescriptor { return World.simulated!.send(descriptor, bytes) }
        return tocsin_send(descriptor, bytes.baseAddress, UInt(bytes.count), sendFlags)
    }

    /// - Returns: bytes received; 0 at the end, negative if there are none.
    static func receive(_ descriptor: Int32, _ buffer: UnsafeMutableRawBufferPointer) -> Int {
        if descriptor >= World.firstDescriptor { return World.simulated!.receive(descriptor, buffer) }
        return Glibc.recv(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
    }

    /// - Returns: -1 if there is none.
    static func openNothing() -> Int32 {
        Glibc.open("/dev/null", O_RDONLY | O_CLOEXEC)
    }

    /// - Returns: the ends of a pipe that do not block; nil if there are no descriptors.
    static func pipe() -> (read: Int32, write: Int32)? {
        var ends: [Int32] = [-1, -1]
        guard Glibc.pipe(&ends) == 0 else { return nil }
        for end in ends {
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
        }
        return (ends[0], ends[1])
    }

    static func writeByte(_ descriptor: Int32) {
        var byte: UInt8 = 0
        _ = Glibc.write(descriptor, &byte, 1)
    }

    /// Reads what there is in a pipe that does not block, and forgets it.
    static func drain(_ descriptor: Int32) {
        withUnsafeTemporaryAllocation(byteCount: 256, alignment: 1) { bytes in
            while Glibc.read(descriptor, bytes.baseAddress, bytes.count) == bytes.count {}
        }
    }

    static func close(_ descriptor: Int32) {
        let result = Glibc.close(descriptor)
        assert(result == 0 || errno != EBADF, "a descriptor is closed once: the second time it may be another's")
    }

    /// Takes a connection off a listener that does not block.
    ///
    /// - Returns: its descriptor, which does not block either, negative if there is none (`errno` says why); and where it comes from, nil
    ///   if it is gone already.
    static func accept(_ listener: Int32) -> (descriptor: Int32, peer: PeerAddress?) {
        var storage = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let descriptor = tocsin_accept(listener, &storage, &size)
        guard descriptor >= 0 else { return (-1, nil) }
        return (descriptor, withUnsafeBytes(of: &storage) { PeerAddress($0) })
    }

    /// Takes a connection off a listener, only to end it.
    ///
    /// - Returns: false if there was none.
    static func acceptAndClose(_ listener: Int32) -> Bool {
        let descriptor = Glibc.accept(listener, nil, nil)
        guard descriptor >= 0 else { return false }
        _ = Glibc.close(descriptor)
        return true
    }

    /// How many descriptors this process may have.
    static func descriptorsMax() -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
        return Int(clamping: limit.rlim_cur)
    }

    /// How many it has now.
    static func descriptorsOpen() -> Int {
        guard let folder = opendir("/proc/self/fd") else { return 64 }
        defer { closedir(folder) }
        var count = 0
        while readdir(folder) != nil { count += 1 }
        return count - 3  // ".", "..", and the folder's own
    }

    /// The memory that this process has in use; 0 if the system does not tell.
    static func residentBytes() -> Int {
        guard let bytes = contents(of: "/proc/self/statm", bytesMax: 4096) else { return 0 }
        let pages = String(decoding: bytes, as: UTF8.self).split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    /// The whole of a small file; nil if it cannot be read.
    static func contents(of path: String, bytesMax: Int = 1 << 20) -> [UInt8]? {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: bytesMax)
        var count = 0
        while count < bytes.count {
            let got = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress! + count, $0.count - count) }
            guard got >= 0 else { return nil }
            if got == 0 { return Array(bytes[..<count]) }
            count += got
        }
        return nil
    }

    /// Whether everybody on this host may read a file; true if that cannot be told.
    static func isReadableByAll(_ path: String) -> Bool {
        tocsin_is_readable_by_all(path) != 0
    }

    /// Of the calling thread (on Linux a priority is a thread's): others of this process go before it.
    static func lowerPriority() {
        _ = Glibc.setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0) + 5)
    }

    /// The peer gets a reset when it is closed, and nothing of it is kept (SO_LINGER, socket(7)).
    static func resetWhenClosed(_ descriptor: Int32) {
        if descriptor >= World.firstDescriptor { return }
        var value = linger(l_onoff: 1, l_linger: 0)
        _ = setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
    }

    static func shutDownWriting(_ descriptor: Int32) {
        if descriptor >= World.firstDescriptor { return World.simulated!.shutDownWriting(descriptor) }
        _ = Glibc.shutdown(descriptor, Int32(SHUT_WR))
    }
}

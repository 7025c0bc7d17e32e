import CUnixSocket
import Glibc

/// The Unix socket by which a server is reached that may be taken over: a file beside its log, for its own user alone.
enum UnixSocket {
    /// What a path may have (unix(7)).
    private static let pathBytesMax = 107

    /// Where a server with this log listens.
    static func path(ofLog log: String) -> String { log + ".takeover" }

    /// Listens at a path, where there may be the file of one who listens no more, or who is to be replaced: from one moment to the next the
    /// path is this socket's.
    ///
    /// - Returns: a descriptor that listens.
    static func listen(at path: String) throws(SystemFault) -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw SystemFault("socket") }
        let passing = "\(path).\(getpid())"
        unlink(passing)
        do throws(SystemFault) {
            // Nobody is let in before the permissions are right: until `listen` nobody can connect.
            try withShort(passing) { tocsin_bind_path(descriptor, $0) }
            guard chmod(passing, 0o600) == 0 else { throw SystemFault("chmod") }
            guard Glibc.listen(descriptor, 8) == 0 else { throw SystemFault("listen") }
            guard rename(passing, path) == 0 else { throw SystemFault("rename") }
            return descriptor
        } catch {
            unlink(passing)
            close(descriptor)
            throw error
        }
    }

    /// - Returns: a descriptor; nil: nobody listens there.
    static func connect(to path: String) throws(SystemFault) -> Int32? {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw SystemFault("socket") }
        do throws(SystemFault) {
            try withShort(path) { tocsin_connect_path(descriptor, $0) }
            return descriptor
        } catch {
            close(descriptor)
            if error.code == ENOENT || error.code == ECONNREFUSED { return nil }
            throw error
        }
    }

    /// A path that is longer than an address has room for is reached through its folder, opened.
    private static func withShort(_ path: String, _ body: (String) -> Int32) throws(SystemFault) {
        if path.utf8.count <= pathBytesMax {
            guard body(path) == 0 else { throw SystemFault("the socket \(path)") }
            return
        }
        let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
        let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let name = slash.map { String(path[path.utf8.index(after: $0)...]) } ?? path
        let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SystemFault("the folder \(folder)") }
        defer { close(descriptor) }
        guard body("/proc/self/fd/\(descriptor)/\(name)") == 0 else { throw SystemFault("the socket \(path)") }
    }

    /// Which file a path names, so that only one's own is removed.
    struct File: Equatable {
        private let device: UInt
        private let number: UInt
        let mode: UInt32

        init?(_ path: String) {
            var (mode, device, number): (UInt32, UInt, UInt) = (0, 0, 0)
            guard tocsin_file_identity(path, &mode, &device, &number) == 0 else { return nil }
            (self.mode, self.device, self.number) = (mode, device, number)
        }
    }

    // MARK: whoever is at the other end

    struct Peer {
        var user: UInt32
        var process: Int32

        /// Of a socket that is connected; nil: it is not known.
        init?(_ descriptor: Int32) {
            var (user, process): (UInt32, Int32) = (0, 0)
            guard tocsin_peer(descriptor, &user, &process) == 0 else { return nil }
            (self.user, self.process) = (user, process)
        }

        init(user: UInt32, process: Int32) {
            (self.user, self.process) = (user, process)
        }

        /// Whether it may have what this process has: of the same user, or of who may do everything anyway.
        func mayTakeOver(from own: UInt32) -> Bool { user == own || user == 0 }
    }

    // MARK: descriptors

    /// Sends bytes in one go, and descriptors with them.
    static func send(_ bytes: [UInt8], _ descriptors: [Int32], to socket: Int32) throws(SystemFault) {
        let sent = tocsin_send_descriptors(socket, bytes, UInt(bytes.count), descriptors, Int32(descriptors.count))
        guard sent >= 0 else { throw SystemFault("sendmsg") }
        // A socket that nothing was written to has room for a message of this size.
        guard sent == bytes.count else { throw SystemFault("sendmsg", code: EMSGSIZE) }
    }

    /// Waits for bytes, and descriptors that come with them, which are the caller's then.
    ///
    /// - Returns: no bytes at the end.
    static func receive(_ socket: Int32) throws(SystemFault) -> (bytes: [UInt8], descriptors: [Int32]) {
        var bytes = [UInt8](repeating: 0, count: 4096)
        var descriptors = [Int32](repeating: -1, count: Int(TOCSIN_DESCRIPTORS_MAX))
        var number: Int32 = 0
        var got: Int
        repeat {
            got = tocsin_receive_descriptors(socket, &bytes, UInt(bytes.count), &descriptors, Int32(descriptors.count), &number)
        } while got < 0 && errno == EINTR
        guard got >= 0 else { throw SystemFault("recvmsg") }
        return (Array(bytes[..<got]), Array(descriptors[..<Int(number)]))
    }

    /// How long `receive` waits.
    static func setPatience(_ socket: Int32, seconds: Int) {
        var time = timeval(tv_sec: seconds, tv_usec: 0)
        _ = setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }
}

import CProcess
import Glibc

/// A worker, as the main process has it.
protocol WorkerProcess {
    var id: pid_t { get }
    /// The main process's end of the link.
    var link: Int32 { get }

    /// - Returns: how it ended; nil: it has not.
    func reap() -> String?
    func kill()
}

/// A worker as a process: this program once more, with one end of a pair of sockets.
struct ChildProcess: WorkerProcess {
    /// Where a worker finds its end of the link, and the number that all processes share.
    static let linkDescriptor: Int32 = 3
    static let numberDescriptor: Int32 = 4

    let id: pid_t
    let link: Int32

    /// To be called from a thread that lives as long as this process: the child gets SIGTERM when it ends.
    ///
    /// - Parameter arguments: without the program's name.
    /// - Throws: `errno` of what does not work.
    static func start(_ arguments: [String], number: Int32) throws(SystemFault) -> ChildProcess {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw SystemFault("socketpair")
        }
        // Out of the way of the numbers that the child is to have them under.
        let theirs = fcntl(ends[1], F_DUPFD_CLOEXEC, 16)
        let numberCopy = fcntl(number, F_DUPFD_CLOEXEC, 16)
        close(ends[1])
        defer {
            if theirs >= 0 { close(theirs) }
            if numberCopy >= 0 { close(numberCopy) }
        }
        guard theirs >= 0, numberCopy >= 0 else {
            close(ends[0])
            throw SystemFault("fcntl")
        }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, theirs, linkDescriptor)
        posix_spawn_file_actions_adddup2(&actions, numberCopy, numberDescriptor)
        tocsin_close_from(&actions, numberDescriptor + 1)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // What this process does with signals is not for the child.
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigdefault(&attributes, &all)
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))
        let words = ([CommandLine.arguments.first ?? "tocsin"] + arguments).map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var id: pid_t = 0
        let code = posix_spawn(&id, "/proc/self/exe", &actions, &attributes, words, environ)
        guard code == 0 else {
            close(ends[0])
            throw SystemFault("posix_spawn", code: code)
        }
        return ChildProcess(id: id, link: ends[0])
    }

    /// In the child: it is told to go when the process that started it ends, however that ends.
    static func endWithParent() {
        _ = tocsin_signal_at_parents_end(SIGTERM)
    }

    /// In the child: the kernel ends this process after so long, whatever it is doing then.
    static func endAfter(seconds: Int) {
        _ = alarm(UInt32(max(1, seconds)))
    }

    func reap() -> String? {
        var status: Int32 = 0
        guard waitpid(id, &status, WNOHANG) == id else { return nil }
        let signal = status & 0x7f
        return signal == 0 ? "status \(status >> 8 & 0xff)" : "signal \(signal)"
    }

    func kill() {
        _ = Glibc.kill(id, SIGKILL)
    }
}

struct SystemFault: Error, CustomStringConvertible {
    let call: String
    let code: Int32

    init(_ call: String, code: Int32 = errno) {
        self.call = call
        self.code = code
    }

    var reason: String { String(cString: strerror(code)) }
    var description: String { "\(call): \(reason)" }
}

/// A port that is kept for this server: bound, and not listened to. Its workers listen to it (SO_REUSEPORT, socket(7)).
struct ReservedPort: ~Copyable {
    let port: Int
    private let descriptor: Int32
    /// Ten a second.
    private static let triesMax = 20

    /// - Parameter port: 0: any free one.
    init(host: String, port: Int) throws(ServerStartFault) {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, "\(port)", &hints, &list)
        guard code == 0, let address = list else {
            throw ServerStartFault(description: "cannot listen on \(host):\(port): \(String(cString: gai_strerror(code)))")
        }
        defer { freeaddrinfo(list) }
        func bound(isShared: Bool) throws(ServerStartFault) -> Int32 {
            let descriptor = socket(address.pointee.ai_family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            var on: Int32 = 1
            let size = socklen_t(MemoryLayout<Int32>.size)
            if descriptor >= 0, setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, size) == 0,
                !isShared || setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &on, size) == 0,
                bind(descriptor, address.pointee.ai_addr, address.pointee.ai_addrlen) == 0
            {
                return descriptor
            }
            let fault = SystemFault("bind").reason
            if descriptor >= 0 { close(descriptor) }
            throw ServerStartFault(description: "cannot listen on \(host):\(port): \(fault)")
        }
        // Another server of this user that shares its port, too, must not go unnoticed: it would get some of the clients. The workers of
        // one that was killed may need a moment until they listen no more.
        var tries = port == 0 ? 0 : Self.triesMax
        while tries > 0 {
            do throws(ServerStartFault) {
                close(try bound(isShared: false))
                break
            } catch {
                tries -= 1
                if tries == 0 { throw error }
                usleep(100_000)
            }
        }
        let descriptor = try bound(isShared: true)
        var storage = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
        }
        precondition(result == 0, "a bound socket has an address")
        // The port stands at the same place in both families (RFC 3493, section 3.3).
        let found = withUnsafeBytes(of: &storage) { Int($0[2]) << 8 | Int($0[3]) }
        (self.descriptor, self.port) = (descriptor, found)
    }

    deinit {
        close(descriptor)
    }
}

/// A folder for a log that goes with its server, in memory if there is such a file system.
enum PassingFolder {
    static func make() throws(ServerStartFault) -> String {
        for parent in ["/dev/shm", getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp", "/tmp"] {
            var template = Array((parent + "/tocsin-XXXXXX").utf8CString)
            if mkdtemp(&template) != nil { return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self) }
        }
        throw ServerStartFault(description: "there is no folder for the log: name a file with --store")
    }

    static func remove(_ folder: String) {
        guard let list = opendir(folder) else { return }
        while let entry = readdir(list) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: Int(entry.pointee.d_reclen)) { String(cString: $0) }
            }
            if name.hasPrefix("log.sqlite") { unlink(folder + "/" + name) }
        }
        closedir(list)
        rmdir(folder)
    }
}

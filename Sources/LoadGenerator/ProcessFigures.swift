import CEpoll
import Glibc

/// What the kernel says about processes of this machine.
package enum ProcessFigures {
    /// Processor time of the processes since they began, of threads that have ended as well, in nanoseconds: their processor clocks, or
    /// utime and stime of stat, which count in hundredths of a second.
    ///
    /// - Returns: nil when one of them is gone.
    package static func cpuNanoseconds(_ processes: [Int32]) -> Int64? {
        var sum: Int64 = 0
        for process in processes {
            guard let time = clockTime(process) ?? tickTime(process) else { return nil }
            sum += time
        }
        return sum
    }

    /// Anonymous memory in bytes: heap and stacks, without pages of files (smaps_rollup).
    package static func anonymousBytes(_ processes: [Int32]) -> Int? {
        var sum = 0
        for process in processes {
            guard let kilobytes = member("Anonymous:", of: "/proc/\(process)/smaps_rollup") else { return nil }
            sum += kilobytes << 10
        }
        return sum
    }

    /// What TCP's buffers take in the whole machine, in bytes, both ends of a loopback connection: pages of `mem` in sockstat.
    package static var tcpBufferBytes: Int? {
        guard let text = read("/proc/net/sockstat") else { return nil }
        for line in text.split(separator: "\n") where line.hasPrefix("TCP:") {
            let words = line.split(separator: " ")
            guard let place = words.firstIndex(of: "mem"), let pages = Int(words[place + 1]) else { return nil }
            return pages * Int(getpagesize())
        }
        return nil
    }

    /// What the kernel's objects take in the whole machine, in bytes: sockets, files, epoll entries and all else (SUnreclaim of meminfo).
    package static var kernelObjectBytes: Int? {
        member("SUnreclaim:", of: "/proc/meminfo").map { $0 << 10 }
    }

    /// Processor time of this process, nanoseconds.
    static var ownCPUNanoseconds: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    /// The processor clock of the whole process (clock_getcpuclockid(3)).
    private static func clockTime(_ process: Int32) -> Int64? {
        var clock = clockid_t()
        var time = timespec()
        guard clock_getcpuclockid(process, &clock) == 0, clock_gettime(clock, &time) == 0 else { return nil }
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    private static func tickTime(_ process: Int32) -> Int64? {
        // The name in parentheses may have spaces.
        guard let text = read("/proc/\(process)/stat"), let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[end...].split(separator: " ")
        guard fields.count > 13, let user = Int64(fields[12]), let system = Int64(fields[13]) else { return nil }
        return (user + system) * 1_000_000_000 / Int64(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// The number behind a name at the beginning of a line, in kB.
    private static func member(_ name: String, of path: String) -> Int? {
        guard let text = read(path) else { return nil }
        for line in text.split(separator: "\n") where line.hasPrefix(name) {
            return line.dropFirst(name.count).split(separator: " ").first.flatMap { Int($0) }
        }
        return nil
    }

    private static func read(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var text: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 16384)
        while case let count = Glibc.read(descriptor, &piece, piece.count), count > 0 { text += piece[..<count] }
        return text.isEmpty ? nil : String(decoding: text, as: UTF8.self)
    }
}

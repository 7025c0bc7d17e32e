import CEpoll
import Glibc

/// The clock of all due times: CLOCK_MONOTONIC, nanoseconds. One for all processes of a machine.
package func monotonicNanoseconds() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}

/// Where a server listens: IPv4.
package struct Target: Sendable {
    package let isTLS: Bool
    package let host: String
    package let port: UInt16
    /// In network byte order.
    let address: UInt32

    /// What a Host field says.
    package var authority: String { "\(host):\(port)" }
    var isLoopback: Bool { UInt32(bigEndian: address) >> 24 == 127 }

    /// - Parameter url: http://HOST:PORT or https://HOST:PORT.
    package init(_ url: String) throws(LoadFault) {
        guard let match = url.wholeMatch(of: /(https?):\/\/([A-Za-z0-9.-]+)(?::([0-9]{1,5}))?\/?/),
            let port = match.3.map({ UInt16($0) }) ?? (match.1 == "https" ? 443 : 80)
        else {
            throw LoadFault("\"\(url)\" is not http://host:port or https://host:port")
        }
        isTLS = match.1 == "https"
        host = String(match.2)
        self.port = port
        var hints = addrinfo()
        hints.ai_family = AF_INET
        var found: UnsafeMutablePointer<addrinfo>?
        let result = getaddrinfo(host, nil, &hints, &found)
        guard result == 0, let found else { throw LoadFault("\(host) has no IPv4 address: \(String(cString: gai_strerror(result)))") }
        defer { freeaddrinfo(found) }
        address = found.pointee.ai_addr.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { $0.pointee.sin_addr.s_addr }
    }
}

/// The system calls of one TCP connection that never blocks.
enum Socket {
    /// Loopback connections come from so many addresses in turn: each has 28,000 ports, and those of the run before may not be free yet.
    private static let sourceAddresses: UInt32 = 16
    // linux/in.h: the port is chosen when it is known where the connection goes to, so that one port serves several destinations.
    private static let bindAddressNoPort: Int32 = 24

    /// Begins to connect.
    ///
    /// - Parameter number: of the connection; chooses the source address.
    static func connect(to target: Target, number: Int) throws(LoadFault) -> Int32 {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(AF_INET, type, 0)
        guard descriptor >= 0 else { throw LoadFault("no socket: \(String(cString: strerror(errno)))") }
        set(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        // Ends with RST, so that no port waits for a minute behind a run.
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout.size(ofValue: linger)))
        var result: Int32 = 0
        if target.isLoopback {
            set(descriptor, Int32(IPPROTO_IP), bindAddressNoPort, 1)
            let source = 0x7f00_0001 + UInt32(number) % sourceAddresses
            result = withAddress(source.bigEndian, 0) { bind(descriptor, $0, $1) }
        }
        if result == 0 { result = withAddress(target.address, target.port.bigEndian) { Glibc.connect(descriptor, $0, $1) } }
        guard result == 0 || errno == EINPROGRESS else {
            let why = errno
            close(descriptor)
            throw LoadFault("cannot connect to \(target.authority): \(String(cString: strerror(why)))")
        }
        return descriptor
    }

    /// 0, or why connecting failed.
    static func takeError(_ descriptor: Int32) -> Int32 {
        var error: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno
    }

    /// What has gone over the wire since it was opened, without the headers of TCP and IP; 0 when the kernel does not say.
    static func wireBytes(_ descriptor: Int32) -> WireBytes {
        // linux/tcp.h, struct tcp_info (Linux 4.1): tcpi_bytes_acked at 120, tcpi_bytes_received at 128. That of glibc ends before them.
        var info = InlineArray<32, UInt64>(repeating: 0)
        var size = socklen_t(MemoryLayout.size(ofValue: info))
        guard getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_INFO, &info, &size) == 0, size >= 144 else { return WireBytes() }
        // tcpi_segs_out at 136, tcpi_segs_in at 140.
        return WireBytes(
            received: info[16], acknowledged: info[15], segmentsReceived: info[17] >> 32, segmentsSent: info[17] & 0xffff_ffff
        )
    }

    private static func set(_ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: Int32) {
        var value = value
        setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    private static func withAddress(_ address: in_addr_t, _ port: in_port_t, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32
    {
        var socketAddress = sockaddr_in()
        socketAddress.sin_family = sa_family_t(AF_INET)
        socketAddress.sin_port = port
        socketAddress.sin_addr.s_addr = address
        return withUnsafePointer(to: &socketAddress) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
    }
}

/// Payload bytes of TCP, and the segments that carried them and their acknowledgements.
struct WireBytes: Sendable {
    var received: UInt64 = 0
    /// Sent, and acknowledged by the other side.
    var acknowledged: UInt64 = 0
    var segmentsReceived: UInt64 = 0
    var segmentsSent: UInt64 = 0

    static func + (left: WireBytes, right: WireBytes) -> WireBytes {
        WireBytes(
            received: left.received + right.received, acknowledged: left.acknowledged + right.acknowledged,
            segmentsReceived: left.segmentsReceived + right.segmentsReceived, segmentsSent: left.segmentsSent + right.segmentsSent
        )
    }

    /// What was added since then; 0 where a connection has gone meanwhile.
    func since(_ before: WireBytes) -> WireBytes {
        func difference(_ path: KeyPath<WireBytes, UInt64>) -> UInt64 {
            self[keyPath: path] > before[keyPath: path] ? self[keyPath: path] - before[keyPath: path] : 0
        }
        return WireBytes(
            received: difference(\.received), acknowledged: difference(\.acknowledged),
            segmentsReceived: difference(\.segmentsReceived), segmentsSent: difference(\.segmentsSent)
        )
    }
}

import CEpoll
import Foundation
import Synchronization
import TransportComparison

// A network between two namespaces of this machine, made in user space: each namespace has a TUN device, and what is sent into the one
// comes out of the other later, or not at all. Both ends are the kernel's TCP, so handshakes, acknowledgements and retransmissions are
// real. It does what `tc netem` does, and needs no netem, which many kernels are built without.
//
//     namespace of the clients               this process                namespace of the server
//     198.18.0.2  --- TUN --->  loss, then the line's rate, then delay  --- TUN --->  198.18.0.10, .11, …  one line each
//                     TUN --------------------- at once ------------------- TUN       198.18.0.1           for publishing

/// What happens on a line, each way.
struct LineShape: Sendable {
    var delayNanoseconds: Int64 = 0
    /// 0 to 1, of packets.
    var loss = 0.0
    var bitsPerSecond: Double?
}

/// The two namespaces, their devices, and the thread between them.
final class EmulatedNetwork: Sendable {
    static let publishAddress = "198.18.0.1"
    private static let clientAddress = "198.18.0.2"
    private static let lineAddressFirst = 10
    private static let prefix = "tocsin-compare-"

    let serverWords: [String]
    let clientWords: [String]
    private let shape = Mutex(LineShape())
    private let isOver = Atomic<Bool>(false)
    private let devices: [Int32]
    private let hasEnded = DispatchSemaphore(value: 0)

    /// The server's address on a line.
    static func address(line: Int) -> String { "198.18.0.\(lineAddressFirst + line)" }

    /// - Parameter lines: how many addresses the server gets.
    /// - Throws: what is missing, in words.
    init(lines: Int, leftovers: ComparisonLeftovers) throws {
        guard geteuid() == 0 else { throw ComparisonFault("only root can make network namespaces") }
        guard (try? Child.result(of: ["ip", "-V"]).status) == 0 else { throw ComparisonFault("the program ip (iproute2) is missing") }
        Self.removeOld()
        let number = getpid()
        let names = ["\(Self.prefix)\(number)-s", "\(Self.prefix)\(number)-c"]
        let addresses = [
            [Self.publishAddress] + (0..<lines).map { Self.address(line: $0) }, [Self.clientAddress],
        ]
        var devices: [Int32] = []
        for (name, addresses) in zip(names, addresses) {
            try Child.run(["ip", "netns", "add", name])
            leftovers.add(namespace: name)
            let device = "tun\(name.hasSuffix("s") ? "s" : "c")\(number)"
            devices.append(try Self.openDevice(device))
            // It stays open here when it moves there.
            try Child.run(["ip", "link", "set", device, "netns", name])
            for address in addresses { try Child.run(["ip", "-n", name, "address", "add", "\(address)/24", "dev", device]) }
            try Child.run(["ip", "-n", name, "link", "set", "lo", "up"])
            try Child.run(["ip", "-n", name, "link", "set", device, "up"])
        }
        self.devices = devices
        (serverWords, clientWords) = (["ip", "netns", "exec", names[0]], ["ip", "netns", "exec", names[1]])
        Thread.detachNewThread { [self] in
            Relay(self.devices, shape: { self.shape.withLock { $0 } }, isOver: { self.isOver.load(ordering: .relaxed) })()
            hasEnded.signal()
        }
    }

    func set(_ shape: LineShape) {
        self.shape.withLock { $0 = shape }
    }

    /// Ends the thread and closes the devices, which removes them. The namespaces are the leftovers'.
    func end() {
        isOver.store(true, ordering: .relaxed)
        hasEnded.wait()
        for device in devices { close(device) }
    }

    /// Those of comparisons that were killed.
    private static func removeOld() {
        guard let list = try? Child.result(of: ["ip", "netns", "list"]) else { return }
        for line in String(decoding: list.output, as: UTF8.self).split(separator: "\n") {
            guard let name = line.split(separator: " ").first, name.hasPrefix(prefix) else { continue }
            guard let owner = name.dropFirst(prefix.count).split(separator: "-").first.flatMap({ Int32($0) }) else { continue }
            guard kill(owner, 0) != 0 else { continue }
            if let inside = try? Child.result(of: ["ip", "netns", "pids", String(name)]) {
                for process in String(decoding: inside.output, as: UTF8.self).split(separator: "\n").compactMap({ Int32($0) }) {
                    kill(process, SIGKILL)
                }
            }
            _ = try? Child.result(of: ["ip", "netns", "delete", String(name)])
        }
    }

    /// A TUN device (linux/if_tun.h) of this name: packets of IP without anything before them.
    private static func openDevice(_ name: String) throws -> Int32 {
        let setInterface: UInt = 0x4004_54ca
        let tunWithoutInformation: UInt16 = 0x1001
        let descriptor = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)
        guard descriptor >= 0 else { throw ComparisonFault("/dev/net/tun cannot be opened: \(String(cString: strerror(errno)))") }
        // struct ifreq: 16 bytes of name, then the flags.
        var request = [UInt8](repeating: 0, count: 40)
        request.replaceSubrange(0..<name.utf8.count, with: name.utf8)
        (request[16], request[17]) = (UInt8(tunWithoutInformation & 255), UInt8(tunWithoutInformation >> 8))
        let result = request.withUnsafeMutableBytes { ioctl(descriptor, setInterface, $0.baseAddress!) }
        guard result == 0 else {
            let why = String(cString: strerror(errno))
            close(descriptor)
            throw ComparisonFault("no TUN device: \(why)")
        }
        return descriptor
    }
}

/// The thread between the two devices.
private struct Relay {
    private struct Packet {
        var due: Int64
        /// Keeps the order of packets that are due at the same time.
        var number: Int
        var to: Int32
        var bytes: [UInt8]

        static func before(_ left: Packet, _ right: Packet) -> Bool { (left.due, left.number) < (right.due, right.number) }
    }

    private static let packetBytesMax = 65536
    private static let turnNanoseconds: Int64 = 20_000_000
    /// What a line's buffer holds, as the time that it takes to send it. What does not fit is lost.
    private static let bufferNanoseconds: Int64 = 300_000_000
    private static let eventsMax = 4
    private static let ipv4HeaderBytes = 20
    private static let publishHost = 1

    private let devices: [Int32]
    private let shape: () -> LineShape
    private let isOver: () -> Bool
    private var heap: [Packet] = []
    private var count = 0
    /// When a line has sent all that it was given, by its address and direction.
    private var freeAt: [Int: Int64] = [:]
    private var random = SeededRandom(state: 20)

    init(_ devices: [Int32], shape: @escaping () -> LineShape, isOver: @escaping () -> Bool) {
        (self.devices, self.shape, self.isOver) = (devices, shape, isOver)
    }

    consuming func callAsFunction() {
        var relay = self
        relay.run()
    }

    private mutating func run() {
        _ = tocsin_set_timer_slack(1)
        let epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        defer { close(epoll) }
        for (index, device) in devices.enumerated() {
            var event = epoll_event()
            event.events = UInt32(EPOLLIN.rawValue)
            event.data.u32 = UInt32(index)
            epoll_ctl(epoll, EPOLL_CTL_ADD, device, &event)
        }
        var events = [epoll_event](repeating: epoll_event(), count: Self.eventsMax)
        var buffer = [UInt8](repeating: 0, count: Self.packetBytesMax)
        while !isOver() {
            let wait = heap.first.map { min($0.due - Self.now, Self.turnNanoseconds) } ?? Self.turnNanoseconds
            let count = tocsin_epoll_wait(epoll, &events, Int32(Self.eventsMax), max(0, wait))
            let shape = shape()
            for event in events.prefix(Int(max(0, count))) { take(from: Int(event.data.u32), &buffer, shape) }
            while let first = heap.first, first.due <= Self.now {
                _ = write(first.to, first.bytes, first.bytes.count)
                removeFirst()
            }
        }
    }

    private mutating func take(from index: Int, _ buffer: inout [UInt8], _ shape: LineShape) {
        while case let count = read(devices[index], &buffer, buffer.count), count > 0 {
            guard count >= Self.ipv4HeaderBytes, buffer[0] >> 4 == 4 else { continue }
            // The server's address: where it comes from, or where it goes to.
            let host = Int(index == 0 ? buffer[15] : buffer[19])
            let now = Self.now
            var due = now
            if host != Self.publishHost {
                guard shape.loss == 0 || random.fraction() >= shape.loss else { continue }
                if let rate = shape.bitsPerSecond {
                    let line = host * 2 + index
                    let begin = max(now, freeAt[line] ?? 0)
                    guard begin - now <= Self.bufferNanoseconds else { continue }
                    due = begin + Int64(Double(count * 8) * 1e9 / rate)
                    freeAt[line] = due
                }
                due += shape.delayNanoseconds
            }
            self.count += 1
            insert(Packet(due: due, number: self.count, to: devices[1 - index], bytes: Array(buffer[..<count])))
        }
    }

    private mutating func insert(_ packet: Packet) {
        heap.append(packet)
        var child = heap.count - 1
        while child > 0, case let parent = (child - 1) / 2, Packet.before(heap[child], heap[parent]) {
            heap.swapAt(child, parent)
            child = parent
        }
    }

    private mutating func removeFirst() {
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && Packet.before(heap[child], heap[least]) {
                least = child
            }
            guard least != parent else { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }

    private static var now: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

/// SplitMix64 (Steele, Lea, Flood): the same losses in each run, as far as the packets are the same.
private struct SeededRandom {
    var state: UInt64

    /// 0 up to 1.
    mutating func fraction() -> Double {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return Double((mixed ^ (mixed >> 31)) >> 11) / Double(1 << 53)
    }
}

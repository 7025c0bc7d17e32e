import CEpoll
import Glibc
import TLSEngine

/// One connection to the server, plain or over TLS. What it carries is in subclasses.
///
///     connecting --> (handshaking, with TLS) --> open --> closed
///
/// Belongs to the thread of its loop.
class Link {
    private enum Phase {
        case connecting, handshaking, open, closed
    }

    /// Owns this link.
    unowned(unsafe) let loop: LinkLoop
    private(set) var descriptor: Int32 = -1
    /// When connecting began; CLOCK_MONOTONIC, nanoseconds.
    private(set) var connectStart: Int64 = 0
    private var phase = Phase.closed
    private var tls: TLSEngine?
    /// Of an earlier connection of this client, for its next one.
    var ticket: TLSTicket?
    /// What the socket did not take yet, from `waitingStart` on.
    private var waiting: [UInt8] = []
    private var waitingStart = 0

    init(loop: LinkLoop) {
        self.loop = loop
    }

    // MARK: - For subclasses

    /// The connection stands, and bytes can be sent.
    func opened() {}

    /// Bytes came. Valid for the call.
    func received(_ bytes: UnsafeRawBufferPointer) throws(ReadingFault) {}

    /// The connection is gone; not after `close`.
    func ended(_ why: String) {}

    /// By ALPN; nil without TLS or when the server chose none.
    var negotiatedProtocol: String? { tls?.negotiatedProtocol }

    var isOpen: Bool { phase == .open }

    /// Sends, or keeps what the socket does not take.
    func send(_ bytes: [UInt8]) {
        guard phase == .open else { return }
        guard let tls else {
            bytes.withUnsafeBytes { write($0) }
            return
        }
        loop.outgoing.removeAll(keepingCapacity: true)
        do throws(TLSFault) {
            try bytes.withUnsafeBufferPointer { bytes throws(TLSFault) in
                try tls.send(UnsafeRawBufferPointer(bytes), outgoing: &loop.outgoing)
            }
        } catch {
            end("TLS: \(error)")
            return
        }
        writeOutgoing()
    }

    /// Ends the connection and says so to `ended`.
    func end(_ why: String) {
        guard phase != .closed else { return }
        close()
        ended(why)
    }

    // MARK: - For the loop

    /// - Parameter number: of the connection in the whole load.
    func connect(number: Int) {
        connectStart = monotonicNanoseconds()
        do throws(LoadFault) {
            descriptor = try Socket.connect(to: loop.target, number: number)
        } catch {
            ended(error.description)
            return
        }
        phase = .connecting
        loop.register(self, descriptor, EPOLL_CTL_ADD, writes: true)
    }

    func close() {
        guard phase != .closed else { return }
        phase = .closed
        Glibc.close(descriptor)
        descriptor = -1
        ticket = loop.keepsTickets ? tls?.endForTicket() : nil
        tls = nil
        waiting = []
    }

    func handle(isReadable: Bool, isWritable: Bool) {
        if phase == .connecting {
            guard isWritable || isReadable else { return }
            let error = Socket.takeError(descriptor)
            guard error == 0 else { return end("cannot connect to \(loop.target.authority): \(String(cString: strerror(error)))") }
            connected()
        } else if isWritable {
            flush()
        }
        if isReadable, phase != .closed { read() }
    }

    private func connected() {
        loop.register(self, descriptor, EPOLL_CTL_MOD, writes: false)
        guard let context = loop.tlsContext else {
            phase = .open
            opened()
            return
        }
        phase = .handshaking
        let engine = TLSEngine(client: context, serverName: loop.target.host)
        if let ticket { engine.resume(ticket) }
        ticket = nil
        tls = engine
        loop.outgoing.removeAll(keepingCapacity: true)
        do throws(TLSFault) {
            try engine.startHandshake(outgoing: &loop.outgoing)
        } catch {
            return end("TLS: \(error)")
        }
        writeOutgoing()
    }

    private func read() {
        let count = recv(descriptor, loop.buffer.baseAddress, loop.buffer.count, 0)
        guard count > 0 else {
            if count < 0, errno == EAGAIN || errno == EINTR { return }
            return end(count == 0 ? "the server closed the connection" : "the connection broke: \(String(cString: strerror(errno)))")
        }
        loop.now = monotonicNanoseconds()
        let bytes = UnsafeRawBufferPointer(rebasing: loop.buffer[..<count])
        do throws(ReadingFault) {
            if let tls {
                try decrypt(bytes, tls)
            } else {
                try received(bytes)
            }
        } catch {
            end(error.description)
        }
    }

    private func decrypt(_ bytes: UnsafeRawBufferPointer, _ tls: TLSEngine) throws(ReadingFault) {
        loop.outgoing.removeAll(keepingCapacity: true)
        var plaintext: [UInt8] = []
        swap(&plaintext, &loop.plaintext)
        defer { swap(&plaintext, &loop.plaintext) }
        plaintext.removeAll(keepingCapacity: true)
        do throws(TLSFault) {
            try tls.receive(bytes, plaintext: &plaintext, outgoing: &loop.outgoing)
        } catch {
            throw ReadingFault("TLS: \(error)")
        }
        if !loop.outgoing.isEmpty { writeOutgoing() }
        if phase == .handshaking, tls.isEstablished {
            phase = .open
            opened()
        }
        guard phase == .open else { return }
        if !plaintext.isEmpty {
            try plaintext.withUnsafeBufferPointer { bytes throws(ReadingFault) in try received(UnsafeRawBufferPointer(bytes)) }
        }
        if tls.peerClosed { throw ReadingFault("the server closed the connection") }
    }

    // MARK: - Writing

    private func writeOutgoing() {
        loop.outgoing.withUnsafeBytes { write($0) }
    }

    private func write(_ bytes: UnsafeRawBufferPointer) {
        guard waiting.isEmpty else {
            waiting.append(contentsOf: bytes)
            return
        }
        let sent = Glibc.send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
        // That it broke is what reading will say.
        guard sent >= 0 || errno == EAGAIN, sent < bytes.count else { return }
        waiting.append(contentsOf: bytes[max(0, sent)...])
        loop.register(self, descriptor, EPOLL_CTL_MOD, writes: true)
    }

    private func flush() {
        guard !waiting.isEmpty else { return }
        let sent = waiting[waitingStart...].withUnsafeBytes {
            Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        guard sent > 0 else { return }
        waitingStart += sent
        guard waitingStart == waiting.count else { return }
        waiting.removeAll(keepingCapacity: waiting.capacity < 1 << 16)
        waitingStart = 0
        loop.register(self, descriptor, EPOLL_CTL_MOD, writes: false)
    }
}

/// The event loop of one thread, on epoll.
final class LinkLoop {
    private static let bufferBytes = 256 << 10
    private static let eventsMax = 512

    let target: Target
    let tlsContext: TLSContext?
    /// Whether clients come back with the tickets of their TLS sessions, as browsers do.
    let keepsTickets: Bool
    /// What is read lies here until it is used up; all links share it.
    let buffer: UnsafeMutableRawBufferPointer
    var plaintext: [UInt8] = []
    var outgoing: [UInt8] = []
    /// When the bytes at hand were read.
    var now: Int64 = 0
    private let epoll: Int32
    private let events: UnsafeMutableBufferPointer<epoll_event>

    init(target: Target, tlsContext: TLSContext?, keepsTickets: Bool = false) {
        self.target = target
        self.tlsContext = tlsContext
        self.keepsTickets = keepsTickets
        buffer = .allocate(byteCount: Self.bufferBytes, alignment: 64)
        events = .allocate(capacity: Self.eventsMax)
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        precondition(epoll >= 0, "no descriptor for epoll")
    }

    deinit {
        close(epoll)
        events.deallocate()
        buffer.deallocate()
    }

    /// - Parameter link: has to stay until its descriptor is closed and the turn is over.
    func register(_ link: Link, _ descriptor: Int32, _ operation: Int32, writes: Bool) {
        var event = epoll_event()
        event.events = UInt32(EPOLLIN.rawValue) | (writes ? UInt32(EPOLLOUT.rawValue) : 0)
        event.data.ptr = Unmanaged.passUnretained(link).toOpaque()
        epoll_ctl(epoll, operation, descriptor, &event)
    }

    /// Waits at most so long for something to happen, and handles it.
    ///
    /// - Returns: whether there may be more at once.
    @discardableResult
    func turn(nanoseconds: Int64) -> Bool {
        let count = tocsin_epoll_wait(epoll, events.baseAddress, Int32(Self.eventsMax), max(0, nanoseconds))
        guard count > 0 else { return false }
        for index in 0..<Int(count) {
            let event = events[index]
            let link = Unmanaged<Link>.fromOpaque(event.data.ptr).takeUnretainedValue()
            let hasEnded = event.events & UInt32(EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0
            link.handle(
                isReadable: hasEnded || event.events & UInt32(EPOLLIN.rawValue) != 0,
                isWritable: event.events & UInt32(EPOLLOUT.rawValue) != 0
            )
        }
        return count == Self.eventsMax
    }
}

import Glibc
import HTTPTypes
import Limits
import NIOCore
import NIOPosix
import NotificationCore
import Synchronization
import Transports

/// Shows that messages are delivered: once a second one of the server's own goes through the log and comes back over each transport, on
/// sockets to the server's own port. `/readyz` goes by it.
///
/// It has a thread of its own, so that it sees a loop that stands still. Its connections are told by a key that only this process knows;
/// they count in no figure, are held to no limit and no permission, and are not asked to go. They subscribe to `_canary.N`, the channel of
/// this process, which nobody else can subscribe to, and of which the log keeps four messages.
///
/// With several processes the kernel chooses the worker that a connection goes to. Another one does not know the key and refuses; then the
/// next connection is tried, until one has come to this process.
final class Canary: Sendable {
    let channel: ChannelName
    private let target: String
    /// nil: it has not begun.
    private let book = Mutex<CanaryBook?>(nil)
    private let run = Mutex<Run?>(nil)
    private let stopped = Atomic<Bool>(false)
    /// Where its connections come from.
    private let ends = Mutex<[Transport: PeerAddress]>([:])

    private struct Run {
        var group: MultiThreadedEventLoopGroup
        var lines: NIOLoopBound<[CanaryLine]>?
    }

    init(process: Int) {
        channel = ChannelName(canaryOf: process)
        var generator = Randomness()
        let key = (0..<4).map { _ in String(UInt32.random(in: (1 << 28)...UInt32.max, using: &generator), radix: 16) }.joined()
        target = "/v1/subscribe?canary=" + key
    }

    /// Whether a request is one of its own.
    func isAsking(_ request: HTTPRequest) -> Bool { request.path?.hasPrefix(target) ?? false }

    /// Whether a connection is one of its own; known from before it is opened.
    ///
    /// - Parameter peer: an address of this host, so nobody elsewhere has it.
    func isOwn(_ peer: PeerAddress?) -> Bool {
        guard let peer else { return false }
        return ends.withLock { $0.values.contains(peer) }
    }

    /// Why the server is not ready; nil: it is, or has just begun.
    var fault: String? {
        if stopped.load(ordering: .relaxed) { return nil }
        let now = Clock.monotonicNanoseconds()
        return book.withLock { $0?.fault(nowNanoseconds: now) }
    }

    /// By transport: messages that have come back.
    var received: [Int] { book.withLock { $0?.received ?? [] } }

    var exposition: String {
        let now = Clock.monotonicNanoseconds()
        return book.withLock { $0?.exposition(nowNanoseconds: now) ?? "" }
    }

    // MARK: its life

    /// - Parameter address: where the server listens.
    func start(at address: SocketAddress, _ server: ServerState) {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        stopped.store(false, ordering: .relaxed)
        run.withLock { $0 = Run(group: group) }
        let (loops, log, eventLoop) = (server.loops, server.log, group.next())
        let now = Clock.monotonicNanoseconds()
        book.withLock { $0 = CanaryBook(loops: loops.count, nowNanoseconds: now) }
        let place = Self.reachable(address)
        // Proxies on this host, and only they, have to begin so: it is none.
        let isBehindHeader = PeerAddress(place).map { server.limits.wantsProxyHeader($0.address) } ?? false
        let preface = isBehindHeader ? "PROXY UNKNOWN\r\n" : ""
        eventLoop.execute {
            let made = Transport.allCases.map { transport in
                CanaryLine(transport, target: self.target, preface: preface, place, eventLoop) { end in
                    self.ends.withLock { $0[transport] = PeerAddress(end) }
                } onNumber: { number in
                    let now = Clock.monotonicNanoseconds()
                    self.book.withLock { $0?.take(number, transport, nowNanoseconds: now) }
                }
            }
            let bound = NIOLoopBound(made, eventLoop: eventLoop)
            self.run.withLock { $0?.lines = bound }
            for line in made { line.connect() }
            eventLoop.scheduleRepeatedTask(initialDelay: .milliseconds(100), delay: .seconds(1)) { _ in
                self.sing(loops, log)
                for line in bound.value { line.tend(isLate: self.isLate(line.transport)) }
            }
        }
    }

    private func isLate(_ transport: Transport) -> Bool {
        let now = Clock.monotonicNanoseconds()
        return book.withLock { $0?.isLate(transport, nowNanoseconds: now) ?? false }
    }

    /// Sends the next message, and asks the loops for a sign of life.
    private func sing(_ loops: [LoopReference], _ log: any LogService) {
        for (index, loop) in loops.enumerated() where book.withLock({ $0?.ask(loop: index) ?? false }) {
            loop.eventLoop.execute {
                let now = Clock.monotonicNanoseconds()
                self.book.withLock { $0?.sign(loop: index, nowNanoseconds: now) }
            }
        }
        let now = Clock.monotonicNanoseconds()
        guard let first = loops.first, let number = book.withLock({ $0?.send(nowNanoseconds: now) }) else { return }
        var request = AppendRequest([Publication(channel: channel, data: CanaryText.data(number))])
        request.isOwn = true
        first.eventLoop.execute { [request] in
            log.append(request, from: first.value) { outcomes in
                let refusal: String? = if case .refused(let why) = outcomes[0] { "\(why)" } else { nil }
                self.book.withLock { $0?.answered(refusal: refusal) }
            }
        }
    }

    /// The server goes down. From now on its silence means nothing.
    func stop() async {
        stopped.store(true, ordering: .relaxed)
        let ended = run.withLock { run in
            defer { run = nil }
            return run
        }
        guard let run = ended else { return }
        if let lines = run.lines {
            try? await lines.eventLoop.submit { for line in lines.value { line.stop() } }.get()
        }
        try? await run.group.shutdownGracefully()
    }

    /// An address that stands for all of this host, as one of them.
    private static func reachable(_ address: SocketAddress) -> SocketAddress {
        guard let port = address.port else { return address }
        switch address.ipAddress {
        case "0.0.0.0": return (try? SocketAddress(ipAddress: "127.0.0.1", port: port)) ?? address
        case "::": return (try? SocketAddress(ipAddress: "::1", port: port)) ?? address
        default: return address
        }
    }
}

/// The payload of the canary's messages.
enum CanaryText {
    private static let start = Array(#""data":{"canary":"#.utf8)

    static func data(_ number: UInt64) -> [UInt8] { Array("{\"canary\":\(number)}".utf8) }

    /// The numbers of all its messages in a text, in their order.
    static func numbers(in text: some Collection<UInt8>) -> [UInt64] {
        var found: [UInt64] = []
        var rest = text[...]
        while let at = rest.firstIndex(of: start[0]) {
            rest = rest[at...]
            guard rest.starts(with: start) else {
                rest = rest.dropFirst()
                continue
            }
            rest = rest.dropFirst(start.count)
            let digits = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            if let number = UInt64(String(decoding: digits, as: UTF8.self)) { found.append(number) }
        }
        return found
    }

    /// The first position in an answer to a poll: the one to go on from.
    static func position(in body: [UInt8]) -> String? {
        let name = Array(#""position":""#.utf8)
        guard let at = body.indices.first(where: { body[$0...].starts(with: name) }) else { return nil }
        return String(decoding: body[(at + name.count)...].prefix { $0 != UInt8(ascii: "\"") }, as: UTF8.self)
    }
}

extension ServerLoop {
    /// The canary subscribes: no rule and no limit concerns it, and it counts nowhere.
    func subscribe(_ canary: Canary, _ request: HTTPRequest, _ upgrade: String?, _ handle: RequestHandle) {
        disown(handle.connection)
        handle.crossOrigin = nil
        do throws(Problem) {
            let after = try RequestTarget(request.path ?? "/").items?["after"].map { text throws(Problem) in
                try SubscribeRequest.startPoint(text)
            }
            let wanted = SubscribeRequest(own: canary.channel, after: after, limits: server.configuration.subscribe)
            try subscribe(request, wanted, [], upgrade, upgrade != nil, handle, isOwn: true)
        } catch {
            answer(handle, error)
        }
    }
}

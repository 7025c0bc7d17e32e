import NotificationCore
import Transports
import WebSocketCodec

/// When there is too much to do: nobody new is taken (ServerLimits), and some of those who are there are asked to go.
extension ServerLoop {
    /// A second's share of its connections, at most.
    private static let shedShare = 50
    private static let shedMax = 500

    /// Each tick: how late it comes is how long the loop was held up.
    func noteLag() {
        guard server.limits.configuration.lagMillisecondsMark != nil else { return }
        let now = Clock.monotonicMilliseconds()
        defer { lastTickMilliseconds = now }
        guard lastTickMilliseconds > 0 else { return }
        server.limits.note(lagMilliseconds: Int(now - lastTickMilliseconds) - 1000 / Int(Self.ticksPerSecond))
    }

    /// Each second.
    func lookAtLoad() {
        if number == 0 { server.lookAtLoad() }
        if server.limits.isShedding { shed() }
    }

    /// Asks those to go that have been idle for longest: first who has no request or subscription open, then who has been sent nothing for
    /// longest; alerts last.
    private func shed() {
        var idle: [(rank: UInt64, index: Int)] = []
        for (index, connection) in connections.enumerated() {
            if let connection, connection.isOpen, !connection.isOwn, let rank = connection.sheddingRank { idle.append((rank, index)) }
        }
        let count = min(Self.shedMax, idle.count / Self.shedShare + 1, idle.count)
        guard count > 0 else { return }
        idle.sort { $0.rank < $1.rank }
        for (_, index) in idle[..<count] {
            connections[index]?.leave(retryAfterMilliseconds: server.limits.slotMilliseconds, .tryAgainLater)
        }
        server.limits.noteShed(count)
    }
}

extension Connection {
    /// The higher, the later it is asked to go; nil: it goes by itself.
    var sheddingRank: UInt64? {
        let subscribers: [SubscriberID]
        switch state {
        case .lingering, .closed: return nil
        case .sniffing: return 0
        case .webSocket(let session): subscribers = session.adapter.subscribers
        case .eventStream(let session): subscribers = session.subscribers
        case .http1(let exchange):
            // One whose answer is under way has it first.
            if exchange.isAnswering, exchange.poll == nil { return nil }
            subscribers = exchange.poll?.subscribers ?? []
        case .http2(let exchange): subscribers = exchange.streams.values.flatMap(\.subscribers)
        }
        if subscribers.isEmpty { return 0 }
        let current = subscribers.filter { loop.hub.isCurrent($0) }
        let lastTick = current.reduce(0) { max($0, loop.outlets[$1].lastTick) }
        let hasAlerts = current.contains { loop.hasAlerts($0) }
        return (hasAlerts ? 1 << 40 : 0) | 1 << 36 | UInt64(lastTick)
    }
}

extension ServerLoop {
    /// Whether a subscriber may be sent alerts.
    func hasAlerts(_ id: SubscriberID) -> Bool {
        hub.patterns(of: id).contains { pattern in
            guard !pattern.isReserved else { return false }
            let feed = String(pattern.string.prefix { $0 != "." })
            if feed == "*" || feed == ">" { return true }
            return ChannelName(feed).map { server.configuration.log.feeds[$0].kind == .alerts } ?? true
        }
    }
}

extension ServerState {
    /// What the process uses, against its marks.
    func lookAtLoad() { limits.look(connections: openConnections, connectionsMax: connectionsMost) }
}

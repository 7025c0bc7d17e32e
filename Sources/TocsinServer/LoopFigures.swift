import HTTP1Codec
import NotificationCore
import Transports

/// What a connection is at the moment, as `/metrics` tells them apart.
enum ConnectionKind: String, CaseIterable {
    /// Its TLS handshake is under way, or it has not said anything yet.
    case opening
    /// Between two requests of HTTP/1.1.
    case idle
    /// A request is being read or answered.
    case request
    case parkedPoll = "parked_poll"
    case webSocket = "websocket"
    case eventStream = "event_stream"
    case http2
    case closing

    /// What such a connection holds in this process, besides the buffers that are counted: the growth of anonymous memory by some
    /// thousand of them, as `make bench` measures it (Docs/decisions/0006), rounded. HTTP/2 is without its streams.
    var baseBytes: Int {
        switch self {
        case .opening, .closing: 2300
        case .idle: 3000
        case .request: 3700
        case .parkedPoll: 3600
        case .webSocket: 3300
        case .eventStream: 3200
        case .http2: 17_000
        }
    }

    static let streamBytes = 1200
    static let tlsBytes = 14_000
}

/// Connections by what they are and whether they have TLS.
struct ConnectionFigures: Sendable {
    /// By kind, without TLS, then with.
    var counts = Array(repeating: 0, count: 2 * ConnectionKind.allCases.count)
    var bytes = Array(repeating: 0, count: 2 * ConnectionKind.allCases.count)

    mutating func add(_ other: ConnectionFigures) {
        for index in counts.indices {
            counts[index] += other.counts[index]
            bytes[index] += other.bytes[index]
        }
    }

    /// Of some that were looked at, what it is for all.
    mutating func scale(looked: Int, of all: Int) {
        guard looked > 0, all > looked else { return }
        for index in counts.indices {
            counts[index] = Self.scaled(counts[index], looked, all)
            bytes[index] = Self.scaled(bytes[index], looked, all)
        }
    }

    static func scaled(_ count: Int, _ looked: Int, _ all: Int) -> Int { Int((Double(count) * Double(all) / Double(looked)).rounded()) }
}

/// What a loop looks at when somebody asks for `/metrics`: nothing of it is kept up to date in between.
struct LoopFigures: Sendable {
    var connections = ConnectionFigures()
    var lag = CursorLag()
    /// Subscribers whose socket is full.
    var congested = 0
    var feeds: [FeedFigures] = []

    mutating func add(_ other: LoopFigures) {
        connections.add(other.connections)
        for index in lag.counts.indices { lag.counts[index] += other.lag.counts[index] }
        lag.max = max(lag.max, other.lag.max)
        congested += other.congested
        for feed in other.feeds {
            guard let at = feeds.firstIndex(where: { $0.name == feed.name }) else {
                feeds.append(feed)
                continue
            }
            // Each loop sees all notifications, and has its own subscriptions.
            feeds[at].notifications = max(feeds[at].notifications, feed.notifications)
            feeds[at].bytes = max(feeds[at].bytes, feed.bytes)
            feeds[at].subscriptions += feed.subscriptions
        }
    }

    func append(to text: inout String) {
        func metric(_ name: String, _ type: String, _ help: String, _ values: [(labels: String, value: Int)]) {
            text += "# HELP tocsin_\(name) \(help)\n# TYPE tocsin_\(name) \(type)\n"
            for (labels, value) in values { text += "tocsin_\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(value)\n" }
        }
        func perState(_ values: [Int]) -> [(labels: String, value: Int)] {
            ["false", "true"].enumerated().flatMap { place, tls in
                ConnectionKind.allCases.enumerated().map { index, kind in
                    ("state=\"\(kind.rawValue)\",tls=\"\(tls)\"", values[place * ConnectionKind.allCases.count + index])
                }
            }
        }
        metric("connection_states", "gauge", "Open connections, by what they are now.", perState(connections.counts))
        metric("connection_state_bytes", "gauge", "About what they hold in this process.", perState(connections.bytes))
        metric("congested_subscribers", "gauge", "Subscribers whose socket is full now.", [("", congested)])
        var sum = 0
        let bounds = CursorLag.bounds.map { "\($0)" } + ["+Inf"]
        metric(
            "cursor_lag_subscribers", "gauge", "Subscribers that are at most so many notifications of the log behind.",
            zip(bounds, lag.counts).map { bound, count in
                sum += count
                return ("upto=\"\(bound)\"", sum)
            }
        )
        metric(
            "cursor_lag_max", "gauge", "Notifications of the log by which the last subscriber is behind.", [("", Int(clamping: lag.max))])
        let named = feeds.filter { $0.name != FeedFigures.everywhere }
        func perFeed(_ feeds: [FeedFigures], _ value: (FeedFigures) -> Int) -> [(labels: String, value: Int)] {
            feeds.map { ("feed=\"\($0.name)\",kind=\"\(NotificationKind($0.kind).name)\"", value($0)) }
        }
        metric("feed_notifications_total", "counter", "Notifications that came, by feed.", perFeed(named) { $0.notifications })
        metric("feed_bytes_total", "counter", "Their bytes, as they are sent.", perFeed(named) { $0.bytes })
        metric(
            "feed_subscriptions", "gauge", "Subscriptions to channels or patterns of a feed; * is of patterns that go over all feeds.",
            feeds.map { ("feed=\"\($0.name)\"", $0.subscriptions) }
        )
    }
}

extension ServerLoop {
    /// Subscribers, and connections, that one look goes over: some milliseconds. Of more it sees a part, another one each time.
    private static let lookedMax = 20_000

    func takeFigures() -> LoopFigures {
        var figures = LoopFigures()
        var congested = 0
        var lag = hub.cursorLag(from: figuresStart, most: Self.lookedMax) { id in
            let outlet = outlets[id]
            // Between two polls nobody is there who could be behind.
            guard outlet.kind != .none, let connection = outlet.connection?.takeUnretainedValue() else { return false }
            if !outlet.kind.isPoll, !connection.hasRoom(stream: outlet.stream) { congested += 1 }
            return true
        }
        if lag.looked < lag.subscribers, lag.looked > 0 {
            for index in lag.counts.indices {
                lag.counts[index] = ConnectionFigures.scaled(lag.counts[index], lag.looked, lag.subscribers)
            }
            congested = ConnectionFigures.scaled(congested, lag.looked, lag.subscribers)
        }
        figures.lag = lag
        figures.congested = congested
        figures.feeds = hub.feedFigures
        figures.connections = lookAtConnections()
        figuresStart = (figuresStart + Self.lookedMax) % max(1, max(connections.count, hub.subscriberPlaces))
        return figures
    }

    private func lookAtConnections() -> ConnectionFigures {
        var figures = ConnectionFigures()
        var looked = 0
        let places = connections.count
        for step in 0..<min(places, Self.lookedMax) {
            guard let connection = connections[(figuresStart + step) % places], !connection.isOwn else { continue }
            let (kind, bytes) = connection.figure
            let place = ConnectionKind.allCases.firstIndex(of: kind)! + (connection.tls == nil ? 0 : ConnectionKind.allCases.count)
            figures.counts[place] += 1
            figures.bytes[place] += bytes
            looked += 1
        }
        figures.scale(looked: looked, of: counters.connections)
        return figures
    }
}

extension Connection {
    /// What it is, and about how many bytes it holds in this process.
    fileprivate var figure: (kind: ConnectionKind, bytes: Int) {
        var bytes = heldSealed.capacity + heldPlain.capacity + pendingBytes
        if tls != nil { bytes += ConnectionKind.tlsBytes }
        let kind: ConnectionKind
        switch state {
        case .sniffing: kind = .opening
        case .http1(let exchange):
            kind = exchange.poll != nil ? .parkedPoll : exchange.head != nil || exchange.parser.headStarted ? .request : .idle
            bytes += exchange.body.capacity
        case .http2(let exchange):
            kind = .http2
            bytes +=
                exchange.streams.count * ConnectionKind.streamBytes + exchange.bodyBytes + exchange.answerBytes + exchange.frames.capacity
        case .webSocket: kind = .webSocket
        case .eventStream: kind = .eventStream
        case .lingering, .closed: kind = .closing
        }
        return (kind, bytes + kind.baseBytes)
    }
}

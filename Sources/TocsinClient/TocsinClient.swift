import HTTPTypes
import JSONCodec
import Synchronization
import TLSEngine

/// A client that finds a way to a Tocsin server, keeps its places, and falls back and climbs as the network allows (Docs/fallback.md).
///
///     let client = try TocsinClient(configuration)
///     for try await message in try await client.subscribe(["scores.>"]) { … }
///
/// Subscriptions share one connection as long as their channels do not overlap; one that overlaps with others has its own.
public actor TocsinClient {
    private struct Place {
        var line: Line
        var subscriptions: [Subscription]
    }

    /// Hands statuses to whoever wants them.
    private final class StatusBoard: Sendable {
        private struct Contents {
            var last: ClientStatus?
            var listeners: [AsyncStream<ClientStatus>.Continuation] = []
        }

        private let contents = Mutex(Contents())

        func tell(_ status: ClientStatus) {
            contents.withLock { contents in
                contents.last = status
                contents.listeners.removeAll { listener in
                    if case .terminated = listener.yield(status) { true } else { false }
                }
            }
        }

        func listen() -> AsyncStream<ClientStatus> {
            // Who does not look misses the oldest.
            let (stream, continuation) = AsyncStream.makeStream(of: ClientStatus.self, bufferingPolicy: .bufferingNewest(100))
            contents.withLock { contents in
                if let last = contents.last { continuation.yield(last) }
                contents.listeners.append(continuation)
            }
            return stream
        }

        func finish() {
            let listeners = contents.withLock { contents in
                defer { contents.listeners = [] }
                return contents.listeners
            }
            for listener in listeners { listener.finish() }
        }
    }

    private let configuration: ClientConfiguration
    private let tls: TLSContext?
    private let tokens: TokenSource
    private let publisher: Publisher
    private let board = StatusBoard()
    private var places: [Place] = []
    private var lastSubscription = 0
    private var isClosed = false

    /// - Throws: when the file of authorities cannot be read.
    public init(_ configuration: ClientConfiguration) throws {
        self.configuration = configuration
        tls = try configuration.makeTLSContext()
        tokens = TokenSource(configuration.token)
        publisher = Publisher(configuration, tls: tls, tokens: tokens)
    }

    /// From the present one on. Of several connections each tells its own.
    public nonisolated var statuses: AsyncStream<ClientStatus> { board.listen() }

    // MARK: subscribing

    /// - Parameters:
    ///   - channels: channels or patterns, at least one; at most 100 of all subscriptions of a connection.
    ///   - after: `latest`, `earliest` or a position; nil: as the kinds of the channels begin.
    ///   - rate: at most so many sends, `2/s`, `6/m`.
    /// - Returns: the messages. The connection is made at once.
    public func subscribe(_ channels: [String], after: String? = nil, rate: String? = nil) async throws -> NotificationSequence {
        guard !channels.isEmpty else { throw ClientFault("no channel to subscribe to", isFinal: true) }
        guard !isClosed else { throw ClientFault("closed", isFinal: true) }
        lastSubscription += 1
        let subscription = Subscription(id: lastSubscription, channels: channels)
        let line = place(subscription)
        if await !line.add(subscription, after: after, rate: rate) {
            // It was refused, or has just ended: a new one asks anew.
            places.removeAll { $0.line === line }
            guard !isClosed, await place(subscription).add(subscription, after: after, rate: rate) else {
                throw ClientFault("closed", isFinal: true)
            }
        }
        return NotificationSequence(
            hold: NotificationSequence.Hold(subscription) { [self] in
                Task { await end(subscription.id) }
            }
        )
    }

    /// The first line where it overlaps with nothing.
    private func place(_ subscription: Subscription) -> Line {
        for at in places.indices {
            let others = places[at].subscriptions
            guard others.reduce(subscription.filters.count, { $0 + $1.filters.count }) <= 100 else { continue }
            if !others.contains(where: { $0.overlaps(subscription.filters) }) {
                places[at].subscriptions.append(subscription)
                return places[at].line
            }
        }
        let line = Line(configuration, tls: tls, tokens: tokens) { [board] status in board.tell(status) }
        places.append(Place(line: line, subscriptions: [subscription]))
        return line
    }

    private func end(_ id: Int) async {
        guard let at = places.firstIndex(where: { $0.subscriptions.contains { $0.id == id } }) else { return }
        let line = places[at].line
        places[at].subscriptions.removeAll { $0.id == id }
        if places[at].subscriptions.isEmpty { places.remove(at: at) }
        _ = await line.remove(id)
    }

    /// - Parameter rate: nil: as soon as there is something.
    public func setRate(_ rate: String?, of sequence: NotificationSequence) async throws {
        let id = sequence.hold.subscription.id
        guard let place = places.first(where: { $0.subscriptions.contains { $0.id == id } }) else { throw ClientFault("not subscribed") }
        try await place.line.setRate(rate, of: id)
    }

    // MARK: publishing and acknowledging

    /// Publishes over HTTP, with a key that makes a second try safe.
    ///
    /// - Parameters:
    ///   - data: the payload, JSON.
    ///   - idempotencyKey: nil: one of its own.
    /// - Returns: the number of the notification in its channel.
    @discardableResult
    public func publish(
        _ channel: String, data: [UInt8], event: String? = nil, key: String? = nil, priority: String? = nil, idempotencyKey: String? = nil
    ) async throws -> Int {
        let items = [("event", event), ("key", key), ("priority", priority)].compactMap { name, value in
            value.map { name + "=" + WireRequest.escape($0) }
        }
        let path = "/v1/channels/" + WireRequest.escape(channel) + (items.isEmpty ? "" : "?" + items.joined(separator: "&"))
        let own = String(UInt64.random(in: .min ... .max), radix: 36) + String(UInt64.random(in: .min ... .max), radix: 36)
        var fields = HTTPFields()
        fields[HTTPField.Name("Idempotency-Key")!] = idempotencyKey ?? own
        let (status, body) = try await publisher.post(path, contentType: "application/json", fields: fields, body: data)
        let answer = try? JSONSlice.minify(body)
        guard (200..<300).contains(status), let sequence = answer?["sequence"]?.integer().flatMap({ Int(exactly: $0) }) else {
            throw ClientFault("refused with \(status): \(answer?["detail"]?.string() ?? "")", isFinal: (400..<500).contains(status))
        }
        return sequence
    }

    /// Says that the client's user has read a channel's alerts.
    ///
    /// - Parameters:
    ///   - through: the last one read.
    ///   - dismiss: take them out of the inbox as well.
    /// - Returns: how many of the channel are unread.
    @discardableResult
    public func acknowledge(_ channel: String, through: Int, dismiss: Bool = false) async throws -> Int {
        guard let user = configuration.user else { throw ClientFault("acknowledging needs a user", isFinal: true) }
        let words: [(name: String, value: WireValue)] = [
            ("channel", .text(channel)), ("through", .number(through)), ("dismiss", .bool(dismiss)),
        ]
        if let line = places.first?.line, let reply = try? await line.command("ack", words), reply.slice["error"] == nil {
            return reply.integer("unread") ?? 0
        }
        // Without a connection, or when that is just ending: the same word again changes nothing.
        let body = WireValue.object([("user", .text(user))] + words).bytes
        let (status, answer) = try await publisher.post("/v1/acks", contentType: "application/json", body: body)
        let object = try? JSONSlice.minify(answer)
        guard (200..<300).contains(status) else {
            throw ClientFault("refused with \(status): \(object?["detail"]?.string() ?? "")", isFinal: (400..<500).contains(status))
        }
        return object?["unread"]?.integer().flatMap { Int(exactly: $0) } ?? 0
    }

    // MARK: the network and the end

    /// The system says whether there is a network at all: without one nothing is tried, with one again it connects at once.
    public func setOnline(_ isOnline: Bool) async {
        for place in places { await place.line.feed(isOnline ? .online : .offline) }
    }

    /// Ends all subscriptions. What was received can still be read.
    public func close() async {
        isClosed = true
        let lines = places.map(\.line)
        places = []
        for line in lines { await line.close() }
        await publisher.close()
        board.finish()
    }
}

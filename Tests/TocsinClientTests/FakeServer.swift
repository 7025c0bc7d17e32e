import Foundation
import HTTP1Codec
import HTTPTypes
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import WebSocketCodec

@testable import TocsinClient

/// How a fake server, or the network before it, behaves.
struct Behaviour: Sendable {
    /// Answers upgrades as a proxy does that does not know them.
    var refusesUpgrades = false
    /// Ends WebSockets so long after their hello.
    var killsWebSocketsAfter: TimeAmount?
    /// Takes requests for streams, and answers nothing.
    var holdsStreams = false
    /// Sends the probe messages of WebSockets all at once, at the end.
    var holdsProbes = false
    /// The token that is accepted; nil: no token is asked for.
    var token: String?
}

/// A small server on one event loop: as much of the protocol as a client needs, with a log that outlives its connections.
final class FakeServer: Sendable {
    /// What belongs to the event loop.
    final class World {
        var behaviour: Behaviour
        var log: [(channel: String, json: String)] = []
        var sequences: [String: Int] = [:]
        var connections: [ObjectIdentifier: FakeConnection] = [:]
        /// What was asked for, as `websocket`, `sse`, …, and commands by their type.
        var seen: [String] = []
        var lastSession = 0
        /// Of requests, without CONNECT.
        var authorities: [String] = []

        init(_ behaviour: Behaviour) {
            self.behaviour = behaviour
        }
    }

    private let loop: any EventLoop
    private let world: NIOLoopBound<World>
    private let listener: NIOLockedValueBox<(any Channel)?>
    let port: Int

    private init(loop: any EventLoop, world: NIOLoopBound<World>, listener: any Channel) {
        self.loop = loop
        self.world = world
        self.listener = NIOLockedValueBox(listener)
        port = listener.localAddress!.port!
    }

    static func start(_ behaviour: Behaviour = Behaviour()) async throws -> FakeServer {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let world = try await loop.submit { NIOLoopBound(World(behaviour), eventLoop: loop) }.get()
        return FakeServer(loop: loop, world: world, listener: try await listen(loop, world, port: 0))
    }

    private static func listen(_ loop: any EventLoop, _ world: NIOLoopBound<World>, port: Int) async throws -> any Channel {
        try await ServerBootstrap(group: loop)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(FakeConnection(world.value))
                }
            }
            .bind(host: "127.0.0.1", port: port).get()
    }

    var address: ServerAddress { ServerAddress("http://127.0.0.1:\(port)")! }

    private func onLoop<Value: Sendable>(_ body: @escaping @Sendable (World) throws -> Value) async throws -> Value {
        let world = world
        return try await loop.submit { try body(world.value) }.get()
    }

    func change(_ body: @escaping @Sendable (inout Behaviour) -> Void) async throws {
        try await onLoop { body(&$0.behaviour) }
    }

    var seen: [String] { get async throws { try await onLoop { $0.seen } } }

    var authorities: [String] { get async throws { try await onLoop { $0.authorities } } }

    /// Numbers the message, and sends it to who subscribed.
    func publish(_ channel: String, _ n: Int, pad: Int = 0) async throws {
        try await onLoop { world in
            let sequence = world.sequences[channel, default: 0] + 1
            world.sequences[channel] = sequence
            let position = "p.\(world.log.count + 1)"
            let data = pad == 0 ? "{\"n\":\(n)}" : "{\"n\":\(n),\"pad\":\"\(String(repeating: "x", count: pad))\"}"
            let numbers = "\"channel\":\"\(channel)\",\"sequence\":\(sequence),\"position\":\"\(position)\""
            let json = "{\"type\":\"notification\",\(numbers),\"data\":\(data)}"
            world.log.append((channel, json))
            for connection in world.connections.values { connection.published() }
        }
    }

    /// Says something to all streams.
    func tell(_ json: String) async throws {
        try await onLoop { world in
            for connection in world.connections.values { connection.tell(json) }
        }
    }

    /// Ends all connections, with a word before if there is one, and listens no more.
    func stop(goingAway milliseconds: Int? = nil) async throws {
        try await listener.withLockedValue { $0 }?.close().get()
        try await onLoop { world in
            for connection in world.connections.values {
                if let milliseconds { connection.tell("{\"type\":\"going-away\",\"retry_after_ms\":\(milliseconds)}") }
                connection.end()
            }
        }
    }

    func startAgain() async throws {
        let channel = try await Self.listen(loop, world, port: port)
        listener.withLockedValue { $0 = channel }
    }

    /// Ends the connections of streams, and listens on.
    func cutStreams() async throws {
        try await onLoop { world in
            for connection in world.connections.values where connection.isStream { connection.end() }
        }
    }
}

/// A connection of the fake server.
final class FakeConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private enum Mode {
        case http
        case webSocket
        case eventStream
        case poll(deadline: Scheduled<Void>?, closes: Bool)
    }

    private let world: FakeServer.World
    private var context: ChannelHandlerContext?
    private var parser = HTTP1RequestParser()
    private var decoder = WebSocketDecoder(role: .server)
    private var head: HTTPRequest?
    private var body: [UInt8] = []
    private var mode = Mode.http
    private var filters: [ChannelFilter] = []
    /// How many of the log were sent.
    private var at = 0
    private var session = ""

    init(_ world: FakeServer.World) {
        self.world = world
    }

    var isStream: Bool {
        switch mode {
        case .webSocket, .eventStream: true
        case .http, .poll: false
        }
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        world.connections[ObjectIdentifier(self)] = self
    }

    func channelInactive(context: ChannelHandlerContext) {
        world.connections[ObjectIdentifier(self)] = nil
        self.context = nil
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    func end() {
        context?.close(promise: nil)
    }

    private func write(_ bytes: [UInt8]) {
        guard let context else { return }
        context.writeAndFlush(NIOAny(context.channel.allocator.buffer(bytes: bytes)), promise: nil)
    }

    private func write(_ text: String) { write(Array(text.utf8)) }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var buffer = unwrapInboundIn(data)
        buffer.withUnsafeMutableReadableBytes { bytes in
            var consumed = 0
            while consumed < bytes.count || head != nil {
                let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[consumed...])
                if case .webSocket = mode {
                    guard let event = try? decoder.next(rest, consumed: &consumed) else { return }
                    if case .text(let text) = event { command(text) }
                    if case .close = event { end() }
                } else {
                    guard let event = try? parser.next(UnsafeRawBufferPointer(rest), consumed: &consumed) else { return }
                    switch event {
                    case .head(let head): self.head = head.request
                    case .end where head!.method == .connect:
                        world.seen.append("CONNECT \(head!.authority ?? "")")
                        head = nil
                        parser = HTTP1RequestParser()
                        write("HTTP/1.1 200 OK\r\n\r\n")
                    case .body(let range): body += rest[range]
                    case .end:
                        let request = head!
                        let text = body
                        (head, body) = (nil, [])
                        answer(request, text)
                    }
                }
            }
        }
    }

    // MARK: requests

    private func answer(_ request: HTTPRequest, _ body: [UInt8]) {
        let path = request.path ?? ""
        // It takes any authority, and so can stand for a forward proxy too.
        if let authority = request.authority { world.authorities.append(authority) }
        if path == "/healthz" { return reply("200 OK", "ok") }
        if let token = world.behaviour.token, request.headerFields[.authorization] != "Bearer \(token)" {
            world.seen.append("401")
            return reply("401 Unauthorized", "{}", type: "application/problem+json")
        }
        if path.hasPrefix("/v1/sessions/") {
            let session = path.dropFirst("/v1/sessions/".count)
            guard let owner = world.connections.values.first(where: { $0.session == session }) else {
                return reply("404 Not Found", "{\"type\":\"/problems/unknown-session\"}", type: "application/problem+json")
            }
            return reply("200 OK", owner.execute(body))
        }
        guard path.hasPrefix("/v1/subscribe") else { return reply("404 Not Found", "{}", type: "application/problem+json") }
        let words = request.method == .post ? Self.object(body) : Self.items(path)
        filters = Self.channels(words).map { ChannelFilter($0) }
        if let bad = filters.firstIndex(where: { $0.text.contains("..") }) {
            let pointer = words["subscriptions"] == nil ? "" : ",\"pointer\":\"#/subscriptions/\(bad)\""
            let problem = "{\"type\":\"/problems/bad-channel\",\"detail\":\"an empty token\"\(pointer)}"
            return reply("400 Bad Request", problem, type: "application/problem+json")
        }
        at = Self.start(words, count: world.log.count)
        if session.isEmpty {
            world.lastSession += 1
            session = "s\(world.lastSession)"
        }
        if request.headerFields[.upgrade] != nil {
            webSocket(request)
        } else if request.headerFields[.accept] == "text/event-stream" {
            eventStream(words, isPost: request.method == .post)
        } else {
            poll(words)
        }
    }

    private static func object(_ bytes: [UInt8]) -> [String: Any] {
        (try? JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any]) ?? [:]
    }

    private static func items(_ path: String) -> [String: Any] {
        var words: [String: Any] = [:]
        var channels: [String] = []
        for item in URLComponents(string: path)?.queryItems ?? [] {
            if item.name == "channel" { channels.append(item.value ?? "") } else { words[item.name] = item.value }
        }
        if let text = words["subscriptions"] as? String {
            words["subscriptions"] = try? JSONSerialization.jsonObject(with: Data(text.utf8))
        } else {
            words["channels"] = channels
        }
        return words
    }

    private static func listed(_ words: [String: Any]) -> [[String: Any]] {
        words["subscriptions"] as? [[String: Any]] ?? [words]
    }

    private static func channels(_ words: [String: Any]) -> [String] {
        listed(words).flatMap { $0["channels"] as? [String] ?? [] }
    }

    /// The least position of all: the client knows what it had.
    private static func start(_ words: [String: Any], count: Int) -> Int {
        listed(words).map { one in
            guard let after = one["after"] as? String, after != "latest" else { return count }
            return after == "earliest" ? 0 : Int(after.dropFirst(2)) ?? count
        }.min() ?? count
    }

    private func reply(_ status: String, _ body: String, type: String = "application/json", closes: Bool = false) {
        let closing = closes ? "Connection: close\r\n" : ""
        write("HTTP/1.1 \(status)\r\nContent-Type: \(type)\r\n\(closing)Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
        if closes { end() }
    }

    private var hello: String {
        let places = filters.map { _ in "{\"position\":\"p.\(at)\"}" }.joined(separator: ",")
        return #"{"type":"hello","session":"\#(session)","network":"n1","heartbeat":25,"position":"p.\#(at)","subscriptions":[\#(places)]}"#
    }

    private func webSocket(_ request: HTTPRequest) {
        world.seen.append("websocket")
        if world.behaviour.refusesUpgrades { return reply("502 Bad Gateway", "<html>", type: "text/html", closes: true) }
        if world.behaviour.holdsStreams { return }
        let accept = WebSocketHandshake.accept(key: request.headerFields[.secWebSocketKey] ?? "")
        write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: \(accept)\r\n\r\n")
        mode = .webSocket
        begin()
        if let limit = world.behaviour.killsWebSocketsAfter {
            context?.eventLoop.assumeIsolated().scheduleTask(in: limit) { self.end() }
        }
    }

    private func eventStream(_ words: [String: Any], isPost: Bool) {
        world.seen.append(!isPost ? "sse" : words["pad"] == nil ? "sse-post" : "sse-padded")
        if world.behaviour.holdsStreams { return }
        write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        mode = .eventStream
        begin()
    }

    private func begin() {
        tell(hello)
        published()
        let delays: [Int64] = world.behaviour.holdsProbes && !filters.isEmpty ? [1000, 1000, 1000] : [0, 300, 1000]
        for (delay, at) in zip(delays, [0, 300, 1000]) {
            context?.eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(delay)) {
                if self.context != nil { self.tell("{\"type\":\"probe\",\"at\":\(at)}") }
            }
        }
    }

    private func poll(_ words: [String: Any]) {
        let closes = words["close"] as? Bool ?? false
        let wait = words["wait"] as? Int ?? 25
        world.seen.append(wait == 0 ? "poll" : closes ? "long-poll-close" : "long-poll")
        if wait == 0 || filters.isEmpty || hasNews {
            mode = .poll(deadline: nil, closes: closes)
            return answerPoll()
        }
        let deadline = context?.eventLoop.assumeIsolated().scheduleTask(in: .seconds(Int64(wait))) { self.answerPoll() }
        mode = .poll(deadline: deadline, closes: closes)
    }

    private func isWanted(_ channel: String) -> Bool {
        let channel = ChannelFilter(channel)
        return filters.contains { $0.overlaps(channel) }
    }

    private var hasNews: Bool { world.log[at...].contains { isWanted($0.channel) } }

    private func answerPoll() {
        guard case .poll(let deadline, let closes) = mode else { return }
        deadline?.cancel()
        mode = .http
        let messages = world.log[at...].filter { isWanted($0.channel) }.map(\.json).joined(separator: ",")
        let position = "p.\(world.log.count)"
        let places = filters.map { _ in "{\"position\":\"\(position)\"}" }.joined(separator: ",")
        let words = "\"session\":\"\(session)\",\"network\":\"n1\",\"position\":\"\(position)\""
        reply("200 OK", "{\(words),\"subscriptions\":[\(places)],\"messages\":[\(messages)]}", closes: closes)
    }

    // MARK: what is sent

    /// The log has more.
    func published() {
        switch mode {
        case .http: return
        case .poll: if hasNews { answerPoll() }
        case .webSocket, .eventStream:
            for entry in world.log[at...] where isWanted(entry.channel) { tell(entry.json) }
            at = world.log.count
        }
    }

    func tell(_ json: String) {
        switch mode {
        case .webSocket:
            var out: [UInt8] = []
            WebSocketEncoder.frame(.text, Array(json.utf8), into: &out)
            write(out)
        case .eventStream:
            let event = "data: \(json)\n\n"
            write(String(event.utf8.count, radix: 16) + "\r\n" + event + "\r\n")
        case .http, .poll: return
        }
    }

    private func command(_ text: [UInt8]) {
        tell(execute(text))
    }

    private func execute(_ text: [UInt8]) -> String {
        let command = Self.object(text)
        let type = command["type"] as? String ?? ""
        let id = command["id"] as? Int ?? 0
        world.seen.append(type)
        var more = ""
        if type == "subscribe", Self.channels(command).contains(where: { $0.contains("..") }) {
            more = ",\"error\":{\"code\":\"bad_channel\",\"message\":\"an empty token\"}"
        } else if type == "subscribe" {
            filters += Self.channels(command).map { ChannelFilter($0) }
            more = ",\"position\":\"p.\(world.log.count)\""
        }
        if type == "refresh", command["token"] as? String != world.behaviour.token, world.behaviour.token != nil {
            more = ",\"error\":{\"code\":\"bad_token\",\"message\":\"no\"}"
        }
        return "{\"type\":\"reply\",\"id\":\(id)\(more)}"
    }
}

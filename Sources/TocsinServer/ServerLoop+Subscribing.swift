import HTTP1Codec
import HTTP2Session
import HTTPTypes
import NotificationCore
import Transports
import WebSocketCodec

extension ServerLoop {
    /// `/v1/subscribe`: the request decides the transport.
    func subscribe(
        _ request: HTTPRequest, _ items: QueryItems, _ body: [UInt8], _ upgrade: String?, _ handle: RequestHandle
    ) throws(Problem) {
        guard request.method == .get || request.method == .post else { throw .methodNotAllowed("GET, POST") }
        if server.isDraining { throw .goingAway(retryAfterSeconds: server.configuration.drainSeconds) }
        let limits = server.configuration.subscribe
        // A handshake whose Upgrade a proxy has taken away is still one: its refusal says so, where an answer would only puzzle.
        let isWebSocket =
            upgrade?.split(separator: ",").contains { $0.trimmed == "websocket" } ?? false
            || request.headerFields[.secWebSocketKey] != nil
        let wanted =
            request.method == .post
            ? try SubscribeRequest(request, body: body, limits: limits) : try SubscribeRequest(request, items: items, limits: limits)
        let transport = SubscribeRequest.transport(of: request, isUpgradeToWebSocket: isWebSocket)
        if wanted.patterns.isEmpty, transport != .webSocket {
            throw Problem("no-channel", "No channel", status: 400, detail: "name at least one channel: ?channel=…")
        }
        guard SubscribeRequest.accepts(request, transport) else {
            throw Problem(
                "not-acceptable", "Not acceptable", status: 406, detail: "this path has text/event-stream and application/json"
            )
        }
        switch transport {
        case .webSocket: try openWebSocket(request, wanted, handle)
        case .eventStream: openEventStream(wanted, handle)
        case .longPoll: poll(wanted, handle)
        }
    }

    private func enter(_ wanted: SubscribeRequest) -> (id: SubscriberID, position: Position) {
        let id = hub.subscribe(wanted.patterns, from: wanted.after ?? .latest, knownHead: server.log.head)
        return (id, hub.position(of: id))
    }

    private func newSession() -> SessionID {
        var generator = SystemRandomNumberGenerator()
        return SessionID(high: generator.next(), low: generator.next())
    }

    // MARK: WebSocket

    private func openWebSocket(_ request: HTTPRequest, _ wanted: SubscribeRequest, _ handle: RequestHandle) throws(Problem) {
        let handshake: WebSocketHandshake.Request
        do throws(WebSocketHandshake.Refusal) {
            handshake = try WebSocketHandshake.Request(request)
        } catch {
            var problem = Problem(
                error.status == 426 ? "upgrade-required" : "bad-handshake", "Not a WebSocket handshake", status: error.status,
                detail: error.reason
            )
            problem.title = error.status == 426 ? "WebSocket version not served" : problem.title
            var response = problem.response
            for (name, value) in error.fields {
                if let name = HTTPField.Name(name) { response.headerFields[name] = value }
            }
            return answer(handle, response, problem.json)
        }
        let connection = handle.connection
        guard case .http1 = connection.state else { preconditionFailure("an upgrade is of HTTP/1.1") }
        var response = HTTPResponse(status: .switchingProtocols)
        response.headerFields[.connection] = "Upgrade"
        response.headerFields[.upgrade] = "websocket"
        response.headerFields[.secWebSocketAccept] = handshake.accept
        if let chosen = WebSocketHandshake.subprotocol(offered: handshake.subprotocols, supported: ["tocsin.v1"]) {
            response.headerFields[.secWebSocketProtocol] = chosen
        }
        var out: [UInt8] = []
        HTTP1ResponseEncoder.head(response, framing: .none, keepAlive: true, requestMinorVersion: 1, into: &out)

        let (id, position) = enter(wanted)
        let hello = ControlObject.hello(session: newSession(), heartbeatSeconds: wanted.heartbeatSeconds, position: position)
        WireShape.webSocket.append(control: hello, event: "hello", to: &out)
        let adapter = WebSocketAdapter(
            subscriber: id, limits: WebSocketLimits(messageBytesMax: server.configuration.messageBytesMax)
        )
        let session = WebSocketSession(adapter: adapter, heartbeatSeconds: wanted.heartbeatSeconds, tick: tick)
        connection.state = .webSocket(session)
        begin(id, connection, stream: 0, shape: .webSocket, out, heartbeatSeconds: wanted.heartbeatSeconds)
    }

    // MARK: Server-Sent Events

    private func openEventStream(_ wanted: SubscribeRequest, _ handle: RequestHandle) {
        let connection = handle.connection
        let (id, position) = enter(wanted)
        let hello = ControlObject.hello(session: newSession(), heartbeatSeconds: wanted.heartbeatSeconds, position: position)
        let session = EventStreamSession(subscriber: id, heartbeatSeconds: wanted.heartbeatSeconds, paddingBytes: wanted.paddingBytes)
        let response = connection.dated(EventStreamAnswer.response)
        var out: [UInt8] = []
        let shape: WireShape
        switch connection.state {
        case .http1(let exchange):
            let head = exchange.head!
            let isChunked = head.minorVersion >= 1
            shape = .eventStream(isRaw: wanted.isRaw, isChunked: isChunked)
            HTTP1ResponseEncoder.head(
                response, framing: isChunked ? .chunked : .untilClose, keepAlive: isChunked, requestMinorVersion: head.minorVersion,
                into: &out
            )
            connection.state = .eventStream(session)
        case .http2(let exchange):
            shape = .eventStream(isRaw: wanted.isRaw, isChunked: false)
            exchange.session.startStreaming(stream: handle.stream, response)
            exchange.streams[handle.stream]?.eventStream = session
        default:
            return hub.unsubscribe(id)
        }
        shape.append(
            control: hello, event: "hello", position: position, retryMilliseconds: Self.retryMilliseconds, to: &out
        )
        begin(id, connection, stream: handle.stream, shape: shape, out, heartbeatSeconds: wanted.heartbeatSeconds)
    }

    /// How long a browser waits before it reconnects, unless it is told otherwise.
    private static let retryMilliseconds = 2000

    /// The stream is open: what it begins with goes out, then what it missed, then it is live.
    private func begin(
        _ id: SubscriberID, _ connection: Connection, stream: Int32, shape: WireShape, _ opening: [UInt8], heartbeatSeconds: Int
    ) {
        let kind: Outlet.Kind =
            stream != 0 ? .http2 : connection.tls == nil && connection.descriptor >= 0 ? .direct : .buffered
        attach(
            id,
            Outlet(
                connection: .passUnretained(connection), descriptor: connection.descriptor, stream: stream, kind: kind, shape: shape
            )
        )
        connection.clearDeadline()
        connection.look(at: tick + ticks(seconds: heartbeatSeconds))
        connection.write(opening, stream: stream)
        guard hub.isCurrent(id) else { return }
        if connection.hasRoom(stream: stream) {
            if !hub.isLive(id) { readOn(id) }
        } else {
            stop(id)
        }
    }

    // MARK: long-poll

    private func poll(_ wanted: SubscribeRequest, _ handle: RequestHandle) {
        let connection = handle.connection
        let (id, _) = enter(wanted)
        let page = hub.read(id, notificationsMax: LongPollAnswer.notificationsMax, bytesMax: LongPollAnswer.bytesMax)
        if wanted.after == nil || wanted.waitSeconds == 0 || !page.notifications.isEmpty || !page.gaps.isEmpty {
            let body = LongPollAnswer.body(
                messages: page.notifications, gaps: page.gaps, epoch: epoch, offset: hub.position(of: id).offsets[0]
            )
            counters.deliveries[LoopCounters.index(.longPoll)] += page.notifications.count
            hub.unsubscribe(id)
            return answer(handle, LongPollAnswer.response(waitSeconds: wanted.waitSeconds), body)
        }
        // One tick more: the one that runs now is already partly over.
        let parked = ParkedPoll(subscriber: id, waitSeconds: wanted.waitSeconds, dueTick: tick + ticks(seconds: wanted.waitSeconds) + 1)
        switch connection.state {
        case .http1(let exchange): exchange.poll = parked
        case .http2(let exchange): exchange.streams[handle.stream]?.poll = parked
        default: return hub.unsubscribe(id)
        }
        attach(id, Outlet(connection: .passUnretained(connection), stream: handle.stream, kind: .longPoll))
        connection.clearDeadline()
        connection.look(at: parked.dueTick)
    }

    func emptyPollBody(_ id: SubscriberID) -> [UInt8] {
        LongPollAnswer.body(messages: [], gaps: [], epoch: epoch, offset: hub.position(of: id).offsets[0])
    }
}

extension WebSocketHandshake.Request {
    init(_ request: HTTPRequest) throws(WebSocketHandshake.Refusal) {
        let fields = request.headerFields
        try self.init(
            method: request.method.rawValue, upgrade: fields[values: .upgrade], connection: fields[values: .connection],
            version: fields[values: .secWebSocketVersion], key: fields[values: .secWebSocketKey],
            subprotocols: fields[values: .secWebSocketProtocol]
        )
    }
}

import HTTP1Codec
import HTTP2Session
import HTTPTypes
import Identity
import NIOCore
import NotificationCore
import Transports
import WebSocketCodec

extension ServerLoop {
    /// `/v1/subscribe`: the request decides the transport.
    func subscribe(
        _ request: HTTPRequest, _ items: QueryItems, _ body: [UInt8], _ upgrade: String?, _ handle: RequestHandle
    ) throws(Problem) {
        guard request.method == .get || request.method == .post || handle.isTunnel else { throw .methodNotAllowed("GET, POST") }
        if server.isDraining { throw server.drainProblem }
        var handle = handle
        handle.place = try place(request, handle)
        let limits = server.configuration.subscribe
        // A handshake whose Upgrade a proxy has taken away is still one: its refusal says so, where an answer would only puzzle.
        let isWebSocket =
            upgrade?.split(separator: ",").contains { $0.trimmed == "websocket" } ?? false
            || request.headerFields[.secWebSocketKey] != nil
        guard request.method == .post else {
            let wanted = try SubscribeRequest(request, items: items, limits: limits)
            return try subscribe(request, wanted, body, upgrade, isWebSocket, handle)
        }
        try parse(body, handle) { body throws(Problem) in
            try SubscribeRequest(request, body: body, limits: limits)
        } then: { loop, wanted throws(Problem) in
            guard loop.isPending(handle) else { return }
            try loop.subscribe(request, wanted, body, upgrade, isWebSocket, handle)
        }
    }

    /// - Parameter isOwn: it is the server's own subscriber: it may have what nobody else may.
    func subscribe(
        _ request: HTTPRequest, _ wanted: SubscribeRequest, _ body: [UInt8], _ upgrade: String?, _ isWebSocket: Bool,
        _ handle: RequestHandle, isOwn: Bool = false
    ) throws(Problem) {
        let transport = SubscribeRequest.transport(of: request, isUpgradeToWebSocket: isWebSocket)
        if wanted.patterns.isEmpty, transport != .webSocket, !wanted.isList {
            throw Problem("no-channel", "No channel", status: 400, detail: "name at least one channel: ?channel=…")
        }
        guard SubscribeRequest.accepts(request, transport) else {
            throw Problem(
                "not-acceptable", "Not acceptable", status: 406, detail: "this path has text/event-stream and application/json"
            )
        }
        let handshake = transport == .webSocket ? try webSocketHandshake(request, body, upgrade, handle) : nil
        if isOwn { return try admit(wanted, transport, handshake, handle) }
        try check(wanted.user, handle)
        try checkPresence(wanted, transport, handle)
        try whenPermitted(wanted, transport, handle) { loop throws(Problem) in
            try loop.admit(wanted, transport, handshake, handle)
        }
    }

    /// Who asks may have it.
    private func admit(
        _ wanted: SubscribeRequest, _ transport: Transport, _ handshake: WebSocketHandshake.Request?, _ handle: RequestHandle
    ) throws(Problem) {
        var paced = wanted
        for index in paced.subscriptions.indices {
            paced.subscriptions[index].rate = rate(paced.subscriptions[index].rate, paced.subscriptions[index].patterns)
        }
        // It gets what this loop has not applied yet as it gets what comes.
        if transport == .longPoll, wanted.waitSeconds > 0, wanted.subscriptions.allSatisfy({ hub.hasApplied($0.after) }) {
            return openCounted(paced, transport, handshake, handle)
        }
        try whenCaughtUp(handle) { [paced] loop in loop.openCounted(paced, transport, handshake, handle) }
    }

    /// What is unread stands in the first thing that is sent.
    private func openCounted(
        _ wanted: SubscribeRequest, _ transport: Transport, _ handshake: WebSocketHandshake.Request?, _ handle: RequestHandle
    ) {
        guard let user = wanted.user else { return open(wanted, transport, handshake, unread: nil, handle) }
        let bound = bind((self, handle))
        unread(user, wanted.patterns) { count in
            let (loop, handle) = bound.value
            guard loop.isPending(handle) else { return }
            loop.open(wanted, transport, handshake, unread: count, handle)
        }
    }

    private func open(
        _ wanted: SubscribeRequest, _ transport: Transport, _ handshake: WebSocketHandshake.Request?, unread: Int?,
        _ handle: RequestHandle
    ) {
        // What was taken back meanwhile has ended what was open, and this was not yet.
        if let identity = handle.identity, isTakenBack(identity) { return answer(handle, .tokenTakenBack) }
        if let trace = handle.trace {
            let channels = String(wanted.patterns.map(\.string).joined(separator: " ").prefix(500))
            trace.log("subscribed", ["transport": transport.rawValue, "channels": channels], to: server.logger)
        }
        switch transport {
        case .webSocket: openWebSocket(handshake!, wanted, unread, handle)
        case .eventStream: openEventStream(wanted, unread, handle)
        case .longPoll: poll(wanted, unread, handle)
        }
    }

    /// Whether the request still waits for its answer.
    func isPending(_ handle: RequestHandle) -> Bool {
        switch handle.connection.state {
        case .http1(let exchange): handle.stream == 0 && handle.serial == exchange.serial && exchange.isAnswering
        case .http2(let exchange): exchange.streams[handle.stream]?.isFree ?? false
        default: false
        }
    }

    private func enter(_ wanted: SubscribeRequest) -> (ids: [SubscriberID], positions: [Position]) {
        var ids: [SubscriberID] = []
        for (index, subscription) in wanted.subscriptions.enumerated() {
            var options = wanted.readingOptions
            options.isPaced = subscription.rate != nil
            ids.append(
                hub.subscribe(wanted.allPatterns(index), from: subscription.after, knownHead: server.log.head, options: options)
            )
        }
        return (ids, ids.map { hub.position(of: $0) })
    }

    private func leave(_ ids: [SubscriberID]) {
        for id in ids { hub.unsubscribe(id) }
    }

    /// Remembers who has to be told of unread alerts.
    private func note(_ ids: [SubscriberID], _ wanted: SubscribeRequest, _ unread: Int?) {
        if let user = wanted.user {
            for id in ids {
                outlets[id].isUsers = true
                if id != ids[0] { unreadOwners[id] = ids[0] }
            }
            unreadSessions[ids[0]] = UnreadSession(user: user, patterns: wanted.patterns, told: unread)
            // Something may have come since they were counted, and it is not known when the first of them expires.
            unreadDirty.insert(ids[0])
        }
    }

    /// - Parameter connection: nil: a session of polls.
    private func newSession(_ connection: Connection?) -> SessionID {
        var generator = Randomness()
        return SessionID(random: (generator.next(), generator.next()), loop: server.firstLoop + number, place: connection?.index)
    }

    private func hello(
        _ session: SessionID, _ connection: Connection, _ wanted: SubscribeRequest, _ positions: [Position], _ unread: Int?
    ) -> [UInt8] {
        ControlObject.hello(
            session: session, network: connection.network, heartbeatSeconds: wanted.heartbeatSeconds, positions: positions,
            isList: wanted.isList, unread: unread
        )
    }

    // MARK: WebSocket

    /// - Parameter upgrade: nil where `Upgrade` does not count: in HTTP/1.0 (RFC 9110 section 7.8), or if `Connection` does not list it.
    private func webSocketHandshake(
        _ request: HTTPRequest, _ body: [UInt8], _ upgrade: String?, _ handle: RequestHandle
    ) throws(Problem) -> WebSocketHandshake.Request {
        // Another parser on the way may take the content for frames.
        guard body.isEmpty, request.headerFields[.transferEncoding] == nil else {
            if case .http1(let exchange) = handle.connection.state { exchange.head?.keepAlive = false }
            throw Problem("bad-handshake", "Not a WebSocket handshake", status: 400, detail: "a handshake has no content")
        }
        guard upgrade != nil else {
            throw Problem(
                "bad-handshake", "Not a WebSocket handshake", status: 400, detail: WebSocketHandshake.Refusal.notWebSocket.reason
            )
        }
        do throws(WebSocketHandshake.Refusal) {
            return try WebSocketHandshake.Request(request, isTunnel: handle.isTunnel)
        } catch {
            // 426 comes with Upgrade (RFC 9110 section 15.5.22), which HTTP/2 does not have.
            let status = handle.isTunnel && error.status == 426 ? 400 : error.status
            var problem = Problem(
                status == 426 ? "upgrade-required" : "bad-handshake",
                error.status == 426 ? "WebSocket version not served" : "Not a WebSocket handshake", status: status,
                detail: error.reason
            )
            problem.fields = Dictionary(error.fields.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 })
            throw problem
        }
    }

    private static let binarySubprotocol = "tocsin.v1.cbor"
    private static let subprotocols = ["tocsin.v1", binarySubprotocol]

    private func openWebSocket(
        _ handshake: WebSocketHandshake.Request, _ wanted: SubscribeRequest, _ unread: Int?, _ handle: RequestHandle
    ) {
        let connection = handle.connection
        let deflate = server.configuration.compresses ? PerMessageDeflate.accept(handshake.extensions) : nil
        let subprotocol = WebSocketHandshake.subprotocol(offered: handshake.subprotocols, supported: Self.subprotocols)
        let (ids, positions) = enter(wanted)
        let adapter = WebSocketAdapter(
            subscribers: ids, options: wanted.readingOptions,
            limits: WebSocketLimits(messageBytesMax: server.configuration.messageBytesMax),
            shape: .webSocket(deflate, isBinary: subprotocol == Self.binarySubprotocol), compression: compression
        )
        let id = newSession(connection)
        var (session, out, early) = connection.acceptWebSocket(
            id, adapter, handshake, deflate, supported: Self.subprotocols, heartbeatSeconds: wanted.heartbeatSeconds, handle
        )
        guard let session else { return leave(ids) }
        adapter.shape.append(control: hello(id, connection, wanted, positions, unread), event: "hello", to: &out)
        session.token = handle.identity.map { SessionToken($0) }
        session.place = handle.place
        begin(ids, connection, stream: handle.stream, shape: adapter.shape, out, wanted, unread)
        enterPresence(ids, wanted, handle)
        connection.look(at: connection.lookAtToken(.webSocket(session)))
        if wanted.isProbing { probe(.webSocket(session), connection) }
        if !early.isEmpty { early.withUnsafeMutableBytes { connection.receiveWebSocket(session, $0) } }
        if handle.stream == 0 { afterFanOut { connection.resume() } }
    }

    /// `/echo`: gives every message back, for the test suites of the protocol.
    func echo(_ request: HTTPRequest, _ body: [UInt8], _ upgrade: String?, _ handle: RequestHandle) throws(Problem) {
        guard upgrade?.lowercased() == "websocket" else {
            throw Problem("upgrade-required", "A WebSocket is wanted", status: 426, detail: "/echo is a WebSocket")
        }
        let handshake = try webSocketHandshake(request, body, upgrade, handle)
        let deflate = PerMessageDeflate.accept(handshake.extensions)
        let adapter = WebSocketAdapter(
            subscribers: [], limits: WebSocketLimits(messageBytesMax: 16 << 20, fragmentsMax: 1 << 20), shape: .webSocket(deflate),
            compression: compression
        )
        let heartbeatSeconds = server.configuration.subscribe.heartbeatSecondsDefault
        let connection = handle.connection
        let accepted = connection.acceptWebSocket(
            newSession(connection), adapter, handshake, deflate, supported: handshake.subprotocols, heartbeatSeconds: heartbeatSeconds,
            handle
        )
        guard let session = accepted.session else { return }
        connection.clearDeadline()
        connection.look(at: tick + ticks(seconds: heartbeatSeconds))
        if session.stream == 0 { connection.write(accepted.head) } else { connection.flushHTTP2() }
        var early = accepted.early
        if !early.isEmpty { early.withUnsafeMutableBytes { connection.receiveWebSocket(session, $0) } }
        if handle.stream == 0 { afterFanOut { connection.resume() } }
    }

    // MARK: Server-Sent Events

    private func openEventStream(_ wanted: SubscribeRequest, _ unread: Int?, _ handle: RequestHandle) {
        let connection = handle.connection
        let (ids, positions) = enter(wanted)
        let id = newSession(connection)
        let session = EventStreamSession(
            id: id, commands: CommandSession(ids, options: wanted.readingOptions), heartbeatSeconds: wanted.heartbeatSeconds,
            paddingBytes: wanted.paddingBytes
        )
        let response = connection.dated(EventStreamAnswer.response, stream: handle.stream)
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
            return leave(ids)
        }
        // With a list of subscriptions there is no one position that `Last-Event-ID` could give back.
        shape.append(
            control: hello(id, connection, wanted, positions, unread), event: "hello", position: wanted.isList ? nil : positions[0],
            retryMilliseconds: Self.retryMilliseconds, to: &out
        )
        if wanted.paddingBytes > 0 { shape.appendHeartbeat(paddingBytes: wanted.paddingBytes, to: &out) }
        session.token = handle.identity.map { SessionToken($0) }
        session.place = handle.place
        begin(ids, connection, stream: handle.stream, shape: shape, out, wanted, unread)
        enterPresence(ids, wanted, handle)
        connection.look(at: connection.lookAtToken(.eventStream(session, stream: handle.stream)))
        if wanted.isProbing { probe(.eventStream(session, stream: handle.stream), connection) }
        // What was held while the answer was not there.
        connection.resume()
    }

    /// How long a browser waits before it reconnects, unless it is told otherwise.
    private static let retryMilliseconds = 2000

    /// The stream is open: what it begins with goes out, then what it missed, then it is live.
    private func begin(
        _ ids: [SubscriberID], _ connection: Connection, stream: Int32, shape: WireShape, _ opening: [UInt8],
        _ wanted: SubscribeRequest, _ unread: Int?
    ) {
        let kind: Outlet.Kind =
            if !shape.isWebSocket, wanted.paddingBytes > 0 {
                .padded
            } else if stream != 0 {
                .http2
            } else if ids.count > 1 {
                .gathered
            } else {
                connection.tls == nil && connection.descriptor >= 0 ? .direct : .buffered
            }
        for id in ids {
            attach(
                id,
                Outlet(
                    connection: .passUnretained(connection), descriptor: connection.descriptor, stream: stream, kind: kind, shape: shape
                )
            )
        }
        note(ids, wanted, unread)
        for (id, subscription) in zip(ids, wanted.subscriptions) {
            if let rate = subscription.rate { pace(id, rate) }
        }
        connection.clearDeadline()
        connection.look(at: tick + ticks(seconds: wanted.heartbeatSeconds))
        connection.write(opening, stream: stream)
        for id in ids where hub.isCurrent(id) {
            if !connection.hasRoom(stream: stream) {
                stop(id)
            } else if !hub.isLive(id) {
                readOn(id)
            }
        }
    }

    // MARK: probes

    /// Sends what shows the client whether the way to it holds things back; as soon as it has all that it missed, since behind that they
    /// would show nothing.
    private func probe(_ place: SessionPlace, _ connection: Connection, patience: Int = 600) {
        guard connection.isOpen, connection.holds(place), patience > 0 else { return }
        guard connection.isCaughtUp(place) else {
            let bound = bind((self, place, connection))
            eventLoop.scheduleTask(in: .milliseconds(100)) {
                let (loop, place, connection) = bound.value
                loop.probe(place, connection, patience: patience - 1)
            }
            return
        }
        sendProbe(place, connection, milliseconds: 0, isPadded: false)
        for (milliseconds, isPadded) in [(300, false), (1000, true)] {
            let bound = bind((self, place, connection))
            eventLoop.scheduleTask(in: .milliseconds(Int64(milliseconds))) {
                let (loop, place, connection) = bound.value
                loop.sendProbe(place, connection, milliseconds: milliseconds, isPadded: isPadded)
            }
        }
    }

    private func sendProbe(_ place: SessionPlace, _ connection: Connection, milliseconds: Int, isPadded: Bool) {
        guard connection.isOpen, connection.holds(place) else { return }
        connection.send(ControlObject.probe(milliseconds: milliseconds, isPadded: isPadded), event: "probe", to: place)
    }

    // MARK: long-poll

    private func poll(_ wanted: SubscribeRequest, _ unread: Int?, _ handle: RequestHandle) {
        let connection = handle.connection
        let (ids, _) = enter(wanted)
        let session: SessionID? =
            switch wanted.session {
            case .none: nil
            case .new: newSession(nil)
            // One of a server that this one took over, and that has gone, has no home any more.
            case .known(let id): id.isOfPolls && server.isReachable(id) ? id : newSession(nil)
            }
        let token = handle.identity.map { SessionToken($0) }
        let hasRate = wanted.subscriptions.contains { $0.rate != nil }
        let isTokenNear = token.map { isNear($0, waitSeconds: wanted.waitSeconds) } ?? false
        let isReading = wanted.user != nil || hasRate || wanted.isList || isTokenNear || wanted.wantsPresence
        // One tick more: the one that runs now is already partly over.
        let parked = ParkedPoll(
            subscribers: ids, isList: wanted.isList, session: session, waitSeconds: wanted.waitSeconds,
            // It ends with its token.
            dueTick: tick + ticks(seconds: min(wanted.waitSeconds, token.map { max(0, Int($0.millisecondsLeft / 1000)) } ?? .max)) + 1,
            isImmediate: wanted.waitSeconds == 0 || wanted.patterns.isEmpty || wanted.subscriptions.contains { $0.after == nil },
            closes: wanted.closes, room: LongPollAnswer.room(wanted.session), token: token
        )
        parked.place = handle.place
        switch connection.state {
        case .http1(let exchange):
            exchange.poll = parked
            if !isReading, !handle.isOneUse, server.hook == nil { expectAgain(parked, exchange, connection) }
            exchange.keepPollHead()
        case .http2(let exchange):
            exchange.streams[handle.stream]?.poll = parked
        default: return leave(ids)
        }
        for id in ids {
            attach(
                id, Outlet(connection: .passUnretained(connection), stream: handle.stream, kind: isReading ? .readingPoll : .longPoll)
            )
        }
        note(ids, wanted, unread)
        connection.clearDeadline()
        connection.look(at: parked.dueTick)
        if let session { park(session, wanted, handle) }
        for (id, subscription) in zip(ids, wanted.subscriptions) where hub.isCurrent(id) {
            guard let rate = subscription.rate, !parked.isImmediate else {
                readOn(id)
                continue
            }
            // It waits for its turn, unless it only asks where to begin.
            hub.rest(id)
            pacePoll(id, milliseconds: rate.intervalMilliseconds)
        }
        enterPresence(parked, wanted, handle)
    }

    /// Whether a poll with this token is told that it ends.
    func isNear(_ token: SessionToken, waitSeconds: Int) -> Bool {
        token.millisecondsLeft <= Int64(server.configuration.tokenWarningSeconds + waitSeconds) * 1000
    }

    /// A poll whose next one is likely to differ only in its position.
    private func expectAgain(_ poll: ParkedPoll, _ exchange: HTTP1Exchange, _ connection: Connection) {
        guard exchange.isTakingWhole, let head = exchange.head, head.keepAlive, head.minorVersion == 1, head.request.method == .get,
            poll.subscribers.count == 1, !poll.isImmediate, !poll.closes,
            poll.session.map({ $0.loop == server.firstLoop + number }) ?? true,
            poll.room.bytes != LongPollAnswer.roomOfFirst.bytes
        else { return }
        exchange.repeated = RepeatedPoll(
            poll, sessionText: connection.sessionText(poll.session), accessGeneration: server.accessGeneration
        )
    }

    /// The time of a poll is over: it is answered with nothing, or with what it was not given yet because its turn had not come.
    ///
    /// - Returns: when to look again; nil: never. It waits some seconds more for an answer of the log, which may be what it has asked for.
    func endPoll(_ poll: ParkedPoll, _ connection: Connection, _ stream: Int32) -> UInt32? {
        for id in poll.subscribers where hub.isCurrent(id) && hub.wake(id) { readOn(id) }
        guard connection.poll(stream) === poll else { return nil }
        let isBusy = poll.subscribers.contains { outlets[$0].isAsking || waitingReaders.contains($0) }
        if isBusy, tick < poll.dueTick + ticks(seconds: Self.pollGraceSeconds) { return tick + 1 }
        answerPoll(poll, [], connection, stream)
        return nil
    }

    /// A reader's page takes milliseconds; behind a thousand others it may take a second.
    private static let pollGraceSeconds = 5

    /// Answers a poll as soon as there is something, else lets it wait.
    func readPoll(_ id: SubscriberID, _ answer: (LogRequest, LogAnswer)?) {
        var answer = answer
        while hub.isCurrent(id) {
            let outlet = outlets[id]
            guard let connection = outlet.connection?.takeUnretainedValue(), let poll = connection.poll(outlet.stream) else { return }
            switch hub.read(id, room: poll.room, nowMilliseconds: Clock.wallMilliseconds(), answer: answer.map { ($0.0, $0.1) }) {
            case .wants(let request):
                return ask(id, request)
            case .notYet:
                return readOnSoon(id, milliseconds: 1)
            case .page(let page):
                if !page.items.isEmpty { return answerPoll(poll, readOthers(poll, id, page.items), connection, outlet.stream) }
                if page.isAtHead {
                    let isDone = poll.isImmediate && poll.subscribers.allSatisfy { hub.isAtHead($0) }
                    return isDone ? answerPoll(poll, [], connection, outlet.stream) : ()
                }
            }
            answer = nil
        }
    }

    /// What the other subscriptions of a poll have at hand goes into the same answer.
    private func readOthers(_ poll: ParkedPoll, _ id: SubscriberID, _ items: [PageItem]) -> [PageItem] {
        var items = items
        var room = poll.room
        for item in items { room.take(item.notification?.object.count ?? 200) }
        for other in poll.subscribers where other != id && !outlets[other].isAsking && room.notifications > 0 && room.bytes > 0 {
            guard case .page(let page) = hub.read(other, room: room, nowMilliseconds: Clock.wallMilliseconds()) else { continue }
            for item in page.items { room.take(item.notification?.object.count ?? 200) }
            items += page.items
        }
        return items
    }

    /// Answers a parked poll, with the count of unread alerts if it named a user.
    ///
    /// - Parameter controls: control messages that go with it, each a JSON object.
    func answerPoll(
        _ poll: ParkedPoll, _ items: [PageItem], _ connection: Connection, _ stream: Int32, controls: [[UInt8]] = []
    ) {
        guard !poll.isCounting, poll.subscribers.allSatisfy({ hub.isCurrent($0) }) else { return }
        // Empty is said of a log that was read.
        if items.isEmpty, controls.isEmpty, let fault = fault(of: poll) {
            connection.answer(poll, stream: stream, with: .storeFailed(fault))
            guard case .http2(let exchange) = connection.state else { return }
            return isFanningOut ? connection.wantFlush(exchange) : connection.flushHTTP2()
        }
        var frame = LongPollAnswer.Frame(positions: poll.subscribers.map { hub.position(of: $0) })
        frame.isList = poll.isList
        frame.session = poll.session
        if poll.session != nil { frame.network = connection.network }
        frame.controls = controls
        if let left = poll.token?.millisecondsLeft, left <= Int64(server.configuration.tokenWarningSeconds) * 1000 {
            frame.tokenMilliseconds = max(0, Int(left - TokenVerifier.skewMilliseconds))
        }
        counters.deliveries[LoopCounters.index(.longPoll)] += items.reduce(0) { $0 + ($1.notification == nil ? 0 : 1) }
        let id = poll.subscribers[0]
        guard let session = unreadSessions[id] else {
            return connection.answerPoll(stream: stream, body: LongPollAnswer.body(items, frame))
        }
        // Nothing more is read for it meanwhile; what is read all the same comes again, from the positions that the answer has.
        connection.beginCounting(stream)
        for id in poll.subscribers { outlets[id].isAsking = true }
        let bound = bind((self, connection, items, frame))
        unread(session.user, session.patterns) { count in
            var (loop, connection, items, frame) = bound.value
            guard loop.hub.isCurrent(id) else { return }
            frame.unread = count
            connection.answerPoll(stream: stream, body: LongPollAnswer.body(items, frame))
        }
    }
}

extension WebSocketHandshake.Request {
    init(_ request: HTTPRequest, isTunnel: Bool) throws(WebSocketHandshake.Refusal) {
        let fields = request.headerFields
        if isTunnel {
            try self.init(
                version: fields[values: .secWebSocketVersion], subprotocols: fields[values: .secWebSocketProtocol],
                extensions: fields[values: .secWebSocketExtensions]
            )
            return
        }
        try self.init(
            method: request.method.rawValue, upgrade: fields[values: .upgrade], connection: fields[values: .connection],
            version: fields[values: .secWebSocketVersion], key: fields[values: .secWebSocketKey],
            subprotocols: fields[values: .secWebSocketProtocol], extensions: fields[values: .secWebSocketExtensions]
        )
    }
}

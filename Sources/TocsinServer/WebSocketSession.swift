import HTTP1Codec
import HTTP2Session
import HTTPTypes
import NIOCore
import NotificationCore
import Transports
import WebSocketCodec

/// What a WebSocket holds: one on a connection of its own, or one on a stream of HTTP/2 (RFC 8441).
///
///     open ──close frame, fault, server's close──> closed   what is in `waiting` still goes out, then the stream or connection ends
final class WebSocketSession {
    let id: SessionID
    var token: SessionToken?
    /// In the counts of its user.
    var place: CountedPlace?
    var adapter: WebSocketAdapter
    /// Of HTTP/2; else 0.
    let stream: Int32
    let heartbeatSeconds: UInt16
    /// When the client last sent anything, and when it was last asked to.
    var receivedTick: UInt32
    var pingTick: UInt32
    /// When the last ping that was not answered yet went out, in milliseconds of the monotonic clock; 0: none.
    var pingMilliseconds: Int64 = 0
    /// Control frames that may come; refilled as time goes by.
    var controlBudget: Int
    var budgetTick: UInt32
    /// Frames that the stream has not taken yet: its window is shut. (A connection has the channel for that.)
    var waiting: [UInt8] = []
    /// Commands in their order, the first of which the hook is being asked about.
    var undecided: [WebSocketCommand] = []
    static let undecidedMax = 100
    /// Nothing is sent any more.
    var isClosed = false
    /// Nothing is read any more either.
    var isEnded = false
    /// The end of the stream has been written.
    var isFinished = false
    /// When the stream is reset if the peer does not end its half.
    var resetTick: UInt32 = 0

    init(id: SessionID, adapter: WebSocketAdapter, stream: Int32, heartbeatSeconds: Int, controlBudget: Int, tick: UInt32) {
        self.id = id
        self.adapter = adapter
        self.stream = stream
        self.heartbeatSeconds = UInt16(heartbeatSeconds)
        self.controlBudget = controlBudget
        budgetTick = tick
        receivedTick = tick
        pingTick = tick
    }

    /// Gives back what time has given of the budget of control frames.
    func refill(tick: UInt32, perSecond: Int, max: Int) {
        let gained = Int(tick - budgetTick) * perSecond / Int(ServerLoop.ticksPerSecond)
        guard gained > 0 else { return }
        controlBudget = min(max, controlBudget + gained)
        budgetTick = tick
    }
}

extension Connection {
    /// Turns the connection, or the stream, into a WebSocket.
    ///
    /// - Parameters:
    ///   - id: of the session.
    ///   - deflate: what was agreed on of permessage-deflate.
    ///   - supported: subprotocols, of which the first one offered is chosen.
    /// - Returns: the session, nil if the request is gone; the head of the answer where the caller has to send it before its first
    ///   frames; and what the client said before it had its answer.
    func acceptWebSocket(
        _ id: SessionID, _ adapter: WebSocketAdapter, _ handshake: WebSocketHandshake.Request, _ deflate: PerMessageDeflate?,
        supported: [String], heartbeatSeconds: Int, _ handle: RequestHandle
    ) -> (session: WebSocketSession?, head: [UInt8], early: [UInt8]) {
        var response = HTTPResponse(status: handle.isTunnel ? .ok : .switchingProtocols)
        if let chosen = WebSocketHandshake.subprotocol(offered: handshake.subprotocols, supported: supported) {
            response.headerFields[.secWebSocketProtocol] = chosen
        }
        if let deflate { response.headerFields[.secWebSocketExtensions] = deflate.answer }
        let session = WebSocketSession(
            id: id, adapter: adapter, stream: handle.stream, heartbeatSeconds: heartbeatSeconds,
            controlBudget: loop.server.configuration.controlFramesBurst, tick: loop.tick
        )
        switch state {
        case .http1:
            response.headerFields[.connection] = "Upgrade"
            response.headerFields[.upgrade] = "websocket"
            response.headerFields[.secWebSocketAccept] = handshake.accept
            var head: [UInt8] = []
            HTTP1ResponseEncoder.head(response, framing: .none, keepAlive: true, requestMinorVersion: 1, into: &head)
            state = .webSocket(session)
            return (session, head, [])
        case .http2(let exchange) where exchange.streams[handle.stream] != nil:
            let early = exchange.streams[handle.stream]?.body ?? []
            exchange.streams[handle.stream]?.body = []
            exchange.streams[handle.stream]?.webSocket = session
            exchange.session.startStreaming(stream: handle.stream, dated(response, stream: handle.stream))
            return (session, [], early)
        default:
            return (nil, [], [])
        }
    }

    func receiveWebSocket(_ session: WebSocketSession, _ bytes: UnsafeMutableRawBufferPointer) {
        guard !session.isEnded else { return }
        let configuration = loop.server.configuration
        session.receivedTick = loop.tick
        session.refill(tick: loop.tick, perSecond: configuration.controlFramesPerSecond, max: configuration.controlFramesBurst)
        var out: [UInt8] = []
        var waits = !session.undecided.isEmpty
        let messages = session.adapter.messageCount
        let actions = session.adapter.receive(
            bytes, hub: loop.hub, knownHead: loop.server.log.head, limits: configuration.subscribe,
            controlBudget: &session.controlBudget,
            permit: { command throws(WebSocketCommand.Refusal) in
                // Whatever follows one that waits for the hook, waits behind it.
                if waits { return false }
                let isDecided = try loop.permit(command, of: session)
                waits = !isDecided
                return isDecided
            }, out: &out
        )
        send(session, out)
        guard spend(session, messages: session.adapter.messageCount - messages, actions) else { return }
        for action in actions {
            switch action {
            case .command(let action):
                perform(action, on: .webSocket(session)) { connection, object in connection.reply(session, object) }
            case .undecided(let command): hold(session, command)
            case .pong(let payload): notePong(session, payload)
            case .close(let awaitsPeer): close(session, awaitsPeer: awaitsPeer)
            }
        }
    }

    // MARK: commands that the hook decides

    private func hold(_ session: WebSocketSession, _ command: WebSocketCommand) {
        guard session.undecided.count < WebSocketSession.undecidedMax, loop.mayPark(command.bytes) else {
            return reply(
                session,
                WebSocketReply.refused(
                    command.id, code: "unavailable", message: "too many commands wait for a decision", rule: Problem.hookRule)
            )
        }
        loop.parkedBytes += command.bytes
        session.undecided.append(command)
        if session.undecided.count == 1 { decideNext(session) }
    }

    private func decideNext(_ session: WebSocketSession) {
        guard let hook = loop.server.hook, let command = session.undecided.first else { return }
        let (bound, eventLoop) = (loop.bind((self, session)), loop.eventLoop)
        hook.ask(loop.hookQuestions(of: command, session.token?.identity)) { answers in
            eventLoop.execute {
                let (connection, session) = bound.value
                let done = connection.isOpen && !session.isClosed ? 1 : session.undecided.count
                connection.loop.parkedBytes -= session.undecided.prefix(done).reduce(0) { $0 + $1.bytes }
                let command = session.undecided[0]
                session.undecided.removeFirst(done)
                guard connection.isOpen, !session.isClosed else { return }
                let place = SessionPlace.webSocket(session)
                connection.loop.perform(.success(command), session.token?.identity, place, connection, answers) { object in
                    connection.reply(session, object)
                }
                connection.decideNext(session)
            }
        }
    }

    // MARK: bytes out

    /// Sends frames that are not notifications: replies, pings, the close.
    func send(_ session: WebSocketSession, _ bytes: [UInt8]) {
        guard !bytes.isEmpty, !session.isClosed else { return }
        guard session.stream != 0 else { return write(bytes) }
        guard case .http2(let exchange) = state else { return }
        if !session.waiting.isEmpty || !offer(exchange, session.stream, bytes, 0..<bytes.count) {
            session.waiting += bytes
            if session.waiting.count > loop.server.configuration.backlogBytesMax {
                // It asks and does not read the answers.
                reset(session, exchange)
            }
        }
        flushOrWait(exchange)
        // What the stream has not taken now, `windowOpen` tells of.
        if !hasRoom(stream: session.stream) { for id in session.adapter.subscribers { loop.stop(id) } }
    }

    /// The stream has room again: first what waits, then the subscribers read on.
    func onWindowOpen(_ session: WebSocketSession, _ exchange: HTTP2Exchange) {
        if !session.waiting.isEmpty {
            guard offer(exchange, session.stream, session.waiting, 0..<session.waiting.count) else { return }
            session.waiting = []
            if session.isEnded { finish(session, exchange) }
            flushOrWait(exchange)
        }
        guard !session.isClosed, hasRoom(stream: session.stream) else { return }
        for id in session.adapter.subscribers { loop.afterFanOut { [self] in if loop.hub.isCurrent(id) { loop.readOn(id) } } }
    }

    private func flushOrWait(_ exchange: HTTP2Exchange) {
        if loop.isFanningOut { wantFlush(exchange) } else { flushHTTP2() }
    }

    /// The last frame has been handed over: nothing is delivered from now on, and the stream or connection ends after it; where the peer's
    /// close is awaited, when that has come or a moment has passed.
    func close(_ session: WebSocketSession, awaitsPeer: Bool) {
        guard !session.isEnded else { return }
        session.isClosed = true
        session.isEnded = !awaitsPeer
        for id in session.adapter.subscribers { loop.detachLater(id, self) }
        guard session.stream != 0 else {
            return awaitsPeer ? setDeadline(seconds: Self.lingerSeconds) : closeWhenDrained()
        }
        guard case .http2(let exchange) = state else { return }
        session.resetTick = loop.tick + loop.ticks(seconds: Self.lingerSeconds)
        look(at: session.resetTick)
        if session.isEnded, session.waiting.isEmpty { finish(session, exchange) }
        flushOrWait(exchange)
    }

    private func finish(_ session: WebSocketSession, _ exchange: HTTP2Exchange) {
        guard !session.isFinished else { return }
        session.isFinished = true
        finish(exchange, session.stream)
    }

    /// Ends the stream at once, as a reset of TCP would (RFC 8441 section 5.2).
    private func reset(_ session: WebSocketSession, _ exchange: HTTP2Exchange) {
        session.isClosed = true
        session.isEnded = true
        session.waiting = []
        for id in session.adapter.subscribers { loop.detachLater(id, self) }
        exchange.session.reset(stream: session.stream, errorCode: 8)  // CANCEL
    }

    /// The client has ended its half of the stream: as the end of a TCP connection.
    func onStreamEnd(_ session: WebSocketSession, _ exchange: HTTP2Exchange) {
        if !session.isClosed {
            session.isClosed = true
            session.waiting = []
            for id in session.adapter.subscribers { loop.detachLater(id, self) }
        }
        session.isEnded = true
        if session.waiting.isEmpty { finish(session, exchange) }
    }

    private func reply(_ session: WebSocketSession, _ object: [UInt8]) {
        var out: [UInt8] = []
        session.adapter.shape.append(control: object, event: "reply", to: &out)
        send(session, out)
    }

    // MARK: pings

    /// A pong to the last ping tells the round trip. (One that nobody asked for, or to an earlier ping, is only a sign of life.)
    private func notePong(_ session: WebSocketSession, _ payload: [UInt8]) {
        guard session.pingMilliseconds != 0, payload == Self.pingPayload(session.pingMilliseconds) else { return }
        let milliseconds = Clock.monotonicMilliseconds() - session.pingMilliseconds
        session.pingMilliseconds = 0
        loop.counters.roundTrips.note(milliseconds: milliseconds)
    }

    private static func pingPayload(_ milliseconds: Int64) -> [UInt8] {
        withUnsafeBytes(of: milliseconds.bigEndian, Array.init)
    }

    func ping(_ session: WebSocketSession) {
        session.pingTick = loop.tick
        session.pingMilliseconds = Clock.monotonicMilliseconds()
        var out: [UInt8] = []
        WebSocketEncoder.frame(.ping, Self.pingPayload(session.pingMilliseconds), into: &out)
        send(session, out)
    }

    /// Pings where nothing was heard or said for a heartbeat.
    ///
    /// - Returns: when to look again.
    func heartbeat(_ session: WebSocketSession) -> UInt32 {
        if session.isClosed {
            guard session.stream != 0, case .http2(let exchange) = state else { return .max }
            if loop.tick < session.resetTick { return session.resetTick }
            reset(session, exchange)
            return .max
        }
        let interval = loop.ticks(seconds: Int(session.heartbeatSeconds))
        let patience = 2 * interval + loop.ticks(seconds: 10)
        guard loop.tick - session.receivedTick < patience else {
            var out: [UInt8] = []
            session.adapter.close(.policyViolation, "no answer to pings", &out)
            send(session, out)
            close(session, awaitsPeer: false)
            return .max
        }
        let saidTick = session.adapter.subscribers.reduce(0) { max($0, loop.outlets[$1].lastTick) }
        let quietSince = max(session.pingTick, min(session.receivedTick, saidTick))
        if loop.tick - quietSince >= interval {
            session.pingTick = loop.tick
            if hasRoom(stream: session.stream) { ping(session) }
            return loop.tick + interval
        }
        return quietSince + interval
    }
}

extension WebSocketCommand {
    /// What it keeps, about.
    fileprivate var bytes: Int {
        if case .publish(let publication) = action { publication.data.count + 500 } else { 500 }
    }
}

extension ServerLoop {
    /// - Returns: false if the hook has to be asked first.
    fileprivate func permit(_ command: WebSocketCommand, of session: WebSocketSession) throws(WebSocketCommand.Refusal) -> Bool {
        let identity = session.token?.identity
        var answers: Hook.Answers = [:]
        let questions = hookQuestions(of: command, identity)
        if let hook = server.hook, !questions.isEmpty {
            guard let known = hook.known(questions) else { return false }
            answers = known
        }
        try permit(command, identity, owner: identity, answers)
        return true
    }
}

import HTTPTypes
import Identity
import JSONCodec
import Limits
import NIOCore
import NotificationCore
import Transports

/// Where a session's commands take effect.
enum SessionPlace {
    case webSocket(WebSocketSession)
    /// - Parameter stream: of HTTP/2; else 0.
    case eventStream(EventStreamSession, stream: Int32)
}

/// A client that polls: what its commands need between two polls. What it is subscribed to, each poll says anew.
struct PollSession: Sendable {
    var user: FieldText?
    /// Of the token that its polls have; nil: they have none.
    var principal: Identity.Principal?
    /// Where its last poll was parked, or still is: a loop as the numbers of sessions name them.
    var loop: Int
    var connection: UInt32
    var stream: Int32
    var expiresTick: UInt32
}

/// `POST /v1/sessions/{session}`: commands of clients whose transport has no way to say them.
///
///     the request's loop ── commands ──> the session's loop ── replies, as soon as all are there ──> the request's loop
///                                        in slices, at its turns    and what they cost
extension ServerLoop {
    /// Commands in one request.
    private static let commandsMax = 100
    /// Sessions of polls that are at home on a loop. One more has no place for commands.
    private static let pollSessionsMax = 100_000
    /// How long after the end of a poll its session is kept.
    private static let pollSessionSeconds = 60

    func command(_ session: String, _ body: [UInt8], _ handle: RequestHandle) throws(Problem) {
        guard body.count <= server.configuration.payloadBytesMax else { throw .bodyTooLarge }
        try parse(body, handle) { body throws(Problem) in
            (try Self.commands(body), body)
        } then: { loop, all throws(Problem) in
            let (said, body) = all
            try loop.spend(.commands, said.commands.count, handle)
            try loop.spend(.publishes, said.commands.reduce(0) { $0 + ($1.isPublish ? 1 : 0) }, handle)
            guard let id = SessionID(session) else { throw .unknownSession }
            if loop.server.process(of: id) != nil { return try loop.forward(id, body, handle) }
            try loop.perform(said.commands, isList: said.isList, id, handle)
        }
    }

    static func commands(_ body: [UInt8]) throws(Problem) -> (commands: [SessionCommands.Command], isList: Bool) {
        guard let value = try? JSONSlice.checked(body[...]), value.kind == .object || value.kind == .array else {
            throw Problem("bad-json", "Not JSON", status: 400, detail: "a command, or an array of them, is wanted")
        }
        let isList = value.kind == .array
        let texts = isList ? Array(value.elements.prefix(commandsMax + 1)) : [value]
        guard texts.count <= commandsMax else {
            throw Problem(
                "too-many-commands", "Too many commands", status: 400, detail: "at most \(commandsMax) at a time", rule: "commands"
            )
        }
        let commands = texts.map { text in
            do throws(WebSocketCommand.Refusal) {
                return SessionCommands.Command.success(try WebSocketCommand.read(text))
            } catch {
                return SessionCommands.Command.failure(error)
            }
        }
        return (commands, isList)
    }

    private func perform(
        _ commands: [SessionCommands.Command], isList: Bool, _ id: SessionID, _ handle: RequestHandle
    ) throws(Problem) {
        guard let reference = server.loop(id.loop) else { throw .unknownSession }
        let bound = bind((self, handle))
        let eventLoop = eventLoop
        let identity = handle.identity
        reference.eventLoop.execute {
            let work = SessionCommands(commands, of: id, identity: identity) { replies, microseconds in
                let answer = replies.map { Self.answer($0, isList: isList) }
                eventLoop.execute {
                    let (loop, handle) = bound.value
                    handle.connection.charge(microseconds: microseconds)
                    if let answer {
                        loop.answer(handle, status: .ok, "application/json", answer)
                    } else {
                        loop.answer(handle, .unknownSession)
                    }
                }
            }
            reference.value.begin(work)
        }
    }

    static func answer(_ replies: [[UInt8]], isList: Bool) -> [UInt8] {
        isList ? Array("[".utf8) + replies.joined(separator: [UInt8(ascii: ",")]) + Array("]\n".utf8) : replies[0] + [UInt8(ascii: "\n")]
    }

    /// Has them done, at their turns; when the hook has been asked about all of them, if there is one.
    func begin(_ work: SessionCommands) {
        let questions = Array(Set(work.good.flatMap { hookQuestions(of: $0, work.identity) }))
        guard let hook = server.hook, !questions.isEmpty else { return turns.add(.commands(work)) }
        if let answers = hook.known(questions) {
            work.answers = answers
            return turns.add(.commands(work))
        }
        let (bound, eventLoop) = (bind((self, work)), eventLoop)
        hook.ask(questions) { answers in
            eventLoop.execute {
                let (loop, work) = bound.value
                // Its session has ended with it.
                if let identity = work.identity, loop.isTakenBack(identity) { return work.sessionIsGone() }
                work.answers = answers
                loop.turns.add(.commands(work))
            }
        }
    }

    /// Does some of them, for a slice; the others have to wait for another turn.
    func perform(_ work: SessionCommands) {
        let nanoseconds = turns.slice {
            repeat { step(work) } while !work.isDone && turns.mayGoOn
        }
        work.pause(microseconds: Connection.charge(nanoseconds))
        if !work.isDone { turns.add(.commands(work)) }
    }

    private func step(_ work: SessionCommands) {
        let id = work.session
        if id.isOfPolls, let session = pollSessions[id], session.principal == work.identity?.principal {
            work.next { perform($0, work.identity, session, id, work.answers, reply: $1) }
        } else if !id.isOfPolls, Int(id.place) < connections.count, let connection = connections[Int(id.place)], connection.isOpen,
            let place = connection.place(of: id), connection.token(of: place)?.identity.principal == work.identity?.principal
        {
            work.next { perform($0, work.identity, place, connection, work.answers, reply: $1) }
        } else {
            work.sessionIsGone()
        }
    }

    /// - Parameter answers: of the hook.
    func perform(
        _ command: SessionCommands.Command, _ identity: Identity?, _ place: SessionPlace, _ connection: Connection,
        _ answers: Hook.Answers, reply: @escaping ([UInt8]) -> Void
    ) {
        do throws(WebSocketCommand.Refusal) {
            let command = try command.get()
            try permit(command, identity, owner: connection.token(of: place)?.identity, answers)
            var actions: [CommandSession.Action] = []
            let limits = server.configuration.subscribe
            let answer: [UInt8]?
            switch place {
            case .webSocket(let session):
                answer = try session.adapter.perform(command, hub, knownHead: server.log.head, limits, &actions)
            case .eventStream(let session, _):
                answer = try session.commands.perform(command, hub, knownHead: server.log.head, limits, &actions)
            }
            if let answer { reply(answer) }
            for action in actions { connection.perform(action, on: place) { _, object in reply(object) } }
        } catch {
            reply(error.reply)
        }
    }

    // MARK: polls

    private func perform(
        _ command: SessionCommands.Command, _ identity: Identity?, _ session: PollSession, _ id: SessionID,
        _ answers: Hook.Answers, reply: @escaping ([UInt8]) -> Void
    ) {
        do throws(WebSocketCommand.Refusal) {
            let command = try command.get()
            try permit(command, identity, owner: identity, answers)
            switch command.action {
            case .subscribe(let patterns, let start, _):
                let limits = server.configuration.subscribe
                guard patterns.count <= limits.channelsMax else {
                    throw WebSocketCommand.Refusal(
                        id: command.id, code: "too_many_channels", message: "a subscriber may have \(limits.channelsMax)"
                    )
                }
                // The polls hold the cursor: this only says where it begins.
                var options = ReadingOptions()
                options.user = session.user
                let subscriber = hub.subscribe(patterns, from: start, knownHead: server.log.head, options: options)
                reply(WebSocketReply.done(command.id, members: [("position", hub.position(of: subscriber).description)]))
                hub.unsubscribe(subscriber)
                endPoll(session, id)
            case .unsubscribe, .rate:
                reply(WebSocketReply.done(command.id))
                endPoll(session, id)
            default:
                var options = ReadingOptions()
                options.user = session.user
                var commands = CommandSession([], options: options)
                var actions: [CommandSession.Action] = []
                let answer = try commands.perform(
                    command, hub, knownHead: server.log.head, server.configuration.subscribe, &actions
                )
                if let answer { reply(answer) }
                for action in actions { perform(action, reply: reply) }
            }
        } catch {
            reply(error.reply)
        }
    }

    /// A poll has come: its session is known at home from now on, for some time after it.
    func park(_ id: SessionID, _ wanted: SubscribeRequest, _ handle: RequestHandle) {
        let session = PollSession(
            user: wanted.user, principal: handle.identity?.principal, loop: server.firstLoop + number, connection: handle.connection.index,
            stream: handle.stream,
            expiresTick: 0
        )
        let seconds = wanted.waitSeconds + Self.pollSessionSeconds
        if let process = server.process(of: id) {
            server.neighbours?.park(session, id, seconds, process: process)
            return
        }
        guard let home = server.loop(id.loop) else { return }
        if id.loop == session.loop { return keep(session, id, seconds) }
        home.eventLoop.execute { home.value.keep(session, id, seconds) }
    }

    /// The same, of one that is at home here and was parked on that connection before.
    func keep(_ id: SessionID, _ poll: ParkedPoll, _ connection: Connection) {
        let session = PollSession(
            user: nil, principal: poll.token?.identity.principal, loop: server.firstLoop + number, connection: connection.index, stream: 0,
            expiresTick: 0
        )
        keep(session, id, poll.waitSeconds + Self.pollSessionSeconds)
        prolongPresence(id, waitSeconds: poll.waitSeconds)
    }

    func keep(_ session: PollSession, _ id: SessionID, _ seconds: Int) {
        let known = pollSessions[id]
        guard known != nil || pollSessions.count < Self.pollSessionsMax, known == nil || known?.principal == session.principal else {
            return
        }
        pollSessions[id] = session
        pollSessions[id]?.expiresTick = tick + ticks(seconds: seconds)
    }

    func expirePollSessions() {
        if pollSessions.isEmpty { return }
        pollSessions = pollSessions.filter { tick < $0.value.expiresTick }
    }

    /// Answers the parked poll of a session at once: the next one names another list.
    private func endPoll(_ session: PollSession, _ id: SessionID) {
        let poll = ParkedPollPlace(loop: session.loop, connection: session.connection, stream: session.stream)
        if let process = server.process(ofLoop: session.loop) {
            server.neighbours?.endPoll(poll, id, process: process)
            return
        }
        server.endPoll(poll, id)
    }

    // MARK: what all transports have

    /// What does not concern a subscription.
    func perform(_ action: CommandSession.Action, reply: @escaping ([UInt8]) -> Void) {
        let bound = bind((self, reply))
        switch action {
        case .acknowledge(let id, let user, let acknowledgement):
            acknowledge(user, acknowledgement) { result in
                let (_, reply) = bound.value
                switch result {
                case .success(let unread): reply(WebSocketReply.done(id, unread: unread))
                case .failure(let problem):
                    let refusal = WebSocketReply.refused(
                        id, code: "ack_refused", message: problem.detail, rule: problem.rule, configurationKey: problem.configurationKey)
                    reply(refusal)
                }
            }
        case .publish(let id, let publication):
            server.log.append(AppendRequest([publication]), from: self) { outcomes in
                let (loop, reply) = bound.value
                if case .appended = outcomes[0] { loop.counters.published += 1 }
                reply(CommandSession.reply(id, outcomes[0], epoch: loop.epoch))
            }
        case .path(let report):
            counters.paths[report, default: 0] += 1
        case .refresh(let id, _):
            reply(WebSocketReply.refused(id, code: "bad_token", message: "each poll has its own token: use the new one from now on"))
        case .presence(let id, let question): answerPresence(id, question, reply: reply)
        case .opened, .closed, .pace, .watch, .narrowed:
            preconditionFailure("a subscription without its connection")
        }
    }
}

extension Connection {
    /// Where a session is on this connection; nil: not here, or no longer.
    func place(of id: SessionID) -> SessionPlace? {
        switch state {
        case .webSocket(let session) where session.id == id && !session.isClosed: return .webSocket(session)
        case .eventStream(let session) where session.id == id && !closesWhenDrained: return .eventStream(session, stream: 0)
        case .http2(let exchange):
            for (number, stream) in exchange.streams {
                if let session = stream.webSocket, session.id == id, !session.isClosed { return .webSocket(session) }
                if let session = stream.eventStream, session.id == id { return .eventStream(session, stream: number) }
            }
            return nil
        default: return nil
        }
    }

    func holds(_ place: SessionPlace) -> Bool {
        switch place {
        case .webSocket(let session): self.place(of: session.id) != nil
        case .eventStream(let session, _): self.place(of: session.id) != nil
        }
    }

    /// Sends a control message to a session, if there is room for it.
    func send(_ object: [UInt8], event: String, to place: SessionPlace) {
        var out: [UInt8] = []
        switch place {
        case .webSocket(let session):
            guard hasRoom(stream: session.stream) else { return }
            session.adapter.shape.append(control: object, event: event, to: &out)
            send(session, out)
        case .eventStream(let session, let stream):
            guard hasRoom(stream: stream) else { return }
            let shape = loop.outlets[session.subscribers[0]].shape
            shape.append(control: object, event: event, to: &out)
            if session.paddingBytes > 0 { shape.appendHeartbeat(paddingBytes: session.paddingBytes, to: &out) }
            write(out, stream: stream)
            if !hasRoom(stream: stream) { for id in session.subscribers { loop.stop(id) } }
        }
    }

    /// Does what a command of a session asks for.
    func perform(
        _ action: CommandSession.Action, on place: SessionPlace, reply: @escaping (Connection, [UInt8]) -> Void
    ) {
        switch action {
        case .opened(let id, let rate): open(place, id, rate)
        case .closed(let id):
            if let owner = loop.unreadOwners[id], loop.hub.isCurrent(owner) { noteUnread(place, owner) }
            loop.detach(id)
        case .pace(let id, let rate): pace(id, rate)
        case .refresh(let id, let text): refresh(place, id, text, reply: reply)
        case .watch(let id): loop.presence?.watch(id)
        case .narrowed(let id): loop.narrowPresence(id)
        case .acknowledge, .publish, .path, .presence: loop.perform(action) { [self] object in reply(self, object) }
        }
    }

    /// A further subscription of a session.
    private func open(_ place: SessionPlace, _ id: SubscriberID, _ rate: Rate?) {
        // The connection may have ended with an earlier command, and all its subscriptions with it.
        guard isOpen, holds(place), loop.hub.isCurrent(id) else { return }
        let (session, stream) = self.session(place)
        let first = session.subscribers[0]
        let shape = loop.outlets[first].shape
        // What a batch holds for the subscriptions of one connection goes out together.
        let kind: Outlet.Kind = loop.outlets[first].kind == .padded ? .padded : stream != 0 ? .http2 : .gathered
        loop.attach(
            id, Outlet(connection: .passUnretained(self), descriptor: descriptor, stream: stream, kind: kind, shape: shape)
        )
        if kind == .http2 { refuseCredit(stream: stream, session.subscribers) }
        if kind == .gathered {
            for other in session.subscribers where loop.outlets[other].kind != .none { loop.outlets[other].kind = .gathered }
        }
        if session.options.user != nil {
            loop.outlets[id].isUsers = true
            loop.unreadOwners[id] = first
            noteUnread(place, first)
        }
        loop.enterPresence(id, token(of: place)?.identity, user: session.options.user)
        if let rate = loop.rate(rate, loop.hub.patterns(of: id)) {
            loop.hub.setPaced(true, id)
            loop.pace(id, rate)
        }
        // At its turn: a client may ask for many of them.
        if !hasRoom(stream: stream) {
            loop.stop(id)
        } else if !loop.hub.isAtHead(id) {
            loop.readOnSoon(id, milliseconds: 0)
        }
    }

    /// The count of unread alerts is that of all channels of the session.
    private func noteUnread(_ place: SessionPlace, _ first: SubscriberID) {
        let (session, _) = session(place)
        loop.unreadSessions[first]?.patterns = session.subscribers.flatMap { loop.hub.patterns(of: $0) }.filter { !$0.isReserved }
        loop.unreadDirty.insert(first)
    }

    /// All that a session is subscribed to, but for what it did not ask for.
    func patterns(of place: SessionPlace) -> [ChannelPattern] {
        session(place).0.subscribers.flatMap { loop.hub.patterns(of: $0) }.filter { !$0.isReserved }
    }

    func subscribers(of place: SessionPlace) -> [SubscriberID] { session(place).0.subscribers }

    func hasRoom(for place: SessionPlace) -> Bool { hasRoom(stream: session(place).stream) }

    /// Whether a session has been sent everything, and its socket has taken it.
    func isCaughtUp(_ place: SessionPlace) -> Bool {
        let (session, stream) = session(place)
        return hasRoom(stream: stream) && session.subscribers.allSatisfy { loop.hub.isAtHead($0) }
    }

    private func session(_ place: SessionPlace) -> (CommandSession, stream: Int32) {
        switch place {
        case .webSocket(let session): (session.adapter.commands, session.stream)
        case .eventStream(let session, let stream): (session.commands, stream)
        }
    }

    private func pace(_ id: SubscriberID, _ wanted: Rate?) {
        guard loop.hub.isCurrent(id) else { return }
        let rate = loop.rate(wanted, loop.hub.patterns(of: id))
        loop.hub.setPaced(rate != nil, id)
        if let rate { loop.pace(id, rate) } else { loop.unpace(id) }
        if rate == nil { loop.readOn(id) }
    }

    /// Names the network that the peer is in: the first 24 bits of an address of version 4, the first 48 of one of version 6. Not secret,
    /// and only to be compared.
    var network: UInt32 {
        let (word, count) = address.isVersion4 ? (address.low << 32, 3) : (address.high, 6)
        // FNV-1a.
        return (0..<UInt64(count)).reduce(2_166_136_261) { ($0 ^ UInt32(word >> (56 - 8 * $1) & 0xff)) &* 16_777_619 }
    }
}

/// Where a poll is parked.
struct ParkedPollPlace: Sendable, Equatable {
    var loop: Int
    var connection: UInt32
    var stream: Int32
}

extension ServerState {
    /// Whether a session may be at home at a loop that is there: of this process, or of one that it can ask.
    func isReachable(_ id: SessionID) -> Bool { loop(id.loop) != nil || process(of: id) != nil }

    /// A loop of this process, by the number that sessions name it with.
    func loop(_ number: Int) -> LoopReference? {
        let (loops, place) = (loops, number - firstLoop)
        return loops.indices.contains(place) ? loops[place] : nil
    }

    /// Answers a parked poll of this process at once, if it is still there.
    func endPoll(_ place: ParkedPollPlace, _ id: SessionID) {
        guard let reference = loop(place.loop) else { return }
        reference.eventLoop.execute {
            let loop = reference.value
            guard Int(place.connection) < loop.connections.count, let connection = loop.connections[Int(place.connection)],
                let poll = connection.poll(place.stream), poll.session == id
            else { return }
            loop.answerPoll(poll, [], connection, place.stream)
        }
    }
}

extension Problem {
    static let unknownSession = Problem(
        "unknown-session", "Unknown session", status: 404, detail: "it has ended, or is another server's: go on with a new one"
    )
}

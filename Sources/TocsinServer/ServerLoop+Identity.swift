import HTTPTypes
import Identity
import NIOCore
import NotificationCore
import Synchronization
import Transports
import WebSocketCodec

/// The token that a session was opened with, or the one that has taken its place.
final class SessionToken {
    let identity: Identity
    /// Its client has been told that it ends soon.
    var isWarned = false

    init(_ identity: Identity) {
        self.identity = identity
    }

    /// - Returns: until the token is refused, in milliseconds.
    var millisecondsLeft: Int64 { identity.expiresMilliseconds + TokenVerifier.skewMilliseconds - Clock.wallMilliseconds() }
}

/// What a request shows of who makes it.
struct ShownToken {
    enum Place {
        case field, subprotocol, ticket, cookie
    }

    var text: String
    var place: Place
}

extension ServerLoop {
    /// What a request shows; nil where the server takes everybody, or for what is for everybody.
    ///
    /// A browser cannot set fields of a WebSocket handshake, so there the token may stand among the subprotocols; nor those of an
    /// `EventSource`, for which there are tickets and cookies. What was said on purpose goes before a cookie, which comes by itself.
    ///
    /// - Parameter items: a ticket is taken out of it.
    func shownToken(
        _ request: HTTPRequest, _ segments: [String], _ items: inout QueryItems, _ handle: RequestHandle
    ) throws(Problem) -> ShownToken? {
        guard let gate = server.gate else { return nil }
        var tokens = request.headerFields[values: .authorization].compactMap { value -> ShownToken? in
            let parts = value.split(separator: " ", maxSplits: 1)
            return parts.count == 2 && parts[0].lowercased() == "bearer" ? ShownToken(text: String(parts[1].trimmed), place: .field) : nil
        }
        for offered in request.headerFields[values: .secWebSocketProtocol].flatMap({ $0.split(separator: ",") }) {
            let offered = offered.trimmed
            if offered.hasPrefix(Self.subprotocolPrefix) {
                tokens.append(ShownToken(text: String(offered.dropFirst(Self.subprotocolPrefix.count)), place: .subprotocol))
            }
        }
        if segments == ["v1", "subscribe"], request.method == .get || handle.isTunnel {
            tokens += items.take("ticket").map { ShownToken(text: $0, place: .ticket) }
        }
        if tokens.isEmpty, let cookie = gate.cookie {
            tokens = Self.cookies(request, named: cookie).map { ShownToken(text: $0, place: .cookie) }
        }
        guard let first = tokens.first else {
            // Who runs the server may ask from its host without one.
            if gate.access.hasPublic || segments == ["v1", "admin", "drain"] { return nil }
            throw .unauthorized("token-missing", "A token is wanted", "send Authorization: Bearer …")
        }
        guard tokens.count == 1 else { throw .unauthorized("token-invalid", "Token not accepted", "there are several") }
        if first.place == .cookie { try checkOrigin(ofCookie: request, handle) }
        return first
    }

    /// Who makes a request; nil: nobody in particular.
    ///
    /// - Parameters:
    ///   - mayWait: whether keys may be fetched for it, if it names one that is not known.
    ///   - then: goes on with it: at once, but for a ticket of another process and while keys are fetched.
    func identify(
        _ shown: ShownToken?, _ handle: RequestHandle, mayWait: Bool = true,
        then: @escaping (ServerLoop, Identity?) throws(Problem) -> Void
    ) throws(Problem) {
        guard let gate = server.gate, let shown else { return try then(self, nil) }
        if shown.place == .ticket { return try identify(ticket: shown.text, handle, then: then) }
        let identity: Identity
        do throws(TokenFault) {
            let now = Clock.wallMilliseconds()
            identity = try gate.identity(of: shown.text, mayBeKey: shown.place == .field, nowMilliseconds: now)
            if server.isRevoked(identity) { throw .invalid("it was revoked") }
        } catch {
            handle.trace?.log("token refused", ["reason": error.words], to: server.logger)
            if error == .unknownKey, mayWait, waitForKeys(shown, handle, then: then) { return }
            if gate.lacksKeys, error == .unknownKey { throw .keysUnavailable }
            throw error == .expired
                ? .unauthorized("token-expired", "Token expired", "get a new one")
                : .unauthorized("token-invalid", "Token not accepted", "it is not one that this server can check", reason: error.words)
        }
        try then(self, identity)
    }

    /// - Returns: false if they have just been asked for.
    private func waitForKeys(
        _ shown: ShownToken, _ handle: RequestHandle, then: @escaping (ServerLoop, Identity?) throws(Problem) -> Void
    ) -> Bool {
        guard let source = server.keySource else { return false }
        let (bound, eventLoop) = (bind((self, shown, handle, then)), eventLoop)
        return source.refresh {
            eventLoop.execute {
                let (loop, shown, handle, then) = bound.value
                guard loop.isPending(handle) else { return }
                do throws(Problem) {
                    try loop.identify(shown, handle, mayWait: false, then: then)
                } catch {
                    loop.answer(handle, error)
                }
            }
        }
    }

    /// The process that gave a ticket out knows whom it stands for, and gives that away once.
    private func identify(
        ticket text: String, _ handle: RequestHandle, then: @escaping (ServerLoop, Identity?) throws(Problem) -> Void
    ) throws(Problem) {
        guard let id = TicketID(text) else { throw .ticketNotAccepted }
        guard let process = server.process(of: id), let neighbours = server.neighbours else {
            return try goOn(then, ticket: server.take(id))
        }
        let (bound, eventLoop) = (bind((self, handle, then)), eventLoop)
        neighbours.log.ask(process, NeighbourMessage.ticket(id).bytes) { bytes in
            let identity = bytes.flatMap { try? Identity($0) }
            eventLoop.execute {
                let (loop, handle, then) = bound.value
                guard loop.isPending(handle) else { return }
                do throws(Problem) { try loop.goOn(then, ticket: identity) } catch { loop.answer(handle, error) }
            }
        }
    }

    private func goOn(
        _ then: (ServerLoop, Identity?) throws(Problem) -> Void, ticket identity: Identity?
    ) throws(Problem) {
        guard let identity, Clock.wallMilliseconds() < identity.expiresMilliseconds + TokenVerifier.skewMilliseconds,
            !isTakenBack(identity)
        else { throw .ticketNotAccepted }
        try then(self, identity)
    }

    /// Whether somebody who was let in would not be any more, though their time is not over.
    func isTakenBack(_ identity: Identity) -> Bool { server.isTakenBack(identity) }

    private static let subprotocolPrefix = "tocsin.bearer."

    /// RFC 6265 section 4.2.1; HTTP/2 may have a field for each (RFC 9113 section 8.2.3).
    private static func cookies(_ request: HTTPRequest, named name: String) -> [String] {
        request.headerFields[values: .cookie].flatMap { $0.split(separator: ";") }.compactMap { pair in
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, parts[0].trimmed == name else { return nil }
            return parts[1].trimmed
        }
    }

    /// A cookie comes along whichever page makes the request, so that page has to be one of ours, or one that is configured by name.
    private func checkOrigin(ofCookie request: HTTPRequest, _ handle: RequestHandle) throws(Problem) {
        let isOurs: Bool
        if let other = handle.crossOrigin {
            isOurs = server.takesCookies(of: other)
        } else if let origin = request.headerFields[.origin] {
            // Over TLS, a page of the same host without TLS is nobody's in particular: whoever is on the way may have made it.
            isOurs = handle.connection.tls == nil || origin.hasPrefix("https://")
        } else {
            // Browsers name the origin of a handshake and of all that changes something, and mostly say where else a request is from.
            let site = request.headerFields[Self.fetchSite]
            let isReading = request.method == .get || request.method == .head
            let isHandshake = handle.isTunnel || request.headerFields[.secWebSocketKey] != nil
            isOurs = isReading && !isHandshake && (site == nil || site == "same-origin" || site == "none")
        }
        guard !isOurs else { return }
        throw Problem(
            "origin-not-allowed", "Origin not allowed", status: 403, detail: "a token in a cookie counts on pages of this server only",
            rule: "origin", configurationKey: "allowed_origins (--allow-origin)"
        )
    }

    private static let fetchSite = HTTPField.Name("Sec-Fetch-Site")!

    /// A token speaks for its own user only.
    func check(_ user: FieldText?, _ handle: RequestHandle) throws(Problem) {
        guard server.gate != nil, let user else { return }
        guard let identity = handle.identity else {
            throw .unauthorized("token-missing", "A token is wanted", "a user has one: send Authorization: Bearer …")
        }
        guard user.string != identity.subject else { return }
        throw Problem("not-this-user", "Not this user", status: 403, detail: "the token is of another user", rule: "user")
    }

    // MARK: what one may do

    /// Goes on with a request if all of these channels are granted to who makes it, and the hook does not object.
    ///
    /// - Parameter bytes: how much of the request is kept meanwhile.
    func whenPermitted(
        _ action: ChannelAction, _ patterns: [ChannelPattern], _ handle: RequestHandle, bytes: Int = 0,
        _ body: @escaping (ServerLoop) throws(Problem) -> Void
    ) throws(Problem) {
        if let gate = server.gate { for pattern in patterns { try gate.permit(action, pattern, handle.identity) } }
        guard let hook = server.hook else { return try body(self) }
        try whenAllowed(hook, hook.questions(action, patterns, handle.identity), handle, bytes: bytes, body)
    }

    /// The same of all that a request wants to be subscribed to.
    func whenPermitted(
        _ wanted: SubscribeRequest, _ transport: Transport, _ handle: RequestHandle,
        _ body: @escaping (ServerLoop) throws(Problem) -> Void
    ) throws(Problem) {
        if let gate = server.gate {
            for (index, subscription) in wanted.subscriptions.enumerated() {
                for pattern in subscription.patterns {
                    do throws(Problem) {
                        try gate.permit(.subscribe, pattern, handle.identity)
                    } catch {
                        var problem = error
                        if wanted.isList { problem.pointer = "#/subscriptions/\(index)" }
                        throw problem
                    }
                }
            }
        }
        guard let hook = server.hook else { return try body(self) }
        let questions = hook.questions(transport, handle.identity) + hook.questions(.subscribe, wanted.patterns, handle.identity)
        try whenAllowed(hook, questions, handle, body)
    }

    private func whenAllowed(
        _ hook: Hook, _ questions: [Hook.Question], _ handle: RequestHandle, bytes: Int = 0,
        _ body: @escaping (ServerLoop) throws(Problem) -> Void
    ) throws(Problem) {
        if let answers = hook.known(questions) {
            try hook.check(questions, answers)
            return try body(self)
        }
        try park(bytes)
        let (bound, eventLoop) = (bind((self, handle, body)), eventLoop)
        hook.ask(questions) { answers in
            eventLoop.execute {
                let (loop, handle, body) = bound.value
                loop.parkedBytes -= bytes
                guard loop.isPending(handle) else { return }
                do throws(Problem) {
                    try loop.checkStillGood(handle)
                    try hook.check(questions, answers)
                    try body(loop)
                } catch {
                    loop.answer(handle, error)
                }
            }
        }
    }

    /// What waits for the hook counts among the request bodies that are being read.
    func park(_ bytes: Int) throws(Problem) {
        guard bytes == 0 || mayPark(bytes) else { throw .tooManyBodies }
        parkedBytes += bytes
    }

    /// What was good when a request came may have been taken back while it waited.
    func checkStillGood(_ handle: RequestHandle) throws(Problem) {
        if let identity = handle.identity, isTakenBack(identity) { throw .tokenTakenBack }
    }

    /// A command, whichever way it came.
    ///
    /// - Parameters:
    ///   - identity: of who says it.
    ///   - owner: of the stream that it is for: a subscription lives with that one's token.
    ///   - answers: of the hook, to `hookQuestions` of the command.
    func permit(
        _ command: WebSocketCommand, _ identity: Identity?, owner: Identity?, _ answers: Hook.Answers
    ) throws(WebSocketCommand.Refusal) {
        do throws(Problem) {
            if let gate = server.gate {
                for (action, pattern) in command.wants {
                    try gate.permit(action, pattern, identity)
                    if case .subscribe = command.action { try gate.permit(action, pattern, owner) }
                }
            }
            try checkPresence(command)
            if let hook = server.hook { try hook.check(hookQuestions(of: command, identity), answers) }
        } catch {
            server.note(error)
            let codes = [401: "no_token", 503: "unavailable", 404: "no_presence"]
            throw WebSocketCommand.Refusal(
                id: command.id, code: codes[error.status] ?? "not_granted", message: error.detail, rule: error.rule,
                configurationKey: error.configurationKey
            )
        }
    }

    /// What the hook has to be asked: nothing of what is not granted.
    func hookQuestions(of command: WebSocketCommand, _ identity: Identity?) -> [Hook.Question] {
        guard let hook = server.hook else { return [] }
        let gate = server.gate
        return command.wants.filter { gate?.access.refusal($0.action, $0.pattern, identity) == nil }.flatMap {
            hook.questions($0.action, [$0.pattern], identity)
        }
    }

    // MARK: tickets

    /// `POST /v1/tickets`: a token is traded for a ticket, which is good once, soon.
    func ticket(_ handle: RequestHandle) throws(Problem) {
        guard server.gate != nil else { throw .notFound("this server takes no tokens, and so needs no tickets") }
        guard let identity = handle.identity else {
            throw .unauthorized("token-missing", "A token is wanted", "send Authorization: Bearer …")
        }
        guard let id = server.issueTicket(identity) else {
            let seconds = Int(TicketTable.lifetimeMilliseconds / 1000)
            throw Problem(
                "too-many-tickets", "Too many tickets", status: 429,
                detail: "\(TicketTable.countOfOneMax) of one user in \(seconds) seconds", rule: "tickets", retryAfterSeconds: seconds
            )
        }
        var response = HTTPResponse(status: .created)
        response.headerFields[.contentType] = "application/json"
        response.headerFields[.cacheControl] = "no-store"
        let body = "{\"ticket\":\"\(id)\",\"expires_in_ms\":\(TicketTable.lifetimeMilliseconds)}\n"
        answer(handle, response, Array(body.utf8))
    }
}

extension WebSocketCommand {
    private static func wants(
        _ action: ChannelAction, _ patterns: [ChannelPattern]
    ) -> [(action: ChannelAction, pattern: ChannelPattern)] {
        patterns.map { (action, $0) }
    }

    /// What it has to be granted for.
    fileprivate var wants: [(action: ChannelAction, pattern: ChannelPattern)] {
        switch action {
        case .subscribe(let patterns, _, _):
            Self.wants(.subscribe, patterns) + Self.wants(.presence, wantsPresence ? patterns.filter { !$0.isWildcard } : [])
        case .acknowledge(let acknowledgement): [(.subscribe, ChannelPattern(acknowledgement.channel))]
        case .publish(let publication): [(.publish, ChannelPattern(publication.channel))]
        case .presence(let question): [(.presence, ChannelPattern(question.channel))]
        case .unsubscribe, .rate, .path, .refresh, .ping: []
        }
    }
}

extension Connection {
    /// Tells a session whose token ends soon, and ends one whose token has ended: it never goes on without.
    ///
    /// - Returns: when to look again.
    func lookAtToken(_ place: SessionPlace) -> UInt32 {
        guard let token = token(of: place), holds(place) else { return .max }
        let warning = Int64(loop.server.configuration.tokenWarningSeconds) * 1000
        let left = token.millisecondsLeft
        if left <= 0 {
            end(place)
            return .max
        }
        if left <= warning, !token.isWarned {
            guard hasRoom(for: place) else { return loop.tick + 1 }
            token.isWarned = true
            let milliseconds = max(0, Int(left - TokenVerifier.skewMilliseconds))
            send(ControlObject.tokenExpiring(milliseconds: milliseconds), event: "token-expiring", to: place)
        }
        let wait = token.isWarned ? left : left - warning
        let ticks = (min(wait, 1 << 40) * Int64(ServerLoop.ticksPerSecond) + 999) / 1000
        return loop.tick + UInt32(clamping: min(ticks + 1, Int64(loop.ticks(seconds: 24 * 3600))))
    }

    /// - Parameters:
    ///   - mayWait: whether keys may be fetched for the token, if it names one that is not known.
    ///   - reply: gets the reply to the command; the session may have ended by then.
    func refresh(
        _ place: SessionPlace, _ id: CommandID?, _ text: String, mayWait: Bool = true, reply: @escaping (Connection, [UInt8]) -> Void
    ) {
        func refused(_ message: String) {
            reply(self, WebSocketReply.refused(id, code: "bad_token", message: message, rule: "token"))
        }
        guard let gate = loop.server.gate, let token = token(of: place) else { return refused("this stream has no token") }
        let identity: Identity
        do throws(TokenFault) {
            identity = try gate.identity(of: text, mayBeKey: false, nowMilliseconds: Clock.wallMilliseconds())
        } catch {
            if error == .unknownKey, mayWait, let source = loop.server.keySource {
                let (bound, eventLoop) = (loop.bind((self, place, id, reply)), loop.eventLoop)
                let isAsked = source.refresh {
                    eventLoop.execute {
                        let (connection, place, id, reply) = bound.value
                        guard connection.isOpen, connection.holds(place) else { return }
                        connection.refresh(place, id, text, mayWait: false, reply: reply)
                    }
                }
                if isAsked { return }
            }
            return refused("the token is not accepted")
        }
        guard !loop.server.isRevoked(identity) else { return refused("the token is not accepted") }
        guard identity.principal == token.identity.principal else { return refused("the token is of another user") }
        let new = SessionToken(identity)
        set(new, place)
        look(at: lookAtToken(place))
        let milliseconds = max(0, Int(new.millisecondsLeft - TokenVerifier.skewMilliseconds))
        reply(self, WebSocketReply.refreshed(id, expiresInMilliseconds: milliseconds))
        endIfNotGranted(place)
    }

    /// Ends a session that is subscribed to what its token does not allow: its client comes back, and is told what it may not have.
    func endIfNotGranted(_ place: SessionPlace) {
        guard let gate = loop.server.gate, isOpen, holds(place) else { return }
        let identity = token(of: place)?.identity
        var lost = patterns(of: place).filter { gate.access.refusal(.subscribe, $0, identity) != nil }
        lost += loop.presenceLost(subscribers(of: place), gate, identity).filter { !lost.contains($0) }
        if !lost.isEmpty { end(place, without: lost) }
    }

    func token(of place: SessionPlace) -> SessionToken? {
        switch place {
        case .webSocket(let session): session.token
        case .eventStream(let session, _): session.token
        }
    }

    private func set(_ token: SessionToken, _ place: SessionPlace) {
        switch place {
        case .webSocket(let session): session.token = token
        case .eventStream(let session, _): session.token = token
        }
    }

    /// - Parameter lost: what the session may no longer have; nil: its token has ended.
    func end(_ place: SessionPlace, without lost: [ChannelPattern]? = nil) {
        let farewell = lost.map { ControlObject.noLongerGranted($0, retryAfterMilliseconds: Self.soonMilliseconds) }
        switch place {
        case .webSocket(let session):
            var out: [UInt8] = []
            if let farewell { session.adapter.shape.append(control: farewell, event: "going-away", to: &out) }
            session.adapter.close(.policyViolation, lost == nil ? "token-expired" : "not-granted", &out)
            send(session, out)
            close(session, awaitsPeer: true)
        case .eventStream(let session, let stream):
            endEventStream(
                session, stream: stream, farewell ?? ControlObject.tokenExpired, event: lost == nil ? "token-expired" : "going-away",
                retryMilliseconds: lost == nil ? nil : Self.soonMilliseconds
            )
        }
    }

    /// A client that has to come back with less comes at once.
    private static let soonMilliseconds = 100
}

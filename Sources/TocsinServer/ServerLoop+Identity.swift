import HTTPTypes
import Identity
import NotificationCore
import Synchronization
import Transports
import WebSocketCodec

/// The token that a session was opened with, or the one that has taken its place.
final class SessionToken {
    var identity: Identity
    /// Its client has been told that it ends soon.
    var isWarned = false

    init(_ identity: Identity) {
        self.identity = identity
    }

    /// - Returns: until the token is refused, in milliseconds.
    var millisecondsLeft: Int64 { identity.expiresMilliseconds + TokenVerifier.skewMilliseconds - Clock.wallMilliseconds() }
}

/// Where a token may be in a request.
private enum TokenPlace {
    case field, subprotocol, ticket, cookie
}

extension ServerLoop {
    /// Who makes a request; nil where the server takes everybody, or for what is for everybody.
    ///
    /// A browser cannot set fields of a WebSocket handshake, so there the token may stand among the subprotocols; nor those of an
    /// `EventSource`, for which there are tickets and cookies. What was said on purpose goes before a cookie, which comes by itself.
    ///
    /// - Parameter items: a ticket is taken out of it.
    func identity(
        _ request: HTTPRequest, _ segments: [String], _ items: inout QueryItems, _ handle: RequestHandle
    ) throws(Problem) -> Identity? {
        guard let gate = server.gate else { return nil }
        var tokens = request.headerFields[values: .authorization].compactMap { value -> (String, TokenPlace)? in
            let parts = value.split(separator: " ", maxSplits: 1)
            return parts.count == 2 && parts[0].lowercased() == "bearer" ? (String(parts[1].trimmed), .field) : nil
        }
        for offered in request.headerFields[values: .secWebSocketProtocol].flatMap({ $0.split(separator: ",") }) {
            let offered = offered.trimmed
            if offered.hasPrefix(Self.subprotocolPrefix) {
                tokens.append((String(offered.dropFirst(Self.subprotocolPrefix.count)), .subprotocol))
            }
        }
        if segments == ["v1", "subscribe"], request.method == .get || handle.isTunnel {
            tokens += items.take("ticket").map { ($0, .ticket) }
        }
        if tokens.isEmpty, let cookie = gate.cookie { tokens = Self.cookies(request, named: cookie).map { ($0, .cookie) } }
        guard let (token, place) = tokens.first else {
            if gate.access.hasPublic { return nil }
            throw .unauthorized("token-missing", "A token is wanted", "send Authorization: Bearer …")
        }
        guard tokens.count == 1 else { throw .unauthorized("token-invalid", "Token not accepted", "there are several") }
        if place == .cookie { try checkOrigin(ofCookie: request, handle) }
        return try identity(token, place, gate)
    }

    private func identity(_ token: String, _ place: TokenPlace, _ gate: Gate) throws(Problem) -> Identity {
        let now = Clock.wallMilliseconds()
        if place == .ticket {
            let identity = TicketID(token).flatMap { id in
                server.tickets.withLock { $0.take(id, nowMilliseconds: Clock.monotonicMilliseconds()) }
            }
            guard let identity, now < identity.expiresMilliseconds + TokenVerifier.skewMilliseconds, !server.revocations.cover(identity)
            else { throw .unauthorized("token-invalid", "Ticket not accepted", "it was used, is too old, or is none of this server's") }
            return identity
        }
        do throws(TokenFault) {
            let identity = try gate.identity(of: token, mayBeKey: place == .field, nowMilliseconds: now)
            if server.revocations.cover(identity) { throw .invalid("it was revoked") }
            return identity
        } catch {
            throw error == .expired
                ? .unauthorized("token-expired", "Token expired", "get a new one")
                : .unauthorized(
                    "token-invalid", "Token not accepted", "it is not one that this server can check", reason: error.words
                )
        }
    }

    /// Whether somebody who was let in would not be any more, though their time is not over.
    func isTakenBack(_ identity: Identity) -> Bool {
        server.revocations.cover(identity) || server.gate?.isCurrent(identity) == false
    }

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
            isOurs = server.configuration.allowedOrigins.contains(other)
        } else if request.headerFields[.origin] != nil {
            isOurs = true
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

    func permit(_ action: ChannelAction, _ channel: ChannelName, _ handle: RequestHandle) throws(Problem) {
        try server.gate?.permit(action, ChannelPattern(channel), handle.identity)
    }

    /// All of what a request wants to be subscribed to.
    func permit(_ wanted: SubscribeRequest, _ handle: RequestHandle) throws(Problem) {
        guard let gate = server.gate else { return }
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

    /// A command, whichever way it came.
    ///
    /// - Parameters:
    ///   - identity: of who says it.
    ///   - owner: of the stream that it is for: a subscription lives with that one's token.
    func permit(_ command: WebSocketCommand, _ identity: Identity?, owner: Identity?) throws(WebSocketCommand.Refusal) {
        guard let gate = server.gate else { return }
        do throws(Problem) {
            switch command.action {
            case .subscribe(let patterns, _, _):
                for pattern in patterns {
                    try gate.permit(.subscribe, pattern, identity)
                    try gate.permit(.subscribe, pattern, owner)
                }
            case .acknowledge(let acknowledgement):
                try gate.permit(.subscribe, ChannelPattern(acknowledgement.channel), identity)
            case .publish(let publication):
                try gate.permit(.publish, ChannelPattern(publication.channel), identity)
            case .unsubscribe, .rate, .path, .refresh, .ping: break
            }
        } catch {
            server.note(error)
            throw WebSocketCommand.Refusal(
                id: command.id, code: error.status == 401 ? "no_token" : "not_granted", message: error.detail, rule: error.rule,
                configurationKey: error.configurationKey
            )
        }
    }

    // MARK: tickets

    /// `POST /v1/tickets`: a token is traded for a ticket, which is good once, soon.
    func ticket(_ handle: RequestHandle) throws(Problem) {
        guard server.gate != nil else { throw .notFound("this server takes no tokens, and so needs no tickets") }
        guard let identity = handle.identity else {
            throw .unauthorized("token-missing", "A token is wanted", "send Authorization: Bearer …")
        }
        var generator = SystemRandomNumberGenerator()
        let id = TicketID(random: (generator.next(), generator.next()))
        guard server.tickets.withLock({ $0.issue(id, identity, nowMilliseconds: Clock.monotonicMilliseconds()) }) else {
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

    /// - Returns: the reply to the command.
    func refresh(_ place: SessionPlace, _ id: CommandID?, _ text: String) -> [UInt8] {
        func refused(_ message: String) -> [UInt8] { WebSocketReply.refused(id, code: "bad_token", message: message, rule: "token") }
        guard let gate = loop.server.gate, let token = token(of: place) else { return refused("this stream has no token") }
        guard let identity = try? gate.identity(of: text, mayBeKey: false, nowMilliseconds: Clock.wallMilliseconds()),
            !loop.server.revocations.cover(identity)
        else { return refused("the token is not accepted") }
        guard identity.principal == token.identity.principal else { return refused("the token is of another user") }
        let new = SessionToken(identity)
        set(new, place)
        look(at: lookAtToken(place))
        return WebSocketReply.refreshed(id, expiresInMilliseconds: max(0, Int(new.millisecondsLeft - TokenVerifier.skewMilliseconds)))
    }

    /// Ends a session that is subscribed to what its token does not allow: its client comes back, and is told what it may not have.
    func endIfNotGranted(_ place: SessionPlace) {
        guard let gate = loop.server.gate, isOpen, holds(place) else { return }
        let identity = token(of: place)?.identity
        let lost = patterns(of: place).filter { gate.access.refusal(.subscribe, $0, identity) != nil }
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

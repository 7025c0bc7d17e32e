import HTTPTypes
import Identity
import Logging
import NotificationCore
import Transports
import WebSocketCodec

/// The token that a session was opened with, or the one that has taken its place.
final class SessionToken {
    let identity: Identity
    /// Its client has been told that it ends soon.
    var isWarned = false

    init(identity: Identity) {
        self.identity = identity
    }

    /// - Returns: until the token is refused, in milliseconds.
    var millisecondsLeft: Int64 { identity.expiresMilliseconds + TokenVerifier.skewMilliseconds - Clock.wallMilliseconds() }
}

extension ServerLoop {
    /// Who makes a request; nil where the server takes everybody.
    ///
    /// A browser cannot set fields of a WebSocket handshake, so there the token may stand among the subprotocols.
    func identity(_ request: HTTPRequest, _ trace: RequestTrace? = nil) throws(Problem) -> Identity? {
        guard let verifier = server.tokens else { return nil }
        var tokens = request.headerFields[values: .authorization].compactMap { value -> String? in
            let parts = value.split(separator: " ", maxSplits: 1)
            return parts.count == 2 && parts[0].lowercased() == "bearer" ? String(parts[1].trimmed) : nil
        }
        for offered in request.headerFields[values: .secWebSocketProtocol].flatMap({ $0.split(separator: ",") }) {
            let offered = offered.trimmed
            if offered.hasPrefix(Self.subprotocolPrefix) { tokens.append(String(offered.dropFirst(Self.subprotocolPrefix.count))) }
        }
        guard let token = tokens.first else { throw .unauthorized("token-missing", "A token is wanted", "send Authorization: Bearer …") }
        guard tokens.count == 1 else { throw .unauthorized("token-invalid", "Token not accepted", "there are several") }
        do throws(TokenFault) {
            return try verifier.identity(of: token, nowMilliseconds: Clock.wallMilliseconds())
        } catch {
            server.logger.debug("token refused", metadata: trace?.metadata(["reason": "\(error)"]) ?? ["reason": "\(error)"])
            throw error == .expired
                ? .unauthorized("token-expired", "Token expired", "get a new one")
                : .unauthorized("token-invalid", "Token not accepted", "it is not one that this server can check")
        }
    }

    private static let subprotocolPrefix = "tocsin.bearer."

    /// A token speaks for its own user only.
    func check(_ user: FieldText?, _ handle: RequestHandle) throws(Problem) {
        guard let identity = handle.identity, let user, user.string != identity.subject else { return }
        throw Problem("not-this-user", "Not this user", status: 403, detail: "the token is of another user", rule: "user")
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
        func refused(_ message: String) -> [UInt8] { WebSocketReply.refused(id, code: "bad_token", message: message) }
        guard let verifier = loop.server.tokens, let token = token(of: place) else { return refused("this server takes no tokens") }
        guard let identity = try? verifier.identity(of: text, nowMilliseconds: Clock.wallMilliseconds()) else {
            return refused("the token is not accepted")
        }
        guard identity.subject == token.identity.subject else { return refused("the token is of another user") }
        let new = SessionToken(identity: identity)
        set(new, place)
        look(at: lookAtToken(place))
        return WebSocketReply.refreshed(id, expiresInMilliseconds: max(0, Int(new.millisecondsLeft - TokenVerifier.skewMilliseconds)))
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

    private func end(_ place: SessionPlace) {
        switch place {
        case .webSocket(let session):
            var out: [UInt8] = []
            session.adapter.close(.policyViolation, "token-expired", &out)
            send(session, out)
            close(session, awaitsPeer: true)
        case .eventStream(let session, let stream):
            endEventStream(session, stream: stream, ControlObject.tokenExpired, event: "token-expired", retryMilliseconds: nil)
        }
    }
}

extension Problem {
    /// RFC 6750 section 3.
    fileprivate static func unauthorized(_ type: String, _ title: String, _ detail: String) -> Problem {
        var problem = Problem(type, title, status: 401, detail: detail, rule: "token", configurationKey: "token_key (--token-key)")
        problem.fields["WWW-Authenticate"] = type == "token-missing" ? "Bearer" : #"Bearer error="invalid_token""#
        return problem
    }
}

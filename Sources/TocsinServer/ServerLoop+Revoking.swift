import HTTPTypes
import Identity
import JSONCodec
import Logging
import NIOCore
import NotificationCore
import Synchronization
import Transports

/// `POST /v1/admin/revocations`: what was given is taken back, from open connections too. It goes into the log, and so reaches every
/// loop of every process with the log's next batch, and those that are started later.
extension ServerLoop {
    /// Tokens are seldom good for longer.
    private static let keptMilliseconds: Int64 = 30 * 86_400_000
    /// As long as the log keeps them.
    private static let keptMillisecondsMax: Int64 = 365 * 86_400_000

    func revoke(_ body: [UInt8], _ handle: RequestHandle) throws(Problem) {
        guard server.gate != nil else { throw .notFound("this server takes no tokens") }
        guard let identity = handle.identity else {
            throw .unauthorized("token-missing", "An API key is wanted", "send Authorization: Bearer tsk_…")
        }
        try checkAdministrator(identity)
        let revocation = try Self.revocation(try JSONSlice.object(body), Clock.wallMilliseconds())
        guard server.hasRoomToRevoke(revocation.subject) else {
            throw Problem(
                "too-many-revocations", "Too many revocations", status: 429, detail: "\(Revocations.countMax) are kept",
                rule: "revocations", retryAfterSeconds: 3600
            )
        }
        var request = AppendRequest([Publication(channel: .revocations, data: revocation.json)])
        request.isOwn = true
        let bound = bind((self, handle))
        server.log.append(request, from: self) { outcomes in
            let (loop, handle) = bound.value
            switch outcomes[0] {
            case .appended, .repeated:
                // This loop has ended what was open; the others do so now.
                loop.server.logger.notice(
                    "revoked", metadata: ["what": "\(revocation.subject)", "before": "\(revocation.before / 1000)"]
                )
                loop.answer(handle, status: .ok, "application/json", revocation.json + [UInt8(ascii: "\n")])
            case .refused(let refusal):
                loop.answer(handle, PublishRefusal.problem(refusal))
            }
        }
    }

    func checkAdministrator(_ identity: Identity) throws(Problem) {
        guard !identity.isAdministrator else { return }
        throw Problem(
            "not-granted", "Not granted", status: 403, detail: "an API key with the grant \"admin\" is wanted", rule: "admin grant",
            configurationKey: "api_keys (--api-keys)"
        )
    }

    /// What a batch of the log takes back.
    func takeBack(_ notifications: [NotificationCore.Notification]) {
        let revocations = notifications.compactMap { notification -> Revocation? in
            guard notification.channel.isReserved, notification.channel == .revocations else { return nil }
            return Revocation(logged: notification.object[notification.data])
        }
        if revocations.isEmpty { return }
        server.revoke(revocations)
        let all = server.revocationsBox.withLock { $0 }
        endSessions { all.cover($0) }
    }

    private static func revocation(_ value: JSONSlice, _ now: Int64) throws(Problem) -> Revocation {
        var subjects: [Revocation.Subject] = []
        var before: Int64?
        var until = now + keptMilliseconds
        func seconds(_ name: String, _ value: JSONSlice) throws(Problem) -> Int64 {
            guard let seconds = value.integer(), (0...Identity.endless / 1000).contains(seconds) else {
                throw .badParameter(name, "seconds since 1970 are wanted")
            }
            return seconds * 1000
        }
        for (name, value) in value.members {
            switch name {
            case "token_id", "user":
                guard let text = value.string(), !text.isEmpty, text.utf8.count <= TokenVerifier.bytesMax else {
                    throw .badParameter(name, "a string is wanted")
                }
                subjects.append(name == "user" ? .principal(.user(text)) : .token(text))
            case "before": before = try seconds(name, value)
            case "until":
                until = try seconds(name, value)
                guard until <= now + keptMillisecondsMax else { throw .badParameter(name, "at most a year from now is wanted") }
            default: throw .badParameter(name, "is not known here; known are token_id, user, before, until")
            }
        }
        guard subjects.count <= 1, !subjects.isEmpty || before != nil else {
            throw .badParameter("revocation", "one of token_id and user is wanted, or before alone for everybody")
        }
        return Revocation(subjects.first ?? .everybody, before: before ?? now, until: until)
    }

    /// Ends all streams, and answers all polls, of whom `isOver` says so: their next request is refused.
    ///
    /// - Returns: how many there were.
    @discardableResult
    func endSessions(where isOver: (Identity) -> Bool) -> Int {
        eventLoop.preconditionInEventLoop()
        var count = 0
        for connection in connections {
            guard let connection, connection.isOpen else { continue }
            count += connection.endSessions(where: isOver)
        }
        return count
    }
}

extension Connection {
    fileprivate func endSessions(where isOver: (Identity) -> Bool) -> Int {
        func isOf(_ token: SessionToken?) -> Bool { token.map { isOver($0.identity) } ?? false }
        switch state {
        case .webSocket(let session) where !session.isClosed && isOf(session.token):
            end(.webSocket(session))
        case .eventStream(let session) where !closesWhenDrained && isOf(session.token):
            end(.eventStream(session, stream: 0))
        case .http1(let exchange):
            guard let poll = exchange.poll, isOf(poll.token) else { return 0 }
            loop.answerPoll(poll, [], self, 0)
        case .http2(let exchange):
            var count = 0
            for (number, stream) in exchange.streams where isOpen && exchange.streams[number] != nil {
                if let session = stream.webSocket, !session.isClosed, isOf(session.token) {
                    end(.webSocket(session))
                } else if let session = stream.eventStream, isOf(session.token) {
                    end(.eventStream(session, stream: number))
                } else if let poll = stream.poll, isOf(poll.token) {
                    loop.answerPoll(poll, [], self, number)
                } else {
                    continue
                }
                count += 1
            }
            if count > 0 { flushHTTP2() }
            return count
        default: return 0
        }
        return 1
    }
}

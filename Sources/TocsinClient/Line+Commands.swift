import HTTPTypes
import JSONCodec
import TLSEngine
import WebSocketCodec

/// Commands: over the WebSocket that carries, or by POST to the session of another rung.
extension Line {
    private static let commandSeconds = Duration.seconds(10)

    /// What carries, and has said hello.
    private var carrier: (id: Int, attempt: Running)? {
        attempts.first { $0.value.role == .carry && $0.value.isLive }.map { (id: $0.key, attempt: $0.value) }
    }

    /// - Returns: the reply, which may be a refusal. Throws when there is none.
    func command(_ type: String, _ members: [(name: String, value: WireValue)]) async throws -> WireObject {
        guard let carrier else { throw ClientFault("not connected") }
        lastCommand += 1
        let number = lastCommand
        let bytes = WireValue.object([("id", .number(number)), ("type", .text(type))] + members).bytes
        guard carrier.attempt.rung == .webSocket else { return try await post(bytes, carrier.attempt.session) }
        guard let channel = carrier.attempt.channel else { throw ClientFault("not connected") }
        Task { [weak self] in
            try? await Task.sleep(for: Self.commandSeconds)
            await self?.giveUp(number)
        }
        return try await withCheckedThrowingContinuation { continuation in
            replies[number] = continuation
            channel.send(.text, bytes)
        }
    }

    private func giveUp(_ number: Int) {
        replies.removeValue(forKey: number)?.resume(throwing: ClientFault("no answer"))
    }

    private func post(_ bytes: [UInt8], _ session: String?) async throws -> WireObject {
        guard let session else { throw ClientFault("the server has no session for it") }
        let answer = try await ClientChannel.exchange(
            configuration, tls, method: .post, path: "/v1/sessions/\(WireRequest.escape(session))", token: try await tokens.value(),
            body: bytes, within: Self.commandSeconds
        )
        guard answer.response.status == .ok, let object = WireObject(answer.body) else {
            throw ClientFault("the server answered \(answer.response.status.code)")
        }
        return object
    }

    // MARK: members

    /// - Returns: whether the line goes on.
    func add(_ subscription: Subscription, after: String?, rate: String?) -> Bool {
        guard ladder.state != .closed, ladder.state != .refused else { return false }
        members.append(Member(subscription: subscription, after: after, rate: rate))
        if ladder.state == .idle { feed(.start) } else { reconcile() }
        return true
    }

    /// Ends one of several for which the server has a reason.
    func refuse(_ id: Int, _ fault: ClientFault) {
        members.first { $0.subscription.id == id }?.subscription.queue.finish(fault)
        members.removeAll { $0.subscription.id == id }
    }

    /// - Returns: whether there are others.
    func remove(_ id: Int) -> Bool {
        guard let at = members.firstIndex(where: { $0.subscription.id == id }) else { return !members.isEmpty }
        let gone = members.remove(at: at)
        guard !members.isEmpty else {
            close()
            return false
        }
        if let carrier { Task { await leave(gone.subscription.channels, carrier.id) } }
        return true
    }

    private func leave(_ channels: [String], _ id: Int) async {
        do {
            let reply = try await command("unsubscribe", [("channels", .array(channels.map { .text($0) }))])
            guard reply.slice["error"] == nil else { return restart(id) }
        } catch {
            restart(id)
        }
    }

    /// Sees that what carries has all subscriptions.
    func reconcile() {
        guard let (id, attempt) = carrier else { return }
        let missing = members.filter { !attempt.members.contains($0.subscription.id) && !attempt.joining.contains($0.subscription.id) }
        guard !missing.isEmpty else { return }
        // A poll names its subscriptions each time.
        if attempt.rung.isPoll { return restart(id) }
        for member in missing {
            attempts[id]!.joining.insert(member.subscription.id)
            Task { await join(member, id) }
        }
    }

    private func join(_ member: Member, _ id: Int) async {
        let subscription = member.subscription
        do {
            let words = WireSubscription(channels: subscription.channels, after: member.after, rate: member.rate)
            let presence: [(name: String, value: WireValue)] = configuration.presence ? [("presence", .bool(true))] : []
            let reply = try await command("subscribe", words.members + presence)
            attempts[id]?.joining.remove(subscription.id)
            guard reply.slice["error"] == nil else {
                // What it had before may still be on its way out.
                if reply.slice["error"]?["code"]?.string() == "overlapping_subscription" { return restart(id) }
                let message = reply.slice["error"]?["message"]?.string() ?? ""
                return refuse(subscription.id, ClientFault("refused: \(message)", isFinal: true))
            }
            attempts[id]?.members.append(subscription.id)
            guard let at = members.firstIndex(where: { $0.subscription.id == subscription.id }) else { return }
            if let position = reply.message.position, !members[at].hasPosition {
                members[at].after = position
                members[at].hasPosition = true
            }
        } catch {
            attempts[id]?.joining.remove(subscription.id)
            restart(id)
        }
    }

    func setRate(_ rate: String?, of id: Int) async throws {
        guard let at = members.firstIndex(where: { $0.subscription.id == id }) else { throw ClientFault("not subscribed") }
        members[at].rate = rate
        let channel = members[at].subscription.channels[0]
        guard let carrier else { return }
        if carrier.attempt.rung.isPoll { return restart(carrier.id) }
        do {
            let reply = try await command("rate", [("rate", rate.map { .text($0) } ?? .null), ("channel", .text(channel))])
            if let error = reply.slice["error"] {
                throw ClientFault("refused: \(error["message"]?.string() ?? "")", isFinal: true)
            }
        } catch let fault as ClientFault where !fault.isFinal {
            restart(carrier.id)
        }
    }

    // MARK: reports and tokens

    /// Tells the server what was found out about the path to it, when something carries.
    func sendReports() {
        guard carrier != nil, !reports.isEmpty else { return }
        let waiting = reports
        reports = [:]
        Task {
            for (rung, report) in waiting {
                // Figures for the server's operator: they may be lost.
                _ = try? await command(
                    "path",
                    [
                        ("transport", .text(rung.rawValue)), ("verdict", .text(report.verdict.rawValue)),
                        ("ms", .number(report.milliseconds)),
                    ]
                )
            }
        }
    }

    /// The token of this attempt is about to expire. Polls simply use the new one.
    func renewToken(_ id: Int) {
        guard let attempt = attempts[id], !isRenewing else { return }
        isRenewing = true
        Task {
            defer { isRenewing = false }
            guard let token = try? await tokens.renew(rather: attempt.token), attempts[id] != nil else { return }
            attempts[id]!.token = token
            guard !attempt.rung.isPoll else { return }
            let reply = try? await command("refresh", [("token", .text(token))])
            if reply == nil || reply?.slice["error"] != nil { restart(id) }
        }
    }
}

extension ClientChannel {
    /// One request on a connection of its own.
    static func exchange(
        _ configuration: ClientConfiguration, _ tls: TLSContext?, method: HTTPRequest.Method, path: String, token: String?, body: [UInt8],
        within limit: Duration
    ) async throws -> ClientAnswer {
        try await withThrowingTaskGroup(of: ClientAnswer.self) { group in
            group.addTask {
                let address = configuration.address
                var request = HTTPRequest(method: method, scheme: address.scheme, authority: address.authority, path: path)
                if !body.isEmpty { request.headerFields[.contentType] = "application/json" }
                if let token { request.headerFields[.authorization] = "Bearer \(token)" }
                request.headerFields[.connection] = "close"
                let channel = try await ClientChannel.open(configuration, tls)
                defer { channel.close() }
                channel.send(request, body: body)
                return try await channel.answer()
            }
            group.addTask {
                try await Task.sleep(for: limit)
                throw ClientFault("no answer")
            }
            defer { group.cancelAll() }
            guard let answer = try await group.next() else { throw ClientFault("no answer") }
            return answer
        }
    }
}

import JSONCodec

/// What attempts ask of their line and tell it. Each names itself; one that the ladder has closed is told by a `CancellationError`.
extension Line {
    /// A day: what a server may ask a client to stay away.
    private static let slotMillisecondsMax = 86_400_000

    /// What to ask the server for, as of now.
    func request(_ id: Int, poll: WireRequest.Poll?) async throws -> WireRequest {
        let token = try await tokens.value()
        guard let attempt = attempts[id] else { throw CancellationError() }
        let carried = attempt.role == .carry ? members : []
        attempts[id]!.token = token
        attempts[id]!.isRestarting = false
        attempts[id]!.members = carried.map(\.subscription.id)
        var request = WireRequest(
            transport: attempt.rung,
            subscriptions: carried.map { WireSubscription(channels: $0.subscription.channels, after: $0.after, rate: $0.rate) },
            user: configuration.user, digest: configuration.digest, heartbeatSeconds: max(1, attempt.heartbeatMilliseconds / 1000)
        )
        request.token = token
        request.presence = configuration.presence
        request.poll = poll
        request.measures = poll == nil && !attempt.isLive
        if request.subscribesByCommand { attempts[id]!.members = [] }
        attempts[id]!.first = attempts[id]!.members.first
        return request
    }

    /// - Returns: whether the attempt is still wanted.
    func opened(_ id: Int, _ channel: ClientChannel) -> Bool {
        guard attempts[id] != nil else { return false }
        attempts[id]!.channel = channel
        return true
    }

    func heard(_ id: Int) {
        guard let attempt = attempts[id], attempt.role == .carry, attempt.isLive else { return }
        feed(.heard(attempt.rung))
    }

    func isRestarting(_ id: Int) -> Bool { attempts[id]?.isRestarting ?? false }

    /// An attempt is over.
    ///
    /// - Returns: whether it begins anew.
    func goesOn(_ id: Int, after failure: AttemptFailure) async -> Bool {
        guard let attempt = attempts[id] else { return false }
        attempts[id]!.channel = nil
        if attempt.isRestarting { return true }
        if failure.ending == .denied, !attempt.hasRenewed {
            attempts[id]!.hasRenewed = true
            do {
                if try await tokens.renew(rather: attempt.token) != nil { return attempts[id] != nil }
            } catch {
                // There is no token to be had now; that says nothing about the old one.
                if attempts[id] != nil { end(id, .refused) }
                return false
            }
            guard attempts[id] != nil else { return false }
        }
        if let refusal = failure.refusal, attempt.role == .carry {
            if let at = failure.subscription, attempt.members.indices.contains(at) {
                refuse(attempt.members[at], refusal)
                if !members.isEmpty { return true }
            }
            close(refusal)
        } else {
            end(id, failure.ending)
        }
        return false
    }

    private func end(_ id: Int, _ ending: FallbackLadder.Ending) {
        guard let attempt = attempts.removeValue(forKey: id) else { return }
        attempt.channel?.close()
        if attempt.role == .carry { failReplies() }
        feed(.closed(attempt.rung, attempt.role, ending))
    }

    /// Ends the connection of an attempt that asks anew, with the words of now. What has not come yet comes again.
    func restart(_ id: Int) {
        guard let attempt = attempts[id], let channel = attempt.channel else { return }
        attempts[id]!.isRestarting = true
        channel.close()
    }

    // MARK: objects

    /// Objects of the protocol came on a stream.
    func received(_ id: Int, _ objects: [[UInt8]], at arrival: ContinuousClock.Instant) async throws {
        heard(id)
        for bytes in objects {
            guard let object = WireObject(bytes) else { throw ClientFault("what came is not of the protocol") }
            try await handle(object, id, arrival)
        }
    }

    /// An answer to a poll.
    func polled(_ id: Int, _ answer: JSONSlice) async throws {
        guard let attempt = attempts[id] else { throw CancellationError() }
        if let session = answer["session"]?.string() { attempts[id]!.session = session }
        if !attempt.isLive { begin(id, network: answer["network"]?.string()) } else { heard(id) }
        if answer["token_expires_in_ms"] != nil { renewToken(id) }
        guard attempt.role == .carry else { return }
        for message in answer["messages"]?.elementList ?? [] {
            guard let object = WireObject(message, json: Array(message.bytes)) else { continue }
            try await deliver(object, id)
        }
        guard let attempt = attempts[id] else { throw CancellationError() }
        let places = Self.places(answer)
        for (member, place) in zip(attempt.members, places) { move(member, to: place) }
    }

    /// Where the subscriptions of an answer are, in the order of the request.
    private static func places(_ object: JSONSlice) -> [String] {
        let listed = object["subscriptions"]?.elements.compactMap { $0["position"]?.string() } ?? []
        return listed.isEmpty ? object["position"]?.string().map { [$0] } ?? [] : listed
    }

    private func move(_ member: Int, to position: String, onlyFirst: Bool = false) {
        guard let at = members.firstIndex(where: { $0.subscription.id == member }), !(onlyFirst && members[at].hasPosition) else { return }
        members[at].after = position
        members[at].hasPosition = true
    }

    private func handle(_ object: WireObject, _ id: Int, _ arrival: ContinuousClock.Instant) async throws {
        guard let attempt = attempts[id] else { throw CancellationError() }
        switch object.message.type {
        case "hello":
            attempts[id]!.session = object.slice["session"]?.string()
            for (member, place) in zip(attempt.members, Self.places(object.slice)) { move(member, to: place, onlyFirst: true) }
            begin(id, network: object.slice["network"]?.string())
        case "probe":
            guard let at = object.integer("at"), (0...10_000).contains(at) else { return }
            let came = cameTime(arrival, at: at, after: attempt.firstProbe)
            attempts[id]!.firstProbe = attempt.firstProbe ?? (came, at)
            feed(.probe(attempt.rung, at: at), at: came)
        case "going-away":
            end(id, .goingAway(object.integer("retry_after_ms").flatMap { $0 > 0 ? min($0, Self.slotMillisecondsMax) : nil }))
            throw CancellationError()
        case "token-expiring": renewToken(id)
        case "token-expired": throw AttemptFailure(ending: .denied)
        case "reply":
            guard let number = object.integer("id"), let reply = replies.removeValue(forKey: number) else { return }
            reply.resume(returning: object)
        default:
            if attempt.role == .carry { try await deliver(object, id) }
        }
    }

    /// An attempt has said hello.
    private func begin(_ id: Int, network: String?) {
        guard let attempt = attempts[id] else { return }
        attempts[id]!.hasRenewed = false
        if !attempt.isLive {
            attempts[id]!.isLive = true
            feed(.hello(attempt.rung))
        }
        guard attempt.role == .carry, attempts[id] != nil else { return }
        if let network { setNetwork(network) }
        sendReports()
        reconcile()
    }

    /// Hands a message to the subscription whose channels match it, when that has room, and moves its place.
    private func deliver(_ object: WireObject, _ id: Int) async throws {
        guard let member = member(for: object) else { return }
        let subscription = member.subscription
        while !subscription.queue.hasRoom {
            await stall(for: subscription)
            guard attempts[id] != nil, !Task.isCancelled else { throw CancellationError() }
        }
        guard let at = members.firstIndex(where: { $0.subscription.id == subscription.id }) else { return }
        subscription.take(object)
        guard let position = object.message.position else { return }
        // The place of an acknowledgement is one on the first subscription's way.
        let moved = object.message.type == "ack" ? attempts[id]?.first : members[at].subscription.id
        if let moved { move(moved, to: position) }
    }

    private func member(for object: WireObject) -> Member? {
        if let channel = object.message.channel {
            let filter = ChannelFilter(channel)
            return members.first { $0.subscription.overlaps([filter]) }
        }
        if let channels = object.channels { return members.first { !Set($0.subscription.channels).isDisjoint(with: channels) } }
        if object.message.type == "ack", let channel = object.slice["data"]?["channel"]?.string() {
            let filter = ChannelFilter(channel)
            return members.first { $0.subscription.overlaps([filter]) }
        }
        return members.first
    }
}

import HTTPTypes
import Identity
import NIOCore
import NotificationCore
import Presence
import Synchronization
import Transports

/// Who is on which channels. Nothing here is touched by a delivery.
extension ServerLoop {
    /// The loop's number through all processes.
    private var source: Int { server.firstLoop + number }

    /// To be called at each tick.
    func lookAtPresence() {
        guard let presence else { return }
        presence.expirePollers(tick: tick)
        tellBehind(presence)
        guard presence.ledger.hasChanges, !presence.isReporting, let service = server.presence else { return }
        presence.isReporting = true
        let (bound, eventLoop) = (bind(presence), eventLoop)
        service.report(presence.ledger.take(), from: source) {
            eventLoop.execute { bound.value.isReporting = false }
        }
    }

    // MARK: subscriptions

    /// Whose presence it is: the user of the token, or, where nobody has one, the user that the request names.
    private func presentUser(_ wanted: SubscribeRequest, _ handle: RequestHandle) -> String? {
        handle.identity?.subject ?? (server.gate == nil ? wanted.user?.string : nil)
    }

    /// The subscriptions of a stream have begun.
    func enterPresence(_ ids: [SubscriberID], _ wanted: SubscribeRequest, _ handle: RequestHandle) {
        guard let presence, !handle.connection.isOwn else { return }
        let user = presentUser(wanted, handle)
        for (id, subscription) in zip(ids, wanted.subscriptions) where hub.isCurrent(id) {
            presence.enter(id, presence.channels(subscription.patterns), user: user)
            if wanted.wantsPresence { presence.watch(id) }
        }
    }

    /// A poll waits, or has just been answered. With a session the client is there until its deadline, else as long as its poll.
    func enterPresence(
        _ poll: ParkedPoll, _ wanted: SubscribeRequest, _ handle: RequestHandle
    ) {
        guard let presence, !handle.connection.isOwn else { return }
        guard let session = poll.session, server.process(of: session) != nil || server.loop(session.loop) != nil else {
            return enterPresence(poll.subscribers, wanted, handle)
        }
        let wish = PollPresence(
            channels: presence.channels(wanted.patterns), user: presentUser(wanted, handle), principal: handle.identity?.principal,
            isWatching: wanted.wantsPresence,
            place: ParkedPollPlace(loop: source, connection: handle.connection.index, stream: handle.stream)
        )
        let seconds = wanted.waitSeconds + presence.configuration.pollSeconds
        if let process = server.process(of: session) {
            server.neighbours?.link.tell(process, NeighbourMessage.presence(.poll(session, wish, seconds: seconds)).bytes)
        } else if session.loop == source {
            keepPresent(session, wish, seconds)
        } else if let home = server.loop(session.loop) {
            home.eventLoop.execute { home.value.keepPresent(session, wish, seconds) }
        }
    }

    /// A poll of a session that is at home here.
    func keepPresent(_ id: SessionID, _ wish: PollPresence, _ seconds: Int) {
        guard let presence, presence.keep(id, wish, expiresTick: tick + ticks(seconds: seconds) + 1) else { return }
        say(id, presence)
    }

    /// A subscription of a session has begun, by command.
    func enterPresence(_ id: SubscriberID, _ identity: Identity?, user: FieldText?) {
        guard let presence else { return }
        let name = identity?.subject ?? (server.gate == nil ? user?.string : nil)
        presence.enter(id, presence.channels(hub.patterns(of: id)), user: name)
    }

    /// A subscription has fewer channels than before.
    func narrowPresence(_ id: SubscriberID) {
        guard let presence, hub.isCurrent(id) else { return }
        presence.keep(id, only: presence.channels(hub.patterns(of: id)))
    }

    /// A poll that is known by its bytes has come again.
    func prolongPresence(_ id: SessionID, waitSeconds: Int) {
        guard let presence else { return }
        presence.prolong(id, expiresTick: tick + ticks(seconds: waitSeconds + presence.configuration.pollSeconds) + 1)
    }

    // MARK: what the book tells

    /// From another thread: changes for the loops that it names.
    static func hop(_ server: ServerState, _ source: Int, _ changes: [PresenceChange]) {
        guard let reference = server.loop(source) else { return }
        reference.eventLoop.execute { reference.value.takePresence(changes) }
    }

    private func takePresence(_ changes: [PresenceChange]) {
        guard let presence else { return }
        let wasIdle = presence.tellings.isEmpty
        for id in presence.take(changes) { say(id, presence) }
        if wasIdle, !presence.tellings.isEmpty { turns.add(.presence) }
    }

    /// A turn: some of those who watch are told.
    func tellPresence() {
        guard let presence else { return }
        _ = turns.slice {
            repeat { tellNext(presence) } while !presence.tellings.isEmpty && turns.mayGoOn
        }
        if !presence.tellings.isEmpty { turns.add(.presence) }
    }

    private func tellNext(_ presence: LoopPresence) {
        guard let telling = presence.tellings.first, telling.next < telling.ids.count else {
            if let done = presence.tellings.popFirst(), !done.change.isGreeting { presence.toldChannels.remove(done.change.channel) }
            return
        }
        let place = presence.tellings.startIndex
        presence.tellings[place].next += 1
        let (id, channel) = (telling.ids[telling.next], telling.change.channel)
        // Who is behind gets the newest counts at the next tick.
        guard hub.isCurrent(id), let standing = presence.audiences[channel]?.streams[id], standing != .behind else { return }
        let frame = presence.tellings[place].frames.frame(telling.change, outlets[id].shape)
        let isTold = tell(frame, id)
        // Writing may have ended it.
        guard presence.audiences[channel]?.streams[id] != nil else { return }
        note(id, channel, isTold: isTold, presence)
    }

    private func note(_ id: SubscriberID, _ channel: ChannelName, isTold: Bool, _ presence: LoopPresence) {
        presence.audiences[channel]?.streams[id] = isTold ? .told : .behind
        if isTold {
            presence.events += 1
            presence.behind[channel]?.remove(id)
            if presence.behind[channel]?.isEmpty ?? false { presence.behind[channel] = nil }
        } else {
            presence.behind[channel, default: []].insert(id)
        }
    }

    /// Who had no room when something was told gets the counts as soon as there is some.
    private func tellBehind(_ presence: LoopPresence) {
        if presence.behind.isEmpty { return }
        for (channel, ids) in presence.behind {
            guard let audience = presence.audiences[channel] else { continue }
            var frames = PresenceFrames()
            let change = PresenceChange(channel: channel, counts: audience.counts)
            for id in ids where hub.isCurrent(id) && audience.streams[id] == .behind {
                guard tell(frames.frame(change, outlets[id].shape), id) else { continue }
                if presence.audiences[channel]?.streams[id] != nil { note(id, channel, isTold: true, presence) }
            }
        }
    }

    /// - Returns: false: there is no room for it.
    private func tell(_ frame: [UInt8], _ id: SubscriberID) -> Bool {
        let outlet = outlets[id]
        guard let connection = outlet.connection?.takeUnretainedValue(), !outlet.isClosing, connection.hasRoom(stream: outlet.stream) else {
            return false
        }
        outlets[id].lastTick = tick
        if outlet.kind == .padded, let session = connection.eventStream(outlet.stream) {
            var padded = frame
            outlet.shape.appendHeartbeat(paddingBytes: session.paddingBytes, to: &padded)
            connection.write(padded, stream: outlet.stream)
        } else {
            connection.write(frame, stream: outlet.stream)
        }
        if hub.isCurrent(id), !connection.hasRoom(stream: outlet.stream) { stop(id) }
        return true
    }

    // MARK: polls

    /// Has a parked poll answered with what its client has not been told, wherever it is parked.
    private func say(_ id: SessionID, _ presence: LoopPresence) {
        guard let changes = presence.say(id), let place = presence.pollers[id]?.wish.place else { return }
        let objects = changes.map { PresenceText.event($0) }
        if place.loop == source {
            let isTold = answerPresence(id, place, objects)
            if presence.said(id, at: place, isTold: isTold) { say(id, presence) }
            return
        }
        let (bound, eventLoop) = (bind(self), eventLoop)
        if let process = server.process(ofLoop: place.loop), let neighbours = server.neighbours {
            neighbours.link.ask(process, NeighbourMessage.presence(.answer(id, place, objects)).bytes) { reply in
                eventLoop.execute { bound.value.said(id, place, reply == [1]) }
            }
        } else if let reference = server.loop(place.loop) {
            reference.eventLoop.execute {
                let isTold = reference.value.answerPresence(id, place, objects)
                eventLoop.execute { bound.value.said(id, place, isTold) }
            }
        } else {
            eventLoop.execute { bound.value.said(id, place, false) }
        }
    }

    private func said(_ id: SessionID, _ place: ParkedPollPlace, _ isTold: Bool) {
        guard let presence, presence.said(id, at: place, isTold: isTold) else { return }
        say(id, presence)
    }

    /// - Parameter objects: control messages, each a JSON object.
    /// - Returns: false: the poll is not there any more.
    func answerPresence(_ id: SessionID, _ place: ParkedPollPlace, _ objects: [[UInt8]]) -> Bool {
        guard Int(place.connection) < connections.count, let connection = connections[Int(place.connection)], connection.isOpen,
            let poll = connection.poll(place.stream), poll.session == id, !poll.isCounting,
            poll.subscribers.allSatisfy({ hub.isCurrent($0) })
        else { return false }
        answerPoll(poll, [], connection, place.stream, controls: objects)
        return true
    }

    // MARK: questions

    /// `GET /v1/channels/{channel}/presence`.
    func answerPresence(_ channel: ChannelName, _ items: QueryItems, _ handle: RequestHandle) throws(Problem) {
        let question = try PresenceQuestion(channel: channel, items: items)
        try checkPresence(channel)
        ask(question) { loop, result in
            switch result {
            case .success(let body): loop.answer(handle, status: .ok, "application/json", body + [UInt8(ascii: "\n")])
            case .failure(let problem): loop.answer(handle, problem)
            }
        }
    }

    /// The command `presence`.
    func answerPresence(_ id: CommandID?, _ question: PresenceQuestion, reply: @escaping ([UInt8]) -> Void) {
        ask(question) { _, result in
            switch result {
            case .success(let object): reply(WebSocketReply.done(id, object: object))
            case .failure(let problem):
                reply(
                    WebSocketReply.refused(
                        id, code: "unavailable", message: problem.detail, rule: problem.rule, configurationKey: problem.configurationKey)
                )
            }
        }
    }

    private func ask(_ question: PresenceQuestion, completion: @escaping (ServerLoop, Result<[UInt8], Problem>) -> Void) {
        guard let service = server.presence else { return completion(self, .failure(.presenceUnavailable)) }
        let (bound, eventLoop) = (bind((self, completion)), eventLoop)
        service.ask(question) { page in
            eventLoop.execute {
                let (loop, completion) = bound.value
                guard let page else { return completion(loop, .failure(.presenceUnavailable)) }
                if page.isUnknown { return completion(loop, .failure(.tooManyPresenceChannels)) }
                completion(loop, .success(PresenceText.page(question.channel, page)))
            }
        }
    }

    // MARK: what one may be told

    /// - Throws: if it is not kept who is on the channel, or not for clients.
    func checkPresence(_ channel: ChannelName) throws(Problem) {
        guard server.configuration.presence.mode(of: channel) == .off else { return }
        throw Problem(
            "no-presence", "No presence", status: 404, detail: "on channels of the feed \(channel.feed) it is not kept who is there",
            rule: "presence", configurationKey: "presence (--presence)"
        )
    }

    /// A request to subscribe that wants to be told who comes and leaves, of the channels that it names.
    func checkPresence(_ wanted: SubscribeRequest, _ transport: Transport, _ handle: RequestHandle) throws(Problem) {
        guard wanted.wantsPresence else { return }
        if transport == .longPoll, wanted.session == nil {
            throw .badParameter("presence", "a poll needs a session for it, which knows what was told: session=new")
        }
        let gate = server.gate
        for (index, subscription) in wanted.subscriptions.enumerated() {
            for pattern in subscription.patterns {
                guard let name = pattern.name else { continue }
                do throws(Problem) {
                    if let gate { try gate.permit(.presence, pattern, handle.identity) }
                    try checkPresence(name)
                } catch {
                    var problem = error
                    if wanted.isList { problem.pointer = "#/subscriptions/\(index)" }
                    throw problem
                }
            }
        }
    }

    /// The same for a command.
    func checkPresence(_ command: WebSocketCommand) throws(Problem) {
        switch command.action {
        case .presence(let question): try checkPresence(question.channel)
        case .subscribe(let patterns, _, _) where command.wantsPresence:
            for pattern in patterns { if let name = pattern.name { try checkPresence(name) } }
        default: break
        }
    }

    /// Channels that a session watches without being allowed to.
    func presenceLost(_ ids: [SubscriberID], _ gate: Gate, _ identity: Identity?) -> [ChannelPattern] {
        guard let presence else { return [] }
        return ids.flatMap { id -> [ChannelPattern] in
            guard let member = presence.members[id], member.isWatching else { return [] }
            return member.places.map { ChannelPattern($0.channel) }.filter { gate.access.refusal(.presence, $0, identity) != nil }
        }
    }
}

extension Problem {
    static let presenceUnavailable = Problem(
        "presence-unavailable", "Presence cannot be asked for", status: 503, detail: "the process that keeps it does not answer",
        retryAfterSeconds: 1
    )

    static let tooManyPresenceChannels = Problem(
        "presence-full", "Too many channels", status: 503,
        detail: "there is somebody on more channels than are kept, and this is none of those", rule: "channels with presence",
        configurationKey: "presence_channels_max (--presence-channels-max)", retryAfterSeconds: 10
    )
}

extension ServerState {
    /// Loops are told from now on what the book tells.
    func startPresence() {
        presence?.start { [weak self] source, changes in
            if let self { ServerLoop.hop(self, source, changes) }
        }
    }

    /// Who is on which channels is kept by another process from now on; nil: by this one again. Loops say anew who is there.
    func handPresence(to service: (any PresenceService)?) {
        guard let ownPresence else { return }
        let new: any PresenceService = service ?? ownPresence
        presenceBox.withLock { $0 = new }
        if service != nil { startPresence() }
        ownPresence.drop(firstLoop..<firstLoop + loops.count)
        for reference in loops { reference.eventLoop.execute { reference.value.presence?.ledger.tellAnew() } }
    }

    /// Prometheus text format, version 0.0.4.
    ///
    /// - Parameter sum: of the loops of this process.
    func presenceExposition(_ sum: LoopPresence.Figures) -> String {
        guard let presence else { return "" }
        var text = ""
        func metric(_ name: String, _ type: String, _ help: String, _ values: [(labels: String, value: Int)]) {
            text += "# HELP tocsin_\(name) \(help)\n# TYPE tocsin_\(name) \(type)\n"
            for (labels, value) in values { text += "tocsin_\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(value)\n" }
        }
        let figures = presence.figures
        func perFeed(_ value: (PresenceFigure) -> Int) -> [(labels: String, value: Int)] {
            figures.map { ("feed=\"\($0.feed)\"", value($0)) }
        }
        metric(
            "presence_channels", "gauge", "Channels that somebody is on, by feed; * is of feeds that are not named.",
            perFeed { $0.channels })
        metric("presence_connections", "gauge", "Subscriptions on them.", perFeed { $0.connections })
        metric("presence_users", "gauge", "Users on them, each once a channel.", perFeed { $0.users })
        metric("presence_events_total", "counter", "Presence messages sent to subscribers.", [("", sum.events)])
        metric("presence_refused_total", "counter", "Subscriptions not counted, since there were too many channels.", [("", sum.refused)])
        return text
    }
}

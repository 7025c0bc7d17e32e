package import NotificationCore

/// The subscriptions of one connection, stream or poll, and what its client's commands do to them: the same on every transport.
package struct CommandSession {
    /// What only the server can do.
    package enum Action {
        /// A subscription has been made; it may have to be read on from its position.
        case opened(SubscriberID, Rate?)
        /// A subscription has nothing left to be subscribed to.
        case closed(SubscriberID)
        case pace(SubscriberID, Rate?)
        /// To be stored; `done` or a refusal is the answer.
        case acknowledge(CommandID?, FieldText, Acknowledgement)
        /// To be appended to the log; `reply` makes the answer of the outcome.
        case publish(CommandID?, Publication)
        /// What the client found of a way to subscribe.
        case path(PathReport)
        /// Another token in the place of the one that it has.
        case refresh(CommandID?, String)
        /// A subscription that has just been made wants to be told who comes and leaves.
        case watch(SubscriberID)
        /// A subscription has fewer channels than before.
        case narrowed(SubscriberID)
        /// Who is on a channel; the answer comes of it.
        case presence(CommandID?, PresenceQuestion)
    }

    /// The subscriptions of the request first, at least one, then one for each command `subscribe`. Each is a cursor of its own.
    package private(set) var subscribers: [SubscriberID]
    /// What goes for all of them.
    package let options: ReadingOptions

    package init(_ subscribers: [SubscriberID], options: ReadingOptions) {
        self.subscribers = subscribers
        self.options = options
    }

    /// - Returns: the reply; nil: it comes of what `actions` got.
    package mutating func perform(
        _ command: WebSocketCommand, _ hub: Hub, knownHead: UInt64, _ limits: SubscribeLimits, _ actions: inout [Action]
    ) throws(WebSocketCommand.Refusal) -> [UInt8]? {
        func refuse(_ code: String, _ message: String) -> WebSocketCommand.Refusal {
            WebSocketCommand.Refusal(id: command.id, code: code, message: message)
        }
        switch command.action {
        case .subscribe(let patterns, let start, let rate):
            var taken = subscribers.flatMap { hub.patterns(of: $0) }
            guard taken.count + patterns.count <= limits.channelsMax else {
                throw refuse("too_many_channels", "a connection may have \(limits.channelsMax)")
            }
            for pattern in patterns {
                if let other = taken.first(where: { $0.overlaps(pattern) }) {
                    throw refuse("overlapping_subscription", "this connection is subscribed to \(other)")
                }
                taken.append(pattern)
            }
            var options = options
            options.isPaced = rate != nil
            let id = hub.subscribe(patterns, from: start, knownHead: knownHead, options: options)
            subscribers.append(id)
            actions.append(.opened(id, rate))
            if command.wantsPresence { actions.append(.watch(id)) }
            return WebSocketReply.done(command.id, members: [("position", hub.position(of: id).description)])
        case .unsubscribe(let patterns):
            // All or nothing: what was taken out has to be told.
            let taken = subscribers.flatMap { hub.patterns(of: $0) }
            if let other = patterns.first(where: { !taken.contains($0) }) {
                throw refuse("not_subscribed", "not subscribed to \(other)")
            }
            for pattern in patterns {
                guard let at = subscribers.firstIndex(where: { hub.remove(pattern, from: $0) }) else { continue }
                if at > 0, hub.patterns(of: subscribers[at]).isEmpty {
                    actions.append(.closed(subscribers.remove(at: at)))
                } else {
                    actions.append(.narrowed(subscribers[at]))
                }
            }
            return WebSocketReply.done(command.id)
        case .rate(let rate, let channel):
            let found = subscribers.first { id in
                let patterns = hub.patterns(of: id)
                return channel.map { patterns.contains($0) } ?? (id == subscribers[0] && patterns.contains { !$0.isReserved })
            }
            guard let found else {
                throw refuse("not_subscribed", channel.map { "not subscribed to \($0)" } ?? "the URL subscribed to nothing: name a channel")
            }
            actions.append(.pace(found, rate))
            return WebSocketReply.done(command.id)
        case .acknowledge(let acknowledgement):
            guard let user = options.user else { throw refuse("no_user", "this connection named no user") }
            actions.append(.acknowledge(command.id, user, acknowledgement))
            return nil
        case .publish(let publication):
            actions.append(.publish(command.id, publication))
            return nil
        case .path(let report):
            actions.append(.path(report))
            return WebSocketReply.done(command.id)
        case .refresh(let token):
            actions.append(.refresh(command.id, token))
            return nil
        case .ping:
            return WebSocketReply.done(command.id)
        case .presence(let question):
            actions.append(.presence(command.id, question))
            return nil
        }
    }

    /// The reply to `publish`.
    package static func reply(_ id: CommandID?, _ outcome: AppendOutcome, epoch: LogEpoch) -> [UInt8] {
        switch outcome {
        case .appended(let receipt), .repeated(let receipt):
            WebSocketReply.done(
                id,
                members: [
                    ("channel", receipt.channel.string), ("position", Position(epoch: epoch, offset: receipt.offset).description),
                ], sequence: receipt.sequence
            )
        case .refused(let refusal):
            WebSocketReply.refused(id, code: "publish_refused", message: PublishRefusal.problem(refusal).detail)
        }
    }
}

/// What a client found of a way to subscribe; see Docs/fallback.md.
package struct PathReport: Sendable, Hashable {
    package enum Rung: String, Sendable, CaseIterable {
        case webSocket = "websocket"
        case eventStream = "sse"
        case eventStreamPost = "sse-post"
        case eventStreamPadded = "sse-padded"
        case longPoll = "long-poll"
        case longPollClose = "long-poll-close"
        case shortPoll = "short-poll"
    }

    package enum Verdict: String, Sendable, CaseIterable {
        /// What is sent arrives at once.
        case clear
        /// It arrives late.
        case buffered
        /// It ends after a while.
        case cut
        /// It does not open.
        case blocked
    }

    package var rung: Rung
    package var verdict: Verdict

    package init(rung: Rung, verdict: Verdict) {
        self.rung = rung
        self.verdict = verdict
    }
}

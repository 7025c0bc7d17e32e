import CBORCodec
package import NotificationCore
package import WebSocketCodec

/// Stands between a WebSocket's frames and the core.
///
/// Bytes of the client go in; frames for the client are appended to `out`; what only the server can do comes back as actions.
///
///     open ──server's close──> closing ──close frame, fault──> closed   the server ends the connection after what is in `out`
///       └────────────close frame, fault──────────────────────────^
package struct WebSocketAdapter {
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
        /// The answer to a ping, with what that carried.
        case pong([UInt8])
        /// The connection is to be closed once `out` has been sent; if the peer's close is awaited, after that, or a moment later.
        case close(awaitsPeer: Bool)
    }

    /// The subscription of the URL first, then one for each command `subscribe`. Each is a cursor of its own.
    package private(set) var subscribers: [SubscriberID]
    /// What goes for all of them.
    package let options: ReadingOptions
    /// In which form it gets its messages, and replies.
    package let shape: WireShape
    private var decoder: WebSocketDecoder
    private let compression: WireCompression
    private let isEcho: Bool
    private let messageBytesMax: Int
    private var phase = Phase.open

    private enum Phase {
        case open
        /// Our close has gone out, the peer's has not come (RFC 6455 section 7.1.2).
        case closing
        case closed
    }

    /// - Parameters:
    ///   - subscriber: the subscription of the URL; nil: this is an echo, for the test suites of the protocol.
    ///   - compression: of the thread. Whether it is used, the shape says.
    package init(
        subscriber: SubscriberID?, options: ReadingOptions = ReadingOptions(), limits: WebSocketLimits, shape: WireShape = .webSocket,
        compression: WireCompression = WireCompression()
    ) {
        subscribers = subscriber.map { [$0] } ?? []
        isEcho = subscriber == nil
        self.options = options
        self.shape = shape
        self.compression = compression
        messageBytesMax = limits.messageBytesMax
        decoder = WebSocketDecoder(role: .server, limits: limits, inflater: shape.isDeflated ? compression.inflater : nil)
    }

    /// Takes what the client sent.
    ///
    /// - Parameters:
    ///   - input: unmasked in place.
    ///   - controlBudget: how many control frames may come; counts down.
    package mutating func receive(
        _ input: UnsafeMutableRawBufferPointer, hub: Hub, knownHead: UInt64, limits: SubscribeLimits, controlBudget: inout Int,
        out: inout [UInt8]
    ) -> [Action] {
        var actions: [Action] = []
        var consumed = 0
        let before = phase
        while phase != .closed {
            do throws(WebSocketFault) {
                let rest = UnsafeMutableRawBufferPointer(rebasing: input[consumed...])
                var taken = 0
                let event = try decoder.next(rest, consumed: &taken)
                consumed += taken
                guard let event else { break }
                guard phase == .open else {
                    // Nothing counts any more but the answer to our close.
                    if case .close = event { phase = .closed }
                    continue
                }
                if event.isControl { controlBudget -= 1 }
                guard controlBudget >= 0 else {
                    close(.policyViolation, "too many control frames", &out)
                    continue
                }
                handle(event, hub, knownHead, limits, &actions, &out)
            } catch {
                // There is nothing more to be read of it (section 7.1.7).
                close(error.closeCode, error.reason, &out)
                phase = .closed
            }
        }
        if phase != before { actions.append(.close(awaitsPeer: phase == .closing)) }
        return actions
    }

    /// The server's close. The connection is to be closed once `out` has been sent.
    package mutating func close(_ code: WebSocketCloseCode, _ reason: String, _ out: inout [UInt8]) {
        guard phase == .open else { return }
        phase = .closing
        WebSocketEncoder.close(code, reason: reason, into: &out)
    }

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

    private func reply(_ object: [UInt8], _ out: inout [UInt8]) {
        shape.append(control: object, event: "reply", to: &out)
    }

    private mutating func handle(
        _ event: WebSocketEvent, _ hub: Hub, _ knownHead: UInt64, _ limits: SubscribeLimits, _ actions: inout [Action],
        _ out: inout [UInt8]
    ) {
        switch event {
        case .text(let text) where isEcho:
            shape.append(message: text, .text, compression, to: &out)
        case .binary(let bytes) where isEcho:
            shape.append(message: bytes, .binary, compression, to: &out)
        case .text(let text):
            guard !shape.isBinary else { return close(.unsupportedData, "tocsin.v1.cbor is binary", &out) }
            handle(command: text, hub, knownHead, limits, &actions, &out)
        case .binary(let bytes):
            guard shape.isBinary else { return close(.unsupportedData, "tocsin.v1 is text", &out) }
            do throws(CBORFault) {
                let text = try bytes.withUnsafeBufferPointer { bytes throws(CBORFault) in
                    try CBORDecoder.json(UnsafeRawBufferPointer(bytes), limits: CBORLimits(outputBytesMax: 2 * messageBytesMax))
                }
                handle(command: text, hub, knownHead, limits, &actions, &out)
            } catch {
                close(.invalidPayload, "not CBOR: \(error.description)", &out)
            }
        case .ping(let payload):
            WebSocketEncoder.frame(.pong, payload, into: &out)
        case .pong(let payload):
            actions.append(.pong(payload))
        case .close(let code, _):
            phase = .closed
            WebSocketEncoder.close(code, reason: "", into: &out)
        }
    }

    private mutating func handle(
        command text: [UInt8], _ hub: Hub, _ knownHead: UInt64, _ limits: SubscribeLimits, _ actions: inout [Action], _ out: inout [UInt8]
    ) {
        do throws(WebSocketCommand.Refusal) {
            guard let command = try WebSocketCommand.read(text) else { return close(.invalidPayload, "not JSON", &out) }
            try perform(command, hub, knownHead, limits, &actions, &out)
        } catch {
            reply(WebSocketReply.refused(error.id, code: error.code, message: error.message), &out)
        }
    }

    private mutating func perform(
        _ command: WebSocketCommand, _ hub: Hub, _ knownHead: UInt64, _ limits: SubscribeLimits, _ actions: inout [Action],
        _ out: inout [UInt8]
    ) throws(WebSocketCommand.Refusal) {
        func refuse(_ code: String, _ message: String) -> WebSocketCommand.Refusal {
            WebSocketCommand.Refusal(id: command.id, code: code, message: message)
        }
        switch command.action {
        case .subscribe(let patterns, let start, let rate):
            var taken = subscribers.flatMap { hub.patterns(of: $0) }
            for pattern in patterns {
                if let other = taken.first(where: { $0.overlaps(pattern) }) {
                    throw refuse("overlapping_subscription", "this connection is subscribed to \(other)")
                }
                taken.append(pattern)
            }
            guard taken.count <= limits.channelsMax else {
                throw refuse("too_many_channels", "a connection may have \(limits.channelsMax)")
            }
            var options = options
            options.isPaced = rate != nil
            let id = hub.subscribe(patterns, from: start, knownHead: knownHead, options: options)
            subscribers.append(id)
            reply(WebSocketReply.done(command.id, members: [("position", hub.position(of: id).description)]), &out)
            actions.append(.opened(id, rate))
        case .unsubscribe(let patterns):
            for pattern in patterns {
                guard let at = subscribers.firstIndex(where: { hub.remove(pattern, from: $0) }) else {
                    throw refuse("not_subscribed", "not subscribed to \(pattern)")
                }
                if at > 0, hub.patterns(of: subscribers[at]).isEmpty { actions.append(.closed(subscribers.remove(at: at))) }
            }
            reply(WebSocketReply.done(command.id), &out)
        case .rate(let rate, let channel):
            let found = subscribers.first { id in
                let patterns = hub.patterns(of: id)
                return channel.map { patterns.contains($0) } ?? (id == subscribers[0] && patterns.contains { !$0.isReserved })
            }
            guard let found else {
                throw refuse("not_subscribed", channel.map { "not subscribed to \($0)" } ?? "the URL subscribed to nothing: name a channel")
            }
            reply(WebSocketReply.done(command.id), &out)
            actions.append(.pace(found, rate))
        case .acknowledge(let acknowledgement):
            guard let user = options.user else { throw refuse("no_user", "this connection named no user") }
            actions.append(.acknowledge(command.id, user, acknowledgement))
        case .publish(let publication):
            actions.append(.publish(command.id, publication))
        case .ping:
            reply(WebSocketReply.done(command.id), &out)
        }
    }
}

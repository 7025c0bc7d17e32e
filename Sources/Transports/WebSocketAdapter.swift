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
        case command(CommandSession.Action)
        /// One that is not decided yet.
        case undecided(WebSocketCommand)
        /// The answer to a ping, with what that carried.
        case pong([UInt8])
        /// The connection is to be closed once `out` has been sent; if the peer's close is awaited, after that, or a moment later.
        case close(awaitsPeer: Bool)
    }

    /// Whether a command is done now; false: it is handed back, and comes again through `perform`.
    package typealias Permit = (WebSocketCommand) throws(WebSocketCommand.Refusal) -> Bool

    package private(set) var commands: CommandSession
    /// In which form it gets its messages, and replies.
    package let shape: WireShape
    private var decoder: WebSocketDecoder
    private let compression: WireCompression
    private let isEcho: Bool
    private let messageBytesMax: Int
    private var phase = Phase.open
    /// Commands that have come.
    package private(set) var messageCount = 0

    private enum Phase {
        case open
        /// Our close has gone out, the peer's has not come (RFC 6455 section 7.1.2).
        case closing
        case closed
    }

    /// - Parameters:
    ///   - subscribers: the subscriptions of the URL; none: this is an echo, for the test suites of the protocol.
    ///   - compression: of the thread. Whether it is used, the shape says.
    package init(
        subscribers: [SubscriberID], options: ReadingOptions = ReadingOptions(), limits: WebSocketLimits,
        shape: WireShape = .webSocket, compression: WireCompression = WireCompression()
    ) {
        commands = CommandSession(subscribers, options: options)
        isEcho = subscribers.isEmpty
        self.shape = shape
        self.compression = compression
        messageBytesMax = limits.messageBytesMax
        decoder = WebSocketDecoder(role: .server, limits: limits, inflater: shape.isDeflated ? compression.inflater : nil)
    }

    package var subscribers: [SubscriberID] { commands.subscribers }

    /// A command that did not come in a frame.
    ///
    /// - Returns: the reply; nil: it comes of what `actions` got.
    package mutating func perform(
        _ command: WebSocketCommand, _ hub: Hub, knownHead: UInt64, _ limits: SubscribeLimits, _ actions: inout [CommandSession.Action]
    ) throws(WebSocketCommand.Refusal) -> [UInt8]? {
        try commands.perform(command, hub, knownHead: knownHead, limits, &actions)
    }

    /// Takes what the client sent.
    ///
    /// - Parameters:
    ///   - input: unmasked in place.
    ///   - controlBudget: how many control frames may come; counts down.
    ///   - permit: throws the refusal of a command that the client may not give.
    package mutating func receive(
        _ input: UnsafeMutableRawBufferPointer, hub: Hub, knownHead: UInt64, limits: SubscribeLimits, controlBudget: inout Int,
        permit: Permit, out: inout [UInt8]
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
                handle(event, hub, knownHead, limits, permit, &actions, &out)
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

    private func reply(_ object: [UInt8], _ out: inout [UInt8]) {
        shape.append(control: object, event: "reply", to: &out)
    }

    private mutating func handle(
        _ event: WebSocketEvent, _ hub: Hub, _ knownHead: UInt64, _ limits: SubscribeLimits, _ permit: Permit,
        _ actions: inout [Action], _ out: inout [UInt8]
    ) {
        switch event {
        case .text(let text) where isEcho:
            shape.append(message: text, .text, compression, to: &out)
        case .binary(let bytes) where isEcho:
            shape.append(message: bytes, .binary, compression, to: &out)
        case .text(let text):
            guard !shape.isBinary else { return close(.unsupportedData, "tocsin.v1.cbor is binary", &out) }
            handle(command: text, hub, knownHead, limits, permit, &actions, &out)
        case .binary(let bytes):
            guard shape.isBinary else { return close(.unsupportedData, "tocsin.v1 is text", &out) }
            do throws(CBORFault) {
                let text = try bytes.withUnsafeBufferPointer { bytes throws(CBORFault) in
                    try CBORDecoder.json(UnsafeRawBufferPointer(bytes), limits: CBORLimits(outputBytesMax: 2 * messageBytesMax))
                }
                handle(command: text, hub, knownHead, limits, permit, &actions, &out)
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
        command text: [UInt8], _ hub: Hub, _ knownHead: UInt64, _ limits: SubscribeLimits, _ permit: Permit, _ actions: inout [Action],
        _ out: inout [UInt8]
    ) {
        messageCount += 1
        do throws(WebSocketCommand.Refusal) {
            guard let command = try WebSocketCommand.read(text) else { return close(.invalidPayload, "not JSON", &out) }
            guard try permit(command) else { return actions.append(.undecided(command)) }
            var done: [CommandSession.Action] = []
            if let answer = try commands.perform(command, hub, knownHead: knownHead, limits, &done) { reply(answer, &out) }
            actions += done.map { .command($0) }
        } catch {
            reply(error.reply, &out)
        }
    }
}

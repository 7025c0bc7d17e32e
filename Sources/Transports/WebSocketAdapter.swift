package import NotificationCore
package import WebSocketCodec

/// Stands between a WebSocket's frames and the core.
///
/// Bytes of the client go in; frames for the client are appended to `out`; what only the server can do comes back as actions.
///
///     open ──close frame, fault, or server's close──> closing   nothing more is read; the server closes after what is in `out`
package struct WebSocketAdapter {
    package enum Action {
        /// A page is to be read and sent: a subscription starts behind the head.
        case readOn
        /// To be appended to the log; `reply` makes the answer of the outcome.
        case publish(CommandID?, Publication)
        /// The connection is to be closed once `out` has been sent.
        case close
    }

    package let subscriber: SubscriberID
    private var decoder: WebSocketDecoder
    private var isClosing = false

    package init(subscriber: SubscriberID, limits: WebSocketLimits) {
        self.subscriber = subscriber
        decoder = WebSocketDecoder(role: .server, limits: limits)
    }

    /// Takes what the client sent.
    ///
    /// - Parameter input: unmasked in place.
    package mutating func receive(
        _ input: UnsafeMutableRawBufferPointer, hub: Hub, knownHead: UInt64, limits: SubscribeLimits, out: inout [UInt8]
    ) -> [Action] {
        var actions: [Action] = []
        var consumed = 0
        while !isClosing {
            do throws(WebSocketFault) {
                let rest = UnsafeMutableRawBufferPointer(rebasing: input[consumed...])
                var taken = 0
                let event = try decoder.next(rest, consumed: &taken)
                consumed += taken
                guard let event else { break }
                handle(event, hub, knownHead, limits, &actions, &out)
            } catch {
                close(error.closeCode, error.reason, &out)
            }
        }
        if isClosing { actions.append(.close) }
        return actions
    }

    /// The server's close. The connection is to be closed once `out` has been sent.
    package mutating func close(_ code: WebSocketCloseCode, _ reason: String, _ out: inout [UInt8]) {
        guard !isClosing else { return }
        isClosing = true
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
            WebSocketReply.refused(id, code: "publish_refused", message: "\(refusal)")
        }
    }

    private mutating func handle(
        _ event: WebSocketEvent, _ hub: Hub, _ knownHead: UInt64, _ limits: SubscribeLimits, _ actions: inout [Action],
        _ out: inout [UInt8]
    ) {
        switch event {
        case .text(let text):
            do throws(WebSocketCommand.Refusal) {
                guard let command = try WebSocketCommand.read(text) else {
                    return close(.invalidPayload, "not JSON", &out)
                }
                try perform(command, hub, knownHead, limits, &actions, &out)
            } catch {
                WebSocketEncoder.frame(
                    .text, WebSocketReply.refused(error.id, code: error.code, message: error.message), into: &out
                )
            }
        case .binary:
            close(.unsupportedData, "tocsin.v1 is text", &out)
        case .ping(let payload):
            WebSocketEncoder.frame(.pong, payload, into: &out)
        case .pong:
            break
        case .close(let code, _):
            isClosing = true
            WebSocketEncoder.close(code ?? .normalClosure, reason: "", into: &out)
        }
    }

    private func perform(
        _ command: WebSocketCommand, _ hub: Hub, _ knownHead: UInt64, _ limits: SubscribeLimits, _ actions: inout [Action],
        _ out: inout [UInt8]
    ) throws(WebSocketCommand.Refusal) {
        func reply(_ object: [UInt8]) { WebSocketEncoder.frame(.text, object, into: &out) }
        switch command.action {
        case .subscribe(let patterns, let start):
            do throws(SubscribeFault) {
                let wantsRead = try hub.add(
                    patterns, from: start, to: subscriber, knownHead: knownHead, patternsMax: limits.channelsMax
                )
                reply(WebSocketReply.done(command.id, members: [("position", position(start, hub).description)]))
                if wantsRead { actions.append(.readOn) }
            } catch {
                switch error {
                case .overlaps(let other):
                    throw WebSocketCommand.Refusal(
                        id: command.id, code: "overlapping_subscription", message: "this connection is subscribed to \(other)"
                    )
                case .tooMany(let max):
                    throw WebSocketCommand.Refusal(
                        id: command.id, code: "too_many_channels", message: "a connection may have \(max)"
                    )
                }
            }
        case .unsubscribe(let patterns):
            for pattern in patterns where !hub.remove(pattern, from: subscriber) {
                throw WebSocketCommand.Refusal(id: command.id, code: "not_subscribed", message: "not subscribed to \(pattern)")
            }
            reply(WebSocketReply.done(command.id))
        case .publish(let publication):
            actions.append(.publish(command.id, publication))
        case .ping:
            reply(WebSocketReply.done(command.id))
        }
    }

    private func position(_ start: StartPoint, _ hub: Hub) -> Position {
        switch start {
        case .latest: Position(epoch: hub.epoch, offset: hub.head)
        case .earliest: Position(epoch: hub.epoch, offset: 0)
        case .after(let position): position
        }
    }
}

import EventStreamCodec
import HTTPTypes
import JSONCodec
import TLSEngine
import WebSocketCodec

/// Why an attempt is over.
struct AttemptFailure: Error {
    var ending: FallbackLadder.Ending
    /// The server does not take the request, on whatever transport.
    var refusal: ClientFault?
    /// Which of the request's subscriptions is the reason.
    var subscription: Int?
}

/// One attempt of a line to carry or to probe: the requests of its rung, and what comes back, handed to the line.
struct Attempt: Sendable {
    private static let eventBytesMax = 128 << 20
    private static let pollWaitSeconds = 25
    private static let shortPollPause = Duration.seconds(2)
    private static let refusalBytesMax = 65_536
    private static let subscriptionPointer = "#/subscriptions/"

    let id: Int
    let rung: ClientTransport
    let role: FallbackLadder.Role
    let configuration: ClientConfiguration
    let tls: TLSContext?
    let line: Line

    /// Runs until the line does not want it any more.
    func run() async {
        while true {
            var failure = AttemptFailure(ending: .ended)
            do {
                switch rung {
                case .webSocket: try await webSocket()
                case .eventStream, .eventStreamPost, .eventStreamPadded: try await eventStream()
                case .longPoll, .longPollClose, .shortPoll: try await polls()
                }
            } catch let thrown as AttemptFailure {
                failure = thrown
            } catch {
                // A fault of the network: whether there was a hello tells what it means.
            }
            guard await line.goesOn(id, after: failure) else { return }
        }
    }

    private func open(isTunneled: Bool = false) async throws -> ClientChannel {
        let channel = try await ClientChannel.open(configuration, tls, isTunneled: isTunneled)
        guard await line.opened(id, channel) else {
            channel.close()
            throw CancellationError()
        }
        return channel
    }

    // MARK: streams

    private func webSocket() async throws {
        let wire = try await line.request(id, poll: nil)
        let channel = try await open(isTunneled: true)
        defer { channel.close() }
        if wire.measures { channel.watchLateness() }
        var request = wire.make(for: configuration.address).request
        let key = WebSocketHandshake.key(random: (.random(in: .min ... .max), .random(in: .min ... .max)))
        request.headerFields[.accept] = nil
        request.headerFields[.connection] = "Upgrade"
        request.headerFields[.upgrade] = "websocket"
        request.headerFields[.secWebSocketVersion] = "13"
        request.headerFields[.secWebSocketKey] = key
        request.headerFields[.secWebSocketProtocol] = "tocsin.v1"
        channel.send(request)
        while let arrived = await channel.next() {
            switch arrived.event {
            case .head(let response, _):
                guard response.status.code == 101 else { throw await refusal(response, channel) }
                guard response.headerFields[.secWebSocketAccept] == WebSocketHandshake.accept(key: key) else {
                    throw AttemptFailure(ending: .refused)
                }
            case .webSocket(.text(let text)): try await line.received(id, [text], at: arrived.at)
            case .webSocket(.ping(let payload)):
                channel.send(.pong, payload)
                await line.heard(id)
            case .webSocket(.close(let code, let reason)):
                throw AttemptFailure(ending: Self.ending(code, reason))
            case .webSocket: await line.heard(id)
            case .body, .end: break
            case .closed: return
            }
        }
    }

    private static func ending(_ code: WebSocketCloseCode?, _ reason: String) -> FallbackLadder.Ending {
        switch code {
        case .policyViolation where reason == "token-expired": .denied
        case .serviceRestart: .goingAway(nil)
        case .tryAgainLater: .busy(nil)
        default: .ended
        }
    }

    private func eventStream() async throws {
        let wire = try await line.request(id, poll: nil)
        let channel = try await open()
        defer { channel.close() }
        if wire.measures { channel.watchLateness() }
        let (request, body) = wire.make(for: configuration.address)
        channel.send(request, body: body)
        var decoder = EventStreamDecoder(bytesMax: Self.eventBytesMax)
        while let arrived = await channel.next() {
            switch arrived.event {
            case .head(let response, _):
                guard response.status == .ok else { throw await refusal(response, channel) }
                guard response.headerFields[.contentType]?.hasPrefix("text/event-stream") == true else {
                    throw AttemptFailure(ending: .refused)
                }
            case .body(let bytes):
                await line.heard(id)
                let events = try bytes.withUnsafeBytes { bytes throws(EventStreamFault) in try decoder.feed(bytes) }
                if !events.isEmpty { try await line.received(id, events.map { Array($0.data.utf8) }, at: arrived.at) }
            case .webSocket: break
            case .end, .closed: return
            }
        }
    }

    // MARK: polls

    private func polls() async throws {
        var session = "new"
        var isFirst = true
        var kept: ClientChannel?
        defer { kept?.close() }
        while !Task.isCancelled {
            // The first answer comes at once, and so cannot be taken for one that is held back.
            let wait = isFirst || rung == .shortPoll ? 0 : Self.pollWaitSeconds
            let wire = try await line.request(id, poll: WireRequest.Poll(waitSeconds: wait, session: session))
            let (answer, channel) = try await exchange(wire, kept)
            kept = channel
            if answer.response.status != .ok { throw Self.refusal(answer.response, answer.body) }
            guard let object = try? JSONSlice.minify(answer.body), object["position"] != nil || object["messages"] != nil else {
                throw AttemptFailure(ending: .refused)
            }
            session = object["session"]?.string() ?? session
            try await line.polled(id, object)
            isFirst = false
            if !answer.keepsAlive || rung != .longPoll {
                kept?.close()
                kept = nil
            }
            if role == .probe { return try await Task.sleep(for: .seconds(60)) }
            if rung == .shortPoll { try await Task.sleep(for: Self.shortPollPause) }
        }
    }

    /// A server may close an idle connection at any moment: once more on a new one, if nothing came and it is known at once.
    private func exchange(_ wire: WireRequest, _ kept: ClientChannel?) async throws -> (ClientAnswer, ClientChannel) {
        let (request, body) = wire.make(for: configuration.address)
        if let kept {
            let start = ContinuousClock.now
            var hasHeard = false
            kept.send(request, body: body)
            do {
                return (try await kept.answer { hasHeard = true }, kept)
            } catch let fault as ClientFault {
                let isIdleEnd = !hasHeard && start.duration(to: .now) < .seconds(1)
                guard isIdleEnd, await !line.isRestarting(id) else { throw fault }
            }
        }
        let channel = try await open()
        channel.send(request, body: body)
        do {
            return (try await channel.answer { await line.heard(id) }, channel)
        } catch {
            channel.close()
            throw error
        }
    }

    // MARK: refusals

    private func refusal(_ response: HTTPResponse, _ channel: ClientChannel) async -> AttemptFailure {
        var body: [UInt8] = []
        while let arrived = await channel.next() {
            guard case .body(let bytes) = arrived.event, body.count < Self.refusalBytesMax else { break }
            body += bytes
        }
        return Self.refusal(response, body)
    }

    /// What an answer means that is not the one that was hoped for. Only Tocsin's own (RFC 9457) says anything about Tocsin; others are
    /// the words of what stands between.
    static func refusal(_ response: HTTPResponse, _ body: [UInt8]) -> AttemptFailure {
        let code = response.status.code
        let milliseconds = response.headerFields[.retryAfter].flatMap { Int($0) }.flatMap { $0 > 0 ? min($0, 86_400) * 1000 : nil }
        let isOurs = response.headerFields[.contentType]?.hasPrefix("application/problem+json") == true
        let problem = isOurs ? try? JSONSlice.minify(body) : nil
        let type = problem?["type"]?.string() ?? ""
        func refused() -> ClientFault {
            ClientFault("the server answered \(code) \(problem?["detail"]?.string() ?? "")", isFinal: true)
        }
        if (400..<500).contains(code), let pointer = problem?["pointer"]?.string(), pointer.hasPrefix(Self.subscriptionPointer),
            let at = Int(pointer.dropFirst(Self.subscriptionPointer.count))
        {
            return AttemptFailure(ending: .refused, refusal: refused(), subscription: at)
        }
        switch code {
        case 503 where type.hasSuffix("going-away"): return AttemptFailure(ending: .goingAway(milliseconds))
        case 503 where isOurs || milliseconds != nil, 429 where isOurs || milliseconds != nil:
            return AttemptFailure(ending: .busy(milliseconds))
        case 401: return AttemptFailure(ending: .denied)
        case 403 where isOurs && !type.hasSuffix("reserved-channel"): return AttemptFailure(ending: .denied)
        // Something on the way took parts of the handshake away, or the time.
        case 408, 426, 429: return AttemptFailure(ending: .refused)
        case 400..<500 where isOurs && !type.hasSuffix("bad-handshake"): return AttemptFailure(ending: .refused, refusal: refused())
        default: return AttemptFailure(ending: .refused)
        }
    }
}

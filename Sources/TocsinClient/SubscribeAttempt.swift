import EventStreamCodec
import HTTPTypes
import JSONCodec
import TLSEngine
import WebSocketCodec

/// A way to subscribe.
package enum ClientTransport: String, Sendable, CaseIterable {
    case webSocket = "websocket"
    case eventStream = "sse"
    case longPoll = "long-poll"
}

/// One connection's worth of a subscription: opens it, and reports what comes until it ends.
struct SubscribeAttempt {
    enum Incoming {
        /// A JSON object of the protocol: hello, notification, gap, going-away.
        case object([UInt8])
        /// Long-poll: the place to go on from.
        case position(String)
    }

    let configuration: ClientConfiguration
    let tls: TLSContext?
    let channels: [String]
    let items: [(name: String, value: String)]
    let after: String?

    /// - Returns: when the server ended it without a fault. Throws what went wrong.
    func run(_ transport: ClientTransport, _ receive: (Incoming) async throws -> Void) async throws {
        switch transport {
        case .webSocket: try await webSocket(receive)
        case .eventStream: try await eventStream(receive)
        case .longPoll: try await longPoll(receive)
        }
    }

    private func request(after: String?) -> HTTPRequest {
        var items = channels.map { "channel=" + Self.escape($0) }
        items += self.items.map { $0.name + "=" + Self.escape($0.value) }
        if let after { items.append("after=" + Self.escape(after)) }
        let address = configuration.address
        return HTTPRequest(
            method: .get, scheme: address.scheme, authority: address.authority, path: "/v1/subscribe?" + items.joined(separator: "&")
        )
    }

    private static func escape(_ text: String) -> String {
        let plain = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~*".utf8)
        return text.utf8.map { byte in
            plain.contains(byte) ? String(UnicodeScalar(byte)) : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
        }.joined()
    }

    /// - Returns: the refusal that an answer's body tells.
    private func refusal(_ response: HTTPResponse, _ body: [UInt8]) -> ClientFault {
        let detail = (try? JSONSlice.minify(body))?["detail"]?.string() ?? ""
        let code = response.status.code
        let retry = response.headerFields[.retryAfter].flatMap { Int($0) }
        return ClientFault(
            "the server answered \(code) \(detail)", isFinal: (400..<500).contains(code) && code != 408 && code != 429,
            retryAfterMilliseconds: retry.map { $0 * 1000 }
        )
    }

    /// Reads the rest of an answer that was not what was hoped for.
    private func refuse(_ response: HTTPResponse, _ iterator: inout AsyncStream<ClientEvent>.AsyncIterator) async -> ClientFault {
        var body: [UInt8] = []
        while let event = await iterator.next() {
            if case .body(let bytes) = event, body.count < 65_536 { body += bytes } else { break }
        }
        return refusal(response, body)
    }

    private func webSocket(_ receive: (Incoming) async throws -> Void) async throws {
        let channel = try await ClientChannel.open(configuration, tls)
        defer { channel.close() }
        var request = request(after: after)
        let key = WebSocketHandshake.key(random: (.random(in: .min ... .max), .random(in: .min ... .max)))
        request.headerFields[.connection] = "Upgrade"
        request.headerFields[.upgrade] = "websocket"
        request.headerFields[.secWebSocketVersion] = "13"
        request.headerFields[.secWebSocketKey] = key
        request.headerFields[.secWebSocketProtocol] = "tocsin.v1"
        channel.send(request)
        var iterator = channel.events.makeAsyncIterator()
        while let event = await iterator.next() {
            switch event {
            case .head(let response):
                guard response.status.code == 101 else { throw await refuse(response, &iterator) }
                guard response.headerFields[.secWebSocketAccept] == WebSocketHandshake.accept(key: key) else {
                    throw ClientFault("what answered does not speak WebSocket")
                }
            case .webSocket(.text(let text)): try await receive(.object(text))
            case .webSocket(.ping(let payload)): channel.send(.pong, payload)
            case .webSocket(.close(let code, let reason)):
                throw ClientFault("closed with \(code?.rawValue ?? 1005) \(reason)", isFinal: code == .policyViolation)
            case .webSocket, .body, .end: break
            case .closed(let fault): throw fault ?? ClientFault("the connection was closed")
            }
        }
    }

    private func eventStream(_ receive: (Incoming) async throws -> Void) async throws {
        let channel = try await ClientChannel.open(configuration, tls)
        defer { channel.close() }
        var request = request(after: after)
        request.headerFields[.accept] = "text/event-stream"
        channel.send(request)
        var decoder = EventStreamDecoder(bytesMax: 16 << 20)
        var iterator = channel.events.makeAsyncIterator()
        while let event = await iterator.next() {
            switch event {
            case .head(let response):
                guard response.status == .ok else { throw await refuse(response, &iterator) }
                guard response.headerFields[.contentType]?.hasPrefix("text/event-stream") == true else {
                    throw ClientFault("what answered does not send an event stream")
                }
            case .body(let bytes):
                let fed = try bytes.withUnsafeBytes { try decoder.feed($0) }
                for event in fed { try await receive(.object(Array(event.data.utf8))) }
            case .end: return
            case .webSocket: break
            case .closed(let fault): throw fault ?? ClientFault("the connection was closed")
            }
        }
    }

    private func longPoll(_ receive: (Incoming) async throws -> Void) async throws {
        let channel = try await ClientChannel.open(configuration, tls)
        defer { channel.close() }
        var after = after
        var iterator = channel.events.makeAsyncIterator()
        while !Task.isCancelled {
            var request = request(after: after)
            request.headerFields[HTTPField.Name("Prefer")!] = "wait=25"
            channel.send(request)
            var body: [UInt8] = []
            var response: HTTPResponse?
            answer: while let event = await iterator.next() {
                switch event {
                case .head(let head): response = head
                case .body(let bytes): body += bytes
                case .end: break answer
                case .webSocket: break
                case .closed(let fault): throw fault ?? ClientFault("the connection was closed")
                }
            }
            guard let response else { throw ClientFault("the connection was closed") }
            guard response.status == .ok else { throw refusal(response, body) }
            let answer = try JSONSlice.minify(body)
            guard let position = answer["position"]?.string() else { throw ClientFault("an answer without a position") }
            for message in answer["messages"]?.elementList ?? [] { try await receive(.object(Array(message.bytes))) }
            try await receive(.position(position))
            after = position
        }
    }
}

extension JSONSlice {
    /// Checks what came from a server.
    static func minify(_ bytes: [UInt8]) throws -> JSONSlice {
        var out: [UInt8] = []
        try bytes.withUnsafeBytes { try JSONText.minify($0, into: &out) }
        return JSONSlice(out[...])
    }
}

import CBORCodec
import EventStreamCodec
import HTTP1Codec
import HTTP2Session
import HTTPTypes
import WebSocketCodec

/// How a client subscribes.
enum Way: CaseIterable {
    case webSocket
    /// The subscriptions come as commands.
    case webSocketCommands
    case eventStream
    case eventStreamByPost
    case eventStreamOnHTTP2
    case longPoll
    case longPollOnHTTP2

    var isPoll: Bool { self == .longPoll || self == .longPollOnHTTP2 }
    var isEventStream: Bool { self == .eventStream || self == .eventStreamByPost || self == .eventStreamOnHTTP2 }
}

/// What has come to a client.
enum ClientEvent {
    /// One JSON object: a message, a reply, or the answer to a poll.
    case object([UInt8])
    /// One event of a stream: a message, or a payload alone.
    case event(EventStreamEvent)
    /// The stream is open.
    case open
    /// A request was not answered with 200 or 101.
    case refused(status: Int, [UInt8])
    /// The server has ended it in order.
    case end
    case broken(String)
}

/// The client's side of one connection: requests in, bytes out; bytes in, events out.
protocol ClientLine: AnyObject {
    /// - Parameter body: empty: it is a GET.
    func request(_ path: String, fields: [(String, String)], body: [UInt8]) -> [UInt8]
    func feed(_ bytes: [UInt8]) -> [ClientEvent]
    /// What has to be sent by itself.
    func takeOutput() -> [UInt8]
}

extension ClientLine {
    func takeOutput() -> [UInt8] { [] }
}

enum RequestText {
    static func bytes(_ path: String, fields: [(String, String)], body: [UInt8]) -> [UInt8] {
        var text = "\(body.isEmpty ? "GET" : "POST") \(path) HTTP/1.1\r\nHost: simulated\r\n"
        for (name, value) in fields { text += "\(name): \(value)\r\n" }
        if !body.isEmpty { text += "Content-Length: \(body.count)\r\n" }
        return Array((text + "\r\n").utf8) + body
    }

    /// Of a value in a query.
    static func escaped(_ text: String) -> String {
        var out = ""
        for byte in text.utf8 {
            switch UInt8(byte) {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "*"):
                out.unicodeScalars.append(Unicode.Scalar(byte))
            default: out += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
        return out
    }
}

/// Answers of HTTP/1.1, one after the other.
struct ResponseReader {
    private var parser = HTTP1ResponseParser(limits: limits, requestMethod: .get)
    private(set) var status = 0
    /// Of the answer that is being read; taken out piece by piece where it has no end.
    var body: [UInt8] = []
    private(set) var hasHead = false

    private static var limits: HTTP1Limits {
        var limits = HTTP1Limits()
        limits.bodyBytesMax = .max
        return limits
    }

    /// - Returns: whether an answer is complete: then take its body and go on with what is left.
    mutating func feed(_ bytes: inout [UInt8]) throws(HTTP1Fault) -> Bool {
        var consumed = 0
        let result = bytes.withUnsafeBytes { buffer -> Result<Bool, HTTP1Fault> in
            do throws(HTTP1Fault) {
                while true {
                    let start = consumed
                    let input = UnsafeRawBufferPointer(rebasing: buffer[start...])
                    guard let event = try parser.next(input, consumed: &consumed) else { return .success(false) }
                    switch event {
                    case .head(let head):
                        status = head.response.status.code
                        hasHead = true
                        if status == 101 { return .success(true) }
                    case .body(let range): body += input[range]
                    case .end: return .success(true)
                    }
                }
            } catch {
                return .failure(error)
            }
        }
        bytes.removeFirst(consumed)
        return try result.get()
    }

    mutating func next() {
        parser.nextResponse(to: .get)
        body = []
        hasHead = false
    }
}

/// Requests that are answered one by one: polls, publications, acknowledgements.
final class RequestLine: ClientLine {
    private var reader = ResponseReader()

    func request(_ path: String, fields: [(String, String)], body: [UInt8]) -> [UInt8] {
        RequestText.bytes(path, fields: fields, body: body)
    }

    func feed(_ bytes: [UInt8]) -> [ClientEvent] {
        var bytes = bytes
        var events: [ClientEvent] = []
        do throws(HTTP1Fault) {
            while try reader.feed(&bytes) {
                events.append((200...201).contains(reader.status) ? .object(reader.body) : .refused(status: reader.status, reader.body))
                reader.next()
            }
        } catch {
            events.append(.broken("\(error)"))
        }
        return events
    }
}

final class EventStreamLine: ClientLine {
    private var reader = ResponseReader()
    private var decoder = EventStreamDecoder(bytesMax: 1 << 20)
    private var isOpen = false

    func request(_ path: String, fields: [(String, String)], body: [UInt8]) -> [UInt8] {
        RequestText.bytes(path, fields: fields + [("Accept", "text/event-stream")], body: body)
    }

    func feed(_ bytes: [UInt8]) -> [ClientEvent] {
        var bytes = bytes
        do {
            let isComplete = try reader.feed(&bytes)
            guard reader.hasHead else { return [] }
            guard reader.status == 200 else { return isComplete ? [.refused(status: reader.status, reader.body)] : [] }
            var events: [ClientEvent] = isOpen ? [] : [.open]
            isOpen = true
            events += try decoder.objects(reader.body)
            reader.body = []
            return isComplete ? events + [.end] : events
        } catch {
            return [.broken("\(error)")]
        }
    }
}

extension EventStreamDecoder {
    mutating func objects(_ bytes: [UInt8]) throws(EventStreamFault) -> [ClientEvent] {
        var events: [EventStreamEvent] = []
        let result = bytes.withUnsafeBytes { buffer -> Result<Void, EventStreamFault> in
            do throws(EventStreamFault) {
                try feed(buffer, into: &events)
                return .success(())
            } catch {
                return .failure(error)
            }
        }
        try result.get()
        return events.map { .event($0) }
    }
}

final class WebSocketLine: ClientLine {
    private let isInCBOR: Bool
    private var reader = ResponseReader()
    private var decoder = WebSocketDecoder(role: .client, limits: WebSocketLimits(messageBytesMax: 2 << 20), inflater: MessageInflater())
    private var isOpen = false
    private var output: [UInt8] = []

    /// - Parameter isInCBOR: messages and commands are CBOR, in binary messages.
    init(isInCBOR: Bool) {
        self.isInCBOR = isInCBOR
    }

    func request(_ path: String, fields: [(String, String)], body: [UInt8]) -> [UInt8] {
        let handshake = [
            ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Protocol", isInCBOR ? "tocsin.v1.cbor" : "tocsin.v1"),
            ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ]
        return RequestText.bytes(path, fields: fields + handshake, body: body)
    }

    /// - Parameter json: a command.
    func frame(_ json: String) -> [UInt8] {
        var out: [UInt8] = []
        var payload = Array(json.utf8)
        if isInCBOR {
            var binary: [UInt8] = []
            payload.withUnsafeBytes { CBOREncoder.transcode(json: $0, into: &binary) }
            payload = binary
        }
        WebSocketEncoder.maskedFrame(isInCBOR ? .binary : .text, payload: payload, maskingKey: 0x1234_5678, into: &out)
        return out
    }

    func takeOutput() -> [UInt8] {
        defer { output = [] }
        return output
    }

    func feed(_ bytes: [UInt8]) -> [ClientEvent] {
        var bytes = bytes
        var events: [ClientEvent] = []
        do {
            if !isOpen {
                guard try reader.feed(&bytes) else { return [] }
                guard reader.status == 101 else { return [.refused(status: reader.status, reader.body)] }
                isOpen = true
                events.append(.open)
            }
            try read(&bytes, into: &events)
        } catch {
            events.append(.broken("\(error)"))
        }
        return events
    }

    private func read(_ bytes: inout [UInt8], into events: inout [ClientEvent]) throws {
        try bytes.withUnsafeMutableBytes { buffer in
            var consumed = 0
            while let event = try decoder.next(UnsafeMutableRawBufferPointer(rebasing: buffer[consumed...]), consumed: &consumed) {
                switch event {
                case .text(let text): events.append(isInCBOR ? .broken("a text message") : .object(text))
                case .binary(let bytes) where isInCBOR:
                    let limits = CBORLimits(outputBytesMax: 4 << 20)
                    events.append(.object(try bytes.withUnsafeBytes { try CBORDecoder.json($0, limits: limits) }))
                case .ping(let payload):
                    WebSocketEncoder.maskedFrame(.pong, payload: payload, maskingKey: 0x1234_5678, into: &output)
                case .pong: break
                case .close: events.append(.end)
                case .binary: events.append(.broken("a binary message"))
                }
            }
        }
    }
}

/// One stream after the other on HTTP/2 by prior knowledge.
final class HTTP2Line: ClientLine {
    private let isStreaming: Bool
    private let session: HTTP2ClientSession
    private let now: () -> Int64
    private var stream: HTTP2StreamID?
    private var status = 0
    private var body: [UInt8] = []
    private var decoder = EventStreamDecoder(bytesMax: 1 << 20)

    /// - Parameters:
    ///   - isStreaming: the answer is an event stream.
    ///   - windowBytes: what a stream takes before the client has read it.
    init(isStreaming: Bool, windowBytes: UInt32, now: @escaping () -> Int64) {
        self.isStreaming = isStreaming
        self.now = now
        var limits = HTTP2Limits()
        limits.initialWindowBytes = windowBytes
        session = HTTP2ClientSession(limits: limits)
    }

    func request(_ path: String, fields: [(String, String)], body: [UInt8]) -> [UInt8] {
        var request = HTTPRequest(method: body.isEmpty ? .get : .post, scheme: "http", authority: "simulated", path: path)
        for (name, value) in fields { request.headerFields[HTTPField.Name(name)!] = value }
        if isStreaming { request.headerFields[.accept] = "text/event-stream" }
        self.body = []
        stream = session.request(request, body: body)
        return takeOutput()
    }

    func takeOutput() -> [UInt8] {
        var out: [UInt8] = []
        while session.wantsWrite {
            let before = out.count
            session.send(into: &out, bytesMax: 1 << 16)
            if out.count == before { break }
        }
        return out
    }

    func feed(_ bytes: [UInt8]) -> [ClientEvent] {
        var events: [ClientEvent] = []
        do {
            try bytes.withUnsafeBytes { try session.receive($0, nowMilliseconds: now()) }
            while let event = session.nextEvent() { try take(event, &events) }
        } catch {
            events.append(.broken("\(error)"))
        }
        return events
    }

    private func take(_ event: HTTP2ClientEvent, _ events: inout [ClientEvent]) throws {
        switch event {
        case .response(_, let response):
            status = response.status.code
            if isStreaming, status == 200 { events.append(.open) }
        case .body(_, let bytes):
            if isStreaming, status == 200 { events += try decoder.objects(bytes) } else { body += bytes }
        case .end:
            if isStreaming, status == 200 {
                events.append(.end)
            } else {
                events.append(status == 200 ? .object(body) : .refused(status: status, body))
            }
        case .closed, .windowOpen: break
        case .goAway: events.append(.end)
        case .headersTooLarge: events.append(.broken("headers too large"))
        }
    }
}

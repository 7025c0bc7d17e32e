import HTTP2Session
import HTTPTypes
import TestSupport

/// A client and a server wired back to back in memory. Bytes go across in pieces of random size.
final class Pair {
    let server: HTTP2ServerSession
    let client: HTTP2ClientSession
    var random: SeededRandom
    var serverEvents: [HTTP2Event] = []
    var clientEvents: [HTTP2ClientEvent] = []
    /// Called for each event of the server as it comes; what it does goes out in the same round.
    var serve: (HTTP2Event, HTTP2ServerSession) -> Void = { _, _ in }
    /// Bytes that one `send` may give.
    var sendBytesMax = 65536
    /// What the server's owner writes itself; goes out in front of the rest.
    var ownersFrames: [UInt8] = []
    /// All that the client has sent.
    var clientBytes: [UInt8] = []

    init(server: HTTP2Limits = HTTP2Limits(), client: HTTP2Limits = HTTP2Limits(), seed: UInt64 = 1) {
        self.server = HTTP2ServerSession(limits: server)
        self.client = HTTP2ClientSession(limits: client)
        random = SeededRandom(seed: seed)
    }

    /// Moves bytes both ways until both are quiet.
    func pump() throws {
        var isQuiet = false
        while !isQuiet {
            isQuiet = true
            drainServer()
            var bytes: [UInt8] = []
            client.send(into: &bytes, bytesMax: sendBytesMax)
            clientBytes += bytes
            if !bytes.isEmpty { isQuiet = false }
            try feed(bytes) { piece in
                try server.receive(piece, nowMilliseconds: 0)
                drainServer()
            }
            bytes = ownersFrames
            ownersFrames = []
            server.send(into: &bytes, bytesMax: sendBytesMax)
            drainServer()
            if !bytes.isEmpty { isQuiet = false }
            try feed(bytes) { piece in
                try client.receive(piece, nowMilliseconds: 0)
                while let event = client.nextEvent() { clientEvents.append(event) }
            }
        }
        while let event = client.nextEvent() { clientEvents.append(event) }
    }

    private func drainServer() {
        while let event = server.nextEvent() {
            serverEvents.append(event)
            serve(event, server)
        }
    }

    private func feed(_ bytes: [UInt8], to receive: (UnsafeRawBufferPointer) throws -> Void) throws {
        var start = 0
        while start < bytes.count {
            let count = min(bytes.count - start, Int.random(in: 1...(random.next() % 4 == 0 ? 3000 : 30), using: &random))
            try bytes[start..<start + count].withUnsafeBytes { try receive($0) }
            start += count
        }
    }

    /// Bytes of the answer on a stream, as the client got them.
    func answerBody(_ stream: HTTP2StreamID) -> [UInt8] {
        clientEvents.reduce(into: []) { bytes, event in
            if case .body(stream, let more) = event { bytes += more }
        }
    }

    /// Bytes of the request on a stream, as the server got them.
    func requestBody(_ stream: HTTP2StreamID) -> [UInt8] {
        serverEvents.reduce(into: []) { bytes, event in
            if case .body(stream, let more) = event { bytes += more }
        }
    }

    func answerStatus(_ stream: HTTP2StreamID) -> Int? {
        for case .response(stream, let response) in clientEvents { return response.status.code }
        return nil
    }
}

extension HTTPRequest {
    static func get(_ path: String, _ fields: HTTPFields = [:]) -> HTTPRequest {
        HTTPRequest(method: .get, scheme: "https", authority: "tocsin.test", path: path, headerFields: fields)
    }

    static func post(_ path: String, _ fields: HTTPFields = [:]) -> HTTPRequest {
        HTTPRequest(method: .post, scheme: "https", authority: "tocsin.test", path: path, headerFields: fields)
    }
}

extension HTTP2ServerSession {
    /// Takes bytes at a time.
    func receive(_ bytes: [UInt8], at nowMilliseconds: Int64 = 0) throws(HTTP2Fault) {
        var fault: HTTP2Fault?
        bytes.withUnsafeBytes { buffer in
            do throws(HTTP2Fault) { try receive(buffer, nowMilliseconds: nowMilliseconds) } catch { fault = error }
        }
        if let fault { throw fault }
    }

    /// All that is to be sent.
    func sendAll() -> [UInt8] {
        var out: [UInt8] = []
        send(into: &out, bytesMax: .max)
        return out
    }

    func allEvents() -> [HTTP2Event] {
        var events: [HTTP2Event] = []
        while let event = nextEvent() { events.append(event) }
        return events
    }
}

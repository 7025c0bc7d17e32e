import Foundation
import HTTP2Session
import HTTPTypes
import Logging
import NIOCore
import NIOEmbedded
import NotificationCore
import TestSupport
import Testing

@testable import TocsinServer

/// An answer with what differs from run to run left out.
private func steady(_ text: String) -> String {
    text.replacing(/Date: [^\r]*/, with: "Date: -").replacing(/"time":"[^"]*"/, with: "\"time\":\"-\"")
        .replacing(/"session":"[^"]*"/, with: "\"session\":\"-\"")
}

@Suite struct ConnectionTests {
    private static let pipelined =
        "POST /v1/channels/a.b?event=e HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{\"x\":1}"
        + "POST /v1/publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
        + "1e\r\n[{\"channel\":\"a.b\",\"data\":22}]\n\r\n0\r\n\r\n"
        + "GET /v1/channels/a.b/history HTTP/1.1\r\nHost: x\r\n\r\n"
        + "GET /v1/subscribe?channel=a.*&after=earliest HTTP/1.1\r\nHost: x\r\n\r\n"
        + "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
        + "GET /v1/subscribe?channel=a.%3E&after=earliest HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"

    /// - Parameter step: 0: everything is done at once; a millisecond: each slice gets on by one step.
    @Test("a whole connection gives the same answers however its bytes are cut, and into whatever slices its work", arguments: [0, 1000])
    func splits(step: Int64) throws {
        let events = try SplitVerifier.verify(Array(Self.pipelined.utf8), splitsMax: 150) { pieces in
            let bench = Bench(step: step)
            let channel = try bench.connect()
            var out = ""
            for piece in pieces {
                _ = try? channel.writeInbound(ByteBuffer(bytes: piece))
                bench.drain()
                out += try Bench.output(channel)
            }
            return [steady(out)]
        }
        let text = events[0]
        #expect(text.components("HTTP/1.1 ").map { $0.prefix(3) } == ["201", "201", "200", "200", "404", "200"])
        #expect(text.contains("\"position\":\"000000000abc.2\""))
        #expect(text.components("id: 000000000abc.").count == 3)
    }

    @Test(
        "malformed requests are answered with a problem and closed, and the loop goes on",
        arguments: [
            ("GET / HTTP/1.1\r\n\r\n", 400), ("GET / HTTP/2.5\r\nHost: x\r\n\r\n", 505), ("BAD\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413),
            ("GET /" + String(repeating: "a", count: 9000) + " HTTP/1.1\r\n", 414),
            ("GET / HTTP/1.1\r\nHost: x\r\nA: " + String(repeating: "a", count: 17000) + "\r\n\r\n", 431),
            ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ])
    func malformed(_ request: String, _ status: Int) throws {
        let bench = Bench()
        let channel = try bench.connect()
        _ = try? channel.writeInbound(ByteBuffer(string: request))
        let out = try Bench.output(channel)
        #expect(out.hasPrefix("HTTP/1.1 \(status) "), "\(out)")
        #expect(out.contains("application/problem+json") && out.contains("\"status\":\(status)"))
        bench.pass(seconds: 5)
        #expect(!channel.isActive)
        #expect(bench.loop.counters.connections == 0)
        let other = try bench.connect()
        try other.writeInbound(ByteBuffer(string: "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
        #expect(try Bench.output(other).contains("ok\n"))
    }

    @Test("a poll parks at the head, is answered by what comes, and at its deadline")
    func poll() throws {
        let bench = Bench()
        let channel = try bench.connect()
        func ask(_ position: String) throws {
            try channel.writeInbound(
                ByteBuffer(string: "GET /v1/subscribe?channel=a&after=\(position) HTTP/1.1\r\nHost: x\r\nPrefer: wait=3\r\n\r\n"))
        }
        try ask("000000000abc.0")
        #expect(try Bench.output(channel) == "")
        #expect(bench.loop.counters.subscribers == [0, 0, 1])
        bench.publish("b", "0")
        #expect(try Bench.output(channel) == "")
        bench.publish("a", "1")
        let first = try Bench.output(channel)
        #expect(first.contains("{\"position\":\"000000000abc.2\",\"messages\":[{"))
        #expect(bench.loop.counters.subscribers == [0, 0, 0])
        try ask("000000000abc.2")
        bench.publish("b", "0")
        bench.pass(seconds: 2)
        #expect(try Bench.output(channel) == "")
        bench.pass(seconds: 2)
        #expect(try Bench.output(channel).contains("{\"position\":\"000000000abc.3\",\"messages\":[]}"))
        #expect(bench.loop.counters.subscribers == [0, 0, 0])
        // Its subscriber stays for the next poll, as long as the connection does.
        try channel.close().wait()
        bench.eventLoop.run()
        #expect(bench.loop.hub.subscriberCount == 0)
    }

    @Test(
        "deadlines end a slow head, a slow body and an idle connection",
        arguments: [
            ("GET / HT", 11, "408"), ("POST /v1/channels/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n1", 31, "408"),
            ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 76, "200"), ("", 11, ""),
        ])
    func deadlines(_ sent: String, _ seconds: Int, _ status: String) throws {
        let bench = Bench()
        let channel = try bench.connect()
        if !sent.isEmpty { try channel.writeInbound(ByteBuffer(string: sent)) }
        bench.pass(seconds: seconds - 2)
        #expect(channel.isActive)
        bench.pass(seconds: 6)
        #expect(!channel.isActive)
        let out = try Bench.output(channel)
        #expect(status.isEmpty ? out.isEmpty : out.hasPrefix("HTTP/1.1 " + status), "\(out)")
        #expect(bench.loop.counters.connections == 0)
    }

    @Test("heartbeats come when nothing else does, and a WebSocket that never answers is closed")
    func heartbeats() throws {
        let bench = Bench()
        let stream = try bench.connect()
        try stream.writeInbound(
            ByteBuffer(string: "GET /v1/subscribe?channel=a&heartbeat=5&pad=3 HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"))
        _ = try Bench.output(stream)
        bench.pass(seconds: 4)
        bench.publish("a", "1")
        _ = try Bench.output(stream)
        bench.pass(seconds: 4)
        #expect(try Bench.output(stream) == "")
        bench.pass(seconds: 2)
        #expect(try Bench.output(stream).contains(":   \n\n"))

        let socket = try bench.connect()
        try socket.writeInbound(
            ByteBuffer(
                string: "GET /v1/subscribe?channel=a&heartbeat=5 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
        #expect(try Bench.output(socket).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
        bench.pass(seconds: 6)
        var ping = try #require(try socket.readOutbound(as: ByteBuffer.self))
        #expect(ping.readBytes(length: 2) == [0x89, 8])
        bench.pass(seconds: 20)
        #expect(!socket.isActive)
        #expect(bench.loop.counters.subscribers == [0, 1, 0])
    }

    /// A text frame of a client; the mask is zero, so the text stays as it is.
    private static func frame(_ text: String) -> [UInt8] {
        precondition(text.utf8.count < 126)
        return [0x81, 0x80 | UInt8(text.utf8.count), 0, 0, 0, 0] + text.utf8
    }

    @Test("a WebSocket may have many subscriptions, each a cursor of its own; what a batch holds for them goes out together")
    func manySubscriptions() throws {
        let bench = Bench()
        let socket = try bench.connect()
        try socket.writeInbound(
            ByteBuffer(
                string: "GET /v1/subscribe HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
        let commands = (0..<90).flatMap { Self.frame(#"{"id":\#($0),"type":"subscribe","channel":"c.\#($0)"}"#) }
        try socket.writeInbound(ByteBuffer(bytes: commands))
        #expect(try Bench.output(socket).components(separatedBy: "\"type\":\"reply\"").count == 91)
        #expect(bench.loop.counters.subscribers == [91, 0, 0])
        let publications = ["c.3", "c.89", "c.3"].map { Publication(channel: ChannelName($0)!, data: Array("1".utf8)) }
        bench.loop.server.log.append(AppendRequest(publications), from: bench.loop) { _ in }
        bench.eventLoop.run()
        let sent = try #require(try socket.readOutbound(as: ByteBuffer.self))
        #expect(String(buffer: sent).components(separatedBy: "notification").count == 4)
        #expect(try socket.readOutbound(as: ByteBuffer.self) == nil)
        try socket.writeInbound(ByteBuffer(bytes: Self.frame(#"{"type":"unsubscribe","channel":"c.3"}"#)))
        #expect(bench.loop.counters.subscribers == [90, 0, 0])
        try socket.close().wait()
        #expect(bench.loop.counters.subscribers == [0, 0, 0])
        #expect(bench.loop.hub.patternCount == 0)
    }

    @Test("a subscriber with a rate has its turns, and gets the newest value of each key then")
    func paced() throws {
        let bench = Bench()
        let (stream, other) = (try bench.connect(), try bench.connect())
        for channel in [stream, other] {
            try channel.writeInbound(
                ByteBuffer(
                    string: "GET /v1/subscribe?channel=dashboards.d&rate=1/s HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"))
        }
        bench.pass(seconds: 2)
        for channel in [stream, other] { _ = try Bench.output(channel) }
        for number in 1...20 {
            var publication = Publication(channel: ChannelName("dashboards.d")!, data: Array("\(number)".utf8))
            publication.key = FieldText("k\(number % 2)")
            bench.loop.server.log.append(AppendRequest([publication]), from: bench.loop) { _ in }
            bench.drain()
        }
        #expect(try Bench.output(stream) == "")
        bench.pass(seconds: 2)
        let text = try Bench.output(stream)
        #expect(text.contains("\"skipped\":18,\"data\":19}"))
        #expect(text.contains("\"data\":20}"))
        #expect(text.components(separatedBy: "notification").count == 3)
        // Both have their turn together: what they get is made once.
        #expect(try Bench.output(other) == text)
        #expect(bench.loop.counters.sharedPages == 1)
    }

    @Test("HTTP/2 garbage after the preface gets a GOAWAY and the connection ends")
    func http2Garbage() throws {
        let bench = Bench()
        let channel = try bench.connect()
        let garbage = String(repeating: "\u{ff}", count: 100)
        _ = try? channel.writeInbound(ByteBuffer(string: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + garbage))
        var bytes: [UInt8] = []
        while var buffer = try channel.readOutbound(as: ByteBuffer.self) { bytes += buffer.readBytes(length: buffer.readableBytes)! }
        var kinds: [UInt8] = []
        var rest = bytes[...]
        while rest.count >= 9 {
            let length = rest.prefix(3).reduce(0) { $0 << 8 | Int($1) }
            kinds.append(rest[rest.startIndex + 3])
            rest = rest.dropFirst(9 + length)
        }
        #expect(kinds.first == 4)
        #expect(kinds.last == 7)
        bench.pass(seconds: 5)
        #expect(!channel.isActive)
    }

    @Test("a stream that is opened and reset in one read leaves nothing behind, and its connection goes on")
    func resetAtOnce() throws {
        let bench = Bench()
        let channel = try bench.connect()
        let client = HTTP2ClientSession(limits: HTTP2Limits())
        func subscribe() throws -> HTTP2StreamID {
            var request = HTTPRequest(method: .get, scheme: "http", authority: "x", path: "/v1/subscribe?channel=a")
            request.headerFields[.accept] = "text/event-stream"
            return try #require(client.request(request))
        }
        var bytes: [UInt8] = []
        for _ in 0..<10 {
            let stream = try subscribe()
            client.send(into: &bytes, bytesMax: 1 << 20)
            client.reset(stream: stream, errorCode: 8)
            client.send(into: &bytes, bytesMax: 1 << 20)
        }
        let kept = try subscribe()
        client.send(into: &bytes, bytesMax: 1 << 20)
        try channel.writeInbound(ByteBuffer(bytes: bytes))
        #expect(bench.loop.counters.subscribers == [0, 1, 0])
        #expect(bench.loop.hub.subscriberCount == 1)
        bench.publish("a", "7")
        var received: [UInt8] = []
        while var buffer = try channel.readOutbound(as: ByteBuffer.self) {
            try buffer.readBytes(length: buffer.readableBytes)!.withUnsafeBytes { try client.receive($0, nowMilliseconds: 0) }
        }
        while let event = client.nextEvent() {
            if case .body(let stream, let bytes) = event, stream == kept { received += bytes }
        }
        #expect(String(decoding: received, as: UTF8.self).contains("\"data\":7}"))
        #expect(channel.isActive)
    }

    @Test("event streams of HTTP/2 that are behind go on each time the socket has drained, to the last message", arguments: [1, 3])
    func drains(streams: Int) throws {
        let bench = Bench()
        let count = 600
        for number in 1...count { bench.publish("a", "\"\(number) \(String(repeating: "x", count: 1000))\"") }
        let dam = Dam()
        dam.isShut = true
        let channel = try bench.connect(behind: dam)
        let client = HTTP2ClientSession(limits: HTTP2Limits())
        var request = HTTPRequest(method: .get, scheme: "http", authority: "x", path: "/v1/subscribe?channel=a&after=earliest")
        request.headerFields[.accept] = "text/event-stream"
        for _ in 0..<streams { _ = try #require(client.request(request)) }
        var received: [HTTP2StreamID: String] = [:]
        for round in 0..<2000 {
            var bytes: [UInt8] = []
            client.send(into: &bytes, bytesMax: 1 << 20)
            if !bytes.isEmpty { try channel.writeInbound(ByteBuffer(bytes: bytes)) }
            bench.drain()
            dam.letThrough()
            bench.drain()
            while var buffer = try channel.readOutbound(as: ByteBuffer.self) {
                try buffer.readBytes(length: buffer.readableBytes)!.withUnsafeBytes { try client.receive($0, nowMilliseconds: 0) }
            }
            while let event = client.nextEvent() {
                if case .body(let stream, let bytes) = event { received[stream, default: ""] += String(decoding: bytes, as: UTF8.self) }
            }
            // New ones come meanwhile, also while the socket is full.
            if round < 50 { bench.publish("a", "\"\(count + round + 1) y\"") }
        }
        #expect(received.count == streams)
        for text in received.values {
            let numbers = text.matches(of: /"sequence":(\d+)/).map { Int($0.1)! }
            #expect(numbers == Array(1...count + 50))
        }
    }

    @Test("a client that asks and does not read is answered no further, until it reads")
    func clogged() throws {
        let bench = Bench()
        let dam = Dam()
        dam.isShut = true
        let channel = try bench.connect(behind: dam)
        let count = 2000
        try channel.writeInbound(ByteBuffer(string: String(repeating: "GET /n HTTP/1.1\r\nHost: x\r\n\r\n", count: count)))
        let connection = try channel.pipeline.syncOperations.handler(type: Connection.self)
        #expect(connection.pendingBytes > 64 << 10)
        #expect(connection.pendingBytes < 68 << 10)
        var answers = 0
        for _ in 0..<100 {
            dam.letThrough()
            bench.drain()
            answers += try Bench.output(channel).components("HTTP/1.1 404").count
        }
        #expect(answers == count)
    }

    @Test("pages of other origins are refused unless the configuration lets them in")
    func origins() throws {
        func status(_ allowed: [String], _ origin: String) throws -> String {
            let bench = Bench { $0.allowedOrigins = allowed }
            let channel = try bench.connect()
            try channel.writeInbound(ByteBuffer(string: "GET /healthz HTTP/1.1\r\nHost: x:80\r\nOrigin: \(origin)\r\n\r\n"))
            return String(try Bench.output(channel).dropFirst(9).prefix(3))
        }
        #expect(try status([], "http://evil.example") == "403")
        #expect(try status([], "null") == "403")
        #expect(try status([], "http://x:80") == "200")
        #expect(try status(["https://good.example"], "https://good.example") == "200")
        #expect(try status(["https://good.example"], "https://good.example.evil") == "403")
        #expect(try status(["*"], "http://evil.example") == "200")
    }

    @Test("connections over the limit are closed at once")
    func limit() throws {
        let bench = Bench { $0.connectionsMax = 2 }
        let channels = try (0..<3).map { _ in try bench.connect() }
        #expect(channels.map(\.isActive) == [true, true, false])
        #expect(bench.loop.server.connectionsRefused == 1)
        _ = try channels[0].finish()
        #expect(try bench.connect().isActive)
    }
}

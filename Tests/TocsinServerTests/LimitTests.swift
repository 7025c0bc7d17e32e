import Limits
import NIOCore
import NIOEmbedded
import Testing

@testable import TocsinServer

/// Limits on whole connections, without a network.
@Suite struct LimitTests {
    private static func publish(_ channel: EmbeddedChannel) throws -> String {
        try channel.writeInbound(ByteBuffer(string: "POST /v1/channels/a.b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1"))
        channel.embeddedEventLoop.run()
        return try Bench.output(channel)
    }

    private static func text(_ text: String, _ channel: EmbeddedChannel) throws {
        let mask: [UInt8] = [1, 2, 3, 4]
        let payload = zip(text.utf8, 0...).map { $0 ^ mask[$1 % 4] }
        precondition(payload.count < 126)
        try channel.writeInbound(ByteBuffer(bytes: [0x81, 0x80 | UInt8(payload.count)] + mask + payload))
        channel.embeddedEventLoop.run()
    }

    private static let handshake =
        "GET /v1/subscribe?channel=a HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

    @Test("connections of an address over its limit are told so unasked, others are not; a place that is left can be had again")
    func connectionsOfAddress() throws {
        let bench = Bench { $0.limits.connectionsPerAddressMax = 2 }
        let first = try bench.connect(from: "192.0.2.7")
        _ = try bench.connect(from: "::ffff:192.0.2.7")
        let third = try bench.connect(from: "192.0.2.7")
        let answer = try Bench.output(third)
        #expect(answer.hasPrefix("HTTP/1.1 429 ") && answer.contains("Retry-After: 5\r\n") && answer.contains("Connection: close\r\n"))
        #expect(answer.contains("\"type\":\"/problems/too-many-connections\"") && answer.contains("\"rule\":\"connections_per_address\""))
        #expect(!third.isActive)
        #expect(try Self.publish(bench.connect(from: "192.0.2.8")).hasPrefix("HTTP/1.1 201 "))
        try first.close().wait()
        #expect(try Self.publish(bench.connect(from: "192.0.2.7")).hasPrefix("HTTP/1.1 201 "))
        #expect(try Bench.output(bench.connect(from: "192.0.2.7")).hasPrefix("HTTP/1.1 429 "))
        #expect(bench.loop.server.limits.exposition.contains("tocsin_limit_refusals_total{limit=\"connections_per_address\"} 2\n"))
    }

    @Test("addresses of one /64 share its limit")
    func connectionsOfNetwork() throws {
        let bench = Bench {
            $0.limits.connectionsPerAddressMax = 2
            $0.limits.connectionsPerNetworkMax = 3
        }
        for host in 1...3 { #expect(try Bench.output(bench.connect(from: "2001:db8::\(host)")) == "") }
        #expect(try Bench.output(bench.connect(from: "2001:db8::9")).contains("connections_per_network"))
        #expect(try Bench.output(bench.connect(from: "2001:db8:0:1::9")) == "")
        #expect(try Bench.output(bench.connect(from: "2001:db8:0:1::9")) == "")
        #expect(try Bench.output(bench.connect(from: "2001:db8:0:1::9")).contains("connections_per_address"))
    }

    @Test("connections in all: 503 with a slot of its own for each")
    func connectionsInAll() throws {
        let bench = Bench { $0.limits.connectionsMax = 3 }
        for host in 1...3 { #expect(try Bench.output(bench.connect(from: "192.0.2.\(host)")) == "") }
        let answer = try Bench.output(bench.connect(from: "192.0.2.4"))
        #expect(answer.hasPrefix("HTTP/1.1 503 ") && answer.contains("Retry-After: "), "\(answer)")
    }

    @Test("attempts of an address have a rate, unless they come from where they need none")
    func attempts() throws {
        let bench = Bench {
            $0.limits.attemptsPerAddress = RateLimit(perSecond: 1, burst: 2)
            $0.limits.attemptsExempt = NetworkRange.local
        }
        func isRefused(_ address: String) -> Bool { bench.loop.server.limits.refusal(of: NetworkAddress(address)!) != nil }
        #expect((0..<4).map { _ in isRefused("192.0.2.7") } == [false, false, true, true])
        #expect((0..<4).map { isRefused("2001:db8::\($0)") } == [false, false, true, true])
        #expect((0..<4).map { _ in isRefused("10.9.8.7") } == [false, false, false, false])
    }

    @Test("publications over the rate are refused with 429, and go on when time has passed")
    func publishes() throws {
        let bench = Bench { $0.limits.publishesPerConnection = RateLimit(perSecond: 1, burst: 3) }
        let channel = try bench.connect()
        for _ in 0..<3 { #expect(try Self.publish(channel).hasPrefix("HTTP/1.1 201 ")) }
        let answer = try Self.publish(channel)
        #expect(
            answer.hasPrefix("HTTP/1.1 429 ") && answer.contains("Retry-After: 1\r\n")
                && answer.contains("\"publish_rate (--publish-rate)\""))
        #expect(channel.isActive)
        #expect(try Self.publish(bench.connect()).hasPrefix("HTTP/1.1 201 "))
    }

    @Test("a batch counts as so many publications")
    func batch() throws {
        let bench = Bench { $0.limits.publishesPerConnection = RateLimit(perSecond: 1, burst: 3) }
        let channel = try bench.connect()
        func batch(_ count: Int) throws -> String {
            let body = "[" + Array(repeating: #"{"channel":"a.b","data":1}"#, count: count).joined(separator: ",") + "]"
            try channel.writeInbound(
                ByteBuffer(string: "POST /v1/publish HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"))
            bench.drain()
            return try Bench.output(channel)
        }
        #expect(try batch(2).hasPrefix("HTTP/1.1 201 "))
        #expect(try batch(2).hasPrefix("HTTP/1.1 429 "))
        #expect(try batch(1).hasPrefix("HTTP/1.1 201 "))
        #expect(try batch(1).hasPrefix("HTTP/1.1 429 "))
    }

    @Test("a WebSocket that says too much is told when to come back, and closed with 1008")
    func commands() throws {
        let bench = Bench { $0.limits.commandsPerConnection = RateLimit(perSecond: 1, burst: 3) }
        let channel = try bench.connect()
        try channel.writeInbound(ByteBuffer(string: Self.handshake))
        bench.drain()
        _ = try Bench.output(channel)
        for number in 1...3 {
            try Self.text(#"{"id":\#(number),"type":"ping"}"#, channel)
            #expect(try Bench.output(channel).contains("\"type\":\"reply\",\"id\":\(number)"))
        }
        try Self.text(#"{"id":4,"type":"ping"}"#, channel)
        let end = try #require(try channel.readAllOutbound())
        let text = String(decoding: end, as: UTF8.self)
        #expect(text.contains(#"{"type":"going-away","retry_after_ms":1000}"#) && text.contains("too-many-commands-a-second"))
        #expect(end.containsSequence([0x03, 0xf0]), "1008")
        bench.pass(seconds: 5)
        #expect(!channel.isActive)
    }

    @Test("publications over a WebSocket count, too")
    func publishesOfWebSocket() throws {
        let bench = Bench { $0.limits.publishesPerConnection = RateLimit(perSecond: 1, burst: 2) }
        let channel = try bench.connect()
        try channel.writeInbound(ByteBuffer(string: Self.handshake))
        bench.drain()
        for number in 1...2 { try Self.text(#"{"id":\#(number),"type":"publish","channel":"b","data":1}"#, channel) }
        let before = try Bench.output(channel)
        #expect(before.contains("\"sequence\":2"), "\(before)")
        try Self.text(#"{"id":3,"type":"publish","channel":"b","data":1}"#, channel)
        let end = String(decoding: try channel.readAllOutbound() ?? [], as: UTF8.self)
        #expect(end.contains("too-many-publishes") && !end.contains("\"sequence\":3"))
        #expect(bench.loop.server.log.head == 2)
    }

    @Test("bytes over the rate: the next request is refused")
    func bytes() throws {
        let bench = Bench { $0.limits.bytesPerConnection = RateLimit(perSecond: 10, burst: 1000) }
        let channel = try bench.connect()
        #expect(try Self.publish(channel).hasPrefix("HTTP/1.1 201 "))
        let body = String(repeating: " ", count: 2000) + "1"
        try channel.writeInbound(ByteBuffer(string: "POST /v1/channels/a.b HTTP/1.1\r\nHost: x\r\nContent-Length: 2001\r\n\r\n" + body))
        bench.drain()
        let answer = try Bench.output(channel)
        #expect(answer.hasPrefix("HTTP/1.1 429 ") && answer.contains("byte_rate"), "\(answer)")
        #expect(bench.loop.server.log.head == 1)
    }

    // MARK: the PROXY protocol

    private static func proxied(_ change: @escaping (inout LimitConfiguration) -> Void = { _ in }) -> Bench {
        Bench {
            $0.limits.proxyProtocolSources = [NetworkRange("10.0.0.0/8")!]
            change(&$0.limits)
        }
    }

    private static let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

    @Test(
        "a connection is of whom the PROXY header says, from a source that is configured, in whatever pieces it comes",
        arguments: [1, 7, 1000])
    func header(step: Int) throws {
        let bench = Self.proxied()
        let channel = try bench.connect(from: "10.0.0.1")
        let bytes = Array(("PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n" + Self.request).utf8)
        for start in stride(from: 0, to: bytes.count, by: step) {
            try channel.writeInbound(ByteBuffer(bytes: bytes[start..<min(bytes.count, start + step)]))
        }
        bench.drain()
        #expect(try Bench.output(channel).hasPrefix("HTTP/1.1 200 "))
        let connection = try channel.pipeline.syncOperations.handler(type: Connection.self)
        #expect(connection.address.description == "192.0.2.7")
    }

    @Test("without a header a configured source is not served; nobody else may send one")
    func noHeader() throws {
        let bench = Self.proxied()
        let silent = try bench.connect(from: "10.0.0.1")
        _ = try? silent.writeInbound(ByteBuffer(string: Self.request))
        #expect(try Bench.output(silent) == "" && !silent.isActive)
        #expect(bench.loop.counters.faults["proxy"] == 1)
        let other = try bench.connect(from: "192.0.2.66")
        try other.writeInbound(ByteBuffer(string: "PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n" + Self.request))
        #expect(try Bench.output(other).hasPrefix("HTTP/1.1 400 "))
        let late = try bench.connect(from: "10.0.0.1")
        bench.pass(seconds: 12)
        #expect(!late.isActive)
    }

    @Test("the limits of an address are those of the one that the header names; the proxy has none")
    func headerLimits() throws {
        let bench = Self.proxied { $0.connectionsPerAddressMax = 1 }
        func connect(_ address: String) throws -> String {
            let channel = try bench.connect(from: "10.0.0.1")
            _ = try? channel.writeInbound(ByteBuffer(string: "PROXY TCP4 \(address) 10.0.0.1 4711 80\r\n" + Self.request))
            bench.drain()
            return try Bench.output(channel)
        }
        #expect(try connect("192.0.2.7").hasPrefix("HTTP/1.1 200 "))
        #expect(try connect("192.0.2.7").hasPrefix("HTTP/1.1 429 "))
        #expect(try connect("192.0.2.8").hasPrefix("HTTP/1.1 200 "))
    }

    @Test("behind a trusted proxy a subscription is of whom the field names, read from the right")
    func forwarded() throws {
        let bench = Bench {
            $0.limits.trustedProxies = [NetworkRange("10.0.0.0/8")!]
            $0.limits.connectionsPerAddressMax = 1
        }
        func subscribe(_ field: String, from peer: String = "10.0.0.1") throws -> (answer: String, channel: EmbeddedChannel) {
            let channel = try bench.connect(from: peer)
            let head = "GET /v1/subscribe?channel=a HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nX-Forwarded-For: \(field)\r\n\r\n"
            try channel.writeInbound(ByteBuffer(string: head))
            bench.drain()
            return (try Bench.output(channel), channel)
        }
        let first = try subscribe("192.0.2.7")
        #expect(first.answer.hasPrefix("HTTP/1.1 200 "))
        #expect(try subscribe("192.0.2.7").answer.hasPrefix("HTTP/1.1 429 "))
        #expect(try subscribe("192.0.2.66, 192.0.2.7, 10.0.0.9").answer.hasPrefix("HTTP/1.1 429 "))
        #expect(try subscribe("192.0.2.7, 192.0.2.8").answer.hasPrefix("HTTP/1.1 200 "))
        // Somebody else cannot take the place of another.
        #expect(try subscribe("192.0.2.9", from: "203.0.113.1").answer.hasPrefix("HTTP/1.1 200 "))
        #expect(try subscribe("192.0.2.9").answer.hasPrefix("HTTP/1.1 200 "))
        try first.channel.close().wait()
        #expect(try subscribe("192.0.2.7").answer.hasPrefix("HTTP/1.1 200 "))
    }

    // MARK: leaving

    @Test("a drain gives each client its own slot, evenly over the time")
    func slots() throws {
        let bench = Bench()
        let channels = try (0..<40).map { _ in try bench.connect() }
        for channel in channels {
            try channel.writeInbound(
                ByteBuffer(string: "GET /v1/subscribe?channel=a HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"))
        }
        bench.drain()
        for channel in channels { _ = try Bench.output(channel) }
        bench.loop.leave(spreadMilliseconds: 40_200)
        let slots = try channels.map { channel in
            let text = try Bench.output(channel)
            return try #require(text.firstMatch(of: /"retry_after_ms":(\d+)/).flatMap { Int($0.1) }, "\(text)")
        }
        let parts = Dictionary(grouping: slots) { ($0 - 200) / 4000 }.mapValues(\.count)
        #expect((0..<10).allSatisfy { (3...5).contains(parts[$0] ?? 0) }, "\(slots)")
    }

    @Test("the longest idle go first, those with alerts last")
    func ranks() throws {
        let bench = Bench()
        func subscribe(_ channel: String) throws -> Connection {
            let embedded = try bench.connect()
            try embedded.writeInbound(
                ByteBuffer(string: "GET /v1/subscribe?channel=\(channel) HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"))
            bench.drain()
            return try embedded.pipeline.syncOperations.handler(type: Connection.self)
        }
        let idle = try bench.connect().pipeline.syncOperations.handler(type: Connection.self)
        let alerts = try subscribe("alerts.a")
        let everything = try subscribe("%3E")
        let early = try subscribe("scores.a")
        bench.pass(seconds: 2)
        let late = try subscribe("scores.a")
        let ranks = [idle, early, late, alerts, everything].map { $0.sheddingRank ?? 0 }
        #expect(ranks[0] < ranks[1] && ranks[1] < ranks[2] && ranks[2] < ranks[3] && ranks[2] < ranks[4], "\(ranks)")
    }

    @Test("only who asks from this host itself may drain")
    func administrators() throws {
        let bench = Bench()
        func ask(_ fields: String = "", _ target: String = "/v1/admin/drain?over=60s", from peer: String = "127.0.0.1") throws -> String {
            let channel = try bench.connect(from: peer)
            try channel.writeInbound(ByteBuffer(string: "POST \(target) HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\(fields)\r\n"))
            bench.drain()
            return try Bench.output(channel)
        }
        #expect(try ask(from: "192.0.2.7").hasPrefix("HTTP/1.1 403 "))
        for field in [
            "X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Real-IP: 127.0.0.1", "Via: 1.1 x", "Origin: http://localhost",
            "Sec-Fetch-Site: none",
        ] {
            #expect(try ask(field + "\r\n").hasPrefix("HTTP/1.1 403 "), "\(field)")
        }
        for target in ["/v1/admin/drain?over=x", "/v1/admin/drain?over=-1s", "/v1/admin/drain?over=61m", "/v1/admin/drain?under=1s"] {
            #expect(try ask("", target).hasPrefix("HTTP/1.1 400 "), "\(target)")
        }
        #expect(!bench.loop.server.isDraining)
        #expect(try ask().hasPrefix("HTTP/1.1 202 "))
        #expect(bench.loop.server.isDraining)
    }
}

extension EmbeddedChannel {
    fileprivate func readAllOutbound() throws -> [UInt8]? {
        var bytes: [UInt8] = []
        while let buffer = try readOutbound(as: ByteBuffer.self) { bytes += buffer.readableBytesView }
        return bytes.isEmpty ? nil : bytes
    }
}

extension [UInt8] {
    fileprivate func containsSequence(_ other: [UInt8]) -> Bool { indices.contains { self[$0...].starts(with: other) } }
}

import NIOCore
import NIOEmbedded
import NotificationCore
import Testing

@testable import TocsinServer

/// A client that polls again with the same words on the same connection.
@Suite struct RepeatedPollTests {
    private static func request(_ number: UInt64, _ rest: String = "", host: String = "x") -> String {
        "GET /v1/subscribe?channel=a&after=000000000abc.\(number)\(rest) HTTP/1.1\r\nHost: \(host)\r\nPrefer: wait=3\r\nAccept: */*\r\n\r\n"
    }

    /// A connection that has had an answer.
    private func connect(_ bench: Bench) throws -> EmbeddedChannel {
        let channel = try bench.connect()
        try ask(channel, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        _ = try Bench.output(channel)
        return channel
    }

    private func ask(_ channel: EmbeddedChannel, _ request: String, inParts: Bool = false) throws {
        if inParts {
            try channel.writeInbound(ByteBuffer(string: String(request.prefix(20))))
            try channel.writeInbound(ByteBuffer(string: String(request.dropFirst(20))))
        } else {
            try channel.writeInbound(ByteBuffer(string: request))
        }
    }

    @Test("it gets, byte for byte, what one gets whose polls are read each time", arguments: [false, true])
    func sameAnswers(hasSession: Bool) throws {
        let bench = Bench()
        let (repeating, reading) = (try connect(bench), try connect(bench))
        var rest = ""
        if hasSession {
            try ask(repeating, "GET /v1/subscribe?channel=a&session=new HTTP/1.1\r\nHost: x\r\n\r\n")
            let answer = try Bench.output(repeating)
            rest = "&session=" + answer.components("\"session\":\"")[0].prefix(40)
        }
        func stripped(_ text: String) -> String {
            text.split(separator: "\r\n").filter { !$0.hasPrefix("Date:") && !$0.hasPrefix("date:") }.joined(separator: "\n")
        }
        var number: UInt64 = 0
        for round in 0..<30 {
            let isBehind = round % 6 == 5
            if isBehind { for data in [1, 2] { bench.publish("a", "\(round)\(data)") } }
            try ask(repeating, Self.request(number, rest))
            try ask(reading, Self.request(number, rest), inParts: true)
            if round % 6 == 4 {
                bench.publish("b", "\(round)")
                bench.pass(seconds: 4)
            } else if !isBehind {
                bench.publish("a", "\(round)")
            }
            number = bench.loop.hub.head
            let answer = try Bench.output(repeating)
            #expect(answer.contains("\"position\":\"000000000abc.\(number)\""), "round \(round): \(answer)")
            #expect(stripped(answer) == stripped(try Bench.output(reading)))
            #expect(answer.contains("\"session\":\"") == hasSession)
            #expect(bench.loop.counters.subscribers == [0, 0, 0])
            // Of the first one the subscriber stays.
            #expect(bench.loop.hub.subscriberCount == 1)
        }
    }

    @Test("one that asks from elsewhere, or for something else, gets what it asks for; closing gives all back")
    func otherRequests() throws {
        let bench = Bench()
        let channel = try connect(bench)
        for data in 1...3 { bench.publish("a", "\(data)") }
        try ask(channel, Self.request(2))
        #expect(try Bench.output(channel).contains("\"data\":3}"))
        #expect(bench.loop.hub.subscriberCount == 1)
        // The answer was lost on the way.
        try ask(channel, Self.request(2))
        #expect(try Bench.output(channel).contains("\"data\":3}"))
        for (request, word) in [
            (Self.request(1), "\"data\":2}"), ("GET /v1/subscribe?channel=a HTTP/1.1\r\nHost: x\r\n\r\n", "\"messages\":[]"),
            (Self.request(99), "\"reason\":\"epoch\""),
            ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "ok"), (Self.request(2, host: "other"), "\"data\":3}"),
            (Self.request(2) + Self.request(2), "\"data\":3}"),
        ] {
            try ask(channel, Self.request(2))
            #expect(try Bench.output(channel).contains("\"data\":3}"))
            try ask(channel, request)
            bench.drain()
            let answer = try Bench.output(channel)
            #expect(answer.contains(word), "\(request) -> \(answer)")
            #expect(bench.loop.hub.subscriberCount <= 1)
        }
        try ask(channel, Self.request(3))
        #expect(bench.loop.counters.subscribers == [0, 0, 1])
        try channel.close().wait()
        bench.eventLoop.run()
        #expect(bench.loop.hub.subscriberCount == 0 && bench.loop.counters.subscribers == [0, 0, 0])
        let other = try connect(bench)
        try ask(other, Self.request(2))
        #expect(bench.loop.hub.subscriberCount == 1)
        try other.close().wait()
        bench.eventLoop.run()
        #expect(bench.loop.hub.subscriberCount == 0 && bench.loop.hub.patternCount == 0)
    }

    @Test("between two polls nothing is handed out, though the log has answered meanwhile")
    func betweenPolls() throws {
        let bench = Bench()
        let channel = try connect(bench)
        bench.publish("a", "1")
        try ask(channel, Self.request(0))
        #expect(try Bench.output(channel).contains("\"data\":1}"))
        guard case .http1(let exchange)? = bench.loop.connections[0]?.state, let repeated = exchange.repeated else {
            Issue.record("the poll is not expected again")
            return
        }
        bench.publish("a", "2")
        bench.loop.readOn(repeated.subscriber)
        bench.drain()
        #expect(try Bench.output(channel) == "")
        try ask(channel, Self.request(1))
        #expect(try Bench.output(channel).contains("\"data\":2}"))
    }

    @Test("a server that goes down does not take it again")
    func draining() throws {
        let bench = Bench()
        let channel = try connect(bench)
        bench.publish("a", "1")
        try ask(channel, Self.request(0))
        #expect(try Bench.output(channel).contains("\"data\":1}"))
        bench.loop.server.beginDraining(overMilliseconds: 1000)
        try ask(channel, Self.request(1))
        let answer = try Bench.output(channel)
        #expect(answer.hasPrefix("HTTP/1.1 503 ") && answer.contains("Connection: close"))
        #expect(bench.loop.hub.subscriberCount == 0)
    }

    @Test(
        "the number of the position is found where there is one, and only there",
        arguments: [
            ("/v1/subscribe?channel=a&after=000000000abc.12", true), ("/v1/subscribe?after=000000000abc.0&channel=a", true),
            ("/v1/subscribe?channel=a&after=000000000abd.12", false), ("/v1/subscribe?channel=a&after=latest", false),
            ("/v1/subscribe?channel=a&after=000000000abc.1-2-3-4", false), ("/v1/subscribe?channel=a&after=000000000abc.n", false),
            ("/v1/subscribe?channel=a&xafter=000000000abc.12", false), ("/v1/subscribe?after=000000000abc.1&after=000000000abc.2", false),
            ("/v1/subscribe?channel=a&after=000000000abc.", false), ("/v1/subscribe?channel=after=000000000abc.1", false),
        ])
    func places(_ target: String, _ isFound: Bool) throws {
        let repeated = RepeatedPoll(
            ParkedPoll(
                subscribers: [], isList: false, session: nil, waitSeconds: 1, dueTick: 0, isImmediate: false, closes: false,
                room: Hub.Room(notifications: 1, bytes: 1), token: nil
            ), sessionText: [], accessGeneration: 0
        )
        let bytes = Array("GET \(target) HTTP/1.1\r\nHost: after=000000000abc.7\r\n\r\n".utf8)
        #expect(bytes.withUnsafeBytes { repeated.remember($0, epoch: LogEpoch(random: 0xabc)) } == isFound)
        guard isFound else { return }
        let parts = String(decoding: bytes, as: UTF8.self).split(separator: "000000000abc.", omittingEmptySubsequences: false)
        let (before, after) = (String(parts[0]) + "000000000abc.", String(parts[1].drop { $0.isNumber }) + "000000000abc." + parts[2])
        func number(_ text: String) -> UInt64? { Array((before + text + after).utf8).withUnsafeBytes { repeated.offset(in: $0) } }
        #expect(number("0") == 0 && number("7") == 7 && number("\(UInt64.max)") == UInt64.max)
        for text in ["", "01", "18446744073709551616", "1a", "-1", "123456789012345678901", " 1"] { #expect(number(text) == nil) }
        #expect(Array((before + "1" + after + "x").utf8).withUnsafeBytes { repeated.offset(in: $0) } == nil)
    }
}

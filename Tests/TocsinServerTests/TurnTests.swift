import HTTP2Session
import HTTPTypes
import Limits
import NIOCore
import NIOEmbedded
import NotificationCore
import Testing

@testable import TocsinServer

@Suite struct TurnTests {
    private static let get = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

    private func answers(_ channel: EmbeddedChannel) throws -> Int {
        try Bench.output(channel).components("HTTP/1.1 ").count
    }

    @Test("a turn is over when its time is, the jobs left have the next, which is no sooner than the loop has looked at its sockets")
    func turns() {
        let eventLoop = EmbeddedEventLoop()
        let clock = TestClock(step: TurnQueue.turnNanoseconds / 4)
        var done = 0
        let queue = TurnQueue(eventLoop: eventLoop, nanoseconds: clock.read) { _ in done += 1 }
        for _ in 0..<7 { queue.add(.readsAhead) }
        eventLoop.run()
        #expect(done == 0)
        eventLoop.advanceTime(by: TurnQueue.pause)
        #expect(done == 4)
        eventLoop.run()
        #expect(done == 4)
        eventLoop.advanceTime(by: TurnQueue.pause)
        #expect(done == 7)
        #expect(queue.count == 0)
    }

    @Test("however many newcomers wait, those who are there have every second job")
    func newcomers() {
        let eventLoop = EmbeddedEventLoop()
        var done: [Bool] = []
        let clock = TestClock(step: TurnQueue.turnNanoseconds / 8)
        let queue = TurnQueue(eventLoop: eventLoop, nanoseconds: clock.read) { job in
            if case .entries = job { done.append(true) } else { done.append(false) }
        }
        for _ in 0..<100 { queue.add(.entries, isNewcomer: true) }
        for _ in 0..<4 { queue.add(.readsAhead) }
        eventLoop.advanceTime(by: TurnQueue.pause)
        #expect(done == [true, false, true, false, true, false, true, false])
        for _ in 0..<12 { eventLoop.advanceTime(by: TurnQueue.pause) }
        #expect(done.count == 104 && queue.count == 0)
    }

    private static func accepted(_ number: Int32) -> AcceptedConnection {
        AcceptedConnection(descriptor: number, peer: PeerAddress(.unknown, port: 1), isTLS: false)
    }

    @Test("connections enter some at a time, in the order in which they came")
    func entries() {
        let queue = EntryQueue()
        #expect(queue.append((0..<7).map(Self.accepted)))
        #expect(!queue.append((7..<10).map(Self.accepted)))
        var turns: [[Int32]] = []
        var isMore = true
        while isMore {
            let turn = queue.take()
            turns.append(turn.now.map(\.descriptor))
            isMore = turn.isMore
        }
        #expect(turns == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]])
        #expect(queue.append([Self.accepted(10)]))
        #expect(queue.takeAll().map(\.descriptor) == [10])
    }

    @Test("of connections that wait to enter there are no more than there is room for, and the listeners are told of room once")
    func entryRoom() {
        let room = EntryRoom()
        let most = EntryRoom.waitingMax
        #expect(room.add(most - 1))
        #expect(!room.left(most - 1))
        #expect(room.add(most - 1))
        #expect(!room.add(1))
        #expect(!room.left(most / 2))
        #expect(room.left(1))
        #expect(!room.left(1))
    }

    @Test("a slice ends after its time, and a step outside of one may take as long as it likes")
    func slices() {
        let clock = TestClock(step: TurnQueue.sliceNanoseconds / 4)
        let queue = TurnQueue(eventLoop: EmbeddedEventLoop(), nanoseconds: clock.read) { _ in }
        var steps = 0
        let nanoseconds = queue.slice { repeat { steps += 1 } while queue.mayGoOn }
        #expect(steps == 4)
        #expect(nanoseconds > TurnQueue.sliceNanoseconds)
        #expect((0..<10).allSatisfy { _ in queue.mayGoOn })
    }

    @Test("many requests in one read are answered slice by slice; a request on another connection does not wait for them")
    func pipelined() throws {
        let bench = Bench(step: 20)
        let (greedy, modest) = (try bench.connect(), try bench.connect())
        try greedy.writeInbound(ByteBuffer(string: String(repeating: Self.get, count: 400)))
        let first = try answers(greedy)
        #expect((1...20).contains(first))
        let connection = try greedy.pipeline.syncOperations.handler(type: Connection.self)
        #expect(connection.isReadPaused)
        #expect(connection.heldBytes > 300 * Self.get.utf8.count)
        try modest.writeInbound(ByteBuffer(string: Self.get))
        #expect(try answers(modest) == 1)
        bench.turn()
        let second = try answers(greedy)
        #expect((1...40).contains(second))
        bench.drain()
        #expect(try answers(greedy) + first + second == 400)
        #expect(!connection.isReadPaused)
        #expect(connection.heldBytes == 0)
    }

    @Test("two that ask for much have their slices in turn")
    func roundRobin() throws {
        let bench = Bench(step: 20)
        let channels = try (0..<2).map { _ in try bench.connect() }
        for channel in channels { try channel.writeInbound(ByteBuffer(string: String(repeating: Self.get, count: 400))) }
        var counts = [0, 0]
        for _ in 0..<8 {
            bench.turn()
            for (number, channel) in channels.enumerated() { counts[number] += try answers(channel) }
        }
        #expect(counts.allSatisfy { (40...360).contains($0) }, "\(counts)")
        #expect(abs(counts[0] - counts[1]) < 50, "\(counts)")
    }

    @Test("a peer that has cost much waits for its turn with the next request too, until some time has passed")
    func costly() throws {
        let bench = Bench(step: 50)
        let channel = try bench.connect()
        for _ in 0..<2 {
            try channel.writeInbound(ByteBuffer(string: String(repeating: Self.get, count: 200)))
            bench.drain()
        }
        #expect(try answers(channel) == 400)
        try channel.writeInbound(ByteBuffer(string: Self.get))
        #expect(try answers(channel) == 0)
        bench.turn()
        #expect(try answers(channel) == 1)
        bench.pass(seconds: 3)
        try channel.writeInbound(ByteBuffer(string: Self.get))
        #expect(try answers(channel) == 1)
    }

    @Test("commands of a WebSocket are answered slice by slice, and messages for others go out between them")
    func commands() throws {
        let bench = Bench(step: 20)
        let (greedy, reader) = (try bench.connect(), try bench.connect())
        try greedy.writeInbound(
            ByteBuffer(
                string: "GET /v1/subscribe HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
        try reader.writeInbound(
            ByteBuffer(string: "GET /v1/subscribe?channel=a HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"))
        for channel in [greedy, reader] { _ = try Bench.output(channel) }
        let command: [UInt8] = [0x81, 0x8f, 0, 0, 0, 0] + Array(#"{"type":"ping"}"#.utf8)
        try greedy.writeInbound(ByteBuffer(bytes: (0..<2000).flatMap { _ in command }))
        let first = try Bench.output(greedy).components("\"reply\"").count
        #expect((1...500).contains(first))
        bench.publish("a", "1")
        #expect(try Bench.output(reader).contains("\"data\":1}"))
        bench.drain()
        #expect(try Bench.output(greedy).components("\"reply\"").count + first == 2000)
    }

    @Test("requests on many streams of HTTP/2 are answered slice by slice")
    func streams() throws {
        let bench = Bench(step: 100)
        let channel = try bench.connect()
        let client = HTTP2ClientSession(limits: HTTP2Limits())
        var bytes: [UInt8] = []
        client.send(into: &bytes, bytesMax: 1 << 20)
        try channel.writeInbound(ByteBuffer(bytes: bytes))
        var answered = 0
        func read() throws {
            while var buffer = try channel.readOutbound(as: ByteBuffer.self) {
                try buffer.readBytes(length: buffer.readableBytes)!.withUnsafeBytes { try client.receive($0, nowMilliseconds: 0) }
            }
            while let event = client.nextEvent() { if case .response = event { answered += 1 } }
        }
        try read()
        bench.pass(seconds: 1)
        for _ in 0..<100 { _ = client.request(HTTPRequest(method: .get, scheme: "http", authority: "x", path: "/healthz")) }
        bytes = []
        client.send(into: &bytes, bytesMax: 1 << 20)
        try channel.writeInbound(ByteBuffer(bytes: bytes))
        try read()
        #expect((1...10).contains(answered))
        bench.turn()
        try read()
        #expect((2...30).contains(answered))
        bench.drain()
        try read()
        #expect(answered == 100)
    }

    @Test("a subscriber that reads a long log does so page by page, and others are served in between")
    func replay() throws {
        let bench = Bench(step: 200)
        let text = "\"" + String(repeating: "x", count: 1000) + "\""
        for _ in 0..<20 {
            let publications = (0..<50).map { _ in Publication(channel: ChannelName("a")!, data: Array(text.utf8)) }
            bench.loop.server.log.append(AppendRequest(publications), from: bench.loop) { _ in }
            bench.eventLoop.run()
        }
        let (reader, modest) = (try bench.connect(), try bench.connect())
        try reader.writeInbound(
            ByteBuffer(string: "GET /v1/subscribe?channel=a&after=earliest HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"))
        let first = try Bench.output(reader).components("\"sequence\":").count
        #expect((1...300).contains(first))
        try modest.writeInbound(ByteBuffer(string: Self.get))
        #expect(try answers(modest) == 1)
        bench.drain()
        #expect(try Bench.output(reader).components("\"sequence\":").count + first == 1000)
    }

    @Test("a large body is taken apart away from the loop, and counts as parked meanwhile")
    func largeBody() throws {
        let bench = Bench()
        let (greedy, modest) = (try bench.connect(), try bench.connect())
        let body = "[" + String(repeating: "1,", count: 20_000) + "1]"
        try greedy.writeInbound(
            ByteBuffer(string: "POST /v1/channels/a HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)" + Self.get))
        #expect(bench.loop.parkedBytes == body.utf8.count)
        bench.eventLoop.run()
        #expect(try Bench.output(greedy) == "")
        try modest.writeInbound(ByteBuffer(string: Self.get))
        #expect(try answers(modest) == 1)
        bench.worker.run()
        bench.eventLoop.run()
        #expect(bench.loop.parkedBytes == 0)
        let statuses = try Bench.output(greedy).components("HTTP/1.1 ").map { $0.prefix(3) }
        #expect(statuses == ["201", "200"])
    }

    @Test("a connection that ends while it waits for its turn or for the worker leaves nothing behind")
    func endWhileWaiting() throws {
        let bench = Bench(step: 100)
        let channel = try bench.connect()
        let body = "[" + String(repeating: "1,", count: 20_000) + "1]"
        try channel.writeInbound(
            ByteBuffer(string: "POST /v1/channels/a HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"))
        while bench.loop.turns.count > 0 { bench.turn() }
        let other = try bench.connect()
        try other.writeInbound(ByteBuffer(string: String(repeating: Self.get, count: 100)))
        #expect(bench.loop.turns.count == 1)
        try channel.close().wait()
        try other.close().wait()
        bench.drain()
        #expect(bench.loop.turns.count == 0)
        #expect(bench.loop.parkedBytes == 0)
        #expect(bench.loop.counters.connections == 0)
        // The request had come as a whole: it counts, though nobody waits for the answer.
        #expect(bench.loop.server.log.head == 1)
    }
}

import Foundation
import JSONCodec
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import TocsinClient

/// Statuses of a client, collected.
private final class Statuses: Sendable {
    private let list = NIOLockedValueBox<[ClientStatus]>([])

    init(_ client: TocsinClient) {
        let stream = client.statuses
        Task { [list] in
            for await status in stream { list.withLockedValue { $0.append(status) } }
        }
    }

    var all: [ClientStatus] { list.withLockedValue { $0 } }
    var carriers: [ClientTransport] { all.compactMap(\.transport) }

    /// Waits, bounded, for a status.
    func wait(for what: String, _ isIt: (ClientStatus) -> Bool) async throws {
        for _ in 0..<1500 {
            if all.contains(where: isIt) { return }
            try await Task.sleep(for: .milliseconds(20))
        }
        Issue.record("no \(what): \(all.map(\.text))")
        throw CancellationError()
    }
}

private func number(_ message: ClientMessage) -> Int {
    Int((try? JSONSlice.minify(message.json))?["data"]?["n"]?.integer() ?? -1)
}

/// Takes `count` messages, or fewer if they do not come within a minute.
private func take(_ count: Int, of sequence: NotificationSequence) async throws -> [Int] {
    try await withThrowingTaskGroup(of: [Int]?.self) { group in
        group.addTask {
            var numbers: [Int] = []
            for try await message in sequence {
                numbers.append(number(message))
                if numbers.count == count { break }
            }
            return numbers
        }
        group.addTask {
            try? await Task.sleep(for: .seconds(60))
            return nil
        }
        defer { group.cancelAll() }
        return try #require(try await group.next() ?? nil, "the messages did not come")
    }
}

/// One after the other: the server that stands for a good one shares its event loop with the clients.
@Suite(.serialized, .timeLimit(.minutes(3))) struct ClientTests {
    private func configuration(
        _ server: FakeServer, _ transports: [ClientTransport] = ClientTransport.allCases
    ) -> ClientConfiguration {
        var configuration = ClientConfiguration(address: server.address)
        configuration.transports = transports
        configuration.memory = ProcessPathMemory()
        return configuration
    }

    /// Publishes 0, 1, 2, … with pauses, so that what happens meanwhile happens among them.
    private func publish(_ count: Int, _ channel: String, to server: FakeServer, every pause: Duration) async throws {
        for n in 0..<count {
            try await server.publish(channel, n)
            try await Task.sleep(for: pause)
        }
    }

    @Test("each transport alone brings everything, once", arguments: ClientTransport.allCases)
    func alone(_ transport: ClientTransport) async throws {
        let server = try await FakeServer.start()
        let client = try TocsinClient(configuration(server, [transport]))
        let statuses = Statuses(client)
        let messages = try await client.subscribe(["a.>"], after: "earliest")
        async let published: Void = publish(20, "a.b", to: server, every: .milliseconds(20))
        #expect(try await take(20, of: messages) == Array(0..<20))
        try await published
        #expect(messages.lost == 0 && messages.duplicates == 0)
        #expect(Set(statuses.carriers) == [transport])
        await client.close()
        try await server.stop()
    }

    @Test("upgrades that are refused: Server-Sent Events carry")
    func refusedUpgrades() async throws {
        let server = try await FakeServer.start(Behaviour(refusesUpgrades: true))
        let client = try TocsinClient(configuration(server))
        let statuses = Statuses(client)
        let messages = try await client.subscribe(["a"], after: "earliest")
        async let published: Void = publish(30, "a", to: server, every: .milliseconds(50))
        #expect(try await take(30, of: messages) == Array(0..<30))
        try await published
        try await statuses.wait(for: "live over SSE") { $0.transport == .eventStream && $0.state == .live }
        #expect(statuses.all.contains { $0.text == "live over Server-Sent Events: this network blocks WebSockets" })
        #expect(messages.lost == 0 && messages.duplicates == 0)
        await client.close()
        try await server.stop()
    }

    @Test("WebSockets that are killed after 300 ms: nothing is lost or repeated, and another transport carries")
    func killed() async throws {
        let server = try await FakeServer.start(Behaviour(killsWebSocketsAfter: .milliseconds(300)))
        let client = try TocsinClient(configuration(server))
        let statuses = Statuses(client)
        let messages = try await client.subscribe(["a"], after: "earliest")
        async let published: Void = publish(60, "a", to: server, every: .milliseconds(50))
        #expect(try await take(60, of: messages) == Array(0..<60))
        try await published
        try await statuses.wait(for: "live over SSE, blaming cuts") { $0.transport == .eventStream && $0.why == .cut }
        #expect(messages.lost == 0 && messages.duplicates == 0)
        await client.close()
        try await server.stop()
    }

    @Test("streams that are held: a poll carries, and a stream again when they are not held any more")
    func held() async throws {
        let server = try await FakeServer.start(Behaviour(holdsStreams: true))
        let client = try TocsinClient(configuration(server))
        let statuses = Statuses(client)
        let messages = try await client.subscribe(["a"], after: "earliest")
        async let published: Void = publish(30, "a", to: server, every: .milliseconds(100))
        try await statuses.wait(for: "polling") { $0.state == .polling }
        try await server.change { $0.holdsStreams = false }
        try await statuses.wait(for: "live again") { $0.state == .live && $0.transport == .webSocket }
        #expect(try await take(30, of: messages) == Array(0..<30))
        try await published
        #expect(messages.lost == 0 && messages.duplicates == 0)
        await client.close()
        try await server.stop()
    }

    @Test("a WebSocket that holds messages back is left for a poll, and what came is not repeated")
    func buffered() async throws {
        let server = try await FakeServer.start(Behaviour(holdsProbes: true))
        let client = try TocsinClient(configuration(server, [.webSocket, .longPoll]))
        let statuses = Statuses(client)
        let messages = try await client.subscribe(["a"], after: "earliest")
        async let published: Void = publish(40, "a", to: server, every: .milliseconds(50))
        #expect(try await take(40, of: messages) == Array(0..<40))
        try await published
        try await statuses.wait(for: "polling, blaming WebSockets") { $0.transport == .longPoll && $0.why == .buffered }
        #expect(messages.lost == 0 && messages.duplicates == 0)
        await client.close()
        try await server.stop()
    }

    @Test("a server that restarts: the slot it gives is kept, and nothing is lost or repeated", arguments: ClientTransport.allCases)
    func restart(_ transport: ClientTransport) async throws {
        let server = try await FakeServer.start()
        let client = try TocsinClient(configuration(server, [transport]))
        let statuses = Statuses(client)
        let messages = try await client.subscribe(["a"], after: "earliest")
        for n in 0..<10 { try await server.publish("a", n) }
        try await statuses.wait(for: "\(transport)") { $0.transport == transport }
        try await server.stop(goingAway: 200)
        for n in 10..<20 { try await server.publish("a", n) }
        try await statuses.wait(for: "waiting") { $0.state == .waiting }
        try await server.startAgain()
        #expect(try await take(20, of: messages) == Array(0..<20))
        if !transport.isPoll { #expect(statuses.all.contains { $0.text == "the server restarts: back in 0.2 s" }) }
        #expect(messages.lost == 0 && messages.duplicates == 0)
        await client.close()
        try await server.stop()
    }

    @Test(
        "a slow consumer is waited for: little is read ahead, and everything comes", arguments: [ClientTransport.webSocket, .eventStream])
    func slowConsumer(_ transport: ClientTransport) async throws {
        let server = try await FakeServer.start()
        let client = try TocsinClient(configuration(server, [transport]))
        let statuses = Statuses(client)
        let messages = try await client.subscribe(["a"], after: "earliest")
        try await statuses.wait(for: "\(transport)") { $0.state == .live }
        for n in 0..<400 { try await server.publish("a", n, pad: 100_000) }
        var numbers: [Int] = []
        for try await message in messages {
            if numbers.isEmpty {
                // Of 40 MB, what fits into the queues: the message queue's mebibyte and one message more.
                try await Task.sleep(for: .seconds(3))
                #expect(messages.hold.subscription.queue.weight < 1_500_000)
            }
            numbers.append(number(message))
            if numbers.count == 400 { break }
        }
        #expect(numbers == Array(0..<400))
        #expect(!statuses.all.contains { $0.state == .waiting })
        await client.close()
        try await server.stop()
    }

    @Test(
        "subscriptions that do not overlap share a connection; others have their own",
        arguments: [ClientTransport.webSocket, .eventStream, .longPoll])
    func sharing(_ transport: ClientTransport) async throws {
        let server = try await FakeServer.start()
        let client = try TocsinClient(configuration(server, [transport]))
        let statuses = Statuses(client)
        let first = try await client.subscribe(["a.*"], after: "earliest")
        try await statuses.wait(for: "\(transport)") { $0.transport == transport }
        let second = try await client.subscribe(["b"], after: "earliest")
        let third = try await client.subscribe(["a.x"], after: "earliest")
        try await Task.sleep(for: .milliseconds(500))
        for n in 0..<10 {
            try await server.publish("a.x", n)
            try await server.publish("b", n + 100)
        }
        #expect(try await take(10, of: first) == Array(0..<10))
        #expect(try await take(10, of: second) == Array(100..<110))
        #expect(try await take(10, of: third) == Array(0..<10))
        let seen = try await server.seen
        if transport == .longPoll {
            #expect(!seen.contains("subscribe"))
        } else {
            #expect(seen.filter { $0 == transport.rawValue }.count == 2, "\(seen)")
            #expect(seen.filter { $0 == "subscribe" }.count == 1, "\(seen)")
        }
        await client.close()
        try await server.stop()
    }

    @Test("through a forward proxy: WebSockets in a tunnel, the rest in absolute form", arguments: ClientTransport.allCases)
    func forwardProxy(_ transport: ClientTransport) async throws {
        let proxy = try await FakeServer.start()
        // Nobody could reach it by its name.
        var configuration = ClientConfiguration(address: try #require(ServerAddress("http://server.invalid:81")))
        configuration.proxy = proxy.address
        configuration.transports = [transport]
        configuration.memory = ProcessPathMemory()
        let client = try TocsinClient(configuration)
        let messages = try await client.subscribe(["a"], after: "earliest")
        async let published: Void = publish(5, "a", to: proxy, every: .milliseconds(20))
        #expect(try await take(5, of: messages) == Array(0..<5))
        try await published
        let tunnels = try await proxy.seen.filter { $0.hasPrefix("CONNECT") }
        #expect(tunnels == (transport == .webSocket ? ["CONNECT server.invalid:81"] : []))
        #expect(Set(try await proxy.authorities) == ["server.invalid:81"])
        await client.close()
        try await proxy.stop()
    }

    @Test("a request that the server does not take ends the client with its words")
    func refusedRequest() async throws {
        let server = try await FakeServer.start()
        let client = try TocsinClient(configuration(server))
        let messages = try await client.subscribe(["a..b"])
        let fault = await #expect(throws: ClientFault.self) { _ = try await take(1, of: messages) }
        #expect(fault?.isFinal == true && fault?.description.contains("an empty token") == true)
        await client.close()
        try await server.stop()
    }

    @Test("one of several that the server does not take ends alone, and a client that was refused may ask anew")
    func refusedSubscription() async throws {
        let server = try await FakeServer.start()
        for transport in ClientTransport.allCases {
            let client = try TocsinClient(configuration(server, [transport]))
            let alone = try await client.subscribe(["a..b"])
            await #expect(throws: ClientFault.self) { _ = try await take(1, of: alone) }
            let first = try await client.subscribe(["a"], after: "earliest")
            let bad = try await client.subscribe(["a..b"])
            let last = try await client.subscribe(["c"], after: "earliest")
            try await server.publish("a", 1)
            try await server.publish("c", 2)
            #expect(try await take(1, of: first) == [1])
            #expect(try await take(1, of: last) == [2])
            let fault = await #expect(throws: ClientFault.self) { _ = try await take(1, of: bad) }
            #expect(fault?.isFinal == true && fault?.description.contains("an empty token") == true)
            await client.close()
            try await server.stop()
            try await server.startAgain()
        }
        try await server.stop()
    }

    @Test("what works is remembered too, though it is found before the server names the network")
    func working() async throws {
        let server = try await FakeServer.start(Behaviour())
        var configuration = configuration(server)
        let memory = ProcessPathMemory()
        configuration.memory = memory
        configuration.transports = [.longPoll]
        let client = try TocsinClient(configuration)
        let messages = try await client.subscribe(["a"], after: "earliest")
        for _ in 0..<500 where memory.verdicts(of: server.address, on: "n1").isEmpty { try await Task.sleep(for: .milliseconds(20)) }
        #expect(memory.verdicts(of: server.address, on: "n1").map(\.verdict) == [.clear])
        withExtendedLifetime(messages) {}
        await client.close()
        try await server.stop()
    }

    @Test("verdicts are told to the server, and known at the next start")
    func verdicts() async throws {
        let server = try await FakeServer.start(Behaviour(refusesUpgrades: true))
        var configuration = configuration(server)
        let memory = ProcessPathMemory()
        configuration.memory = memory
        for round in 0..<2 {
            let before = try await server.seen.count
            let client = try TocsinClient(configuration)
            let statuses = Statuses(client)
            let messages = try await client.subscribe(["a"], after: "earliest")
            try await statuses.wait(for: "SSE") { $0.transport == .eventStream }
            for _ in 0..<500 where !memory.verdicts(of: server.address, on: "n1").contains(where: { $0.verdict == .blocked }) {
                try await Task.sleep(for: .milliseconds(20))
            }
            #expect(memory.verdicts(of: server.address, on: "n1").contains { $0.transport == .webSocket && $0.verdict == .blocked })
            if round == 0 {
                for _ in 0..<100 where try await !server.seen.contains("path") { try await Task.sleep(for: .milliseconds(20)) }
                #expect(try await server.seen.contains("path"))
            }
            #expect(try await server.seen[before] == (round == 0 ? "websocket" : "sse"))
            withExtendedLifetime(messages) {}
            await client.close()
        }
        try await server.stop()
    }
}

@Suite(.serialized, .timeLimit(.minutes(2))) struct TokenTests {
    private final class Tokens: Sendable {
        private let left: NIOLockedValueBox<[String]>
        let asked = NIOLockedValueBox(0)

        init(_ tokens: [String]) {
            left = NIOLockedValueBox(tokens)
        }

        func next() -> String {
            asked.withLockedValue { $0 += 1 }
            return left.withLockedValue { $0.count > 1 ? $0.removeFirst() : $0[0] }
        }
    }

    private func client(_ server: FakeServer, _ transport: ClientTransport, _ tokens: Tokens) throws -> TocsinClient {
        var configuration = ClientConfiguration(address: server.address)
        configuration.transports = [transport]
        configuration.memory = ProcessPathMemory()
        configuration.token = .refreshing { tokens.next() }
        return try TocsinClient(configuration)
    }

    @Test("a refused token is asked for once more", arguments: ClientTransport.allCases)
    func renewed(_ transport: ClientTransport) async throws {
        let server = try await FakeServer.start(Behaviour(token: "good"))
        let tokens = Tokens(["old", "good"])
        let client = try client(server, transport, tokens)
        let messages = try await client.subscribe(["a"], after: "earliest")
        try await server.publish("a", 1)
        #expect(try await take(1, of: messages) == [1])
        #expect(tokens.asked.withLockedValue { $0 } == 2)
        await client.close()
        try await server.stop()
    }

    @Test("a token that is refused twice ends it: it never goes on without", arguments: ClientTransport.allCases)
    func refused(_ transport: ClientTransport) async throws {
        let server = try await FakeServer.start(Behaviour(token: "good"))
        let tokens = Tokens(["bad", "worse", "good"])
        let client = try client(server, transport, tokens)
        let statuses = Statuses(client)
        let messages = try await client.subscribe(["a"])
        let fault = await #expect(throws: ClientFault.self) { _ = try await take(1, of: messages) }
        #expect(fault?.isFinal == true)
        #expect(try await server.seen == ["401", "401"])
        try await statuses.wait(for: "refused") { $0.text == "refused: the token is not accepted" }
        await client.close()
        try await server.stop()
    }

    @Test("a token that is about to expire is renewed in place", arguments: [ClientTransport.webSocket, .eventStream])
    func inPlace(_ transport: ClientTransport) async throws {
        let server = try await FakeServer.start(Behaviour(token: "one"))
        let client = try client(server, transport, Tokens(["one", "two"]))
        let statuses = Statuses(client)
        let messages = try await client.subscribe(["a"], after: "earliest")
        try await statuses.wait(for: "live") { $0.state == .live }
        try await server.change { $0.token = transport == .webSocket ? "two" : nil }
        try await server.tell("{\"type\":\"token-expiring\",\"in_ms\":30000}")
        for _ in 0..<200 where try await !server.seen.contains("refresh") { try await Task.sleep(for: .milliseconds(20)) }
        #expect(try await server.seen.contains("refresh"))
        try await server.publish("a", 1)
        #expect(try await take(1, of: messages) == [1])
        #expect(try await server.seen.filter { $0 == transport.rawValue }.count == 1)
        await client.close()
        try await server.stop()
    }

    @Test("a token that has expired: the same transport goes on with another one")
    func expired() async throws {
        let server = try await FakeServer.start(Behaviour(token: "one"))
        let client = try client(server, .eventStream, Tokens(["one", "two"]))
        let statuses = Statuses(client)
        let messages = try await client.subscribe(["a"], after: "earliest")
        try await statuses.wait(for: "live") { $0.state == .live }
        try await server.publish("a", 1)
        try await server.change { $0.token = "two" }
        try await server.tell("{\"type\":\"token-expired\"}")
        try await server.cutStreams()
        try await server.publish("a", 2)
        #expect(try await take(2, of: messages) == [1, 2])
        #expect(!statuses.all.contains { $0.state == .waiting })
        await client.close()
        try await server.stop()
    }
}

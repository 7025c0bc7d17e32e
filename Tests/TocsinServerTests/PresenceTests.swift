import Identity
import NIOCore
import NIOEmbedded
import NotificationCore
import Presence
import Synchronization
import Testing
import Transports

@testable import TocsinServer

/// Who is on which channels, at a loop and its connections.
@Suite struct PresenceTests {
    private static func bench(_ change: (inout PresenceConfiguration) -> Void = { _ in }) -> Bench {
        Bench { configuration in
            configuration.presence.set("chat", .users)
            configuration.presence.set("news", .count)
            change(&configuration.presence)
        }
    }

    private func stream(_ bench: Bench, _ query: String, behind dam: Dam? = nil) throws -> EmbeddedChannel {
        let channel = try bench.connect(behind: dam)
        let request = "GET /v1/subscribe?after=latest&heartbeat=300&\(query) HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
        try channel.writeInbound(ByteBuffer(string: request))
        return channel
    }

    private func webSocket(_ bench: Bench, _ query: String) throws -> EmbeddedChannel {
        let channel = try bench.connect()
        try channel.writeInbound(
            ByteBuffer(
                string: "GET /v1/subscribe?heartbeat=300&\(query) HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
        return channel
    }

    /// A masked text frame of less than 64 KiB; the mask is 0.
    private func say(_ channel: EmbeddedChannel, _ text: String) throws {
        let count = text.utf8.count
        var frame: [UInt8] = count < 126 ? [0x81, 0x80 | UInt8(count)] : [0x81, 0xfe, UInt8(count >> 8), UInt8(count & 0xff)]
        frame += [0, 0, 0, 0] + text.utf8
        try channel.writeInbound(ByteBuffer(bytes: frame))
    }

    private func get(_ bench: Bench, _ target: String) throws -> String {
        let channel = try bench.connect()
        try channel.writeInbound(ByteBuffer(string: "GET \(target) HTTP/1.1\r\nHost: x\r\n\r\n"))
        bench.drain()
        let text = try Bench.output(channel)
        try channel.close().wait()
        bench.eventLoop.run()
        return text
    }

    private func close(_ bench: Bench, _ channel: EmbeddedChannel) throws {
        try channel.close().wait()
        bench.eventLoop.run()
    }

    /// The presence messages in what a client was sent.
    private func events(_ text: String) -> [String] {
        text.matches(of: /\{"type":"presence"[^}]*\}/).map { String($0.output) }
    }

    private func body(_ text: String) -> String { text.components("\r\n\r\n").first.map(String.init) ?? "" }

    @Test("streams of either kind are there while they are open, and a moment longer")
    func streams() throws {
        let bench = Self.bench()
        let first = try stream(bench, "channel=chat.a&user=anna")
        let second = try webSocket(bench, "channel=chat.a&user=anna")
        let third = try webSocket(bench, "channel=chat.a")
        let watcher = try stream(bench, "channel=chat.*&channel=%3E&user=eve")
        bench.passTogether(milliseconds: 500)
        let page = body(try get(bench, "/v1/channels/chat.a/presence"))
        #expect(
            page.hasPrefix(#"{"channel":"chat.a","connections":3,"users":1,"members":[{"user":"anna","connections":2,"since":""#), "\(page)"
        )
        #expect(page.hasSuffix("\"}]}\n"))
        for channel in [first, second, third, watcher] { try close(bench, channel) }
        bench.passTogether(milliseconds: 4500)
        #expect(body(try get(bench, "/v1/channels/chat.a/presence")).hasPrefix(#"{"channel":"chat.a","connections":3,"users":1,"#))
        bench.passTogether(milliseconds: 1500)
        #expect(
            body(try get(bench, "/v1/channels/chat.a/presence")) == #"{"channel":"chat.a","connections":0,"users":0,"members":[]}"# + "\n")
        let presence = try #require(bench.loop.presence)
        #expect(presence.members.isEmpty && presence.ledger.channelCount == 0 && presence.audiences.isEmpty)
    }

    @Test("a feed that counts names nobody; one without presence says so, with the rule and the key; what is asked is checked")
    func modes() throws {
        let bench = Self.bench()
        let first = try stream(bench, "channel=news.a&channel=plain.a&user=anna&presence=true")
        #expect(try Bench.output(first).hasPrefix("HTTP/1.1 404 "))
        let second = try stream(bench, "channel=news.a&user=anna&presence=true")
        let third = try stream(bench, "channel=plain.a&user=anna")
        bench.passTogether(milliseconds: 500)
        #expect(events(try Bench.output(second)) == [#"{"type":"presence","channel":"news.a","connections":1,"users":1}"#])
        #expect(body(try get(bench, "/v1/channels/news.a/presence?limit=1")) == #"{"channel":"news.a","connections":1,"users":1}"# + "\n")
        let refusal = try get(bench, "/v1/channels/plain.a/presence")
        #expect(refusal.hasPrefix("HTTP/1.1 404 ") && refusal.contains(#""type":"/problems/no-presence""#))
        #expect(refusal.contains(#""rule":"presence","configuration_key":"presence (--presence)""#))
        #expect(try get(bench, "/v1/channels/_acks.61/presence").hasPrefix("HTTP/1.1 404 "))
        for query in ["limit=0", "limit=1001", "limit=x", "page=2"] {
            #expect(try get(bench, "/v1/channels/news.a/presence?" + query).hasPrefix("HTTP/1.1 400 "), "\(query)")
        }
        try close(bench, second)
        try close(bench, third)
    }

    @Test("where nothing is kept there is nothing to ask and nothing to hold")
    func off() throws {
        let bench = Bench()
        let first = try stream(bench, "channel=chat.a&user=anna")
        #expect(bench.loop.presence == nil && bench.loop.server.presence == nil)
        #expect(try get(bench, "/v1/channels/chat.a/presence").hasPrefix("HTTP/1.1 404 "))
        try close(bench, first)
    }

    @Test("who watches is told the counts, then who comes and leaves; a client that comes back in time has not left")
    func changes() throws {
        let bench = Self.bench()
        let watcher = try stream(bench, "channel=chat.a&user=anna&presence=true")
        bench.passTogether(milliseconds: 500)
        #expect(events(try Bench.output(watcher)) == [#"{"type":"presence","channel":"chat.a","connections":1,"users":1}"#])
        var other = try webSocket(bench, "channel=chat.a&user=bob")
        bench.passTogether(milliseconds: 1500)
        let joined = try Bench.output(watcher)
        #expect(joined.contains("event: presence\ndata: {"))
        #expect(events(joined) == [#"{"type":"presence","channel":"chat.a","connections":2,"users":2,"joined":["bob"],"left":[]}"#])
        // It goes to another transport.
        try close(bench, other)
        bench.passTogether(milliseconds: 3000)
        other = try stream(bench, "channel=chat.a&user=bob")
        bench.passTogether(milliseconds: 10_000)
        #expect(events(try Bench.output(watcher)).isEmpty)
        try close(bench, other)
        bench.passTogether(milliseconds: 6500)
        #expect(
            events(try Bench.output(watcher)) == [
                #"{"type":"presence","channel":"chat.a","connections":1,"users":1,"joined":[],"left":["bob"]}"#
            ]
        )
        #expect(bench.loop.currentCounters().presence.events == 3)
        try close(bench, watcher)
    }

    @Test("commands subscribe with presence, ask who is there, and leave a channel")
    func commands() throws {
        let bench = Self.bench()
        let socket = try webSocket(bench, "channel=chat.a&channel=chat.b&user=anna")
        try say(socket, #"{"id":1,"type":"subscribe","channels":["chat.c","news.*"],"presence":true}"#)
        bench.passTogether(milliseconds: 500)
        var text = try Bench.output(socket)
        #expect(text.contains(#"{"type":"reply","id":1,"position":"#))
        #expect(events(text) == [#"{"type":"presence","channel":"chat.c","connections":1,"users":1}"#])
        try say(socket, #"{"id":2,"type":"presence","channel":"chat.b","limit":5}"#)
        bench.drain()
        text = try Bench.output(socket)
        #expect(
            text.contains(
                #"{"type":"reply","id":2,"channel":"chat.b","connections":1,"users":1,"members":[{"user":"anna","connections":1,"#))
        for (command, code) in [
            (#""type":"presence","channel":"plain.a""#, "no_presence"), (#""type":"presence","channel":"chat.*""#, "bad_channel"),
            (#""type":"presence""#, "bad_channel"), (#""type":"presence","channel":"chat.a","limit":0"#, "bad_command"),
            (#""type":"presence","channel":"chat.a","after":1"#, "bad_command"),
            (#""type":"subscribe","channel":"plain.a","presence":true"#, "no_presence"),
            (#""type":"subscribe","channel":"chat.d","presence":1"#, "bad_command"),
        ] {
            try say(socket, #"{"id":3,\#(command)}"#)
            bench.drain()
            let answer = try Bench.output(socket)
            #expect(answer.contains(#"{"type":"reply","id":3,"error":{"code":"\#(code)""#), "\(command) -> \(answer)")
        }
        try say(socket, #"{"id":4,"type":"unsubscribe","channels":["chat.b","chat.c"]}"#)
        bench.passTogether(milliseconds: 6000)
        #expect(try Bench.output(socket).contains(#"{"type":"reply","id":4}"#))
        for (channel, count) in [("chat.a", 1), ("chat.b", 0), ("chat.c", 0)] {
            #expect(try get(bench, "/v1/channels/\(channel)/presence").contains(#""connections":\#(count),"#), "\(channel)")
        }
        let presence = try #require(bench.loop.presence)
        #expect(presence.audiences.isEmpty && presence.ledger.channelCount == 1)
        try close(bench, socket)
    }

    @Test("a client without room is told the counts when it has some, without what it missed")
    func slowReader() throws {
        let bench = Self.bench()
        let dam = Dam()
        let slow = try stream(bench, "channel=chat.a&user=anna&presence=true", behind: dam)
        bench.passTogether(milliseconds: 500)
        #expect(events(try Bench.output(slow)).count == 1)
        dam.isShut = true
        // The socket is full with the first of these.
        bench.publish("chat.a", "1")
        let others = try ["bob", "carl"].map { user in
            let other = try webSocket(bench, "channel=chat.a&user=\(user)")
            bench.passTogether(milliseconds: 1500)
            return other
        }
        #expect(bench.loop.presence?.behind.count == 1)
        dam.isShut = false
        dam.letThrough()
        bench.passTogether(milliseconds: 500)
        #expect(events(try Bench.output(slow)) == [#"{"type":"presence","channel":"chat.a","connections":3,"users":3}"#])
        #expect(bench.loop.presence?.behind.isEmpty == true)
        try close(bench, others[0])
        bench.passTogether(milliseconds: 6500)
        #expect(events(try Bench.output(slow)).last?.hasSuffix(#""joined":[],"left":["bob"]}"#) == true)
        try close(bench, slow)
        try close(bench, others[1])
    }

    @Test("a client that polls is there until its time is over, not until its poll is")
    func polls() throws {
        let bench = Self.bench { $0.pollSeconds = 10 }
        let channel = try bench.connect()
        func poll(_ query: String) throws -> String {
            try channel.writeInbound(ByteBuffer(string: "GET /v1/subscribe?channel=chat.a&user=anna&\(query) HTTP/1.1\r\nHost: x\r\n\r\n"))
            bench.drain()
            return try Bench.output(channel)
        }
        let first = try poll("wait=2&session=new")
        let session = try #require(first.firstMatch(of: /"session":"([0-9a-f]{40})"/)?.1)
        bench.passTogether(milliseconds: 8000)
        #expect(try get(bench, "/v1/channels/chat.a/presence").contains(#""connections":1,"users":1,"#))
        #expect(try poll("wait=2&session=\(session)&after=000000000abc.0") == "")
        bench.passTogether(milliseconds: 3000)
        #expect(try Bench.output(channel).contains("\"messages\":[]"))
        // Ten seconds after the last poll would have ended, and the grace.
        bench.passTogether(milliseconds: 13_000)
        #expect(try get(bench, "/v1/channels/chat.a/presence").contains(#""connections":1,"users":1,"#))
        bench.passTogether(milliseconds: 4000)
        #expect(try get(bench, "/v1/channels/chat.a/presence").contains(#""connections":0,"users":0,"#))
        #expect(bench.loop.presence?.pollers.isEmpty == true && bench.loop.presence?.pollerExpiries.isEmpty == true)
        // Without a session it is there as long as its poll, and the grace.
        #expect(try poll("wait=2&after=000000000abc.0") == "")
        bench.passTogether(milliseconds: 1000)
        #expect(try get(bench, "/v1/channels/chat.a/presence").contains(#""connections":1,"users":1,"#))
        bench.passTogether(milliseconds: 9000)
        #expect(try get(bench, "/v1/channels/chat.a/presence").contains(#""connections":0,"users":0,"#))
        try close(bench, channel)
    }

    @Test("a poll that is known by its bytes keeps its client there")
    func repeatedPolls() throws {
        let bench = Self.bench { $0.pollSeconds = 3 }
        let channel = try bench.connect()
        func poll(_ session: some StringProtocol) throws {
            try channel.writeInbound(
                ByteBuffer(
                    string: "GET /v1/subscribe?channel=chat.a&wait=2&session=\(session)&after=000000000abc.0 HTTP/1.1\r\nHost: x\r\n\r\n"))
            bench.drain()
        }
        try poll("new")
        bench.passTogether(milliseconds: 3000)
        let session = try #require(try Bench.output(channel).firstMatch(of: /"session":"([0-9a-f]{40})"/)?.1)
        for _ in 0..<6 {
            try poll(session)
            bench.passTogether(milliseconds: 3000)
            #expect(try Bench.output(channel).contains("\"messages\":[]"))
        }
        #expect(bench.loop.presence?.pollers.count == 1)
        #expect(try get(bench, "/v1/channels/chat.a/presence").contains(#""connections":1,"users":0,"#))
        bench.passTogether(milliseconds: 9000)
        #expect(bench.loop.presence?.pollers.isEmpty == true)
        try close(bench, channel)
    }

    @Test("a parked poll is answered with changes if it asked for them; what changes between two polls waits for the next")
    func pollEvents() throws {
        let bench = Self.bench()
        let channel = try bench.connect()
        func poll(_ session: some StringProtocol) throws -> String {
            let query = "channel=chat.a&user=anna&presence=true&wait=20&session=\(session)&after=000000000abc.0"
            try channel.writeInbound(ByteBuffer(string: "GET /v1/subscribe?\(query) HTTP/1.1\r\nHost: x\r\n\r\n"))
            bench.passTogether(milliseconds: 500)
            return try Bench.output(channel)
        }
        let first = try poll("new")
        #expect(events(first) == [#"{"type":"presence","channel":"chat.a","connections":1,"users":1}"#])
        #expect(first.contains(#""messages":[{"type":"presence""#))
        let session = try #require(first.firstMatch(of: /"session":"([0-9a-f]{40})"/)?.1)
        #expect(try poll(session) == "")
        bench.passTogether(milliseconds: 3000)
        #expect(try Bench.output(channel) == "")
        let bob = try stream(bench, "channel=chat.a&user=bob")
        bench.passTogether(milliseconds: 1500)
        #expect(events(try Bench.output(channel)).map { $0.hasSuffix(#""joined":["bob"],"left":[]}"#) } == [true])
        // Two changes, while no poll is there: the counts.
        let others = try ["carl", "dora"].map { user in
            let other = try stream(bench, "channel=chat.a&user=\(user)")
            bench.passTogether(milliseconds: 1500)
            return other
        }
        #expect(events(try poll(session)) == [#"{"type":"presence","channel":"chat.a","connections":4,"users":4}"#])
        // One of a client that did not ask is not answered for it.
        let quiet = try bench.connect()
        try quiet.writeInbound(
            ByteBuffer(string: "GET /v1/subscribe?channel=chat.a&wait=20&session=new&after=000000000abc.0 HTTP/1.1\r\nHost: x\r\n\r\n"))
        bench.passTogether(milliseconds: 3000)
        #expect(try Bench.output(quiet) == "")
        for other in [bob, quiet, channel] + others { try close(bench, other) }
    }

    @Test("a poll that wants to be told needs a session")
    func pollWithoutSession() throws {
        let bench = Self.bench()
        let answer = try get(bench, "/v1/subscribe?channel=chat.a&presence=true&wait=0")
        #expect(answer.hasPrefix("HTTP/1.1 400 ") && answer.contains("session=new"))
    }

    @Test("on more channels than may be kept nobody is counted, and who asks is told that it is not known")
    func channelLimit() throws {
        let bench = Self.bench { $0.channelsMax = 2 }
        let socket = try webSocket(bench, "channel=chat.a&channel=chat.b&channel=chat.c")
        bench.passTogether(milliseconds: 500)
        #expect(try get(bench, "/v1/channels/chat.b/presence").contains(#""connections":1,"#))
        let answer = try get(bench, "/v1/channels/chat.c/presence")
        #expect(answer.hasPrefix("HTTP/1.1 503 ") && answer.contains(#""type":"/problems/presence-full""#))
        #expect(answer.contains("presence_channels_max (--presence-channels-max)"))
        #expect(bench.loop.currentCounters().presence.refused == 1)
        try close(bench, socket)
    }

    private final class Watch: ChannelOccupancyObserver {
        let said = Mutex<[String]>([])

        func channelOccupied(_ channel: ChannelName, atMilliseconds milliseconds: Int64) {
            said.withLock { $0.append("+\(channel)") }
        }

        func channelVacated(_ channel: ChannelName, atMilliseconds milliseconds: Int64) {
            said.withLock { $0.append("-\(channel)") }
        }
    }

    @Test("the server itself may be told when channels are occupied and vacated, where clients are told nothing")
    func observer() throws {
        let bench = Bench { $0.presence.occupancy = [ChannelPattern("rooms.>")!] }
        let watch = Watch()
        (bench.loop.server.presence as? PresenceHub)?.setObserver(watch)
        let first = try stream(bench, "channel=rooms.a&channel=other.a")
        bench.passTogether(milliseconds: 500)
        let second = try stream(bench, "channel=rooms.a&channel=rooms.b")
        bench.passTogether(milliseconds: 500)
        #expect(watch.said.withLock { $0 } == ["+rooms.a", "+rooms.b"])
        #expect(try get(bench, "/v1/channels/rooms.a/presence").hasPrefix("HTTP/1.1 404 "))
        try close(bench, first)
        try close(bench, second)
        bench.passTogether(milliseconds: 6000)
        #expect(Set(watch.said.withLock { $0 }) == ["+rooms.a", "+rooms.b", "-rooms.a", "-rooms.b"])
    }
}

/// What a poll's home keeps of it, while it is parked somewhere else.
@Suite struct PollerTests {
    private static let channel = ChannelName("chat.a")!
    private static let id = SessionID(random: (1, 2), loop: 0, place: nil)
    private static let place = ParkedPollPlace(loop: 3, connection: 7, stream: 0)

    private func change(_ joined: [String]?, isGreeting: Bool = false) -> PresenceChange {
        var change = PresenceChange(channel: Self.channel, counts: PresenceCounts(connections: joined?.count ?? 0))
        (change.joined, change.left, change.isGreeting) = (joined, joined.map { _ in [] }, isGreeting)
        return change
    }

    private func poller(_ presence: LoopPresence, at place: ParkedPollPlace = Self.place, principal: Identity.Principal? = nil) -> Bool {
        let wish = PollPresence(channels: [Self.channel], user: "anna", principal: principal, isWatching: true, place: place)
        return presence.keep(Self.id, wish, expiresTick: 100)
    }

    private static func presence() -> LoopPresence {
        var configuration = PresenceConfiguration()
        configuration.set("chat", .users)
        return LoopPresence(configuration)
    }

    @Test("what could not be said waits for the next poll; if more has come, the counts alone")
    func notSaid() {
        let presence = Self.presence()
        #expect(poller(presence) && presence.take([change(["x"])]).isEmpty)
        #expect(presence.take([change(nil, isGreeting: true)]) == [Self.id])
        #expect(presence.say(Self.id)?.count == 1 && presence.say(Self.id) == nil)
        #expect(!presence.said(Self.id, at: Self.place, isTold: true))
        #expect(presence.take([change(["bob"])]) == [Self.id])
        // Its poll is answered, so there is none to say it to until the next one comes.
        #expect(presence.say(Self.id) == nil)
        #expect(poller(presence))
        #expect(presence.say(Self.id)?.first?.joined == ["bob"])
        #expect(!presence.said(Self.id, at: Self.place, isTold: false))
        #expect(poller(presence))
        #expect(presence.say(Self.id)?.first?.joined == ["bob"])
        #expect(presence.take([change(["carl"])]) == [Self.id])
        #expect(!presence.said(Self.id, at: Self.place, isTold: false))
        #expect(poller(presence))
        #expect(presence.say(Self.id).map { $0.map(\.joined) } == [nil])
    }

    @Test("a poll that came elsewhere meanwhile is told")
    func otherPlace() {
        let presence = Self.presence()
        _ = poller(presence)
        _ = presence.take([change(nil, isGreeting: true)])
        #expect(presence.say(Self.id) != nil)
        let other = ParkedPollPlace(loop: 4, connection: 1, stream: 0)
        #expect(poller(presence, at: other))
        #expect(presence.said(Self.id, at: Self.place, isTold: false))
        #expect(presence.say(Self.id)?.count == 1)
    }

    @Test("a session of somebody else is left alone")
    func principals() {
        let presence = Self.presence()
        #expect(poller(presence, principal: .user("anna")))
        #expect(!poller(presence, principal: .user("otto")) && !poller(presence, principal: nil))
        presence.expirePollers(tick: 100)
        #expect(presence.pollers.isEmpty && presence.audiences.isEmpty)
        #expect(presence.ledger.take().isEmpty && presence.ledger.channelCount == 0)
    }

    @Test("another list of channels is what counts from then on")
    func otherChannels() {
        let presence = Self.presence()
        _ = poller(presence)
        let channels = [ChannelName("chat.b")!, ChannelName("chat.c")!]
        let wish = PollPresence(channels: channels, user: "anna", principal: nil, isWatching: false, place: Self.place)
        #expect(presence.keep(Self.id, wish, expiresTick: 200))
        let updates = presence.ledger.take().sorted { $0.channel.string < $1.channel.string }
        #expect(updates.map { "\($0.channel) \($0.connections)" } == ["chat.b 1", "chat.c 1"] && presence.audiences.isEmpty)
        // The first entry of the wheel is stale.
        presence.expirePollers(tick: 100)
        #expect(presence.pollers.count == 1)
        // One that will not wait as long is gone as much earlier.
        #expect(presence.keep(Self.id, wish, expiresTick: 150))
        presence.expirePollers(tick: 150)
        #expect(presence.pollers.isEmpty)
        presence.expirePollers(tick: 200)
        #expect(presence.pollerExpiries.isEmpty)
    }

    @Test("a change that comes before the last one has reached everybody waits as counts, once for each stream")
    func overtaken() {
        let presence = Self.presence()
        let hub = Hub(LogPreload(epoch: LogEpoch(random: 1)), limits: LogLimits())
        let ids = (0..<3).map { _ in hub.subscribe([], from: .latest, knownHead: 0) }
        for id in ids {
            presence.enter(id, [Self.channel], user: nil)
            presence.watch(id)
        }
        _ = presence.take([change(nil, isGreeting: true)])
        #expect(presence.tellings.count == 1 && presence.behind.isEmpty)
        _ = presence.take([change(["a"])])
        #expect(presence.tellings.count == 2 && presence.behind.isEmpty)
        for number in 2..<50 { _ = presence.take([change((0..<number).map { "u\($0)" })]) }
        #expect(presence.tellings.count == 2 && presence.behind[Self.channel] == Set(ids))
        #expect(presence.audiences[Self.channel]?.counts.connections == 49)
        for id in ids { presence.leave(id) }
        #expect(presence.behind.isEmpty && presence.audiences.isEmpty)
    }
}

/// What processes say to each other of who is there, in bytes.
@Suite struct PresenceMessageTests {
    private static var messages: [PresenceMessage] {
        let (one, two) = (ChannelName("chat.a")!, ChannelName("chat.b")!)
        var update = PresenceUpdate(channel: one, connections: 3)
        update.users = [PresenceUpdate.User("anna \"é\"", 2), PresenceUpdate.User("bob", 0)]
        (update.unlisted, update.isWhole, update.greets, update.isWatching) = (1, true, true, true)
        var change = PresenceChange(channel: two, counts: PresenceCounts(connections: 9, users: 2, isAtLeast: true))
        (change.joined, change.left) = (["a", "b"], [])
        var greeting = PresenceChange(channel: one, counts: PresenceCounts())
        greeting.isGreeting = true
        var page = PresencePage()
        page.counts = PresenceCounts(connections: 1, users: 1)
        page.members = [PresencePage.Member(user: "anna", connections: 0, sinceMilliseconds: 1_800_000_000_123)]
        page.next = "anna"
        var unknown = PresencePage()
        unknown.isUnknown = true
        var figure = PresenceFigure(feed: "chat")
        (figure.channels, figure.connections, figure.users) = (1, 2, 3)
        return [
            .report(source: 5, [update, PresenceUpdate(channel: two, connections: 0)]), .report(source: 0, []),
            .question(number: 7, PresenceQuestion(channel: one, after: "x", limit: 9)),
            .question(number: .max, PresenceQuestion(channel: two)), .page(number: 1, page), .page(number: 2, unknown),
            .changes(source: 255, [change, greeting]), .figures([figure]), .figures([]),
        ]
    }

    @Test("comes out as it went in, and damaged it is refused")
    func coding() throws {
        for message in Self.messages {
            let bytes = message.bytes
            #expect(try PresenceMessage(bytes) == message)
            for cut in 0..<bytes.count { #expect(throws: LinkDamage.self) { try PresenceMessage(Array(bytes[..<cut])) } }
            #expect(throws: LinkDamage.self) { try PresenceMessage(bytes + [0]) }
            for at in bytes.indices {
                // It may be another message, and does not trap.
                var other = bytes
                other[at] ^= 0x55
                _ = try? PresenceMessage(other)
            }
        }
    }

    @Test("much of it goes in several frames, each of a bearable size, in order")
    func parts() {
        let updates = (0..<5000).map { number in
            var update = PresenceUpdate(channel: ChannelName("chat.c\(number)")!, connections: number)
            update.users = (0..<10).map { PresenceUpdate.User(String(repeating: "u", count: 100) + "\($0)", 1) }
            return update
        }
        let parts = PresenceMessage.parts(updates) { $0.frameBytes }
        #expect(parts.count > 4)
        #expect(parts.flatMap { $0 } == updates)
        let longest = parts.map { PresenceMessage.report(source: 1, Array($0)).bytes.count }.max() ?? 0
        #expect(longest < 2 << 20)
        let none = PresenceMessage.parts([PresenceUpdate]()) { $0.frameBytes }
        #expect(none.isEmpty)
    }

    @Test("what clients are told is JSON, whatever the users are called")
    func text() {
        var change = PresenceChange(channel: ChannelName("chat.a")!, counts: PresenceCounts(connections: 2, users: 1, isAtLeast: true))
        (change.joined, change.left) = (["a\"\\\n"], [])
        let text = String(decoding: PresenceText.event(change), as: UTF8.self)
        #expect(
            text
                == #"{"type":"presence","channel":"chat.a","connections":2,"users":1,"users_at_least":true,"joined":["a\"\\\n"],"left":[]}"#
        )
        var page = PresencePage()
        page.counts = PresenceCounts(connections: 1, users: 1)
        page.members = [PresencePage.Member(user: "\u{1}", connections: 1, sinceMilliseconds: 0)]
        page.next = "\""
        #expect(
            String(decoding: PresenceText.page(ChannelName("chat.a")!, page), as: UTF8.self)
                == #"{"channel":"chat.a","connections":1,"users":1,"members":[{"user":"\u0001","connections":1,"#
                + #""since":"1970-01-01T00:00:00.000Z"}],"next":"\""}"#)
    }
}

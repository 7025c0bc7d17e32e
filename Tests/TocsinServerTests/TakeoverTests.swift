import Foundation
import Glibc
import Logging
import NIOCore
import NIOPosix
import NotificationCore
import NotificationStore
import Synchronization
import Testing

@testable import TocsinServer

/// A log that goes from one server to another, both of them in this process, over the real socket.
@Suite struct TakeoverTests {
    typealias Follower = SharedLogTests.Follower

    /// A log and two followers, on threads of its own.
    final class Side: Sendable {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 5)
        let log: EmbeddedLog
        let preload: LogPreload
        let followers: [NIOLoopBound<Follower>]
        let number: SharedNumber
        var loops: [any EventLoop] { Array(group.makeIterator()) }

        init(_ options: StoreOptions, _ number: SharedNumber, heldMax: HeldMax = HeldMax()) async throws {
            let loops = Array(group.makeIterator())
            self.number = number
            (log, preload) = try await EmbeddedLog.open(
                options, writerLoop: loops[0], readerLoop: loops[1], logger: World.logger, sharedNumber: number, heldMax: heldMax)
            var followers: [NIOLoopBound<Follower>] = []
            for place in 0..<2 {
                let (log, head, loop) = (log, preload.head, loops[3 + place])
                followers.append(
                    try await loop.submit {
                        let follower = Follower(number: place, eventLoop: loop, head: head)
                        log.follow(follower)
                        return NIOLoopBound(follower, eventLoop: loop)
                    }.get())
            }
            self.followers = followers
        }

        func append(_ data: String, channel: String = "plain.a", key: String? = nil, follower: Int = 0) async throws -> AppendOutcome {
            let publication = Publication(channel: ChannelName(channel)!, data: Array(data.utf8))
            let request = AppendRequest([publication], idempotencyKey: key.map { FieldText($0)! }, fingerprint: 1)
            let loop = followers[follower].eventLoop
            let promise = loop.makePromise(of: [AppendOutcome].self)
            loop.execute { self.log.append(request, from: self.followers[follower].value) { promise.succeed($0) } }
            return try await promise.futureResult.get()[0]
        }

        func acknowledge(_ range: ClosedRange<UInt64>) async throws -> AcknowledgeOutcome {
            let loop = followers[1].eventLoop
            let promise = loop.makePromise(of: AcknowledgeOutcome.self)
            loop.execute {
                self.log.acknowledge(
                    FieldText("u")!, ChannelName("alerts.a")!, [range], isDismissed: false, from: self.followers[1].value
                ) { promise.succeed($0) }
            }
            return try await promise.futureResult.get()
        }

        func read<Value: Sendable>(_ body: @escaping @Sendable (NotificationStore) throws(StoreFault) -> Value) async throws -> Value {
            let loop = followers[0].eventLoop
            let promise = loop.makePromise(of: Value.self)
            loop.execute { self.log.read(from: self.followers[0].value, body) { promise.completeWith($0.mapError { $0 }) } }
            return try await promise.futureResult.get()
        }

        /// Sequences in the log, as its reader has them.
        func history(_ channel: ChannelID = 0) async throws -> [UInt64] {
            try await read { store throws(StoreFault) in
                try store.history(channel: channel, afterSequence: 0, limit: 100_000, bytesMax: 1 << 28).map(\.sequence)
            }
        }

        func told(_ follower: Int = 0) async throws -> [String] {
            try await followers[follower].eventLoop.submit { self.followers[follower].value.told }.get()
        }

        /// Waits until every follower has been told of all that was given out.
        func settle() async throws {
            for follower in followers {
                try await until("follower is at the head") {
                    try await follower.eventLoop.submit { follower.value.head }.get() >= self.log.head
                }
            }
        }

        func stop() async throws {
            await log.close()
            try await group.shutdownGracefully()
        }
    }

    final class Flag: Sendable {
        let value = Atomic(true)
    }

    /// What the server that runs was told of the other.
    final class Told: Sendable {
        let events = Mutex<[String]>([])

        func note(_ event: String) { events.withLock { $0.append(event) } }
        var all: [String] { events.withLock { $0 } }
    }

    /// The server that runs, in a folder of its own.
    final class World: Sendable {
        static var logger: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

        let folder = FileManager.default.temporaryDirectory.appending(path: "takeover-\(UUID().uuidString)").path
        let options: StoreOptions
        let old: Side
        let offer: NIOLoopBound<TakeoverOffer>
        let told = Told()
        var path: String { options.path }

        init(heldMax: HeldMax = HeldMax(), patienceSeconds: Int = 60, place: Int = 0) async throws {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            var options = StoreOptions(path: folder + "/log.sqlite", durability: .memory)
            self.options = options
            options.lock = try LockFile(of: options.path)
            let old = try await Side(options, SharedNumber()!, heldMax: heldMax)
            self.old = old
            let (path, told) = (options.path, told)
            offer = try await old.log.writerLoop.submit {
                var settings = TakeoverOffer.Settings(
                    logPath: path, feeds: LogLimits().feeds, version: "old", place: place, numberDescriptor: old.number.descriptor,
                    listeners: [])
                settings.patienceSeconds = patienceSeconds
                settings.visitorSeconds = 60
                settings.onNeighbour = { told.note($0 == nil ? "alone" : "two") }
                settings.onTaken = { told.note("go \($0)") }
                settings.onReturned = { told.note("returned \($0)") }
                settings.onQuestion = { body, reply in reply(body.reversed()) }
                return NIOLoopBound(TakeoverOffer(old.log, settings, logger: World.logger), eventLoop: old.log.writerLoop)
            }.get()
            let offer = offer
            try await old.log.writerLoop.flatSubmit {
                do { return try offer.value.open() } catch { return offer.eventLoop.makeFailedFuture(error) }
            }.get()
        }

        func stage() async throws -> String { try await offer.eventLoop.submit { "\(self.offer.value.stage)" }.get() }

        func visitors() async throws -> Int { try await offer.eventLoop.submit { self.offer.value.visitors }.get() }

        func receive(_ hello: TakeoverMessage.Hello = .own(version: "new", drainMilliseconds: 700)) async throws -> Inheritance? {
            let path = path
            return try await NIOSingletons.posixBlockingThreadPool.runIfActive { try Inheritance.receive(log: path, hello) }
        }

        /// The one that takes over, with the log open and the link up.
        func successor() async throws -> (side: Side, predecessor: NIOLoopBound<Predecessor>) {
            let inheritance = try #require(try await receive())
            var options = options
            options.lock = inheritance.takeLock()
            options.ongoingEpoch = inheritance.given.epoch
            let side = try await Side(options, inheritance.number)
            #expect(side.preload.head == inheritance.given.head && side.preload.epoch == inheritance.given.epoch)
            #expect(side.preload.channels.count == inheritance.given.channelCount)
            let (loop, socket) = (side.loops[2], try #require(inheritance.takeSocket()))
            let predecessor = try await loop.submit {
                NIOLoopBound(Predecessor(loop, side.log, number: 2, logger: World.logger), eventLoop: loop)
            }.get()
            let given = inheritance.given
            try await loop.flatSubmit { predecessor.value.welcome(socket, epoch: given.epoch, head: given.head) }.get()
            return (side, predecessor)
        }

        func stop(_ others: Side...) async throws {
            _ = try await offer.eventLoop.submit { self.offer.value.close() }.get()
            for side in others { try await side.stop() }
            try await old.stop()
            try FileManager.default.removeItem(atPath: folder)
        }
    }

    /// A server that takes over and does as it is told, also what is wrong.
    final class Stranger {
        let socket: Int32
        private(set) var descriptors: [Int32] = []
        private var messages = TakeoverMessageReader()

        init(_ world: World) throws {
            socket = try #require(try UnixSocket.connect(to: UnixSocket.path(ofLog: world.path)))
            UnixSocket.setPatience(socket, seconds: 60)
        }

        func say(_ message: TakeoverMessage) throws { try UnixSocket.send(message.bytes, [], to: socket) }

        /// nil: the other side has closed.
        func hear() throws -> TakeoverMessage? {
            while true {
                if let message = try messages.next() { return message }
                let (bytes, more) = try UnixSocket.receive(socket)
                descriptors += more
                if bytes.isEmpty { return nil }
                messages.feed(bytes)
            }
        }

        /// Up to having everything.
        func take() throws -> TakeoverMessage.Given {
            try say(.hello(.own(version: "stranger", drainMilliseconds: 0)))
            guard case .hello? = try hear() else { throw SystemFault("hello", code: EPROTO) }
            try say(.take)
            guard case .given(let given)? = try hear() else { throw SystemFault("given", code: EPROTO) }
            return given
        }

        func welcome(_ given: TakeoverMessage.Given) throws {
            let welcome = LinkFrame.Welcome(
                process: 0, port: 0, tlsPort: nil, path: "", folder: nil, epoch: given.epoch, pastEpochs: [:], head: given.head,
                channelCount: 0)
            try UnixSocket.send(LinkFrame.welcome(welcome).bytes, [], to: socket)
        }

        func end() {
            for descriptor in descriptors { close(descriptor) }
            close(socket)
        }
    }

    private static func sequence(_ outcome: AppendOutcome) -> UInt64? { outcome.receipt?.sequence }

    @Test("while the log changes hands everything that is published at either server is taken, once and in one order")
    func underWay() async throws {
        let world = try await World()
        let running = Flag()
        let first = try await world.old.append("0")
        #expect(Self.sequence(first) == 1)
        @Sendable func publisher(_ side: Side, _ follower: Int) async throws -> [UInt64] {
            var found: [UInt64] = []
            while running.value.load(ordering: .relaxed) {
                found.append(try #require(Self.sequence(try await side.append("\(found.count)", follower: follower))))
            }
            return found
        }
        let sequences: [UInt64] = try await withThrowingTaskGroup(of: [UInt64].self) { group in
            for worker in 0..<4 { group.addTask { try await publisher(world.old, worker % 2) } }
            try await Task.sleep(for: .milliseconds(100))
            let (side, predecessor) = try await world.successor()
            for worker in 0..<2 { group.addTask { try await publisher(side, worker) } }
            try await Task.sleep(for: .milliseconds(300))
            running.value.store(false, ordering: .relaxed)
            var all: [UInt64] = [1]
            for try await some in group { all += some }
            try await world.old.settle()
            try await side.settle()
            // All that either of them was told, since it is there, is the same.
            let (olds, news) = (try await world.old.told(0), try await side.told(0))
            #expect(olds.suffix(news.count) == news[...] && olds.count == all.count && !news.isEmpty)
            #expect(try await world.old.told(1) == olds)
            #expect(try await side.told(1) == news)
            let history = try await side.history()
            #expect(history == Array(1...UInt64(all.count)))
            #expect(try await world.old.history() == history)
            #expect(world.old.log.head == side.log.head)
            try await predecessor.eventLoop.flatSubmit { predecessor.value.farewell("the end") }.get()
            try await world.stop(side)
            return all
        }
        // No number was given out twice, and none is missing.
        #expect(sequences.sorted() == Array(1...UInt64(sequences.count)) && sequences.count > 50)
    }

    @Test("channels that the one makes are known to the other, states are the same, and what is read at one is told at the other")
    func kinds() async throws {
        let world = try await World()
        _ = try await world.old.append(#"{"a":1}"#, channel: "scores.a")
        _ = try await world.old.append("1", channel: "alerts.a")
        let (side, predecessor) = try await world.successor()
        _ = try await side.append("2", channel: "plain.new")
        _ = try await world.old.append("3", channel: "plain.newer")
        _ = try await world.old.append("4", channel: "plain.new")
        #expect(try await world.old.acknowledge(1...1) == .done)
        #expect(try await world.old.acknowledge(1...9) == .done)
        try await world.old.settle()
        try await side.settle()
        let news = try await side.told()
        #expect(try await world.old.told().suffix(news.count) == news[...])
        #expect(news.filter { $0.contains("plain.new\"") }.count == 2 && news.contains { $0.contains(#""type":"ack""#) })
        let unread = try await world.old.read { store throws(StoreFault) in
            try store.unreadCount(user: FieldText("u")!, channels: [1], nowMilliseconds: 0)
        }
        #expect(unread == 0)
        // A question, in both directions.
        let reply: [UInt8]? = try await predecessor.eventLoop.flatSubmit {
            let promise = predecessor.eventLoop.makePromise(of: [UInt8]?.self)
            predecessor.value.ask([1, 2, 3]) { promise.succeed($0) }
            return promise.futureResult
        }.get()
        #expect(reply == [3, 2, 1])
        #expect(world.told.all == ["two"])
        try await predecessor.eventLoop.submit { predecessor.value.release() }.get()
        try await until("it goes") { world.told.all == ["two", "go 700"] }
        try await world.stop(side)
    }

    @Test("who has taken the log and ends before it is open there gives it back: what was held meanwhile is taken")
    func endsBefore() async throws {
        let world = try await World()
        _ = try await world.old.append("1")
        for round in 1...3 {
            let stranger = try Stranger(world)
            let given = try stranger.take()
            #expect(given.head == world.old.log.head && given.place == 0)
            async let held = world.old.append("held", key: "key\(round)")
            try await Task.sleep(for: .milliseconds(50))
            #expect(try await world.stage() == "passing")
            // Readers notice nothing.
            #expect(try await world.old.history().count == 2 * round - 1)
            stranger.end()
            #expect(Self.sequence(try await held) == UInt64(2 * round))
            #expect(Self.sequence(try await world.old.append("after")) == UInt64(2 * round + 1))
            #expect(try await world.old.history().count == 2 * round + 1)
        }
        // And it can be taken over as before.
        let (side, _) = try await world.successor()
        #expect(Self.sequence(try await side.append("x")) == 8)
        try await world.stop(side)
    }

    @Test("what may be held is bounded")
    func bounded() async throws {
        let world = try await World(heldMax: HeldMax(count: 3, bytes: 10_000))
        let stranger = try Stranger(world)
        _ = try stranger.take()
        let outcomes: [AppendOutcome] = try await withThrowingTaskGroup(of: AppendOutcome.self) { group in
            for number in 0..<3 { group.addTask { try await world.old.append("\(number)") } }
            try await until("three are held") { world.old.log.queue.withLock { $0.pending.count } == 3 }
            #expect(try await world.old.append("4") == .refused(.storeFailed))
            stranger.end()
            var outcomes: [AppendOutcome] = []
            for try await outcome in group { outcomes.append(outcome) }
            return outcomes
        }
        #expect(outcomes.compactMap(Self.sequence).sorted() == [1, 2, 3])
        let other = try Stranger(world)
        _ = try other.take()
        let large = String(repeating: "x", count: 12_000)
        #expect(try await world.old.append("\"\(large)\"") == .refused(.storeFailed))
        other.end()
        #expect(Self.sequence(try await world.old.append("5")) == 4)
        try await world.stop()
    }

    @Test("a log whose new owner ends comes back, with what that one has appended; what was under way is asked again if that is safe")
    func endsAfter() async throws {
        let world = try await World()
        #expect(Self.sequence(try await world.old.append("1")) == 1)
        let (side, predecessor) = try await world.successor()
        for number in 2...6 { #expect(Self.sequence(try await side.append("\(number)")) == UInt64(number)) }
        // As if it had been killed before anything of these went over the link.
        await side.log.close()
        try await predecessor.eventLoop.submit { predecessor.value.close() }.get()
        try await until("the log is back") { try await world.stage() == "idle" && world.old.log.fault == nil }
        #expect(Self.sequence(try await world.old.append("7")) == 7)
        try await world.old.settle()
        #expect(try await world.old.told().count == 7)
        #expect(try await world.old.history() == Array(1...7))
        try await side.group.shutdownGracefully()

        let stranger = try Stranger(world)
        try stranger.welcome(try stranger.take())
        try await until("it follows") { try await world.stage() == "following" }
        async let withKey = world.old.append("8", key: "key")
        async let without = world.old.append("never", follower: 1)
        async let acknowledged = world.old.acknowledge(1...1)
        try await until("they have gone over the link") {
            try await world.offer.eventLoop.submit { world.offer.value.link?.unanswered }.get() == 3
        }
        stranger.end()
        #expect(Self.sequence(try await withKey) == 8)
        #expect(try await without == .refused(.storeFailed))
        #expect(try await acknowledged == .storeFailed)
        #expect(world.told.all == ["two", "alone", "two", "alone"])
        try await world.stop()
    }

    @Test("as long as the other one has the log's lock it is not opened here, and what comes is refused")
    func lockIsHeld() async throws {
        let world = try await World()
        let stranger = try Stranger(world)
        let given = try stranger.take()
        try stranger.welcome(given)
        try await until("it follows") { try await world.stage() == "following" }
        shutdown(stranger.socket, Int32(SHUT_RDWR))
        try await until("the link has ended") { try await world.stage() == "idle" }
        #expect(try await world.old.append("1") == .refused(.storeFailed))
        #expect(world.old.log.fault == .busy(path: world.path))
        #expect(try await world.old.history().isEmpty)
        stranger.end()
        try await until("the log is back") { world.old.log.fault == nil }
        #expect(Self.sequence(try await world.old.append("2")) == 1)
        try await world.stop()
    }

    @Test("who hangs with the log is ended", arguments: [false, true])
    func hangs(isWelcomed: Bool) async throws {
        let world = try await World(patienceSeconds: 1)
        let stranger = try Stranger(world)
        let given = try stranger.take()
        if isWelcomed {
            try stranger.welcome(given)
            for descriptor in stranger.descriptors { close(descriptor) }
        }
        let outcome = try await world.old.append("1", key: "k")
        #expect(Self.sequence(outcome) == 1)
        #expect(try await world.stage() == "idle")
        if isWelcomed { close(stranger.socket) } else { stranger.end() }
        try await world.stop()
    }

    @Test("who does not fit, comes second or says nonsense is refused, and the server goes on")
    func refused() async throws {
        let world = try await World()
        let own = TakeoverMessage.Hello.own(version: "9", drainMilliseconds: 0)
        for (form, schema) in [(own.form + 1, own.schema), (own.form, own.schema + 1)] {
            let other = TakeoverMessage.Hello(form: form, schema: schema, version: "9", drainMilliseconds: 0)
            await #expect(throws: ServerStartFault.self) { try await world.receive(other) }
        }
        for bytes in [[0, 0, 0, 0], [1, 0, 0, 0, 9], TakeoverMessage.take.bytes, [255, 255, 255, 255]] as [[UInt8]] {
            let stranger = try Stranger(world)
            try UnixSocket.send(bytes, [], to: stranger.socket)
            #expect(try stranger.hear() == nil)
            stranger.end()
        }
        let first = try Stranger(world)
        _ = try first.take()
        let second = try Stranger(world)
        try second.say(.hello(.own(version: "2", drainMilliseconds: 0)))
        guard case .refused? = try second.hear() else { throw SystemFault("refused", code: EPROTO) }
        second.end()
        first.end()
        #expect(Self.sequence(try await world.old.append("1")) == 1)
        // More than find room at the socket.
        try await until("they have gone") { try await world.visitors() == 0 }
        let crowd = try (0..<8).map { _ in try Stranger(world) }
        try await until("they are in") { try await world.visitors() == 8 }
        let late = try Stranger(world)
        guard case .refused? = try late.hear() else { throw SystemFault("refused", code: EPROTO) }
        for stranger in crowd + [late] { stranger.end() }
        try await world.stop()
        #expect(try await world.receive() == nil)
    }

    @Test("the numbers of sessions of the two never meet")
    func places() async throws {
        let world = try await World(place: 1)
        let stranger = try Stranger(world)
        #expect(try stranger.take().place == 1)
        stranger.end()
        try await world.stop()
    }
}

/// Waits until it is so, for some seconds.
func until(_ what: String, _ condition: () async throws -> Bool) async throws {
    for _ in 0..<1000 {
        if try await condition() { return }
        try await Task.sleep(for: .milliseconds(10))
    }
    Issue.record("not within 10 seconds: \(what)")
}

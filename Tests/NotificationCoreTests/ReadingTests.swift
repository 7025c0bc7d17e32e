import TestSupport
import Testing

@testable import NotificationCore

private let seconds: Int64 = 1000

private func limits(memoryBytes: Int = 64 << 20, count: Int = 10_000) -> LogLimits {
    var feeds = FeedTable.standard
    for name in feeds.named.keys { feeds.named[name]!.retention.countMax = count }
    feeds.other.retention.countMax = count
    return LogLimits(memoryBytesMax: memoryBytes, feeds: feeds)
}

private func value(_ channel: String, _ key: String? = nil, _ data: String = "1") -> Publication {
    Publication(channel: ChannelName(channel)!, data: Array(data.utf8), key: key.flatMap { FieldText($0) })
}

private func alert(
    _ channel: String = "alerts.a", ttl: UInt32? = nil, key: String? = nil, replaces: String? = nil, _ priority: Priority = .normal
) -> Publication {
    Publication(
        channel: ChannelName(channel)!, data: Array("{}".utf8), key: key.flatMap { FieldText($0) }, priority: priority,
        ttlSeconds: ttl, replaces: replaces.flatMap { FieldText($0) }
    )
}

private func options(user: String? = nil, paced: Bool = false, digest: Bool = false) -> ReadingOptions {
    var options = ReadingOptions()
    options.user = user.flatMap { FieldText($0) }
    options.isPaced = paced
    options.isDigest = digest
    return options
}

@Suite struct ReadingTests {
    @Test("what is no longer in memory comes from the log, without a seam")
    func fromTheLog() {
        var world = World(limits: limits(memoryBytes: 3000))
        for _ in 0..<50 { world.publish("a", "b") }
        let id = world.subscribe("a", "b", from: .earliest)
        let read = world.readOn(id, page: 7)
        #expect(read.notifications.map(\.offset) == Array(1...100))
        #expect(read.gaps.isEmpty)
        #expect(world.log.questions > 3)
        #expect(world.log.questions < 20)
        world.publish("a")
        #expect(world.sink.taken[id]!.names == ["a#51"])
    }

    @Test("an expired alert is not delivered late: the next one counts it, or a gap tells")
    func expired() {
        var world = World(limits: limits())
        let live = world.subscribe("alerts.a")
        world.publish([alert(ttl: 10), alert(), alert(ttl: 10), alert(ttl: 10), alert(ttl: 100), alert(ttl: 10)])
        #expect(world.sink.taken[live]!.count == 6)
        world.now += 11 * seconds
        let late = world.subscribe("alerts.a", from: .earliest)
        #expect(
            world.readAll(late).names == ["alerts.a#2+1", "alerts.a#5+2", "gap alerts.a 6-6 expired"]
        )
    }

    @Test("with several channels, what has expired is told before the position moves past it")
    func expiredSeveral() {
        var world = World(limits: limits())
        world.publish([alert("alerts.a", ttl: 1), alert("alerts.b"), alert("alerts.a"), alert("alerts.a")])
        world.now += 2 * seconds
        let id = world.subscribe("alerts.*", from: .earliest)
        #expect(world.readAll(id).names == ["gap alerts.a 1-1 expired", "alerts.b#1", "alerts.a#2", "alerts.a#3"])
    }

    @Test("the position does not move past what is counted with the next message before that message")
    func expiredAndCounted() {
        var world = World(limits: limits())
        world.publish([alert("alerts.a", ttl: 1), alert("alerts.b", ttl: 1), alert("alerts.b")])
        world.now += 2 * seconds
        let items = world.readAll(world.subscribe("alerts.*", from: .earliest))
        #expect(items.names == ["gap alerts.a 1-1 expired", "alerts.b#2+1"])
        #expect(items.gaps.map(\.position) == [nil])
    }

    @Test("a newcomer to scores and dashboards begins with their states, and gets what comes")
    func beginning() {
        var world = World(limits: limits())
        world.publish([value("scores.a", nil, "{\"x\":1}"), value("dashboards.d", "k", "1"), value("dashboards.d", "l", "2"), value("p.q")])
        let id = world.subscribe(">", from: nil)
        #expect(world.hub.position(of: id).description.hasSuffix(".n"))
        let items = world.readAll(id)
        #expect(items.names == ["snapshot scores.a#1", "snapshot dashboards.d#2"])
        if case .snapshot(let snapshot, let position) = items[1] {
            #expect(String(decoding: snapshot.data, as: UTF8.self) == "{\"k\":1,\"l\":2}")
            #expect(position == Position(epoch: world.hub.epoch, offset: 4))
        }
        world.publish([value("scores.a", nil, "{\"x\":2}")])
        #expect(world.sink.taken[id]!.names == ["scores.a#2"])
        let latest = world.subscribe(">", from: .latest)
        #expect(world.hub.isLive(latest))
    }

    @Test("a newcomer's states come a page at a time and are of one moment; what happens meanwhile comes behind them")
    func beginningByPages() {
        var world = World(limits: limits())
        world.publish([value("scores.a", nil, "{\"x\":1}"), value("dashboards.d", "k", "1"), value("dashboards.e", "k", "2")])
        let id = world.subscribe(">", from: nil)
        #expect(world.page(id, 1).items.names == ["snapshot scores.a#1"])
        #expect(world.hub.position(of: id).description.hasSuffix(".n"))
        var change = value("scores.a", nil, "{\"x\":2}")
        change.change = .merge
        world.publish([value("dashboards.d", "k", "3"), change, value("dashboards.new", "k", "4")])
        let second = world.page(id, 1)
        #expect(second.items.names == ["snapshot dashboards.d#1"] && !second.isAtHead)
        if case .snapshot(let snapshot, let position) = second.items[0] {
            #expect(String(decoding: snapshot.data, as: UTF8.self) == "{\"k\":1}" && position == nil)
        }
        // Another one begins now.
        let late = world.subscribe(">", from: nil)
        #expect(
            world.readAll(late).names
                == ["snapshot scores.a#2", "snapshot dashboards.d#2", "snapshot dashboards.e#1", "snapshot dashboards.new#1"])
        let third = world.page(id, 1)
        #expect(third.items.names == ["snapshot dashboards.e#1"])
        if case .snapshot(_, let position) = third.items[0] { #expect(position == Position(epoch: world.hub.epoch, offset: 3)) }
        #expect(world.readAll(id).names == ["scores.a#2", "dashboards.d#2", "dashboards.new#1"])
        #expect(world.hub.isLive(id))
    }

    @Test("a poll is answered with all of a newcomer's states: its next request could not go on among them")
    func beginningOfPoll() {
        var world = World(limits: limits())
        world.publish([value("dashboards.d", "k", "1"), value("dashboards.e", "k", "2"), value("dashboards.f", "k", "3")])
        var room = Hub.Room(notifications: 1, bytes: 1)
        room.holdsAllStates = true
        let id = world.subscribe("dashboards.*", from: nil)
        guard case .page(let page) = world.hub.read(id, room: room, nowMilliseconds: world.now) else { fatalError("a page") }
        #expect(page.items.names == ["snapshot dashboards.d#1", "snapshot dashboards.e#1", "snapshot dashboards.f#1"])
        #expect(world.hub.position(of: id) == Position(epoch: world.hub.epoch, offset: 3))
    }

    @Test("states that do not fit are told as gaps; who leaves a channel among them gets the rest")
    func beginningIsBounded() {
        var world = World(limits: limits())
        let large = "\"" + String(repeating: "x", count: 900_000) + "\""
        let names = (10..<30).map { "dashboards.\($0)" }
        for name in names { world.publish([value(name, "k", large)]) }
        let items = world.readAll(world.subscribe("dashboards.*", from: nil), page: 3)
        #expect(items.count == 20 && items.gaps.count == 2 && items.gaps.allSatisfy { $0.reason == .size })
        #expect(items.gaps.map(\.position) == [nil, Position(epoch: world.hub.epoch, offset: 20)])
        let id = world.subscribe("dashboards.10", "dashboards.11", "dashboards.12", from: nil)
        #expect(world.page(id, 1).items.names == ["snapshot dashboards.10#1"])
        let other = world.subscribe("dashboards.12", from: nil)
        #expect(
            world.hub.remove(ChannelPattern("dashboards.11")!, from: id) && world.hub.remove(ChannelPattern("dashboards.10")!, from: id))
        #expect(world.hub.sharedPlace(id) == nil && world.hub.sharedPlace(other) != nil)
        #expect(world.readAll(id).names == ["snapshot dashboards.12#1"])
        #expect(world.hub.isLive(id))
    }

    @Test("newcomers of one moment are at one place, page by page")
    func beginningIsShared() {
        var world = World(limits: limits())
        world.publish([value("dashboards.d", "k", "1"), value("dashboards.e", "k", "2")])
        let (one, other) = (world.subscribe("dashboards.*", from: nil), world.subscribe("dashboards.*", from: nil))
        let place = world.hub.sharedPlace(one)
        #expect(place != nil && world.hub.sharedPlace(other) == place)
        _ = world.page(one, 1)
        #expect(world.hub.sharedPlace(one) != place)
        world.hub.move(other, to: world.hub.readingState(of: one))
        #expect(world.hub.sharedPlace(one) == world.hub.sharedPlace(other))
        #expect(world.readAll(other).names == ["snapshot dashboards.e#1"])
        world.publish([value("dashboards.d", "k", "3")])
        let late = world.subscribe("dashboards.*", from: nil)
        #expect(world.hub.sharedPlace(late) != place)
        #expect(world.readAll(one).names == ["snapshot dashboards.e#1", "dashboards.d#2"])
    }

    @Test("a reader of a dashboard who was away gets the newest value of each key, and skipped adds up")
    func conflated() {
        var world = World(limits: limits())
        let id = world.subscribe("dashboards.d")
        world.sink.answers[id] = .refused
        for _ in 0..<5 { world.publish([value("dashboards.d", "k"), value("dashboards.d", "l"), value("dashboards.d", "k")]) }
        #expect(world.readAll(id).names == ["dashboards.d#14+13", "dashboards.d#15"])
    }

    @Test("the newest value of a key outlives its message: it is delivered after the gap, and not told as missing")
    func conflatedAfterRetention() {
        var world = World(limits: limits(memoryBytes: 1, count: 5))
        world.publish([value("dashboards.d", "old")])
        for _ in 0..<20 { world.publish([value("dashboards.d", "k")]) }
        let id = world.subscribe("dashboards.d", "p", from: world.after(0))
        #expect(world.readAll(id).names == ["dashboards.d#1", "dashboards.d#21+19"])
        world.publish([value("dashboards.d", "k")])
        let late = world.subscribe("dashboards.d", "p", from: world.after(5))
        #expect(world.readAll(late).names == ["gap dashboards.d 1-17 retention", "dashboards.d#22+4"])
    }

    @Test("who is far behind on a score gets the state instead of the changes, who is a little behind gets the changes")
    func scoreBehind() {
        var world = World(limits: limits())
        var change = value("scores.a", nil, "{\"x\":2}")
        change.change = .merge
        world.publish([value("scores.a", nil, "{\"x\":0}")])
        let near = world.subscribe("scores.a", from: world.after(1))
        for _ in 0..<4 { world.publish([change]) }
        #expect(world.readAll(near).names == ["scores.a#2", "scores.a#3", "scores.a#4", "scores.a#5"])
        for _ in 0..<10 { world.publish([change]) }
        let far = world.subscribe("scores.a", from: world.after(1))
        #expect(world.readAll(far).names == ["snapshot scores.a#15"])
        world.publish([value("scores.a", nil, "{\"x\":4}")])
        #expect(world.sink.taken[far]!.names == ["scores.a#16"])
    }

    @Test("messages of a score that are no changes are all delivered")
    func scoreEvents() {
        var world = World(limits: limits())
        for _ in 0..<40 { world.publish([value("scores.a", nil, "{\"x\":0}")]) }
        let far = world.subscribe("scores.a", from: world.after(1))
        #expect(world.readOn(far).notifications.map(\.sequence) == Array(2...40))
    }

    @Test("a merge patch changes the state; one that does not apply is refused with the reason")
    func patches() {
        var world = World(limits: limits())
        func change(_ channel: String, _ data: String) -> Publication {
            var publication = value(channel, nil, data)
            publication.change = .merge
            return publication
        }
        #expect(world.publish([change("scores.a", "{\"x\":1}")]) == [.refused(.change(.noState))])
        world.publish([value("scores.a", nil, "{\"x\":1,\"y\":{\"z\":2}}"), value("scores.b", nil, "[1]")])
        #expect(world.publish([change("scores.a", "[1]")]) == [.refused(.change(.patchIsNotAnObject))])
        #expect(world.publish([change("scores.b", "{\"x\":1}")]) == [.refused(.change(.stateIsNotAnObject))])
        world.publish([change("scores.a", "{\"x\":null,\"y\":{\"w\":3}}")])
        let snapshot = world.hub.tail[ChannelName("scores.a")!]!.snapshot!
        #expect(String(decoding: snapshot.data, as: UTF8.self) == "{\"y\":{\"z\":2,\"w\":3}}")
        #expect(snapshot.sequence == 2)
    }

    @Test("a user without a position gets the alerts that are unread, and their count adds up")
    func unread() {
        var world = World(limits: limits())
        let user = FieldText("u")!
        world.publish([alert(), alert(ttl: 1), alert(key: "k"), alert(), alert(replaces: "k"), alert()])
        let isDone = world.writer.acknowledge(
            user, ChannelName("alerts.a")!, [1...1, 6...6], isDismissed: false, stored: Receipt(), nowMilliseconds: world.now
        )
        #expect(isDone)
        world.commit()
        world.now += 2 * seconds
        let id = world.subscribe("alerts.*", from: nil, options: options(user: "u"))
        #expect(world.readAll(id, page: 1).names == ["alerts.a#4", "alerts.a#5", "gap alerts.a 6-6 read"])
        let other = world.subscribe("alerts.*", from: nil, options: options(user: "v"))
        #expect(world.readAll(other).names == ["alerts.a#1", "alerts.a#4+2", "alerts.a#5", "alerts.a#6"])
    }

    @Test("a gap says that messages have expired only where all of them have")
    func expiredAmongRead() {
        var world = World(limits: limits())
        world.publish([alert(), alert(), alert(ttl: 1), alert(ttl: 1), alert(), alert(ttl: 1)])
        let isDone = world.writer.acknowledge(
            FieldText("u")!, ChannelName("alerts.a")!, [2...2], isDismissed: false, stored: Receipt(), nowMilliseconds: world.now
        )
        #expect(isDone)
        world.commit()
        let id = world.subscribe("alerts.*", from: nil, options: options(user: "u"))
        let room = Hub.Room(notifications: 2, bytes: 1 << 20)
        func page() -> Page? {
            guard case .wants(let request) = world.hub.read(id, room: room, nowMilliseconds: world.now) else { return nil }
            // They expire while the answer is under way.
            let answer = (request, world.log.answer(request.query, now: world.now))
            guard case .page(let page) = world.hub.read(id, room: room, nowMilliseconds: world.now + 2 * seconds, answer: answer) else {
                return nil
            }
            return page
        }
        #expect(page()?.items.names == ["alerts.a#1", "gap alerts.a 2-3 read"])
        #expect(page()?.items.names == ["alerts.a#5+1"])
        #expect(page()?.items.names == ["gap alerts.a 6-6 expired"])
    }

    @Test("what is read is kept exactly, however many holes it has; below what the channel keeps it is one range")
    func holes() {
        var limits = limits()
        limits.feeds.named["alerts"]!.retention.countMax = 4000
        var world = World(limits: limits)
        let user = FieldText("u")!
        for _ in 0..<5000 { world.publish([alert()]) }
        var receipt = Receipt()
        for start in stride(from: 1 as UInt64, to: 5000, by: 500) {
            let ranges = stride(from: start, to: start + 500, by: 2).map { $0...$0 }
            let isDone = world.writer.acknowledge(
                user, ChannelName("alerts.a")!, ranges, isDismissed: false, stored: receipt, nowMilliseconds: world.now)
            #expect(isDone)
            let commit = world.writer.takeCommit()
            receipt = commit.receipts[0].receipt
        }
        for sequence in 1001...5000 as ClosedRange<UInt64> where receipt.read.contains(sequence) != (sequence % 2 == 1) {
            Issue.record("\(sequence)")
        }
        #expect(receipt.read.ranges.count == 2001 && receipt.read.ranges[0] == 1...999)
    }

    @Test("a set of sequences is what a plain set is", arguments: 0..<50 as Range<UInt64>)
    func sequenceSets(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var (set, plain) = (SequenceSet(), Set<UInt64>())
        for _ in 0..<60 {
            let first = UInt64.random(in: 0...80, using: &random)
            let range = first...(first + UInt64.random(in: 0...5, using: &random))
            set.insert(range)
            plain.formUnion(range)
            #expect((0...90).allSatisfy { set.contains($0) == plain.contains($0) })
            #expect(zip(set.ranges, set.ranges.dropFirst()).allSatisfy { $0.upperBound + 1 < $1.lowerBound })
        }
        let floor = UInt64.random(in: 0...90, using: &random)
        var merged = set
        merged.mergeBelow(floor)
        #expect((floor...90).allSatisfy { merged.contains($0) == plain.contains($0) })
        #expect(merged.ranges.filter { $0.lowerBound <= floor }.count <= 1)
        set.insert(3...UInt64.max)
        #expect(set.ranges.last?.upperBound == .max && set.contains(.max))
    }

    @Test("what is read on one device is told to the user's others, and to nobody else")
    func acknowledged() {
        var world = World(limits: limits())
        world.publish([alert()])
        let own = ChannelName(acknowledgementsOf: FieldText("u")!)!
        let device = world.hub.subscribe([ChannelPattern("alerts.a")!, ChannelPattern(own)], from: .latest, knownHead: world.writer.head)
        let everything = world.subscribe(">")
        _ = world.writer.acknowledge(
            FieldText("u")!, ChannelName("alerts.a")!, [1...5], isDismissed: true, stored: Receipt(), nowMilliseconds: world.now
        )
        world.commit()
        let object = String(decoding: world.sink.taken[device]![0].object, as: UTF8.self)
        #expect(object.hasPrefix("{\"type\":\"ack\",\"position\":"))
        #expect(object.hasSuffix("\"data\":{\"channel\":\"alerts.a\",\"ranges\":[[1,1]],\"dismissed\":true}}"))
        #expect(world.sink.taken[everything] == nil)
        #expect(world.publish([value(own.string)]) == [.refused(.reservedChannel)])
    }

    @Test("a digest stands for what was missed")
    func digest() {
        var world = World(limits: limits())
        world.publish((0..<20).map { alert(key: "k\($0 % 3)", $0 == 7 ? .critical : .normal) })
        let id = world.subscribe("alerts.a", from: world.after(2), options: options(digest: true))
        let items = world.readAll(id)
        #expect(items.names == ["digest alerts.a 3-20"])
        if case .digest(_, let digest, _) = items[0] {
            #expect(digest.count == 18)
            #expect(digest.byPriority == [.critical: 1, .normal: 17])
            #expect(digest.newest.map(\.sequence) == [18, 19, 20])
        }
        world.publish([alert()])
        #expect(world.sink.taken[id]!.names == ["alerts.a#21"])
    }

    @Test("a value without a successor is marked stale, once, and the mark is a message of the log")
    func stale() {
        var limits = limits()
        limits.feeds.named["dashboards"]!.maxAgeSeconds = 60
        var world = World(limits: limits)
        world.publish([value("dashboards.d", "k", "5")])
        world.now += 30 * seconds
        world.publish([value("dashboards.d", "l", "6")])
        let id = world.subscribe("dashboards.d")
        for _ in 0..<5 {
            world.now += 10 * seconds
            world.writer.expire(nowMilliseconds: world.now)
            world.commit()
        }
        let taken = world.sink.taken[id]!
        #expect(taken.names == ["dashboards.d#3"])
        #expect(
            String(decoding: taken[0].object, as: UTF8.self).contains("\"key\":\"k\",\"stale\":\"1970-01-01T00:16:40.000Z\",\"data\":5}"))
        #expect(world.hub.tail[ChannelName("dashboards.d")!]!.snapshot!.staleKeys == ["k"])
        world.publish([value("dashboards.d", "k", "7")])
        #expect(world.hub.tail[ChannelName("dashboards.d")!]!.snapshot!.staleKeys == [])
    }

    struct Earlier: Sendable, CustomTestStringConvertible {
        var place: Position.Place
        /// Sequences of `plain.a` and `plain.b`, in the order in which they come.
        var expected: [String]
        /// What is told before them.
        var gap: Position.Place?

        var testDescription: String { "\(Position(epoch: LogEpoch(random: 0), place))" }

        init(_ place: Position.Place, _ expected: String, gap: Position.Place? = nil) {
            (self.place, self.gap) = (place, gap)
            self.expected = expected.split(separator: " ").map { String($0) }
        }

        static func within(_ base: UInt64?, _ through: UInt64, _ channel: ChannelID, _ offset: UInt64) -> Position.Place {
            .within(Position.Window(base: base, through: through, channel: channel, offset: offset))
        }
    }

    /// Numbers 1 to 6: a a b | b a b. The earlier epoch ended with number 3, and another process gave 4 and so on out meanwhile.
    @Test(
        "a position of an earlier epoch is as good as one of this one, as far as that epoch got; beyond it there is a gap",
        arguments: [
            Earlier(.at(0), "a1 a2 b1 b2 a3 b3"), Earlier(.at(2), "b1 b2 a3 b3"), Earlier(.at(3), "b2 a3 b3"),
            Earlier(.at(4), "b2 a3 b3", gap: .at(3)), Earlier(.at(6), "b2 a3 b3", gap: .at(3)), Earlier(.at(900), "b2 a3 b3", gap: .at(3)),
            Earlier(Earlier.within(1, 3, 0, 1), "a2 b1 b2 a3 b3"), Earlier(Earlier.within(0, 3, 0, 2), "b1 b2 a3 b3"),
            Earlier(Earlier.within(0, 3, 1, 0), "b1 b2 a3 b3"), Earlier(Earlier.within(0, 2, 1, 2), "b1 b2 a3 b3"),
            // Of a window that ended behind it: what had been read of it was read up to there.
            Earlier(Earlier.within(1, 5, 0, 1), "a2 b1 b2 a3 b3", gap: Earlier.within(1, 3, 0, 1)),
            Earlier(Earlier.within(1, 5, 1, 1), "b1 b2 a3 b3", gap: Earlier.within(1, 3, 1, 1)),
            Earlier(Earlier.within(4, 9, 1, 6), "b2 a3 b3", gap: Earlier.within(3, 3, 1, 3)),
        ])
    func pastEpochs(_ item: Earlier) {
        var world = World()
        world.publish("plain.a", "plain.a", "plain.b", "plain.b", "plain.a", "plain.b")
        let past = LogEpoch(random: 77)
        let (hub, items) = world.read(after: Position(epoch: past, item.place), past: [past: 3, LogEpoch(random: 78): 5])
        let told = item.gap.map {
            Gap(patterns: [ChannelPattern("plain.*")!], reason: .epoch, position: Position(epoch: hub.epoch, $0))
        }
        #expect(items.gaps == (told.map { [$0] } ?? []))
        #expect(Array(items.prefix(1)).gaps.count == items.gaps.count)
        #expect(items.compactMap(\.notification).map { "\($0.channel.string.last!)\($0.sequence)" } == item.expected)
        // It goes on in this one.
        #expect(items.compactMap(\.notification).allSatisfy { String(decoding: $0.object, as: UTF8.self).contains("\(hub.epoch).") })
    }

    @Test("a position of an epoch that the log does not know gets a gap, then everything; one that has seen nothing begins as ever")
    func unknownEpoch() {
        var world = World()
        world.publish("plain.a", "plain.b")
        let other = LogEpoch(random: 78)
        for place in [Position.Place.at(0), .at(1), Earlier.within(0, 1, 0, 0)] {
            let (hub, items) = world.read(after: Position(epoch: other, place), past: [LogEpoch(random: 77): 3])
            #expect(items.gaps.map(\.position) == [Position(epoch: hub.epoch, offset: 0)])
            #expect(items.compactMap(\.notification).map(\.sequence) == [1, 1])
        }
        for epoch in [other, LogEpoch(random: 77)] {
            #expect(world.read(after: Position(epoch: epoch, .beginning), past: [LogEpoch(random: 77): 3]).items.isEmpty)
        }
    }
}

extension World {
    /// All that one who comes back to `plain.*` is sent, and the hub that sends it: of a process that has these epochs behind it.
    fileprivate func read(after position: Position, past: [LogEpoch: UInt64]) -> (hub: Hub, items: [PageItem]) {
        var preload = writer.preload()
        preload.pastEpochs = past
        let hub = Hub(preload, limits: limits)
        let id = hub.subscribe([ChannelPattern("plain.*")!], from: .after(position), knownHead: hub.head)
        var items: [PageItem] = []
        var answer: (request: LogRequest, answer: LogAnswer)?
        while true {
            switch hub.read(id, room: Hub.Room(notifications: 10, bytes: 1000), nowMilliseconds: 0, answer: answer) {
            case .page(let page):
                items += page.items
                if page.isAtHead { return (hub, items) }
            case .wants(let request): answer = (request, log.answer(request.query, now: 0))
            case .notYet: fatalError("all is there")
            }
        }
    }
}

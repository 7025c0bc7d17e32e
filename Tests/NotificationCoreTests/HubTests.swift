import TestSupport
import Testing

@testable import NotificationCore

/// A writer and a hub that follows it, and a sink that keeps what it is handed.
private struct World: ~Copyable {
    struct Sink: DeliverySink {
        var batch: [Notification] = []
        var taken: [SubscriberID: [Notification]] = [:]
        var calls = 0
        /// What a subscriber answers, where it is not `taken`.
        var answers: [SubscriberID: DeliveryOutcome] = [:]

        mutating func deliver(_ delivery: Delivery) -> DeliveryOutcome {
            calls += 1
            let answer = answers[delivery.subscriber] ?? .taken
            if case .refused = answer { return answer }
            taken[delivery.subscriber, default: []] += delivery.indices.map { batch[Int($0)] }
            return answer
        }
    }

    var writer: LogWriter
    let hub: Hub
    var sink = Sink()
    var now: Int64 = 1_000_000

    init(limits: LogLimits = LogLimits()) {
        let epoch = LogEpoch(random: 1)
        writer = LogWriter(epoch: epoch, limits: limits)
        hub = Hub(epoch: epoch, limits: limits)
    }

    mutating func publish(_ channels: String...) { publish(channels) }

    mutating func publish(_ channels: [String]) {
        var batch: [Notification] = []
        let publications = channels.map { Publication(channel: ChannelName($0)!, data: Array("{}".utf8)) }
        _ = writer.append(AppendRequest(publications), nowMilliseconds: now, batch: &batch)
        sink.batch = batch
        hub.apply(batch, nowMilliseconds: now, to: &sink)
    }

    func subscribe(_ patterns: String..., from start: StartPoint = .latest) -> SubscriberID {
        hub.subscribe(patterns.map { ChannelPattern($0)! }, from: start, knownHead: writer.head)
    }

    func after(_ offset: UInt64) -> StartPoint { .after(Position(epoch: hub.epoch, offset: offset)) }

    /// Reads on to the head, a page at a time.
    func readOn(_ id: SubscriberID, page: Int = 100) -> (gaps: [Gap], notifications: [Notification]) {
        var gaps: [Gap] = []
        var notifications: [Notification] = []
        for _ in 0..<10_000 {
            let next = hub.read(id, notificationsMax: page, bytesMax: 1 << 20)
            gaps += next.gaps
            notifications += next.notifications
            if next.isLive { break }
        }
        return (gaps, notifications)
    }
}

extension [Notification] {
    fileprivate var names: [String] { map { "\($0.channel)#\($0.sequence)" } }
}

@Suite struct HubTests {
    @Test("a live subscriber gets what matches, in order, once, also when several of its patterns match")
    func live() {
        var world = World()
        let one = world.subscribe("a.x")
        let many = world.subscribe("a.*", "a.x", ">")
        world.publish("a.x")
        world.publish("a.y", "b", "a.x", "a.x")
        #expect(world.sink.taken[one]!.names == ["a.x#1", "a.x#2", "a.x#3"])
        #expect(world.sink.taken[many]!.names == ["a.x#1", "a.y#1", "b#1", "a.x#2", "a.x#3"])
    }

    @Test("what a batch holds for one subscriber is one delivery")
    func oneDelivery() {
        var world = World()
        _ = world.subscribe("a", "b")
        world.publish("a", "b", "a", "c")
        #expect(world.sink.calls == 1)
    }

    @Test("a full subscriber stops, costs nothing more, and reads on where it stopped")
    func full() {
        var world = World()
        let slow = world.subscribe("a")
        world.publish("a")
        world.sink.answers[slow] = .takenAndFull
        world.publish("a")
        world.sink.answers[slow] = nil
        let calls = world.sink.calls
        for _ in 0..<5 { world.publish("a") }
        #expect(world.sink.calls == calls)
        #expect(world.sink.taken[slow]!.names == ["a#1", "a#2"])
        #expect(world.readOn(slow, page: 2).notifications.names == ["a#3", "a#4", "a#5", "a#6", "a#7"])
        world.publish("a")
        #expect(world.sink.taken[slow]!.names.last == "a#8")
    }

    @Test("a refused delivery is read again later")
    func refused() {
        var world = World()
        let slow = world.subscribe("a", "b")
        world.publish("a")
        world.sink.answers[slow] = .refused
        world.publish("a", "b")
        world.sink.answers[slow] = nil
        #expect(world.readOn(slow).notifications.names == ["a#2", "b#1"])
    }

    @Test("a position is read on from over several channels in the order of the log")
    func resume() {
        var world = World()
        world.publish("a", "b.x", "c", "a", "b.y", "a")
        let reader = world.subscribe("a", "b.>", from: world.after(1))
        let read = world.readOn(reader, page: 2)
        #expect(read.notifications.names == ["b.x#1", "a#2", "b.y#1", "a#3"])
        #expect(read.gaps.isEmpty)
        world.publish("b.z")
        #expect(world.sink.taken[reader]!.names == ["b.z#1"])
        #expect(world.hub.position(of: reader).offsets == [7])
    }

    @Test("a position ahead of this loop is waited for, without a repeat")
    func ahead() {
        var world = World()
        world.publish("a")
        var batch: [Notification] = []
        _ = world.writer.append(
            AppendRequest([Publication(channel: ChannelName("a")!, data: Array("1".utf8))]), nowMilliseconds: 0, batch: &batch)
        let reader = world.subscribe("a", from: world.after(2))
        #expect(world.readOn(reader).notifications.isEmpty)
        world.sink.batch = batch
        world.hub.apply(batch, nowMilliseconds: 0, to: &world.sink)
        #expect(world.sink.taken[reader] == nil)
        world.publish("a")
        #expect(world.sink.taken[reader]!.names == ["a#3"])
    }

    @Test("a position of another epoch, or beyond the log, gets a gap and then all there is")
    func foreign() {
        var world = World()
        world.publish("a", "a")
        for start in [StartPoint.after(Position(epoch: LogEpoch(random: 99), offset: 1)), world.after(1000)] {
            let reader = world.subscribe("a", from: start)
            let read = world.readOn(reader, page: 1)
            #expect(read.gaps == [Gap(channel: nil, from: nil, to: nil, reason: .epoch, offset: 0)])
            #expect(read.notifications.names == ["a#1", "a#2"])
        }
    }

    @Test("what retention dropped is told as a gap, once, and not to one who asks for what there is")
    func retentionGap() {
        var world = World(limits: LogLimits(retention: Retention(countMax: 3)))
        let slow = world.subscribe("a", "b")
        world.sink.answers[slow] = .refused
        world.publish("b", "a", "a", "a", "a", "a", "b")
        world.sink.answers[slow] = nil
        let read = world.readOn(slow, page: 1)
        #expect(read.gaps.map { "\($0.channel!) \($0.from!)-\($0.to!) \($0.reason)" } == ["a 1-2 retention"])
        #expect(read.notifications.names == ["b#1", "a#3", "a#4", "a#5", "b#2"])
        let fresh = world.subscribe("a", from: .earliest)
        let all = world.readOn(fresh)
        #expect(all.gaps.isEmpty)
        #expect(all.notifications.names == ["a#3", "a#4", "a#5"])
    }

    @Test("what is dropped while a reader reads on is told too, also to one who began at the earliest")
    func gapWhileReading() {
        var world = World(limits: LogLimits(retention: Retention(countMax: 4)))
        world.publish("a", "a", "a", "a", "a")
        let reader = world.subscribe("a", from: .earliest)
        #expect(world.hub.read(reader, notificationsMax: 1, bytesMax: 1000).notifications.names == ["a#2"])
        world.publish("a", "a", "a")
        let read = world.readOn(reader)
        #expect(read.gaps.map { "\($0.from!)-\($0.to!)" } == ["2-4"])
        #expect(read.notifications.names == ["a#5", "a#6", "a#7", "a#8"])
    }

    @Test("channels added from an earlier position are read on beside the live ones, and then live themselves")
    func sideReader() throws {
        var world = World()
        world.publish("b", "b", "a")
        let id = world.subscribe("a")
        let position = world.after(1)
        #expect(try world.hub.add([ChannelPattern("b")!], from: position, to: id, knownHead: 3, patternsMax: 10))
        world.publish("a", "b")
        #expect(world.sink.taken[id]!.names == ["a#2"])
        #expect(world.readOn(id, page: 1).notifications.names == ["b#2", "b#3"])
        world.publish("b", "a")
        #expect(world.sink.taken[id]!.names == ["a#2", "b#4", "a#3"])
    }

    @Test("the only subscription of a connection may be a side reader")
    func onlySideReader() throws {
        var world = World()
        world.publish("b", "b")
        let id = world.hub.subscribe([], from: .latest, knownHead: 2)
        #expect(try world.hub.add([ChannelPattern("b")!], from: .earliest, to: id, knownHead: 2, patternsMax: 10))
        #expect(world.readOn(id, page: 1).notifications.names == ["b#1", "b#2"])
        world.publish("b")
        #expect(world.sink.taken[id]!.names == ["b#3"])
    }

    @Test("two subscriptions of one subscriber cannot overlap, and there is a limit to them")
    func refusals() throws {
        let world = World()
        let id = world.subscribe("a.*")
        #expect(throws: SubscribeFault.overlaps(ChannelPattern("a.*")!)) {
            try world.hub.add([ChannelPattern("a.b")!], from: .latest, to: id, knownHead: 0, patternsMax: 10)
        }
        #expect(throws: SubscribeFault.tooMany(max: 2)) {
            try world.hub.add([ChannelPattern("b")!, ChannelPattern("c")!], from: .latest, to: id, knownHead: 0, patternsMax: 2)
        }
    }

    @Test("nothing comes after unsubscribing, and nothing stays behind")
    func unsubscribe() {
        var world = World()
        let ids = (0..<10).map { _ in world.subscribe("a", "b.>") }
        #expect(world.hub.remove(ChannelPattern("a")!, from: ids[0]))
        #expect(!world.hub.remove(ChannelPattern("a")!, from: ids[0]))
        world.publish("a", "b.c")
        #expect(world.sink.taken[ids[0]]!.names == ["b.c#1"])
        #expect(world.sink.taken[ids[9]]!.names == ["a#1", "b.c#1"])
        for id in ids { world.hub.unsubscribe(id) }
        #expect(world.hub.subscriberCount == 0)
        #expect(world.hub.patternCount == 0)
        let calls = world.sink.calls
        world.publish("a", "b.c")
        #expect(world.sink.calls == calls)
        #expect(!world.hub.isCurrent(ids[0]))
    }

    @Test("the tail holds its bounds of count, bytes, age and bytes over all channels")
    func bounds() {
        var world = World(limits: LogLimits(retention: Retention(countMax: 10, ageSecondsMax: 60)))
        world.publish(Array(repeating: "a", count: 25))
        #expect(world.hub.tail[ChannelName("a")!]!.count == 10)
        #expect(world.hub.tail[ChannelName("a")!]!.trimmedSequence == 15)
        world.now += 61_000
        world.hub.expire(nowMilliseconds: world.now)
        #expect(world.hub.tail.count == 0)
        #expect(world.hub.tail.bytes == 0)
        world.publish("a")
        #expect(world.hub.tail[ChannelName("a")!]!.lastSequence == 26)

        var small = World(limits: LogLimits(bytesMax: 5000))
        for _ in 0..<100 { small.publish("a", "b", "c") }
        #expect(small.hub.tail.bytes <= 5000)
        #expect(small.hub.tail.bytes > 4000)
        #expect(small.hub.tail[ChannelName("a")!]!.lastSequence == 100)
    }

    @Test("more channels than the limit are refused")
    func channelLimit() {
        var writer = LogWriter(epoch: LogEpoch(random: 1), limits: LogLimits(channelsMax: 1))
        var batch: [Notification] = []
        let outcomes = writer.append(
            AppendRequest(["a", "b", "a"].map { Publication(channel: ChannelName($0)!, data: Array("1".utf8)) }),
            nowMilliseconds: 0, batch: &batch)
        #expect(outcomes[1] == .refused(.tooManyChannels))
        #expect(batch.names == ["a#1", "a#2"])
    }

    @Test("a repeated Idempotency-Key gives the first outcome; with another content it is refused; it is forgotten in time")
    func idempotency() {
        var writer = LogWriter(
            epoch: LogEpoch(random: 1), limits: LogLimits(), idempotency: IdempotencyTable(countMax: 2, ageSecondsMax: 10))
        var batch: [Notification] = []
        func publish(_ key: String, _ fingerprint: UInt64, at now: Int64 = 0) -> AppendOutcome {
            writer.append(
                AppendRequest(
                    [Publication(channel: ChannelName("a")!, data: Array("1".utf8))], idempotencyKey: FieldText(key),
                    fingerprint: fingerprint),
                nowMilliseconds: now, batch: &batch)[0]
        }
        let first = publish("k", 1)
        guard case .appended(let receipt) = first else {
            Issue.record("\(first)")
            return
        }
        #expect(publish("k", 1) == .repeated(receipt))
        #expect(publish("k", 2) == .refused(.idempotencyKeyReused))
        #expect(batch.count == 1)
        _ = publish("l", 1)
        _ = publish("m", 1)
        #expect(batch.count == 3)
        _ = publish("k", 2)
        #expect(batch.count == 4)
        _ = publish("m", 1, at: 10_001)
        #expect(batch.count == 5)
    }

    @Test("the promise holds for subscribers that come, stall, resume and go at random", arguments: 0..<40)
    func random(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var world = World(limits: LogLimits(retention: Retention(countMax: 30)))
        let channels = ["a", "b.x", "b.y", "c"]
        var next: [SubscriberID: [String: UInt64]] = [:]
        var consumed: [SubscriberID: Int] = [:]
        func check(_ id: SubscriberID, _ gaps: [Gap], _ notifications: [Notification]) {
            for gap in gaps {
                let expected = next[id]![gap.channel!.string] ?? 1
                #expect(gap.to! >= expected && gap.from! <= expected, "seed \(seed)")
                next[id]![gap.channel!.string] = gap.to! + 1
            }
            for notification in notifications {
                let name = notification.channel.string
                if let expected = next[id]![name] { #expect(notification.sequence == expected, "seed \(seed) \(name)") }
                next[id]![name] = notification.sequence + 1
            }
        }
        func drain(_ id: SubscriberID) {
            let taken = world.sink.taken[id] ?? []
            check(id, [], Array(taken[(consumed[id] ?? 0)...]))
            consumed[id] = taken.count
        }
        for _ in 0..<400 {
            switch Int.random(in: 0..<10, using: &random) {
            case 0:
                let patterns = [["a"], ["b.*", "b.x"], [">"], ["a", "c"]].randomElement(using: &random)!.map { ChannelPattern($0)! }
                let id = world.hub.subscribe(patterns, from: .latest, knownHead: world.writer.head)
                next[id] = [:]
                for channel in channels { next[id]![channel] = (world.hub.tail[ChannelName(channel)!]?.lastSequence ?? 0) + 1 }
            case 1:
                for id in Array(next.keys) where Int.random(in: 0..<4, using: &random) == 0 {
                    drain(id)
                    world.hub.unsubscribe(id)
                    next[id] = nil
                }
            case 2...4:
                for id in next.keys {
                    world.sink.answers[id] = [nil, .refused, .takenAndFull].randomElement(using: &random)!
                }
            case 5...6:
                for id in next.keys where Bool.random(using: &random) {
                    drain(id)
                    let page = world.hub.read(id, notificationsMax: Int.random(in: 1...10, using: &random), bytesMax: 2000)
                    check(id, page.gaps, page.notifications)
                }
            default:
                world.publish((0..<Int.random(in: 1...8, using: &random)).map { _ in channels.randomElement(using: &random)! })
                for id in next.keys { drain(id) }
            }
        }
        for id in next.keys {
            world.sink.answers[id] = nil
            let rest = world.readOn(id, page: 3)
            check(id, rest.gaps, rest.notifications)
        }
        world.publish(channels)
        for id in next.keys { drain(id) }
    }
}

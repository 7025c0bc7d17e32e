import TestSupport
import Testing

@testable import NotificationCore

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
        #expect(world.hub.position(of: reader).offset == 7)
    }

    @Test("a position ahead of this loop is waited for, without a repeat")
    func ahead() {
        var world = World()
        world.publish("a")
        _ = world.writer.append(AppendRequest([Publication(channel: ChannelName("a")!, data: Array("1".utf8))]), nowMilliseconds: 0)
        let reader = world.subscribe("a", from: world.after(2))
        #expect(world.readOn(reader).notifications.isEmpty)
        world.commit()
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
            #expect(
                read.gaps == [
                    Gap(patterns: [ChannelPattern("a")!], reason: .epoch, position: Position(epoch: world.hub.epoch, offset: 0))
                ])
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
        #expect(world.page(reader, 1).items.names == ["a#2"])
        world.publish("a", "a", "a")
        let read = world.readOn(reader)
        #expect(read.gaps.map { "\($0.from!)-\($0.to!)" } == ["2-4"])
        #expect(read.notifications.names == ["a#5", "a#6", "a#7", "a#8"])
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
        #expect(world.hub.tail[ChannelName("a")!]!.floorSequence == 15)
        world.now += 61_000
        world.hub.expire(nowMilliseconds: world.now)
        #expect(world.hub.tail.count == 0)
        #expect(world.hub.tail.bytes == 0)
        world.publish("a")
        #expect(world.hub.tail[ChannelName("a")!]!.lastSequence == 26)

        var small = World(limits: LogLimits(memoryBytesMax: 5000))
        for _ in 0..<100 { small.publish("a", "b", "c") }
        #expect(small.hub.tail.bytes <= 5000)
        #expect(small.hub.tail.bytes > 4000)
        #expect(small.hub.tail[ChannelName("a")!]!.lastSequence == 100)
    }

    @Test("more channels than the limit are refused")
    func channelLimit() {
        var world = World(limits: LogLimits(channelsMax: 1))
        let outcomes = world.publish(["a", "b", "a"].map { Publication(channel: ChannelName($0)!, data: Array("1".utf8)) })
        #expect(outcomes[1] == .refused(.tooManyChannels))
        #expect(outcomes.map { $0.receipt?.sequence } == [1, nil, 2])
    }

    @Test("a repeated Idempotency-Key gives the first outcome; with another content it is refused; it is forgotten in time")
    func idempotency() {
        var limits = LogLimits()
        limits.idempotency.ageSecondsMax = 10
        var writer = LogWriter(LogContents(epoch: LogEpoch(random: 1)), limits: limits)
        func publish(_ key: String, _ fingerprint: UInt64, of publisher: String = "", at now: Int64 = 0) -> AppendOutcome {
            let publication = Publication(channel: ChannelName("a")!, data: Array("1".utf8))
            var request = AppendRequest([publication], idempotencyKey: FieldText(key), fingerprint: fingerprint)
            request.publisher = publisher
            return writer.append(request, nowMilliseconds: now)[0]
        }
        let first = publish("k", 1)
        guard case .appended(let receipt) = first else {
            Issue.record("\(first)")
            return
        }
        #expect(publish("k", 1) == .repeated(receipt))
        #expect(publish("k", 2) == .refused(.idempotencyKeyReused))
        #expect(writer.head == 1)
        _ = publish("l", 1)
        #expect(writer.head == 2)
        _ = publish("k", 2, of: "somebody else")
        #expect(writer.head == 3)
        #expect(publish("k", 1, at: 10_000) == .repeated(receipt))
        _ = publish("k", 2, at: 10_001)
        #expect(writer.head == 4)
    }

    @Test("what cannot be asked of the store is not taken: it might be there already")
    func unknownAnswer() {
        struct Fault: Error {}
        var writer = LogWriter(LogContents(epoch: LogEpoch(random: 1)), limits: LogLimits(), answered: { _ in throw Fault() })
        let publication = Publication(channel: ChannelName("a")!, data: Array("1".utf8))
        #expect(writer.append(AppendRequest([publication], idempotencyKey: FieldText("k")), nowMilliseconds: 0) == [.refused(.storeFailed)])
        #expect(writer.append(AppendRequest([publication]), nowMilliseconds: 0)[0].receipt?.sequence == 1)
    }

    @Test("a fingerprint is of what is stored, but for the span that has published it")
    func fingerprints() {
        let base = Publication(channel: ChannelName("a")!, data: Array("1".utf8), event: FieldText("e"), ttlSeconds: 5)
        var others = Array(repeating: base, count: 9)
        others[0].channel = ChannelName("b")!
        others[1].data = Array("2".utf8)
        others[2].isBase64 = true
        others[3].event = nil
        (others[4].event, others[4].key) = (nil, base.event)
        (others[5].event, others[5].replaces) = (nil, base.event)
        others[6].ttlSeconds = nil
        others[7].priority = .high
        others[8].change = .merge
        let fingerprints = ([base] + others).map { Fingerprint([$0]).value } + [Fingerprint([base, base]).value]
        #expect(Set(fingerprints).count == 11)
        var traced = base
        traced.trace = TraceParent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        #expect(Fingerprint([traced]).value == Fingerprint([base]).value)
    }

    @Test("what a batch had refused is refused again under its key, and what was taken is not taken twice")
    func idempotentPart() {
        var world = World(limits: LogLimits(channelsMax: 1))
        let publications = ["a", "b", "a"].map { Publication(channel: ChannelName($0)!, data: Array("1".utf8)) }
        let request = AppendRequest(publications, idempotencyKey: FieldText("k"), fingerprint: 1)
        let first = world.writer.append(request, nowMilliseconds: 0)
        let second = world.writer.append(request, nowMilliseconds: 0)
        #expect(world.writer.head == 2)
        #expect(second.map(\.receipt) == first.map(\.receipt))
        #expect(second[1] == .refused(.refusedBefore))
    }

    @Test(
        "a key answers for the channels that it was used for, and for no others",
        arguments: [["b", "a"], ["a"], ["b"], ["a", "b", "b"], []])
    func idempotentChannels(_ others: [String]) {
        var world = World()
        func request(_ channels: [String]) -> AppendRequest {
            AppendRequest(
                channels.map { Publication(channel: ChannelName($0)!, data: Array("1".utf8)) }, idempotencyKey: FieldText("k"),
                fingerprint: 1
            )
        }
        _ = world.writer.append(request(["a", "b"]), nowMilliseconds: 0)
        let outcomes = world.writer.append(request(others), nowMilliseconds: 0)
        #expect(outcomes == others.map { _ in .refused(.idempotencyKeyReused) })
        #expect(world.writer.head == 2)
    }

    @Test("what is taken back of tokens has its place among any number of channels; nobody else puts anything there")
    func revocations() {
        var world = World(limits: LogLimits(channelsMax: 1))
        _ = world.publish([Publication(channel: ChannelName("a")!, data: Array("1".utf8))])
        var request = AppendRequest([Publication(channel: .revocations, data: Array("{}".utf8))])
        #expect(world.writer.append(request, nowMilliseconds: 0) == [.refused(.reservedChannel)])
        request.isOwn = true
        #expect(world.writer.append(request, nowMilliseconds: 0)[0].receipt?.sequence == 1)
    }
}

import NotificationCore
import NotificationStore
import Synchronization
import TestSupport
import Testing

@Suite struct ConcurrencyTests {
    private final class Progress: Sendable {
        let head = Atomic<UInt64>(0)
        let isDone = Atomic<Bool>(false)
    }

    /// What each reader sees has no hole that is not told as a trim mark, while messages come and go.
    @Test("readers follow while the writer appends and drops", arguments: [true, false])
    func following(isInMemory: Bool) async throws {
        let folder = TemporaryFolder()
        let store = try open(isInMemory ? ":memory:" : folder.log, limits(countMax: 60), cacheBytesMax: 30_000)
        let progress = Progress()
        let channels: [ChannelID] = [0, 1, 2]
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                var random = SeededRandom(seed: 4)
                var model = LogModel()
                for channel in 0..<3 { _ = model.channel("plain.c\(channel)") }
                defer { progress.isDone.store(true, ordering: .releasing) }
                for _ in 0..<1500 {
                    let count = random.number(1...8)
                    for _ in 0..<count { model.add(ChannelID(random.number(0...2))) }
                    try store.commit(model.commit(last: count))
                    progress.head.store(model.head, ordering: .releasing)
                    if random.chance(10) { _ = try store.maintain(nowMilliseconds: start) }
                }
            }
            group.addTask {
                var random = SeededRandom(seed: 5)
                var rounds = 0
                while !progress.isDone.load(ordering: .acquiring) || rounds < 50 {
                    rounds += 1
                    let through = progress.head.load(ordering: .acquiring)
                    guard through > 0 else { continue }
                    // Either from the beginning, or from near the place up to which is kept.
                    let near = through > 200 ? through - UInt64(random.number(100...200)) : 0
                    var after = random.chance(50) ? 0 : near
                    let begin = try store.answer(
                        LogQuery(.sequences, channels: channels, after: after, through: through), nowMilliseconds: start)
                    var last = begin.sequences
                    for mark in begin.trimmed { last[Int(mark.channel)] = max(last[Int(mark.channel)], mark.sequence) }
                    while after < through {
                        let query = LogQuery(
                            .messages, channels: channels, after: after, through: through, notificationsMax: random.number(1...50))
                        let answer = try store.answer(query, nowMilliseconds: start)
                        for mark in answer.trimmed { last[Int(mark.channel)] = max(last[Int(mark.channel)], mark.sequence) }
                        for notification in answer.notifications {
                            let channel = try #require(notification.channel.string.last?.wholeNumberValue)
                            #expect(notification.sequence == last[channel] + 1)
                            #expect(notification.offset > after)
                            last[channel] = notification.sequence
                            after = notification.offset
                        }
                        after = answer.through
                    }
                    let ends = try store.answer(
                        LogQuery(.sequences, channels: channels, after: through, through: through), nowMilliseconds: start)
                    for channel in 0..<3 { #expect(last[channel] >= ends.sequences[channel] || !ends.trimmed.isEmpty) }
                }
            }
            try await group.waitForAll()
        }
        store.close(isOrderly: true)
        if !isInMemory { #expect(try StoreTools.check(folder.log).problems == []) }
    }
}

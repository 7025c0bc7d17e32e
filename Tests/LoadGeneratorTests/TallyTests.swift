import LoadGenerator
import Testing

@Suite struct TallyTests {
    @Test("every message once and in order is whole")
    func whole() {
        let tally = Tally(channels: 3, messages: 300, timed: 30..<300, subscribers: 4..<10)
        for subscriber in 0..<6 {
            for number in 0..<300 where number % 3 == (4 + subscriber) % 3 {
                tally.note(subscriber: subscriber, number: UInt32(number), latency: 5)
            }
        }
        #expect(tally.delivered == Tally.expected(messages: 0..<300, channels: 3, subscribers: 4..<10))
        #expect(tally.delivered == 600)
        #expect(tally.latencies.count == 540)
        #expect((tally.repeated, tally.reordered, tally.foreign) == (0, 0, 0))
    }

    @Test("what comes again, what comes late and what belongs elsewhere is told apart")
    func apart() {
        let tally = Tally(channels: 2, messages: 200, timed: 0..<200, subscribers: 0..<2)
        for number in [0, 2, 8, 4, 4, 6, 0, 10] { tally.note(subscriber: 0, number: UInt32(number), latency: 1) }
        #expect(tally.delivered == 6)
        #expect(tally.reordered == 2)
        #expect(tally.repeated == 2)
        tally.note(subscriber: 0, number: 1, latency: 1)
        tally.note(subscriber: 1, number: 2, latency: 1)
        tally.note(subscriber: 1, number: 201, latency: 1)
        #expect(tally.foreign == 3)
        #expect(tally.delivered == 6)
    }

    @Test("one that takes from its neighbour's bits would be seen")
    func neighbours() {
        let tally = Tally(channels: 1, messages: 65, timed: 0..<65, subscribers: 0..<3)
        for number in 0..<65 { tally.note(subscriber: 1, number: UInt32(number), latency: 1) }
        for subscriber in [0, 2] { for number in 0..<65 { tally.note(subscriber: subscriber, number: UInt32(number), latency: 1) } }
        #expect(tally.delivered == 195)
        #expect(tally.repeated == 0)
    }

    @Test("expected deliveries are those that a count finds", arguments: [(1, 5, 7), (3, 10, 4), (7, 6, 20), (4, 0, 9)])
    func expected(channels: Int, messages: Int, subscribers: Int) {
        var counted = 0
        for message in 2..<2 + messages {
            for subscriber in 3..<3 + subscribers where message % channels == subscriber % channels { counted += 1 }
        }
        #expect(Tally.expected(messages: 2..<2 + messages, channels: channels, subscribers: 3..<3 + subscribers) == counted)
    }
}

import LoadGenerator
import Testing

@Suite struct ScheduleTests {
    @Test("messages are due at equal distances, also where they are no whole nanoseconds")
    func due() {
        let schedule = Schedule(start: 1000, rate: 3, numbers: 10..<20)
        #expect(schedule.due(10) == 1000)
        #expect(schedule.due(11) == 1000 + 333_333_333)
        #expect(schedule.due(13) == 1000 + 1_000_000_000)
        #expect(schedule.end == 1000 + 3_000_000_000)
    }

    @Test("nothing drifts over a day")
    func drift() {
        let schedule = Schedule(start: 0, rate: 30, numbers: 0..<30 * 86400 + 1)
        #expect(schedule.end == 86400 * 1_000_000_000)
    }

    @Test("a batch is due when its first message is")
    func batches() {
        let schedule = Schedule(start: 0, rate: 10, numbers: 5..<11, batch: 3)
        #expect((5..<11).map(schedule.due) == [0, 0, 0, 300_000_000, 300_000_000, 300_000_000])
        #expect(schedule.end == 300_000_000)
    }

    @Test("a schedule without messages ends where it starts")
    func none() {
        #expect(Schedule(start: 5, rate: 1, numbers: 3..<3).end == 5)
    }
}

import TestSupport
import Testing

@testable import Webhooks

@Suite struct ScheduleTests {
    @Test("the standard schedule is the recommended one, ten attempts in some 76 hours")
    func standard() {
        let minutes: [Int64] = [5, 30, 120, 300, 600, 840, 1200, 1440]
        #expect(RetrySchedule.standard.delaysMilliseconds == [5000] + minutes.map { $0 * 60_000 })
        #expect((1...20).count { RetrySchedule.standard.delay(afterAttempts: $0, random: 0) != nil } == 9)
    }

    @Test("a delay is as long as it says, and at most a fifth longer", arguments: 0..<20 as Range<UInt64>)
    func jitter(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let schedule = try #require(RetrySchedule("100ms,7s,2h"))
        for (attempts, delay) in [(1, 100), (2, 7000), (3, 7_200_000)] as [(Int, Int64)] {
            let found = try #require(schedule.delay(afterAttempts: attempts, random: random.next()))
            #expect(found >= delay && found <= delay + delay / 5)
        }
        #expect(schedule.delay(afterAttempts: 4, random: random.next()) == nil)
    }

    @Test("many that failed together do not come back together")
    func spread() throws {
        var random = SeededRandom(seed: 4)
        let delays = Set((0..<1000).map { _ in RetrySchedule.standard.delay(afterAttempts: 2, random: random.next())! })
        #expect(delays.count > 900)
    }

    @Test(
        "what is no schedule is refused",
        arguments: ["", "5", "5s,", ",5s", "5 s", "-5s", "0s", "1d", "5m,5s", "9999999999s", "8000h", "5s;6s", "s", "ms", "+5s", "٥s"])
    func refused(_ text: String) {
        #expect(RetrySchedule(text) == nil)
    }

    @Test("it has a length")
    func bound() {
        #expect(RetrySchedule(Array(repeating: "1s", count: RetrySchedule.delaysMax).joined(separator: ",")) != nil)
        #expect(RetrySchedule(Array(repeating: "1s", count: RetrySchedule.delaysMax + 1).joined(separator: ",")) == nil)
    }

    @Test("times, and Retry-After in seconds")
    func times() {
        let times: [(String, Int64?)] = [
            ("0s", 0), ("500ms", 500), ("90s", 90_000), ("15m", 900_000), ("2h", 7_200_000), ("", nil), ("5", nil), ("5x", nil),
            ("ms", nil), ("5sm", nil), ("1.5s", nil),
        ]
        for (text, time) in times { #expect(TimeText.milliseconds(text) == time, "\(text)") }
        let waits: [(String, Int64?)] = [
            ("120", 120_000), ("0", 0), ("", nil), ("-1", nil), ("1.5", nil), ("Fri, 31 Dec 1999 23:59:59 GMT", nil), ("9999999999", nil),
        ]
        for (text, wait) in waits { #expect(TimeText.retryAfterMilliseconds(text) == wait, "\(text)") }
    }
}

/// What it takes to cut connections and to come back: where each subscriber of a thread stands, and what it still lacks.
package final class CutBook {
    /// The last position in what was read, and the one of the last message that was read to its end.
    private struct Tracker {
        var capture: BodyCapture
        var read: [UInt8] = []
        var held: [UInt8] = []

        mutating func take(_ byte: UInt8) {
            withUnsafeBytes(of: byte) { capture.read($0, into: &read) }
            if capture.isDone { capture.begin() }
        }
    }

    /// Messages that are published while nobody listens.
    private let missed: Range<Int>
    private let missedEach: Int
    private var trackers: [Tracker]
    private var left: [Int]
    /// When coming back began; 0 before.
    package private(set) var resumeStart: Int64 = 0
    /// Nanoseconds from then until a subscriber listens again and has all that it missed.
    package private(set) var times = Histogram()

    package init(subscribers: Int, channels: Int, missed: Range<Int>, position: (after: String, until: String)) {
        self.missed = missed
        missedEach = missed.count / channels
        let tracker = Tracker(capture: BodyCapture(after: position.after, until: position.until))
        trackers = Array(repeating: tracker, count: subscribers)
        left = Array(repeating: missedEach, count: subscribers)
    }

    /// Where the subscriber goes on: behind the last message, or, before the first, where it was told to begin.
    package func position(of subscriber: Int) -> [UInt8] {
        trackers[subscriber].held.isEmpty ? trackers[subscriber].read : trackers[subscriber].held
    }

    package func resume(at time: Int64) {
        resumeStart = time
        for index in trackers.indices { trackers[index].capture.begin() }
    }

    /// Takes one byte of what the subscriber is sent.
    package func read(_ byte: UInt8, subscriber: Int) {
        trackers[subscriber].take(byte)
    }

    /// A message's marker was read: its position stood before it.
    package func note(subscriber: Int, number: UInt32, now: Int64) {
        trackers[subscriber].held = trackers[subscriber].read
        guard missed.contains(Int(number)), resumeStart > 0 else { return }
        left[subscriber] -= 1
        if left[subscriber] == 0 { times.record(now - resumeStart) }
    }
}

/// Says whose poll is due: the polls of a thread's subscribers are spread evenly over their period, and made at fixed times.
package struct PollClock {
    private let start: Int64
    private let period: Int64
    private let count: Int64
    private var next: Int64 = 0

    /// - Parameter period: from one poll of a subscriber to the next, nanoseconds.
    package init(start: Int64, period: Int64, count: Int) {
        (self.start, self.period, self.count) = (start, period, Int64(count))
    }

    /// When the next poll of all is due.
    package var due: Int64 { start + period * next / count }

    /// - Returns: the number of the one whose poll is due; nil when none is.
    package mutating func take(now: Int64) -> Int? {
        guard due <= now else { return nil }
        defer { next += 1 }
        return Int(next % count)
    }
}

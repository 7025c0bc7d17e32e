/// What some subscribers got of what they should get: which numbers, in what order, how late.
///
/// Message `i` goes to channel `i % channels`, subscriber `s` listens to channel `s % channels`. For each subscriber one bit a message of
/// its channel tells a repetition from one that comes late. Belongs to one thread.
package final class Tally {
    private let channelCount: Int
    private let messageCount: Int
    /// Messages outside of it are checked and not timed.
    private let timed: Range<Int>
    private let subscribers: Range<Int>
    private let wordsEach: Int
    private let bits: UnsafeMutableBufferPointer<UInt64>
    /// The highest index in its channel that each has got; -1 before the first.
    private let highest: UnsafeMutableBufferPointer<Int32>

    /// Nanoseconds from when it was due to when it was read, of each timed delivery.
    package private(set) var latencies = Histogram()
    /// Messages that came, each once.
    package private(set) var delivered = 0
    /// Messages that came again.
    package private(set) var repeated = 0
    /// Messages that came for the first time, after a later one of the channel.
    package private(set) var reordered = 0
    /// Messages of another channel, or with a number that was not sent.
    package private(set) var foreign = 0

    /// - Parameters:
    ///   - timed: the messages whose latency is kept.
    ///   - subscribers: their numbers in the whole load.
    package init(channels: Int, messages: Int, timed: Range<Int>, subscribers: Range<Int>) {
        precondition(channels > 0 && messages >= 0)
        channelCount = channels
        messageCount = messages
        self.timed = timed
        self.subscribers = subscribers
        let perChannel = (messages + channels - 1) / channels
        wordsEach = max(1, (perChannel + 63) / 64)
        bits = .allocate(capacity: wordsEach * subscribers.count)
        bits.initialize(repeating: 0)
        highest = .allocate(capacity: subscribers.count)
        highest.initialize(repeating: -1)
    }

    deinit {
        bits.deallocate()
        highest.deallocate()
    }

    /// - Parameters:
    ///   - subscriber: its place in this tally, from 0.
    ///   - latency: nanoseconds since the message was due.
    package func note(subscriber: Int, number: UInt32, latency: Int64) {
        let number = Int(number)
        let (index, channel) = number.quotientAndRemainder(dividingBy: channelCount)
        guard number < messageCount, channel == (subscribers.lowerBound + subscriber) % channelCount else {
            foreign += 1
            return
        }
        let word = subscriber * wordsEach + index / 64
        let bit: UInt64 = 1 << UInt64(index % 64)
        guard bits[word] & bit == 0 else {
            repeated += 1
            return
        }
        bits[word] |= bit
        delivered += 1
        if index < highest[subscriber] {
            reordered += 1
        } else {
            highest[subscriber] = Int32(index)
        }
        if timed.contains(number) { latencies.record(latency) }
    }

    /// How many deliveries messages of these numbers make to subscribers of these numbers.
    package static func expected(messages: Range<Int>, channels: Int, subscribers: Range<Int>) -> Int {
        var sum = 0
        for channel in 0..<channels {
            sum += count(of: channel, in: messages, every: channels) * count(of: channel, in: subscribers, every: channels)
        }
        return sum
    }

    private static func count(of remainder: Int, in range: Range<Int>, every step: Int) -> Int {
        func below(_ end: Int) -> Int { (end - remainder + step - 1) / step }
        return max(0, below(range.upperBound)) - max(0, below(range.lowerBound))
    }
}

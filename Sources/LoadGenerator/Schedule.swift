/// When messages are due: number `i` at `start + i / rate`, whatever became of the ones before. A load that waits for answers would send
/// less while the server is slow, and so leave out the worst of what it measures (coordinated omission, Gil Tene).
package struct Schedule: Sendable {
    /// CLOCK_MONOTONIC, nanoseconds.
    package let start: Int64
    /// Messages a second.
    package let rate: Double
    /// The numbers of this schedule.
    package let numbers: Range<Int>

    package init(start: Int64, rate: Double, numbers: Range<Int>) {
        precondition(rate > 0, "a rate")
        self.start = start
        self.rate = rate
        self.numbers = numbers
    }

    package func due(_ number: Int) -> Int64 {
        start + Int64((Double(number - numbers.lowerBound) * 1e9 / rate).rounded())
    }

    /// When the last message is due; the start when there is none.
    package var end: Int64 { numbers.isEmpty ? start : due(numbers.upperBound - 1) }
}

/// When messages are due: number `i` at `start + i / rate`, whatever became of the ones before. A load that waits for answers would send
/// less while the server is slow, and so leave out the worst of what it measures (coordinated omission, Gil Tene).
package struct Schedule: Sendable {
    /// CLOCK_MONOTONIC, nanoseconds.
    package let start: Int64
    /// Messages a second.
    package let rate: Double
    /// The numbers of this schedule.
    package let numbers: Range<Int>
    /// So many are due together, when the first of them is.
    package let batch: Int

    package init(start: Int64, rate: Double, numbers: Range<Int>, batch: Int = 1) {
        precondition(rate > 0 && batch > 0, "a rate, and a message in a batch")
        self.batch = batch
        self.start = start
        self.rate = rate
        self.numbers = numbers
    }

    package func due(_ number: Int) -> Int64 {
        let place = number - numbers.lowerBound
        return start + Int64((Double(place - place % batch) * 1e9 / rate).rounded())
    }

    /// When the last message is due; the start when there is none.
    package var end: Int64 { numbers.isEmpty ? start : due(numbers.upperBound - 1) }
}

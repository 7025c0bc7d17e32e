/// Counts of values in buckets whose width is under 1 % of the value, from 1 to 2^44 (five hours in nanoseconds), in fixed memory; the
/// layout of HdrHistogram (Gil Tene): within each power of two, buckets of equal width.
///
///     value       bucket width
///     0..<256     1
///     256..<512   2
///     512..<1024  4        and so on: 128 buckets a power of two
package struct Histogram: Sendable {
    private static let bitsOfMantissa = 7
    private static let exponentMax = 44
    private static let valueMax: Int64 = (1 << exponentMax) - 1

    private var counts: [UInt64]
    package private(set) var count: UInt64 = 0
    /// 0 when nothing was recorded.
    package private(set) var minimum: Int64 = 0
    package private(set) var maximum: Int64 = 0
    private var sum: Double = 0

    package init() {
        counts = Array(repeating: 0, count: Self.bucket(of: Self.valueMax) + 1)
    }

    package var mean: Double { count == 0 ? 0 : sum / Double(count) }

    /// A value below 0 counts as 0, one above the range as the largest of the range in the quantiles.
    package mutating func record(_ value: Int64) {
        let value = max(0, value)
        counts[Self.bucket(of: min(value, Self.valueMax))] += 1
        minimum = count == 0 ? value : min(minimum, value)
        maximum = max(maximum, value)
        sum += Double(value)
        count += 1
    }

    package mutating func add(_ other: Histogram) {
        guard other.count > 0 else { return }
        for index in counts.indices { counts[index] += other.counts[index] }
        minimum = count == 0 ? other.minimum : min(minimum, other.minimum)
        maximum = max(maximum, other.maximum)
        sum += other.sum
        count += other.count
    }

    /// The value that so many of all values are not above: the upper end of its bucket, at most the maximum. 0 when nothing was recorded.
    ///
    /// - Parameter fraction: 0 to 1.
    package func quantile(_ fraction: Double) -> Int64 {
        precondition((0...1).contains(fraction), "a fraction")
        guard count > 0 else { return 0 }
        let rank = max(1, UInt64((fraction * Double(count)).rounded(.up)))
        var seen: UInt64 = 0
        for (index, inBucket) in counts.enumerated() {
            seen += inBucket
            if seen >= rank { return min(Self.upperEnd(of: index), maximum) }
        }
        return maximum
    }

    private static func bucket(of value: Int64) -> Int {
        let exponent = 63 - value.leadingZeroBitCount
        guard exponent > bitsOfMantissa else { return Int(value) }
        let shift = exponent - bitsOfMantissa
        return (shift << bitsOfMantissa) + Int(value >> Int64(shift))
    }

    private static func upperEnd(of bucket: Int) -> Int64 {
        guard bucket >= 2 << bitsOfMantissa else { return Int64(bucket) }
        let shift = (bucket >> bitsOfMantissa) - 1
        let mantissa = bucket - (shift << bitsOfMantissa)
        return (Int64(mantissa + 1) << Int64(shift)) - 1
    }
}

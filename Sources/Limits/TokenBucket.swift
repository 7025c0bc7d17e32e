/// So many a second in the long run, and so many at once.
package struct RateLimit: Hashable, Sendable, CustomStringConvertible {
    package let perSecond: Int
    package let burst: Int

    /// - Parameter burst: nil: what two seconds bring.
    package init(perSecond: Int, burst: Int? = nil) {
        precondition(perSecond > 0 && perSecond <= Self.max && burst ?? 1 > 0 && burst ?? 1 <= Self.max, "a rate out of range")
        self.perSecond = perSecond
        self.burst = burst ?? 2 * perSecond
    }

    /// A terabyte a second.
    package static let max = 1_000_000_000_000

    /// `RATE` or `RATE:BURST`.
    package init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map { Int($0) }
        guard (1...2).contains(parts.count), parts.allSatisfy({ (1...Self.max).contains($0 ?? 0) }), let rate = parts[0] else { return nil }
        self.init(perSecond: rate, burst: parts.count == 2 ? parts[1] : nil)
    }

    /// The same for one of several that share it.
    package func divided(by count: Int) -> RateLimit {
        RateLimit(perSecond: Swift.max(1, perSecond / count), burst: Swift.max(1, burst / count))
    }

    package var description: String { "\(perSecond):\(burst)" }

    /// How long so many take, in nanoseconds.
    fileprivate func nanoseconds(_ count: Int) -> Int64 {
        // Eleven days are as good as for ever, and keep sums in range.
        Int64(min(1e15, (Double(count) * 1e9 / Double(perSecond)).rounded(.up)))
    }
}

/// A token bucket, as the moment at which it will be full again: the generic cell rate algorithm (ITU-T I.371, the virtual scheduling
/// form). So it is one number, and one that was not used for long need not be remembered. Time is nanoseconds of a monotonic clock.
package struct TokenBucket: Hashable, Sendable {
    /// The theoretical arrival time. In the past: the bucket is full.
    package private(set) var fullNanoseconds: Int64

    package init(fullNanoseconds: Int64 = .min) {
        self.fullNanoseconds = fullNanoseconds
    }

    /// Takes so many tokens. More than the bucket holds can be had when it is full, and then are owed.
    ///
    /// - Returns: 0, or how long to wait until there are so many, in nanoseconds; then nothing is taken.
    package mutating func take(_ count: Int = 1, of limit: RateLimit, nowNanoseconds now: Int64) -> Int64 {
        let (full, wait) = Self.take(count, of: limit, full: fullNanoseconds, now: now)
        if wait == 0 { fullNanoseconds = full }
        return wait
    }

    /// Takes so many, whether they are there or not.
    package mutating func charge(_ count: Int, of limit: RateLimit, nowNanoseconds now: Int64) {
        // Nobody owes more than for ever.
        fullNanoseconds = min(now + limit.nanoseconds(.max), max(now, fullNanoseconds) + limit.nanoseconds(count))
    }

    /// - Returns: 0 if something can be had, else how long to wait for that.
    package func wait(for limit: RateLimit, nowNanoseconds now: Int64) -> Int64 {
        fullNanoseconds <= now ? 0 : max(0, fullNanoseconds - limit.nanoseconds(limit.burst) - now)
    }

    static func take(_ count: Int, of limit: RateLimit, full: Int64, now: Int64) -> (full: Int64, wait: Int64) {
        let next = max(now, full) + limit.nanoseconds(count)
        // A bucket that is full gives anything.
        let wait = full <= now ? 0 : next - now - max(limit.nanoseconds(limit.burst), limit.nanoseconds(count))
        return (next, max(0, wait))
    }
}

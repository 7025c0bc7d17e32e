/// How often each rule has refused something, and which refusals have been said in the log: that says each rule once a minute and not
/// each time.
struct RefusalLog: Sendable {
    private static let quietMilliseconds: Int64 = 60_000

    /// By rule. Rules are words of this program, of which there are few.
    private var said: [String: (milliseconds: Int64, unsaid: Int)] = [:]
    private(set) var counts: [String: Int] = [:]

    mutating func count(_ rule: String) {
        counts[rule, default: 0] += 1
    }

    /// - Returns: how many of the rule were not said since the last time; nil: this is not to be said either.
    mutating func note(_ rule: String, nowMilliseconds now: Int64) -> Int? {
        guard let last = said[rule], now - last.milliseconds < Self.quietMilliseconds else {
            return said.updateValue((now, 0), forKey: rule)?.unsaid ?? 0
        }
        said[rule]!.unsaid += 1
        return nil
    }
}

/// How often a subscriber wants to be sent something at most: `2/s`, `0.5/s`, `6/m`.
package struct Rate: Hashable, Sendable, CustomStringConvertible {
    /// More often than this nobody sees a difference.
    package static let perSecondMax = 50.0

    package let intervalMilliseconds: Int64

    package init(intervalMilliseconds: Int64) {
        self.intervalMilliseconds = intervalMilliseconds
    }

    package init(perSecond: Double) {
        intervalMilliseconds = Int64((1000 / perSecond).rounded(.up))
    }

    /// - Returns: nil if it is not a rate from one an hour to fifty a second.
    package init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].utf8.count <= 10, let count = Double(parts[0]), count > 0, count.isFinite else { return nil }
        let perSecond: Double
        switch parts[1] {
        case "s": perSecond = count
        case "m": perSecond = count / 60
        case "h": perSecond = count / 3600
        default: return nil
        }
        guard perSecond <= Self.perSecondMax, perSecond >= 1 / 3600.0 else { return nil }
        self.init(perSecond: perSecond)
    }

    package var description: String { "\(intervalMilliseconds) ms" }

    /// The slower of the two.
    package func capped(_ other: Rate?) -> Rate {
        guard let other else { return self }
        return other.intervalMilliseconds > intervalMilliseconds ? other : self
    }
}

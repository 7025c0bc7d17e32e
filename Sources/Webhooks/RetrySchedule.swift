/// When an event is sent again that was not taken.
package struct RetrySchedule: Sendable, Equatable {
    /// After the first attempt, after the second, … One more attempt than there are delays.
    package private(set) var delaysMilliseconds: [Int64]

    /// More help nobody: the last ones are a day apart.
    package static let delaysMax = 30
    /// A week.
    package static let millisecondsMax: Int64 = 7 * 86_400_000
    /// So much of a delay is added at most, in hundredths: many events that failed together do not come back together.
    static let jitterPercent: UInt64 = 20

    /// What Standard Webhooks 1.0.0 recommends ("Operational considerations", retry schedule), three days together.
    package static let standard = RetrySchedule("5s,5m,30m,2h,5h,10h,14h,20h,24h")!

    /// - Parameter text: times with commas between them, `5s,5m,2h`, each not before the last.
    /// - Returns: nil if that is not what it is.
    package init?(_ text: String) {
        delaysMilliseconds = []
        for word in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let delay = TimeText.milliseconds(String(word)), (1...Self.millisecondsMax).contains(delay),
                delay >= delaysMilliseconds.last ?? 0, delaysMilliseconds.count < Self.delaysMax
            else { return nil }
            delaysMilliseconds.append(delay)
        }
    }

    /// - Parameters:
    ///   - attempts: made so far, at least one.
    ///   - random: any number.
    /// - Returns: milliseconds until the next attempt; nil: there is none.
    package func delay(afterAttempts attempts: Int, random: UInt64) -> Int64? {
        precondition(attempts > 0)
        guard attempts <= delaysMilliseconds.count else { return nil }
        let delay = delaysMilliseconds[attempts - 1]
        return delay + Int64(random % (UInt64(delay) * Self.jitterPercent / 100 + 1))
    }
}

/// Times as an operator writes them.
package enum TimeText {
    /// `500ms`, `60s`, `5m`, `2h`.
    ///
    /// - Returns: milliseconds; nil if it is none of these.
    package static func milliseconds(_ text: String) -> Int64? {
        let digits = text.utf8.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        guard (1...9).contains(digits.count), let number = Int64(Substring(digits)) else { return nil }
        switch text.utf8.count - digits.count {
        case 2 where text.hasSuffix("ms"): return number
        case 1 where text.hasSuffix("s"): return number * 1000
        case 1 where text.hasSuffix("m"): return number * 60_000
        case 1 where text.hasSuffix("h"): return number * 3_600_000
        default: return nil
        }
    }

    /// The value of `Retry-After` (RFC 9110, section 10.2.3) as seconds; nil: it is a date, or nothing that is known.
    package static func retryAfterMilliseconds(_ text: String) -> Int64? {
        guard (1...9).contains(text.utf8.count), text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let seconds = Int64(text)
        else { return nil }
        return seconds * 1000
    }
}

import Glibc

/// The one place that reads clocks.
enum Clock {
    /// Milliseconds since 1970.
    static func wallMilliseconds() -> Int64 { World.simulated?.milliseconds ?? milliseconds(CLOCK_REALTIME) }

    static func monotonicMilliseconds() -> Int64 { World.simulated?.milliseconds ?? milliseconds(CLOCK_MONOTONIC_COARSE) }

    /// For times much shorter than a millisecond.
    static func monotonicNanoseconds() -> Int64 {
        if let simulated = World.simulated { return simulated.milliseconds * 1_000_000 }
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    private static func milliseconds(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7), of now.
    static func httpDate() -> String {
        var now = time_t(wallMilliseconds() / 1000)
        var parts = tm()
        gmtime_r(&now, &parts)
        let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return "\(days[Int(parts.tm_wday)]), \(two(parts.tm_mday)) \(months[Int(parts.tm_mon)]) \(parts.tm_year + 1900) "
            + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) GMT"
    }
}

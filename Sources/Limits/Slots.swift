/// Times at which clients come back that are asked to go at once: each of them has a part of the time given, so that they come evenly,
/// however many there are. Neighbours get parts that are far from each other, so that any row of clients (all of one transport, say) comes
/// as evenly as all.
package struct DrainSlots: Sendable {
    private let count: Int
    private let milliseconds: Int
    private let phase: Double
    private let stride: Int
    private var given = 0
    /// Nobody comes back sooner: the one who goes last has to have gone.
    package static let millisecondsMin = 200

    /// - Parameters:
    ///   - count: how many there are.
    ///   - milliseconds: over which they come back.
    ///   - phase: 0 to 1; a random one keeps several servers that drain together from speaking with one voice.
    package init(count: Int, overMilliseconds milliseconds: Int, phase: Double) {
        self.count = max(1, count)
        self.milliseconds = max(Self.millisecondsMin, milliseconds)
        self.phase = phase
        // Near the golden section of the count, and prime to it: so every part is given once.
        var stride = max(1, Int(Double(self.count) * 0.618_033_988_75))
        while Self.divisor(stride, self.count) > 1 { stride += 1 }
        self.stride = stride
    }

    private static func divisor(_ one: Int, _ other: Int) -> Int { other == 0 ? one : divisor(other, one % other) }

    /// - Returns: the next one's, from the beginning of the drain, in milliseconds.
    package mutating func next() -> Int {
        let place = (Double(given * stride % count) + phase.truncatingRemainder(dividingBy: 1)) / Double(count)
        given += 1
        return Self.millisecondsMin + Int(place * Double(milliseconds - Self.millisecondsMin))
    }
}

/// Times at which clients may come that cannot be taken now: one after the other, at a rate that the server can stand.
package struct SlotBook: Sendable {
    private let perSecond: Int
    private var lastNanoseconds: Int64 = .min
    /// Sooner it is likely to be as full as now.
    private static let nanosecondsMin: Int64 = 1_000_000_000
    /// Later than that nobody is told to come: the book begins anew.
    private static let nanosecondsMax: Int64 = 60_000_000_000

    package init(perSecond: Int) {
        self.perSecond = max(1, perSecond)
    }

    /// - Returns: how long the next one is to wait, in milliseconds.
    package mutating func next(nowNanoseconds now: Int64) -> Int {
        let next = max(now + Self.nanosecondsMin, lastNanoseconds == .min ? .min : lastNanoseconds + 1_000_000_000 / Int64(perSecond))
        lastNanoseconds = next - now > Self.nanosecondsMax ? now + Self.nanosecondsMin : next
        return Int((lastNanoseconds - now) / 1_000_000)
    }
}

/// How many clients are taken in the first seconds after a start: none at first, then ever more a second, up to the rate, after which
/// there is no bound. Caches are cold then, and everybody comes at once.
///
///     clients a second   rate ┤        ╱ no bound
///                             ┤    ╱
///                             ┼────────┬──> time
///                             start    seconds
package struct AdmissionRamp: Sendable {
    private let startNanoseconds: Int64
    private let seconds: Double
    private let perSecond: Double
    private var admitted = 0
    /// Told to come later, and not come yet.
    private var promised = 0

    package init(startNanoseconds: Int64, seconds: Int, perSecond: Int) {
        self.startNanoseconds = startNanoseconds
        self.seconds = Double(seconds)
        self.perSecond = Double(perSecond)
    }

    /// - Returns: 0: the client is taken; else how long it is to wait, in milliseconds.
    package mutating func admit(nowNanoseconds now: Int64) -> Int {
        let elapsed = Double(now - startNanoseconds) / 1e9
        if elapsed >= seconds { return 0 }
        // What may have been taken by now: the area below the line. The first one is taken at once.
        if Double(admitted) < 1 + perSecond * elapsed * elapsed / (2 * seconds) {
            admitted += 1
            promised = max(0, promised - 1)
            return 0
        }
        promised += 1
        let due = min(seconds, (2 * seconds * Double(admitted + promised - 1) / perSecond).squareRoot())
        return max(1000, Int((due - elapsed) * 1000) + 1)
    }
}

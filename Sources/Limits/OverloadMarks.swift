/// What a server may use before it takes nobody new. nil: that does not count.
package struct OverloadMarks: Hashable, Sendable {
    package var residentBytesMax: Int?
    package var connectionsMax: Int?
    package var lagMillisecondsMax: Int?

    package init(residentBytesMax: Int? = nil, connectionsMax: Int? = nil, lagMillisecondsMax: Int? = nil) {
        self.residentBytesMax = residentBytesMax
        self.connectionsMax = connectionsMax
        self.lagMillisecondsMax = lagMillisecondsMax
    }

    package var areNone: Bool { residentBytesMax == nil && connectionsMax == nil && lagMillisecondsMax == nil }
}

/// What it uses.
package struct OverloadFigures: Hashable, Sendable {
    package var residentBytes = 0
    package var connections = 0
    package var lagMilliseconds = 0

    package init() {}
}

/// Whether a server has too much to do.
///
///     calm ──above a mark──> full ──still so after 3 looks──> shedding
///      ^───below nine tenths of all marks, 3 looks long──────────┘
///
/// Full: new clients are told to come later. Shedding: some of those that are there are asked to go.
package struct OverloadGauge: Hashable, Sendable {
    package enum State: Int, Hashable, Sendable {
        case calm
        case full
        case shedding
    }

    package private(set) var state = State.calm
    /// The mark that it is above, or was last.
    package private(set) var cause: Cause?
    private var looks = 0

    package enum Cause: String, Hashable, Sendable {
        case memory
        case descriptors
        case lag
    }

    /// One look may have met a moment that means nothing.
    private static let looksMin = 3

    package init() {}

    /// Takes figures, about one set a second.
    package mutating func look(_ figures: OverloadFigures, _ marks: OverloadMarks) {
        if let cause = Self.cause(figures, marks, tenths: 10) {
            self.cause = cause
            // How long a loop was held up is the worst of a second, so one look does not say that it goes on.
            switch state {
            case .calm where cause != .lag || looks + 1 >= Self.looksMin: (state, looks) = (.full, 0)
            case .calm: looks += 1
            case .full:
                looks += 1
                if looks >= Self.looksMin { (state, looks) = (.shedding, 0) }
            case .shedding: looks = 0
            }
        } else if state == .calm || Self.cause(figures, marks, tenths: 9) != nil {
            looks = 0
        } else {
            looks += 1
            if looks >= Self.looksMin { (state, looks) = (.calm, 0) }
        }
    }

    private static func cause(_ figures: OverloadFigures, _ marks: OverloadMarks, tenths: Int) -> Cause? {
        func isAbove(_ figure: Int, _ mark: Int?) -> Bool { mark.map { figure > $0 / 10 * tenths + $0 % 10 * tenths / 10 } ?? false }
        if isAbove(figures.residentBytes, marks.residentBytesMax) { return .memory }
        if isAbove(figures.connections, marks.connectionsMax) { return .descriptors }
        return isAbove(figures.lagMilliseconds, marks.lagMillisecondsMax) ? .lag : nil
    }
}

/// When something that happens often is put into the log: at once, then at most once in a while, with how often it has been.
package struct SeldomNote: Hashable, Sendable {
    private var count = 0
    private var nextNanoseconds: Int64 = .min
    private static let restNanoseconds: Int64 = 10_000_000_000

    package init() {}

    /// It has happened.
    ///
    /// - Returns: how often since the last note, if now is the time for one.
    package mutating func note(nowNanoseconds now: Int64) -> Int? {
        count += 1
        guard now >= nextNanoseconds else { return nil }
        defer { count = 0 }
        nextNanoseconds = now + Self.restNanoseconds
        return count
    }
}

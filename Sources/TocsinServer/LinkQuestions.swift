/// What one end of a link has asked, and who waits for the replies. It calls nobody itself: who is called may ask again at once.
struct LinkQuestions {
    typealias Completion = ([UInt8]?) -> Void

    private var waiting: [UInt64: (dueMilliseconds: Int64, completion: Completion)] = [:]

    /// A question is answered in some milliseconds, or its process is not well.
    private static let milliseconds: Int64 = 2000

    mutating func ask(_ number: UInt64, nowMilliseconds now: Int64, completion: @escaping Completion) {
        waiting[number] = (now + Self.milliseconds, completion)
    }

    /// Who waits for the reply to this one; nil: nobody, any more.
    mutating func take(_ number: UInt64) -> Completion? { waiting.removeValue(forKey: number)?.completion }

    /// Those whom nobody has answered in time.
    mutating func takeExpired(nowMilliseconds now: Int64) -> [Completion] {
        let due = waiting.filter { $0.value.dueMilliseconds <= now }
        for number in due.keys { waiting[number] = nil }
        return due.values.map(\.completion)
    }

    /// Nobody answers any more.
    mutating func takeAll() -> [Completion] {
        defer { waiting = [:] }
        return waiting.values.map(\.completion)
    }
}

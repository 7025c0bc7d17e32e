/// The one source of chance: SplitMix64. All of a run follows from its seed.
struct Chance {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed &* 0xd134_2543_de82_ef95 &+ 0x1234_5678_9abc_def1
        state = next()
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var bits = state
        bits = (bits ^ (bits >> 30)) &* 0xbf58_476d_1ce4_e5b9
        bits = (bits ^ (bits >> 27)) &* 0x94d0_49bb_1331_11eb
        return bits ^ (bits >> 31)
    }

    mutating func number(_ range: ClosedRange<Int>) -> Int { range.lowerBound + Int(next() % UInt64(range.count)) }
    mutating func milliseconds(_ range: ClosedRange<Int>) -> Int64 { Int64(number(range)) }
    mutating func happens(_ percent: Int) -> Bool { Int(next() % 100) < percent }
    mutating func one<Element>(of elements: [Element]) -> Element { elements[Int(next() % UInt64(elements.count))] }
}

/// A virtual clock and what is to happen by it. Events of one moment come in the order in which they were put in.
final class Timeline {
    private struct Event {
        var time: Int64
        var number: UInt64
        var action: () -> Void
    }

    /// Milliseconds since 1970.
    private(set) var now: Int64 = 1_800_000_000_000
    private var heap: [Event] = []
    private var count: UInt64 = 0

    func after(_ milliseconds: Int64, _ action: @escaping () -> Void) { at(now + max(0, milliseconds), action) }

    func at(_ time: Int64, _ action: @escaping () -> Void) {
        count += 1
        heap.append(Event(time: max(time, now), number: count, action: action))
        var at = heap.count - 1
        while at > 0, isBefore(at, (at - 1) / 2) {
            heap.swapAt(at, (at - 1) / 2)
            at = (at - 1) / 2
        }
    }

    /// Nothing happens any more.
    func removeAll() { heap = [] }

    /// - Returns: false if nothing more is to happen until then.
    func step(until end: Int64) -> Bool {
        guard let first = heap.first, first.time <= end else {
            now = max(now, end)
            return false
        }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            sink()
        }
        now = first.time
        first.action()
        return true
    }

    private func sink() {
        var at = 0
        while true {
            var least = at
            for child in [2 * at + 1, 2 * at + 2] where child < heap.count && isBefore(child, least) { least = child }
            if least == at { return }
            heap.swapAt(at, least)
            at = least
        }
    }

    private func isBefore(_ one: Int, _ other: Int) -> Bool {
        (heap[one].time, heap[one].number) < (heap[other].time, heap[other].number)
    }
}

/// What happened, in words: the last lines, and a hash over all of them.
final class Trace {
    private static let kept = 60
    private(set) var lines: [String] = []
    private(set) var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    private(set) var count = 0
    let isVerbose: Bool
    private let timeline: Timeline
    private let start: Int64

    init(_ timeline: Timeline, isVerbose: Bool) {
        self.timeline = timeline
        self.isVerbose = isVerbose
        start = timeline.now
    }

    func note(_ words: String) {
        let line = "\(timeline.now - start) \(words)"
        for byte in line.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        count += 1
        if isVerbose { print(line) }
        lines.append(line)
        if lines.count > 2 * Self.kept { lines.removeFirst(Self.kept) }
    }

    var last: [String] { Array(lines.suffix(Self.kept)) }
}

/// A promise that was broken.
struct Violation {
    var rule: String
    var words: String
}

import TestSupport
import Testing

@testable import Limits

@Suite struct LimitTests {
    private static let second: Int64 = 1_000_000_000

    @Test("a bucket gives its burst, then so many a second, and says how long to wait")
    func bucket() {
        let limit = RateLimit(perSecond: 10, burst: 5)
        var bucket = TokenBucket()
        for _ in 0..<5 { #expect(bucket.take(of: limit, nowNanoseconds: Self.second) == 0) }
        #expect(bucket.take(of: limit, nowNanoseconds: Self.second) == Self.second / 10)
        #expect(bucket.take(of: limit, nowNanoseconds: Self.second + Self.second / 10 - 1) == 1)
        #expect(bucket.take(of: limit, nowNanoseconds: Self.second + Self.second / 10) == 0)
        #expect(bucket.take(of: limit, nowNanoseconds: Self.second + Self.second / 10) > 0)
        // It holds no more than its burst, however long nobody came.
        for _ in 0..<5 { #expect(bucket.take(of: limit, nowNanoseconds: 1000 * Self.second) == 0) }
        #expect(bucket.take(of: limit, nowNanoseconds: 1000 * Self.second) > 0)
    }

    @Test("more than a bucket holds is had when it is full, and owed then")
    func large() {
        let limit = RateLimit(perSecond: 10, burst: 5)
        var bucket = TokenBucket()
        #expect(bucket.take(20, of: limit, nowNanoseconds: 0) == 0)
        #expect(bucket.take(of: limit, nowNanoseconds: Self.second) > 0)
        #expect(bucket.take(of: limit, nowNanoseconds: 8 * Self.second / 5) == 0)
        #expect(bucket.take(20, of: limit, nowNanoseconds: 2 * Self.second) > 0)
    }

    @Test("what was taken unasked is waited for")
    func charge() {
        let limit = RateLimit(perSecond: 1000, burst: 2000)
        var bucket = TokenBucket()
        #expect(bucket.wait(for: limit, nowNanoseconds: 0) == 0)
        bucket.charge(2000, of: limit, nowNanoseconds: 0)
        #expect(bucket.wait(for: limit, nowNanoseconds: 0) == 0)
        bucket.charge(3000, of: limit, nowNanoseconds: 0)
        #expect(bucket.wait(for: limit, nowNanoseconds: 0) == 3 * Self.second)
        #expect(bucket.wait(for: limit, nowNanoseconds: 3 * Self.second) == 0)
        for _ in 0..<100_000 { bucket.charge(.max, of: limit, nowNanoseconds: 0) }
        #expect(bucket.wait(for: limit, nowNanoseconds: 0) > 0)
    }

    @Test("in the long run a bucket gives what its rate says, whatever is asked for and when", arguments: 0..<20)
    func longRun(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let limit = RateLimit(
            perSecond: Int.random(in: 1...10_000, using: &random), burst: Int.random(in: 1...1000, using: &random))
        var bucket = TokenBucket()
        var now: Int64 = 5
        var given = 0
        for _ in 0..<20_000 {
            now += Int64.random(in: 0...(2 * Self.second / Int64(limit.perSecond)), using: &random)
            let count = Int.random(in: 1...min(3, limit.burst), using: &random)
            if bucket.take(count, of: limit, nowNanoseconds: now) == 0 { given += count }
        }
        let allowed = Double(limit.burst) + Double(now) / 1e9 * Double(limit.perSecond)
        #expect(Double(given) <= allowed + 1)
    }

    @Test(
        "rates as an operator writes them",
        arguments: [
            ("50", "50:100"), ("50:5", "50:5"), ("1", "1:2"), ("0", nil), ("", nil), ("-1", nil), ("5:0", nil), ("5:", nil), ("5:6:7", nil),
            ("1000000000001", nil), ("x", nil), ("5/s", nil),
        ])
    func written(_ text: String, _ meaning: String?) {
        #expect(RateLimit(text)?.description == meaning)
    }

    // MARK: tables

    private final class Memory {
        let start: UnsafeMutableRawPointer

        init(_ bytes: Int) {
            start = .allocate(byteCount: bytes, alignment: 4096)
            start.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
        }

        deinit {
            start.deallocate()
        }
    }

    private static let hash = KeyedHash(key: 1, 2)

    @Test("SipHash-1-3 spreads: words that differ in a bit differ in about half of theirs")
    func hash() {
        var differing = 0
        for bit in 0..<64 {
            let (one, other) = (
                Self.hash.of(NetworkAddress(high: 0, low: 0), kind: 1), Self.hash.of(NetworkAddress(high: 0, low: 1 << bit), kind: 1)
            )
            differing += (one ^ other).nonzeroBitCount
        }
        #expect((1700...2400).contains(differing))
        #expect(Self.hash.of("anna", kind: 1) != Self.hash.of("anna", kind: 2))
        #expect(Self.hash.of("anna", kind: 1) != Self.hash.of("anna\0", kind: 1))
        #expect(Self.hash.of("", kind: 1) != Self.hash.of("\0\0\0\0\0\0\0\0", kind: 1))
        #expect(Self.hash.of("anna", kind: 1) != KeyedHash(key: 1, 3).of("anna", kind: 1))
    }

    @Test("counts of several processes are one count, and go with the process")
    func counts() {
        let memory = Memory(CountTable.bytes(processes: 3))
        let tables = (0..<3).map { CountTable(memory.start, process: $0, processes: 3) }
        let anna = Self.hash.of("anna", kind: 1)
        #expect(tables[0].add(anna) == 1)
        #expect(tables[1].add(anna) == 2)
        #expect(tables[2].add(anna) == 3)
        #expect(tables[0].count(Self.hash.of("bert", kind: 1)) == 0)
        tables[1].remove(anna)
        #expect(tables[0].count(anna) == 2)
        tables[2].clear()
        #expect(tables[0].count(anna) == 1)
        tables[0].remove(anna)
        #expect(tables.allSatisfy { $0.count(anna) == 0 })
    }

    @Test("a table is never below the truth, and seldom above it, with thousands of names; and empty when all have gone")
    func manyNames() {
        let memory = Memory(CountTable.bytes(processes: 1))
        let table = CountTable(memory.start, process: 0, processes: 1)
        let names = (0..<20_000).map { Self.hash.of(NetworkAddress(version4: UInt32($0)), kind: 1) }
        for (index, name) in names.enumerated() { for _ in 0...(index % 3) { table.add(name) } }
        var above = 0
        for (index, name) in names.enumerated() {
            let count = table.count(name)
            #expect(count > index % 3)
            if count > index % 3 + 1 { above += 1 }
        }
        #expect(above < 2400, "\(above) of 20,000 are above the truth")
        for (index, name) in names.enumerated() { for _ in 0...(index % 3) { table.remove(name) } }
        #expect(names.allSatisfy { table.count($0) == 0 })
    }

    @Test("buckets by name do not concern each other, and are one for all who share the memory")
    func buckets() {
        let memory = Memory(BucketTable.bytes)
        let (one, other) = (BucketTable(memory.start), BucketTable(memory.start))
        let limit = RateLimit(perSecond: 10, burst: 4)
        let (anna, bert) = (Self.hash.of("anna", kind: 1), Self.hash.of("bert", kind: 1))
        for _ in 0..<2 {
            #expect(one.take(anna, of: limit, nowNanoseconds: Self.second) == 0)
            #expect(other.take(anna, of: limit, nowNanoseconds: Self.second) == 0)
        }
        #expect(one.take(anna, of: limit, nowNanoseconds: Self.second) > 0)
        #expect(other.take(anna, of: limit, nowNanoseconds: Self.second) > 0)
        #expect(one.take(bert, 4, of: limit, nowNanoseconds: Self.second) == 0)
        #expect(one.take(anna, of: limit, nowNanoseconds: 2 * Self.second) == 0)
    }

    @Test("one who floods costs next to nobody else a token")
    func flood() {
        let memory = Memory(BucketTable.bytes)
        let table = BucketTable(memory.start)
        let limit = RateLimit(perSecond: 10, burst: 20)
        for index in 0..<50 {
            let name = Self.hash.of("flood \(index)", kind: 1)
            for _ in 0..<1000 { _ = table.take(name, of: limit, nowNanoseconds: Self.second) }
        }
        let refused = (0..<20_000).filter { table.take(Self.hash.of("guest \($0)", kind: 1), of: limit, nowNanoseconds: Self.second) > 0 }
        #expect(refused.count <= 2)
    }

    @Test("threads that take from one bucket at a time have no more than it holds")
    func threads() async {
        let memory = Memory(BucketTable.bytes)
        let table = BucketTable(memory.start)
        let limit = RateLimit(perSecond: 1, burst: 1000)
        let name = Self.hash.of("anna", kind: 1)
        let taken = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    (0..<1000).reduce(0) { sum, _ in sum + (table.take(name, of: limit, nowNanoseconds: Self.second) == 0 ? 1 : 0) }
                }
            }
            return await group.reduce(0, +)
        }
        #expect(taken == 1000)
        withExtendedLifetime(memory) {}
    }

    // MARK: slots, ramp, marks

    @Test("slots of a drain are even, whatever their number", arguments: [(1, 5000), (7, 5000), (1000, 60_000), (20_000, 60_000), (5, 0)])
    func slots(count: Int, milliseconds: Int) {
        var slots = DrainSlots(count: count, overMilliseconds: milliseconds, phase: 0.3)
        let all = (0..<count).map { _ in slots.next() }
        #expect(all.allSatisfy { (200...max(200, milliseconds)).contains($0) })
        guard count >= 1000 else { return }
        let parts = Dictionary(grouping: all) { ($0 - 200) * 20 / (milliseconds - 199) }.mapValues(\.count)
        #expect((0..<20).allSatisfy { abs((parts[$0] ?? 0) - count / 20) <= 1 + count / 1000 }, "\(parts)")
        // So is any row of them.
        let row = Dictionary(grouping: all[100..<400]) { ($0 - 200) * 10 / (milliseconds - 199) }.mapValues(\.count)
        #expect((0..<10).allSatisfy { (25...35).contains(row[$0] ?? 0) }, "\(row)")
    }

    @Test("a book of slots gives so many a second, none at once, none later than a minute")
    func book() {
        var book = SlotBook(perSecond: 100)
        let waits = (0..<10_000).map { _ in book.next(nowNanoseconds: 0) }
        #expect(waits[0] == 1000 && waits[1] == 1010 && waits.allSatisfy { (1000...60_000).contains($0) })
        let parts = Dictionary(grouping: waits) { $0 / 1000 }.mapValues(\.count)
        #expect(parts.values.allSatisfy { $0 <= 200 })
        #expect(book.next(nowNanoseconds: 200 * Self.second) == 1000)
    }

    @Test("a ramp takes ever more a second, and those it sends away in their slots")
    func ramp() {
        var ramp = AdmissionRamp(startNanoseconds: 0, seconds: 10, perSecond: 100)
        var due: [Int64] = []
        var admitted = [Int](repeating: 0, count: 12)
        // Three hundred who come at once, then again when they are told.
        for _ in 0..<300 {
            let wait = ramp.admit(nowNanoseconds: 1_000_000)
            if wait == 0 { admitted[0] += 1 } else { due.append(1_000_000 + Int64(wait) * 1_000_000) }
        }
        var rounds = 0
        while !due.isEmpty && rounds < 10_000 {
            rounds += 1
            due.sort()
            let now = due.removeFirst()
            let wait = ramp.admit(nowNanoseconds: now)
            if wait == 0 { admitted[min(11, Int(now / Self.second))] += 1 } else { due.append(now + Int64(wait) * 1_000_000) }
        }
        #expect(admitted.reduce(0, +) == 300)
        #expect(admitted[0] <= 6 && admitted[2] < admitted[4] && admitted[4] < admitted[6], "\(admitted)")
        #expect((1..<10).allSatisfy { admitted[$0] <= 10 * $0 + 13 }, "\(admitted)")
        #expect(ramp.admit(nowNanoseconds: 11 * Self.second) == 0)
    }

    @Test("above a mark a server is full, then sheds; below nine tenths of it for a while it is calm")
    func gauge() {
        let marks = OverloadMarks(residentBytesMax: 1000, lagMillisecondsMax: 100)
        func figures(_ bytes: Int, lag: Int = 0) -> OverloadFigures {
            var figures = OverloadFigures()
            figures.residentBytes = bytes
            figures.connections = 1 << 40
            figures.lagMilliseconds = lag
            return figures
        }
        var gauge = OverloadGauge()
        func look(_ bytes: Int, lag: Int = 0) -> OverloadGauge.State {
            gauge.look(figures(bytes, lag: lag), marks)
            return gauge.state
        }
        #expect(look(1000) == .calm && look(1001) == .full && gauge.cause == .memory)
        #expect(look(1001) == .full && look(950) == .full && look(1001) == .full)
        #expect(look(1001) == .full && look(1001) == .shedding)
        #expect(look(899) == .shedding && look(950) == .shedding && look(899) == .shedding && look(899) == .shedding && look(899) == .calm)
        // One stall is none.
        #expect(look(0, lag: 500) == .calm && look(0) == .calm && look(0, lag: 500) == .calm && look(0, lag: 500) == .calm)
        #expect(look(0, lag: 500) == .full && gauge.cause == .lag)
        var careless = OverloadGauge()
        careless.look(figures(1 << 40, lag: 1 << 40), OverloadMarks())
        #expect(careless.state == .calm && OverloadMarks().areNone)
    }

    @Test("the log says it at once, then once in ten seconds, and how often")
    func notes() {
        var note = SeldomNote()
        #expect(note.note(nowNanoseconds: 0) == 1)
        for step in 1...99 { #expect(note.note(nowNanoseconds: Int64(step) * Self.second / 10) == nil) }
        #expect(note.note(nowNanoseconds: 10 * Self.second) == 100)
        #expect(note.note(nowNanoseconds: 11 * Self.second) == nil)
    }
}

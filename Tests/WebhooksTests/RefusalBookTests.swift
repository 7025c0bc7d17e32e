import Limits
import TestSupport
import Testing

@testable import Webhooks

@Suite struct RefusalBookTests {
    private static func address(_ number: UInt64) -> NetworkAddress { NetworkAddress(high: 1, low: number) }

    @Test("the first refusal is told at once, the next of the same limit and address after a minute, with their count")
    func once() {
        var book = RefusalBook()
        book.note("connections", Self.address(1), nowMilliseconds: 1000)
        let first = RefusalBook.Report(
            limit: "connections", address: Self.address(1), count: 1, firstMilliseconds: 1000, lastMilliseconds: 1000)
        #expect(book.takeDue(nowMilliseconds: 1500) == [first])
        for time in stride(from: 2000, to: 61_000, by: 1000) as StrideTo<Int64> {
            book.note("connections", Self.address(1), nowMilliseconds: time)
            book.note("connections", Self.address(1), nowMilliseconds: time)
            #expect(book.takeDue(nowMilliseconds: time) == [])
        }
        let second = RefusalBook.Report(
            limit: "connections", address: Self.address(1), count: 118, firstMilliseconds: 2000, lastMilliseconds: 60_000)
        #expect(book.takeDue(nowMilliseconds: 61_500) == [second])
        #expect(book.takeDue(nowMilliseconds: 61_500) == [])
    }

    @Test("a flood from one address is one event, and from ten thousand is one for each of a hundred and one for the rest")
    func flood() {
        var book = RefusalBook()
        for _ in 0..<20_000 { book.note("connections_per_address", Self.address(7), nowMilliseconds: 5) }
        #expect(book.takeDue(nowMilliseconds: 10).map(\.count) == [20_000])
        book = RefusalBook()
        for number in 0..<10_000 as Range<UInt64> { book.note("ramp", Self.address(number), nowMilliseconds: 5) }
        #expect(book.placeCount == RefusalBook.addressesMax + 1)
        let reports = book.takeDue(nowMilliseconds: 10)
        #expect(reports.count == RefusalBook.addressesMax + 1)
        #expect(reports.reduce(0) { $0 + $1.count } == 10_000)
        #expect(reports.filter { $0.address == nil }.map(\.count) == [10_000 - RefusalBook.addressesMax])
        // The minute over, there is room for others.
        for number in 20_000..<20_050 as Range<UInt64> { book.note("ramp", Self.address(number), nowMilliseconds: 30_000) }
        #expect(book.takeDue(nowMilliseconds: 30_000) == [])
        let later = book.takeDue(nowMilliseconds: 61_000)
        #expect(later.count == 1 && later[0].address == nil && later[0].count == 50)
        #expect(book.takeDue(nowMilliseconds: 200_000) == [])
        #expect(book.isEmpty)
        for number in 30_000..<30_050 as Range<UInt64> { book.note("ramp", Self.address(number), nowMilliseconds: 200_000) }
        #expect(book.takeDue(nowMilliseconds: 200_000).count == 50)
    }

    @Test("what several processes have counted is told as one, and nothing of it is lost", arguments: 0..<5 as Range<UInt64>)
    func merging(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var workers = [RefusalBook(), RefusalBook(), RefusalBook()]
        var book = RefusalBook()
        var (noted, told) = (0, 0)
        var lastTold: [String: Int64] = [:]
        for second in 0..<300 as Range<Int64> {
            for worker in workers.indices {
                for _ in 0..<Int.random(in: 0...3, using: &random) {
                    let limit = ["a", "b"].randomElement(using: &random)!
                    workers[worker].note(limit, Self.address(.random(in: 0...150, using: &random)), nowMilliseconds: second * 1000)
                    noted += 1
                }
                for report in workers[worker].takeAll() { book.note(report) }
                #expect(workers[worker].isEmpty)
            }
            for report in book.takeDue(nowMilliseconds: second * 1000) {
                told += report.count
                let key = "\(report.limit) \(report.address.map { "\($0)" } ?? "-")"
                if let last = lastTold[key] { #expect(second * 1000 - last >= RefusalBook.restMilliseconds) }
                lastTold[key] = second * 1000
                #expect(report.firstMilliseconds <= report.lastMilliseconds)
            }
            #expect(book.placeCount <= RefusalBook.addressesMax + 2)
        }
        told += book.takeDue(nowMilliseconds: 1_000_000).reduce(0) { $0 + $1.count }
        #expect(told == noted)
    }

    @Test("a clock that is set back does not silence it")
    func clock() {
        var book = RefusalBook()
        book.note("a", nil, nowMilliseconds: 1_000_000)
        #expect(book.takeDue(nowMilliseconds: 1_000_000).count == 1)
        book.note("a", nil, nowMilliseconds: 10)
        #expect(book.takeDue(nowMilliseconds: 10).count == 1)
    }
}

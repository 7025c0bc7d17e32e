import LoadGenerator
import Testing

@Suite struct CutTests {
    private static func book() -> CutBook {
        CutBook(subscribers: 2, channels: 1, missed: 10..<12, position: (after: #""position":""#, until: "\""))
    }

    private static func read(_ text: String, into book: CutBook) {
        for byte in text.utf8 { book.read(byte, subscriber: 0) }
    }

    @Test("a subscriber goes on behind the last message that it has read to its end")
    func position() {
        let book = Self.book()
        #expect(book.position(of: 0).isEmpty)
        Self.read(#"{"type":"hello","position":"e.1"}"#, into: book)
        #expect(book.position(of: 0) == Array("e.1".utf8))
        Self.read(#"{"position":"e.2","data":"#, into: book)
        book.note(subscriber: 0, number: 0, now: 1)
        #expect(book.position(of: 0) == Array("e.2".utf8))
        // The next message is cut off before its marker.
        Self.read(#"{"position":"e.3","da"#, into: book)
        #expect(book.position(of: 0) == Array("e.2".utf8))
        #expect(book.position(of: 1).isEmpty)
    }

    @Test("coming back is over with the last message that was missed, and not before coming back began")
    func times() {
        let book = Self.book()
        book.note(subscriber: 0, number: 10, now: 50)
        book.resume(at: 100)
        book.note(subscriber: 0, number: 9, now: 110)
        book.note(subscriber: 0, number: 10, now: 120)
        #expect(book.times.count == 0)
        book.note(subscriber: 0, number: 11, now: 130)
        #expect((book.times.count, book.times.maximum) == (1, 30))
        book.note(subscriber: 1, number: 10, now: 140)
        #expect(book.times.count == 1)
    }

    @Test("polls are spread evenly over the period, and each subscriber's are a period apart")
    func polls() {
        var clock = PollClock(start: 1000, period: 400, count: 4)
        var taken: [Int] = []
        for time in stride(from: Int64(1000), through: 1750, by: 50) {
            while let next = clock.take(now: time) { taken.append(next) }
        }
        #expect(taken == [0, 1, 2, 3, 0, 1, 2, 3])
        #expect(clock.due == 1800)
        // Who is late makes up for it.
        #expect([clock.take(now: 1950), clock.take(now: 1950), clock.take(now: 1950)] == [0, 1, nil])
    }
}

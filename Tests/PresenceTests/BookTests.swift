import NotificationCore
import Presence
import TestSupport
import Testing

/// A book and the clock of the test, which stands still until it is told.
struct Desk {
    var book: PresenceBook
    var now: Int64 = 1000
    var transitions: [String] = []
    var tells: [PresenceBook.News.Tell] = []
    /// Channels of which a loop has said something.
    private var said: [Int: Set<ChannelName>] = [:]

    init(_ change: (inout PresenceConfiguration) -> Void = { _ in }) {
        var configuration = PresenceConfiguration()
        configuration.set("chat", .users)
        configuration.set("scores", .count)
        change(&configuration)
        book = PresenceBook(configuration)
    }

    /// A loop says how many there are now.
    mutating func say(
        _ source: Int, _ name: String, _ connections: Int, _ users: [(String, Int)] = [], watching: Bool = false, greets: Bool = false,
        unlisted: Int = 0
    ) {
        let channel = ChannelName(name)!
        var update = PresenceUpdate(channel: channel, connections: connections)
        update.users = users.map { PresenceUpdate.User($0.0, $0.1) }
        update.isWhole = said[source, default: []].insert(channel).inserted
        update.isWatching = watching
        update.greets = greets
        update.unlisted = unlisted
        book.take([update], from: source, now: now)
        listen()
    }

    mutating func pass(_ milliseconds: Int64) {
        let end = now + milliseconds
        while now < end {
            now = min(end, now + PresenceBook.tickMilliseconds)
            book.advance(now: now)
            listen()
        }
    }

    mutating func drop(_ sources: Range<Int>) {
        book.drop(sources, now: now)
        for source in sources { said[source] = nil }
        listen()
    }

    private mutating func listen() {
        let news = book.takeNews()
        transitions += news.transitions.map { ($0.isOccupied ? "+" : "-") + $0.channel.string }
        tells += news.tells
    }

    mutating func takeTells() -> [PresenceChange] {
        defer { tells = [] }
        return tells.map(\.change)
    }

    mutating func page(_ name: String, after: String? = nil, limit: Int = 100) -> PresencePage {
        book.page(of: ChannelName(name)!, after: after, limit: limit)
    }

    mutating func users(_ name: String) -> [String] { page(name).members?.map(\.user) ?? [] }

    mutating func counts(_ name: String) -> [Int] {
        let counts = page(name).counts
        return [counts.connections, counts.users]
    }
}

@Suite struct BookTests {
    @Test("a user with three tabs on two loops is one user and three connections; nobody in particular is a connection")
    func counting() {
        var desk = Desk()
        desk.say(0, "chat.a", 2, [("anna", 2)])
        desk.say(1, "chat.a", 3, [("anna", 1), ("bob", 1)])
        #expect(desk.counts("chat.a") == [5, 2])
        #expect(
            desk.page("chat.a").members?.map { "\($0.user) \($0.connections) \($0.sinceMilliseconds)" } == ["anna 3 1000", "bob 1 1000"])
        #expect(desk.counts("chat.b") == [0, 0] && desk.page("chat.b").members == [])
    }

    @Test("a feed that only counts names nobody, and one that is tracked for the server's own sake shows nothing of users")
    func modes() {
        var desk = Desk { $0.occupancy = [ChannelPattern("own.>")!] }
        desk.say(0, "scores.a", 1, [("anna", 1)])
        #expect(desk.counts("scores.a") == [1, 1] && desk.page("scores.a").members == nil)
        desk.say(0, "own.a", 1)
        #expect(desk.transitions == ["+scores.a", "+own.a"])
        var configuration = PresenceConfiguration()
        #expect(!configuration.isOn)
        configuration.occupancy = [ChannelPattern("own.*")!]
        #expect(configuration.isOn && configuration.tracks(ChannelName("own.a")!) && !configuration.tracks(ChannelName("other.a")!))
        configuration.set("*", .count)
        #expect(configuration.tracks(ChannelName("other.a")!) && !configuration.tracks(ChannelName("_acks.61")!))
        #expect(configuration.mode(of: ChannelName("_canary.0")!) == .off)
        configuration.set("other", .off)
        #expect(configuration.mode(of: ChannelName("other.a")!) == .off && configuration.mode(of: ChannelName("more.a")!) == .count)
    }

    @Test("a channel is occupied once and vacated when the grace is over")
    func transitions() {
        var desk = Desk()
        desk.say(0, "chat.a", 1)
        desk.say(1, "chat.a", 1)
        desk.say(0, "chat.a", 0)
        desk.pass(10_000)
        #expect(desk.transitions == ["+chat.a"])
        desk.say(1, "chat.a", 0)
        desk.pass(4900)
        #expect(desk.transitions == ["+chat.a"] && desk.counts("chat.a") == [1, 0])
        desk.pass(400)
        #expect(desk.transitions == ["+chat.a", "-chat.a"] && desk.counts("chat.a") == [0, 0] && desk.book.channelCount == 0)
        desk.say(0, "chat.a", 1)
        #expect(desk.transitions == ["+chat.a", "-chat.a", "+chat.a"])
    }

    @Test(
        "who reconnects within the grace, at the same loop or at another, has neither left nor come",
        arguments: [0, 1], [0, 250, 1000, 4750] as [Int64])
    func reconnecting(_ loop: Int, _ pause: Int64) {
        var desk = Desk()
        desk.say(0, "chat.a", 2, [("anna", 1)], watching: true, greets: true)
        desk.pass(3000)
        _ = desk.takeTells()
        desk.say(0, "chat.a", 1, [("anna", 0)], watching: true)
        desk.pass(pause)
        desk.say(loop, "chat.a", loop == 0 ? 2 : 1, [("anna", 1)], watching: loop == 0)
        desk.pass(20_000)
        #expect(desk.takeTells().isEmpty)
        #expect(desk.counts("chat.a") == [2, 1] && desk.page("chat.a").members?.first?.sinceMilliseconds == 1000)
        #expect(desk.transitions == ["+chat.a"])
    }

    @Test("a client that is on its new way before it leaves the old one is no new user, and is counted twice only meanwhile")
    func climbing() {
        var desk = Desk()
        desk.say(0, "chat.a", 1, [("anna", 1)])
        desk.say(1, "chat.a", 1, [("anna", 1)])
        #expect(desk.counts("chat.a") == [2, 1])
        desk.say(0, "chat.a", 0, [("anna", 0)])
        desk.pass(6000)
        #expect(desk.counts("chat.a") == [1, 1] && desk.users("chat.a") == ["anna"])
    }

    @Test("who watches is told the counts at once, then who came and left, once an interval")
    func changes() {
        var desk = Desk()
        desk.say(0, "chat.a", 1, [("anna", 1)], watching: true, greets: true)
        var tells = desk.takeTells()
        #expect(tells.count == 1 && tells[0].isGreeting && tells[0].counts == PresenceCounts(connections: 1, users: 1))
        #expect(tells[0].joined == nil && tells[0].left == nil)
        desk.pass(2000)
        #expect(desk.takeTells().isEmpty)
        desk.say(1, "chat.a", 2, [("bob", 1), ("carl", 1)])
        desk.pass(250)
        tells = desk.takeTells()
        #expect(tells.count == 1 && tells[0].joined == ["bob", "carl"] && tells[0].left == [] && !tells[0].isGreeting)
        // More within the interval come together.
        desk.say(1, "chat.a", 3, [("dora", 1)])
        desk.pass(250)
        desk.say(2, "chat.a", 1, [("emil", 1)])
        desk.pass(250)
        #expect(desk.takeTells().isEmpty)
        desk.pass(750)
        tells = desk.takeTells()
        #expect(tells.count == 1 && tells[0].joined == ["dora", "emil"] && tells[0].counts == PresenceCounts(connections: 5, users: 5))
        desk.say(2, "chat.a", 0, [("emil", 0)])
        desk.pass(4500)
        #expect(desk.takeTells().isEmpty)
        desk.pass(1000)
        tells = desk.takeTells()
        #expect(tells.count == 1 && tells[0].left == ["emil"] && tells[0].joined == [] && tells[0].counts.users == 4)
    }

    @Test("those who come and go at the loop of the one who watches are told of like others")
    func sameLoop() {
        var desk = Desk { $0.graceMilliseconds = 0 }
        desk.say(0, "chat.a", 1, [("anna", 1)], watching: true, greets: true)
        _ = desk.takeTells()
        desk.say(0, "chat.a", 2, [("bob", 1)], watching: true)
        desk.pass(2000)
        #expect(desk.takeTells().map(\.joined) == [["bob"]])
        desk.say(0, "chat.a", 1, [("bob", 0)], watching: true)
        desk.pass(2000)
        #expect(desk.takeTells().map(\.left) == [["bob"]])
    }

    @Test("changes go to the loops where somebody watches, a greeting to the one that asked")
    func sources() {
        var desk = Desk()
        desk.say(3, "chat.a", 1, watching: true, greets: true)
        desk.say(5, "chat.a", 1, watching: true, greets: true)
        desk.say(7, "chat.a", 1, [("anna", 1)])
        #expect(desk.tells.map(\.sources) == [[3], [5]])
        desk.tells = []
        desk.pass(250)
        #expect(desk.tells.map(\.sources) == [[3, 5]])
        desk.tells = []
        desk.say(5, "chat.a", 1)
        desk.say(7, "chat.a", 2, [("bob", 1)])
        desk.pass(2000)
        #expect(desk.tells.map(\.sources) == [[3]])
        desk.say(3, "chat.a", 0)
        desk.tells = []
        desk.say(7, "chat.a", 3, [("carl", 1)])
        desk.pass(10_000)
        #expect(desk.tells.isEmpty)
    }

    @Test("who comes and goes between two looks is not told of")
    func between() {
        var desk = Desk { $0.graceMilliseconds = 0 }
        desk.say(0, "chat.a", 1, watching: true, greets: true)
        desk.say(1, "chat.a", 1, [("anna", 1)])
        desk.pass(250)
        _ = desk.takeTells()
        // The interval is not over when anna has left and is back, and bob has been there.
        desk.say(1, "chat.a", 1, [("anna", 0), ("bob", 1)])
        desk.pass(250)
        desk.say(1, "chat.a", 1, [("anna", 1), ("bob", 0)])
        desk.pass(500)
        #expect(desk.takeTells().isEmpty)
        desk.pass(2000)
        #expect(desk.takeTells().isEmpty && desk.users("chat.a") == ["anna"])
    }

    @Test("above the limit of members events have counts alone, and so has one with more names than that")
    func manyMembers() {
        var desk = Desk {
            $0.membersMax = 3
            $0.graceMilliseconds = 0
        }
        desk.say(0, "chat.a", 1, watching: true, greets: true)
        desk.say(1, "chat.a", 3, [("a", 1), ("b", 1), ("c", 1)])
        desk.pass(250)
        #expect(desk.takeTells().last?.joined == ["a", "b", "c"])
        desk.say(1, "chat.a", 4, [("d", 1)])
        desk.pass(1000)
        var tell = desk.takeTells().last
        #expect(tell?.joined == nil && tell?.left == nil && tell?.counts.users == 4)
        // Two leave and two come: four names are more than are told, though there are three.
        desk.say(1, "chat.a", 3, [("d", 0)])
        desk.pass(7000)
        _ = desk.takeTells()
        desk.say(1, "chat.a", 3, [("a", 0), ("b", 0), ("x", 1), ("y", 1)])
        desk.pass(7000)
        tell = desk.takeTells().last
        #expect(tell?.counts.users == 3 && tell?.joined == nil)
        desk.say(1, "chat.a", 2, [("y", 0)])
        desk.pass(7000)
        #expect(desk.takeTells().last?.left == ["y"])
    }

    @Test("a process that ends takes its members with it after the grace; those who come back elsewhere have not left")
    func processEnds() {
        var desk = Desk()
        desk.say(0, "chat.a", 2, [("anna", 1), ("bob", 1)], watching: true, greets: true)
        desk.say(1, "chat.a", 1, [("carl", 1)])
        desk.say(2, "chat.b", 4, [("dora", 1)], unlisted: 1)
        desk.pass(2000)
        _ = desk.takeTells()
        desk.drop(1..<3)
        #expect(desk.counts("chat.a") == [3, 3] && desk.counts("chat.b") == [4, 1])
        desk.pass(3000)
        desk.say(1, "chat.b", 1, [("dora", 1)])
        desk.pass(3000)
        #expect(desk.counts("chat.a") == [2, 2] && desk.counts("chat.b") == [1, 1])
        #expect(!desk.page("chat.b").counts.isAtLeast)
        #expect(desk.takeTells().map(\.left) == [["carl"]])
        desk.drop(0..<3)
        desk.pass(6000)
        #expect(
            desk.transitions == ["+chat.a", "+chat.b", "-chat.a", "-chat.b"]
                || desk.transitions == ["+chat.a", "+chat.b", "-chat.b", "-chat.a"])
        let left = desk.book.figures.filter { $0.channels != 0 || $0.connections != 0 || $0.users != 0 }
        #expect(left.isEmpty)
    }

    @Test("a channel more than may be kept is not known, and says so; there is room again when one is vacated")
    func channelLimit() {
        var desk = Desk { $0.channelsMax = 2 }
        desk.say(0, "chat.a", 1)
        desk.say(0, "chat.b", 1)
        desk.say(0, "chat.c", 1, [("anna", 1)])
        #expect(desk.book.refused == 1 && desk.book.channelCount == 2)
        #expect(desk.page("chat.c").isUnknown && !desk.page("chat.a").isUnknown)
        desk.say(0, "chat.a", 0)
        desk.pass(6000)
        #expect(!desk.page("chat.c").isUnknown)
        // What was said of it before is not known: there may be more users than these.
        desk.say(0, "chat.c", 2, [("bob", 1)])
        #expect(desk.counts("chat.c") == [2, 1] && desk.page("chat.c").counts.isAtLeast)
        #expect(desk.transitions == ["+chat.a", "+chat.b", "-chat.a", "+chat.c"])
    }

    @Test("users of a channel more than are listed count as connections, and the count says that it is too small")
    func userLimit() {
        var desk = Desk { $0.usersMax = 2 }
        desk.say(0, "chat.a", 3, [("a", 1), ("b", 1)])
        desk.say(1, "chat.a", 2, [("c", 2)])
        #expect(desk.counts("chat.a") == [5, 2] && desk.page("chat.a").counts.isAtLeast)
        #expect(desk.users("chat.a") == ["a", "b"])
        desk.say(0, "chat.a", 2, [("a", 0)])
        desk.pass(6000)
        #expect(desk.users("chat.a") == ["b"] && desk.page("chat.a").counts.isAtLeast)
        // With the next connection there is room for the user, with all connections.
        desk.say(1, "chat.a", 3, [("c", 3)])
        #expect(desk.users("chat.a") == ["b", "c"] && !desk.page("chat.a").counts.isAtLeast)
        #expect(desk.page("chat.a").members?.last?.connections == 3)
    }

    @Test("pages show everybody who is there all the time exactly once, while others come and go")
    func paging() {
        var random = SeededRandom(seed: 11)
        var desk = Desk { $0.graceMilliseconds = 0 }
        let staying = (0..<500).map { "s\(1000 + $0 * 7)" }
        desk.say(0, "chat.a", 500, staying.map { ($0, 1) })
        var seen: [String] = []
        var after: String?
        var pages = 0
        repeat {
            let page = desk.page("chat.a", after: after, limit: 30)
            seen += page.members?.map(\.user) ?? []
            after = page.next
            pages += 1
            let others = (0..<20).map { _ in ("s\(Int.random(in: 1000...5000, using: &random))x", Int.random(in: 0...1, using: &random)) }
            desk.say(1, "chat.a", others.reduce(0) { $0 + $1.1 }, others)
            desk.pass(250)
        } while after != nil && pages < 1000
        #expect(seen == seen.sorted() && Set(seen).count == seen.count)
        #expect(seen.filter { !$0.hasSuffix("x") } == staying)
        let others = seen.filter { $0.hasSuffix("x") }
        #expect(!others.isEmpty && pages > 16)
    }

    @Test("a page has at most a thousand members")
    func pageLimit() {
        var desk = Desk()
        desk.say(0, "chat.a", 1500, (0..<1500).map { ("u\(10_000 + $0)", 1) })
        let page = desk.page("chat.a", limit: 5000)
        #expect(page.members?.count == PresenceConfiguration.pageMax && page.next == "u10999")
        #expect(desk.page("chat.a", after: page.next, limit: 5000).members?.count == 500)
        #expect(desk.page("chat.a", after: "zzz").members == [] && desk.page("chat.a", after: "zzz").next == nil)
        #expect(desk.page("chat.a", limit: 0).members?.count == 1)
    }

    @Test("whatever loops say, in whatever order, the book has what is there in the end", arguments: 0..<20 as Range<UInt64>)
    func anyOrder(_ seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var desk = Desk { $0.graceMilliseconds = 500 }
        let names = ["a", "b", "c", "d"]
        var ledgers = (0..<3).map { _ in PresenceLedger(channelsMax: 10, usersMax: 10) }
        var places: [(loop: Int, place: PresenceLedger.Place)] = []
        var held: [(loop: Int, channel: String, user: String?)] = []
        for _ in 0..<600 {
            let loop = Int.random(in: 0..<3, using: &random)
            if places.isEmpty || Int.random(in: 0..<5, using: &random) < 3 {
                let (channel, number) = ("chat.\(names.randomElement(using: &random)!)", Int.random(in: 0..<6, using: &random))
                let user = number == 0 ? nil : "u\(number)"
                places.append((loop, ledgers[loop].enter(ChannelName(channel)!, user: user)!))
                held.append((loop, channel, user))
            } else {
                let at = Int.random(in: 0..<places.count, using: &random)
                ledgers[places[at].loop].leave(places[at].place)
                places.remove(at: at)
                held.remove(at: at)
            }
            if Int.random(in: 0..<4, using: &random) == 0 { desk.book.take(ledgers[loop].take(), from: loop, now: desk.now) }
            if Int.random(in: 0..<4, using: &random) == 0 { desk.pass(250) }
            if Int.random(in: 0..<100, using: &random) == 0 {
                // A process is started anew, without clients.
                desk.drop(loop..<loop + 1)
                ledgers[loop] = PresenceLedger(channelsMax: 10, usersMax: 10)
                for at in places.indices.reversed() where places[at].loop == loop {
                    places.remove(at: at)
                    held.remove(at: at)
                }
            }
        }
        for loop in 0..<3 { desk.book.take(ledgers[loop].take(), from: loop, now: desk.now) }
        desk.pass(1000)
        for name in names {
            let there = held.filter { $0.channel == "chat.\(name)" }
            let users = Set(there.compactMap { $0.user })
            #expect(desk.counts("chat.\(name)") == [there.count, users.count], "seed \(seed)")
            #expect(desk.users("chat.\(name)") == users.sorted(), "seed \(seed)")
            #expect(!desk.page("chat.\(name)").counts.isAtLeast)
        }
        // Each channel is occupied and vacated in turn.
        for name in names {
            let signs = desk.transitions.filter { $0.hasSuffix("chat.\(name)") }.map { $0.first! }
            let isAlternating = zip(signs, signs.dropFirst()).allSatisfy { $0 != $1 }
            #expect(isAlternating && signs.first ?? "+" == "+")
        }
        #expect(desk.book.figures.reduce(0) { $0 + $1.connections } == held.count)
    }
}

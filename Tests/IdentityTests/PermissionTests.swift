import NotificationCore
import TestSupport
import Testing

@testable import Identity

private func pattern(_ text: String) -> ChannelPattern {
    guard let pattern = ChannelPattern(text) else { preconditionFailure("\(text) is no pattern") }
    return pattern
}

private func anna(_ subscribe: [String]?, publish: [String]? = nil) -> Identity {
    var grants = Grants()
    grants.subscribe = subscribe.map { $0.map(pattern) }
    grants.publish = publish.map { $0.map(pattern) }
    return Identity(.user("anna"), grants: grants)
}

@Suite struct CoveringTests {
    @Test(
        "a grant covers what it says, and never more",
        arguments: [
            ("scores.a", "scores.a", true), ("scores.a", "scores.b", false), ("scores.a", "scores.A", false),
            ("scores.*", "scores.a", true), ("scores.*", "scores.*", true), ("scores.*", "scores.>", false), ("scores.*", "scores", false),
            ("scores.*", "scores.a.b", false), ("scores.a", "scores.*", false), ("scores.>", "scores.a", true),
            ("scores.>", "scores.a.b", true), ("scores.>", "scores.*", true), ("scores.>", "scores.*.b", true),
            ("scores.>", "scores.>", true), ("scores.>", "scores.a.>", true), ("scores.>", "scores", false), ("scores.>", "*.a", false),
            ("scores.>", ">", false), ("scores.a.>", "scores.>", false), (">", ">", true), (">", "*", true), (">", "a.b.c", true),
            (">", "_acks.a", false), (">", "_acks.>", false), ("*.a", "_acks.a", false), ("_acks.>", "_acks.a", true), ("*", ">", false),
            ("*", "*", true), ("*", "a", true), ("*.>", ">", false), ("*.>", "a.b", true), ("*.>", "*.*", true), ("*.>", "a", false),
            ("*.b", "a.*", false), ("*.b", "*.b", true), ("a.*.c", "a.b.c", true), ("a.*.c", "a.*.*", false), ("a.*.c", "a.>", false),
            ("a.*.>", "a.b.>", true), ("a.*.>", "a.>", false), ("a.b", "a.b.c", false),
        ])
    func table(_ grant: String, _ wanted: String, _ covers: Bool) {
        #expect(pattern(grant).covers(pattern(wanted)) == covers)
    }

    /// All texts of up to `depth` of these tokens.
    private func texts(_ tokens: [String], depth: Int) -> [String] {
        var texts: [String] = []
        var last = [""]
        for _ in 0..<depth {
            last = last.flatMap { start in tokens.map { start.isEmpty ? $0 : start + "." + $0 } }
            texts += last
        }
        return texts
    }

    @Test("covering is what it is when all channels are tried")
    func bruteForce() {
        // One more token, and one token deeper, than the patterns name: what tells the wildcards apart.
        let channels = texts(["a", "b", "_c", "z"], depth: 4).compactMap { ChannelName($0) }
        let patterns = texts(["a", "b", "_c", "*", ">"], depth: 3).compactMap { ChannelPattern($0) }
        #expect(patterns.count > 100 && channels.count == 340)
        let matched = patterns.map { pattern in
            channels.map { pattern.matches($0) && (pattern.isReserved || !$0.isReserved) }
        }
        for (grant, all) in zip(patterns, matched) {
            for (wanted, some) in zip(patterns, matched) {
                let isIncluded = zip(all, some).allSatisfy { $0 || !$1 }
                #expect(grant.covers(wanted) == isIncluded, "\(grant) and \(wanted)")
            }
        }
    }

    @Test("the parts of a pattern are its channels, by feed")
    func parts() {
        let channels = texts(["a", "b", "z"], depth: 4).compactMap { ChannelName($0) }
        for wanted in texts(["a", "b", "*", ">"], depth: 3).compactMap({ ChannelPattern($0) }) {
            let parts = wanted.part(of: "a")
            for channel in channels {
                #expect(parts.contains { $0.matches(channel) } == (wanted.matches(channel) && channel.feed == "a"), "\(wanted) \(channel)")
            }
        }
    }
}

@Suite struct AccessTests {
    private static let rules: AccessRules = {
        var rules = AccessRules()
        rules.subscribe.set("news", .public)
        rules.subscribe.set("staff", .authenticated)
        rules.subscribe.set("secret", .granted)
        rules.publish.set("chat", .authenticated)
        rules.publish.set("wall", .claimed)
        return rules
    }()

    /// Who, what they want, and whether they get it.
    @Test(
        "who may subscribe",
        arguments: [
            (nil, "news.a", true), (nil, "staff.a", false), (nil, "other.a", false), (nil, ">", false), (nil, "*.a", false),
            // No claim: everything but what has to be granted.
            (anna(nil), "news.a", true), (anna(nil), "staff.a", true), (anna(nil), "other.>", true), (anna(nil), "secret.a", false),
            (anna(nil), ">", false), (anna(nil), "*.a", false), (anna(nil), "*", false),
            // With one: what it says, and what anybody may.
            (anna([]), "news.>", true), (anna([]), "staff.>", true), (anna([]), "other.a", false),
            (anna(["other.*"]), "other.a", true), (anna(["other.*"]), "other.>", false), (anna(["other.*"]), "more.a", false),
            (anna(["secret.*"]), "secret.a", true), (anna(["secret.*"]), "secret.a.b", false), (anna([">"]), ">", true),
            (anna(["*.a"]), "*.a", true), (anna(["*.a"]), "*.*", false), (anna(["*"]), "*", true),
        ] as [(Identity?, String, Bool)])
    func subscribe(_ who: Identity?, _ wanted: String, _ isAllowed: Bool) {
        let refusal = Self.rules.refusal(.subscribe, pattern(wanted), who)
        #expect((refusal == nil) == isAllowed)
        #expect(refusal.map { $0.isForWantOfToken } ?? (who == nil) == (who == nil))
    }

    @Test(
        "who may publish: nobody without a grant, unless the feed says so",
        arguments: [
            (nil, "news.a", false), (nil, "chat.a", false), (anna(nil), "news.a", false), (anna([">"]), "news.a", false),
            (anna(nil, publish: ["news.*"]), "news.a", true), (anna(nil, publish: ["news.*"]), "news.a.b", false),
            (anna(nil), "chat.a", true), (anna(nil, publish: []), "chat.a", true), (anna(nil), "wall.a", true),
            (anna(nil, publish: []), "wall.a", false), (anna(nil, publish: [">"]), "secret.a", true),
        ] as [(Identity?, String, Bool)])
    func publish(_ who: Identity?, _ wanted: String, _ isAllowed: Bool) {
        #expect((Self.rules.refusal(.publish, pattern(wanted), who) == nil) == isAllowed)
    }

    @Test("an API key has what it was given, whatever users have")
    func keys() throws {
        let (key, line) = try APIKeys.make(name: "backend", grants: ["publish=chat.a"], random: [UInt8](repeating: 7, count: 32))
        let identity = try #require(try APIKeys(file: Array(line.utf8)).identity(of: key))
        #expect(Self.rules.refusal(.publish, pattern("chat.a"), identity) == nil)
        #expect(Self.rules.refusal(.publish, pattern("chat.b"), identity) != nil)
        #expect(Self.rules.refusal(.subscribe, pattern("staff.a"), identity) != nil)
        #expect(Self.rules.refusal(.subscribe, pattern("other.a"), identity) != nil)
        #expect(Self.rules.refusal(.subscribe, pattern("news.a"), identity) == nil)
    }

    @Test("a refusal tells a client nothing that it did not say, and an operator all")
    func words() throws {
        let refusal = try #require(Self.rules.refusal(.subscribe, pattern("secret.a"), anna(["scores.*"])))
        #expect(refusal.rule == "subscribe grant")
        #expect(refusal.configurationKey == "access (--access)")
        #expect(!refusal.detail.contains("scores") && !refusal.detail.contains("granted"))
        #expect(refusal.fullDetail.contains("--access secret=granted") && refusal.fullDetail.contains("scores.*"))
        // The same whether the channel is of a feed that is named or not.
        let other = try #require(Self.rules.refusal(.subscribe, pattern("other.a"), anna(["scores.*"])))
        #expect(other.detail.replacing("other.a", with: "") == refusal.detail.replacing("secret.a", with: ""))
    }

    @Test("two grants do not make a wider one")
    func neverWider() {
        var random = SeededRandom(seed: 7)
        let tokens = ["a", "b", "*", ">"]
        func drawn() -> ChannelPattern? {
            let count = Int.random(in: 1...3, using: &random)
            let drawn: [String] = (0..<count).map { _ in tokens.randomElement(using: &random)! }
            return ChannelPattern(drawn.joined(separator: "."))
        }
        let channels = ["a", "b", "z", "a.a", "a.z", "z.a", "z.z", "a.b.a", "a.b.z", "z.a.z", "z.z.z", "a.z.a.z"].compactMap {
            ChannelName($0)
        }
        var allowed = 0
        for _ in 0..<3000 {
            guard let first = drawn(), let second = drawn(), let wanted = drawn() else { continue }
            let who = anna([first.string, second.string])
            guard AccessRules().refusal(.subscribe, wanted, who) == nil else { continue }
            allowed += 1
            let meant = channels.filter { wanted.matches($0) }
            #expect([first, second].contains { grant in meant.allSatisfy { grant.matches($0) } }, "\(first) \(second) \(wanted)")
        }
        #expect(allowed > 100)
    }
}

@Suite struct APIKeyTests {
    private let line = try! APIKeys.make(
        name: "backend", grants: ["publish=scores.>", "subscribe=scores.a", "admin"], random: [UInt8](repeating: 1, count: 32))

    @Test("a key is who the file says, and no other text is")
    func found() throws {
        let keys = try APIKeys(file: Array(("# keys\n\n" + line.line + "\r\n").utf8))
        let identity = try #require(keys.identity(of: line.key))
        #expect(identity.principal == .key("backend") && identity.isAdministrator && identity.subject == nil)
        #expect(identity.grants.publish?.map(\.string) == ["scores.>"] && identity.grants.presence == [])
        #expect(line.key.hasPrefix("tsk_") && !line.line.contains(line.key))
        for other in [
            "", "tsk_", line.key + "a", String(line.key.dropLast()), line.key.uppercased(), String(line.line.dropFirst(8).prefix(64)),
        ] {
            #expect(keys.identity(of: other) == nil)
        }
    }

    @Test(
        "a file that says something else is refused whole",
        arguments: [
            "backend", "backend:00:publish=a", "back end:HASH:publish=a", "backend:HASH:publish", "backend:HASH:publish=a..b",
            "backend:HASH:delete=a", "backend:HASH:publish={sub}", "backend:HASH", "a:HASH:admin\na:HASH2:admin", "a:HASH:\nb:HASH:",
        ])
    func bad(_ text: String) {
        let file = text.replacing("HASH2", with: String(repeating: "b", count: 64)).replacing(
            "HASH", with: String(repeating: "a", count: 64))
        #expect(throws: TokenKeyFault.self) { try APIKeys(file: Array(file.utf8)) }
    }
}

@Suite struct TicketTests {
    private func id(_ number: Int) -> TicketID { TicketID(random: (UInt64(number) << 8, .max), process: 0) }

    @Test("a ticket is good once, and for thirty seconds")
    func once() throws {
        var table = TicketTable()
        let now: Int64 = 1_000_000
        let issued = (1...3).map { table.issue(id($0), anna(nil), nowMilliseconds: now) }
        #expect(issued == [true, true, true])
        var found: [Identity?] = []
        for (number, after) in [(1, 1), (1, 1), (9, 1), (2, 29_999), (3, 30_000)] as [(Int, Int64)] {
            found.append(table.take(id(number), nowMilliseconds: now + after))
        }
        #expect(found == [anna(nil), nil, nil, anna(nil), nil])
    }

    @Test("nobody has more than their share, used or not")
    func bounded() {
        var table = TicketTable()
        for number in 0..<TicketTable.countOfOneMax {
            let isIssued = table.issue(id(number), anna(nil), nowMilliseconds: 0)
            #expect(isIssued)
            _ = table.take(id(number), nowMilliseconds: 0)
        }
        let oneMore = table.issue(id(1000), anna(nil), nowMilliseconds: 29_999)
        let another = table.issue(id(1001), Identity(.user("otto")), nowMilliseconds: 29_999)
        let later = table.issue(id(1002), anna(nil), nowMilliseconds: 30_000)
        #expect([oneMore, another, later] == [false, true, true])
    }

    @Test("all of them together are bounded")
    func boundedInAll() {
        var table = TicketTable()
        var issued = 0
        for number in 0..<TicketTable.countMax where table.issue(id(number), Identity(.user("u\(number / 100)")), nowMilliseconds: 0) {
            issued += 1
        }
        #expect(issued == TicketTable.countMax)
        let oneMore = table.issue(id(TicketTable.countMax), Identity(.user("otto")), nowMilliseconds: 1)
        #expect(!oneMore)
    }

    @Test("it is written in 32 digits and read back", arguments: [(0, 0), (1, .max), (.max, 5)] as [(UInt64, UInt64)])
    func text(_ high: UInt64, _ low: UInt64) {
        let ticket = TicketID(random: (high, low), process: 200)
        #expect(ticket.description.count == 32 && TicketID(ticket.description) == ticket)
        #expect(ticket.process == 200 && TicketID(ticket.description)?.process == 200)
        #expect(ticket != TicketID(random: (high, low), process: 201))
        #expect(TicketID(ticket.description + "0") == nil && TicketID("G" + ticket.description.dropFirst()) == nil)
    }
}

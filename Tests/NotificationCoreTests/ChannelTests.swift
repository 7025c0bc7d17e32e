import TestSupport
import Testing

@testable import NotificationCore

@Suite struct ChannelTests {
    @Test(
        "a channel name follows the grammar",
        arguments: [
            ("scores", true), ("scores.wc2022.final", true), ("a-b_c.D9", true), ("", false), (".", false), ("a.", false), (".a", false),
            ("a..b", false), ("a b", false), ("a.*", false), ("a.>", false), ("é", false), ("a\n", false), ("a\0b", false), ("a/b", false),
            (String(repeating: "a", count: 255), true), (String(repeating: "a", count: 256), false),
            (Array(repeating: "a", count: 16).joined(separator: "."), true),
            (Array(repeating: "a", count: 17).joined(separator: "."), false),
        ])
    func names(_ text: String, _ isValid: Bool) {
        #expect((ChannelName(text) != nil) == isValid)
    }

    @Test(
        "a pattern has wildcards only as whole tokens, and > only last",
        arguments: [
            ("*", true), (">", true), ("a.*", true), ("a.>", true), ("*.b.*", true), ("a.>.b", false), ("a*", false), ("a.b>", false),
            ("a.**", false), ("a.", false),
        ])
    func patterns(_ text: String, _ isValid: Bool) {
        #expect((ChannelPattern(text) != nil) == isValid)
    }

    @Test(
        "a pattern matches as the NATS subject grammar says",
        arguments: [
            ("a.b", "a.b", true), ("a.b", "a.c", false), ("a.*", "a.b", true), ("a.*", "a", false), ("a.*", "a.b.c", false),
            ("a.>", "a.b", true), ("a.>", "a.b.c", true), ("a.>", "a", false), (">", "a", true), (">", "a.b", true), ("*", "a", true),
            ("*", "a.b", false), ("*.b", "a.b", true), ("*.b.>", "a.b", false), ("*.b.>", "a.b.c", true),
        ])
    func matching(_ pattern: String, _ channel: String, _ matches: Bool) {
        #expect(ChannelPattern(pattern)!.matches(ChannelName(channel)!) == matches)
    }

    @Test(
        "two patterns overlap if some channel is matched by both",
        arguments: [
            ("a.b", "a.b", true), ("a.*", "*.b", true), ("a.>", "*.b.c", true), ("a.>", "b.>", false), ("a", "a.>", false),
            ("*", "a.*", false),
            (">", "x", true), (">", "_acks.x", false), ("*.x", "_acks.x", false), ("_acks.x", "_acks.x", true), ("a.*.c", "a.b.>", true),
            ("a.*.c", "a.>", true), ("a.b.c", "a.*.d", false),
        ])
    func overlapping(_ one: String, _ other: String, _ overlaps: Bool) {
        #expect(ChannelPattern(one)!.overlaps(ChannelPattern(other)!) == overlaps)
        #expect(ChannelPattern(other)!.overlaps(ChannelPattern(one)!) == overlaps)
    }

    @Test("the trie finds the same patterns as matching each one by itself")
    func trie() {
        var random = SeededRandom(seed: 7)
        let letters = ["a", "b", "c"]
        func channel() -> ChannelName {
            ChannelName(
                (0..<Int.random(in: 1...4, using: &random)).map { _ in letters.randomElement(using: &random)! }
                    .joined(separator: "."))!
        }
        func pattern() -> ChannelPattern {
            var tokens = (0..<Int.random(in: 1...4, using: &random)).map { _ in (letters + ["*"]).randomElement(using: &random)! }
            if Bool.random(using: &random) { tokens[tokens.count - 1] = ">" }
            return ChannelPattern(tokens.joined(separator: "."))!
        }
        var trie = PatternTrie<ChannelPattern>()
        var kept: Set<ChannelPattern> = []
        for _ in 0..<2000 {
            let one = pattern()
            if kept.contains(one) {
                trie.remove(one)
                kept.remove(one)
            } else {
                trie.insert(one, for: one)
                kept.insert(one)
            }
            let name = channel()
            var found: [ChannelPattern] = []
            trie.forEachMatch(name) { found.append($0) }
            #expect(Set(found) == kept.filter { $0.matches(name) })
            #expect(found.count == Set(found).count)
            #expect(trie.count == kept.count)
        }
        for one in kept { trie.remove(one) }
        #expect(trie.count == 0)
    }

    @Test("a position goes through its text unchanged, and nothing else is one")
    func positions() {
        let position = Position(epoch: LogEpoch(random: 0xffff_0123_4567_89ab), offset: 42)
        #expect(position.description == "0123456789ab.42")
        #expect(Position(position.description) == position)
        for text in [
            "", ".", "0123456789ab", "0123456789ab.", "0123456789AB.1", "0123456789ab.-1", "0123456789ab.01", "0123456789ab.+1",
            "0123456789ab.18446744073709551616", "0123456789ab.1 ", "123456789ab.1", String(repeating: "1", count: 400),
        ] {
            #expect(Position(text) == nil, "\(text)")
        }
        #expect(Position("0123456789ab.18446744073709551615") != nil)
        #expect(Position("0123456789ab.1.2.3")?.places == [.at(1), .at(2), .at(3)])
        let window = Position.Window(base: 900, through: 1042, channel: 7, offset: 1000)
        #expect(Position("0123456789ab.900-1042-7-1000")?.places == [.within(window)])
        for token in ["0123456789ab.n", "0123456789ab.n-9-0-0", "0123456789ab.900-1042-7-1000", "0123456789ab.1.n-2-3-1.7"] {
            #expect(Position(token)?.description == token)
        }
        for token in [
            "0123456789ab.2-9-0-1", "0123456789ab.1-2-0-3", "0123456789ab.1-2-3", "0123456789ab.1-2-9999999999-1", "0123456789ab.N",
        ] {
            #expect(Position(token) == nil, "\(token)")
        }
    }

    @Test(
        "a timestamp is RFC 3339 in UTC with milliseconds",
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (1, "1970-01-01T00:00:00.001Z"), (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"), (1_795_255_200_123, "2026-11-21T10:00:00.123Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ])
    func timestamps(_ milliseconds: Int64, _ text: String) {
        #expect(Timestamp.string(milliseconds: milliseconds) == text)
        #expect(Timestamp.milliseconds(text) == milliseconds)
    }

    @Test(
        "what is no timestamp of that form is none",
        arguments: [
            "", "2026-11-21T10:00:00Z", "2026-13-21T10:00:00.123Z", "2026-00-21T10:00:00.123Z", "2026-02-29T10:00:00.123Z",
            "2026-11-21T24:00:00.123Z", "2026-11-21T10:60:00.123Z", "2026-11-21 10:00:00.123Z", "2026-11-21T10:00:00.12éZ",
        ])
    func noTimestamps(_ text: String) {
        #expect(Timestamp.milliseconds(text) == nil)
    }

    @Test("days and their numbers, over eight centuries")
    func days() {
        for day in stride(from: Int64(-200_000), to: 200_000, by: 17) {
            #expect(Timestamp.milliseconds(Timestamp.string(milliseconds: day * 86_400_000)) == day * 86_400_000)
        }
    }
}

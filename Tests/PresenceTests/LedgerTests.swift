import NotificationCore
import Presence
import Testing

@Suite struct LedgerTests {
    private static let channel = ChannelName("chat.a")!

    private static func enter(_ ledger: inout PresenceLedger, _ channel: ChannelName, _ user: String?) throws -> PresenceLedger.Place {
        let place = ledger.enter(channel, user: user)
        return try #require(place)
    }

    private func words(_ updates: [PresenceUpdate]) -> [String] {
        updates.sorted { $0.channel.string < $1.channel.string }.map { update in
            let users = update.users.sorted { $0.name < $1.name }.map { "\($0.name)=\($0.connections)" }
            let flags = [(update.isWhole, "whole"), (update.isWatching, "watching"), (update.greets, "greets")].compactMap {
                $0.0 ? $0.1 : nil
            }
            return (["\(update.channel)", "\(update.connections)"] + users + flags).joined(separator: " ")
        }
    }

    @Test("it says what is there now of what has changed, once")
    func takes() throws {
        var ledger = PresenceLedger(channelsMax: 10, usersMax: 10)
        #expect(ledger.take().isEmpty && !ledger.hasChanges)
        let first = try Self.enter(&ledger, Self.channel, "anna")
        let second = try Self.enter(&ledger, Self.channel, nil)
        let third = try Self.enter(&ledger, Self.channel, "anna")
        #expect(ledger.hasChanges)
        #expect(words(ledger.take()) == ["chat.a 3 anna=2 whole"])
        #expect(ledger.take().isEmpty)
        ledger.leave(first)
        ledger.leave(second)
        #expect(words(ledger.take()) == ["chat.a 1 anna=1"])
        ledger.leave(third)
        #expect(words(ledger.take()) == ["chat.a 0 anna=0"])
        #expect(ledger.channelCount == 0 && ledger.take().isEmpty)
    }

    @Test("who comes and goes between two looks is not said")
    func between() throws {
        var ledger = PresenceLedger(channelsMax: 10, usersMax: 10)
        let place = try Self.enter(&ledger, Self.channel, "anna")
        ledger.leave(place)
        #expect(ledger.take().isEmpty && ledger.channelCount == 0)
    }

    @Test("who begins to watch is greeted once")
    func watches() throws {
        var ledger = PresenceLedger(channelsMax: 10, usersMax: 10)
        let place = try Self.enter(&ledger, Self.channel, nil)
        ledger.watch(Self.channel)
        #expect(words(ledger.take()) == ["chat.a 1 whole watching greets"])
        let other = try Self.enter(&ledger, Self.channel, nil)
        #expect(words(ledger.take()) == ["chat.a 2 watching"])
        ledger.watch(Self.channel)
        #expect(words(ledger.take()) == ["chat.a 2 watching greets"])
        ledger.unwatch(Self.channel)
        ledger.unwatch(Self.channel)
        ledger.leave(other)
        #expect(words(ledger.take()) == ["chat.a 1"])
        ledger.watch(Self.channel)
        ledger.unwatch(Self.channel)
        ledger.leave(place)
        #expect(words(ledger.take()) == ["chat.a 0"] && ledger.channelCount == 0)
    }

    @Test("more channels than it may have are not counted, and there is room again when one is free")
    func channels() throws {
        var ledger = PresenceLedger(channelsMax: 2, usersMax: 10)
        let place = try Self.enter(&ledger, Self.channel, nil)
        _ = try Self.enter(&ledger, ChannelName("chat.b")!, nil)
        #expect(ledger.enter(ChannelName("chat.c")!, user: nil) == nil && ledger.refused == 1)
        let other = try Self.enter(&ledger, Self.channel, nil)
        _ = ledger.take()
        ledger.leave(place)
        #expect(ledger.enter(ChannelName("chat.c")!, user: nil) == nil && ledger.refused == 2)
        ledger.leave(other)
        _ = ledger.take()
        #expect(ledger.channelCount == 1 && ledger.enter(ChannelName("chat.c")!, user: nil) != nil)
    }

    @Test("more users than it may list, and names that are too long, count as connections without a name")
    func users() throws {
        var ledger = PresenceLedger(channelsMax: 2, usersMax: 2)
        for name in ["a", "b"] { _ = try Self.enter(&ledger, Self.channel, name) }
        let third = try Self.enter(&ledger, Self.channel, "c")
        _ = try Self.enter(&ledger, Self.channel, "a")
        var update = try #require(ledger.take().first)
        #expect(update.connections == 4 && update.unlisted == 1 && Set(update.users.map(\.name)) == ["a", "b"])
        ledger.leave(third)
        update = try #require(ledger.take().first)
        #expect(update.connections == 3 && update.unlisted == 0 && update.users.isEmpty)
        var other = PresenceLedger(channelsMax: 2, usersMax: 2)
        _ = try Self.enter(&other, Self.channel, String(repeating: "x", count: PresenceConfiguration.userBytesMax))
        _ = try Self.enter(&other, Self.channel, String(repeating: "y", count: PresenceConfiguration.userBytesMax + 1))
        update = try #require(other.take().first)
        #expect(update.connections == 2 && update.unlisted == 1 && update.users.count == 1)
    }
}

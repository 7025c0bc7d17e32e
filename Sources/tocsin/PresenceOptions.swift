import ArgumentParser
import NotificationCore
import Presence

/// Whose channels are watched for who is on them. Docs/protocol.md section 4.11 says what clients are told.
struct PresenceOptions: ParsableArguments {
    @Option(help: "FEED=MODE: what is told of who is on its channels (repeatable): off (default), count or users; * for other feeds.")
    var presence: [String] = []

    @Option(help: "Seconds for which who is gone counts as there, 0 to 300: who comes back within them has not left.")
    var presenceGrace = 5

    @Option(help: "Seconds between two presence messages about a channel, 1 to 3600.")
    var presenceInterval = 1

    @Option(help: "Users of a channel above which presence messages have counts and no names, 0 to 1000.")
    var presenceMembers = 100

    @Option(help: "Channels that somebody may be on at once; more are not kept.")
    var presenceChannelsMax = 100_000

    @Option(help: "Users of a channel that are known by name; more count as connections.")
    var presenceUsersMax = 10_000

    @Option(help: "Seconds for which a client that polls counts as there after its last poll would have ended, 1 to 3600.")
    var presencePoll = 60

    func validate() throws {
        for text in presence { _ = try Self.rule(text) }
        guard (0...300).contains(presenceGrace), (1...3600).contains(presenceInterval), (1...3600).contains(presencePoll) else {
            throw ValidationError(
                "--presence-grace is 0 to 300 seconds, --presence-interval and --presence-poll are 1 to 3600"
            )
        }
        guard (0...1000).contains(presenceMembers), (1...10_000_000).contains(presenceChannelsMax),
            (1...100_000).contains(presenceUsersMax)
        else {
            throw ValidationError(
                "--presence-members is 0 to 1000, --presence-channels-max 1 to 10000000, --presence-users-max 1 to 100000"
            )
        }
    }

    func configuration() throws -> PresenceConfiguration {
        var configuration = PresenceConfiguration()
        for text in presence {
            let (feed, mode) = try Self.rule(text)
            configuration.set(feed, mode)
        }
        configuration.graceMilliseconds = Int64(presenceGrace) * 1000
        configuration.intervalMilliseconds = Int64(presenceInterval) * 1000
        configuration.membersMax = presenceMembers
        configuration.channelsMax = presenceChannelsMax
        configuration.usersMax = presenceUsersMax
        configuration.pollSeconds = presencePoll
        return configuration
    }

    private static func rule(_ text: String) throws -> (String, PresenceConfiguration.Mode) {
        let halves = text.split(separator: "=", maxSplits: 1).map(String.init)
        guard halves.count == 2, let mode = PresenceConfiguration.Mode(rawValue: halves[1]) else {
            let words = PresenceConfiguration.Mode.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("--presence \(text): FEED=MODE is wanted, with one of \(words)")
        }
        guard halves[0] == "*" || (ChannelName(halves[0])?.feed.utf8.count == halves[0].utf8.count && !halves[0].hasPrefix("_")) else {
            throw ValidationError("--presence \(text): \"\(halves[0])\" is no feed")
        }
        return (halves[0], mode)
    }
}

import ArgumentParser
import Foundation
import Identity
import NotificationCore
import TocsinServer

struct Explain: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Says whether a server with these flags lets somebody subscribe, publish or see who is there, and why, or why not.",
        discussion: """
            tocsin explain subscribe --channel 'scores.>' --token "$TOKEN" --token-key secret --access scores=granted

            Exit status 0: yes; 1: no.
            """
    )

    enum Action: String, ExpressibleByArgument, CaseIterable {
        case subscribe, publish, presence

        var channelAction: ChannelAction {
            switch self {
            case .subscribe: .subscribe
            case .publish: .publish
            case .presence: .presence
            }
        }
    }

    @Argument(help: "subscribe, publish or presence.")
    var action: Action

    @Option(help: "A channel, or a pattern to subscribe to (repeatable).")
    var channel: [String]

    @Option(help: "The token or API key, - to read it from standard input; without, nobody in particular.")
    var token: String?

    @OptionGroup(title: "As the server was started") var access: AccessOptions

    func validate() throws {
        guard !channel.isEmpty else { throw ValidationError("--channel is missing") }
        for text in channel {
            let isGood = action != .subscribe ? ChannelName(text)?.isReserved == false : ChannelPattern(text)?.isReserved == false
            guard isGood else { throw ValidationError("\"\(text)\" is not a channel that one can \(action.rawValue)") }
        }
    }

    func run() async throws {
        let configuration = try access.configuration()
        // Who is there is not asked about.
        let isAsked = action != .presence && configuration.hook?.actions.contains(action == .publish ? .publish : .subscribe) ?? false
        guard let gate = try await Gate.open(configuration, isFetching: true) else {
            let words = "yes: without --token-key, --jwks-url and --api-keys everybody may do everything"
            return print(words + (isAsked ? ", if --hook allows it" : ""))
        }
        let identity = try token.map { try Identity.read($0, gate) }
        if let identity { print(identity.words + "\n") }
        var isRefused = false
        for text in channel {
            guard let pattern = ChannelPattern(text) else { continue }
            guard let refusal = gate.access.refusal(action.channelAction, pattern, identity) else {
                print("yes: \(action.rawValue) \(text)" + (isAsked ? ", if --hook allows it" : ""))
                continue
            }
            isRefused = true
            print("no: \(action.rawValue) \(text): \(refusal.fullDetail)")
            print("    rule: \(refusal.rule)\n    configuration key: \(refusal.configurationKey)")
        }
        if isRefused { throw ExitCode.failure }
    }
}

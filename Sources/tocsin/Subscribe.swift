import ArgumentParser
import Foundation
import TocsinClient

struct Subscribe: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Subscribes, and prints each message as a line of JSON.",
        discussion: """
            It resumes by itself from the last position, without loss or repeat. Each message has its "position": hand one to --after to
            go on from there.

            tocsin subscribe 'alerts.>' --transport sse --after earliest
            """
    )

    enum TransportChoice: String, ExpressibleByArgument, CaseIterable {
        case auto
        case websocket
        case sse
        case longPoll = "long-poll"

        var transports: [ClientTransport] {
            switch self {
            case .auto: [.webSocket, .eventStream, .longPoll]
            case .websocket: [.webSocket]
            case .sse: [.eventStream]
            case .longPoll: [.longPoll]
            }
        }
    }

    @OptionGroup var connect: ConnectOptions

    @Argument(help: "Channels or patterns (* for one token, a last > for the rest).")
    var channels: [String]

    @Option(help: "How to subscribe; auto takes the first that gets through.")
    var transport = TransportChoice.auto

    @Option(help: "latest, earliest or a position; by default what the channels' kinds begin with.")
    var after: String?

    @Option(help: "At most so many sends: 2/s, 6/m. Newer values of a key replace those that were not sent.")
    var rate: String?

    @Option(help: "Whose alerts they are: begins with what this user has not read.")
    var user: String?

    @Flag(help: "Alerts that were missed come in short.")
    var digest = false

    @Option(help: "End after so many messages.")
    var count: Int?

    func validate() throws {
        guard !channels.isEmpty else { throw ValidationError("name at least one channel") }
        guard count ?? 1 > 0 else { throw ValidationError("--count is at least 1") }
    }

    private struct Enough: Error {}

    func run() async throws {
        var subscriber = Subscriber(
            try connect.makeConfiguration(), channels: channels, after: after, transports: transport.transports
        )
        if let rate { subscriber.items.append(("rate", rate)) }
        if let user { subscriber.items.append(("user", user)) }
        if digest { subscriber.items.append(("digest", "true")) }
        var printed = 0
        do {
            try await subscriber.run { event in
                switch event {
                case .live(let transport):
                    note("live over \(transport.rawValue)")
                case .notification(let object):
                    try FileHandle.standardOutput.write(contentsOf: object + [UInt8(ascii: "\n")])
                    printed += 1
                    if printed == count { throw Enough() }
                case .control(let object):
                    try FileHandle.standardOutput.write(contentsOf: object + [UInt8(ascii: "\n")])
                case .reconnecting(let why, let milliseconds):
                    note("\(why); again in \(milliseconds) ms")
                }
            }
        } catch is Enough {
        } catch let fault as ClientFault {
            throw CommandFailure(description: fault.description)
        }
    }

    private func note(_ text: String) {
        try? FileHandle.standardError.write(contentsOf: Array("tocsin: \(text)\n".utf8))
    }
}

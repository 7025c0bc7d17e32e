import ArgumentParser
import Foundation
import TocsinClient

struct Subscribe: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Subscribes, and prints each message as a line of JSON.",
        discussion: """
            It finds a way through proxies and firewalls, and resumes by itself from the last position, without loss or repeat. Each \
            message has its "position": hand one to --after to go on from there.

            tocsin subscribe 'alerts.>' --transport sse --after earliest
            """
    )

    enum TransportChoice: String, ExpressibleByArgument, CaseIterable {
        case auto
        case websocket
        case sse
        case ssePost = "sse-post"
        case ssePadded = "sse-padded"
        case longPoll = "long-poll"
        case longPollClose = "long-poll-close"
        case shortPoll = "short-poll"

        var transports: [ClientTransport] { ClientTransport(rawValue: rawValue).map { [$0] } ?? ClientTransport.allCases }
    }

    enum StatusForm: String, ExpressibleByArgument, CaseIterable {
        case text
        case json
    }

    @OptionGroup var connect: ConnectOptions

    @Argument(help: "Channels or patterns (* for one token, a last > for the rest).")
    var channels: [String]

    @Option(help: "How to subscribe; auto takes the best that gets through.")
    var transport = TransportChoice.auto

    @Option(help: "latest, earliest or a position; by default what the channels' kinds begin with.")
    var after: String?

    @Option(help: "At most so many sends: 2/s, 6/m. Newer values of a key replace those that were not sent.")
    var rate: String?

    @Option(help: "Whose alerts they are: begins with what this user has not read.")
    var user: String?

    @Flag(help: "Alerts that were missed come in short.")
    var digest = false

    @Flag(help: "Say who comes to the channels that are named, and who leaves them; the server has to have presence for them.")
    var presence = false

    @Option(help: "End after so many notifications.")
    var count: Int?

    @Option(help: "How changes of the connection are told on standard error.")
    var status = StatusForm.text

    func validate() throws {
        guard !channels.isEmpty else { throw ValidationError("name at least one channel") }
        guard count ?? 1 > 0 else { throw ValidationError("--count is at least 1") }
    }

    func run() async throws {
        var configuration = try connect.makeConfiguration()
        configuration.transports = transport.transports
        configuration.user = user
        configuration.digest = digest
        configuration.presence = presence
        if transport == .auto { configuration.memory = PathMemoryFile(StateDirectory.pathMemoryPath) }
        let client = try TocsinClient(configuration)
        let statuses = client.statuses
        let telling = Task {
            for await status in statuses { tell(status) }
        }
        var printed = 0
        do {
            for try await message in try await client.subscribe(channels, after: after, rate: rate) {
                try FileHandle.standardOutput.write(contentsOf: message.json + [UInt8(ascii: "\n")])
                guard message.type == "notification" else { continue }
                printed += 1
                if printed == count { break }
            }
        } catch let fault as ClientFault {
            await client.close()
            await telling.value
            throw CommandFailure(description: fault.description)
        }
        await client.close()
        await telling.value
    }

    /// One line on standard error.
    private func tell(_ status: ClientStatus) {
        switch status.state {
        case .closed where self.status == .text, .idle: return
        default: break
        }
        guard self.status == .json else { return write("tocsin: \(status.text)") }
        struct Line: Encodable {
            var event = "status"
            var state: String
            var transport: String?
            var why: String?
            var text: String

            enum CodingKeys: CodingKey {
                case event, state, transport, why, text
            }

            func encode(to encoder: any Encoder) throws {
                var container = encoder.container(keyedBy: CodingKeys.self)
                try container.encode(event, forKey: .event)
                try container.encode(state, forKey: .state)
                try container.encode(transport, forKey: .transport)
                try container.encode(why, forKey: .why)
                try container.encode(text, forKey: .text)
            }
        }
        let line = Line(
            state: status.state.rawValue, transport: status.transport?.rawValue, why: status.why?.rawValue, text: status.text
        )
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if let json = try? encoder.encode(line) { write(String(decoding: json, as: UTF8.self)) }
    }

    private func write(_ line: String) {
        try? FileHandle.standardError.write(contentsOf: Array((line + "\n").utf8))
    }
}

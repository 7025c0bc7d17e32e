import Foundation
import TocsinClient

// A subscriber for the tests with proxies: says as JSON lines how the client stands and what comes, each with its time.
//
//     ProxyClient [--proxy URL] [--count N] [--after WHERE] [--transports NAME,NAME] [--memory FILE] --server URL CHANNEL
//
// Without --count it goes on until it is ended.

struct Arguments {
    private static let known: Set = ["--server", "--proxy", "--count", "--after", "--transports", "--memory"]

    var server: ServerAddress
    var proxy: ServerAddress?
    var count = Int.max
    var after: String?
    var transports = ClientTransport.allCases
    /// Where it keeps what it finds out of the network.
    var memory: String?
    var channel: String

    init?(_ words: [String]) {
        var options: [String: String] = [:]
        var rest: [String] = []
        var words = words[...]
        while let word = words.popFirst() {
            if word.hasPrefix("--") { options[word] = words.popFirst() } else { rest.append(word) }
        }
        // The server may also stand before the channel.
        if options["--server"] == nil, rest.count == 2 { options["--server"] = rest.removeFirst() }
        guard let server = options["--server"].flatMap({ ServerAddress($0) }), rest.count == 1, Self.known.isSuperset(of: options.keys)
        else { return nil }
        (self.server, after, memory, channel) = (server, options["--after"], options["--memory"], rest[0])
        if let text = options["--proxy"] {
            guard let address = ServerAddress(text) else { return nil }
            proxy = address
        }
        if let text = options["--count"] {
            guard let number = Int(text), number > 0 else { return nil }
            count = number
        }
        if let text = options["--transports"] {
            transports = text.split(separator: ",").compactMap { ClientTransport(rawValue: String($0)) }
            guard !transports.isEmpty else { return nil }
        }
    }
}

@Sendable func say(_ object: [String: Any]) {
    guard var line = try? JSONSerialization.data(withJSONObject: object, options: [.sortedKeys, .withoutEscapingSlashes]) else { return }
    line.append(UInt8(ascii: "\n"))
    try? FileHandle.standardOutput.write(contentsOf: line)
}

@Sendable func milliseconds() -> Int { Int(Date().timeIntervalSince1970 * 1000) }

guard let arguments = Arguments(Array(CommandLine.arguments.dropFirst())) else {
    try? FileHandle.standardError.write(
        contentsOf: Array(
            "ProxyClient [--proxy URL] [--count N] [--after WHERE] [--transports NAME,NAME] [--memory FILE] --server URL CHANNEL\n".utf8))
    exit(2)
}
var configuration = ClientConfiguration(address: arguments.server)
configuration.proxy = arguments.proxy
configuration.transports = arguments.transports
configuration.isInsecure = true
if let path = arguments.memory { configuration.memory = PathMemoryFile(path) }
let client = try TocsinClient(configuration)
let statuses = client.statuses
let telling = Task {
    for await status in statuses {
        let transport: Any = status.transport?.rawValue ?? NSNull()
        say(["event": "status", "state": status.state.rawValue, "transport": transport, "text": status.text, "at": milliseconds()])
    }
}
let messages = try await client.subscribe([arguments.channel], after: arguments.after)
var count = 0
for try await message in messages where message.type == "notification" {
    let object = try JSONSerialization.jsonObject(with: Data(message.json)) as? [String: Any]
    let n = (object?["data"] as? [String: Any])?["n"] ?? NSNull()
    say(["event": "message", "sequence": message.sequence ?? 0, "skipped": message.skipped, "n": n, "at": milliseconds()])
    count += 1
    if count == arguments.count { break }
}
await client.close()
await telling.value
say(["event": "end", "messages": count, "lost": messages.lost, "duplicates": messages.duplicates])

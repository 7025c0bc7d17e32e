import Foundation
import TocsinClient

// A subscriber for the tests with proxies: says as JSON lines how the client stands and what comes, each with its time.
//
//     ProxyClient --server URL [--proxy URL] --count N CHANNEL

struct Arguments {
    var server: ServerAddress
    var proxy: ServerAddress?
    var count: Int
    var channel: String

    init?(_ words: [String]) {
        var options: [String: String] = [:]
        var rest: [String] = []
        var words = words[...]
        while let word = words.popFirst() {
            if word.hasPrefix("--") { options[word] = words.popFirst() } else { rest.append(word) }
        }
        guard let server = options["--server"].flatMap({ ServerAddress($0) }), let count = options["--count"].flatMap({ Int($0) }),
            rest.count == 1, Set(options.keys).isSubset(of: ["--server", "--proxy", "--count"])
        else { return nil }
        (self.server, self.count, channel) = (server, count, rest[0])
        if let text = options["--proxy"] {
            guard let address = ServerAddress(text) else { return nil }
            proxy = address
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
    try? FileHandle.standardError.write(contentsOf: Array("ProxyClient --server URL [--proxy URL] --count N CHANNEL\n".utf8))
    exit(2)
}
var configuration = ClientConfiguration(address: arguments.server)
configuration.proxy = arguments.proxy
configuration.isInsecure = true
let client = try TocsinClient(configuration)
let statuses = client.statuses
let telling = Task {
    for await status in statuses {
        let transport: Any = status.transport?.rawValue ?? NSNull()
        say(["event": "status", "state": status.state.rawValue, "transport": transport, "text": status.text, "at": milliseconds()])
    }
}
let messages = try await client.subscribe([arguments.channel])
var count = 0
for try await message in messages where message.type == "notification" {
    let object = try JSONSerialization.jsonObject(with: Data(message.json)) as? [String: Any]
    let n = (object?["data"] as? [String: Any])?["n"] ?? NSNull()
    say(["event": "message", "sequence": message.sequence ?? 0, "n": n, "at": milliseconds()])
    count += 1
    if count == arguments.count { break }
}
await client.close()
await telling.value
say(["event": "end", "messages": count, "lost": messages.lost, "duplicates": messages.duplicates])

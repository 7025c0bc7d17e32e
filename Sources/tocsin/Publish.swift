import ArgumentParser
import Foundation
import HTTPTypes
import TocsinClient

struct Publish: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Publishes a message.",
        discussion: """
            tocsin publish alerts.demo '{"text":"hello"}'
            echo hello | tocsin publish alerts.demo --text -
            """
    )

    @OptionGroup var connect: ConnectOptions

    @Argument(help: "The channel.")
    var channel: String

    @Argument(help: "The payload, JSON; - for standard input.")
    var data: String

    @Flag(help: "The payload is plain text.")
    var text = false

    @Option(help: "The event's name.")
    var event: String?

    @Option(help: "The key.")
    var key: String?

    @Option(help: "low, normal, high or critical.")
    var priority: String?

    @Option(help: "Makes a retry safe.")
    var idempotencyKey: String?

    func run() async throws {
        let publisher = try Publisher(try connect.makeConfiguration())
        let body = data == "-" ? Array(try FileHandle.standardInput.readToEnd() ?? Data()) : Array(data.utf8)
        var items: [URLQueryItem] = []
        for (name, value) in [("event", event), ("key", key), ("priority", priority)] {
            if let value { items.append(URLQueryItem(name: name, value: value)) }
        }
        var path = URLComponents()
        path.path = "/v1/channels/" + channel
        if !items.isEmpty { path.queryItems = items }
        var fields = HTTPFields()
        if let idempotencyKey { fields[HTTPField.Name("Idempotency-Key")!] = idempotencyKey }
        guard let target = path.string else { throw ValidationError("\"\(channel)\" cannot be in a path") }
        let (status, answer) = try await publisher.post(
            target.replacing("+", with: "%2B"), contentType: text ? "text/plain" : "application/json", fields: fields, body: body
        )
        await publisher.close()
        guard (200..<300).contains(status) else {
            throw CommandFailure(description: "refused with \(status): \(String(decoding: answer, as: UTF8.self))")
        }
        print(String(decoding: answer, as: UTF8.self), terminator: "")
    }
}

/// Ends the process with 1 and a message on standard error.
struct CommandFailure: Error, CustomStringConvertible {
    let description: String
}

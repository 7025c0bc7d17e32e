import ArgumentParser
import Foundation
import Identity
import Webhooks

/// Who is told over HTTP of what happens here. Docs/webhooks.md says what they are told, and how.
struct WebhookOptions: ParsableArguments {
    @Option(help: "NAME=URL: a receiver of webhooks (repeatable); http or https.")
    var webhook: [String] = []

    @Option(help: "NAME=FILE: its secrets, one a line: whsec_ and 24 to 64 bytes in base64. SIGHUP has them read again.")
    var webhookSecret: [String] = []

    @Option(
        help: ArgumentHelp(
            "NAME=EVENT,…: what it is told of (repeatable); by default everything.",
            discussion: """
                Events are channel.occupied, channel.vacated, alert.unread and connection.refused; EVENT:PATTERN is for some channels only.
                """
        )
    )
    var webhookEvents: [String] = []

    @Option(help: "When an event is sent again that was not taken: times with commas between them, such as 5s,5m,2h.")
    var webhookRetries = "5s,5m,30m,2h,5h,10h,14h,20h,24h"

    @Option(help: "Milliseconds in which a receiver has to answer, 50 to 120000.")
    var webhookTimeout = 15_000

    @Option(help: "Requests under way at one receiver, 1 to 100.")
    var webhookConcurrency = 4

    @Option(help: "Events that wait in the log's file, one for each receiver.")
    var webhookOutbox = 100_000

    @Option(help: "Hours after which an event that was not taken is given up.")
    var webhookKeepHours = 96

    @Option(help: "An alert is told of when it has been unread for so long: 15m, 90s, 2h.")
    var alertUnreadAfter = "15m"

    @Option(help: "Whose alerts they are by the channel's name: a pattern with one token {sub}, such as alerts.{sub}.> (repeatable).")
    var alertUser: [String] = []

    @Option(help: "After a start, channels to which nobody has come back in so long are told of as vacated.")
    var webhookSettle = "60s"

    func validate() throws {
        _ = try configuration()
        guard !webhook.isEmpty || (webhookSecret.isEmpty && webhookEvents.isEmpty && alertUser.isEmpty) else {
            throw ValidationError("--webhook-secret, --webhook-events and --alert-user need --webhook")
        }
        guard (50...120_000).contains(webhookTimeout), (1...100).contains(webhookConcurrency) else {
            throw ValidationError("--webhook-timeout is 50 to 120000 milliseconds, --webhook-concurrency 1 to 100")
        }
        guard (1...10_000_000).contains(webhookOutbox), (1...8760).contains(webhookKeepHours) else {
            throw ValidationError("--webhook-outbox is 1 to 10000000 events, --webhook-keep-hours 1 to 8760")
        }
    }

    /// - Returns: nil if nobody is to be told of anything.
    func configuration() throws -> WebhookConfiguration? {
        if webhook.isEmpty { return nil }
        var configuration = WebhookConfiguration(endpoints: try endpoints())
        guard let schedule = RetrySchedule(webhookRetries) else {
            throw ValidationError(
                "--webhook-retries \(webhookRetries): times such as 5s,5m,2h are wanted, none shorter than the one before")
        }
        configuration.schedule = schedule
        configuration.timeoutMilliseconds = webhookTimeout
        configuration.concurrencyMax = webhookConcurrency
        configuration.outboxRowsMax = webhookOutbox
        configuration.ageSecondsMax = webhookKeepHours * 3600
        configuration.unreadAfterMilliseconds = try Self.time(alertUnreadAfter, "--alert-unread-after", 100...30 * 86_400_000)
        configuration.settleMilliseconds = try Self.time(webhookSettle, "--webhook-settle", 0...3_600_000)
        configuration.audiences = try alertUser.map { text in
            guard let audience = AlertAudience(text) else {
                throw ValidationError("--alert-user \(text): a pattern is wanted, with one token {sub} behind the feed")
            }
            return audience
        }
        return configuration
    }

    private func endpoints() throws -> [WebhookEndpoint] {
        let secrets = try webhookSecret.map { try Self.named($0, "--webhook-secret", "FILE") }
        let events = try webhookEvents.map { try Self.named($0, "--webhook-events", "EVENTS") }
        let endpoints = try webhook.map { text in
            let (name, url) = try Self.named(text, "--webhook", "URL")
            let files = secrets.filter { $0.name == name }
            guard files.count == 1 else { throw ValidationError("--webhook \(name) needs one --webhook-secret \(name)=FILE") }
            var endpoint = WebhookEndpoint(name: name, url: try Self.checked(url, name), secretFile: files[0].value)
            let filters = try events.filter { $0.name == name }.map { event in
                guard let filter = WebhookFilter(event.value) else {
                    let words = WebhookEventType.allCases.map(\.rawValue).joined(separator: ", ")
                    throw ValidationError("--webhook-events \(name)=\(event.value): EVENT or EVENT:PATTERN is wanted, with one of \(words)")
                }
                return filter
            }
            if let first = filters.first { endpoint.filter = filters.dropFirst().reduce(first) { $0.union($1) } }
            return endpoint
        }
        guard Set(endpoints.map(\.name)).count == endpoints.count else { throw ValidationError("two --webhook have one name") }
        for other in (secrets + events).map({ $0.name }) where !endpoints.contains(where: { $0.name == other }) {
            throw ValidationError("there is no --webhook \(other)=URL")
        }
        return endpoints
    }

    private static func named(_ text: String, _ flag: String, _ what: String) throws -> (name: String, value: String) {
        let halves = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard halves.count == 2, APIKeys.isName(halves[0]), !halves[1].isEmpty else {
            throw ValidationError("\(flag): NAME=\(what) is wanted; a name has 1 to 64 of A-Z a-z 0-9 _ -")
        }
        return (halves[0], halves[1])
    }

    /// The URL is the operator's, so it may lead anywhere; who is told is known by the secret.
    private static func checked(_ text: String, _ name: String) throws -> String {
        guard let url = URL(string: text), let host = url.host, !host.isEmpty, url.user == nil, ["http", "https"].contains(url.scheme)
        else {
            throw ValidationError("--webhook \(name): a URL is wanted, http or https, without a user")
        }
        return text
    }

    private static func time(_ text: String, _ flag: String, _ range: ClosedRange<Int64>) throws -> Int64 {
        guard let time = TimeText.milliseconds(text), range.contains(time) else {
            throw ValidationError("\(flag) \(text): a time is wanted, such as 500ms, 90s, 15m or 2h")
        }
        return time
    }
}

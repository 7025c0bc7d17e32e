package import NotificationCore

/// Which events go to a receiver: `EVENT` or `EVENT:PATTERN`, with commas between them.
package struct WebhookFilter: Sendable, Equatable {
    private struct Rule: Sendable, Equatable {
        var type: WebhookEventType
        /// nil: all channels.
        var pattern: ChannelPattern?
    }

    private var rules: [Rule]

    /// Everything.
    package init() {
        rules = WebhookEventType.allCases.map { Rule(type: $0) }
    }

    /// - Returns: nil if an event is not known, or a pattern is none or stands at an event that has no channel.
    package init?(_ text: String) {
        rules = []
        for word in text.split(separator: ",", omittingEmptySubsequences: false) {
            let halves = word.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard let first = halves.first, let type = WebhookEventType(rawValue: String(first)) else { return nil }
            var rule = Rule(type: type)
            if halves.count == 2 {
                guard type.hasChannel, let pattern = ChannelPattern(String(halves[1])) else { return nil }
                rule.pattern = pattern
            }
            rules.append(rule)
        }
    }

    /// The same, and what another one lets through.
    package func union(_ other: WebhookFilter) -> WebhookFilter {
        var both = self
        both.rules += other.rules
        return both
    }

    /// Whether some event of this type goes through.
    package func wants(_ type: WebhookEventType) -> Bool { rules.contains { $0.type == type } }

    /// Channels of which it has to be known whether somebody is on them.
    var occupancy: [ChannelPattern] {
        rules.filter { $0.type == .channelOccupied || $0.type == .channelVacated }.map { $0.pattern ?? Self.everything }
    }

    private static let everything = ChannelPattern(">")!

    /// - Parameter channel: nil: the event has none.
    package func wants(_ type: WebhookEventType, _ channel: ChannelName?) -> Bool {
        rules.contains { rule in
            guard rule.type == type else { return false }
            guard let pattern = rule.pattern else { return true }
            return channel.map { pattern.matches($0) } ?? false
        }
    }
}

/// A receiver.
package struct WebhookEndpoint: Sendable, Equatable {
    /// What the operator calls it: in logs, in figures, and in what waits for it.
    package var name: String
    package var url: String
    /// Of the file with its secrets.
    package var secretFile: String
    package var filter = WebhookFilter()

    package init(name: String, url: String, secretFile: String) {
        self.name = name
        self.url = url
        self.secretFile = secretFile
    }
}

/// Everything that an operator can set of webhooks.
package struct WebhookConfiguration: Sendable, Equatable {
    package var endpoints: [WebhookEndpoint]
    package var schedule = RetrySchedule.standard
    /// An attempt has so long, with its answer.
    package var timeoutMilliseconds = 15_000
    /// Attempts under way at one receiver. While it fails there is one.
    package var concurrencyMax = 4
    /// Events that wait in the log's file, one for each receiver.
    package var outboxRowsMax = 100_000
    package var outboxBytesMax = 256 << 20
    /// What has waited for so long is given up: more than all attempts take.
    package var ageSecondsMax = 96 * 3600
    /// An alert is told of when it has been unread for so long.
    package var unreadAfterMilliseconds: Int64 = 15 * 60_000
    /// Whose alerts they are, by the names of channels.
    package var audiences: [AlertAudience] = []
    /// Alerts that are waited for at a time; those that come besides are not told of.
    package var watchedMax = 1_000_000

    /// After a start, channels to which nobody has come back within so long are told of as vacated.
    package var settleMilliseconds: Int64 = 60_000

    package init(endpoints: [WebhookEndpoint]) {
        self.endpoints = endpoints
    }

    package func wants(_ type: WebhookEventType) -> Bool { endpoints.contains { $0.filter.wants(type) } }

    /// The names of those that an event goes to.
    package func receivers(of type: WebhookEventType, _ channel: ChannelName?) -> [String] {
        endpoints.filter { $0.filter.wants(type, channel) }.map(\.name)
    }

    /// Channels of which it has to be known whether somebody is on them; each pattern once.
    package var occupancy: [ChannelPattern] {
        var patterns: [ChannelPattern] = []
        for pattern in endpoints.flatMap(\.filter.occupancy) where !patterns.contains(pattern) { patterns.append(pattern) }
        return patterns
    }

    /// The user whose personal channel it is; nil: nobody's.
    package func user(of channel: ChannelName) -> FieldText? {
        for audience in audiences {
            if let user = audience.user(of: channel) { return user }
        }
        return nil
    }
}

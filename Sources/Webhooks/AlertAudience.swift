package import NotificationCore

/// Whose the alerts of a channel are by its name: `alerts.{sub}.>`, where `{sub}` stands for the user as it does in grants.
package struct AlertAudience: Sendable, Equatable {
    private static let userToken = "{sub}"

    private let pattern: ChannelPattern
    private let place: Int

    /// - Returns: nil if `text` is no pattern, or has not exactly one token `{sub}`.
    package init?(_ text: String) {
        let tokens = text.split(separator: ".", omittingEmptySubsequences: false)
        let places = tokens.indices.filter { tokens[$0] == Self.userToken }
        guard places.count == 1, let place = places.first else { return nil }
        // The feed of alerts is not named by its users.
        guard place > 0 else { return nil }
        let text = tokens.map { $0 == Self.userToken ? "*" : String($0) }.joined(separator: ".")
        guard let pattern = ChannelPattern(text) else { return nil }
        self.pattern = pattern
        self.place = place
    }

    /// - Returns: nil if the channel is none of these.
    package func user(of channel: ChannelName) -> FieldText? {
        guard pattern.matches(channel) else { return nil }
        let tokens = channel.string.split(separator: ".", omittingEmptySubsequences: false)
        return FieldText(String(tokens[place]))
    }
}

package import NotificationCore

/// What somebody may do on channels.
package enum ChannelAction: String, Sendable, CaseIterable {
    /// To be sent what is published, and to read what was: history, state, inbox, read state.
    case subscribe
    case publish
    /// To see who is there.
    case presence
}

/// What a token or a key allows, as patterns of channels. `Docs/protocol.md` section 4.10 has the claims.
package struct Grants: Hashable, Sendable {
    /// nil: nothing is said of it.
    package var subscribe: [ChannelPattern]?
    package var publish: [ChannelPattern]?
    package var presence: [ChannelPattern]?

    package init() {}

    package subscript(action: ChannelAction) -> [ChannelPattern]? {
        get {
            switch action {
            case .subscribe: subscribe
            case .publish: publish
            case .presence: presence
            }
        }
        set {
            switch action {
            case .subscribe: subscribe = newValue
            case .publish: publish = newValue
            case .presence: presence = newValue
            }
        }
    }

    /// Whether one grant covers all of `pattern`. Two that only do so together do not count: a grant never widens.
    package func cover(_ pattern: ChannelPattern, for action: ChannelAction) -> Bool {
        self[action]?.contains { $0.covers(pattern) } ?? false
    }

    /// The token of a pattern that stands for the user.
    private static let userToken = "{sub}"

    /// One grant of a claim.
    ///
    /// - Parameters:
    ///   - text: a pattern, of which whole tokens may be `{sub}`.
    ///   - user: nil: there is none, and `{sub}` is not known.
    /// - Returns: no patterns if the user's name is no token of a channel, and so can be in none; nil if `text` is against the grammar.
    static func patterns(_ text: String, user: String?) -> [ChannelPattern]? {
        let tokens = text.split(separator: ".", omittingEmptySubsequences: false)
        guard tokens.contains(where: { $0 == userToken }) else { return ChannelPattern(text).map { [$0] } }
        guard let user else { return nil }
        // What the grammar says of the rest holds whatever the user is called.
        guard ChannelPattern(tokens.map { $0 == userToken ? "u" : String($0) }.joined(separator: ".")) != nil else { return nil }
        guard let name = ChannelName(user), !user.contains(".") else { return [] }
        let joined = tokens.map { $0 == userToken ? name.string : String($0) }.joined(separator: ".")
        return ChannelPattern(joined).map { [$0] } ?? []
    }
}

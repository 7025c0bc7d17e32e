package import NotificationCore

/// Who may subscribe and publish, by feed. One place decides for every transport, and says why not.
///
/// A pattern that spans feeds has to be allowed in each of them, the ones without a name of their own included.
package struct AccessRules: Sendable, Hashable {
    package enum Access: String, Sendable, CaseIterable {
        /// Anybody, without a token.
        case `public`
        /// Whoever has a token that is good.
        case authenticated
        /// A token that has the claim is held to it; one that has none is as good as under `authenticated`.
        case claimed
        /// Whoever has a grant that covers the channels.
        case granted
    }

    /// Of one action.
    package struct Table: Sendable, Hashable {
        package var feeds: [String: Access] = [:]
        /// Of feeds that are not named.
        package var other: Access

        package init(other: Access) {
            self.other = other
        }

        package mutating func set(_ feed: String, _ access: Access) {
            if feed == "*" { other = access } else { feeds[feed] = access }
        }

        /// The parts of a pattern by the feeds that they are in. Feed nil: all that are not named.
        fileprivate func parts(of pattern: ChannelPattern) -> [(feed: String?, access: Access, pattern: ChannelPattern)] {
            if let feed = pattern.feed {
                guard let access = feeds[feed] else { return [(nil, other, pattern)] }
                return [(feed, access, pattern)]
            }
            var parts: [(feed: String?, access: Access, pattern: ChannelPattern)] = [(nil, other, pattern)]
            for (feed, access) in feeds.sorted(by: { $0.key < $1.key }) {
                for part in pattern.part(of: feed) { parts.append((feed, access, part)) }
            }
            return parts
        }
    }

    package var subscribe: Table
    package var publish: Table

    /// As it is where tokens are wanted and nothing else is said.
    package init() {
        subscribe = Table(other: .claimed)
        publish = Table(other: .granted)
    }

    /// Whether there is something for those who have no token.
    package var hasPublic: Bool {
        subscribe.other == .public || subscribe.feeds.values.contains(.public)
    }

    /// - Parameter identity: nil: nobody in particular.
    /// - Returns: nil: it is allowed.
    package func refusal(_ action: ChannelAction, _ pattern: ChannelPattern, _ identity: Identity?) -> AccessRefusal? {
        let table = action == .publish ? publish : subscribe
        for part in table.parts(of: pattern) {
            let isAllowed: Bool
            switch part.access {
            case .public: isAllowed = action != .publish
            // An API key has what it was given and nothing else.
            case .authenticated where identity?.isKey == false: isAllowed = true
            case .claimed where identity?.isKey == false && identity?.grants[action] == nil: isAllowed = true
            default: isAllowed = identity?.grants.cover(part.pattern, for: action) ?? false
            }
            if !isAllowed {
                return AccessRefusal(
                    action: action, pattern: pattern, feed: part.feed, access: part.access, identity: identity, hasPublic: hasPublic
                )
            }
        }
        return nil
    }
}

/// Why somebody may not do something.
package struct AccessRefusal: Error, Sendable, Hashable {
    package var action: ChannelAction
    package var pattern: ChannelPattern
    /// The feed that decided; nil: those that are not named.
    package var feed: String?
    package var access: AccessRules.Access
    package var identity: Identity?
    /// Whether there is something for those who have no token.
    package var hasPublic: Bool

    package var isForWantOfToken: Bool { identity == nil }

    package var rule: String { identity == nil ? "token" : "\(action.rawValue) grant" }

    package var configurationKey: String {
        if identity == nil, !hasPublic { return "token_key (--token-key)" }
        return action == .publish ? "publish_access (--publish-access)" : "access (--access)"
    }

    /// Without anything that the client did not say itself.
    package var detail: String {
        identity == nil
            ? "to \(action.rawValue) here, send Authorization: Bearer …"
            : "nothing that you were given covers \(pattern) to \(action.rawValue)"
    }

    /// For those who run the server: what is configured, and what was given.
    package var fullDetail: String {
        let flag = action == .publish ? "--publish-access" : "--access"
        let place = feed.map { "the feed \($0)" } ?? "feeds that are not named"
        let wants = "\(place): \(access.rawValue) (\(flag) \(feed ?? "*")=\(access.rawValue))"
        guard let identity else { return "\(wants); there is no token" }
        let who =
            switch identity.principal {
            case .user(let name): "the token of \(name)"
            case .key(let name): "the API key \(name)"
            }
        guard let grants = identity.grants[action] else { return "\(wants); \(who) has no claim \"\(action.rawValue)\"" }
        let list = grants.isEmpty ? "nothing" : grants.map(\.string).joined(separator: ", ")
        return "\(wants); \(who) may \(action.rawValue): \(list); none of that covers \(pattern)"
    }
}

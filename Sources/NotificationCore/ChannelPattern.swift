/// A channel name, or one with `*` for any one token, or with a last `>` for one or more tokens: the NATS subject grammar.
package struct ChannelPattern: Hashable, Sendable, CustomStringConvertible {
    package let string: String
    /// Whether there is a `*` or `>` in it. Without, it names exactly one channel.
    package let isWildcard: Bool

    /// - Returns: nil if `string` does not follow the grammar.
    package init?(_ string: String) {
        guard let isWildcard = ChannelGrammar.check(string, allowsWildcards: true) else { return nil }
        self.string = string
        self.isWildcard = isWildcard
    }

    package init(_ name: ChannelName) {
        string = name.string
        isWildcard = false
    }

    package var description: String { string }

    /// The channel that this names, if it names exactly one.
    package var name: ChannelName? { isWildcard ? nil : ChannelName(string) }

    /// Whether it names one of the server's own channels.
    package var isReserved: Bool { string.utf8.first == UInt8(ascii: "_") }

    var tokens: [Substring] { string.split(separator: ".", omittingEmptySubsequences: false) }

    package func matches(_ channel: ChannelName) -> Bool {
        overlaps(ChannelPattern(channel))
    }

    /// Whether some channel is matched by both. No wildcard stands for the server's own feeds.
    package func overlaps(_ other: ChannelPattern) -> Bool {
        if isReserved != other.isReserved { return false }
        let mine = tokens
        let theirs = other.tokens
        var index = 0
        while index < mine.count, index < theirs.count {
            if mine[index] == ">" || theirs[index] == ">" { return true }
            if mine[index] != theirs[index], mine[index] != "*", theirs[index] != "*" { return false }
            index += 1
        }
        return mine.count == theirs.count
    }

    /// Whether every channel that `other` matches is matched by this one as well. It errs on the side of no: `a.*` does not cover `a.>`,
    /// not even where names could have no more tokens. No wildcard stands for the server's own feeds.
    package func covers(_ other: ChannelPattern) -> Bool {
        if other.isReserved, !isReserved { return false }
        let mine = tokens
        let theirs = other.tokens
        for index in theirs.indices {
            guard index < mine.count else { return false }
            if mine[index] == ">" { return true }
            if theirs[index] == ">" || (mine[index] != "*" && mine[index] != theirs[index]) { return false }
        }
        return mine.count == theirs.count
    }

    /// The channels among its own that belong to one feed.
    ///
    /// - Returns: as patterns whose first token is the feed's name: of `>`, for the feed `a`, `a` and `a.>`.
    package func part(of feed: String) -> [ChannelPattern] {
        let first = tokens[0]
        let rest = string.dropFirst(first.utf8.count)
        switch first {
        case ">": return [feed, feed + ".>"].compactMap { ChannelPattern($0) }
        case "*": return [ChannelPattern(feed + rest)].compactMap { $0 }
        default: return first == feed ? [self] : []
        }
    }

    /// The first token, if it is no wildcard.
    package var feed: String? {
        let first = tokens[0]
        return first == "*" || first == ">" ? nil : String(first)
    }
}

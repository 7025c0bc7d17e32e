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

    /// Whether some channel is matched by both.
    package func overlaps(_ other: ChannelPattern) -> Bool {
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
}

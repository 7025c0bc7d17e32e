/// Where messages go: dot-separated tokens of `A-Z a-z 0-9 _ -`, at most 16 tokens and 255 bytes. The first token is the feed.
///
/// `scores.wc2022.final`. A value of this type is always well-formed.
package struct ChannelName: Hashable, Sendable, CustomStringConvertible {
    package static let tokensMax = 16
    package static let bytesMax = 255

    package let string: String

    /// - Returns: nil if `string` does not follow the grammar.
    package init?(_ string: String) {
        guard ChannelGrammar.check(string, allowsWildcards: false) != nil else { return nil }
        self.string = string
    }

    package var description: String { string }

    /// The channel in which a user's devices are told what the others have read.
    ///
    /// - Returns: nil if the user's name has more than 100 bytes.
    package init?(acknowledgementsOf user: FieldText) {
        guard user.string.utf8.count <= Self.userBytesMax else { return nil }
        var string = Self.usersOwnPrefix
        for byte in user.string.utf8 { string += (byte < 16 ? "0" : "") + String(byte, radix: 16) }
        self.string = string
    }

    package static let userBytesMax = 100

    private static let usersOwnPrefix = "_acks."

    /// A user's, for what was read.
    package var isUsersOwn: Bool { isReserved && string.hasPrefix(Self.usersOwnPrefix) }

    /// The channel of a process's canary: messages that show that delivery works.
    package init(canaryOf process: Int) {
        string = Self.canaryPrefix + "\(process)"
    }

    static let canaryPrefix = "_canary."

    package var isCanary: Bool { isReserved && string.hasPrefix(Self.canaryPrefix) }

    /// Feeds whose name begins with `_` are the server's own: nobody publishes there, and no wildcard stands for them.
    package var isReserved: Bool { string.utf8.first == UInt8(ascii: "_") }

    /// Where the server keeps what was taken back of tokens.
    package static let revocations = ChannelName("_revocations")!

    /// The first token.
    package var feed: Substring { string.prefix { $0 != "." } }

    var tokens: [Substring] { string.split(separator: ".", omittingEmptySubsequences: false) }
}

/// The grammar that channel names and patterns share.
enum ChannelGrammar {
    /// - Returns: whether there is a wildcard in it; nil if it does not follow the grammar.
    static func check(_ string: String, allowsWildcards: Bool) -> Bool? {
        var string = string
        return string.withUTF8 { bytes -> Bool? in
            guard !bytes.isEmpty, bytes.count <= ChannelName.bytesMax else { return nil }
            var tokens = 0
            var start = 0
            var hasWildcard = false
            while start <= bytes.count {
                var end = start
                while end < bytes.count, bytes[end] != UInt8(ascii: ".") { end += 1 }
                guard end > start else { return nil }
                tokens += 1
                if end == start + 1, allowsWildcards, bytes[start] == UInt8(ascii: "*") {
                    hasWildcard = true
                } else if end == start + 1, allowsWildcards, bytes[start] == UInt8(ascii: ">") {
                    guard end == bytes.count else { return nil }
                    hasWildcard = true
                } else {
                    for index in start..<end where !isTokenByte(bytes[index]) { return nil }
                }
                if end == bytes.count { break }
                start = end + 1
            }
            return tokens <= ChannelName.tokensMax ? hasWildcard : nil
        }
    }

    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default:
            false
        }
    }
}

/// A channel or pattern, split into its tokens: `*` stands for one, a last `>` for one or more (Docs/protocol.md).
struct ChannelFilter: Sendable, Hashable {
    let text: String
    private let tokens: [Substring]

    init(_ text: String) {
        self.text = text
        tokens = text.split(separator: ".", omittingEmptySubsequences: false)
    }

    /// Whether there is a channel that both match. A channel is a pattern that matches itself only.
    func overlaps(_ other: ChannelFilter) -> Bool {
        var at = 0
        while true {
            let mine = at < tokens.count ? tokens[at] : nil
            let theirs = at < other.tokens.count ? other.tokens[at] : nil
            guard let mine, let theirs else { return mine == nil && theirs == nil }
            if mine == ">" || theirs == ">" { return true }
            guard mine == theirs || mine == "*" || theirs == "*" else { return false }
            at += 1
        }
    }
}

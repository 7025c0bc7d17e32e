/// Finds the patterns that match a channel, by walking the channel's tokens once.
///
/// Each level of the trie is one token. From a node, a token leads to the literal child of that name, to the `*` child, and ends at
/// the `>` child, which matches the token and all that follow. The cost of a look-up is the number of nodes that match so far,
/// not the number of patterns.
struct PatternTrie<Value> {
    private struct Node {
        var literals: [Substring: Int32] = [:]
        var anyOne: Int32 = -1
        var anyRest: Int32 = -1
        var value: Value?
        /// Children plus own value: a node without any is taken out of its parent.
        var isEmpty: Bool { literals.isEmpty && anyOne < 0 && anyRest < 0 && value == nil }
    }

    private var nodes = [Node()]
    private var unused: [Int32] = []
    private(set) var count = 0

    subscript(pattern: ChannelPattern) -> Value? {
        var at: Int32 = 0
        for token in pattern.tokens {
            at = child(of: at, token)
            if at < 0 { return nil }
        }
        return nodes[Int(at)].value
    }

    mutating func insert(_ value: Value, for pattern: ChannelPattern) {
        var at: Int32 = 0
        for token in pattern.tokens {
            var next = child(of: at, token)
            if next < 0 {
                if let reused = unused.popLast() {
                    next = reused
                } else {
                    next = Int32(nodes.count)
                    nodes.append(Node())
                }
                setChild(of: at, token, next)
            }
            at = next
        }
        if nodes[Int(at)].value == nil { count += 1 }
        nodes[Int(at)].value = value
    }

    mutating func remove(_ pattern: ChannelPattern) {
        var path: [(parent: Int32, token: Substring)] = []
        var at: Int32 = 0
        for token in pattern.tokens {
            let next = child(of: at, token)
            if next < 0 { return }
            path.append((at, token))
            at = next
        }
        guard nodes[Int(at)].value != nil else { return }
        nodes[Int(at)].value = nil
        count -= 1
        while let (parent, token) = path.popLast(), nodes[Int(at)].isEmpty {
            setChild(of: parent, token, -1)
            unused.append(at)
            at = parent
        }
    }

    /// Calls `body` with the value of each pattern that matches `channel`.
    func forEachMatch(_ channel: ChannelName, _ body: (Value) -> Void) {
        let tokens = channel.tokens
        walk(from: 0, tokens[...], body)
    }

    private func walk(from node: Int32, _ rest: ArraySlice<Substring>, _ body: (Value) -> Void) {
        guard let token = rest.first else {
            if let value = nodes[Int(node)].value { body(value) }
            return
        }
        let following = rest.dropFirst()
        let anyRest = nodes[Int(node)].anyRest
        if anyRest >= 0, let value = nodes[Int(anyRest)].value { body(value) }
        let anyOne = nodes[Int(node)].anyOne
        if anyOne >= 0 { walk(from: anyOne, following, body) }
        if let literal = nodes[Int(node)].literals[token] { walk(from: literal, following, body) }
    }

    private func child(of node: Int32, _ token: Substring) -> Int32 {
        switch token {
        case "*": nodes[Int(node)].anyOne
        case ">": nodes[Int(node)].anyRest
        default: nodes[Int(node)].literals[token] ?? -1
        }
    }

    private mutating func setChild(of node: Int32, _ token: Substring, _ child: Int32) {
        switch token {
        case "*": nodes[Int(node)].anyOne = child
        case ">": nodes[Int(node)].anyRest = child
        default: nodes[Int(node)].literals[token] = child < 0 ? nil : child
        }
    }
}

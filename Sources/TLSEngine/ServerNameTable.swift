/// Which certificate answers to which name (RFC 6066 section 3): the exact name, then the wildcard of its first label, then the first one.
struct ServerNameTable<Value> {
    /// For clients that name no server, or one that is not known.
    let fallback: Value
    private var exact: [String: Value] = [:]
    /// By the name without its `*.`.
    private var wildcards: [String: Value] = [:]

    init(fallback: Value) {
        self.fallback = fallback
    }

    /// Takes a name of a certificate, in lower case. The first value of a name stays.
    mutating func add(_ name: String, _ value: Value) {
        if name.hasPrefix("*.") {
            let parent = String(name.dropFirst(2))
            wildcards[parent] = wildcards[parent] ?? value
        } else {
            exact[name] = exact[name] ?? value
        }
    }

    /// The value for the name that a client sent, in any case. A wildcard stands for exactly one label (RFC 6125 section 6.4.3).
    func lookUp(_ name: String) -> Value {
        let name = name.lowercased()
        if let value = exact[name] {
            return value
        }
        if let dot = name.firstIndex(of: "."), dot != name.startIndex, let value = wildcards[String(name[name.index(after: dot)...])] {
            return value
        }
        return fallback
    }
}

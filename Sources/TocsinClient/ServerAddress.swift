/// Where a server is: `http://host:port` or `https://host:port`.
public struct ServerAddress: Sendable, Hashable, CustomStringConvertible {
    public let scheme: String
    public let host: String
    public let port: Int

    /// - Returns: nil if `text` is not such a URL. What follows the authority is not looked at.
    public init?(_ text: String) {
        guard let separator = text.firstRange(of: "://") else { return nil }
        scheme = text[..<separator.lowerBound].lowercased()
        guard scheme == "http" || scheme == "https" else { return nil }
        let authority = text[separator.upperBound...].prefix { $0 != "/" && $0 != "?" }
        if authority.first == "[" {
            guard let end = authority.firstIndex(of: "]") else { return nil }
            host = String(authority[authority.index(after: authority.startIndex)..<end])
            guard let port = Self.port(authority[authority.index(after: end)...], scheme) else { return nil }
            self.port = port
        } else {
            host = String(authority.prefix { $0 != ":" })
            guard let port = Self.port(authority.dropFirst(host.count), scheme) else { return nil }
            self.port = port
        }
        guard !host.isEmpty else { return nil }
    }

    private static func port(_ rest: Substring, _ scheme: String) -> Int? {
        if rest.isEmpty { return scheme == "https" ? 443 : 80 }
        guard rest.first == ":", let port = Int(rest.dropFirst()), (1...65535).contains(port) else { return nil }
        return port
    }

    public var isTLS: Bool { scheme == "https" }

    private var bracketedHost: String { host.contains(":") ? "[\(host)]" : host }

    public var authority: String { port == (isTLS ? 443 : 80) ? bracketedHost : "\(bracketedHost):\(port)" }

    /// With the port in any case, as CONNECT has it (RFC 9110 section 9.3.6).
    var tunnelAuthority: String { "\(bracketedHost):\(port)" }

    public var description: String { "\(scheme)://\(authority)" }
}

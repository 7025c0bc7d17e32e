import HTTPTypes
import TLSEngine

/// Where a server is: `http://host:port` or `https://host:port`.
package struct ServerAddress: Sendable, Hashable, CustomStringConvertible {
    package let scheme: String
    package let host: String
    package let port: Int

    /// - Returns: nil if `text` is not such a URL. What follows the authority is not looked at.
    package init?(_ text: String) {
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

    package var isTLS: Bool { scheme == "https" }

    package var authority: String {
        let name = host.contains(":") ? "[\(host)]" : host
        return port == (isTLS ? 443 : 80) ? name : "\(name):\(port)"
    }

    package var description: String { "\(scheme)://\(authority)" }
}

/// How to reach a server.
package struct ClientConfiguration: Sendable {
    package var address: ServerAddress
    /// nil: the system's.
    package var caFile: String?
    /// Take any certificate: for trials only.
    package var isInsecure = false

    package init(address: ServerAddress) {
        self.address = address
    }

    func makeTLSContext() throws -> TLSContext? {
        address.isTLS ? try TLSContext(clientTrusting: caFile, verifies: !isInsecure, alpn: ["http/1.1"]) : nil
    }
}

/// Why a client does not get on.
package struct ClientFault: Error, CustomStringConvertible {
    package var description: String
    /// The server refused for good: trying again does not help.
    package var isFinal: Bool
    /// The slot that the server gave to come back in.
    package var retryAfterMilliseconds: Int?

    package init(_ description: String, isFinal: Bool = false, retryAfterMilliseconds: Int? = nil) {
        self.description = description
        self.isFinal = isFinal
        self.retryAfterMilliseconds = retryAfterMilliseconds
    }
}

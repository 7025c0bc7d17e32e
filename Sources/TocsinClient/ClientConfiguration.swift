import TLSEngine

/// How to reach a server.
public struct ClientConfiguration: Sendable {
    public var address: ServerAddress
    /// nil: the system's.
    public var caFile: String?
    /// Take any certificate: for trials only.
    public var isInsecure = false
    /// A forward proxy, reached by plain HTTP: requests to `http` go through it in absolute form (RFC 9112 section 3.2.2), TLS and
    /// WebSockets in a tunnel (CONNECT, RFC 9110 section 9.3.6).
    public var proxy: ServerAddress?
    /// Sent with every request; nil: the server wants none.
    public var token: ClientToken?
    /// What may be tried.
    public var transports = ClientTransport.allCases
    /// Whose alerts they are (Docs/protocol.md section 4.5).
    public var user: String?
    /// Alerts that were missed come in short.
    public var digest = false
    /// Messages say who comes to the channels that are subscribed to by name, and who leaves them (section 4.11). The server refuses it for
    /// feeds without presence.
    public var presence = false
    /// Keeps what is known of the networks; by default for the life of the process, with a `PathMemoryFile` longer.
    public var memory: any PathMemory = ProcessPathMemory.shared

    public init(address: ServerAddress) {
        self.address = address
    }

    func makeTLSContext() throws -> TLSContext? {
        address.isTLS ? try TLSContext(clientTrusting: caFile, verifies: !isInsecure, alpn: ["http/1.1"]) : nil
    }
}

/// A bearer token (RFC 6750 section 2.1), or where to get one.
public enum ClientToken: Sendable {
    case constant(String)
    /// Called when the first one is needed, when one is about to expire, and once when one was refused.
    case refreshing(@Sendable () async throws -> String)
}

/// Why a client does not get on.
public struct ClientFault: Error, CustomStringConvertible {
    public var description: String
    /// The server refused for good: trying again does not help.
    public var isFinal: Bool

    public init(_ description: String, isFinal: Bool = false) {
        self.description = description
        self.isFinal = isFinal
    }
}

/// The token in use. Several connections that want a new one at once get the same.
actor TokenSource {
    private let token: ClientToken?
    private var current: String?
    private var renewal: Task<String, any Error>?

    init(_ token: ClientToken?) {
        self.token = token
        if case .constant(let text) = token { current = text }
    }

    /// - Returns: nil if none was given at all. Never nil otherwise.
    func value() async throws -> String? {
        if let current { return current }
        guard token != nil else { return nil }
        return try await renew(rather: nil)
    }

    /// Another one than `old`.
    ///
    /// - Returns: nil if there is only the one.
    func renew(rather old: String?) async throws -> String? {
        guard case .refreshing(let fetch) = token else { return nil }
        if let current, current != old { return current }
        let task = renewal ?? Task { try await fetch() }
        renewal = task
        defer { if renewal == task { renewal = nil } }
        let text = try await task.value
        current = text
        return text
    }
}

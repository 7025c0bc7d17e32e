/// Who makes a request, as a token or an API key says, and what they may do.
package struct Identity: Sendable, Hashable {
    /// Sessions belong to a principal, and obey no other.
    package enum Principal: Sendable, Hashable {
        /// `sub` of a token.
        case user(String)
        /// The name of an API key.
        case key(String)
    }

    package var principal: Principal
    /// `exp`, in milliseconds since 1970. An API key has no end: the last moment that a token could name.
    package var expiresMilliseconds: Int64
    /// `iat`, in milliseconds since 1970.
    package var issuedMilliseconds: Int64?
    /// `jti`.
    package var tokenID: String?
    package var grants: Grants
    /// API keys: may take back what others were given.
    package var isAdministrator = false

    package init(_ principal: Principal, expiresMilliseconds: Int64 = Self.endless, grants: Grants = Grants()) {
        self.principal = principal
        self.expiresMilliseconds = expiresMilliseconds
        self.grants = grants
    }

    /// The end of the year 9999.
    package static let endless: Int64 = 253_402_300_799_000

    /// The user; nil: it is an API key.
    package var subject: String? {
        if case .user(let subject) = principal { subject } else { nil }
    }

    package var isKey: Bool { subject == nil }
}

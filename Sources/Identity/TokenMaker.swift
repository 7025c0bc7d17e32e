import FoundationEssentials
import JWTKit

/// Makes tokens with a secret, for trials and for backends that have no library for it.
package struct TokenMaker {
    private struct Claims: JWTPayload {
        var sub: String
        var exp: Int64
        var iat: Int64?
        var subscribe: [String]?
        var publish: [String]?
        var presence: [String]?
        var iss: String?
        var aud: String?
        var jti: String?

        func verify(using algorithm: some JWTAlgorithm) {}
    }

    private let keys: JWTKeyCollection
    /// Claims that hold grants, as `{sub}` and patterns; nil: the token does not have it.
    package var subscribe: [String]?
    package var publish: [String]?
    package var presence: [String]?
    package var issuer: String?
    package var audience: String?
    package var tokenID: String?

    package init(secret bytes: [UInt8]) async throws {
        let secret = TokenKey.trimmed(bytes)
        guard secret.count >= 32 else { throw TokenKeyFault("a secret has at least 32 bytes") }
        keys = await JWTKeyCollection().add(hmac: HMACKey(from: Data(secret)), digestAlgorithm: .sha256)
    }

    /// - Parameters:
    ///   - issuedSeconds: since 1970; nil: not said.
    ///   - expiresSeconds: since 1970.
    package func token(subject: String, issuedSeconds: Int64? = nil, expiresSeconds: Int64) async throws -> String {
        for text in (subscribe ?? []) + (publish ?? []) + (presence ?? []) where Grants.patterns(text, user: subject) == nil {
            throw TokenKeyFault("\"\(text)\" is no pattern of channels")
        }
        let claims = Claims(
            sub: subject, exp: expiresSeconds, iat: issuedSeconds, subscribe: subscribe, publish: publish, presence: presence, iss: issuer,
            aud: audience,
            jti: tokenID
        )
        return try await keys.sign(claims)
    }
}

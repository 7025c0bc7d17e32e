package import Identity
import NotificationCore
import Transports

/// Who is let in; what an operator says of it.
package struct IdentityConfiguration: Sendable {
    /// Keys of tokens: a JWK set, or a secret for HS256. nil: no tokens are taken.
    package var tokenKeyFile: String?
    /// Where a JWK set is fetched from, in the place of a file.
    package var keysURL: String?
    /// `iss` that tokens may have; empty: any.
    package var issuers: [String] = []
    /// What this server is called in `aud`; empty: tokens must not be for an audience.
    package var audiences: [String] = []
    /// A cookie that may have the token; nil: none.
    package var cookie: String?
    /// Keys of publishers. nil: there are none.
    package var apiKeyFile: String?
    package var access = AccessRules()
    /// The product's own endpoint; nil: nobody is asked.
    package var hook: HookConfiguration?
    /// Authorities that are trusted for both URLs, a PEM file; nil: the system's.
    package var authorityFile: String?

    package init() {}

    /// Whether anybody is asked who they are.
    package var isClosed: Bool { tokenKeyFile != nil || keysURL != nil || apiKeyFile != nil }
}

/// What decides who somebody is and what they may do: the same for every way in, and for `tocsin explain`.
package struct Gate: Sendable {
    /// nil: none are taken, or their keys have not been fetched yet.
    var tokens: TokenVerifier?
    private let fetchesKeys: Bool
    private let keys: APIKeys
    package let access: AccessRules
    let cookie: String?
    /// What the operator should know of the files.
    package private(set) var warnings: [String] = []

    /// Reads the files that the configuration names.
    ///
    /// - Parameter isFetching: whether keys that come from a URL are fetched, once; a server has a `KeySource` for that.
    /// - Returns: nil: everybody may do everything.
    /// - Throws: `ServerStartFault`.
    package static func open(_ configuration: IdentityConfiguration, isFetching: Bool = false) async throws -> Gate? {
        guard configuration.isClosed else { return nil }
        var gate = try await Gate(configuration)
        guard isFetching, let url = configuration.keysURL else { return gate }
        let http = OutgoingHTTP(authorityFile: configuration.authorityFile)
        let result: Result<TokenVerifier, TokenKeyFault>
        do throws(TokenKeyFault) {
            result = .success(try await KeySource.fetch(url, configuration.issuers, configuration.audiences, http).tokens)
        } catch {
            result = .failure(error)
        }
        await http.shutDown()
        switch result {
        case .success(let tokens): gate.tokens = tokens
        case .failure(let fault): throw ServerStartFault(description: "the keys of tokens cannot be fetched: \(fault.description)")
        }
        return gate
    }

    func keepingFetchedKeys(of old: Gate) -> Gate {
        guard fetchesKeys else { return self }
        var gate = self
        gate.tokens = old.tokens
        return gate
    }

    /// Whether tokens are taken, and there is no key yet to check one with.
    var lacksKeys: Bool { fetchesKeys && tokens == nil }

    private init(_ configuration: IdentityConfiguration) async throws {
        access = configuration.access
        cookie = configuration.cookie
        fetchesKeys = configuration.keysURL != nil
        if let path = configuration.tokenKeyFile {
            let bytes = try Self.contents(path)
            let isSecret = !SystemCall.isReadableByAll(path)
            do {
                tokens = try await TokenVerifier(
                    keyFile: bytes, maySign: isSecret, issuers: configuration.issuers, audiences: configuration.audiences
                )
            } catch {
                throw ServerStartFault(description: "\(path) has no keys for tokens: \(error)")
            }
            if !isSecret, tokens?.mayBeMade == true {
                warnings.append("everybody on this host can read \(path), and so make tokens: chmod o-r")
            }
        } else {
            tokens = nil
        }
        if let path = configuration.apiKeyFile {
            let bytes = try Self.contents(path)
            do throws(TokenKeyFault) {
                keys = try APIKeys(file: bytes)
            } catch {
                throw ServerStartFault(description: "\(path): \(error.description)")
            }
        } else {
            keys = APIKeys()
        }
    }

    private static func contents(_ path: String) throws(ServerStartFault) -> [UInt8] {
        guard let bytes = SystemCall.contents(of: path) else { throw ServerStartFault(description: "cannot read \(path)") }
        return bytes
    }

    /// - Parameter mayBeKey: whether an API key is taken here.
    package func identity(of text: String, mayBeKey: Bool, nowMilliseconds: Int64) throws(TokenFault) -> Identity {
        if text.hasPrefix(APIKeys.prefix) {
            guard mayBeKey else { throw .invalid("an API key goes into Authorization") }
            guard let identity = keys.identity(of: text) else { throw .invalid("no such API key") }
            return identity
        }
        guard let tokens else { throw fetchesKeys ? .unknownKey : .invalid("only API keys are taken: there is no --token-key") }
        return try tokens.identity(of: text, nowMilliseconds: nowMilliseconds)
    }

    /// Whether an API key is still as it was when it was shown.
    func isCurrent(_ identity: Identity) -> Bool { !identity.isKey || keys.identities.contains(identity) }

    /// - Throws: the refusal.
    func permit(_ action: ChannelAction, _ pattern: ChannelPattern, _ identity: Identity?) throws(Problem) {
        if let refusal = access.refusal(action, pattern, identity) { throw Problem(refusal) }
    }
}

extension Problem {
    /// An API key is told all; others learn nothing that they did not say, whether there is such a channel or not.
    init(_ refusal: AccessRefusal) {
        if refusal.isForWantOfToken {
            self = .unauthorized("token-missing", "A token is wanted", refusal.detail)
            configurationKey = refusal.configurationKey
        } else {
            self.init(
                "not-granted", "Not granted", status: 403,
                detail: refusal.identity?.isKey == true ? refusal.fullDetail : refusal.detail, rule: refusal.rule,
                configurationKey: refusal.configurationKey
            )
        }
        reason = refusal.fullDetail
    }

    static var tokenTakenBack: Problem {
        .unauthorized(
            "token-invalid", "Token not accepted", "it is not one that this server can check", reason: "it was taken back meanwhile"
        )
    }

    static var ticketNotAccepted: Problem {
        .unauthorized("token-invalid", "Ticket not accepted", "it was used, is too old, or is none of this server's")
    }

    static var keysUnavailable: Problem {
        Problem(
            "keys-unavailable", "Tokens cannot be checked", status: 503, detail: "the keys of tokens have not come yet",
            rule: "token", configurationKey: "jwks_url (--jwks-url)", retryAfterSeconds: 5
        )
    }

    /// RFC 6750 section 3.
    static func unauthorized(_ type: String, _ title: String, _ detail: String, reason: String? = nil) -> Problem {
        var problem = Problem(type, title, status: 401, detail: detail, rule: "token", configurationKey: "token_key (--token-key)")
        problem.fields["WWW-Authenticate"] = type == "token-missing" ? "Bearer" : #"Bearer error="invalid_token""#
        problem.reason = reason
        return problem
    }
}

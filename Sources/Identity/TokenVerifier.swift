import FoundationEssentials
import JSONCodec
import JWTKit
import NotificationCore

/// Why a token is not accepted.
package enum TokenFault: Error, Hashable, Sendable {
    /// It was good once; its signature is right.
    case expired
    /// There is no key for what its header says.
    case unknownKey
    /// Anything else. A peer is not told what, so that it learns nothing about the keys.
    case invalid(String)

    /// For the log, and for those who have the keys.
    package var words: String {
        switch self {
        case .expired: "it has expired"
        case .unknownKey: "no key for it"
        case .invalid(let words): words
        }
    }
}

/// Checks bearer tokens: JWTs in compact serialization (RFC 7515, RFC 7519), as RFC 8725 wants it done.
///
/// Each key has one algorithm, and a token is checked with the key that its `kid` names exactly, or, where keys have no names, with the
/// one of its `alg`. What else the header says (`jku`, `x5u`, `jwk`) is not looked at, and `crit` is refused. Base64 has to be canonical,
/// JSON without names twice, `exp` a whole number of seconds. A token for somebody else (`aud`) is refused.
package struct TokenVerifier: Sendable {
    /// How far clocks may be apart, in milliseconds.
    package static let skewMilliseconds: Int64 = 5000
    /// Longer ones are not looked at.
    package static let bytesMax = 8192

    private let keys: [TokenKey]
    /// Who may have made a token (`iss`); empty: anybody who has a key.
    private let issuers: Set<String>
    /// What this server is called in `aud`. Empty: a token that names anybody there is for others (RFC 7519 section 4.1.3).
    private let audiences: Set<String>

    /// - Throws: what is wrong with the file, in words; see `TokenKey`.
    package init(
        keyFile bytes: [UInt8], maySign: Bool = true, issuers: [String] = [], audiences: [String] = []
    ) async throws {
        keys = try await TokenKey.read(bytes, maySign: maySign)
        self.issuers = Set(issuers)
        self.audiences = Set(audiences)
    }

    /// - Parameter bytes: a JWK set of public keys, as it came from a URL.
    /// - Throws: what is wrong with it, in words; see `TokenKey`.
    package init(fetchedSet bytes: [UInt8], issuers: [String] = [], audiences: [String] = []) async throws {
        keys = try await TokenKey.readFetched(bytes)
        self.issuers = Set(issuers)
        self.audiences = Set(audiences)
    }

    /// Whether who has the keys can make tokens.
    package var mayBeMade: Bool { keys.contains { $0.algorithm.hasPrefix("HS") } }

    /// What the keys are, without the keys: `ES256 "2026-11"`.
    package var keyNames: [String] {
        keys.map { key in key.algorithm + (key.name.map { " \"\($0)\"" } ?? "") }
    }

    package func identity(of token: String, nowMilliseconds: Int64) throws(TokenFault) -> Identity {
        let text = Array(token.utf8)
        guard text.count <= Self.bytesMax else { throw .invalid("it is too long") }
        let parts = text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 3, let header = Self.object(parts[0]), let payload = Self.object(parts[1]),
            let signature = Self.decoded(parts[2])
        else { throw .invalid("it is not three parts of base64url with JSON objects in the first two") }
        guard let algorithm = header["alg"]?.string(), header["crit"] == nil else { throw .invalid("its header is not one of ours") }
        guard header["typ"].map({ ["jwt", "at+jwt"].contains($0.string()?.lowercased()) }) ?? true else { throw .invalid("its type") }
        let name = header["kid"].map { $0.string() ?? "" }
        guard let key = keys.first(where: { $0.algorithm == algorithm && ($0.name == nil || $0.name == name) }) else {
            throw .unknownKey
        }
        let signed = text.prefix(parts[0].count + 1 + parts[1].count)
        guard (try? key.verifier.verify(signature, signs: Array(signed))) == true else { throw .invalid("its signature") }
        return try identity(payload, nowMilliseconds)
    }

    private func identity(_ payload: JSONSlice, _ now: Int64) throws(TokenFault) -> Identity {
        guard let subject = payload["sub"]?.string(), !subject.isEmpty else { throw .invalid("no sub") }
        guard let expires = Self.seconds(payload["exp"]) else { throw .invalid("no exp") }
        let skew = Self.skewMilliseconds
        if let start = payload["nbf"] {
            guard let start = Self.seconds(start), start * 1000 <= now + skew else { throw .invalid("nbf") }
        }
        try checkParties(payload)
        var identity = Identity(.user(subject), expiresMilliseconds: expires * 1000)
        if let issued = payload["iat"] {
            guard let issued = Self.seconds(issued) else { throw .invalid("iat") }
            identity.issuedMilliseconds = issued * 1000
        }
        if let tokenID = payload["jti"] {
            guard let tokenID = tokenID.string() else { throw .invalid("jti") }
            identity.tokenID = tokenID
        }
        for action in ChannelAction.allCases {
            if let claim = payload[action.rawValue] { identity.grants[action] = try Self.grants(claim, action, user: subject) }
        }
        guard now < expires * 1000 + skew else { throw .expired }
        return identity
    }

    /// Who made it, and for whom.
    private func checkParties(_ payload: JSONSlice) throws(TokenFault) {
        if !issuers.isEmpty {
            guard let issuer = payload["iss"]?.string(), issuers.contains(issuer) else { throw .invalid("its issuer (iss)") }
        }
        guard let audience = payload["aud"] else {
            if audiences.isEmpty { return }
            throw .invalid("no audience (aud)")
        }
        let named = audience.kind == .array ? audience.elements.map { $0.string() } : [audience.string()]
        guard !named.contains(nil), named.contains(where: { audiences.contains($0 ?? "") }) else {
            throw .invalid(audiences.isEmpty ? "it is for an audience (aud), and none is configured" : "its audience (aud)")
        }
    }

    /// A claim that is not what it should be ends the token: what was meant to narrow it may stand there.
    private static func grants(_ claim: JSONSlice, _ action: ChannelAction, user: String) throws(TokenFault) -> [ChannelPattern] {
        guard claim.kind == .array else { throw .invalid("its claim \(action.rawValue) is not an array") }
        var grants: [ChannelPattern] = []
        for element in claim.elements {
            guard let text = element.string(), let patterns = Grants.patterns(text, user: user) else {
                throw .invalid("its claim \(action.rawValue) has what is no pattern of channels")
            }
            grants += patterns
        }
        return grants
    }

    /// A NumericDate (RFC 7519 section 2) without a fraction, before the year 9999.
    private static func seconds(_ value: JSONSlice?) -> Int64? {
        guard let value, value.kind == .number, let number = value.integer(), (0..<253_402_300_800).contains(number) else { return nil }
        return Int64(number)
    }

    private static func object(_ text: ArraySlice<UInt8>) -> JSONSlice? {
        guard let bytes = decoded(text), let value = TokenKey.json(bytes), value.kind == .object else { return nil }
        let names = value.members.map(\.name)
        return Set(names).count == names.count ? value : nil
    }

    /// Base64url without padding (RFC 7515 section 2), in its one canonical form.
    static func decoded(_ text: ArraySlice<UInt8>) -> [UInt8]? {
        guard text.count % 4 != 1 else { return nil }
        var out: [UInt8] = []
        out.reserveCapacity(text.count * 3 / 4)
        var bits: UInt32 = 0
        var count = 0
        for letter in text {
            let value: UInt8
            switch letter {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = letter - 65
            case UInt8(ascii: "a")...UInt8(ascii: "z"): value = letter - 71
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = letter + 4
            case UInt8(ascii: "-"): value = 62
            case UInt8(ascii: "_"): value = 63
            default: return nil
            }
            bits = bits << 6 | UInt32(value)
            count += 6
            if count >= 8 {
                count -= 8
                out.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
                bits &= (1 << UInt32(count)) - 1
            }
        }
        return bits == 0 ? out : nil
    }
}

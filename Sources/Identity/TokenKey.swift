import FoundationEssentials
import JSONCodec
import JWTKit

/// A key that checks tokens, for its one algorithm.
///
/// Keys come from a file: a JWK set (RFC 7517 section 5) whose keys each have `kid` and `alg`, or else the bytes of a secret for HS256.
/// A set holds public keys. A secret one (`oct`) is taken only where the file is not for everybody's eyes: sets are handed around as
/// public things, and whoever has read a secret makes tokens of anybody.
struct TokenKey: Sendable {
    /// `kid`; nil: a secret without a name.
    var name: String?
    var algorithm: String
    var verifier: any JWTAlgorithm

    /// What a key may be for: `alg` is the one word that decides how a token is checked, and it has to fit the key (RFC 8725 section 3.1).
    private static let kinds: [String: (type: String, curve: String?)] = [
        "HS256": ("oct", nil), "HS384": ("oct", nil), "HS512": ("oct", nil),
        "RS256": ("RSA", nil), "RS384": ("RSA", nil), "RS512": ("RSA", nil),
        "PS256": ("RSA", nil), "PS384": ("RSA", nil), "PS512": ("RSA", nil),
        "ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "ES512": ("EC", "P-521"),
        "EdDSA": ("OKP", "Ed25519"),
    ]

    private static let keysMax = 100

    /// A set that somebody publishes for everybody who checks tokens: what is no key for that, or none that is known here, is passed by.
    /// A key without `alg` has the one of its curve, or RS256.
    ///
    /// - Throws: why there is no key in it, in words.
    static func readFetched(_ bytes: [UInt8]) async throws -> [TokenKey] {
        guard let set = json(bytes), set.kind == .object, let members = set["keys"], members.kind == .array else {
            throw TokenKeyFault("it is not a JWK set: {\"keys\":[…]}")
        }
        var keys: [TokenKey] = []
        for member in members.elements.prefix(keysMax) {
            guard member.kind == .object, member["use"]?.string() ?? "sig" == "sig", member["kty"]?.string() != "oct",
                let key = try? await read(member, maySign: false, algorithmIfUnsaid: usualAlgorithm(member)),
                !keys.contains(where: { $0.name == key.name })
            else { continue }
            keys.append(key)
        }
        guard !keys.isEmpty else { throw TokenKeyFault("the set has no key that can be used") }
        return keys
    }

    private static func usualAlgorithm(_ member: JSONSlice) -> String? {
        switch (member["kty"]?.string(), member["crv"]?.string()) {
        case ("RSA", _): "RS256"
        case ("EC", "P-256"): "ES256"
        case ("EC", "P-384"): "ES384"
        case ("EC", "P-521"): "ES512"
        case ("OKP", "Ed25519"): "EdDSA"
        default: nil
        }
    }

    /// - Parameter maySign: whether the file may hold secrets of a set.
    /// - Throws: what is wrong with the file, in words.
    static func read(_ bytes: [UInt8], maySign: Bool) async throws -> [TokenKey] {
        guard bytes.first(where: { $0 > 0x20 }) == UInt8(ascii: "{") else {
            return [try await secret(trimmed(bytes), "HS256", name: nil)]
        }
        guard let set = json(bytes), set.kind == .object, let members = set["keys"], members.kind == .array else {
            throw TokenKeyFault("it is not a JWK set: {\"keys\":[…]}")
        }
        var keys: [TokenKey] = []
        for member in members.elements where member.kind != .object || member["use"]?.string() ?? "sig" == "sig" {
            guard keys.count < keysMax else { throw TokenKeyFault("it has more than \(keysMax) keys") }
            let key = try await read(member, maySign: maySign)
            guard !keys.contains(where: { $0.name == key.name }) else { throw TokenKeyFault("two keys are called \(key.name ?? "")") }
            keys.append(key)
        }
        guard !keys.isEmpty else { throw TokenKeyFault("the set has no key") }
        return keys
    }

    private static func read(_ member: JSONSlice, maySign: Bool, algorithmIfUnsaid: String? = nil) async throws -> TokenKey {
        guard member.kind == .object, let name = member["kid"]?.string(), !name.isEmpty,
            let algorithm = member["alg"] == nil ? algorithmIfUnsaid : member["alg"]?.string()
        else {
            throw TokenKeyFault("a key of the set has no \"kid\" or no \"alg\"")
        }
        guard let kind = kinds[algorithm] else { throw TokenKeyFault("the key \(name) is for \(algorithm), which is not taken") }
        guard member["kty"]?.string() == kind.type, kind.curve == nil || member["crv"]?.string() == kind.curve else {
            throw TokenKeyFault("the key \(name) does not fit \(algorithm)")
        }
        if kind.type == "oct" {
            guard maySign else {
                throw TokenKeyFault("the key \(name) is a secret, and others may read the file: chmod o-r")
            }
            guard let text = member["k"]?.string(), let bytes = TokenVerifier.decoded(ArraySlice(text.utf8)) else {
                throw TokenKeyFault("the key \(name) has no \"k\"")
            }
            return try await secret(bytes, algorithm, name: name)
        }
        guard member["d"] == nil, member["k"] == nil else { throw TokenKeyFault("the key \(name) is not a public one") }
        do {
            let set = #"{"keys":["# + String(decoding: member.bytes, as: UTF8.self) + "]}"
            let verifier = try await JWTKeyCollection().add(jwksJSON: set).getKey(for: JWKIdentifier(string: name), alg: algorithm)
            return TokenKey(name: name, algorithm: algorithm, verifier: verifier)
        } catch {
            // Among others: an RSA key of less than 2048 bits, a point that is not on its curve.
            throw TokenKeyFault("the key \(name) is not a good one for \(algorithm)")
        }
    }

    private static func secret(_ bytes: [UInt8], _ algorithm: String, name: String?) async throws -> TokenKey {
        let (digest, count): (DigestAlgorithm, Int) =
            switch algorithm {
            case "HS384": (.sha384, 48)
            case "HS512": (.sha512, 64)
            default: (.sha256, 32)
            }
        // RFC 7518 section 3.2: at least as long as the hash.
        guard bytes.count >= count else { throw TokenKeyFault("a secret for \(algorithm) has at least \(count) bytes") }
        let collection = await JWTKeyCollection().add(hmac: HMACKey(from: Data(bytes)), digestAlgorithm: digest)
        return TokenKey(name: name, algorithm: algorithm, verifier: try await collection.getKey())
    }

    /// Without the line break that editors put at the end.
    static func trimmed(_ bytes: [UInt8]) -> [UInt8] {
        Array(bytes.reversed().drop { $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r") }.reversed())
    }

    static func json(_ bytes: [UInt8]) -> JSONSlice? {
        var out: [UInt8] = []
        let isGood = bytes.withUnsafeBytes { (try? JSONText.minify($0, into: &out)) != nil }
        return isGood ? JSONSlice(out[...]) : nil
    }
}

/// Why a file has no keys that can be used.
package struct TokenKeyFault: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }
}

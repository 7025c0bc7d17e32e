import FoundationEssentials
import JSONCodec
import JWTKit

/// Who makes a request, as a token says.
package struct Identity: Sendable, Hashable {
    /// `sub`: the user.
    package var subject: String
    /// `exp`, in milliseconds since 1970.
    package var expiresMilliseconds: Int64
}

/// Why a token is not accepted.
package enum TokenFault: Error, Hashable, Sendable {
    /// It was good once; its signature is right.
    case expired
    /// Anything else. A peer is not told what, so that it learns nothing about the keys.
    case invalid(String)
}

/// Checks bearer tokens: JWTs in compact serialization (RFC 7515, RFC 7519), as RFC 8725 wants it done.
///
/// Each key has one algorithm, and a token is checked with the key that its `kid` names exactly, or, where keys have no names, with the
/// one of its `alg`. What else the header says (`jku`, `x5u`, `jwk`) is not looked at, and `crit` is refused. Base64 has to be canonical,
/// JSON without names twice, `exp` a whole number of seconds.
package struct TokenVerifier: Sendable {
    /// How far clocks may be apart, in milliseconds.
    package static let skewMilliseconds: Int64 = 5000
    /// Longer ones are not looked at.
    package static let bytesMax = 8192

    private struct Key: Sendable {
        var name: String?
        var algorithm: String
        var verifier: any JWTAlgorithm
    }

    private let keys: [Key]

    /// Reads keys: a JWK set (RFC 7517 section 5) of public keys that have `kid` and `alg`, or else the bytes of a secret for HS256.
    ///
    /// - Throws: what is wrong with the file, in words.
    package init(keyFile bytes: [UInt8]) async throws {
        guard bytes.first(where: { $0 > 0x20 }) == UInt8(ascii: "{") else {
            keys = [try await Self.secret(bytes)]
            return
        }
        guard let set = Self.json(bytes), set.kind == .object, let members = set["keys"], members.kind == .array else {
            throw TokenKeyFault("it is not a JWK set: {\"keys\":[…]}")
        }
        var keys: [Key] = []
        for member in members.elements where member["use"]?.string() ?? "sig" == "sig" {
            guard let name = member["kid"]?.string(), let algorithm = member["alg"]?.string() else {
                throw TokenKeyFault("a key of the set has no \"kid\" or no \"alg\"")
            }
            guard member["d"] == nil, member["k"] == nil else { throw TokenKeyFault("the key \(name) is not a public one") }
            guard !keys.contains(where: { $0.name == name }) else { throw TokenKeyFault("two keys are called \(name)") }
            let collection = try await JWTKeyCollection().add(
                jwksJSON: #"{"keys":["# + String(decoding: member.bytes, as: UTF8.self) + "]}")
            let verifier = try await collection.getKey(for: JWKIdentifier(string: name), alg: algorithm)
            keys.append(Key(name: name, algorithm: algorithm, verifier: verifier))
        }
        guard !keys.isEmpty else { throw TokenKeyFault("the set has no key") }
        self.keys = keys
    }

    private static func secret(_ bytes: [UInt8]) async throws -> Key {
        let secret = Self.trimmed(bytes)
        // RFC 7518 section 3.2: at least as long as the hash.
        guard secret.count >= 32 else { throw TokenKeyFault("a secret has at least 32 bytes") }
        let collection = await JWTKeyCollection().add(hmac: HMACKey(from: Data(secret)), digestAlgorithm: .sha256)
        return Key(name: nil, algorithm: "HS256", verifier: try await collection.getKey())
    }

    /// Without the line break that editors put at the end.
    static func trimmed(_ bytes: [UInt8]) -> [UInt8] {
        Array(bytes.reversed().drop { $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r") }.reversed())
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
            throw .invalid("no key for it")
        }
        let signed = text.prefix(parts[0].count + 1 + parts[1].count)
        guard (try? key.verifier.verify(signature, signs: Array(signed))) == true else { throw .invalid("its signature") }
        return try Self.identity(payload, nowMilliseconds)
    }

    private static func identity(_ payload: JSONSlice, _ now: Int64) throws(TokenFault) -> Identity {
        guard let subject = payload["sub"]?.string(), !subject.isEmpty else { throw .invalid("no sub") }
        guard let expires = seconds(payload["exp"]) else { throw .invalid("no exp") }
        if let start = payload["nbf"] {
            guard let start = seconds(start), start * 1000 <= now + skewMilliseconds else { throw .invalid("nbf") }
        }
        guard now < expires * 1000 + skewMilliseconds else { throw .expired }
        return Identity(subject: subject, expiresMilliseconds: expires * 1000)
    }

    /// A NumericDate (RFC 7519 section 2) without a fraction, before the year 9999.
    private static func seconds(_ value: JSONSlice?) -> Int64? {
        guard let value, value.kind == .number, let number = value.integer(), (0..<253_402_300_800).contains(number) else { return nil }
        return Int64(number)
    }

    private static func object(_ text: ArraySlice<UInt8>) -> JSONSlice? {
        guard let bytes = decoded(text), let value = json(bytes), value.kind == .object else { return nil }
        let names = value.members.map(\.name)
        return Set(names).count == names.count ? value : nil
    }

    private static func json(_ bytes: [UInt8]) -> JSONSlice? {
        var out: [UInt8] = []
        let isGood = bytes.withUnsafeBytes { (try? JSONText.minify($0, into: &out)) != nil }
        return isGood ? JSONSlice(out[...]) : nil
    }

    /// Base64url without padding (RFC 7515 section 2), in its one canonical form.
    private static func decoded(_ text: ArraySlice<UInt8>) -> [UInt8]? {
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

/// Why a file has no keys that can be used.
package struct TokenKeyFault: Error, CustomStringConvertible {
    package let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// Makes tokens with a secret, for trials and for backends that have no library for it.
package struct TokenMaker {
    private struct Claims: JWTPayload {
        var sub: String
        var exp: Int64

        func verify(using algorithm: some JWTAlgorithm) {}
    }

    private let keys: JWTKeyCollection

    package init(secret bytes: [UInt8]) async throws {
        let secret = TokenVerifier.trimmed(bytes)
        guard secret.count >= 32 else { throw TokenKeyFault("a secret has at least 32 bytes") }
        keys = await JWTKeyCollection().add(hmac: HMACKey(from: Data(secret)), digestAlgorithm: .sha256)
    }

    /// - Parameter expiresSeconds: since 1970.
    package func token(subject: String, expiresSeconds: Int64) async throws -> String {
        try await keys.sign(Claims(sub: subject, exp: expiresSeconds))
    }
}

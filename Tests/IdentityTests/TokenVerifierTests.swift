import FoundationEssentials
import JWTKit
import Testing

@testable import Identity

private let secret = Array("0123456789abcdef0123456789abcdef\n".utf8)
private let now: Int64 = 1_800_000_000_000

private func base64url(_ text: String) -> String {
    Data(text.utf8).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
}

/// A token with this header and payload, signed rightly for HS256, whatever they say.
private func signed(_ header: String, _ payload: String) async throws -> String {
    let keys = await JWTKeyCollection().add(hmac: HMACKey(from: Data(secret.dropLast())), digestAlgorithm: .sha256)
    let text = base64url(header) + "." + base64url(payload)
    let signature = try await keys.getKey().sign(Data(text.utf8))
    return text + "."
        + Data(signature).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
}

@Suite struct TokenVerifierTests {
    private let good = #"{"sub":"anna","exp":1800000100}"#
    private let header = #"{"alg":"HS256","typ":"JWT"}"#

    @Test("a token that is right says who it is")
    func accepted() async throws {
        let verifier = try await TokenVerifier(keyFile: secret)
        let identity = try verifier.identity(of: try await signed(header, good), nowMilliseconds: now)
        #expect(identity == Identity(subject: "anna", expiresMilliseconds: 1_800_000_100_000))
        let made = try await TokenMaker(secret: secret).token(subject: "anna", expiresSeconds: 1_800_000_100)
        #expect(try verifier.identity(of: made, nowMilliseconds: now) == identity)
    }

    @Test("clocks may be five seconds apart, both ways")
    func skew() async throws {
        let verifier = try await TokenVerifier(keyFile: secret)
        let token = try await signed(header, #"{"sub":"a","nbf":1800000000,"exp":1800000010}"#)
        #expect(throws: TokenFault.invalid("nbf")) { try verifier.identity(of: token, nowMilliseconds: now - 5001) }
        _ = try verifier.identity(of: token, nowMilliseconds: now - 5000)
        _ = try verifier.identity(of: token, nowMilliseconds: now + 14_999)
        #expect(throws: TokenFault.expired) { try verifier.identity(of: token, nowMilliseconds: now + 15_000) }
    }

    @Test(
        "what RFC 8725 warns of is refused, though the signature is right",
        arguments: [
            (#"{"alg":"none"}"#, #"{"sub":"a","exp":1800000100}"#), (#"{"alg":"HS512"}"#, #"{"sub":"a","exp":1800000100}"#),
            (#"{"alg":"RS256"}"#, #"{"sub":"a","exp":1800000100}"#), (#"{"typ":"JWT"}"#, #"{"sub":"a","exp":1800000100}"#),
            (#"{"alg":"HS256","crit":["exp"]}"#, #"{"sub":"a","exp":1800000100}"#),
            (#"{"alg":"HS256","typ":"logout+jwt"}"#, #"{"sub":"a","exp":1800000100}"#),
            (#"{"alg":"HS256","alg":"HS256"}"#, #"{"sub":"a","exp":1800000100}"#), (#"{"alg":"HS256"}"#, #"{"sub":"a"}"#),
            (#"{"alg":"HS256"}"#, #"{"exp":1800000100}"#), (#"{"alg":"HS256"}"#, #"{"sub":"","exp":1800000100}"#),
            (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":"1800000100"}"#), (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":1800000100.5}"#),
            (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":1e99}"#), (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":99999999999999999999}"#),
            (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":-1}"#), (#"{"alg":"HS256"}"#, #"{"sub":7,"exp":1800000100}"#),
            (#"{"alg":"HS256"}"#, #"{"sub":"a","sub":"b","exp":1800000100}"#), (#"{"alg":"HS256"}"#, #"["a"]"#),
            (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":1800000100,"nbf":"x"}"#),
        ])
    func refused(_ header: String, _ payload: String) async throws {
        let verifier = try await TokenVerifier(keyFile: secret)
        let token = try await signed(header, payload)
        let fault = #expect(throws: TokenFault.self) { try verifier.identity(of: token, nowMilliseconds: now) }
        #expect(fault != .expired)
    }

    @Test("every change of a token makes it bad")
    func changed() async throws {
        let verifier = try await TokenVerifier(keyFile: secret)
        let token = Array(try await signed(header, good).utf8)
        for index in token.indices {
            var other = token
            other[index] = other[index] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
            #expect(throws: TokenFault.self) {
                try verifier.identity(of: String(decoding: other, as: UTF8.self), nowMilliseconds: now)
            }
        }
        for bad in ["", ".", "..", "a.b.c", String(decoding: token, as: UTF8.self) + "=", String(decoding: token, as: UTF8.self) + "."] {
            #expect(throws: TokenFault.self) { try verifier.identity(of: bad, nowMilliseconds: now) }
        }
        let long = String(repeating: "a", count: TokenVerifier.bytesMax + 1)
        #expect(throws: TokenFault.invalid("it is too long")) { try verifier.identity(of: long, nowMilliseconds: now) }
    }

    @Test("a set of public keys: the key is the one that the token names, for its own algorithm only")
    func keySet() async throws {
        let private1 = ES256PrivateKey()
        let private2 = ES256PrivateKey()
        func jwk(_ key: ES256PrivateKey, _ name: String) -> String {
            guard let parameters = key.publicKey.parameters else { preconditionFailure("a key without coordinates") }
            func url(_ text: String) -> String {
                text.replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
            }
            return #"{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"\#(name)","x":"\#(url(parameters.x))","#
                + #""y":"\#(url(parameters.y))"}"#
        }
        let set = #"{"keys":[\#(jwk(private1, "one")),\#(jwk(private2, "two"))]}"#
        let verifier = try await TokenVerifier(keyFile: Array(set.utf8))
        struct Claims: JWTPayload {
            var sub = "anna"
            var exp = 1_800_000_100
            func verify(using algorithm: some JWTAlgorithm) {}
        }
        let keys = await JWTKeyCollection().add(ecdsa: private1, kid: "one")
        #expect(try verifier.identity(of: try await keys.sign(Claims(), kid: "one"), nowMilliseconds: now).subject == "anna")
        let others = await JWTKeyCollection().add(ecdsa: private1, kid: "two").add(ecdsa: private1, kid: "three")
        for name in ["two", "three"] as [JWKIdentifier] {
            let token = try await others.sign(Claims(), kid: name)
            #expect(throws: TokenFault.self) { try verifier.identity(of: token, nowMilliseconds: now) }
        }
        // The public key as the secret of HS256.
        let confused = await JWTKeyCollection().add(
            hmac: HMACKey(from: Data(jwk(private1, "one").utf8)), digestAlgorithm: .sha256, kid: "one")
        let token = try await confused.sign(Claims(), kid: "one")
        #expect(throws: TokenFault.self) { try verifier.identity(of: token, nowMilliseconds: now) }
    }

    @Test("a file that has no usable keys is refused", arguments: ["short", "{}", #"{"keys":[]}"#, #"{"keys":[{"kty":"EC"}]}"#, "{"])
    func badFiles(_ text: String) async {
        await #expect(throws: (any Error).self) { try await TokenVerifier(keyFile: Array(text.utf8)) }
    }
}

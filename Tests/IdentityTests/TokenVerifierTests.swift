import FoundationEssentials
import JWTKit
import NotificationCore
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
        #expect(identity == Identity(.user("anna"), expiresMilliseconds: 1_800_000_100_000))
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
            (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":1800000100,"iat":"x"}"#),
            (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":1800000100,"jti":7}"#),
            (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":1800000100,"aud":"tocsin"}"#),
            (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":1800000100,"subscribe":"a.b"}"#),
            (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":1800000100,"subscribe":["a.b",7]}"#),
            (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":1800000100,"publish":["a..b"]}"#),
            (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":1800000100,"publish":["a-{sub}"]}"#),
            (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":1800000100,"publish":["{sub}.>.b"]}"#),
            (#"{"alg":"HS256"}"#, #"{"sub":"a","exp":1800000100,"presence":null}"#),
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

    @Test(
        "a token is for those whom it names, and from those who may make it",
        arguments: [
            (#""aud":"here""#, false, true), (#""aud":["there","here"]"#, false, true), (#""aud":"there""#, false, false),
            (#""aud":[]"#, false, false), (#""aud":["here",7]"#, false, false), (#""x":1"#, false, false), (#""aud":"Here""#, false, false),
            (#""aud":"here","iss":"us""#, true, true), (#""aud":"here","iss":"them""#, true, false), (#""aud":"here""#, true, false),
            (#""aud":"here","iss":["us"]"#, true, false),
        ])
    func parties(_ members: String, _ wantsIssuer: Bool, _ isGood: Bool) async throws {
        let verifier = try await TokenVerifier(keyFile: secret, issuers: wantsIssuer ? ["us"] : [], audiences: ["here", "also"])
        let token = try await signed(header, #"{"sub":"anna","exp":1800000100,\#(members)}"#)
        #expect(((try? verifier.identity(of: token, nowMilliseconds: now)) != nil) == isGood)
    }

    @Test("claims are grants, and {sub} stands for the user")
    func claims() async throws {
        let verifier = try await TokenVerifier(keyFile: secret)
        let token = try await signed(
            header, #"{"sub":"anna","exp":1800000100,"iat":1799999999,"jti":"t1","subscribe":["users.{sub}.>","scores.*"],"publish":[]}"#
        )
        let identity = try verifier.identity(of: token, nowMilliseconds: now)
        #expect(identity.grants.subscribe?.map(\.string) == ["users.anna.>", "scores.*"])
        #expect(identity.grants.publish == [])
        #expect(identity.grants.presence == nil)
        #expect(identity.tokenID == "t1")
        #expect(identity.issuedMilliseconds == 1_799_999_999_000)
        for name in ["a.b", "*", ">", "a b", "é", "{sub}", String(repeating: "a", count: 256)] {
            let other = try await signed(header, #"{"sub":"\#(name)","exp":1800000100,"subscribe":["{sub}","u.{sub}.>"]}"#)
            #expect(try verifier.identity(of: other, nowMilliseconds: now).grants.subscribe == [])
        }
    }

    @Test("a set may hold secrets, but not where others can read it")
    func secretsOfSets() async throws {
        let url = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
        let set = Array(#"{"keys":[{"kty":"oct","kid":"one","alg":"HS256","k":"\#(url)"}]}"#.utf8)
        let verifier = try await TokenVerifier(keyFile: set, maySign: true)
        #expect(verifier.keyNames == [#"HS256 "one""#])
        let token = try await signed(#"{"alg":"HS256","kid":"one"}"#, good)
        #expect(try verifier.identity(of: token, nowMilliseconds: now).subject == "anna")
        let nameless = try await signed(#"{"alg":"HS256"}"#, good)
        #expect(throws: TokenFault.self) { try verifier.identity(of: nameless, nowMilliseconds: now) }
        await #expect(throws: TokenKeyFault.self) { try await TokenVerifier(keyFile: set, maySign: false) }
    }

    @Test(
        "a file that has no usable keys is refused",
        arguments: [
            "short", "{}", #"{"keys":[]}"#, #"{"keys":[{"kty":"EC"}]}"#, "{", #"{"keys":[7]}"#,
            // The word for the algorithm does not fit the key.
            #"{"keys":[{"kty":"oct","kid":"a","alg":"RS256","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}"#,
            #"{"keys":[{"kty":"oct","kid":"a","alg":"HS512","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}"#,
            #"{"keys":[{"kty":"oct","kid":"a","alg":"none","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}"#,
            #"{"keys":[{"kty":"oct","kid":"","alg":"HS256","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}"#,
            #"{"keys":[{"kty":"EC","crv":"P-384","kid":"a","alg":"ES256","x":"AA","y":"AA"}]}"#,
            #"{"keys":[{"kty":"EC","crv":"P-256","kid":"a","alg":"ES256","x":"AA","y":"AA"}]}"#,
            #"{"keys":[{"kty":"RSA","kid":"a","alg":"RS256","n":"AQAB","e":"AQAB"}]}"#,
        ])
    func badFiles(_ text: String) async {
        await #expect(throws: (any Error).self) { try await TokenVerifier(keyFile: Array(text.utf8)) }
    }
}

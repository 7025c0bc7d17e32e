import Testing

@testable import Webhooks

/// The signature against the numbers of others, and what a file of secrets may have.
@Suite struct SignatureTests {
    private static let id = "msg_p5jXN8AQM9LWM0D4loKWxJek"
    private static let body = Array(#"{"test": 2432232314}"#.utf8)
    private static let first = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    private static let second = "whsec_" + String(repeating: "A", count: 44)

    private static func secrets(_ text: String) throws -> WebhookSecrets { try WebhookSecrets(file: Array(text.utf8)) }

    private static func fault(_ text: String) -> String? {
        do throws(WebhookSecretFault) {
            _ = try WebhookSecrets(file: Array(text.utf8))
            return nil
        } catch {
            return error.description
        }
    }

    /// The vector of the libraries of Standard Webhooks, `libraries/python/tests/test_webhooks.py` among them.
    @Test("the signature is that of Standard Webhooks")
    func vector() throws {
        let signature = try Self.secrets(Self.first).signature(id: Self.id, timestampSeconds: 1_614_265_330, body: Self.body)
        #expect(signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
    }

    /// RFC 4231 has no key of 24 to 64 bytes besides that of case 4, of 25: its data as if it were id, time and body.
    @Test("the code is HMAC-SHA256, RFC 4231 case 4")
    func code() throws {
        let secret = try #require(WebhookSecret("whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGQ=="))
        #expect(secret.code(of: [UInt8](repeating: 0xcd, count: 50)) == "glWKOJpEPA6kzIGYmfIIOoXw+qPlePgHei4/9GcpZls=")
    }

    @Test("whatever changes, the signature is another")
    func changes() throws {
        let secrets = try Self.secrets(Self.first)
        let all = [
            secrets.signature(id: Self.id, timestampSeconds: 1, body: Self.body),
            secrets.signature(id: Self.id, timestampSeconds: 2, body: Self.body),
            secrets.signature(id: Self.id + "a", timestampSeconds: 1, body: Self.body),
            secrets.signature(id: Self.id, timestampSeconds: 1, body: Self.body + [32]),
            try Self.secrets(Self.second).signature(id: Self.id, timestampSeconds: 1, body: Self.body),
        ]
        #expect(Set(all).count == all.count)
    }

    @Test("each of several secrets signs, in their order")
    func rotation() throws {
        let both = try Self.secrets("# the new one first\n\(Self.second)\n\n  \(Self.first)\t\r\n")
        let signatures = both.signature(id: Self.id, timestampSeconds: 1_614_265_330, body: Self.body).split(separator: " ")
        #expect(signatures.count == 2 && signatures.allSatisfy { $0.hasPrefix("v1,") })
        #expect(signatures[1] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        let alone = try Self.secrets(Self.second).signature(id: Self.id, timestampSeconds: 1_614_265_330, body: Self.body)
        #expect(String(signatures[0]) == alone)
    }

    @Test("a secret has 24 to 64 bytes")
    func sizes() {
        let allowed = [23: false, 24: true, 25: true, 63: true, 64: true, 65: false]
        for (count, isGood) in allowed {
            let text = "whsec_" + Self.base64([UInt8](repeating: 7, count: count))
            #expect((Self.fault(text) == nil) == isGood, "\(count) bytes")
        }
    }

    @Test(
        "what is no secret is refused with its line, and nothing of it is said",
        arguments: [
            "", "\n# nothing\n", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_?fKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_ MfKQ",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw and more", "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ])
    func refused(_ text: String) throws {
        let words = try #require(Self.fault(text))
        #expect(!words.contains("MfKQ"))
        if text.hasPrefix("whsec_") { #expect(words.hasPrefix("line 1: ")) }
    }

    @Test("a file has at most four secrets")
    func count() {
        let line = Self.first + "\n"
        #expect(Self.fault(String(repeating: line, count: WebhookSecrets.secretsMax)) == nil)
        #expect(Self.fault(String(repeating: line, count: WebhookSecrets.secretsMax + 1))?.contains("more than 4") == true)
    }

    /// RFC 4648, by hand: the tests are not to lean on what they test.
    private static func base64(_ bytes: [UInt8]) -> String {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
        var text = ""
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << UInt32(8 * (3 - group.count))
            for index in 0..<4 { text += index <= group.count ? String(alphabet[Int(bits >> UInt32(18 - 6 * index) & 63)]) : "=" }
        }
        return text
    }
}

import Crypto
import FoundationEssentials

/// Why a file has no secrets that webhooks could be signed with. Nothing of a secret is in the words.
package struct WebhookSecretFault: Error, Equatable, CustomStringConvertible {
    package let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// A secret that sender and receiver share: `whsec_` and 24 to 64 bytes in base64 (Standard Webhooks 1.0.0, "Signature scheme").
struct WebhookSecret: Sendable, Equatable {
    static let prefix = "whsec_"
    static let bytesAllowed = 24...64

    private let bytes: [UInt8]

    /// - Parameter text: one word; nil comes of anything else.
    init?(_ text: some StringProtocol) {
        guard text.hasPrefix(Self.prefix), let data = Data(base64Encoded: String(text.dropFirst(Self.prefix.count))) else { return nil }
        guard Self.bytesAllowed.contains(data.count) else { return nil }
        bytes = Array(data)
    }

    /// HMAC-SHA256 (RFC 2104) in base64.
    func code(of content: [UInt8]) -> String {
        let code = HMAC<SHA256>.authenticationCode(for: content, using: SymmetricKey(data: bytes))
        return Data(code).base64EncodedString()
    }
}

/// The secrets of one receiver. There are several while one takes the place of another: each signs, so that the receiver may know either.
///
/// A file has one a line; empty lines, and those that begin with `#`, say nothing.
package struct WebhookSecrets: Sendable, Equatable {
    /// An old and a new one; the rest is room for somebody who is slow.
    package static let secretsMax = 4

    private let secrets: [WebhookSecret]

    package init(file bytes: [UInt8]) throws(WebhookSecretFault) {
        guard let text = String(validating: bytes, as: UTF8.self) else { throw WebhookSecretFault("it is not UTF-8") }
        var secrets: [WebhookSecret] = []
        for (number, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard let word = words.first, !word.hasPrefix("#") else { continue }
            guard words.count == 1, let secret = WebhookSecret(word) else {
                throw WebhookSecretFault("line \(number + 1): whsec_ and 24 to 64 bytes in base64 are wanted")
            }
            guard secrets.count < Self.secretsMax else { throw WebhookSecretFault("it has more than \(Self.secretsMax) secrets") }
            secrets.append(secret)
        }
        guard !secrets.isEmpty else { throw WebhookSecretFault("there is no secret in it") }
        self.secrets = secrets
    }

    /// The value of `webhook-signature`: of each secret one signature, with a space between them.
    ///
    /// - Parameters:
    ///   - id: of the message; has no `.` in it, since that is what stands between the parts.
    ///   - timestampSeconds: of the attempt, since 1970.
    package func signature(id: String, timestampSeconds: Int64, body: [UInt8]) -> String {
        precondition(!id.utf8.contains(UInt8(ascii: ".")), "an id with a full stop could be taken for another one with another time")
        let content = Array("\(id).\(timestampSeconds).".utf8) + body
        return secrets.map { "v1," + $0.code(of: content) }.joined(separator: " ")
    }
}

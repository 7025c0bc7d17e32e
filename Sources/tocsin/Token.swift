import ArgumentParser
import Foundation
import Identity
import NotificationCore
import TocsinServer

struct Token: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Makes tokens, and checks them.", subcommands: [Make.self, Check.self])

    struct Make: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes a token with a secret, for trials.",
            discussion: """
                head -c 32 /dev/urandom | base64 > secret
                tocsin serve --token-key secret
                tocsin subscribe 'alerts.>' --token "$(tocsin token make --key secret --subject anna)"
                """
        )

        @Option(help: "The file with the secret, at least 32 bytes.")
        var key: String

        @Option(help: "The user.")
        var subject: String

        @Option(help: "Seconds for which it is good.")
        var seconds = 3600

        @Option(help: "What it may subscribe to, a pattern; {sub} stands for the user (repeatable). Without, it has no such claim.")
        var subscribe: [String] = []

        @Option(help: "Where it may publish, likewise.")
        var publish: [String] = []

        @Option(help: "Whose presence it may see, likewise.")
        var presence: [String] = []

        @Option(help: "Who makes it, its \"iss\".")
        var issuer: String?

        @Option(help: "For whom it is, its \"aud\".")
        var audience: String?

        @Option(help: "Its \"jti\", by which it can be revoked.")
        var id: String?

        func run() async throws {
            guard let secret = FileManager.default.contents(atPath: key) else { throw CommandFailure(description: "cannot read \(key)") }
            var maker = try await TokenMaker(secret: Array(secret))
            maker.subscribe = subscribe.isEmpty ? nil : subscribe
            maker.publish = publish.isEmpty ? nil : publish
            maker.presence = presence.isEmpty ? nil : presence
            maker.issuer = issuer
            maker.audience = audience
            maker.tokenID = id
            let now = Int64(Date().timeIntervalSince1970)
            print(try await maker.token(subject: subject, issuedSeconds: now, expiresSeconds: now + Int64(seconds)))
        }
    }

    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Says whether a server with these flags takes a token, who it is of and what it allows, or why not."
        )

        @OptionGroup var access: AccessOptions

        @Argument(help: "The token, or an API key; - reads it from standard input.")
        var token: String

        func run() async throws {
            guard let gate = try await Gate.open(try access.configuration(), isFetching: true) else {
                throw CommandFailure(description: "--token-key, --jwks-url or --api-keys is wanted")
            }
            let identity = try Identity.read(token, gate)
            print(identity.words)
        }
    }
}

extension Identity {
    /// - Throws: `CommandFailure` that says why it is not accepted.
    static func read(_ text: String, _ gate: Gate) throws -> Identity {
        let text = text == "-" ? (readLine() ?? "") : text
        do throws(TokenFault) {
            return try gate.identity(of: text, mayBeKey: true, nowMilliseconds: Int64(Date().timeIntervalSince1970 * 1000))
        } catch {
            throw CommandFailure(description: "not accepted: \(error.words)")
        }
    }

    /// Who it is, and what was given.
    var words: String {
        var lines: [String] = []
        switch principal {
        case .user(let name): lines.append("user: \(name)")
        case .key(let name): lines.append("API key: \(name)" + (isAdministrator ? ", admin" : ""))
        }
        if let tokenID { lines.append("id: \(tokenID)") }
        if !isKey { lines.append("good until: \(Date(timeIntervalSince1970: Double(expiresMilliseconds) / 1000).ISO8601Format())") }
        for action in ChannelAction.allCases {
            guard let patterns = grants[action] else {
                lines.append("\(action.rawValue): no such claim")
                continue
            }
            lines.append("\(action.rawValue): " + (patterns.isEmpty ? "nothing" : patterns.map(\.string).joined(separator: " ")))
        }
        return lines.joined(separator: "\n")
    }
}

import ArgumentParser
import Foundation
import Identity

struct Token: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Makes tokens.", subcommands: [Make.self])

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

        func run() async throws {
            guard let secret = FileManager.default.contents(atPath: key) else { throw CommandFailure(description: "cannot read \(key)") }
            let maker = try await TokenMaker(secret: Array(secret))
            print(try await maker.token(subject: subject, expiresSeconds: Int64(Date().timeIntervalSince1970) + Int64(seconds)))
        }
    }
}

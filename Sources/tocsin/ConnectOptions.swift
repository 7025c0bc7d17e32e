import ArgumentParser
import Foundation
import TocsinClient

/// How the client commands reach a server.
struct ConnectOptions: ParsableArguments {
    @Option(help: "The server.")
    var url = "http://127.0.0.1:8080"

    @Option(help: "A PEM file with the authorities to trust instead of the system's.")
    var caFile: String?

    @Flag(help: "Take any certificate. For trials only.")
    var insecure = false

    @Option(help: "A forward proxy on the way, http://host:port.")
    var proxy: String?

    @Option(help: "The bearer token. Others can see it in the list of processes; --token-file does not show it.")
    var token: String?

    @Option(help: "A file with the bearer token. It is read anew when the token is about to expire.", completion: .file())
    var tokenFile: String?

    func validate() throws {
        guard token == nil || tokenFile == nil else { throw ValidationError("--token or --token-file, not both") }
    }

    func makeConfiguration() throws -> ClientConfiguration {
        guard let address = ServerAddress(url) else { throw ValidationError("\"\(url)\" is not http://host:port or https://host:port") }
        var configuration = ClientConfiguration(address: address)
        configuration.caFile = caFile
        configuration.isInsecure = insecure
        if let proxy {
            guard let address = ServerAddress(proxy), !address.isTLS else { throw ValidationError("\"\(proxy)\" is not http://host:port") }
            configuration.proxy = address
        }
        if let token { configuration.token = .constant(try Self.checked(token)) }
        if let tokenFile {
            _ = try Self.read(tokenFile)
            configuration.token = .refreshing { try Self.read(tokenFile) }
        }
        return configuration
    }

    private static func read(_ path: String) throws -> String {
        guard let bytes = FileManager.default.contents(atPath: path) else { throw CommandFailure(description: "cannot read \(path)") }
        return try checked(String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
    }

    /// RFC 6750 section 2.1: visible ASCII only.
    private static func checked(_ token: String) throws -> String {
        guard !token.isEmpty, token.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            throw CommandFailure(description: "what was given is not a bearer token")
        }
        return token
    }
}

import ArgumentParser
import Foundation
import Identity
import NotificationCore
import TocsinServer

/// Who is let in, and what they may do: what `serve`, `explain` and `token check` have in common.
struct AccessOptions: ParsableArguments {
    @Option(help: "A file with the keys of tokens: a JWK set, or a secret for HS256. Requests need a token then.")
    var tokenKey: String?

    @Option(
        name: .customLong("jwks-url"),
        help: "Where the keys of tokens are fetched from, a JWK set, in the place of --token-key; https, or http on this host.")
    var jwksURL: String?

    @Option(help: "Who may have made a token, its \"iss\" (repeatable); without, anybody who has a key.")
    var tokenIssuer: [String] = []

    @Option(help: "What this server is called in \"aud\" of tokens (repeatable); without, tokens must not have one.")
    var tokenAudience: [String] = []

    @Option(help: "A cookie that may have the token.")
    var tokenCookie: String?

    @Option(help: "A file with the hashed keys of publishers; tocsin key make writes its lines.")
    var apiKeys: String?

    @Option(help: "FEED=ACCESS: who may subscribe (repeatable): public, authenticated, claimed (default) or granted; * for other feeds.")
    var access: [String] = []

    @Option(help: "The product's own endpoint, which is asked by POST whether somebody may do something; https, or http on this host.")
    var hook: String?

    @Option(help: "What --hook is asked: connect, subscribe, publish (repeatable); by default all three.")
    var hookFor: [HookAction] = []

    @Option(help: "Milliseconds in which the hook has to answer, 50 to 10000.")
    var hookTimeout = 1000

    @Option(help: "Seconds for which an answer of the hook counts, 0 to 3600.")
    var hookCache = 10

    @Option(help: "What the hook's silence means: refuse or allow.")
    var hookDown = HookDown.refuse

    @Option(help: "A file with a secret that is sent to the hook as Authorization: Bearer.")
    var hookSecret: String?

    @Option(help: "Authorities that are trusted for --jwks-url, --hook and --webhook, a PEM file; without, the system's.")
    var outgoingCa: String?

    enum HookDown: String, ExpressibleByArgument, CaseIterable {
        case refuse, allow
    }

    @Option(help: "FEED=ACCESS: who may publish (repeatable): authenticated, claimed or granted (default); * for other feeds.")
    var publishAccess: [String] = []

    func validate() throws {
        _ = try configuration()
        let needs = !access.isEmpty || !publishAccess.isEmpty
        let hasTokens = tokenKey != nil || jwksURL != nil
        guard tokenKey == nil || jwksURL == nil else { throw ValidationError("--token-key and --jwks-url cannot go together") }
        guard !needs || hasTokens || apiKeys != nil else {
            throw ValidationError(
                "--access and --publish-access need --token-key, --jwks-url or --api-keys: else everybody may do everything"
            )
        }
        guard tokenIssuer.isEmpty && tokenAudience.isEmpty && tokenCookie == nil || hasTokens else {
            throw ValidationError("--token-issuer, --token-audience and --token-cookie need --token-key or --jwks-url")
        }
        guard hook != nil || (hookFor.isEmpty && hookSecret == nil) else { throw ValidationError("--hook-… needs --hook") }
        guard (50...10_000).contains(hookTimeout), (0...3600).contains(hookCache) else {
            throw ValidationError("--hook-timeout is 50 to 10000 milliseconds, --hook-cache 0 to 3600 seconds")
        }
    }

    func configuration() throws -> IdentityConfiguration {
        var configuration = IdentityConfiguration()
        configuration.tokenKeyFile = tokenKey
        configuration.issuers = tokenIssuer
        configuration.audiences = tokenAudience
        configuration.apiKeyFile = apiKeys
        configuration.keysURL = try jwksURL.map { try Self.safe($0, "--jwks-url") }
        configuration.hook = try hookConfiguration()
        configuration.authorityFile = outgoingCa
        if let tokenCookie {
            guard APIKeys.isName(tokenCookie) else { throw ValidationError("a cookie's name has 1 to 64 of A-Z a-z 0-9 _ -") }
            configuration.cookie = tokenCookie
        }
        for text in access {
            let (feed, access) = try Self.rule(text, "--access")
            configuration.access.subscribe.set(feed, access)
        }
        for text in publishAccess {
            let (feed, access) = try Self.rule(text, "--publish-access")
            guard access != .public else { throw ValidationError("--publish-access \(text): nobody publishes without a token") }
            configuration.access.publish.set(feed, access)
        }
        return configuration
    }

    private func hookConfiguration() throws -> HookConfiguration? {
        guard let hook else { return nil }
        var configuration = HookConfiguration(url: try Self.safe(hook, "--hook"))
        if !hookFor.isEmpty { configuration.actions = Set(hookFor) }
        configuration.timeoutMilliseconds = hookTimeout
        configuration.cacheSeconds = hookCache
        configuration.allowsWhenDown = hookDown == .allow
        if let hookSecret {
            guard let bytes = FileManager.default.contents(atPath: hookSecret),
                let text = String(bytes: bytes, encoding: .utf8)?.trimmingCharacters(in: .whitespacesAndNewlines),
                !text.isEmpty, text.utf8.allSatisfy({ (0x21...0x7e).contains($0) })
            else { throw ValidationError("--hook-secret \(hookSecret) cannot be read, or has more than one printable word") }
            configuration.secret = text
        }
        return configuration
    }

    /// What decides who is let in has to come unchanged: over TLS, or from this host.
    private static func safe(_ text: String, _ flag: String) throws -> String {
        guard let url = URL(string: text), let host = url.host, !host.isEmpty, url.user == nil else {
            throw ValidationError("\(flag) \(text): a URL is wanted")
        }
        let isHere = ["localhost", "127.0.0.1", "::1", "[::1]"].contains(host)
        guard url.scheme == "https" || (url.scheme == "http" && isHere) else {
            throw ValidationError("\(flag) \(text): https is wanted, or http on this host")
        }
        return text
    }

    private static func rule(_ text: String, _ flag: String) throws -> (String, AccessRules.Access) {
        let halves = text.split(separator: "=", maxSplits: 1).map(String.init)
        guard halves.count == 2, let access = AccessRules.Access(rawValue: halves[1]) else {
            let words = AccessRules.Access.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("\(flag) \(text): FEED=ACCESS is wanted, with one of \(words)")
        }
        guard halves[0] == "*" || (ChannelName(halves[0])?.feed.utf8.count == halves[0].utf8.count && !halves[0].hasPrefix("_")) else {
            throw ValidationError("\(flag) \(text): \"\(halves[0])\" is no feed")
        }
        return (halves[0], access)
    }
}

extension HookAction: ExpressibleByArgument {}

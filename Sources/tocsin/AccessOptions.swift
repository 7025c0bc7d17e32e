import ArgumentParser
import Identity
import NotificationCore
import TocsinServer

/// Who is let in, and what they may do: what `serve`, `explain` and `token check` have in common.
struct AccessOptions: ParsableArguments {
    @Option(help: "A file with the keys of tokens: a JWK set, or a secret for HS256. Requests need a token then.")
    var tokenKey: String?

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

    @Option(help: "FEED=ACCESS: who may publish (repeatable): authenticated, claimed or granted (default); * for other feeds.")
    var publishAccess: [String] = []

    func validate() throws {
        _ = try configuration()
        let needs = !access.isEmpty || !publishAccess.isEmpty
        guard !needs || tokenKey != nil || apiKeys != nil else {
            throw ValidationError("--access and --publish-access need --token-key or --api-keys: else everybody may do everything")
        }
        guard tokenIssuer.isEmpty && tokenAudience.isEmpty && tokenCookie == nil || tokenKey != nil else {
            throw ValidationError("--token-issuer, --token-audience and --token-cookie need --token-key")
        }
    }

    func configuration() throws -> IdentityConfiguration {
        var configuration = IdentityConfiguration()
        configuration.tokenKeyFile = tokenKey
        configuration.issuers = tokenIssuer
        configuration.audiences = tokenAudience
        configuration.apiKeyFile = apiKeys
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

import Crypto
import FoundationEssentials
import NotificationCore

/// Keys of publishers, as a file has them: hashed, so that who reads the file has no key.
///
///     backend:5e88…64 hexadecimal digits:publish=scores.> publish=alerts.* subscribe=scores.> admin
///     # an empty line, or one that begins so, says nothing
///
/// A key is `tsk_` and 32 random bytes in base64url; its hash is SHA-256 of its text. With 256 random bits there is nothing to guess, so
/// that a slow hash would only cost the server time.
package struct APIKeys: Sendable {
    package static let prefix = "tsk_"
    private static let keysMax = 1000

    private struct Key: Sendable {
        var hash: [UInt8]
        var identity: Identity
    }

    private var keys: [Key] = []

    package init() {}

    /// - Throws: which line is wrong, and why. Nothing of a hash is in the words.
    package init(file bytes: [UInt8]) throws(TokenKeyFault) {
        guard let text = String(validating: bytes, as: UTF8.self) else { throw TokenKeyFault("it is not UTF-8") }
        for (number, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            if line.allSatisfy({ $0 == " " || $0 == "\t" }) || line.hasPrefix("#") { continue }
            guard keys.count < Self.keysMax else { throw TokenKeyFault("it has more than \(Self.keysMax) keys") }
            do throws(TokenKeyFault) {
                let key = try Self.key(line)
                guard !keys.contains(where: { $0.identity.principal == key.identity.principal || $0.hash == key.hash }) else {
                    throw TokenKeyFault("its name or key is there twice")
                }
                keys.append(key)
            } catch {
                throw TokenKeyFault("line \(number + 1): \(error.description)")
            }
        }
    }

    /// Who the keys are.
    package var identities: [Identity] { keys.map(\.identity) }

    private static func key(_ line: Substring) throws(TokenKeyFault) -> Key {
        let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3 else { throw TokenKeyFault("NAME:HASH:GRANTS is wanted") }
        guard isName(parts[0]) else { throw TokenKeyFault("a name has 1 to 64 of A-Z a-z 0-9 _ -") }
        guard let hash = hexadecimal(parts[1]) else { throw TokenKeyFault("the hash has 64 hexadecimal digits") }
        var identity = Identity(.key(String(parts[0])))
        for action in ChannelAction.allCases { identity.grants[action] = [] }
        for word in parts[2].split(whereSeparator: { $0 == " " || $0 == "\t" }) {
            if word == "admin" {
                identity.isAdministrator = true
                continue
            }
            let halves = word.split(separator: "=", maxSplits: 1)
            guard halves.count == 2, let action = ChannelAction(rawValue: String(halves[0])),
                let patterns = Grants.patterns(String(halves[1]), user: nil)
            else { throw TokenKeyFault("\"\(word)\" is no grant: publish=PATTERN, subscribe=PATTERN, presence=PATTERN or admin") }
            identity.grants[action]! += patterns
        }
        return Key(hash: hash, identity: identity)
    }

    package static func isName(_ text: some StringProtocol) -> Bool {
        (1...64).contains(text.utf8.count)
            && text.utf8.allSatisfy {
                switch $0 {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                    UInt8(ascii: "_"), UInt8(ascii: "-"):
                    true
                default: false
                }
            }
    }

    private static func hexadecimal(_ text: Substring) -> [UInt8]? {
        let digits = text.utf8.map { digit -> UInt8? in
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
            default: nil
            }
        }
        guard digits.count == 64, !digits.contains(nil) else { return nil }
        return stride(from: 0, to: 64, by: 2).map { digits[$0]! << 4 | digits[$0 + 1]! }
    }

    private static func hash(_ key: some StringProtocol) -> [UInt8] { Array(SHA256.hash(data: Array(key.utf8))) }

    /// Who has this key. All of them are looked at, and all of each hash: the time does not tell how near somebody came.
    package func identity(of key: String) -> Identity? {
        guard key.utf8.count <= 256 else { return nil }
        let hash = Self.hash(key)
        var found: Int?
        for (index, key) in keys.enumerated() {
            var difference: UInt8 = 0
            for (mine, theirs) in zip(key.hash, hash) { difference |= mine ^ theirs }
            if difference == 0 { found = index }
        }
        return found.map { keys[$0].identity }
    }

    /// A new key, and the line of the file for it.
    ///
    /// - Parameters:
    ///   - random: 32 bytes.
    ///   - grants: as in the file.
    /// - Throws: what is wrong with the name or a grant.
    package static func make(name: String, grants: [String], random: [UInt8]) throws(TokenKeyFault) -> (key: String, line: String) {
        precondition(random.count == 32)
        let key = prefix + base64url(random)
        let digits = Self.hash(key).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        let line = "\(name):\(digits):\(grants.joined(separator: " "))"
        _ = try Self.key(line[...])
        return (key, line)
    }

    private static func base64url(_ bytes: [UInt8]) -> String {
        String(
            Data(bytes).base64EncodedString().compactMap {
                switch $0 {
                case "+": "-"
                case "/": "_"
                case "=": nil
                default: $0
                }
            }
        )
    }
}

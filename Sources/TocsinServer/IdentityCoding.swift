import Identity
import NotificationCore
import NotificationStore

// Who somebody is, as one process of a server says it to another.
//
//     principal   0 nobody, 1 a user, 2 an API key; then the name
//     identity    principal, end, moment of making, id, whether it may take back, and the patterns of each action

extension Identity {
    var bytes: [UInt8] {
        var out: [UInt8] = []
        out.append(self)
        return out
    }

    init(_ bytes: [UInt8]) throws(LinkDamage) {
        let identity = try bytes.read { reader throws(LinkDamage) in try reader.optionalIdentity() }
        guard let identity else { throw LinkDamage() }
        self = identity
    }
}

extension [UInt8] {
    mutating func append(_ principal: Identity.Principal?) {
        switch principal {
        case nil: append(0)
        case .user(let name)?:
            append(1)
            appendLengthAndBytes(of: name)
        case .key(let name)?:
            append(2)
            appendLengthAndBytes(of: name)
        }
    }

    mutating func append(_ identity: Identity?) {
        append(identity?.principal)
        guard let identity else { return }
        appendZigzag(identity.expiresMilliseconds)
        append(identity.issuedMilliseconds == nil ? 0 : 1)
        if let issued = identity.issuedMilliseconds { appendZigzag(issued) }
        appendOptional(identity.tokenID)
        append(identity.isAdministrator ? 1 : 0)
        for action in ChannelAction.allCases {
            let patterns = identity.grants[action]
            append(patterns == nil ? 0 : 1)
            guard let patterns else { continue }
            appendNumber(patterns.count)
            for pattern in patterns { appendLengthAndBytes(of: pattern.string) }
        }
    }
}

extension ByteReader {
    mutating func optionalPrincipal() throws(LinkDamage) -> Identity.Principal? {
        switch try byte() {
        case 0: nil
        case 1: .user(try text())
        case 2: .key(try text())
        default: throw LinkDamage()
        }
    }

    mutating func optionalIdentity() throws(LinkDamage) -> Identity? {
        guard let principal = try optionalPrincipal() else { return nil }
        var identity = Identity(principal, expiresMilliseconds: try zigzag())
        if try byte() == 1 { identity.issuedMilliseconds = try zigzag() }
        identity.tokenID = try optionalText()
        identity.isAdministrator = try byte() == 1
        for action in ChannelAction.allCases {
            guard try byte() == 1 else { continue }
            var patterns: [ChannelPattern] = []
            for _ in 0..<(try count(upTo: TokenVerifier.bytesMax)) {
                guard let pattern = ChannelPattern(try text()) else { throw LinkDamage() }
                patterns.append(pattern)
            }
            identity.grants[action] = patterns
        }
        return identity
    }
}

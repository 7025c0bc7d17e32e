import HTTPTypes
import JSONCodec

/// Channels that are subscribed to together.
struct WireSubscription: Sendable {
    var channels: [String]
    /// `latest`, `earliest` or a position; nil: as the kinds of the channels begin.
    var after: String?
    var rate: String?
}

/// A request to subscribe (Docs/protocol.md section 4).
struct WireRequest: Sendable {
    /// Long-poll: the seconds to wait, and whose answer it continues: `new` or a session.
    struct Poll: Sendable {
        var waitSeconds: Int
        var session: String
    }

    /// What a server has to take in a request line (RFC 9112 section 3), without the method, the version and what a proxy puts before it.
    private static let pathBytesMax = 7000
    private static let paddingBytes = 4096

    var transport: ClientTransport
    var subscriptions: [WireSubscription]
    var user: String?
    var digest = false
    var presence = false
    /// Whether the server is to send its probe messages.
    var measures = false
    var heartbeatSeconds: Int
    var poll: Poll?
    var token: String?

    /// A WebSocket that has too many channels for a request line subscribes by commands.
    var subscribesByCommand: Bool { transport == .webSocket && path.utf8.count > Self.pathBytesMax }

    func make(for address: ServerAddress) -> (request: HTTPRequest, body: [UInt8]) {
        let isPost = transport != .webSocket && (transport != .eventStream || path.utf8.count > Self.pathBytesMax)
        var shown = self
        if subscribesByCommand { shown.subscriptions = [] }
        var request = HTTPRequest(
            method: isPost ? .post : .get, scheme: address.scheme, authority: address.authority, path: isPost ? "/v1/subscribe" : shown.path
        )
        request.headerFields[.accept] = transport.isPoll ? "application/json" : "text/event-stream"
        request.headerFields[.cacheControl] = "no-cache"
        if let token { request.headerFields[.authorization] = "Bearer \(token)" }
        guard isPost else { return (request, []) }
        request.headerFields[.contentType] = "application/json"
        return (request, object)
    }

    /// What goes for all subscriptions: name, and value as JSON.
    private var common: [(name: String, value: WireValue)] {
        var items: [(String, WireValue)] = []
        if let user { items.append(("user", .text(user))) }
        if digest { items.append(("digest", .bool(true))) }
        if presence { items.append(("presence", .bool(true))) }
        if let poll {
            items.append(("wait", .number(poll.waitSeconds)))
            items.append(("session", .text(poll.session)))
            if transport != .longPoll { items.append(("close", .bool(true))) }
        } else {
            items.append(("heartbeat", .number(heartbeatSeconds)))
            if measures { items.append(("probe", .bool(true))) }
            if transport == .eventStreamPadded { items.append(("pad", .number(Self.paddingBytes))) }
        }
        return items
    }

    private var object: [UInt8] {
        var members = common
        if subscriptions.count == 1 {
            members += subscriptions[0].members
        } else {
            members.append(("subscriptions", list))
        }
        return WireValue.object(members).bytes
    }

    private var list: WireValue { .array(subscriptions.map { .object($0.members) }) }

    private var path: String {
        var items = common.map { $0.name + "=" + Self.escape($0.value.plain) }
        if subscriptions.count == 1 {
            let one = subscriptions[0]
            items += one.channels.map { "channel=" + Self.escape($0) }
            if let after = one.after { items.append("after=" + Self.escape(after)) }
            if let rate = one.rate { items.append("rate=" + Self.escape(rate)) }
        } else {
            items.append("subscriptions=" + Self.escape(list.plain))
        }
        return "/v1/subscribe?" + items.joined(separator: "&")
    }

    static func escape(_ text: String) -> String {
        let plain = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~*".utf8)
        return text.utf8.map { byte in
            plain.contains(byte) ? String(UnicodeScalar(byte)) : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
        }.joined()
    }
}

extension WireSubscription {
    var members: [(name: String, value: WireValue)] {
        var members: [(String, WireValue)] = [("channels", .array(channels.map { .text($0) }))]
        if let after { members.append(("after", .text(after))) }
        if let rate { members.append(("rate", .text(rate))) }
        return members
    }
}

/// A JSON value to be written.
indirect enum WireValue: Sendable {
    case text(String)
    case number(Int)
    case bool(Bool)
    case null
    case array([WireValue])
    case object([(name: String, value: WireValue)])

    var bytes: [UInt8] {
        var out: [UInt8] = []
        append(to: &out)
        return out
    }

    /// As a query item has it.
    var plain: String {
        if case .text(let text) = self { return text }
        return String(decoding: bytes, as: UTF8.self)
    }

    private func append(to out: inout [UInt8]) {
        switch self {
        case .text(let text): JSONText.appendString(text, into: &out)
        case .number(let number): JSONText.appendInteger(number, into: &out)
        case .bool(let bool): out += Array((bool ? "true" : "false").utf8)
        case .null: out += Array("null".utf8)
        case .array(let values):
            out.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                value.append(to: &out)
            }
            out.append(UInt8(ascii: "]"))
        case .object(let members):
            out.append(UInt8(ascii: "{"))
            for (index, member) in members.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                JSONText.appendString(member.name, into: &out)
                out.append(UInt8(ascii: ":"))
                member.value.append(to: &out)
            }
            out.append(UInt8(ascii: "}"))
        }
    }
}

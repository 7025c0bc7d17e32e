import JSONCodec

/// Something that the server says of the channels: notification, snapshot, gap, digest, ack, unread or presence (Docs/protocol.md,
/// section 4).
public struct ClientMessage: Sendable, Equatable {
    public var type: String
    public var channel: String?
    /// The number of a notification in its channel.
    public var sequence: Int?
    /// Where to go on from behind it; nil: it does not move the place.
    public var position: String?
    /// How many notifications of the channel before it were left out on purpose.
    public var skipped: Int
    /// The whole JSON object as it was sent.
    public var json: [UInt8]
}

/// One object of the protocol, with what is looked at of it.
struct WireObject {
    var message: ClientMessage
    /// Of a gap that tells no channel: those of its subscription.
    var channels: [String]?
    /// Of a gap or a digest: the last sequence that it is about.
    var to: Int?
    var slice: JSONSlice

    /// - Returns: nil if it is not an object with a type.
    init?(_ bytes: [UInt8]) {
        guard let slice = try? JSONSlice.minify(bytes) else { return nil }
        self.init(slice, json: bytes)
    }

    init?(_ slice: JSONSlice, json: [UInt8]) {
        guard slice.kind == .object else { return nil }
        self.slice = slice
        message = ClientMessage(type: "", skipped: 0, json: json)
        for (name, value) in slice.members {
            switch name {
            case "type": message.type = value.string() ?? ""
            case "channel": message.channel = value.string()
            case "channels": channels = value.elements.compactMap { $0.string() }
            case "sequence": message.sequence = Self.count(value)
            case "position": message.position = value.string()
            case "skipped": message.skipped = Self.count(value) ?? 0
            case "to": to = Self.count(value)
            default: break
            }
        }
        if message.type.isEmpty { return nil }
    }

    private static func count(_ value: JSONSlice) -> Int? {
        value.integer().flatMap { $0 < 0 ? nil : Int(exactly: $0) }
    }

    /// A whole number that is a member.
    func integer(_ name: String) -> Int? {
        slice[name]?.integer().flatMap { Int(exactly: $0) }
    }
}

extension JSONSlice {
    /// Checks what came from a server.
    static func minify(_ bytes: [UInt8]) throws -> JSONSlice {
        var out: [UInt8] = []
        try bytes.withUnsafeBytes { try JSONText.minify($0, into: &out) }
        return JSONSlice(out[...])
    }
}

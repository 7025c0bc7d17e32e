import JSONCodec
package import NotificationCore

/// Who is on a channel: a page of it.
package struct PresenceQuestion: Sendable, Equatable {
    package static let limitMax = 1000

    package var channel: ChannelName
    /// The `next` of the page before; nil: from the beginning.
    package var after: String?
    /// Members of a page.
    package var limit = 100

    package init(channel: ChannelName, after: String? = nil, limit: Int = 100) {
        self.channel = channel
        self.after = after
        self.limit = limit
    }

    /// Of `GET /v1/channels/{channel}/presence`.
    package init(channel: ChannelName, items: QueryItems) throws(Problem) {
        self.channel = channel
        for (name, value) in items.pairs {
            switch name {
            case "after": after = value
            case "limit":
                guard let number = Int(value), (1...Self.limitMax).contains(number) else {
                    throw .badParameter(name, "1 to \(Self.limitMax) is wanted")
                }
                limit = number
            default: throw .badParameter(name, "is not known here; known are after, limit")
            }
        }
    }

    /// Of the command `presence`; `id` is that of the command.
    init(_ value: JSONSlice, _ id: CommandID?) throws(WebSocketCommand.Refusal) {
        func refuse(_ code: String, _ message: String) -> WebSocketCommand.Refusal {
            WebSocketCommand.Refusal(id: id, code: code, message: message)
        }
        guard let text = value["channel"]?.string() else { throw refuse("bad_channel", "\"channel\" is missing") }
        guard let channel = ChannelName(text) else { throw refuse("bad_channel", Problem.badChannel(text).detail) }
        self.channel = channel
        if let after = value["after"], after.kind != .null {
            guard let text = after.string() else { throw refuse("bad_command", "\"after\" is the \"next\" of an earlier page") }
            self.after = text
        }
        if let limit = value["limit"] {
            guard let number = limit.integer().flatMap({ Int(exactly: $0) }), (1...Self.limitMax).contains(number) else {
                throw refuse("bad_command", "\"limit\" is 1 to \(Self.limitMax)")
            }
            self.limit = number
        }
    }
}

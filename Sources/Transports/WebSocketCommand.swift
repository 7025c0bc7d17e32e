package import JSONCodec
package import NotificationCore

/// What a client asks: one JSON object, in a text frame of a WebSocket or in a request of its session.
package struct WebSocketCommand: Sendable {
    package enum Action: Sendable {
        case subscribe([ChannelPattern], StartPoint?, Rate?)
        case unsubscribe([ChannelPattern])
        case publish(Publication)
        case acknowledge(Acknowledgement)
        /// nil: as soon as there is something. Without a channel, of what the URL subscribed to.
        case rate(Rate?, ChannelPattern?)
        case path(PathReport)
        case refresh(String)
        case ping
        case presence(PresenceQuestion)
    }

    /// What is answered to a command that is refused.
    package struct Refusal: Error {
        package var id: CommandID?
        package var code: String
        package var message: String
        /// What decided it, and where that is configured.
        package var rule: String?
        package var configurationKey: String?

        package init(id: CommandID?, code: String, message: String, rule: String? = nil, configurationKey: String? = nil) {
            self.id = id
            self.code = code
            self.message = message
            self.rule = rule
            self.configurationKey = configurationKey
        }

        package var reply: [UInt8] {
            WebSocketReply.refused(id, code: code, message: message, rule: rule, configurationKey: configurationKey)
        }
    }

    package var id: CommandID?
    package var action: Action
    /// Of `subscribe`: whether to be told who comes to the channels and leaves them.
    package var wantsPresence = false

    package init(id: CommandID?, action: Action) {
        self.id = id
        self.action = action
    }

    /// - Throws: a refusal to be answered; nil if the text is not JSON at all, which ends the connection.
    package static func read(_ text: [UInt8]) throws(Refusal) -> WebSocketCommand? {
        guard let value = try? JSONSlice.checked(text[...]) else { return nil }
        return try read(value)
    }

    package static func read(_ value: JSONSlice) throws(Refusal) -> WebSocketCommand {
        guard value.kind == .object else { throw Refusal(id: nil, code: "bad_command", message: "a command is an object") }
        let id = try commandID(value)
        func refuse(_ code: String, _ message: String) -> Refusal { Refusal(id: id, code: code, message: message) }
        guard let type = value["type"]?.string() else { throw refuse("bad_command", "\"type\" is missing") }
        switch type {
        case "subscribe":
            var start: StartPoint?
            if let after = value["after"] {
                guard let point = after.string().flatMap({ StartPoint($0) }) else {
                    throw refuse("bad_position", "\"after\" is \"latest\", \"earliest\" or a position")
                }
                start = point
            }
            var command = WebSocketCommand(id: id, action: .subscribe(try patterns(value, id), start, try rate(value, id)))
            if let wish = value["presence"], wish.kind != .null {
                guard let truth = wish.bool() else { throw refuse("bad_command", "\"presence\" is true or false") }
                command.wantsPresence = truth
            }
            return command
        case "unsubscribe":
            return WebSocketCommand(id: id, action: .unsubscribe(try patterns(value, id)))
        case "publish":
            do throws(Problem) {
                return WebSocketCommand(id: id, action: .publish(try PublicationReader.item(value, ignoring: ["id", "type"])))
            } catch {
                throw refuse(error.type == "bad-channel" ? "bad_channel" : "bad_data", error.detail)
            }
        case "ack":
            do throws(Problem) {
                return WebSocketCommand(id: id, action: .acknowledge(try Acknowledgement(value, ignoring: ["id", "type"])))
            } catch {
                throw refuse(error.type == "bad-channel" ? "bad_channel" : "bad_ack", error.detail)
            }
        case "rate":
            let channel = value["channel"] == nil ? nil : try patterns(value, id).first
            return WebSocketCommand(id: id, action: .rate(try rate(value, id), channel))
        case "path":
            guard let rung = value["transport"]?.string().flatMap({ PathReport.Rung(rawValue: $0) }),
                let verdict = value["verdict"]?.string().flatMap({ PathReport.Verdict(rawValue: $0) })
            else { throw refuse("bad_command", "\"transport\" or \"verdict\" is not known") }
            return WebSocketCommand(id: id, action: .path(PathReport(rung: rung, verdict: verdict)))
        case "refresh":
            guard let token = value["token"]?.string() else { throw refuse("bad_token", "\"token\" is missing") }
            return WebSocketCommand(id: id, action: .refresh(token))
        case "ping":
            return WebSocketCommand(id: id, action: .ping)
        case "presence":
            return WebSocketCommand(id: id, action: .presence(try PresenceQuestion(value, id)))
        default:
            throw refuse("unknown_command", "known are subscribe, unsubscribe, publish, ack, rate, path, refresh, ping, presence")
        }
    }

    private static func commandID(_ value: JSONSlice) throws(Refusal) -> CommandID? {
        guard let id = value["id"], id.kind != .null else { return nil }
        guard id.bytes.count <= CommandID.bytesMax, id.kind == .string || (id.kind == .number && id.integer() != nil) else {
            throw Refusal(id: nil, code: "bad_command", message: "\"id\" is an integer or a string of at most 64 bytes")
        }
        return CommandID(json: Array(id.bytes))
    }

    private static func rate(_ value: JSONSlice, _ id: CommandID?) throws(Refusal) -> Rate? {
        guard let text = value["rate"], text.kind != .null else { return nil }
        guard let rate = text.string().flatMap({ Rate($0) }) else {
            throw Refusal(id: id, code: "bad_rate", message: SubscribeRequest.rateWords)
        }
        return rate
    }

    private static func patterns(_ value: JSONSlice, _ id: CommandID?) throws(Refusal) -> [ChannelPattern] {
        var texts: [String?] = []
        if let one = value["channel"] { texts.append(one.string()) }
        if let several = value["channels"], several.kind == .array { texts += several.elements.prefix(10_000).map { $0.string() } }
        guard !texts.isEmpty else { throw Refusal(id: id, code: "bad_channel", message: "\"channel\" is missing") }
        var patterns: [ChannelPattern] = []
        for text in texts {
            guard let pattern = text.flatMap({ ChannelPattern($0) }), !pattern.isReserved else {
                throw Refusal(id: id, code: "bad_channel", message: Problem.badChannel(text ?? "").detail)
            }
            patterns.append(pattern)
        }
        return patterns
    }
}

/// The `id` of a command, as the JSON text that it came in.
package struct CommandID: Sendable {
    static let bytesMax = 66

    let json: [UInt8]
}

/// Answers to commands.
package enum WebSocketReply {
    package static func done(
        _ id: CommandID?, members: [(String, String)] = [], sequence: UInt64? = nil, unread: Int? = nil
    ) -> [UInt8] {
        var out = begin(id)
        for (name, value) in members {
            out.append(contentsOf: ",\"\(name)\":".utf8)
            JSONText.appendString(value, into: &out)
        }
        if let sequence { out.append(contentsOf: ",\"sequence\":\(sequence)".utf8) }
        if let unread { out.append(contentsOf: ",\"unread\":\(unread)".utf8) }
        out.append(UInt8(ascii: "}"))
        return out
    }

    /// - Parameter object: a JSON object, whose members go into the answer.
    package static func done(_ id: CommandID?, object: [UInt8]) -> [UInt8] {
        begin(id) + [UInt8(ascii: ",")] + object.dropFirst()
    }

    package static func refreshed(_ id: CommandID?, expiresInMilliseconds: Int) -> [UInt8] {
        begin(id) + Array(",\"expires_in_ms\":\(expiresInMilliseconds)}".utf8)
    }

    package static func refused(
        _ id: CommandID?, code: String, message: String, rule: String? = nil, configurationKey: String? = nil
    ) -> [UInt8] {
        var out = begin(id)
        out.append(contentsOf: #","error":{"code":"#.utf8)
        JSONText.appendString(code, into: &out)
        out.append(contentsOf: #","message":"#.utf8)
        JSONText.appendString(message, into: &out)
        for (name, value) in [("rule", rule), ("configuration_key", configurationKey)] {
            guard let value else { continue }
            out.append(contentsOf: ",\"\(name)\":".utf8)
            JSONText.appendString(value, into: &out)
        }
        out.append(contentsOf: "}}".utf8)
        return out
    }

    private static func begin(_ id: CommandID?) -> [UInt8] {
        var out = Array(#"{"type":"reply""#.utf8)
        if let id {
            out.append(contentsOf: ",\"id\":".utf8)
            out.append(contentsOf: id.json)
        }
        return out
    }
}

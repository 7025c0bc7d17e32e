package import JSONCodec
package import NotificationCore

/// Makes publications of what publishers send.
package enum PublicationReader {
    /// Items of one batch request: enough for throughput, few enough that one request does not hold the log up.
    package static let itemsMax = 1000

    /// Fields beside the payload, by their names in query items and batch items.
    package struct Fields {
        package var event: FieldText?
        package var key: FieldText?
        package var priority = Priority.normal
        package var ttlSeconds: UInt32?
        package var replaces: FieldText?
        package var change: Change?
        package var trace: TraceParent?

        package init() {}

        /// - Returns: false if there is no field of that name.
        package mutating func take(_ name: String, _ value: String) throws(Problem) -> Bool {
            switch name {
            case "event": event = try text(name, value)
            case "key": key = try text(name, value)
            case "replaces": replaces = try text(name, value)
            case "priority":
                guard let known = Priority(rawValue: value) else { throw .badParameter(name, "low, normal, high or critical is wanted") }
                priority = known
            case "ttl":
                guard let seconds = UInt32(value) else { throw .badParameter(name, "whole seconds are wanted") }
                ttlSeconds = seconds
            case "change":
                guard let known = Change(rawValue: value) else { throw .badParameter(name, "only \"merge\" is known") }
                change = known
            case "traceparent":
                guard let known = TraceParent(value) else { throw .badParameter(name, "it is not of the form of W3C Trace Context") }
                trace = known
            default: return false
            }
            return true
        }

        private func text(_ name: String, _ value: String) throws(Problem) -> FieldText {
            guard let text = FieldText(value) else {
                throw .badParameter(name, "1 to \(FieldText.bytesMax) bytes without control characters are wanted")
            }
            return text
        }
    }

    package static func publication(
        _ channel: ChannelName, data: [UInt8], isBase64: Bool = false, _ fields: Fields
    ) -> Publication {
        var publication = Publication(
            channel: channel, data: data, isBase64: isBase64, event: fields.event, key: fields.key, priority: fields.priority,
            ttlSeconds: fields.ttlSeconds, replaces: fields.replaces, change: fields.change
        )
        publication.trace = fields.trace
        return publication
    }

    /// `{"channel":…,"data":…, …}` of checked JSON, from a batch or a WebSocket command.
    ///
    /// - Parameter ignoring: members that belong to the command around it.
    package static func item(_ value: JSONSlice, ignoring: Set<String> = []) throws(Problem) -> Publication {
        guard value.kind == .object else { throw .badJSON("an item has to be an object") }
        var channel: ChannelName?
        var data: [UInt8]?
        var isBase64 = false
        var fields = Fields()
        var members = value.members
        while let (rawName, member) = members.nextRaw() {
            let name = rawName.isPlainString("channel") ? "channel" : rawName.isPlainString("data") ? "data" : rawName.string()!
            if !ignoring.isEmpty, ignoring.contains(name) { continue }
            switch name {
            case "channel":
                let text = member.string() ?? ""
                guard let known = ChannelName(text) else { throw .badChannel(text) }
                channel = known
            case "data":
                data = Array(member.bytes)
            case "encoding":
                guard member.string() == "base64" else { throw .badParameter(name, "only \"base64\" is known") }
                isBase64 = true
            case "ttl":
                guard let seconds = member.integer() else { throw .badParameter(name, "whole seconds are wanted") }
                _ = try fields.take(name, String(seconds))
            default:
                guard let text = member.string() else { throw .badParameter(name, "is not known, or not a string") }
                guard try fields.take(name, text) else { throw .badParameter(name, "is not known") }
            }
        }
        guard let channel else { throw .badParameter("channel", "is missing") }
        guard let data else { throw .badParameter("data", "is missing") }
        if isBase64, !isBase64Text(data) { throw .badParameter("data", "is not base64, as \"encoding\" says") }
        return publication(channel, data: data, isBase64: isBase64, fields)
    }

    /// Whether a JSON text is a string of base64 with its padding (RFC 4648 section 4), without escapes.
    private static func isBase64Text(_ text: [UInt8]) -> Bool {
        guard text.count >= 2, text[0] == UInt8(ascii: "\""), (text.count - 2) % 4 == 0 else { return false }
        let letters = text[1..<text.count - 1]
        let padding = letters.suffix(2).count { $0 == UInt8(ascii: "=") }
        return letters.dropLast(padding).allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "+"), UInt8(ascii: "/"):
                true
            default: false
            }
        }
    }
}

extension JSONSlice {
    /// Checks and minifies.
    package static func checked(_ text: ArraySlice<UInt8>) throws(Problem) -> JSONSlice {
        JSONSlice(try minified(text)[...])
    }

    package static func minified(_ text: ArraySlice<UInt8>) throws(Problem) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(text.count)
        try minify(text, into: &out)
        return out
    }

    static func minify(_ text: ArraySlice<UInt8>, into out: inout [UInt8]) throws(Problem) {
        var fault: JSONFault?
        text.withUnsafeBytes { bytes in
            do throws(JSONFault) { try JSONText.minify(bytes, into: &out) } catch { fault = error }
        }
        if let fault { throw .badJSON(fault.description) }
    }

    package static func object(_ body: [UInt8]) throws(Problem) -> JSONSlice {
        let value = try checked(body[...])
        guard value.kind == .object else { throw .badJSON("an object is wanted") }
        return value
    }
}

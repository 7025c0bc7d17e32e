package import HTTPTypes
import JSONCodec
package import NotificationCore

/// The ways in which notifications reach a subscriber.
package enum Transport: String, Sendable, CaseIterable {
    case webSocket = "websocket"
    case eventStream = "sse"
    case longPoll = "long_poll"
}

/// Bounds of what a subscriber may ask for.
package struct SubscribeLimits: Sendable {
    /// Patterns of a subscriber: each has a place in a table.
    package var channelsMax = 100
    /// Long enough for a quiet line, short enough for the usual 60 s of a proxy.
    package var heartbeatSecondsDefault = 25
    package var heartbeatSecondsMax = 300
    package var paddingMax = 65_536
    package var waitSecondsDefault = 25
    package var waitSecondsMax = 300

    package init() {}
}

/// What `/v1/subscribe` was asked for; the same for all transports.
package struct SubscribeRequest: Sendable, Equatable {
    package var patterns: [ChannelPattern] = []
    /// nil: not said.
    package var after: StartPoint?
    package var heartbeatSeconds: Int
    /// SSE: the payload alone as `data`, for a plain EventSource.
    package var isRaw = false
    package var paddingBytes = 0
    package var waitSeconds: Int
    /// nil: as soon as there is something.
    package var rate: Rate?
    /// Whose alerts they are.
    package var user: FieldText?
    /// Alerts that were missed come in short.
    package var isDigest = false

    /// What of it concerns reading.
    package var readingOptions: ReadingOptions {
        var options = ReadingOptions()
        options.user = user
        options.isDigest = isDigest
        options.isPaced = rate != nil
        return options
    }

    /// The user's own channel comes with the others: what was read on another device.
    package var allPatterns: [ChannelPattern] {
        guard let user, let own = ChannelName(acknowledgementsOf: user) else { return patterns }
        return patterns + [ChannelPattern(own)]
    }

    /// Which transport a request wants.
    package static func transport(of request: HTTPRequest, isUpgradeToWebSocket: Bool) -> Transport {
        if isUpgradeToWebSocket { return .webSocket }
        let accepts = request.headerFields[values: .accept].contains { $0.lowercased().contains("text/event-stream") }
        return accepts ? .eventStream : .longPoll
    }

    /// Whether `Accept` lets the answer be what the transport sends (RFC 9110, section 12.5.1).
    package static func accepts(_ request: HTTPRequest, _ transport: Transport) -> Bool {
        let ranges = request.headerFields[values: .accept].flatMap { $0.lowercased().split(separator: ",") }
        guard transport == .longPoll, !ranges.isEmpty else { return true }
        return ranges.contains { range in
            ["*/*", "application/*", "application/json"].contains(range.prefix { $0 != ";" }.trimmed)
        }
    }

    /// From a GET.
    package init(_ request: HTTPRequest, items: QueryItems, limits: SubscribeLimits) throws(Problem) {
        self.init(limits: limits)
        var reader = Reader(limits: limits, request: self)
        for (name, value) in items.pairs { try reader.take(name, value) }
        self = try reader.finish(request)
    }

    /// From a POST with a JSON body.
    package init(_ request: HTTPRequest, body: [UInt8], limits: SubscribeLimits) throws(Problem) {
        self.init(limits: limits)
        var reader = Reader(limits: limits, request: self)
        let object = try JSONSlice.object(body)
        for (name, value) in object.members {
            switch name {
            case "channels":
                guard value.kind == .array else { throw .badParameter(name, "an array of channels is wanted") }
                for element in value.elements { try reader.take("channel", element.string() ?? "") }
            case "heartbeat", "pad", "wait":
                guard let number = value.integer() else { throw .badParameter(name, "a whole number is wanted") }
                try reader.take(name, String(number))
            case "digest":
                try reader.take(name, String(decoding: value.bytes, as: UTF8.self))
            case "channel", "after", "format", "rate", "user":
                guard let text = value.string() else { throw .badParameter(name, "a string is wanted") }
                try reader.take(name, text)
            default:
                throw .badParameter(name, "is not known")
            }
        }
        self = try reader.finish(request)
    }

    private init(limits: SubscribeLimits) {
        heartbeatSeconds = limits.heartbeatSecondsDefault
        waitSeconds = limits.waitSecondsDefault
    }

    private struct Reader {
        let limits: SubscribeLimits
        var request: SubscribeRequest

        mutating func take(_ name: String, _ value: String) throws(Problem) {
            switch name {
            case "channel":
                guard let pattern = ChannelPattern(value), !pattern.isReserved else { throw .badChannel(value) }
                guard request.patterns.count < limits.channelsMax else { throw SubscribeRequest.tooManyChannels(limits) }
                request.patterns.append(pattern)
            case "after":
                request.after = try SubscribeRequest.startPoint(value)
            case "heartbeat":
                request.heartbeatSeconds = try number(name, value, 1...limits.heartbeatSecondsMax)
            case "pad":
                request.paddingBytes = try number(name, value, 0...limits.paddingMax)
            case "wait":
                request.waitSeconds = min(try number(name, value, 0...Int.max), limits.waitSecondsMax)
            case "format":
                guard value == "raw" else { throw .badParameter(name, "only \"raw\" is known") }
                request.isRaw = true
            case "rate":
                guard let rate = Rate(value) else { throw .badParameter(name, SubscribeRequest.rateWords) }
                request.rate = rate
            case "user":
                request.user = try SubscribeRequest.user(name, value)
            case "digest":
                guard value == "true" || value == "false" else { throw .badParameter(name, "true or false is wanted") }
                request.isDigest = value == "true"
            default:
                throw .badParameter(
                    name, "is not known here; known are channel, after, heartbeat, format, pad, wait, rate, user, digest"
                )
            }
        }

        func number(_ name: String, _ value: String, _ range: ClosedRange<Int>) throws(Problem) -> Int {
            guard let number = Int(value), range.contains(number) else {
                throw .badParameter(name, "a whole number from \(range.lowerBound) to \(range.upperBound) is wanted")
            }
            return number
        }

        /// What the header fields say.
        func finish(_ http: HTTPRequest) throws(Problem) -> SubscribeRequest {
            var request = request
            if let id = http.headerFields[.lastEventID], !id.isEmpty { request.after = try SubscribeRequest.startPoint(id) }
            for preference in http.headerFields[values: .prefer].flatMap({ $0.split(separator: ",") }) {
                let parts = preference.split(separator: "=", maxSplits: 1)
                if parts.count == 2, parts[0].trimmed == "wait", let seconds = Int(parts[1].trimmed), seconds >= 0 {
                    request.waitSeconds = min(seconds, limits.waitSecondsMax)
                }
            }
            return request
        }
    }

    package static let rateWords = "a count per second, minute or hour is wanted, at most 50/s: 2/s, 0.5/s, 6/m"

    package static func user(_ name: String, _ value: String) throws(Problem) -> FieldText {
        guard let user = FieldText(value), ChannelName(acknowledgementsOf: user) != nil else {
            throw .badParameter(name, "1 to \(ChannelName.userBytesMax) bytes without control characters are wanted")
        }
        return user
    }

    package static func startPoint(_ text: String) throws(Problem) -> StartPoint {
        guard let start = StartPoint(text) else {
            throw Problem(
                "bad-position", "Not a position", status: 400,
                detail: "\"\(text.prefix(80))\" is not \"latest\", \"earliest\" or a position that this server gave out"
            )
        }
        return start
    }

    package static func tooManyChannels(_ limits: SubscribeLimits) -> Problem {
        Problem(
            "too-many-channels", "Too many channels", status: 400, detail: "a subscriber may have \(limits.channelsMax)",
            rule: "channels per subscriber", configurationKey: "subscribe.channels_max"
        )
    }
}

extension HTTPField.Name {
    package static let lastEventID = HTTPField.Name("Last-Event-ID")!
    package static let prefer = HTTPField.Name("Prefer")!
    package static let preferenceApplied = HTTPField.Name("Preference-Applied")!
    package static let idempotencyKey = HTTPField.Name("Idempotency-Key")!
    package static let accelBuffering = HTTPField.Name("X-Accel-Buffering")!
}

extension Substring {
    /// Without the blanks around it.
    package var trimmed: String {
        String(drop { $0 == " " || $0 == "\t" }.reversed().drop { $0 == " " || $0 == "\t" }.reversed())
    }
}

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
    /// One of the subscriptions of a request. Each has a position of its own.
    package struct Subscription: Sendable, Equatable {
        package var patterns: [ChannelPattern] = []
        /// nil: not said.
        package var after: StartPoint?
        /// nil: as soon as there is something.
        package var rate: Rate?
    }

    /// At least one, which may be without channels.
    package var subscriptions = [Subscription()]
    /// Whether the request had a list of subscriptions: then so have the answers.
    package var isList = false
    package var heartbeatSeconds: Int
    /// SSE: the payload alone as `data`, for a plain EventSource.
    package var isRaw = false
    package var paddingBytes = 0
    package var waitSeconds: Int
    /// Long-poll: the connection is to be closed after the answer.
    package var closes = false
    /// Long-poll: it belongs to a session.
    package var session: PollSession?
    /// The client wants to be sent what shows whether the way to it holds things back.
    package var isProbing = false
    /// Whose alerts they are.
    package var user: FieldText?
    /// Alerts that were missed come in short.
    package var isDigest = false
    /// The client wants to be told who comes to its channels and leaves them.
    package var wantsPresence = false

    package enum PollSession: Sendable, Equatable {
        case new
        case known(SessionID)
    }

    package var patterns: [ChannelPattern] { subscriptions.flatMap(\.patterns) }

    /// What of it concerns reading, but for the rates.
    package var readingOptions: ReadingOptions {
        var options = ReadingOptions()
        options.user = user
        options.isDigest = isDigest
        return options
    }

    /// The channels of one of its subscriptions. With the first one comes the user's own: what was read on another device.
    package func allPatterns(_ index: Int) -> [ChannelPattern] {
        let patterns = subscriptions[index].patterns
        guard index == 0, let user, let own = ChannelName(acknowledgementsOf: user) else { return patterns }
        return patterns + [ChannelPattern(own)]
    }

    /// Which transport a request wants.
    package static func transport(of request: HTTPRequest, isUpgradeToWebSocket: Bool) -> Transport {
        if isUpgradeToWebSocket { return .webSocket }
        return ranges(request).contains { $0.name == "text/event-stream" && !$0.isRefused } ? .eventStream : .longPoll
    }

    /// Whether `Accept` lets the answer be what the transport sends (RFC 9110, section 12.5.1).
    package static func accepts(_ request: HTTPRequest, _ transport: Transport) -> Bool {
        let ranges = ranges(request)
        guard transport == .longPoll, !ranges.isEmpty else { return true }
        return ranges.contains { ["*/*", "application/*", "application/json"].contains($0.name) && !$0.isRefused }
    }

    /// The media ranges of `Accept`, in lower case; one with a weight of 0 is not acceptable.
    private static func ranges(_ request: HTTPRequest) -> [(name: String, isRefused: Bool)] {
        request.headerFields[values: .accept].flatMap { $0.lowercased().split(separator: ",") }.map { range in
            let parts = range.split(separator: ";", omittingEmptySubsequences: false)
            let weight = parts.dropFirst().map(\.trimmed).first { $0.hasPrefix("q=") }?.dropFirst(2)
            return (name: parts[0].trimmed, isRefused: weight.flatMap { Double($0) } == 0)
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
            case "digest", "probe", "close", "presence":
                try reader.take(name, String(decoding: value.bytes, as: UTF8.self))
            case "subscriptions":
                try reader.take(list: value)
            case "channel", "after", "format", "rate", "user", "session":
                guard let text = value.string() else { throw .badParameter(name, "a string is wanted") }
                try reader.take(name, text)
            default:
                throw .badParameter(name, "is not known")
            }
        }
        self = try reader.finish(request)
    }

    /// Of the server itself, to one of its own channels.
    package init(own channel: ChannelName, after: StartPoint?, limits: SubscribeLimits) {
        self.init(limits: limits)
        subscriptions[0].patterns = [ChannelPattern(channel)]
        subscriptions[0].after = after
        heartbeatSeconds = limits.heartbeatSecondsMax
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
            case "channel", "after", "rate":
                guard !request.isList else { throw .badParameter(name, "stands in \"subscriptions\"") }
                try take(single: name, value)
            case "subscriptions":
                guard let list = try? JSONSlice.checked(Array(value.utf8)[...]) else { throw .badParameter(name, Self.listWords) }
                try take(list: list)
            case "heartbeat":
                request.heartbeatSeconds = try number(name, value, 1...limits.heartbeatSecondsMax)
            case "pad":
                request.paddingBytes = try number(name, value, 0...limits.paddingMax)
            case "wait":
                request.waitSeconds = min(try number(name, value, 0...Int.max), limits.waitSecondsMax)
            case "format":
                guard value == "raw" else { throw .badParameter(name, "only \"raw\" is known") }
                request.isRaw = true
            case "user":
                request.user = try SubscribeRequest.user(name, value)
            case "digest":
                request.isDigest = try truth(name, value)
            case "probe":
                request.isProbing = try truth(name, value)
            case "close":
                request.closes = try truth(name, value)
            case "presence":
                request.wantsPresence = try truth(name, value)
            case "session":
                guard value == "new" || SessionID(value) != nil else { throw .badParameter(name, "\"new\" or a session is wanted") }
                request.session = SessionID(value).map { .known($0) } ?? .new
            default:
                throw .badParameter(
                    name,
                    "is not known here; known are channel, after, rate, subscriptions, heartbeat, format, pad, wait, user, digest, "
                        + "probe, close, session, presence"
                )
            }
        }

        private mutating func take(single name: String, _ value: String) throws(Problem) {
            switch name {
            case "after": request.subscriptions[0].after = try SubscribeRequest.startPoint(value)
            case "rate": request.subscriptions[0].rate = try rate(value)
            default: try take(channel: value, 0)
            }
        }

        private static let listWords = #"an array of {"channels":[…],"after":…,"rate":…} is wanted"#

        private mutating func take(channel text: String, _ index: Int) throws(Problem) {
            guard let pattern = ChannelPattern(text), !pattern.isReserved else { throw .badChannel(text) }
            guard request.subscriptions.reduce(0, { $0 + $1.patterns.count }) < limits.channelsMax else {
                throw SubscribeRequest.tooManyChannels(limits)
            }
            if request.isList, let other = request.patterns.first(where: { $0.overlaps(pattern) }) {
                throw Problem(
                    "overlapping-subscriptions", "Subscriptions overlap", status: 400,
                    detail: "\(pattern) and \(other) have channels in common"
                )
            }
            request.subscriptions[index].patterns.append(pattern)
        }

        /// Several subscriptions, each with a position of its own.
        mutating func take(list: JSONSlice) throws(Problem) {
            guard list.kind == .array, !request.isList, request.subscriptions == [Subscription()] else {
                throw .badParameter("subscriptions", Self.listWords + " in place of channel, after and rate")
            }
            request.isList = true
            for (index, element) in list.elements.enumerated() {
                guard index < limits.channelsMax else { throw SubscribeRequest.tooManyChannels(limits) }
                if index > 0 { request.subscriptions.append(Subscription()) }
                do throws(Problem) {
                    try take(element, index)
                } catch {
                    // Which one it is, so that a client can go on with the others.
                    var problem = error
                    problem.pointer = "#/subscriptions/\(index)"
                    throw problem
                }
            }
        }

        private mutating func take(_ element: JSONSlice, _ index: Int) throws(Problem) {
            guard element.kind == .object else { throw .badParameter("subscriptions", Self.listWords) }
            for (name, value) in element.members {
                switch name {
                case "channels" where value.kind == .array:
                    for element in value.elements { try take(channel: element.string() ?? "", index) }
                case "after" where value.kind == .null, "rate" where value.kind == .null: break
                case "after": request.subscriptions[index].after = try SubscribeRequest.startPoint(value.string() ?? "")
                case "rate": request.subscriptions[index].rate = try rate(value.string() ?? "")
                default: throw .badParameter("subscriptions", Self.listWords)
                }
            }
            guard !request.subscriptions[index].patterns.isEmpty else {
                throw Problem("no-channel", "No channel", status: 400, detail: "each of the subscriptions names at least one channel")
            }
        }

        private func rate(_ value: String) throws(Problem) -> Rate {
            guard let rate = Rate(value) else { throw .badParameter("rate", SubscribeRequest.rateWords) }
            return rate
        }

        private func truth(_ name: String, _ value: String) throws(Problem) -> Bool {
            guard value == "true" || value == "false" else { throw .badParameter(name, "true or false is wanted") }
            return value == "true"
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
            if let id = http.headerFields[.lastEventID], !id.isEmpty, !request.isList {
                request.subscriptions[0].after = try SubscribeRequest.startPoint(id)
            }
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
        func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
        guard let first = utf8.firstIndex(where: { !isBlank($0) }), let last = utf8.lastIndex(where: { !isBlank($0) }) else { return "" }
        return String(self[first...last])
    }
}

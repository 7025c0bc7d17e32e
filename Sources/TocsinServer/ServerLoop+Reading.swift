import HTTPTypes
import Identity
import JSONCodec
import NIOCore
import NotificationCore
import NotificationStore
import Transports

/// Reads that are not subscriptions, and the read state of alerts.
extension ServerLoop {
    /// Reads from the store for a request, and answers it with what `reading` makes of that on the reader's thread.
    private func answer(
        _ handle: RequestHandle, reading: @escaping @Sendable (NotificationStore) throws(StoreFault) -> [UInt8]
    ) {
        let bound = bind((self, handle))
        server.log.read(from: self, reading) { result in
            let (loop, handle) = bound.value
            switch result {
            case .success(let body): loop.answer(handle, status: .ok, "application/json", body)
            case .failure(let fault):
                loop.counters.readFaults += 1
                loop.answer(handle, .storeFailed(fault))
            }
        }
    }

    /// Reads from the store for a request, and answers it with what `body` makes of that.
    private func answer<Value: Sendable>(
        _ handle: RequestHandle, reading: @escaping @Sendable (NotificationStore) throws(StoreFault) -> Value,
        _ body: @escaping (ServerLoop, Value) throws(Problem) -> [UInt8]
    ) {
        let bound = bind((self, handle, body))
        server.log.read(from: self, reading) { result in
            let (loop, handle, body) = bound.value
            switch result {
            case .success(let value):
                do throws(Problem) {
                    loop.answer(handle, status: .ok, "application/json", try body(loop, value) + [UInt8(ascii: "\n")])
                } catch {
                    loop.answer(handle, error)
                }
            case .failure(let fault):
                loop.counters.readFaults += 1
                loop.answer(handle, .storeFailed(fault))
            }
        }
    }

    private func channelID(_ channel: ChannelName) throws(Problem) -> ChannelID {
        guard let id = hub.tail.index(of: channel), !channel.isReserved else {
            throw .notFound("nothing was published on \(channel) yet")
        }
        return id
    }

    // MARK: channels

    func info(_ channel: ChannelName, _ handle: RequestHandle) throws(Problem) {
        let id = try channelID(channel)
        answer(handle) { store throws(StoreFault) in
            try store.info(channel: id)
        } _: { loop, info in
            var out = Array(#"{"channel":"\#(channel)","sequence":\#(info.lastSequence),"position":""#.utf8)
            Position.append(epoch: loop.epoch, offset: info.lastOffset, to: &out)
            out.append(UInt8(ascii: "\""))
            if let time = info.newestMilliseconds {
                out.append(contentsOf: #","time":"\#(Timestamp.string(milliseconds: time))""#.utf8)
            }
            if let kind = loop.server.configuration.log.feeds[channel].kind { out.append(contentsOf: #","kind":"\#(kind.rawValue)""#.utf8) }
            out.append(contentsOf: #","first_sequence":\#(info.firstSequence),"count":\#(info.count),"bytes":\#(info.bytes)}"#.utf8)
            return out
        }
    }

    func history(_ channel: ChannelName, _ items: QueryItems, _ handle: RequestHandle) throws(Problem) {
        var after: UInt64 = 0
        var limit = 100
        for (name, value) in items.pairs {
            switch name {
            case "after":
                guard let sequence = UInt64(value) else { throw .badParameter(name, "a sequence is wanted") }
                after = sequence
            case "limit":
                guard let number = Int(value), (1...1000).contains(number) else { throw .badParameter(name, "1 to 1000 is wanted") }
                limit = number
            default:
                throw .badParameter(name, "is not known here; known are after, limit")
            }
        }
        let id = try channelID(channel)
        let (start, count) = (after, limit)
        answer(handle) { store throws(StoreFault) in
            let page = try store.history(channel: id, afterSequence: start, limit: count, bytesMax: LongPollAnswer.bytesMax)
            let info = try store.info(channel: id)
            var out = Array(#"{"channel":"\#(channel)","messages":["#.utf8)
            out.reserveCapacity(page.reduce(200) { $0 + $1.object.count + 1 })
            for (index, notification) in page.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                out.append(contentsOf: notification.object)
            }
            let hasMore = page.last.map { $0.sequence < info.lastSequence } ?? false
            out.append(
                contentsOf: #"],"first_sequence":\#(info.firstSequence),"last_sequence":\#(info.lastSequence),"more":\#(hasMore)}"#.utf8
            )
            out.append(UInt8(ascii: "\n"))
            return out
        }
    }

    /// The state of a channel, as this loop has it.
    func snapshot(_ channel: ChannelName, _ handle: RequestHandle) throws(Problem) {
        let id = try channelID(channel)
        guard let snapshot = hub.tail[channel]?.snapshot else {
            throw .notFound("\(channel) has no state: its feed's kind is not scores or dashboards")
        }
        var out: [UInt8] = []
        ControlObject.append(snapshot, position: Position(epoch: epoch, offset: hub.tail.channels[Int(id)].lastOffset), to: &out)
        answer(handle, status: .ok, "application/json", out + [UInt8(ascii: "\n")])
    }

    // MARK: alerts

    /// `POST /v1/acks`: what a user has read. Answered with what is left unread on that channel.
    func acknowledge(_ items: QueryItems, _ body: [UInt8], _ handle: RequestHandle) throws(Problem) {
        var named: FieldText?
        for (name, text) in items.pairs {
            guard name == "user" else { throw .badParameter(name, "is not known here; known is user") }
            named = try SubscribeRequest.user(name, text)
        }
        try parse(body, handle) { [named] body throws(Problem) in
            let value = try JSONSlice.object(body)
            let user = try value["user"].map { text throws(Problem) in try SubscribeRequest.user("user", text.string() ?? "") }
            return (user: user ?? named, acknowledgement: try Acknowledgement(value, ignoring: ["user"]))
        } then: { loop, said throws(Problem) in
            guard let user = said.user else { throw .badParameter("user", "is missing") }
            try loop.check(user, handle)
            try loop.whenPermitted(.subscribe, [ChannelPattern(said.acknowledgement.channel)], handle) { loop throws(Problem) in
                try loop.whenCaughtUp(handle) { loop in loop.acknowledge(user, said.acknowledgement, handle) }
            }
        }
    }

    private func acknowledge(_ user: FieldText, _ acknowledgement: Acknowledgement, _ handle: RequestHandle) {
        let bound = bind((self, handle))
        acknowledge(user, acknowledgement) { result in
            let (loop, handle) = bound.value
            switch result {
            case .success(let unread):
                loop.answer(
                    handle, status: .ok, "application/json",
                    Array("{\"channel\":\"\(acknowledgement.channel)\",\"unread\":\(unread)}\n".utf8)
                )
            case .failure(let problem):
                loop.answer(handle, problem)
            }
        }
    }

    /// Stores what a user has read, and counts what is left unread on the channel.
    func acknowledge(
        _ user: FieldText, _ acknowledgement: Acknowledgement, completion: @escaping @Sendable (Result<Int, Problem>) -> Void
    ) {
        let channel = acknowledgement.channel
        guard server.configuration.log.feeds[channel].kind == .alerts else {
            return completion(.failure(.badParameter("channel", "its feed's kind is not alerts: there is no read state")))
        }
        let bound = bind(self)
        server.log.acknowledge(
            user, channel, acknowledgement.ranges, isDismissed: acknowledgement.isDismissed, from: self
        ) { outcome in
            let loop = bound.value
            switch outcome {
            case .noChannel: return completion(.failure(.notFound("nothing was published on \(channel) yet")))
            case .storeFailed: return completion(.failure(PublishRefusal.problem(.storeFailed)))
            case .tooManyUsers: return completion(.failure(PublishRefusal.tooManyUsers))
            case .done: break
            }
            guard let id = loop.hub.tail.index(of: channel) else { return completion(.success(0)) }
            loop.server.log.read(from: loop) { store throws(StoreFault) in
                try store.unreadCount(user: user, channels: [id], nowMilliseconds: Clock.wallMilliseconds())
            } completion: { result in
                completion(result.mapError { .storeFailed($0) })
            }
        }
    }

    /// `GET /v1/inbox`: a user's alerts, newest first.
    func inbox(_ items: QueryItems, _ handle: RequestHandle) throws(Problem) {
        var user: FieldText?
        var patterns: [ChannelPattern] = []
        var before = UInt64.max
        var limit = 50
        var isUnreadOnly = false
        for (name, value) in items.pairs {
            switch name {
            case "user": user = try SubscribeRequest.user(name, value)
            case "channel":
                guard let pattern = ChannelPattern(value), !pattern.isReserved else { throw .badChannel(value) }
                guard patterns.count < server.configuration.subscribe.channelsMax else {
                    throw SubscribeRequest.tooManyChannels(server.configuration.subscribe)
                }
                patterns.append(pattern)
            case "before":
                guard let position = Position(value), case .at(let offset) = position.places[0],
                    let last = hub.lastOffset(of: position.epoch, knownHead: server.log.head)
                else { throw .badParameter(name, "the \"before\" of an earlier page is wanted") }
                before = min(offset, last + 1)
            case "limit":
                guard let number = Int(value), (1...200).contains(number) else { throw .badParameter(name, "1 to 200 is wanted") }
                limit = number
            case "unread":
                guard value == "true" || value == "false" else { throw .badParameter(name, "true or false is wanted") }
                isUnreadOnly = value == "true"
            default:
                throw .badParameter(name, "is not known here; known are user, channel, before, limit, unread")
            }
        }
        guard let user else { throw .badParameter("user", "is missing") }
        try check(user, handle)
        if patterns.isEmpty { throw Problem("no-channel", "No channel", status: 400, detail: "name at least one channel: &channel=…") }
        let page = InboxPage(user: user, before: before, limit: limit, isUnreadOnly: isUnreadOnly)
        try whenPermitted(.subscribe, patterns, handle) { [patterns] loop in loop.answerInbox(page, patterns, handle) }
    }

    private struct InboxPage: Sendable {
        var user: FieldText
        var before: UInt64
        var limit: Int
        var isUnreadOnly: Bool
    }

    private func answerInbox(_ page: InboxPage, _ patterns: [ChannelPattern], _ handle: RequestHandle) {
        let channels = alertChannels(patterns)
        let (user, start, count, unreadOnly) = (page.user, page.before, page.limit, page.isUnreadOnly)
        answer(handle) { store throws(StoreFault) in
            let now = Clock.wallMilliseconds()
            let found = try store.inbox(
                user: user, channels: channels, before: start, unreadOnly: unreadOnly, limit: count + 1, nowMilliseconds: now
            )
            return (found, try store.unreadCount(user: user, channels: channels, nowMilliseconds: now))
        } _: { loop, answer in
            let (found, unread) = answer
            var out = Array(#"{"unread":\#(unread),"messages":["#.utf8)
            for (index, item) in found.prefix(count).enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                out.append(contentsOf: item.notification.object.dropLast())
                out.append(contentsOf: ",\"read\":\(item.isRead)}".utf8)
            }
            out.append(UInt8(ascii: "]"))
            if found.count > count {
                let next = Position(epoch: loop.epoch, offset: found[count - 1].notification.offset)
                out.append(contentsOf: ",\"before\":\"\(next)\"".utf8)
            }
            out.append(UInt8(ascii: "}"))
            return out
        }
    }

    func alertChannels(_ patterns: [ChannelPattern]) -> [ChannelID] {
        var channels: Set<ChannelID> = []
        for pattern in patterns {
            if let name = pattern.name {
                if let id = hub.tail.index(of: name) { channels.insert(id) }
            } else {
                for (id, channel) in hub.tail.channels.enumerated() where !channel.name.isReserved && pattern.matches(channel.name) {
                    channels.insert(ChannelID(id))
                }
            }
        }
        return channels.filter { hub.tail.channels[Int($0)].feed.kind == .alerts }.sorted()
    }
}

extension Problem {
    static func storeFailed(_ fault: StoreFault) -> Problem {
        Problem("store-failed", "The log cannot be read", status: 503, detail: "\(fault)", retryAfterSeconds: 2)
    }
}

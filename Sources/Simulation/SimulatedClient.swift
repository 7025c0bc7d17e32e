import EventStreamCodec
import JSONCodec
import NotificationCore
import TocsinServer

/// A subscriber: of each of its subscriptions it keeps the position of the last message that it has dealt with, and comes back with it on
/// any transport.
final class SimulatedClient {
    /// The channels of one request, or a part of them.
    struct Subscription {
        let patterns: [ChannelPattern]
        let account: Account
        var position = ""
        /// Where it begins to listen is not known yet.
        var isNew = false
    }

    private struct Polling {
        var wait: Int
        /// How long comes as a preference, and not in the query.
        var prefers: Bool
        var isByPost: Bool
    }

    private static let rates: [(words: String, milliseconds: Int64)] = [
        ("20/s", 50), ("10/s", 100), ("5/s", 200), ("2/s", 500), ("100/m", 600),
    ]
    /// Seconds without an answer, after which it asks again.
    private static let patienceMilliseconds: Int64 = 12_000

    let name: String
    let run: Run
    private(set) var subscriptions: [Subscription]
    /// Its subscriptions have positions of their own.
    private let isList: Bool
    private let user: FieldText?
    private let rate: String?
    private let isDigest: Bool
    private let start: StartPoint?
    private let isSlow: Bool
    private var channel: SimulatedChannel?
    private var line: (any ClientLine)?
    private var way = Way.webSocket
    /// Of an event stream: payloads come alone.
    private var isRaw = false
    /// The last of the stream.
    private var eventID = ""
    private var loop = 0
    /// Of its polls; empty: none.
    private var pollSession = ""
    /// How it asks.
    private var polling: Polling?
    /// What it was last told of how many alerts are unread, and since when it is connected.
    private var unread: Int?
    private var since: Int64 = 0
    /// When its last poll was answered.
    private var answered: Int64 = 0

    init(number: Int, run: Run) {
        self.run = run
        name = "client \(number)"
        let wildcards = [
            ["alerts.>"], ["dashboards.*"], ["scores.>", "plain.p"], ["*.x", "alerts.a"], [">"], ["plain.*", "dashboards.x"],
        ]
        let exact = [["alerts.a"], ["dashboards.x"], ["scores.m"], ["plain.p"], ["dashboards.y", "scores.n"], ["alerts.b", "plain.q"]]
        isSlow = run.chance.happens(30)
        let patterns: [ChannelPattern]
        if let crowd = run.scenario.crowdPattern {
            patterns = [ChannelPattern(crowd)!]
            (user, rate, isDigest, start, isList) = (nil, nil, false, .earliest, false)
        } else {
            patterns = (run.chance.happens(50) ? run.chance.one(of: wildcards) : run.chance.one(of: exact)).map { ChannelPattern($0)! }
            user = run.chance.happens(35) ? FieldText(run.chance.one(of: Run.users)) : nil
            rate = run.chance.happens(25) ? run.chance.one(of: Self.rates).words : nil
            isDigest = run.chance.happens(25)
            start = run.chance.one(of: [nil, nil, .latest, .earliest])
            isList = run.chance.happens(30)
        }
        let (name, user) = (name, user)
        subscriptions = (isList ? patterns.map { [$0] } : [patterns]).enumerated().map { index, patterns in
            Subscription(patterns: patterns, account: Account(name: "\(name).\(index)", patterns: patterns, user: user?.string))
        }
    }

    var words: String {
        let channels = subscriptions.map { $0.patterns.map(\.string).joined(separator: " ") }.joined(separator: " | ")
        var words = "\(name): \(channels) from \(start.map { "\($0)" } ?? "nothing")"
        if let user { words += " user \(user)" }
        if let rate { words += " rate \(rate)" }
        if isDigest { words += " digest" }
        return words + (isSlow ? " slow" : "") + (isList ? " list" : "")
    }

    // MARK: there and away

    func connect() {
        guard channel == nil else { return }
        let loop = run.chance.number(0...1)
        guard let channel = run.network.connect(loop: loop) else { return retry() }
        self.channel = channel
        self.loop = loop
        for index in subscriptions.indices { subscriptions[index].isNew = isNew(subscriptions[index]) }
        repeat { way = run.chance.one(of: Way.allCases) } while way == .longPollOnHTTP2 && subscriptions.contains(where: \.isNew)
        isRaw = way.isEventStream && mayBeRaw && run.chance.happens(30)
        eventID = ""
        line = makeLine()
        channel.isSlow = isSlow
        channel.onBytes = { [unowned self] channel, bytes in if self.channel === channel { receive(bytes) } }
        channel.onEnd = { [unowned self] channel in if self.channel === channel { lost("the server has ended it") } }
        unread = nil
        since = run.now
        run.note("\(name) connects to loop \(loop) by \(way)\(isRaw ? ", raw," : "") with \(subscriptions.map(\.position))")
        ask()
    }

    /// It is not known from where on it listens, or it does not yet.
    private func isNew(_ subscription: Subscription) -> Bool {
        if subscription.position.isEmpty { return true }
        if case .beginning = Position(subscription.position)?.places.first { return true }
        return false
    }

    /// A payload says which message it is, but not that of a value that has become stale.
    private var mayBeRaw: Bool {
        !isList && !subscriptions[0].patterns.contains { $0.overlaps(ChannelPattern("dashboards.>")!) }
    }

    private func makeLine() -> any ClientLine {
        let window = UInt32(run.chance.one(of: [300, 2000, 65535]))
        switch way {
        case .webSocket, .webSocketCommands: return WebSocketLine(isInCBOR: run.chance.happens(40))
        case .eventStream, .eventStreamByPost: return EventStreamLine()
        case .longPoll: return RequestLine()
        case .eventStreamOnHTTP2, .longPollOnHTTP2:
            return HTTP2Line(isStreaming: !way.isPoll, windowBytes: window) { [unowned run] in run.now }
        }
    }

    private func retry() {
        run.after(run.chance.milliseconds(5...300)) { [unowned self] in connect() }
    }

    private func lost(_ words: String) {
        channel = nil
        line = nil
        run.note("\(name): \(words); it has \(subscriptions.map(\.position))")
        retry()
    }

    /// The server is gone.
    func loseConnection() {
        guard let channel else { return }
        let count = channel.cut()
        if self.channel === channel { lost("cut off with the server, \(count) bytes are lost") }
    }

    /// The connection breaks. The server notices later.
    func cut() {
        guard let channel else { return }
        let count = channel.cut()
        if self.channel === channel { lost("cut off, \(count) bytes are lost") }
    }

    /// The log has lost its end: what was told without a position does not count any more.
    func forgetWhatIsLost() {
        for subscription in subscriptions { run.oracle.cut(subscription.account) }
    }

    // MARK: asking

    private func ask() {
        guard let channel, let line else { return }
        channel.hasServerWritten = false
        for subscription in subscriptions {
            subscription.account.comeBack()
            guard let position = Position(subscription.position) else { continue }
            subscription.account.isBeyond = run.oracle.isBeyond(position) || run.oracle.isUnknown(position)
        }
        var fields: [(String, String)] = []
        var items = subscribeItems()
        // Most clients ask in the same way each time, which the server knows again by its bytes.
        if polling == nil || run.chance.happens(30) {
            polling = Polling(
                wait: run.chance.number(rate == nil ? 0...3 : 1...3), prefers: run.chance.happens(50), isByPost: run.chance.happens(15))
        }
        let isByPost = way == .eventStreamByPost || (way.isPoll && polling!.isByPost)
        if way.isPoll {
            let wait = "\(polling!.wait)"
            if isByPost || !polling!.prefers { items.append(("wait", wait)) } else { fields.append(("Prefer", "wait=" + wait)) }
            if pollSession.isEmpty, run.chance.happens(30) { pollSession = "new" }
            if !pollSession.isEmpty { items.append(("session", "\"\(pollSession)\"")) }
        } else if run.chance.happens(20) {
            items.append(("heartbeat", "1"))
            if way != .webSocket, way != .webSocketCommands { items.append(("pad", "\(run.chance.number(1...300))")) }
        }
        let bytes: [UInt8]
        if isByPost {
            let members = items.map { "\"\($0.name == "channel" ? "channels" : $0.name)\":\($0.json)" }
            bytes = line.request("/v1/subscribe", fields: fields, body: Array("{\(members.joined(separator: ","))}".utf8))
        } else {
            let query = items.flatMap { queryItems($0.name, $0.json) }.joined(separator: "&")
            bytes = line.request("/v1/subscribe?" + query, fields: fields, body: [])
        }
        channel.send(bytes)
        let (asked, patience) = (run.now, Self.patienceMilliseconds)
        guard way.isPoll else { return }
        run.after(patience) { [unowned self] in
            guard self.channel === channel, since <= asked, channel.lastReceived < asked else { return }
            run.oracle.fail("polls are answered", "\(name) has waited for an answer since \(patience) ms")
        }
    }

    /// Name and JSON value of each member of the request.
    private func subscribeItems() -> [(name: String, json: String)] {
        var items: [(name: String, json: String)] = []
        if let user { items.append(("user", "\"\(user)\"")) }
        if isDigest { items.append(("digest", "true")) }
        if isRaw { items.append(("format", "\"raw\"")) }
        if way == .webSocketCommands { return items }
        if isList {
            let list = subscriptions.map { "{\(members($0).map { "\"\($0.name)\":\($0.json)" }.joined(separator: ","))}" }
            return items + [("subscriptions", "[\(list.joined(separator: ","))]")]
        }
        return items + members(subscriptions[0]).map { ($0.name == "channels" ? "channel" : $0.name, $0.json) }
    }

    private func members(_ subscription: Subscription) -> [(name: String, json: String)] {
        let channels = subscription.patterns.map { "\"\($0.string)\"" }.joined(separator: ",")
        var members = [("channels", "[\(channels)]")]
        if let after = subscription.position.isEmpty ? start.map({ Self.words($0) }) : subscription.position {
            members.append(("after", "\"\(after)\""))
        }
        if let rate { members.append(("rate", "\"\(rate)\"")) }
        return members
    }

    private static func words(_ start: StartPoint) -> String {
        switch start {
        case .latest: "latest"
        case .earliest: "earliest"
        case .after: preconditionFailure("positions are kept as they came")
        }
    }

    private func queryItems(_ name: String, _ json: String) -> [String] {
        if name == "channel" { return subscriptions[0].patterns.map { "channel=\(RequestText.escaped($0.string))" } }
        let text = json.first == "\"" ? String(json.dropFirst().dropLast()) : json
        return ["\(name)=\(RequestText.escaped(text))"]
    }

    private func subscribeByCommand() {
        guard let line = line as? WebSocketLine else { return }
        for (index, subscription) in subscriptions.enumerated() {
            let members = members(subscription).map { "\"\($0.name)\":\($0.json)" }.joined(separator: ",")
            channel?.send(line.frame("{\"id\":\(index),\"type\":\"subscribe\",\(members)}"))
        }
    }

    // MARK: from where on

    /// Looks whether the server has begun to read for it, and tells the oracle from where on it listens.
    func lookAtBeginning() {
        guard let channel, let server = channel.server else { return }
        guard rate != nil || subscriptions.contains(where: \.isNew) else { return }
        // What the request itself subscribed to comes first, where subscriptions come as commands: nothing.
        let readers = way == .webSocketCommands ? server.readers.dropFirst() + [] : server.readers
        if rate != nil, readers.contains(where: { $0.isLive }) {
            run.oracle.fail("not more often than the rate", "\(name) would be handed a batch between its turns")
        }
        let isAnswered = way.isPoll && channel.hasServerWritten
        guard !readers.isEmpty || isAnswered else { return }
        let applied = Dictionary(uniqueKeysWithValues: run.server.applied(loop: loop))
        for index in subscriptions.indices where subscriptions[index].isNew && (index < readers.count || isAnswered) {
            begin(index, applied)
            subscriptions[index].isNew = index < readers.count && !readers[index].hasBegun
        }
    }

    private func begin(_ index: Int, _ applied: [String: UInt64]) {
        let account = subscriptions[index].account
        switch subscriptions[index].position.isEmpty ? start : nil {
        case .latest: account.begin(applied, early: false, unread: false)
        case .earliest: account.begin([:], early: true, unread: false)
        case nil, .after: account.begin(applied, early: false, unread: user != nil)
        }
    }

    // MARK: what comes

    private func receive(_ bytes: [UInt8]) {
        guard let channel, let line else { return }
        channel.lastReceived = run.now
        for event in line.feed(bytes) {
            if self.channel !== channel { return }
            switch event {
            case .open: if way == .webSocketCommands { subscribeByCommand() }
            case .object(let text): receive(object: text)
            case .event(let event): receive(event: event)
            case .refused(let status, let body): refused(status, body)
            case .end:
                channel.close()
                return lost("the server has ended it")
            case .broken(let words): run.oracle.fail("well-formed bytes", "\(name): \(words)")
            }
        }
        let output = line.takeOutput()
        if !output.isEmpty { channel.send(output) }
    }

    private func refused(_ status: Int, _ body: [UInt8]) {
        let text = String(decoding: body.prefix(200), as: UTF8.self)
        guard status == 503 else { return run.oracle.fail("requests are taken", "\(name) was answered with \(status) \(text)") }
        channel?.close()
        lost("it was answered with \(text)")
    }

    private func receive(event: EventStreamEvent) {
        let isNew = event.lastEventID != eventID
        eventID = event.lastEventID
        let data = Array(event.data.utf8)
        guard isRaw, ["message", "ack", Run.event].contains(event.type) else { return receive(object: data, eventID: eventID) }
        handle(run.oracle.whole(data, isAck: event.type == "ack", position: isNew ? eventID : nil, for: subscriptions[0].account))
    }

    private func receive(object text: [UInt8], eventID: String? = nil) {
        guard let message = checked(text) else { return }
        if way.isPoll { return receiveAnswer(message) }
        switch message["type"]?.string() {
        case "hello": receivedHello(message)
        case "reply": receivedReply(message)
        case "unread": unread = message["count"]?.integer().map { Int($0) }
        case "probe", "going-away": break
        default:
            handle(message)
            if !isList, let eventID, let position = message["position"]?.string(), eventID != position {
                run.oracle.fail("ids are positions", "\(name) got the id \(eventID) with \(String(decoding: text, as: UTF8.self))")
            }
        }
    }

    private func receivedHello(_ message: JSONSlice) {
        unread = message["unread"]?.integer().map { Int($0) }
        if user != nil, unread == nil { run.oracle.fail("unread counts", "\(name) was not told how many") }
        if way != .webSocketCommands { take(message) }
    }

    private func receivedReply(_ message: JSONSlice) {
        guard let index = message["id"]?.integer(), let position = message["position"]?.string() else {
            return run.oracle.fail("requests are taken", "\(name) got \(String(decoding: message.bytes, as: UTF8.self))")
        }
        subscriptions[Int(index)].position = position
    }

    /// The positions of all subscriptions, as hello and answers have them.
    private func take(_ frame: JSONSlice) {
        for subscription in subscriptions { subscription.account.settle() }
        if isList {
            let list = frame["subscriptions"]?.elementList ?? []
            guard list.count == subscriptions.count else {
                return run.oracle.fail("a position for each", "\(name) got \(String(decoding: frame.bytes.prefix(300), as: UTF8.self))")
            }
            for (index, element) in list.enumerated() { subscriptions[index].position = element["position"]?.string() ?? "" }
        } else {
            subscriptions[0].position = frame["position"]?.string() ?? ""
        }
    }

    private func receiveAnswer(_ answer: JSONSlice) {
        let messages = answer["messages"]?.elementList ?? []
        let before = subscriptions.map(\.position)
        for message in messages { handle(message) }
        take(answer)
        if !messages.isEmpty, subscriptions.map(\.position) == before {
            run.oracle.fail("each answer moves on", "\(name) is where it was, at \(before), after \(messages.count) messages")
        }
        unread = answer["unread"]?.integer().map { Int($0) }
        answered = run.now
        if user != nil, unread == nil { run.oracle.fail("unread counts", "\(name) was not told how many") }
        if let session = answer["session"]?.string() { pollSession = session }
        if run.oracle.violation == nil { run.note("\(name) is answered, and has \(subscriptions.map(\.position))") }
        let channel = channel
        if run.chance.happens(70) {
            run.after(run.chance.milliseconds(0...30)) { [unowned self] in
                guard self.channel === channel else { return }
                for index in subscriptions.indices { subscriptions[index].isNew = isNew(subscriptions[index]) }
                ask()
            }
        } else {
            channel?.close()
            lost("it leaves after an answer")
        }
    }

    private func handle(_ message: JSONSlice) {
        if run.oracle.violation != nil { return }
        run.note("\(name) got \(String(decoding: message.bytes.prefix(150), as: UTF8.self))")
        guard let index = index(of: message) else {
            return run.oracle.fail(
                "only what was asked for", "\(name) got \(String(decoding: message.bytes.prefix(150), as: UTF8.self))")
        }
        // What the user has read comes with the first subscription of the request. Where all come as commands that is none of these.
        if way == .webSocketCommands, message["type"]?.string() == "ack" || message["reason"]?.string() == "acks" { return }
        run.oracle.received(message, by: subscriptions[index].account)
        if let position = message["position"]?.string() {
            subscriptions[index].position = position
            subscriptions[index].account.settle()
        }
    }

    /// The subscription that a message is of.
    private func index(of message: JSONSlice) -> Int? {
        if !isList || message["type"]?.string() == "ack" || message["reason"]?.string() == "acks" { return 0 }
        if let channel = message["channel"]?.string().flatMap({ ChannelName($0) }) {
            return subscriptions.firstIndex { $0.patterns.contains { $0.matches(channel) } }
        }
        let channels = message["channels"]?.elementList.compactMap { $0.string() } ?? []
        return subscriptions.firstIndex { $0.patterns.map(\.string) == channels }
    }

    private func checked(_ text: [UInt8]) -> JSONSlice? {
        if let value = JSONSlice(checking: text) { return value }
        run.oracle.fail("well-formed bytes", "\(name) got what is not JSON: \(String(decoding: text.prefix(200), as: UTF8.self))")
        return nil
    }

    // MARK: the end

    /// All is well again and everybody has had time.
    func finish() {
        for subscription in subscriptions { run.oracle.finish(subscription.account) }
        guard let user, let unread, channel != nil, run.now - since > 4000 else { return }
        var (low, high) = (0, 0)
        for name in ["alerts.a", "alerts.b"] {
            guard subscriptions.contains(where: { $0.patterns.contains { $0.matches(ChannelName(name)!) } }) else { continue }
            // A poll that waits is answered when its time is over.
            let range = run.oracle.unread(user.string, name, told: way.isPoll ? answered : nil)
            low += range.lowerBound
            high += range.upperBound
        }
        if !(low...high).contains(unread) {
            run.oracle.fail("unread counts", "\(name) was told that \(unread) are unread, and it is to be \(low) to \(high)")
        }
    }
}

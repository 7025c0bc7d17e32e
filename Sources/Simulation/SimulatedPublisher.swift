import JSONCodec
import NotificationCore
import TocsinServer

/// Requests of somebody who does not subscribe, one at a time on a connection that is kept while it lasts.
final class Requester {
    let run: Run
    private var channel: SimulatedChannel?
    private var line = RequestLine()
    private var waiting: ((_ status: Int, JSONSlice) -> Void)?

    var isBusy: Bool { waiting != nil }

    init(_ run: Run) {
        self.run = run
    }

    /// Gives up what is under way.
    func leave() {
        waiting = nil
        channel?.close()
        channel = nil
    }

    /// - Parameter completion: not called if no answer comes.
    func send(_ path: String, fields: [(String, String)], body: [UInt8], _ completion: @escaping (_ status: Int, JSONSlice) -> Void) {
        precondition(!isBusy)
        if channel?.isGone != false {
            channel = run.network.connect(loop: run.chance.number(0...1))
            line = RequestLine()
            channel?.onBytes = { [unowned self] channel, bytes in if self.channel === channel { receive(bytes) } }
            channel?.onEnd = { [unowned self] channel in if self.channel === channel { leave() } }
        }
        guard let channel else { return }
        waiting = completion
        channel.send(line.request(path, fields: fields, body: body))
    }

    private func receive(_ bytes: [UInt8]) {
        for event in line.feed(bytes) {
            let completion = waiting
            waiting = nil
            switch event {
            case .object(let body): answered(201, body, completion)
            case .refused(let status, let body): answered(status, body, completion)
            case .broken(let words): run.oracle.fail("well-formed bytes", "an answer: \(words)")
            case .open, .end, .event: break
            }
        }
    }
}

extension Requester {
    private func answered(_ status: Int, _ body: [UInt8], _ completion: ((_ status: Int, JSONSlice) -> Void)?) {
        // `ready` is the only answer that is no JSON.
        guard let answer = JSONSlice(checking: body == Array("ready\n".utf8) ? Array("null".utf8) : body) else {
            return run.oracle.fail("well-formed bytes", "an answer: \(String(decoding: body, as: UTF8.self))")
        }
        completion?(status, answer)
    }
}

/// Publishes at random, and asks again under its key where no answer came.
final class SimulatedPublisher {
    private struct Message {
        var ids: [Int]
        var publications: [Publication]
        var key: String?
        var isBatch: Bool
        var isNDJSON: Bool
        var attempts = 0
    }

    let number: Int
    let run: Run
    private var requesters: [Requester] = []

    init(number: Int, run: Run) {
        self.number = number
        self.run = run
    }

    func begin() {
        run.after(run.chance.milliseconds(run.scenario.publishPauseMilliseconds)) { [unowned self] in
            guard run.isBusy else { return }
            publish()
            begin()
        }
    }

    private func publish() {
        let count = run.chance.happens(75) ? 1 : run.chance.number(2...8)
        var ids: [Int] = []
        var publications: [Publication] = []
        for _ in 0..<count {
            let id = run.nextMessage()
            let publication = make(id)
            ids.append(id)
            publications.append(publication)
            run.oracle.willSend(id, publication)
        }
        let key = run.chance.happens(50) ? "key-\(ids[0])" : nil
        let isBatch = count > 1 || run.chance.happens(20)
        send(Message(ids: ids, publications: publications, key: key, isBatch: isBatch, isNDJSON: isBatch && run.chance.happens(50)))
    }

    private func send(_ message: Message) {
        var message = message
        message.attempts += 1
        var isAnswered = false
        let words = "publisher \(number) sends \(message.ids[0])...\(message.ids.last!)"
        run.note(words + (message.key == nil ? "" : " with a key"))
        var fields = message.key.map { [("Idempotency-Key", $0)] } ?? []
        fields.append(("Content-Type", message.isNDJSON ? "application/x-ndjson" : "application/json"))
        let requester = idleRequester()
        requester.send(message.isBatch ? "/v1/publish" : Self.path(message.publications[0]), fields: fields, body: Self.body(message)) {
            [unowned self] status, answer in
            isAnswered = true
            self.answer(status, answer, to: message)
        }
        // The answer may be lost on its way.
        if run.chance.happens(8) { run.after(run.chance.milliseconds(0...40)) { if !isAnswered { requester.leave() } } }
        run.after(1500) { [unowned self] in
            if isAnswered { return }
            requester.leave()
            again(message)
        }
    }

    private func idleRequester() -> Requester {
        if let idle = requesters.first(where: { !$0.isBusy }) { return idle }
        requesters.append(Requester(run))
        return requesters.last!
    }

    private static func members(_ publication: Publication) -> [(name: String, text: String)] {
        var members: [(String, String)] = []
        if let event = publication.event { members.append(("event", event.string)) }
        if let key = publication.key { members.append(("key", key.string)) }
        if publication.priority != .normal { members.append(("priority", publication.priority.rawValue)) }
        if let ttl = publication.ttlSeconds { members.append(("ttl", "\(ttl)")) }
        if let replaces = publication.replaces { members.append(("replaces", replaces.string)) }
        if let change = publication.change { members.append(("change", change.rawValue)) }
        return members
    }

    private static func path(_ publication: Publication) -> String {
        let query = members(publication).map { "\($0.name)=\(RequestText.escaped($0.text))" }.joined(separator: "&")
        return "/v1/channels/\(publication.channel)" + (query.isEmpty ? "" : "?" + query)
    }

    private static func body(_ message: Message) -> [UInt8] {
        guard message.isBatch else { return message.publications[0].data }
        let items = message.publications.map { publication in
            let members = members(publication).map { ",\"\($0.name)\":\($0.name == "ttl" ? $0.text : "\"\($0.text)\"")" }.joined()
            return "{\"channel\":\"\(publication.channel)\"\(members),\"data\":\(String(decoding: publication.data, as: UTF8.self))}"
        }
        return Array((message.isNDJSON ? items.joined(separator: "\n") : "[\(items.joined(separator: ","))]").utf8)
    }

    private func again(_ message: Message) {
        if message.key != nil, message.attempts < 6 { send(message) }
    }

    private func answer(_ status: Int, _ answer: JSONSlice, to message: Message) {
        guard message.isBatch, let results = answer["results"]?.elementList else { return take(status, answer, message.ids[0], message) }
        guard results.count == message.ids.count else { return run.oracle.fail("an answer for each", "\(results.count) of \(message.ids)") }
        for (id, result) in zip(message.ids, results) {
            if let problem = result["error"] {
                take(problem["status"]?.integer().map { Int($0) } ?? 0, problem, id, message)
            } else {
                take(201, result, id, message)
            }
        }
    }

    private func take(_ status: Int, _ answer: JSONSlice, _ id: Int, _ message: Message) {
        let text = String(decoding: answer.bytes.prefix(200), as: UTF8.self)
        switch status {
        case 201:
            guard let channel = answer["channel"]?.string().flatMap({ ChannelName($0) }),
                let sequence = answer["sequence"]?.unsignedInteger(),
                case .at(let offset)? = answer["position"]?.string().flatMap({ Position($0) })?.places.first
            else { return run.oracle.fail("well-formed bytes", "message \(id) was answered with \(text)") }
            run.note("message \(id) is \(channel)#\(sequence)")
            run.oracle.acknowledged(id, AppendReceipt(channel: channel, sequence: sequence, offset: offset))
        case 503:
            run.note("message \(id) is not stored: \(text)")
            run.oracle.notStored()
            if id == message.ids[0] { run.after(run.chance.milliseconds(50...500)) { [unowned self] in again(message) } }
        case 400, 409:
            run.note("message \(id) is refused: \(text)")
            run.oracle.refused(id, text)
        default:
            run.oracle.fail("requests are taken", "message \(id) was answered with \(status) \(text)")
        }
    }

    private func ttl(_ most: Int) -> UInt32 { UInt32(run.chance.number(1...(run.scenario.isExpiring ? 1 : most))) }

    private func make(_ id: Int) -> Publication {
        let name = run.chance.one(of: Run.channels)
        var publication = Publication(channel: ChannelName(name)!, data: Array(#"{"id":\#(id)}"#.utf8))
        let number = run.chance.number(0...1000)
        switch publication.channel.feed {
        case "alerts":
            if run.chance.happens(40) { publication.key = FieldText("k\(number % 5)") }
            if run.chance.happens(run.scenario.isExpiring ? 80 : 30) { publication.ttlSeconds = ttl(5) }
            if run.chance.happens(15) { publication.replaces = FieldText("k\(number % 5)") }
            publication.priority = run.chance.one(of: Priority.allCases)
        case "scores":
            let members = #""id":\#(id),"a\#(number % 6)":\#(number),"b":{"c\#(number % 4)":\#(number % 3 == 0 ? "null" : "\"x\"")}"#
            publication.data = Array("{\(members)}".utf8)
            if run.chance.happens(75) { publication.change = .merge }
            if publication.change != nil, run.chance.happens(3) { publication.data = Array("[{\"id\":\(id)}]".utf8) }
            if run.chance.happens(10) { publication.ttlSeconds = 3 }
        case "dashboards":
            if run.chance.happens(90) { publication.key = FieldText("k\(number % 6)") }
            publication.data = Array(#"{"id":\#(id),"value":\#(number)}"#.utf8)
        default:
            if run.chance.happens(run.scenario.isExpiring ? 80 : 20) { publication.ttlSeconds = ttl(4) }
            publication.event = FieldText(Run.event)
            let padding = String(repeating: "x", count: run.chance.number(0...300))
            publication.data = Array(#"{"id":\#(id),"padding":"\#(padding)"}"#.utf8)
        }
        return publication
    }
}

import NotificationCore

/// Publishes at random, and asks again under its key where no answer came.
final class SimulatedPublisher {
    private struct Message {
        var ids: [Int]
        var request: AppendRequest
        var attempts = 0
    }

    let number: Int
    let run: Run

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
        let key = run.chance.happens(50) ? FieldText("key-\(ids[0])") : nil
        send(Message(ids: ids, request: AppendRequest(publications, idempotencyKey: key, fingerprint: UInt64(ids[0]))))
    }

    private func send(_ message: Message) {
        var message = message
        message.attempts += 1
        var isAnswered = false
        let loop = run.chance.number(0...1)
        let words = "publisher \(number) sends \(message.ids[0])...\(message.ids.last!)"
        run.note(words + (message.request.idempotencyKey == nil ? "" : " with a key"))
        _ = run.server.append(message.request, loop: loop) { [unowned self] outcomes in
            // The answer may be lost on its way.
            if run.chance.happens(8) { return }
            isAnswered = true
            answer(outcomes, to: message)
        }
        run.after(1500) { [unowned self] in if !isAnswered { again(message) } }
    }

    private func again(_ message: Message) {
        if message.request.idempotencyKey != nil, message.attempts < 6 { send(message) }
    }

    private func answer(_ outcomes: [AppendOutcome], to message: Message) {
        for (id, outcome) in zip(message.ids, outcomes) {
            switch outcome {
            case .appended(let receipt), .repeated(let receipt):
                run.note("message \(id) is \(receipt.channel)#\(receipt.sequence)")
                run.oracle.acknowledged(id, receipt)
            case .refused(.storeFailed), .refused(.shuttingDown):
                run.note("message \(id) is not stored")
                run.oracle.notStored()
                if id == message.ids[0] { run.after(run.chance.milliseconds(50...500)) { [unowned self] in again(message) } }
            case .refused(let refusal):
                run.note("message \(id) is refused: \(refusal)")
                run.oracle.refused(id)
            }
        }
    }

    private func make(_ id: Int) -> Publication {
        let name = run.chance.one(of: Run.channels)
        var publication = Publication(channel: ChannelName(name)!, data: Array(#"{"id":\#(id)}"#.utf8))
        let number = run.chance.number(0...1000)
        switch publication.channel.feed {
        case "alerts":
            if run.chance.happens(40) { publication.key = FieldText("k\(number % 5)") }
            if run.chance.happens(30) { publication.ttlSeconds = UInt32(run.chance.number(1...5)) }
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
            if run.chance.happens(20) { publication.ttlSeconds = UInt32(run.chance.number(1...4)) }
            publication.event = FieldText("e")
            let padding = String(repeating: "x", count: run.chance.number(0...300))
            publication.data = Array(#"{"id":\#(id),"padding":"\#(padding)"}"#.utf8)
        }
        return publication
    }
}

import NotificationCore
import NotificationStore
import Transports

/// The server's end of a connection, with what is under way on it.
final class SimulatedConnection {
    enum Transport: CaseIterable { case webSocket, eventStream, chunkedEventStream, longPoll }

    let number: Int
    let loop: SimulatedLoop
    let client: SimulatedClient
    let wanted: SimulatedClient.Wanted
    var id: SubscriberID!
    /// Bytes that the client has not taken yet.
    var underWay: [UInt8] = []
    /// Over it the socket is full.
    let room: Int
    /// A stream of HTTP/2 takes all of a delivery or nothing.
    let isAllOrNothing: Bool
    var isAsking = false
    /// Asked of the log since something was handed out.
    var questions = 0
    /// The server has let go of it.
    var isDetached = false
    /// The client is gone.
    var isCut = false
    var isDraining = false
    /// A poll was answered.
    var isAnswered = false
    /// What the newcomer begins with has been read.
    var hasBegun: Bool
    var isFirstTurn = true

    init(
        _ number: Int, _ loop: SimulatedLoop, _ client: SimulatedClient, _ wanted: SimulatedClient.Wanted, room: Int, isAllOrNothing: Bool
    ) {
        self.number = number
        self.loop = loop
        self.client = client
        self.wanted = wanted
        self.room = room
        self.isAllOrNothing = isAllOrNothing
        hasBegun = true
    }

    var transport: Transport { wanted.transport }
    var shape: WireShape {
        switch wanted.transport {
        case .webSocket, .longPoll: .webSocket
        case .eventStream: .eventStream
        case .chunkedEventStream: .eventStreamChunked
        }
    }
    var hasRoom: Bool { underWay.count < room }
    /// A poll that is answered by reading.
    var isReadingPoll: Bool { transport == .longPoll && (wanted.user != nil || wanted.rateMilliseconds != nil) }
    var isImmediate: Bool { wanted.start == nil || wanted.waitMilliseconds == 0 }
}

/// One event loop: a hub, its connections, and the batches on their way to it.
final class SimulatedLoop {
    let number: Int
    unowned let server: SimulatedServer
    let run: Run
    let hub: Hub
    private let compression = WireCompression()
    private var framed: FramedBatch?
    private(set) var connections: [UInt32: SimulatedConnection] = [:]
    private var afterwards: [() -> Void] = []
    private var lastDelivery: Int64 = 0
    /// By channel: the newest sequence that this loop has.
    private(set) var applied: [String: UInt64] = [:]

    init(number: Int, server: SimulatedServer, preload: LogPreload) {
        self.number = number
        self.server = server
        run = server.run
        hub = Hub(preload, limits: run.scenario.limits)
        framed = FramedBatch(epoch: hub.epoch, compression: compression)
        for channel in preload.channels { applied[channel.name.string] = channel.lastSequence }
    }

    private func later(_ milliseconds: Int64, _ action: @escaping () -> Void) {
        let life = server.life
        run.after(milliseconds) { [unowned server] in if server.life == life { action() } }
    }

    // MARK: the fan-out

    /// A commit comes after a while, in order, and the answers behind it.
    func receive(_ batch: LogBatch, then answer: @escaping () -> Void) {
        lastDelivery = max(lastDelivery, run.now + run.chance.milliseconds(0...12))
        later(lastDelivery - run.now) { [unowned self] in
            if !batch.notifications.isEmpty { apply(batch) }
            answer()
        }
    }

    private func apply(_ batch: LogBatch) {
        for notification in batch.notifications {
            let name = notification.channel.string
            if notification.sequence != (applied[name] ?? 0) + 1 {
                return run.oracle.fail(
                    "loops get the log in order", "loop \(number) gets \(name)#\(notification.sequence) after #\(applied[name] ?? 0)")
            }
            applied[name] = notification.sequence
        }
        var framed = framed.take()!
        framed.begin(batch.notifications)
        var sink = Sink(loop: self, framed: framed)
        hub.apply(batch, nowMilliseconds: batch.notifications.last!.timeMilliseconds, to: &sink)
        self.framed = sink.finish()
        let afterwards = afterwards
        self.afterwards = []
        for action in afterwards { action() }
    }

    private struct Sink: DeliverySink, ~Copyable {
        let loop: SimulatedLoop
        var framed: FramedBatch

        consuming func finish() -> FramedBatch { framed }

        mutating func deliver(_ delivery: Delivery) -> DeliveryOutcome {
            guard let connection = loop.connections[delivery.subscriber.index] else {
                preconditionFailure("a subscriber without a connection")
            }
            if connection.wanted.rateMilliseconds != nil {
                loop.run.oracle.fail("not more often than the rate", "\(connection.client.name) is handed a batch between its turns")
            }
            if connection.transport == .longPoll {
                if connection.isReadingPoll {
                    loop.afterwards.append { [loop] in loop.readOn(connection) }
                    return .refused
                }
                let body = framed.longPoll(delivery.indices).bytes
                loop.afterwards.append { [loop] in loop.answer(connection, body) }
                return .takenAndFull
            }
            if connection.isAllOrNothing {
                var bytes: [UInt8] = []
                framed.withRuns(delivery.indices, connection.shape) { run, range in bytes.append(contentsOf: run[range]) }
                guard connection.hasRoom else { return .refused }
                loop.write(bytes, to: connection)
                return .taken
            }
            if let run = framed.run(delivery.indices, connection.shape) {
                loop.write(Array(run), to: connection)
            } else {
                var bytes: [UInt8] = []
                framed.withRuns(delivery.indices, connection.shape) { run, range in bytes.append(contentsOf: run[range]) }
                loop.write(bytes, to: connection)
            }
            return connection.hasRoom ? .taken : .takenAndFull
        }
    }

    // MARK: connections

    /// - Parameter began: given the connection before anything comes on it.
    func open(_ client: SimulatedClient, _ wanted: SimulatedClient.Wanted, _ began: (SimulatedConnection) -> Void) {
        let connection = SimulatedConnection(
            run.nextConnection(), self, client, wanted, room: run.chance.one(of: [200, 1500, 6000]),
            isAllOrNothing: wanted.transport == .eventStream && run.chance.happens(50)
        )
        began(connection)
        if let user = wanted.user {
            let patterns = wanted.patterns
            server.read { [unowned self] store throws(StoreFault) in
                try store.unreadCount(user: user, channels: alertChannels(patterns), nowMilliseconds: run.now)
            } _: { [unowned self] count in
                if !connection.isCut { enter(connection, unread: count) }
            }
        } else {
            enter(connection, unread: nil)
        }
    }

    private func alertChannels(_ patterns: [ChannelPattern]) -> [ChannelID] {
        hub.tail.channels.indices.filter { index in
            let channel = hub.tail.channels[index]
            return channel.feed.kind == .alerts && patterns.contains { $0.matches(channel.name) }
        }.map { ChannelID($0) }
    }

    private func enter(_ connection: SimulatedConnection, unread: Int?) {
        let wanted = connection.wanted
        var options = ReadingOptions()
        options.user = wanted.user
        options.isDigest = wanted.isDigest
        options.isPaced = wanted.rateMilliseconds != nil
        var patterns = wanted.patterns
        if let user = wanted.user { patterns.append(ChannelPattern(ChannelName(acknowledgementsOf: user)!)) }
        let id = hub.subscribe(patterns, from: wanted.start, knownHead: server.head, options: options)
        connection.id = id
        connections[id.index] = connection
        let position = hub.position(of: id)
        begin(connection, position)
        if let rate = wanted.rateMilliseconds { later(rate) { [unowned self] in takeTurn(connection) } }
        if connection.transport == .longPoll {
            later(wanted.waitMilliseconds) { [unowned self] in if !connection.isDetached { answerPoll(connection, []) } }
            if wanted.rateMilliseconds == nil || connection.isImmediate { return readOn(connection) }
            return hub.rest(id)
        }
        let hello = ControlObject.hello(
            session: SessionID(random: (1, 2), loop: 0, place: 0), network: 1, heartbeatSeconds: 25, positions: [position], isList: false,
            unread: unread
        )
        var out: [UInt8] = []
        if connection.transport == .webSocket {
            connection.shape.append(control: hello, event: "hello", to: &out)
        } else {
            connection.shape.append(control: hello, event: "hello", position: position, retryMilliseconds: 2000, to: &out)
        }
        write(out, to: connection)
        if connection.hasRoom {
            if !hub.isLive(id) { readOn(connection) }
        } else {
            hub.stop(id)
        }
    }

    /// Tells the oracle from where on the client listens.
    private func begin(_ connection: SimulatedConnection, _ position: Position) {
        if connection.isCut { return }
        let account = connection.client.account
        switch connection.wanted.start {
        case .latest: account.begin(applied, early: false, unread: false, epoch: hub.epoch.description)
        case .earliest: account.begin([:], early: true, unread: false, epoch: hub.epoch.description)
        case nil: beginNewly(connection, position)
        case .after(let wanted): if case .beginning = wanted.places[0] { beginNewly(connection, position) }
        }
    }

    private func beginNewly(_ connection: SimulatedConnection, _ position: Position) {
        connection.client.account.begin(applied, early: false, unread: connection.wanted.user != nil, epoch: hub.epoch.description)
        if case .beginning = position.places[0] { connection.hasBegun = false }
    }

    func detach(_ connection: SimulatedConnection) {
        if connection.isDetached { return }
        connection.isDetached = true
        guard connection.id != nil else { return }
        connections[connection.id.index] = nil
        hub.unsubscribe(connection.id)
    }

    private func takeTurn(_ connection: SimulatedConnection) {
        if connection.isDetached { return }
        later(connection.wanted.rateMilliseconds!) { [unowned self] in takeTurn(connection) }
        if connection.isFirstTurn {
            connection.isFirstTurn = false
        } else if hub.wake(connection.id) {
            readOn(connection)
        }
    }

    fileprivate func write(_ bytes: [UInt8], to connection: SimulatedConnection) {
        connection.questions = 0
        connection.underWay.append(contentsOf: bytes)
        drainSoon(connection)
    }

    private func drainSoon(_ connection: SimulatedConnection) {
        if connection.isDraining || connection.isCut || connection.underWay.isEmpty { return }
        connection.isDraining = true
        let client = connection.client
        let pause = client.isSlow && run.isBusy ? run.chance.milliseconds(20...400) : run.chance.milliseconds(0...5)
        run.after(pause) { [unowned self] in
            connection.isDraining = false
            if connection.isCut { return }
            let most = client.isSlow && run.isBusy ? 400 : 4000
            let count = min(connection.underWay.count, run.chance.number(1...most))
            let piece = Array(connection.underWay.prefix(count))
            connection.underWay.removeFirst(count)
            client.receive(piece, connection)
            if connection.isDetached { return drainSoon(connection) }
            drainSoon(connection)
            if connection.transport != .longPoll, connection.hasRoom, !hub.isLive(connection.id) { readOn(connection) }
        }
    }

    // MARK: reading on

    func readOn(_ connection: SimulatedConnection, _ answer: (LogRequest, LogAnswer)? = nil) {
        var answer = answer
        var pages = 0
        while !connection.isDetached {
            if connection.isAsking { return }
            guard let id = connection.id, hub.isCurrent(id) else { return }
            if connection.transport != .longPoll, !connection.hasRoom { return hub.stop(id) }
            if !connection.hasBegun {
                connection.hasBegun = true
                if !connection.isCut {
                    connection.client.account.begin(
                        applied, early: false, unread: connection.wanted.user != nil, epoch: hub.epoch.description)
                }
            }
            let room = connection.transport == .longPoll ? LongPollAnswer.room : run.scenario.room
            switch hub.read(id, room: room, nowMilliseconds: run.now, answer: answer.map { ($0.0, $0.1) }) {
            case .wants(let request): return ask(connection, request)
            case .notYet: return later(1) { [unowned self] in readOn(connection) }
            case .page(let page):
                if connection.transport == .longPoll {
                    if !page.items.isEmpty || (page.isAtHead && connection.isImmediate) { return answerPoll(connection, page.items) }
                    if page.isAtHead { return }
                } else {
                    var out: [UInt8] = []
                    for item in page.items { connection.shape.append(item, epoch: hub.epoch, compression, to: &out) }
                    if !out.isEmpty { write(out, to: connection) }
                    if page.isAtHead {
                        if !connection.hasRoom { hub.stop(id) }
                        return
                    }
                }
            }
            answer = nil
            pages += 1
            if pages == 4 { return later(0) { [unowned self] in readOn(connection) } }
        }
    }

    private func ask(_ connection: SimulatedConnection, _ request: LogRequest) {
        connection.isAsking = true
        connection.questions += 1
        if connection.questions > 300 { run.oracle.fail("readers come on", "\(connection.client.name) asks the log for ever") }
        let query = request.query
        run.note("\(connection.client.name) asks the log: \(query.subject) \(query.channels) after \(query.after) through \(query.through)")
        server.read { [run] store throws(StoreFault) in
            try store.answer(query, nowMilliseconds: run.now)
        } _: { [unowned self] answer in
            if connection.isDetached { return }
            connection.isAsking = false
            if let answer { return readOn(connection, (request, answer)) }
            later(1000) { [unowned self] in readOn(connection) }
        }
    }

    private func answerPoll(_ connection: SimulatedConnection, _ items: [PageItem]) {
        let position = hub.position(of: connection.id)
        guard let user = connection.wanted.user else { return answer(connection, LongPollAnswer.body(items, position: position)) }
        if connection.isAsking { return }
        connection.isAsking = true
        let patterns = connection.wanted.patterns
        server.read { [unowned self] store throws(StoreFault) in
            try store.unreadCount(user: user, channels: alertChannels(patterns), nowMilliseconds: run.now)
        } _: { [unowned self] count in
            var frame = LongPollAnswer.Frame(positions: [position])
            frame.unread = count
            if !connection.isDetached { answer(connection, LongPollAnswer.body(items, frame)) }
        }
    }

    fileprivate func answer(_ connection: SimulatedConnection, _ body: [UInt8]) {
        if connection.isDetached { return }
        detach(connection)
        connection.isAnswered = true
        write(body, to: connection)
    }
}

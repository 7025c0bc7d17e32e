import HTTP2Session
package import NIOCore
package import NotificationCore
import NotificationStore
import Presence
import TLSEngine
import Transports

/// One event loop of the server, and all that belongs to it: its follower of the log, its connections and their timers. Nothing here
/// is locked or shared; everything asserts that it is called on its loop.
package final class ServerLoop: LogFollower {
    /// Ticks of the timer wheel in a second.
    static let ticksPerSecond: UInt32 = 4

    package let number: Int
    package let eventLoop: any EventLoop
    let server: ServerState
    let hub: Hub
    let outlets = OutletTable()
    let compression = WireCompression()
    var counters = LoopCounters()
    var wheel = TimerWheel()
    var connections: [Connection?] = []
    private var unusedConnections: [UInt32] = []
    private(set) var dateField = Clock.httpDate()
    /// Where bytes are received that do not fit a channel's own small buffer; one for all connections.
    let receiveBuffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
    /// Where a frame of HTTP/2 is made that goes out by itself.
    let frameMemory = UnsafeMutableRawBufferPointer.allocate(byteCount: 20 << 10, alignment: 16)
    /// Where an answer to a poll is put together.
    let answerMemory = UnsafeMutableRawBufferPointer.allocate(byteCount: 20 << 10, alignment: 16)
    var lastPollHead = PollHead()
    /// Of all its TLS sessions.
    let sealer = RecordSealer()
    /// Lent to the fan-out while it runs.
    private var framed: FramedBatch?
    private(set) var isFanningOut = false
    /// Bits of the transports, as `LoopCounters` numbers them, that the newest fan-out wrote to.
    var fanOutTransports: UInt8 = 0
    /// Where the next look at subscribers and connections begins, if there are more than one look goes over.
    var figuresStart = 0
    /// Where new connections come from; nil in tests.
    var entry: LoopEntry?
    /// Memory for frames of HTTP/2, from one connection to the next.
    private var spareBytes: [UInt8] = []
    /// What has to wait until the fan-out is through.
    private var afterwards: [() -> Void] = []
    private var dirtyConnections: [Connection] = []
    /// Reads that wait for a batch which the log has given out and this loop has not applied yet.
    var readsAhead = CircularBuffer<(head: UInt64, handle: RequestHandle, body: (ServerLoop) throws(Problem) -> Void)>()
    private var tickTask: RepeatedTask?
    /// When the last tick came; 0: there was none.
    var lastTickMilliseconds: Int64 = 0
    private var sharedPages = SharedPages()
    /// Sessions of polls that are at home on this loop.
    var pollSessions: [SessionID: PollSession] = [:]
    /// Of all request bodies that are being read.
    var parkedBytes = 0
    /// What waits, so that nobody takes the loop from the others.
    private(set) lazy var turns = TurnQueue(eventLoop: eventLoop, nanoseconds: nanoseconds) { [unowned self] in perform($0) }
    private let nanoseconds: () -> Int64
    /// Enough that the reader's thread finds the next one when it is through with one.
    private static let questionsAskedMax = 4
    /// What subscribers want to know of the log: waiting, and under way.
    private var questions = CircularBuffer<(SubscriberID, LogRequest)>()
    private var questionsAsked = 0
    /// Subscribers whose reading goes on at their turn.
    private(set) var waitingReaders: Set<SubscriberID> = []
    /// Subscribers that chose a rate, by the time between two turns in milliseconds.
    var paceGroups: [Int64: PaceGroup] = [:]
    /// And which group each of them is in.
    var paceIntervals: [SubscriberID: Int64] = [:]
    /// Subscribers that named a user, and which of them have to be told a new count.
    var unreadSessions: [SubscriberID: UnreadSession] = [:]
    /// Further subscriptions of a connection that named a user, and the first one, which has the count of all of them.
    var unreadOwners: [SubscriberID: SubscriberID] = [:]
    var unreadDirty: Set<SubscriberID> = []
    /// So that of those only what changed has to be counted again.
    var alertChanges = AlertChanges()
    /// Subscribers for whom the log could not be read at the last try, since when, and why.
    var readFaults: [SubscriberID: (since: Int64, fault: StoreFault)] = [:]
    /// Who is on its channels; nil: it is not kept for any.
    let presence: LoopPresence?

    /// - Parameter nanoseconds: the clock by which time is shared out.
    init(
        number: Int, eventLoop: any EventLoop, server: ServerState, preload: LogPreload,
        nanoseconds: @escaping () -> Int64 = Clock.monotonicNanoseconds
    ) {
        self.number = number
        self.nanoseconds = nanoseconds
        self.eventLoop = eventLoop
        self.server = server
        hub = Hub(preload, limits: server.configuration.log)
        presence = server.configuration.presence.isOn ? LoopPresence(server.configuration.presence) : nil
        framed = FramedBatch(epoch: server.log.epoch, compression: compression)
    }

    deinit {
        receiveBuffer.deallocate()
        frameMemory.deallocate()
        answerMemory.deallocate()
    }

    var epoch: LogEpoch { hub.epoch }
    var tick: UInt32 { wheel.now }
    func ticks(seconds: Int) -> UInt32 { UInt32(seconds) * Self.ticksPerSecond }

    /// Starts the timer. The handle ends it.
    func start() {
        eventLoop.preconditionInEventLoop()
        let interval = TimeAmount.milliseconds(1000 / Int64(Self.ticksPerSecond))
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        tickTask = eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { _ in bound.value.onTick() }
    }

    /// Turns come through a pipe from now on.
    func openWaker() throws -> EventLoopFuture<Void> {
        let (waker, opened) = try LoopWaker.open(eventLoop) { [turns] in turns.turn() }
        turns.waker = waker
        return opened
    }

    func stop() {
        tickTask?.cancel()
        tickTask = nil
        for group in paceGroups.values { group.task?.cancel() }
        paceGroups = [:]
        turns.removeAll()
        entry?.close()
        entry = nil
    }

    private func onTick() {
        noteLag()
        for entry in wheel.advance() { connections[Int(entry)]?.onLook() }
        if tick.isMultiple(of: Self.ticksPerSecond) { lookAtLoad() }
        if tick.isMultiple(of: Self.ticksPerSecond) { lookAtUnread() }
        tellUnread()
        lookAtPresence()
        if tick.isMultiple(of: Self.ticksPerSecond) { dateField = Clock.httpDate() }
        if tick.isMultiple(of: Self.ticksPerSecond) { hub.expire(nowMilliseconds: Clock.wallMilliseconds()) }
        if tick.isMultiple(of: 10 * Self.ticksPerSecond) { expirePollSessions() }
    }

    // MARK: connections

    /// - Returns: its place; nil if there are too many.
    func add(_ connection: Connection) -> UInt32? {
        guard server.admit() else { return nil }
        counters.connections += 1
        counters.connectionsAccepted += 1
        if let reused = unusedConnections.popLast() {
            connections[Int(reused)] = connection
            return reused
        }
        connections.append(connection)
        return UInt32(connections.count - 1)
    }

    func remove(_ connection: Connection) {
        precondition(connections[Int(connection.index)] === connection)
        connections[Int(connection.index)] = nil
        unusedConnections.append(connection.index)
        guard !connection.isOwn else { return }
        counters.connections -= 1
        server.leave()
    }

    /// It is the canary's: it counts nowhere.
    func disown(_ connection: Connection) {
        guard !connection.isOwn else { return }
        connection.isOwn = true
        counters.connections -= 1
        server.leave()
    }

    // MARK: subscribers

    func attach(_ id: SubscriberID, _ outlet: Outlet) {
        var outlet = outlet
        outlet.lastTick = tick
        outlets[id] = outlet
        if !outlet.isOwn { counters.subscribers[LoopCounters.index(outlet.transport)] += 1 }
    }

    /// The subscriber gets nothing from now on; it is taken out as soon as no fan-out is under way. Until then its connection is held.
    func detachLater(_ id: SubscriberID?, _ connection: Connection) {
        guard let id, hub.isCurrent(id) else { return }
        outlets[id].isClosing = true
        outlets[id].descriptor = -1
        afterFanOut { [self] in withExtendedLifetime(connection) { detach(id) } }
    }

    /// Its socket is full: it reads on when that has drained.
    func stop(_ id: SubscriberID) {
        if hub.isCurrent(id) { hub.stop(id) }
    }

    func detach(_ id: SubscriberID) {
        guard hub.isCurrent(id) else { return }
        let outlet = outlets[id]
        if outlet.kind != .none, !outlet.isOwn { counters.subscribers[LoopCounters.index(outlet.transport)] -= 1 }
        returnCredit(id)
        unpace(id)
        unreadSessions[id] = nil
        unreadOwners[id] = nil
        if !readFaults.isEmpty { readFaults[id] = nil }
        presence?.leave(id)
        outlets[id] = Outlet()
        hub.unsubscribe(id)
    }

    /// Its stream may go on without it.
    private func returnCredit(_ id: SubscriberID) {
        let outlet = outlets[id]
        guard outlet.credit > 0, case .http2(let exchange)? = outlet.connection?.takeUnretainedValue().state else { return }
        exchange.session.giveBack(stream: outlet.stream, Int(outlet.credit))
    }

    /// Lets a subscriber that is behind read on for a slice, as far as its socket takes it.
    ///
    /// - Parameter answer: of the log, to what it was asked for this subscriber.
    func readOn(_ id: SubscriberID, _ answer: (LogRequest, LogAnswer)? = nil) {
        precondition(!isFanningOut)
        if turns.isAtWork { return readPages(id, answer) }
        _ = turns.slice { readPages(id, answer) }
    }

    private func readPages(_ id: SubscriberID, _ answer: (LogRequest, LogAnswer)?) {
        var answer = answer
        while hub.isCurrent(id) {
            let outlet = outlets[id]
            // Between two polls it is handed nothing.
            if outlet.isAsking || outlet.kind == .none { return }
            guard let connection = outlet.connection?.takeUnretainedValue() else { return stop(id) }
            if outlet.kind.isPoll { return readPoll(id, answer) }
            guard connection.hasRoom(stream: outlet.stream) else { return stop(id) }
            let place = hub.sharedPlace(id)
            if let place, let page = sharedPages.page(place, outlet.shape, tick: tick) {
                hub.move(id, to: page.after)
                send(page.bytes, page.notifications, id, outlet, connection)
                counters.sharedPages += 1
                if page.after.isAtHead { return finish(id, outlet, connection) }
                answer = nil
                guard turns.mayGoOn else { return readOnSoon(id, milliseconds: 0) }
                continue
            }
            let now = Clock.wallMilliseconds()
            switch hub.read(id, room: server.configuration.pageRoom, nowMilliseconds: now, answer: answer.map { ($0.0, $0.1) }) {
            case .wants(let request):
                return ask(id, request)
            case .notYet:
                return readOnSoon(id, milliseconds: 1)
            case .page(let page):
                if !page.items.isEmpty {
                    var out: [UInt8] = []
                    for item in page.items { outlet.shape.append(item, epoch: epoch, compression, to: &out) }
                    let count = page.items.reduce(0) { $0 + ($1.notification == nil ? 0 : 1) }
                    if let place {
                        let shared = SharedPages.Page(bytes: out, notifications: count, after: hub.readingState(of: id))
                        sharedPages.keep(shared, place, outlet.shape)
                    }
                    send(out, count, id, outlet, connection)
                }
                if page.isAtHead { return finish(id, outlet, connection) }
            }
            answer = nil
            guard turns.mayGoOn else { return readOnSoon(id, milliseconds: 0) }
        }
    }

    private func send(_ bytes: [UInt8], _ notifications: Int, _ id: SubscriberID, _ outlet: Outlet, _ connection: Connection) {
        counters.deliveries[LoopCounters.index(outlet.transport)] += notifications
        outlets[id].lastTick = tick
        if outlet.isUsers { unreadDirty.insert(id) }
        guard outlet.kind == .padded, let session = connection.eventStream(outlet.stream) else {
            return connection.write(bytes, stream: outlet.stream)
        }
        var padded = bytes
        outlet.shape.appendHeartbeat(paddingBytes: session.paddingBytes, to: &padded)
        connection.write(padded, stream: outlet.stream)
    }

    private func finish(_ id: SubscriberID, _ outlet: Outlet, _ connection: Connection) {
        if hub.isCurrent(id), !connection.hasRoom(stream: outlet.stream) { stop(id) }
    }

    /// Asks the log for what is not in memory, and reads on with the answer. Some ask at a time: who is gone when its question comes up
    /// has cost the log nothing.
    func ask(_ id: SubscriberID, _ request: LogRequest) {
        outlets[id].isAsking = true
        questions.append((id, request))
        askNext()
    }

    private func askNext() {
        while questionsAsked < Self.questionsAskedMax, let (id, request) = questions.popFirst() {
            guard hub.isCurrent(id) else { continue }
            questionsAsked += 1
            let bound = bind(self)
            let query = request.query
            server.log.read(from: self) { store throws(StoreFault) in
                try store.answer(query, nowMilliseconds: Clock.wallMilliseconds())
            } completion: { result in
                bound.value.take(result, id, request)
            }
        }
    }

    private func take(_ result: Result<LogAnswer, StoreFault>, _ id: SubscriberID, _ request: LogRequest) {
        questionsAsked -= 1
        askNext()
        guard hub.isCurrent(id) else { return }
        outlets[id].isAsking = false
        switch result {
        case .success(let answer):
            counters.logReads += 1
            if !readFaults.isEmpty { readFaults[id] = nil }
            if !answer.trimmed.isEmpty { noteDamage(answer.trimmed) }
            readOn(id, (request, answer))
        case .failure(let fault):
            noteFault(fault, id)
        }
    }

    func readOnSoon(_ id: SubscriberID, milliseconds: Int64) {
        if milliseconds == 0 {
            if waitingReaders.insert(id).inserted { turns.add(.reader(id)) }
        } else {
            let bound = bind((self, id))
            eventLoop.scheduleTask(in: .milliseconds(milliseconds)) { bound.value.0.readOn(bound.value.1) }
        }
    }

    // MARK: request bodies

    /// Whether there is room for so much more of requests that are not here as a whole yet.
    func mayPark(_ count: Int) -> Bool {
        parkedBytes + count <= server.configuration.parkedBytesMax
    }

    // MARK: turns

    private func perform(_ job: TurnQueue.Job) {
        switch job {
        case .connection(let connection): connection.onTurn()
        case .reader(let id):
            waitingReaders.remove(id)
            readOn(id)
        case .readsAhead: resumeReads()
        case .commands(let commands): perform(commands)
        case .entries: if entry?.takeTurn() == true { turns.add(.entries, isNewcomer: true) }
        case .presence: tellPresence()
        }
    }

    /// There are connections in the queue, which was empty.
    func connectionsCame() {
        if entry != nil { turns.add(.entries, isNewcomer: true) }
    }

    // MARK: the fan-out

    /// Takes a batch of the log.
    package func apply(_ batch: LogBatch) {
        eventLoop.assertInEventLoop()
        var framed = framed.take()!
        framed.begin(batch.notifications)
        isFanningOut = true
        let head = hub.head
        var sink = FanOutSink(loop: self, framed: framed, outlets: outlets.places, tick: tick)
        hub.apply(batch, nowMilliseconds: batch.notifications.last!.timeMilliseconds, to: &sink)
        isFanningOut = false
        self.framed = sink.finish()
        if !unreadSessions.isEmpty { alertChanges.note(batch.notifications, head: head, hub) }
        finishFanOut()
        if batch.takenNanoseconds > 0, fanOutTransports != 0, hub.batchKinds != 0 {
            counters.times.note(
                nanoseconds: nanoseconds() - batch.takenNanoseconds, transports: fanOutTransports, kinds: hub.batchKinds
            )
        }
        if server.configuration.identity.isClosed { takeBack(batch.notifications) }
        if !readsAhead.isEmpty { resumeReads() }
    }

    private func finishFanOut() {
        while !dirtyConnections.isEmpty || !afterwards.isEmpty {
            let dirty = dirtyConnections
            dirtyConnections.removeAll(keepingCapacity: true)
            for connection in dirty { connection.flush() }
            let rest = afterwards
            afterwards.removeAll(keepingCapacity: true)
            for action in rest { action() }
        }
    }

    /// Now, or as soon as the fan-out is through.
    func afterFanOut(_ action: @escaping () -> Void) {
        if isFanningOut { afterwards.append(action) } else { action() }
    }

    func takeSpareBytes() -> [UInt8] {
        let bytes = spareBytes
        spareBytes = []
        return bytes
    }

    func keepSpareBytes(_ bytes: consuming [UInt8]) {
        guard bytes.capacity <= 64 << 10, spareBytes.capacity < bytes.capacity else { return }
        bytes.removeAll(keepingCapacity: true)
        spareBytes = bytes
    }

    func markDirty(_ connection: Connection) {
        dirtyConnections.append(connection)
    }
}

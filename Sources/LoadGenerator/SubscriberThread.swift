import CEpoll
import Glibc
import Synchronization
import TLSEngine

/// What the subscribers of one thread got.
struct SubscriberResult: Sendable {
    var latencies: Histogram
    var delivered = 0
    var repeated = 0
    var reordered = 0
    var foreign = 0
    /// Nanoseconds until each subscriber listened again, from when they all might come back.
    var returns = Histogram()
    /// What had gone over the wires when a phase began.
    var wires: [LoadPhase: WireBytes] = [:]
    var handshakes = Histogram()
    var handshakeWire = WireBytes()
    var resumes = Histogram()
}

/// One thread of subscribers: connects them, and reads until the load is done.
struct SubscriberThread {
    /// Connections that are being made at once, by one thread: fewer than a listener's backlog, and enough to keep a server at work.
    private static let underWayMax = 100
    /// The same when all come back at once: all, but between so many calls of connect() the sockets are looked at.
    private static let returningPerTurn = 256
    /// How long a turn of the loop waits, so that a change of the phase is noticed.
    private static let turnNanoseconds: Int64 = 10_000_000

    let plan: LoadPlan
    let run: UInt32
    let tlsContext: TLSContext?
    /// Connections of this thread, by number.
    let connections: Range<Int>
    let control: LoadControl
    let gauge: ThreadGauge<SubscriberResult>

    private var subscribers: Range<Int> {
        connections.lowerBound * plan.streamsEach..<min(plan.subscribers, connections.upperBound * plan.streamsEach)
    }

    func callAsFunction() {
        let subscribers = subscribers
        let tally = Tally(channels: plan.channels, messages: plan.numbers.count, timed: plan.timed, subscribers: subscribers)
        let cutBook =
            plan.cutMessages > 0
            ? CutBook(
                subscribers: subscribers.count, channels: plan.channels, missed: plan.missed, position: plan.profile.resume!.position
            ) : nil
        let group = SubscriberGroup(tally: tally, prefix: MarkerPrefix(run: run), cutBook: cutBook)
        let loop = LinkLoop(target: plan.target, tlsContext: tlsContext, keepsTickets: plan.isComingBack && !plan.fullHandshakes)
        var links = connections.map { makeLink(number: $0, loop: loop, group: group) }
        gauge.arrive(at: .subscribing)
        if plan.transport == .shortPoll { _ = tocsin_set_timer_slack(1) }
        let pollNanoseconds = Int64(plan.pollSeconds * 1e9)
        var polls =
            plan.transport == .shortPoll ? PollClock(start: monotonicNanoseconds(), period: pollNanoseconds, count: links.count) : nil
        var connected = 0
        var result = SubscriberResult(latencies: Histogram())
        while true {
            let isReturning = group.returnedFrom != nil
            // Who polls at fixed times comes back when its time has come.
            let connectsNow = polls == nil || !isReturning
            let isRush = isReturning && plan.resumes
            let end = isRush ? min(links.count, connected + Self.returningPerTurn) : links.count
            while connectsNow, connected < end, isRush || group.underWay < Self.underWayMax, control.phase != .done {
                group.underWay += 1
                links[connected].connect(number: connections.lowerBound + connected)
                connected += 1
            }
            while control.phase != .cut, let index = polls?.take(now: monotonicNanoseconds()) {
                let link = links[index] as! LongPollLink
                if !connectsNow, link.connectStart == 0 {
                    group.underWay += 1
                    link.connect(number: connections.lowerBound + index)
                } else {
                    link.timeCame()
                }
            }
            let untilPoll = polls.map { $0.due - monotonicNanoseconds() } ?? Self.turnNanoseconds
            let isFull = loop.turn(nanoseconds: isRush && connected < links.count ? 0 : min(Self.turnNanoseconds, untilPoll))
            if pauseMicroseconds > 0, !isFull, gauge.hasArrived(at: .warming) { usleep(pauseMicroseconds) }
            gauge.ready.store(group.ready, ordering: .relaxed)
            gauge.delivered.store(tally.delivered, ordering: .relaxed)
            if group.ended > gauge.ended.load(ordering: .relaxed) {
                gauge.firstEnd = group.firstEnd
                gauge.ended.store(group.ended, ordering: .relaxed)
            }
            let phase = control.phase
            guard !gauge.hasArrived(at: phase) else { continue }
            switch phase {
            case .subscribing: break
            case .idling, .warming, .measuring, .measured: result.wires[phase] = wireBytes(of: links)
            case .cut:
                for link in links { link.close() }
                // Those that come back are new connections, each with the places of the one before.
                let before = links
                links = connections.map { number in
                    makeLink(number: number, loop: loop, group: group) { place in
                        cutBook?.position(of: place) ?? before[number - connections.lowerBound].position
                    }
                }
                for (link, earlier) in zip(links, before) { link.ticket = earlier.ticket }
                connected = links.count
            case .resuming:
                group.ready = 0
                gauge.ready.store(0, ordering: .relaxed)
                let now = monotonicNanoseconds()
                group.returnedFrom = plan.resumes ? control.resumeStart.load(ordering: .acquiring) : now
                cutBook?.resume(at: now)
                connected = 0
                if polls != nil { polls = PollClock(start: now, period: pollNanoseconds, count: links.count) }
            case .done:
                // What came back has had no other traffic.
                if plan.resumes { result.wires[.measured] = wireBytes(of: links) }
            }
            if phase == .done { break }
            gauge.arrive(at: phase)
        }
        for link in links { link.close() }
        (result.handshakes, result.handshakeWire) = (group.handshakes, group.handshakeWire)
        if let cutBook { result.resumes = cutBook.times }
        (result.latencies, result.returns) = (tally.latencies, group.returns)
        (result.delivered, result.repeated) = (tally.delivered, tally.repeated)
        (result.reordered, result.foreign) = (tally.reordered, tally.foreign)
        gauge.result = result
        gauge.arrive(at: .done)
    }

    private func wireBytes(of links: [SubscriberLink]) -> WireBytes {
        links.reduce(WireBytes()) { $1.descriptor >= 0 ? $0 + Socket.wireBytes($1.descriptor) : $0 }
    }

    private func channelName(of subscriber: Int) -> String {
        plan.profile.channelName(run: run, number: subscriber % plan.channels)
    }

    private var pauseMicroseconds: UInt32 { UInt32(plan.pauseSeconds * 1e6) }

    /// A request that goes on behind a position.
    private func request(_ request: Profile.Request, after position: [UInt8]?) -> Profile.Request {
        guard let position, let resume = plan.profile.resume else { return request }
        var path: [UInt8] = []
        RequestTemplate(resume.path, names: [resume.capture.name], isInPath: true).append(values: [position], into: &path)
        return Profile.Request(method: request.method, path: String(decoding: path, as: UTF8.self), fields: request.fields)
    }

    /// - Parameter position: where the subscriber of this place goes on; nil where it begins.
    private func makeLink(
        number: Int, loop: LinkLoop, group: SubscriberGroup, position: (Int) -> [UInt8]? = { _ in nil }
    ) -> SubscriberLink {
        let first = number * plan.streamsEach
        let channel = channelName(of: first)
        let profile = plan.profile
        let place = first - subscribers.lowerBound
        let capture = plan.resumes ? profile.resume.map { PositionCapture($0, position: position(place)) } : nil
        let authority = plan.target.authority
        switch plan.transport {
        case .webSocket:
            let head = RequestTemplate.head(
                request(profile.webSocket!, after: position(place)), channel: channel, authority: authority,
                extra: WebSocketLink.handshakeFields
            )
            return WebSocketLink(loop: loop, group: group, first: place, handshake: head, capture: capture)
        case .eventStream:
            let head = RequestTemplate.head(request(profile.eventStream!, after: position(place)), channel: channel, authority: authority)
            return EventStreamLink(loop: loop, group: group, first: place, head: head, capture: capture)
        case .webSocketHTTP2:
            let paths = subscribers(of: number).map { subscriber in
                path(profile.webSocket!, of: subscriber, after: position)
            }
            return WebSocketHTTP2Link(loop: loop, group: group, first: place, paths: paths)
        case .eventStreamHTTP2:
            let requests = subscribers(of: number).map { subscriber in
                EventStreamHTTP2Link.Request(
                    path: path(profile.eventStream!, of: subscriber, after: position),
                    fields: fields(profile.eventStream!, channel: channelName(of: subscriber))
                )
            }
            return EventStreamHTTP2Link(loop: loop, group: group, first: place, requests: requests)
        case .longPoll, .shortPoll:
            let poll = profile.longPoll!
            let isTimed = plan.transport == .shortPoll
            let names = poll.captures.map(\.name)
            let next = isTimed ? profile.shortPoll! : poll.next
            let pollPlan = PollPlan(
                first: RequestTemplate.head(poll.first, channel: channel, authority: authority, names: names),
                next: RequestTemplate.head(next, channel: channel, authority: authority, names: names),
                captures: poll.captures, answersAtOnce: poll.answersAtOnce, isTimed: isTimed
            )
            return LongPollLink(loop: loop, group: group, first: place, plan: pollPlan, values: position(place).map(values))
        case .longPollHTTP2:
            let poll = profile.longPoll!
            let names = poll.captures.map(\.name)
            let pollers = subscribers(of: number).map { subscriber in
                let channel = channelName(of: subscriber)
                return LongPollHTTP2Link.Poller(
                    firstPath: RequestTemplate(poll.first.path.replacing("{channel}", with: channel), names: names, isInPath: true),
                    nextPath: RequestTemplate(poll.next.path.replacing("{channel}", with: channel), names: names, isInPath: true),
                    fields: fields(poll.next, channel: channel),
                    values: position(subscriber - self.subscribers.lowerBound).map(values) ?? names.map { _ in [] },
                    captures: poll.captures.compactMap { capture in
                        if case .body(let after, let until) = capture.place { BodyCapture(after: after, until: until) } else { nil }
                    }
                )
            }
            return LongPollHTTP2Link(loop: loop, group: group, first: place, pollers: pollers, goesOn: position(place) != nil)
        }
    }

    /// Of one connection.
    private func subscribers(of connection: Int) -> Range<Int> {
        connection * plan.streamsEach..<min((connection + 1) * plan.streamsEach, plan.subscribers)
    }

    private func path(_ request: Profile.Request, of subscriber: Int, after position: (Int) -> [UInt8]?) -> [UInt8] {
        let resumed = self.request(request, after: position(subscriber - subscribers.lowerBound))
        return Array(resumed.path.replacing("{channel}", with: channelName(of: subscriber)).utf8)
    }

    private func fields(_ request: Profile.Request, channel: String) -> [(name: String, value: [UInt8])] {
        request.fields.map { ($0.name, Array($0.value.replacing("{channel}", with: channel).utf8)) }
    }

    /// What the captures of a poll would have found.
    private func values(of position: [UInt8]) -> [[UInt8]] {
        plan.profile.longPoll!.captures.map { $0.name == plan.profile.resume!.capture.name ? position : [] }
    }
}

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
    var wireBefore = WireBytes()
    var wireAfter = WireBytes()
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
        let tally = Tally(channels: plan.channels, messages: plan.numbers.count, timedFrom: plan.warmUp, subscribers: subscribers)
        let group = SubscriberGroup(tally: tally, prefix: MarkerPrefix(run: run))
        let loop = LinkLoop(target: plan.target, tlsContext: tlsContext)
        var links = connections.map { makeLink(number: $0, loop: loop, group: group) }
        gauge.arrive(at: .subscribing)
        var connected = 0
        var result = SubscriberResult(latencies: Histogram())
        while true {
            let isReturning = group.returnedFrom != nil
            let end = isReturning ? min(links.count, connected + Self.returningPerTurn) : links.count
            while connected < end, isReturning || group.underWay < Self.underWayMax, control.phase != .done {
                group.underWay += 1
                links[connected].connect(number: connections.lowerBound + connected)
                connected += 1
            }
            let isFull = loop.turn(nanoseconds: connected < links.count && isReturning ? 0 : Self.turnNanoseconds)
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
            case .subscribing, .warming: break
            case .cut:
                for link in links { link.close() }
                // Those that come back are new connections, each with the place of the one before.
                links = zip(connections, links).map { makeLink(number: $0, loop: loop, group: group, position: $1.position) }
                connected = links.count
            case .resuming:
                group.ready = 0
                gauge.ready.store(0, ordering: .relaxed)
                group.returnedFrom = control.resumeStart.load(ordering: .acquiring)
                connected = 0
            case .measuring: result.wireBefore = wireBytes(of: links)
            case .done: result.wireAfter = wireBytes(of: links)
            }
            if phase == .done { break }
            gauge.arrive(at: phase)
        }
        for link in links { link.close() }
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

    /// - Parameter position: where it goes on; nil for a first connection.
    private func makeLink(number: Int, loop: LinkLoop, group: SubscriberGroup, position: [UInt8]? = nil) -> SubscriberLink {
        let first = number * plan.streamsEach
        let channel = channelName(of: first)
        let profile = plan.profile
        let resume = plan.resumes ? profile.resume : nil
        func request(_ request: Profile.Request) -> Profile.Request {
            guard position != nil, let resume else { return request }
            return Profile.Request(method: request.method, path: resume.path, fields: request.fields)
        }
        let names = resume.map { [$0.capture.name] } ?? []
        let place = first - subscribers.lowerBound
        let capture = resume.map { PositionCapture($0.capture, position: position) }
        let authority = plan.target.authority
        switch plan.transport {
        case .webSocket:
            let head = RequestTemplate.head(
                request(profile.webSocket!), channel: channel, authority: authority, names: names, extra: WebSocketLink.handshakeFields
            )
            return WebSocketLink(loop: loop, group: group, first: place, handshake: head, capture: capture)
        case .eventStream:
            let head = RequestTemplate.head(request(profile.eventStream!), channel: channel, authority: authority, names: names)
            return EventStreamLink(loop: loop, group: group, first: place, head: head, capture: capture)
        case .eventStreamHTTP2:
            let request = profile.eventStream!
            let requests = (first..<min(first + plan.streamsEach, plan.subscribers)).map { subscriber in
                let channel = channelName(of: subscriber)
                return HTTP2Link.Request(
                    path: Array(request.path.replacing("{channel}", with: channel).utf8),
                    fields: request.fields.map { ($0.name, Array($0.value.replacing("{channel}", with: channel).utf8)) }
                )
            }
            return HTTP2Link(loop: loop, group: group, first: place, requests: requests)
        case .longPoll:
            let poll = profile.longPoll!
            let names = poll.captures.map(\.name)
            let pollPlan = PollPlan(
                first: RequestTemplate.head(poll.first, channel: channel, authority: authority, names: names),
                next: RequestTemplate.head(poll.next, channel: channel, authority: authority, names: names),
                captures: poll.captures, answersAtOnce: poll.answersAtOnce
            )
            return LongPollLink(loop: loop, group: group, first: place, plan: pollPlan)
        }
    }
}

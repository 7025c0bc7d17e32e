import CEpoll
import Synchronization
import TLSEngine

/// What became of the publications.
struct PublisherResult: Sendable {
    /// Nanoseconds from when a message was due to when it was given to the socket: what the load generator itself adds.
    var lateness = Histogram()
    var sent = 0
    var accepted = 0
    var refused = 0
    /// Status of the first refusal.
    var refusal: Int?
    /// Due while their connection was gone.
    var unsent = 0
}

/// A keep-alive connection for publications, pipelined (RFC 9112 section 9.3.2), so that no message waits for an answer.
private final class PublisherLink: Link, ResponseSink {
    private(set) var accepted = 0
    private(set) var refused = 0
    private(set) var refusal: Int?
    private(set) var why: String?
    private(set) var wasOpened = false
    /// Requests of this turn.
    var batch: [UInt8] = []
    var batchCount = 0
    private var responses = ResponseReader()

    override func opened() {
        wasOpened = true
    }

    override func ended(_ why: String) {
        self.why = why
    }

    override func received(_ bytes: UnsafeRawBufferPointer) throws(ReadingFault) {
        _ = try responses.read(bytes, into: self)
    }

    func responseHead(status: Int) {
        if (200..<300).contains(status) {
            accepted += 1
        } else {
            refused += 1
            if refusal == nil { refusal = status }
        }
    }

    func responseField(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {}
    func responseBody(_ bytes: UnsafeRawBufferPointer) {}
    func responseEnd() {}
}

/// The thread that publishes, each message when it is due. The messages of a channel go over one connection, in order.
struct PublisherThread {
    private static let idleNanoseconds: Int64 = 10_000_000
    /// Due messages that are sent before answers are read again.
    private static let turnMessagesMax = 1000
    /// Messages a second while all connections are cut.
    private static let missedRate = 1000.0

    let plan: LoadPlan
    let run: UInt32
    let tlsContext: TLSContext?
    let control: LoadControl
    let gauge: ThreadGauge<PublisherResult>

    func callAsFunction() {
        _ = tocsin_set_timer_slack(1)
        let loop = LinkLoop(target: plan.publishTarget, tlsContext: tlsContext)
        let links = (0..<min(plan.publishConnections, plan.channels)).map { _ in PublisherLink(loop: loop) }
        for (index, link) in links.enumerated() { link.connect(number: index) }
        var result = PublisherResult()
        let maker = PayloadMaker(run: run, payloadBytes: plan.payloadBytes)
        let wrappings = (0..<plan.channels).map(wrapping)
        let batchHead = batchHead
        var warmUp: Schedule?
        var measured: Schedule?
        var missed: Schedule?
        var next = 0
        while control.phase != .done {
            if warmUp == nil { warmUp = schedule(from: control.warmUpStart, rate: plan.rate, numbers: 0..<plan.warmUp) }
            if measured == nil { measured = schedule(from: control.measureStart, rate: plan.rate, numbers: plan.timed) }
            if missed == nil { missed = schedule(from: control.cutStart, rate: Self.missedRate, numbers: plan.missed) }
            let schedule = next < plan.timed.lowerBound ? warmUp : next < plan.timed.upperBound ? measured : missed
            if let schedule {
                if plan.batch > 1 {
                    publishBatch(schedule, from: &next, head: batchHead, wrappings: wrappings, maker: maker, over: links[0], into: &result)
                } else {
                    publish(schedule, from: &next, wrappings: wrappings, maker: maker, over: links, into: &result)
                }
            }
            let isMore = schedule.map { next < $0.numbers.upperBound } ?? false
            let wait = isMore ? min(schedule!.due(next) - monotonicNanoseconds(), Self.idleNanoseconds) : Self.idleNanoseconds
            loop.turn(nanoseconds: wait)
            note(links)
        }
        for link in links {
            result.accepted += link.accepted * plan.batch
            result.refused += link.refused * plan.batch
            result.refusal = result.refusal ?? link.refusal
            link.close()
        }
        gauge.result = result
        gauge.arrive(at: .done)
    }

    private func schedule(from start: borrowing Atomic<Int64>, rate: Double, numbers: Range<Int>) -> Schedule? {
        let start = start.load(ordering: .acquiring)
        return start == 0 ? nil : Schedule(start: start, rate: rate, numbers: numbers, batch: plan.batch)
    }

    /// What stands around the payload of a channel's messages: the head of a request before it, or the rest of an item.
    private func wrapping(_ channel: Int) -> (before: [UInt8], after: [UInt8]) {
        let name = plan.profile.channelName(run: run, number: channel)
        if plan.batch > 1, let item = plan.profile.publishBatch?.item.replacing("{channel}", with: name) {
            let place = item.firstRange(of: "{payload}")!
            return (Array(item[..<place.lowerBound].utf8), Array((item[place.upperBound...] + "\n").utf8))
        }
        var head: [UInt8] = []
        RequestTemplate.head(
            plan.profile.publish, channel: name, authority: plan.publishTarget.authority,
            extra: "Content-Length: \(plan.payloadBytes)\r\n"
        ).append(values: [], into: &head)
        return (head, [])
    }

    /// Without its last line end: the length of the body follows.
    private var batchHead: [UInt8] {
        guard let batch = plan.profile.publishBatch else { return [] }
        var head: [UInt8] = []
        RequestTemplate.head(batch.request, channel: "", authority: plan.publishTarget.authority).append(values: [], into: &head)
        return head.dropLast(2)
    }

    private func note(_ links: [PublisherLink]) {
        gauge.ready.store(links.count { $0.wasOpened }, ordering: .relaxed)
        gauge.delivered.store(links.reduce(0) { $0 + $1.accepted + $1.refused } * plan.batch, ordering: .relaxed)
        let ended = links.count { $0.why != nil }
        if ended > gauge.ended.load(ordering: .relaxed) {
            gauge.firstEnd = links.lazy.compactMap(\.why).first
            gauge.ended.store(ended, ordering: .relaxed)
        }
    }

    private func publish(
        _ schedule: Schedule, from next: inout Int, wrappings: [(before: [UInt8], after: [UInt8])], maker: PayloadMaker,
        over links: [PublisherLink], into result: inout PublisherResult
    ) {
        let now = monotonicNanoseconds()
        let first = next
        while next < schedule.numbers.upperBound, next - first < Self.turnMessagesMax {
            let due = schedule.due(next)
            guard due <= now else { break }
            let channel = next % plan.channels
            let link = links[channel % links.count]
            if link.isOpen {
                link.batch.append(contentsOf: wrappings[channel].before)
                maker.append(number: UInt32(next), due: due, into: &link.batch)
                link.batchCount += 1
                if plan.timed.contains(next) { result.lateness.record(now - due) }
            } else {
                result.unsent += 1
            }
            next += 1
        }
        for link in links where link.batchCount > 0 {
            link.send(link.batch)
            result.sent += link.batchCount
            link.batch.removeAll(keepingCapacity: true)
            link.batchCount = 0
        }
    }

    /// Those that are due together go in one request.
    private func publishBatch(
        _ schedule: Schedule, from next: inout Int, head: [UInt8], wrappings: [(before: [UInt8], after: [UInt8])], maker: PayloadMaker,
        over link: PublisherLink, into result: inout PublisherResult
    ) {
        while next < schedule.numbers.upperBound, case let due = schedule.due(next), due <= monotonicNanoseconds() {
            let numbers = next..<next + plan.batch
            next = numbers.upperBound
            guard link.isOpen else {
                result.unsent += plan.batch
                continue
            }
            var body: [UInt8] = []
            for number in numbers {
                let wrapping = wrappings[number % plan.channels]
                body.append(contentsOf: wrapping.before)
                maker.append(number: UInt32(number), due: due, into: &body)
                body.append(contentsOf: wrapping.after)
            }
            if plan.timed.contains(numbers.lowerBound) { result.lateness.record(monotonicNanoseconds() - due) }
            link.send(head + Array("Content-Length: \(body.count)\r\n\r\n".utf8) + body)
            result.sent += plan.batch
        }
    }
}

import Glibc

/// What the links of one thread share.
final class SubscriberGroup {
    let tally: Tally
    let prefix: MarkerPrefix
    /// Subscribers that listen.
    var ready = 0
    /// Links that are being connected, or have not said yet that all their subscribers listen.
    var underWay = 0
    /// Subscribers whose connection ended.
    var ended = 0
    /// Why the first of them did.
    var firstEnd: String?
    /// When all might come back; nil while they have not been cut.
    var returnedFrom: Int64?
    /// Nanoseconds from then until each listened again.
    var returns = Histogram()
    /// For building requests.
    var request: [UInt8] = []
    /// Nanoseconds from the first SYN of a connection until all its subscribers listen.
    var handshakes = Histogram()
    /// What went over the wires until then.
    var handshakeWire = WireBytes()
    /// When connections are to be cut.
    let cutBook: CutBook?

    init(tally: Tally, prefix: MarkerPrefix, cutBook: CutBook?) {
        self.tally = tally
        self.prefix = prefix
        self.cutBook = cutBook
    }
}

/// A connection with one or several subscribers.
class SubscriberLink: Link {
    let group: SubscriberGroup
    /// Place in the tally of its first subscriber.
    let first: Int
    let count: Int
    private var readyCount = 0

    init(loop: LinkLoop, group: SubscriberGroup, first: Int, count: Int) {
        self.group = group
        self.first = first
        self.count = count
        super.init(loop: loop)
    }

    /// One more subscriber of this link listens.
    final func subscribed() {
        readyCount += 1
        group.ready += 1
        if let from = group.returnedFrom { group.returns.record(loop.now - from) }
        guard readyCount == count else { return }
        group.underWay -= 1
        guard group.returnedFrom == nil else { return }
        group.handshakes.record(monotonicNanoseconds() - connectStart)
        group.handshakeWire = group.handshakeWire + Socket.wireBytes(descriptor)
    }

    /// Where it would go on; nil when that is not known.
    var position: [UInt8]? { nil }

    override func ended(_ why: String) {
        if readyCount < count { group.underWay -= 1 }
        group.ended += count
        if group.firstEnd == nil { group.firstEnd = why }
    }

    @inline(__always)
    final func scan(_ bytes: UnsafeRawBufferPointer, with scanner: inout MarkerScanner, subscriber: Int) {
        let tally = group.tally
        let now = loop.now
        if let cutBook = group.cutBook { return scanEach(bytes, with: &scanner, subscriber: subscriber, cutBook) }
        scanner.scan(bytes, prefix: group.prefix) { number, due in
            tally.note(subscriber: subscriber, number: number, latency: now - due)
        }
    }

    /// Byte by byte, since positions and markers have to be seen in the order in which they stand.
    private func scanEach(_ bytes: UnsafeRawBufferPointer, with scanner: inout MarkerScanner, subscriber: Int, _ cutBook: CutBook) {
        let tally = group.tally
        let now = loop.now
        for index in bytes.indices {
            cutBook.read(bytes[index], subscriber: subscriber)
            scanner.scan(UnsafeRawBufferPointer(rebasing: bytes[index...index]), prefix: group.prefix) { number, due in
                tally.note(subscriber: subscriber, number: number, latency: now - due)
                cutBook.note(subscriber: subscriber, number: number, now: now)
            }
        }
    }

    final func refuse(status: Int?) {
        end("the subscription was answered with \(status.map { "status \($0)" } ?? "a status that cannot be read")")
    }
}

/// The last position that a subscriber has got, which its next connection names.
struct PositionCapture {
    private var capture: BodyCapture
    private var value: [UInt8]

    /// - Parameter position: the one that it begins with.
    init(_ resume: Profile.Resume, position: [UInt8]?) {
        capture = BodyCapture(after: resume.position.after, until: resume.position.until, takesLast: true)
        value = position ?? []
    }

    /// nil before the first.
    var position: [UInt8]? { value.isEmpty ? nil : value }

    mutating func read(_ bytes: UnsafeRawBufferPointer) {
        capture.read(bytes, into: &value)
    }
}

/// A WebSocket over HTTP/1.1 (RFC 6455).
final class WebSocketLink: SubscriberLink, ResponseSink, WebSocketSink {
    private static let pongHead: [UInt8] = [0x8a]
    /// RFC 6455 section 5.3; of zeros, which leave the bytes as they are. They hide pongs from proxies, and here are none.
    private static let mask: [UInt8] = [0, 0, 0, 0]

    static let handshakeFields = """
        Connection: Upgrade\r
        Upgrade: websocket\r
        Sec-WebSocket-Version: 13\r
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r

        """

    private let handshake: RequestTemplate
    private var responses = ResponseReader()
    private var frames = WebSocketFrames()
    private var scanner = MarkerScanner()
    private var isUpgraded = false
    private var capture: PositionCapture?

    init(loop: LinkLoop, group: SubscriberGroup, first: Int, handshake: RequestTemplate, capture: PositionCapture? = nil) {
        self.handshake = handshake
        self.capture = capture
        super.init(loop: loop, group: group, first: first, count: 1)
    }

    override func opened() {
        group.request.removeAll(keepingCapacity: true)
        handshake.append(values: [], into: &group.request)
        send(group.request)
    }

    override var position: [UInt8]? { capture?.position }

    override func received(_ bytes: UnsafeRawBufferPointer) throws(ReadingFault) {
        var bytes = bytes
        if !isUpgraded {
            let count = try responses.read(bytes, into: self)
            bytes = UnsafeRawBufferPointer(rebasing: bytes[count...])
        }
        if isUpgraded { try frames.read(bytes, into: self) }
    }

    func responseHead(status: Int) {
        guard status == 101 else { return refuse(status: status) }
        isUpgraded = true
        subscribed()
    }

    func responseField(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {}
    func responseBody(_ bytes: UnsafeRawBufferPointer) {}
    func responseEnd() {}

    func webSocketData(_ bytes: UnsafeRawBufferPointer) {
        capture?.read(bytes)
        scan(bytes, with: &scanner, subscriber: first)
    }

    func webSocketPing(_ payload: [UInt8]) {
        send(Self.pong(payload))
    }

    static func pong(_ payload: [UInt8]) -> [UInt8] {
        pongHead + [UInt8(payload.count) | 0x80] + mask + payload
    }

    func webSocketClose(code: Int) {
        end("the server closed the WebSocket with \(code)")
    }
}

/// Server-Sent Events over HTTP/1.1.
final class EventStreamLink: SubscriberLink, ResponseSink {
    private let head: RequestTemplate
    private var responses = ResponseReader()
    private var scanner = MarkerScanner()
    private var capture: PositionCapture?

    init(loop: LinkLoop, group: SubscriberGroup, first: Int, head: RequestTemplate, capture: PositionCapture? = nil) {
        self.head = head
        self.capture = capture
        super.init(loop: loop, group: group, first: first, count: 1)
    }

    override func opened() {
        group.request.removeAll(keepingCapacity: true)
        head.append(values: [], into: &group.request)
        send(group.request)
    }

    override var position: [UInt8]? { capture?.position }

    override func received(_ bytes: UnsafeRawBufferPointer) throws(ReadingFault) {
        _ = try responses.read(bytes, into: self)
    }

    func responseHead(status: Int) {
        guard status == 200 else { return refuse(status: status) }
        subscribed()
    }

    func responseField(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {}

    func responseBody(_ bytes: UnsafeRawBufferPointer) {
        capture?.read(bytes)
        scan(bytes, with: &scanner, subscriber: first)
    }

    func responseEnd() {
        end("the server ended the stream")
    }
}

/// How the polls of a subscriber are made.
struct PollPlan {
    let first: RequestTemplate
    let next: RequestTemplate
    let captures: [Profile.Capture]
    let answersAtOnce: Bool
    /// Whether polls are made when their time comes, and not when the one before has been answered.
    let isTimed: Bool
}

/// Polls on a connection that is kept. Of long-polls the next one is sent as soon as an answer has been read.
final class LongPollLink: SubscriberLink, ResponseSink {
    private let plan: PollPlan
    private var responses = ResponseReader()
    private var scanner = MarkerScanner()
    private var values: [[UInt8]]
    private var bodyCaptures: [BodyCapture?]
    private var isSubscribed = false
    private let goesOn: Bool
    /// A poll has not been answered yet.
    private var isAsking = false
    /// The time of another one came before that.
    private var isLate = false

    /// - Parameter values: what is known of the captures when it goes on from there; nil: it begins with the first request.
    init(loop: LinkLoop, group: SubscriberGroup, first: Int, plan: PollPlan, values: [[UInt8]]?) {
        self.plan = plan
        goesOn = values != nil
        self.values = values ?? Array(repeating: [], count: plan.captures.count)
        bodyCaptures = plan.captures.map {
            if case .body(let after, let until) = $0.place { BodyCapture(after: after, until: until) } else { nil }
        }
        super.init(loop: loop, group: group, first: first, count: 1)
    }

    override func opened() {
        poll(goesOn ? plan.next : plan.first)
        if !plan.answersAtOnce { markSubscribed() }
    }

    /// The time of a timed poll has come.
    func timeCame() {
        guard isSubscribed else { return }
        if isAsking {
            isLate = true
        } else {
            poll(plan.next)
        }
    }

    override func received(_ bytes: UnsafeRawBufferPointer) throws(ReadingFault) {
        _ = try responses.read(bytes, into: self)
    }

    func responseHead(status: Int) {
        // 304 and 408: nothing came in time.
        guard [200, 304, 408].contains(status) else { return refuse(status: status) }
        for index in bodyCaptures.indices { bodyCaptures[index]?.begin() }
    }

    func responseField(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
        for (index, capture) in plan.captures.enumerated() {
            guard case .field(let wanted) = capture.place, wanted.utf8.count == name.count else { continue }
            guard zip(wanted.utf8, name).allSatisfy({ $0 | 0x20 == $1 | 0x20 }) else { continue }
            values[index].removeAll(keepingCapacity: true)
            values[index].append(contentsOf: value)
        }
    }

    func responseBody(_ bytes: UnsafeRawBufferPointer) {
        for index in bodyCaptures.indices { bodyCaptures[index]?.read(bytes, into: &values[index]) }
        scan(bytes, with: &scanner, subscriber: first)
    }

    func responseEnd() {
        guard isOpen else { return }
        isAsking = false
        if !isSubscribed { markSubscribed() }
        guard !plan.isTimed || isLate else { return }
        isLate = false
        poll(plan.next)
    }

    private func poll(_ template: RequestTemplate) {
        isAsking = true
        group.request.removeAll(keepingCapacity: true)
        template.append(values: values, into: &group.request)
        send(group.request)
    }

    private func markSubscribed() {
        isSubscribed = true
        subscribed()
    }
}

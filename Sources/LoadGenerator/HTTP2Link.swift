/// Streams of one HTTP/2 connection: by ALPN over TLS, by prior knowledge without (RFC 9113 section 3). What they carry is in subclasses.
class HTTP2Link: SubscriberLink, HTTP2Sink {
    static let statusOK = 200
    /// The window of the connection is opened again when this much of it is used up.
    private static let windowStep = HTTP2Writer.windowMax / 2
    /// So many streams may be opened before the server has said how many it allows: it is to allow no fewer (RFC 9113 section 6.5.2).
    private static let streamsAtOnce = 100

    private var frames = HTTP2Frames()
    private var windowUsed = 0
    private var hasSettings = false

    // MARK: - For subclasses

    /// Whether the server may keep a table of the fields that it sends.
    var takesTable: Bool { false }

    /// Whether a stream may only be opened when the server has said that it takes extended CONNECT.
    var needsConnectProtocol: Bool { false }

    /// Appends the first request of each subscriber.
    func appendRequests(into bytes: inout [UInt8]) {}

    /// Next bytes of a body. Valid for the call.
    func data(stream: Int32, _ bytes: UnsafeRawBufferPointer) {}

    /// The status was that of a success.
    func accepted(stream: Int32) {
        subscribed()
    }

    func streamEnded(_ stream: Int32) {
        end("the server ended a stream")
    }

    // MARK: - The connection

    private var asksAtOnce: Bool { count <= Self.streamsAtOnce && !needsConnectProtocol }

    override func opened() {
        guard loop.tlsContext == nil || negotiatedProtocol == "h2" else { return end("the server does not speak HTTP/2 by ALPN") }
        var bytes: [UInt8] = []
        HTTP2Writer.appendPreface(takesTable: takesTable, into: &bytes)
        if asksAtOnce { appendRequests(into: &bytes) }
        send(bytes)
    }

    override func received(_ bytes: UnsafeRawBufferPointer) throws(ReadingFault) {
        try frames.read(bytes, into: self)
    }

    func http2Data(stream: Int32, _ bytes: UnsafeRawBufferPointer) {
        data(stream: stream, bytes)
    }

    func http2DataEnd(stream: Int32, windowBytes: Int, isLast: Bool) {
        windowUsed += windowBytes
        if windowUsed >= Self.windowStep {
            var bytes: [UInt8] = []
            HTTP2Writer.appendWindowUpdate(bytes: windowUsed, into: &bytes)
            windowUsed = 0
            send(bytes)
        }
        if isLast { streamEnded(stream) }
    }

    func http2Head(stream: Int32, status: Int?, isLast: Bool) {
        guard status == Self.statusOK, !isLast else { return refuse(status: status) }
        accepted(stream: stream)
    }

    func http2Settings(concurrentStreamsMax: Int?, enablesConnect: Bool) {
        var bytes: [UInt8] = []
        HTTP2Writer.appendSettingsAcknowledgement(into: &bytes)
        if !hasSettings {
            hasSettings = true
            if let most = concurrentStreamsMax, most < count {
                return end("the server allows \(most) streams a connection, and --streams is \(count)")
            }
            guard enablesConnect || !needsConnectProtocol else { return end("the server has no WebSockets over HTTP/2 (RFC 8441)") }
            if !asksAtOnce { appendRequests(into: &bytes) }
        }
        send(bytes)
    }

    func http2Ping(_ payload: [UInt8]) {
        var bytes: [UInt8] = []
        HTTP2Writer.appendPong(payload, into: &bytes)
        send(bytes)
    }

    func http2Reset(stream: Int32, code: UInt32) {
        end("the server reset a stream with code \(code)")
    }

    func http2GoAway(code: UInt32) {
        guard code != 0 else { return }
        end("the server went away with code \(code)")
    }
}

/// Several event streams on one connection.
final class EventStreamHTTP2Link: HTTP2Link {
    /// The request of each stream.
    struct Request {
        let path: [UInt8]
        let fields: [(name: String, value: [UInt8])]
    }

    private let requests: [Request]
    private var scanners: [MarkerScanner]

    init(loop: LinkLoop, group: SubscriberGroup, first: Int, requests: [Request]) {
        self.requests = requests
        scanners = Array(repeating: MarkerScanner(), count: requests.count)
        super.init(loop: loop, group: group, first: first, count: requests.count)
    }

    override func appendRequests(into bytes: inout [UInt8]) {
        for (index, request) in requests.enumerated() {
            HTTP2Writer.appendRequest(
                stream: Int32(index * 2 + 1), path: request.path, authority: loop.target.authority, isTLS: loop.target.isTLS,
                fields: request.fields, into: &bytes
            )
        }
    }

    override func data(stream: Int32, _ bytes: UnsafeRawBufferPointer) {
        let index = Int(stream) / 2
        guard scanners.indices.contains(index) else { return }
        scan(bytes, with: &scanners[index], subscriber: first + index)
    }
}

/// Several WebSockets on one connection (RFC 8441).
final class WebSocketHTTP2Link: HTTP2Link, WebSocketSink {
    private let paths: [[UInt8]]
    private var scanners: [MarkerScanner]
    private var readers: [WebSocketFrames]
    /// The WebSocket whose bytes are being read.
    private var current = 0

    /// - Parameter paths: of each WebSocket.
    init(loop: LinkLoop, group: SubscriberGroup, first: Int, paths: [[UInt8]]) {
        self.paths = paths
        scanners = Array(repeating: MarkerScanner(), count: paths.count)
        readers = paths.map { _ in WebSocketFrames() }
        super.init(loop: loop, group: group, first: first, count: paths.count)
    }

    override var needsConnectProtocol: Bool { true }

    override func appendRequests(into bytes: inout [UInt8]) {
        for (index, path) in paths.enumerated() {
            HTTP2Writer.appendWebSocketConnect(
                stream: Int32(index * 2 + 1), path: path, authority: loop.target.authority, isTLS: loop.target.isTLS, into: &bytes
            )
        }
    }

    override func data(stream: Int32, _ bytes: UnsafeRawBufferPointer) {
        let index = Int(stream) / 2
        guard readers.indices.contains(index) else { return }
        current = index
        do throws(ReadingFault) {
            try readers[index].read(bytes, into: self)
        } catch {
            end(error.description)
        }
    }

    func webSocketData(_ bytes: UnsafeRawBufferPointer) {
        scan(bytes, with: &scanners[current], subscriber: first + current)
    }

    func webSocketPing(_ payload: [UInt8]) {
        var bytes: [UInt8] = []
        HTTP2Writer.appendData(stream: Int32(current * 2 + 1), WebSocketLink.pong(payload), into: &bytes)
        send(bytes)
    }

    func webSocketClose(code: Int) {
        end("the server closed the WebSocket with \(code)")
    }
}

/// The long-polls of several subscribers on one connection, each poll a stream.
final class LongPollHTTP2Link: HTTP2Link {
    /// What stays the same, and the paths of the first poll and of those that follow.
    struct Poller {
        let firstPath: RequestTemplate
        let nextPath: RequestTemplate
        let fields: [(name: String, value: [UInt8])]
        var values: [[UInt8]]
        var captures: [BodyCapture]
        var scanner = MarkerScanner()
        var isSubscribed = false

        mutating func read(_ bytes: UnsafeRawBufferPointer) {
            for place in captures.indices { captures[place].read(bytes, into: &values[place]) }
        }
    }

    private var pollers: [Poller]
    /// Which subscriber a stream belongs to.
    private var owners: [Int32: Int] = [:]
    private var nextStream: Int32 = 1
    private let goesOn: Bool

    /// - Parameter goesOn: whether the first poll goes on behind a position that is known.
    init(loop: LinkLoop, group: SubscriberGroup, first: Int, pollers: [Poller], goesOn: Bool) {
        self.pollers = pollers
        self.goesOn = goesOn
        super.init(loop: loop, group: group, first: first, count: pollers.count)
    }

    override var takesTable: Bool { true }

    override func appendRequests(into bytes: inout [UInt8]) {
        for index in pollers.indices { appendPoll(index, goesOn ? pollers[index].nextPath : pollers[index].firstPath, into: &bytes) }
    }

    override func data(stream: Int32, _ bytes: UnsafeRawBufferPointer) {
        guard let index = owners[stream] else { return }
        pollers[index].read(bytes)
        scan(bytes, with: &pollers[index].scanner, subscriber: first + index)
    }

    override func accepted(stream: Int32) {
        guard let index = owners[stream] else { return }
        for place in pollers[index].captures.indices { pollers[index].captures[place].begin() }
    }

    override func streamEnded(_ stream: Int32) {
        guard let index = owners.removeValue(forKey: stream), isOpen else { return }
        if !pollers[index].isSubscribed {
            pollers[index].isSubscribed = true
            subscribed()
        }
        group.request.removeAll(keepingCapacity: true)
        appendPoll(index, pollers[index].nextPath, into: &group.request)
        send(group.request)
    }

    private func appendPoll(_ index: Int, _ template: RequestTemplate, into bytes: inout [UInt8]) {
        var path: [UInt8] = []
        template.append(values: pollers[index].values, into: &path)
        owners[nextStream] = index
        HTTP2Writer.appendRepeatedRequest(
            stream: nextStream, path: path, authority: loop.target.authority, isTLS: loop.target.isTLS, fields: pollers[index].fields,
            isFirst: nextStream == 1, into: &bytes
        )
        nextStream += 2
    }
}

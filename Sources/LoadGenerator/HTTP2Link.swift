/// Several event streams on one HTTP/2 connection: by ALPN over TLS, by prior knowledge without (RFC 9113 section 3).
final class HTTP2Link: SubscriberLink, HTTP2Sink {
    /// The request of each stream.
    struct Request {
        let path: [UInt8]
        let fields: [(name: String, value: [UInt8])]
    }

    private static let statusOK = 200
    /// The window of the connection is opened again when this much of it is used up.
    private static let windowStep = HTTP2Writer.windowMax / 2

    private let requests: [Request]
    private var frames = HTTP2Frames()
    private var scanners: [MarkerScanner]
    private var windowUsed = 0
    private var hasAsked = false

    init(loop: LinkLoop, group: SubscriberGroup, first: Int, requests: [Request]) {
        self.requests = requests
        scanners = Array(repeating: MarkerScanner(), count: requests.count)
        super.init(loop: loop, group: group, first: first, count: requests.count)
    }

    override func opened() {
        guard loop.tlsContext == nil || negotiatedProtocol == "h2" else { return end("the server does not speak HTTP/2 by ALPN") }
        var bytes: [UInt8] = []
        HTTP2Writer.appendPreface(into: &bytes)
        send(bytes)
    }

    override func received(_ bytes: UnsafeRawBufferPointer) throws(ReadingFault) {
        try frames.read(bytes, into: self)
    }

    func http2Data(stream: Int32, _ bytes: UnsafeRawBufferPointer) {
        let index = Int(stream) / 2
        guard scanners.indices.contains(index) else { return }
        scan(bytes, with: &scanners[index], subscriber: first + index)
    }

    func http2DataEnd(stream: Int32, windowBytes: Int, isLast: Bool) {
        if isLast { return end("the server ended a stream") }
        windowUsed += windowBytes
        guard windowUsed >= Self.windowStep else { return }
        var bytes: [UInt8] = []
        HTTP2Writer.appendWindowUpdate(bytes: windowUsed, into: &bytes)
        windowUsed = 0
        send(bytes)
    }

    func http2Head(stream: Int32, status: Int?, isLast: Bool) {
        guard status == Self.statusOK, !isLast else { return refuse(status: status) }
        subscribed()
    }

    func http2Settings(concurrentStreamsMax: Int?) {
        var bytes: [UInt8] = []
        HTTP2Writer.appendSettingsAcknowledgement(into: &bytes)
        if !hasAsked {
            hasAsked = true
            if let most = concurrentStreamsMax, most < requests.count {
                return end("the server allows \(most) streams a connection, and --streams is \(requests.count)")
            }
            for (index, request) in requests.enumerated() {
                HTTP2Writer.appendRequest(
                    stream: Int32(index * 2 + 1), path: request.path, authority: loop.target.authority, isTLS: loop.target.isTLS,
                    fields: request.fields, into: &bytes
                )
            }
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

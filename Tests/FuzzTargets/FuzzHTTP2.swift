import HTTP2Session
import HTTPTypes

/// nghttp2 behind its Swift type, fed with what a peer sends (RFC 9113).
///
/// The first byte chooses:
///
///     bit 0    the rest is bytes as they are on the wire, or frames in short (below)
///     bit 1    the session is a client's with three requests under way, or a server's
///     bit 2    small limits, or the usual ones
///     bit 3    a server answers while it reads, in ways that follow from the input; otherwise it only reads, and all cuts have to agree
///     bit 4    extended CONNECT is allowed
///     bit 5    the rest stands alone, or behind the preface and the peer's SETTINGS
///
/// A frame in short is four bytes and the payload: type, flags, stream (0 to 31; with bit 6 as far from the highest number; with bit 7
/// the reserved bit is set), length.
package func fuzzHTTP2(_ bytes: UnsafeRawBufferPointer) {
    guard let options = bytes.first else { return }
    let rest = Array(bytes.dropFirst())
    let isClient = options & 2 != 0
    var limits = options & 4 == 0 ? HTTP2Limits() : HTTP2Limits.small
    limits.allowsExtendedConnect = options & 16 != 0
    var wire: [UInt8] = []
    if options & 32 == 0 {
        if !isClient { wire += "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8 }
        HTTP2Frames.append(type: 4, flags: 0, stream: 0, [], to: &wire)
    }
    wire += options & 1 == 0 ? rest : HTTP2Frames.made(of: rest)
    let meter = HTTP2AllocationMeter()
    if isClient {
        compareClients(wire, limits, meter)
    } else if options & 8 == 0 {
        compareServers(wire, limits, meter)
    } else {
        let server = AnsweringServer(limits, meter, Draw(rest))
        Cut.drawn.forEachPiece(of: wire) { server.read(UnsafeRawBufferPointer($0)) }
        server.end()
    }
    requireSame(meter.liveBlocks, 0, "memory of nghttp2 is not given back")
}

extension HTTP2Limits {
    /// Limits that a short input reaches.
    fileprivate static var small: HTTP2Limits {
        var limits = HTTP2Limits()
        limits.concurrentStreamsMax = 3
        limits.headerListBytesMax = 200
        limits.headerFieldsMax = 6
        limits.initialWindowBytes = 100
        limits.connectionWindowBytes = 70_000
        limits.bodyBytesMax = 50
        limits.resetBurst = 3
        limits.idleFramesBurst = 5
        limits.outboundAcksMax = 4
        limits.outboundFramesMax = 12
        limits.settingsEntriesMax = 4
        limits.continuationsMax = 2
        limits.decoderTableBytesMax = 100
        limits.encoderTableBytesMax = 0
        return limits
    }
}

enum HTTP2Frames {
    static func append(type: UInt8, flags: UInt8, stream: UInt32, _ payload: [UInt8], to wire: inout [UInt8]) {
        wire += [UInt8(payload.count >> 16 & 255), UInt8(payload.count >> 8 & 255), UInt8(payload.count & 255), type, flags]
        withUnsafeBytes(of: stream.bigEndian) { wire.append(contentsOf: $0) }
        wire += payload
    }

    static func made(of input: [UInt8]) -> [UInt8] {
        var wire: [UInt8] = []
        var rest = input[...]
        while rest.count >= 4 {
            let head = Array(rest.prefix(4))
            let payload = Array(rest.dropFirst(4).prefix(Int(head[3])))
            rest = rest.dropFirst(4 + payload.count)
            let number = UInt32(head[2] & 0x1f)
            let stream = (head[2] & 0x40 == 0 ? number : 0x7fff_ffff - number) | UInt32(head[2] & 0x80) << 24
            append(type: head[0], flags: head[1], stream: stream, payload, to: &wire)
        }
        return wire
    }

    /// Calls `body` with each frame of what a session has sent, which has to be whole.
    static func forEach(of wire: [UInt8], _ body: (_ type: UInt8, _ flags: UInt8, _ stream: Int32, ArraySlice<UInt8>) -> Void) {
        var rest = wire[...]
        while !rest.isEmpty {
            require(rest.count >= 9, "a frame without its whole header")
            let head = Array(rest.prefix(9))
            let length = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
            require(length <= 16384, "a frame above what every peer takes")
            require(rest.count >= 9 + length, "a frame without its whole payload")
            let stream = head[5...].reduce(Int32(0)) { $0 << 8 | Int32($1) }
            require(stream >= 0, "a frame with the reserved bit")
            body(head[3], head[4], stream, rest.dropFirst(9).prefix(length))
            rest = rest.dropFirst(9 + length)
        }
    }
}

// MARK: - Reading only

private struct HTTP2Trace<Event: Equatable>: Equatable {
    var events: [Event] = []
    var fault: HTTP2Fault?
    var sent: [UInt8] = []
    var openStreams = 0
    var isFinished = false
    /// The peer has said that it opens no more streams.
    var saysGoAway = false
}

/// Checks that all traces say the same.
private func compare<Event>(_ traces: [HTTP2Trace<Event>]) {
    let whole = traces[0]
    // nghttp2 gives room back as it reads, so whether a peer has sent more than it may is as the cut may be; and so is all that follows.
    if traces.contains(where: \.tellsOfWindow) { return }
    for other in traces.dropFirst() {
        if whole.isNoticedLate || other.isNoticedLate {
            // They are looked at when a read is at its end, so what comes of the same read still counts or not, another fault too.
            for one in [whole, other] { require(one.fault != nil || one.saysGoAway, "a fault is noticed or not, as the cut may be") }
        } else if whole.saysGoAway {
            // Without open streams nghttp2 reads nothing more behind it, but for what comes in the same read.
            let count = min(other.events.count, whole.events.count)
            requireSame(Array(other.events.prefix(count)), Array(whole.events.prefix(count)), "HTTP/2 events depend on the cut")
        } else {
            requireSame(other.events, whole.events, "HTTP/2 events depend on the cut")
            // One frame may break several rules, and any of them may be told (RFC 9113 5.4).
            if let one = other.fault, let fault = whole.fault, one.isOfConnection, fault.isOfConnection { continue }
            requireSame(other.fault, whole.fault, "a fault of HTTP/2 depends on the cut")
            requireSame(other.sentApartFromWindows, whole.sentApartFromWindows, "what HTTP/2 answers depends on the cut")
            require(
                other.openStreams == whole.openStreams && other.isFinished == whole.isFinished, "the end of HTTP/2 depends on the cut")
        }
    }
}

extension HTTP2Fault {
    fileprivate var isOfConnection: Bool {
        switch self {
        case .connectionError, .misplacedFrame: true
        default: false
        }
    }
}

extension HTTP2Trace {
    /// A stream gets more room when so much of its body was taken, if it has not ended by then: how often, and whether its last bytes and
    /// its end are looked at together, is as the cut may be.
    fileprivate var sentApartFromWindows: [UInt8] {
        var kept: [UInt8] = []
        forEachSent { type, flags, stream, payload in
            if type == 8, stream > 0 { return }
            HTTP2Frames.append(type: type, flags: flags, stream: UInt32(stream), Array(payload), to: &kept)
        }
        return kept
    }

    /// The peer was told of FLOW_CONTROL_ERROR, for a stream or the connection.
    fileprivate var tellsOfWindow: Bool {
        var tells = false
        forEachSent { type, _, _, payload in
            if type == 3 || type == 7, payload.dropFirst(type == 3 ? 0 : 4).prefix(4).elementsEqual([0, 0, 0, 3]) { tells = true }
        }
        return tells
    }

    private func forEachSent(_ body: (_ type: UInt8, _ flags: UInt8, _ stream: Int32, ArraySlice<UInt8>) -> Void) {
        // A client's preface is not a frame.
        HTTP2Frames.forEach(of: Array(sent.dropFirst(sent.first == UInt8(ascii: "P") ? 24 : 0)), body)
    }

    fileprivate var isNoticedLate: Bool {
        switch fault {
        case .tooManyResets, .tooManyResetsProvoked, .tooManyIdleFrames, .tooManyFramesWaiting, .misplacedFrame: true
        default: false
        }
    }
}

private func compareServers(_ wire: [UInt8], _ limits: HTTP2Limits, _ meter: HTTP2AllocationMeter) {
    compare(
        Cut.allCases.map { cut in
            let session = HTTP2ServerSession(limits: limits, meter: meter)
            var trace = HTTP2Trace<HTTP2Event>()
            let grammar = StreamGrammar()
            cut.forEachPiece(of: wire) { piece in
                do throws(HTTP2Fault) {
                    try session.receive(UnsafeRawBufferPointer(piece), nowMilliseconds: 0)
                } catch {
                    trace.fault = error
                }
                while let event = session.nextEvent() {
                    grammar.take(event)
                    if case .goAway = event { trace.saysGoAway = true }
                    if case .body(let stream, let more) = event, case .body(stream, let bytes)? = trace.events.last {
                        trace.events[trace.events.count - 1] = .body(stream: stream, bytes + more)
                    } else {
                        trace.events.append(event)
                    }
                }
                require(session.openStreams <= Int(limits.concurrentStreamsMax), "more open streams than are allowed")
                return trace.fault == nil
            }
            while session.wantsWrite { session.send(into: &trace.sent, bytesMax: 1000) }
            while let event = session.nextEvent() {
                grammar.take(event)
                trace.events.append(event)
            }
            HTTP2Frames.forEach(of: trace.sent) { _, _, _, _ in }
            trace.fault = session.fault
            trace.openStreams = session.openStreams
            trace.isFinished = session.isFinished
            require(trace.fault == nil || trace.isFinished, "a connection with a fault that is not at its end")
            trace.dropUnfinishedBodies()
            return trace
        }
    )
}

// How much of a body comes before its stream is found wrong (too long, not of the length that was announced) depends on the cut, and does
// not matter: only whole bodies are compared.

extension HTTP2Trace<HTTP2Event> {
    fileprivate mutating func dropUnfinishedBodies() {
        let ended = Set(events.compactMap { if case .end(let stream) = $0 { stream } else { nil } })
        events.removeAll { if case .body(let stream, _) = $0 { !ended.contains(stream) } else { false } }
    }
}

extension HTTP2Trace<HTTP2ClientEvent> {
    fileprivate mutating func dropUnfinishedBodies() {
        let ended = Set(events.compactMap { if case .end(let stream) = $0 { stream } else { nil } })
        events.removeAll { if case .body(let stream, _) = $0 { !ended.contains(stream) } else { false } }
    }
}

private func compareClients(_ wire: [UInt8], _ limits: HTTP2Limits, _ meter: HTTP2AllocationMeter) {
    compare(
        Cut.allCases.map { cut in
            let session = HTTP2ClientSession(limits: limits, meter: meter)
            for method in [HTTPRequest.Method.get, .head, .post] {
                let request = HTTPRequest(method: method, scheme: "https", authority: "a", path: "/")
                require(session.request(request, body: method == .post ? [1, 2, 3] : []) != nil, "a first request is refused")
            }
            var trace = HTTP2Trace<HTTP2ClientEvent>()
            var closed: Set<HTTP2StreamID> = []
            session.send(into: &trace.sent, bytesMax: 1 << 20)
            func takeEvents() {
                while let event = session.nextEvent() {
                    if case .goAway = event { trace.saysGoAway = true }
                    if case .closed(let stream, _) = event {
                        require([1, 3, 5].contains(stream) && closed.insert(stream).inserted, "a stream is closed twice")
                    }
                    if case .body(let stream, let more) = event, case .body(stream, let bytes)? = trace.events.last {
                        trace.events[trace.events.count - 1] = .body(stream: stream, bytes + more)
                    } else {
                        trace.events.append(event)
                    }
                }
                requireSame(session.openStreams + closed.count, 3, "a stream is lost")
            }
            takeEvents()
            cut.forEachPiece(of: wire) { piece in
                do throws(HTTP2Fault) {
                    try session.receive(UnsafeRawBufferPointer(piece), nowMilliseconds: 0)
                } catch {
                    trace.fault = error
                }
                takeEvents()
                return trace.fault == nil
            }
            while session.wantsWrite { session.send(into: &trace.sent, bytesMax: 1000) }
            takeEvents()
            HTTP2Frames.forEach(of: Array(trace.sent.dropFirst(24))) { _, _, _, _ in }
            trace.fault = session.fault
            trace.openStreams = session.openStreams
            trace.isFinished = session.isFinished
            trace.dropUnfinishedBodies()
            return trace
        }
    )
}

// MARK: - What events may follow each other

/// Holds the events of a server to what `HTTP2Event` says: for one stream the request, its body, its end, and last and once that it is
/// closed.
final class StreamGrammar {
    private enum State {
        case open
        case tooLong
        case ended
        case closed
    }

    private var states: [HTTP2StreamID: State] = [:]
    private var lastStream: HTTP2StreamID = 0

    /// Streams of which the owner was told, and not yet that they are closed.
    var openCount: Int { states.values.count { $0 != .closed } }

    func take(_ event: HTTP2Event) {
        switch event {
        case .request(let stream, let request, _):
            begin(stream)
            check(request)
        case .headersTooLarge(let stream):
            begin(stream)
            states[stream] = .tooLong
        case .body(let stream, let bytes):
            require(states[stream] == .open && !bytes.isEmpty, "a body outside a request")
        case .bodyTooLong(let stream):
            requireSame(states[stream], .open, "a long body outside a request")
            states[stream] = .tooLong
        case .end(let stream):
            requireSame(states[stream], .open, "an end outside a request")
            states[stream] = .ended
        case .windowOpen(let stream):
            require(states[stream] != nil && states[stream] != .closed, "a window of no stream")
        case .closed(let stream, _):
            require(states[stream] != nil && states[stream] != .closed, "a stream is closed twice, or never was open")
            states[stream] = .closed
        case .goAway, .pingAcknowledged: break
        }
    }

    private func begin(_ stream: HTTP2StreamID) {
        require(stream > lastStream && stream % 2 == 1, "a stream out of order")
        lastStream = stream
        states[stream] = .open
    }

    private func check(_ request: HTTPRequest) {
        PlainField.requireHarmless(request.headerFields)
        require(request.headerFields[HTTPField.Name("Host")!] == nil, "Host among the fields")
        for field in request.headerFields {
            requireSame(field.name.rawName, field.name.rawName.lowercased(), "a field name in capitals")
            require(field.name.rawName.utf8.first != UInt8(ascii: ":"), "a pseudo-header among the fields")
            require(!["connection", "transfer-encoding", "upgrade"].contains(field.name.canonicalName), "a field of HTTP/1.1")
        }
        if request.method != .connect || request.extendedConnectProtocol != nil {
            require(request.path?.isEmpty == false && request.scheme?.isEmpty == false, "a request without a path")
        }
    }
}

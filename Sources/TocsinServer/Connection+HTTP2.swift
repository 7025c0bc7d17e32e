import HTTP2Session
import HTTPTypes
import NotificationCore
import Transports

extension Connection {
    private static let sendBytesMax = 64 << 10

    func receiveHTTP2(_ exchange: HTTP2Exchange, _ bytes: UnsafeRawBufferPointer) {
        do throws(HTTP2Fault) {
            try exchange.session.receive(bytes, nowMilliseconds: Clock.monotonicMilliseconds())
        } catch {
            drainHTTP2(exchange)
            return fail("http2", "\(error)")
        }
        handleEvents(exchange)
    }

    /// What handling an event brings about comes after it and not inside it, however many there are. In a slice, as many as fit into it.
    func handleEvents(_ exchange: HTTP2Exchange) {
        if exchange.isHandlingEvents || exchange.isHeldUp { return }
        exchange.isHandlingEvents = true
        while isOpen, !exchange.isHeldUp, let event = exchange.session.nextEvent() {
            handle(event, exchange)
            exchange.isHeldUp = !loop.turns.mayGoOn
        }
        exchange.isHandlingEvents = false
        // In the slice of another job: nobody else sees to it.
        if exchange.isHeldUp, !isAtWork { settle() }
    }

    private func handle(_ event: HTTP2Event, _ exchange: HTTP2Exchange) {
        switch event {
        case .request(let stream, let request, let hasBody):
            exchange.streams[stream] = HTTP2Stream(request: request, isTunnel: request.method == .connect)
            clearDeadline()
            if !hasBody || request.method == .connect {
                dispatch(stream, exchange)
            } else {
                setDeadline(stream, exchange, seconds: loop.server.configuration.bodySecondsMax)
            }
        case .body(let stream, let bytes):
            if exchange.streams[stream]?.isTunnel == true { return receiveTunnel(stream, exchange, bytes) }
            guard exchange.streams[stream]?.request != nil else { break }
            guard loop.mayPark(bytes.count) else { return refuse(stream, exchange, .tooManyBodies) }
            exchange.park(bytes.count, loop)
            exchange.streams[stream]?.body.append(contentsOf: bytes)
            if exchange.bodyBytes > exchange.bodyBytesMax { refuse(stream, exchange, .bodyTooLarge) }
        case .end(let stream):
            if let session = exchange.streams[stream]?.webSocket { return onStreamEnd(session, exchange) }
            dispatch(stream, exchange)
        case .windowOpen(let stream):
            if let session = exchange.streams[stream]?.webSocket { return onWindowOpen(session, exchange) }
            for id in exchange.streams[stream]?.eventStream?.subscribers ?? [] {
                loop.afterFanOut { [self] in if loop.hub.isCurrent(id) { loop.readOn(id) } }
            }
        case .closed(let stream, _):
            for id in exchange.streams[stream]?.subscribers ?? [] { loop.detachLater(id, self) }
            exchange.streams[stream]?.webSocket?.isClosed = true
            exchange.answerBytes -= exchange.streams[stream]?.answerBytes ?? 0
            if exchange.streams[stream]?.isTunnel != true { exchange.park(-(exchange.streams[stream]?.body.count ?? 0), loop) }
            exchange.streams[stream] = nil
            if exchange.streams.isEmpty {
                switch exchange.leaving {
                case .no: setDeadline(seconds: loop.server.configuration.idleSecondsMax)
                case .announced: break
                case .final: closeWhenDrained()
                }
            }
        case .bodyTooLong(let stream):
            refuse(stream, exchange, .bodyTooLarge)
        case .headersTooLarge(let stream):
            refuse(stream, exchange, Problem("head-too-large", "Header too large", status: 431, detail: "the header list is too large"))
        case .goAway:
            // It opens no more streams, so there is nothing to announce.
            finishLeaving(exchange)
        case .pingAcknowledged:
            if exchange.leaving == .announced { finishLeaving(exchange) }
        }
    }

    private func setDeadline(_ stream: Int32, _ exchange: HTTP2Exchange, seconds: Int) {
        let tick = loop.tick + loop.ticks(seconds: seconds)
        exchange.streams[stream]?.deadlineTick = tick
        look(at: tick)
    }

    /// A body that does not come, or an answer that is not taken.
    ///
    /// - Returns: when to look again.
    private func lookAtDeadline(_ number: Int32, _ stream: HTTP2Stream, _ exchange: HTTP2Exchange) -> UInt32 {
        guard loop.tick >= stream.deadlineTick else { return stream.deadlineTick }
        if stream.request != nil {
            refuse(
                number, exchange,
                Problem("request-timeout", "Request timeout", status: 408, detail: "the request's body did not come in time")
            )
            return exchange.streams[number]?.deadlineTick ?? .max
        }
        let bytesLeft = exchange.session.pendingBytes(number)
        guard bytesLeft > 0, bytesLeft >= stream.bytesLeft else {
            exchange.streams[number]?.bytesLeft = bytesLeft
            exchange.streams[number]?.deadlineTick = loop.tick + loop.ticks(seconds: loop.server.configuration.stallSecondsMax)
            return exchange.streams[number]?.deadlineTick ?? .max
        }
        exchange.session.reset(stream: number, errorCode: 8)  // CANCEL
        return .max
    }

    /// Bytes of a tunnel: of its WebSocket, or for it as soon as it is open.
    private func receiveTunnel(_ stream: Int32, _ exchange: HTTP2Exchange, _ bytes: [UInt8]) {
        var bytes = bytes
        if let session = exchange.streams[stream]?.webSocket {
            return bytes.withUnsafeMutableBytes { receiveWebSocket(session, $0) }
        }
        guard exchange.streams[stream]?.isAnswered == false else { return }
        exchange.streams[stream]?.body += bytes
        if exchange.streams[stream]?.body.count ?? 0 > loop.server.configuration.backlogBytesMax {
            exchange.session.reset(stream: stream, errorCode: 11)  // ENHANCE_YOUR_CALM
        }
    }

    private func refuse(_ stream: Int32, _ exchange: HTTP2Exchange, _ problem: Problem) {
        guard exchange.streams[stream]?.isFree != false else { return }
        exchange.park(-(exchange.streams[stream]?.body.count ?? 0), loop)
        exchange.streams[stream] = HTTP2Stream()
        respond(stream, exchange, problem.response, problem.json)
    }

    /// Answers a stream, once.
    func respond(_ stream: Int32, _ exchange: HTTP2Exchange, _ response: HTTPResponse, _ body: [UInt8]) {
        guard let state = exchange.streams[stream], !state.isAnswered else { return }
        var (response, body) = (response, body)
        if exchange.answerBytes > 0, exchange.answerBytes + body.count > loop.server.configuration.answerBytesMax {
            // It asks and does not read: what waits already is enough.
            let problem = Problem(
                "overloaded", "Too much waits to be read", status: 503, detail: "read the other answers of this connection first",
                rule: "bytes of answers that wait on a connection", retryAfterSeconds: 1
            )
            (response, body) = (problem.response, problem.json)
        }
        exchange.streams[stream]?.isAnswered = true
        exchange.streams[stream]?.bytesLeft = body.count
        exchange.streams[stream]?.answerBytes = body.count
        exchange.answerBytes += body.count
        setDeadline(stream, exchange, seconds: loop.server.configuration.stallSecondsMax)
        exchange.session.respond(stream: stream, dated(response, stream: stream), body: body)
    }

    /// The request has been read: it is routed, once.
    private func dispatch(_ stream: Int32, _ exchange: HTTP2Exchange) {
        guard let request = exchange.streams[stream]?.request else { return }
        exchange.streams[stream]?.request = nil
        exchange.streams[stream]?.deadlineTick = 0
        let body = exchange.streams[stream]?.body ?? []
        exchange.park(-body.count, loop)
        exchange.streams[stream]?.body = []
        let handle = RequestHandle(
            connection: self, stream: stream, serial: 0, isHead: request.method == .head, isTunnel: request.method == .connect
        )
        guard request.method == .connect else { return loop.route(request, body: body, upgrade: nil, handle) }
        // A plain CONNECT wants a proxy (RFC 9110 section 9.3.6); another protocol than this is not served (as in RFC 9220 section 3).
        guard request.extendedConnectProtocol == "websocket" else {
            return loop.answer(
                handle,
                Problem("not-implemented", "Not implemented", status: 501, detail: "CONNECT is served with :protocol websocket only")
            )
        }
        loop.route(request, body: [], upgrade: "websocket", handle)
    }

    /// - Returns: false, and takes nothing, if the stream still has earlier bytes.
    func offer(stream: Int32, _ bytes: [UInt8], _ range: Range<Int>) -> Bool {
        guard case .http2(let exchange) = state, exchange.streams[stream] != nil else { return true }
        let isTaken = offer(exchange, stream, bytes, range)
        if isTaken { wantFlush(exchange) }
        return isTaken
    }

    /// All that goes to a stream, but for the frames of `writeFrame`, comes through here: so they do not overtake it.
    func offer(_ exchange: HTTP2Exchange, _ stream: Int32, _ bytes: [UInt8], _ range: Range<Int>) -> Bool {
        returnCredit(exchange, stream)
        return exchange.session.offer(stream: stream, bytes, range: range)
    }

    func finish(_ exchange: HTTP2Exchange, _ stream: Int32) {
        returnCredit(exchange, stream)
        exchange.session.finish(stream: stream)
    }

    func returnCredit(_ exchange: HTTP2Exchange, _ stream: Int32) {
        for id in exchange.streams[stream]?.subscribers ?? [] where loop.outlets[id].credit > 0 {
            exchange.session.giveBack(stream: stream, Int(loop.outlets[id].credit))
            loop.outlets[id].credit = 0
        }
    }

    /// Its stream has several subscriptions from now on: what waits for one of them must not be overtaken by another.
    func refuseCredit(stream: Int32, _ ids: [SubscriberID]) {
        guard stream != 0, case .http2(let exchange) = state else { return }
        returnCredit(exchange, stream)
        for id in ids { loop.outlets[id].credit = -1 }
    }

    // MARK: the fan-out

    private static let creditBytes = 16 << 10
    /// More are not gathered before they are sent.
    private static let framesBytesMax = 32 << 10

    /// The hot path: a frame of DATA with these bytes, made here. Those of all streams of a connection go out with one write.
    ///
    /// - Returns: false, and takes nothing, if the session has to see to it: there is no room, or something waits, or it is too long.
    func writeFrame(_ bytes: UnsafeRawBufferPointer, _ outlet: UnsafeMutablePointer<Outlet>) -> Bool {
        guard case .http2(let exchange) = state, pendingBytes == 0, !exchange.isHeldUp, outlet.pointee.credit >= 0,
            bytes.count <= HTTP2ServerSession.frameBytesMax,
            exchange.session.mayWrite(
                bytes.count, stream: outlet.pointee.stream, credit: &outlet.pointee.credit, version: &outlet.pointee.creditVersion,
                portion: Self.creditBytes
            )
        else { return false }
        if exchange.streamCount == 1, exchange.frames.isEmpty {
            let frame = loop.frameMemory
            let count = DataFrame.write(bytes, stream: outlet.pointee.stream, to: frame)
            write(UnsafeRawBufferPointer(rebasing: frame[..<count]))
            return true
        }
        if exchange.frames.isEmpty { beginFrames(exchange, bytes.count) }
        exchange.append(bytes, stream: outlet.pointee.stream)
        if exchange.frameCount == exchange.streamCount || exchange.frames.count >= Self.framesBytesMax { flushFrames(exchange) }
        return true
    }

    private func beginFrames(_ exchange: HTTP2Exchange, _ count: Int) {
        let expected = min(exchange.streamCount * (count + DataFrame.headerBytes), Self.framesBytesMax + HTTP2ServerSession.frameBytesMax)
        exchange.frames = loop.takeSpareBytes()
        exchange.frames.reserveCapacity(expected)
        markDirty(exchange)
    }

    private func flushFrames(_ exchange: HTTP2Exchange) {
        guard !exchange.frames.isEmpty else { return }
        let bytes = exchange.frames
        exchange.frames = []
        exchange.frameCount = 0
        write(bytes)
        loop.keepSpareBytes(bytes)
    }

    /// In the fan-out: at its end, once for all streams. Else the caller flushes.
    func wantFlush(_ exchange: HTTP2Exchange) {
        guard loop.isFanningOut else { return }
        exchange.wantsDrain = true
        markDirty(exchange)
    }

    private func markDirty(_ exchange: HTTP2Exchange) {
        guard !exchange.isDirty else { return }
        exchange.isDirty = true
        loop.markDirty(self)
    }

    /// The fan-out is through.
    func flushDirty(_ exchange: HTTP2Exchange) {
        exchange.isDirty = false
        if exchange.wantsDrain { flushHTTP2() } else { flushFrames(exchange) }
    }

    /// Sends what the session has, as long as the socket takes it.
    func flushHTTP2() {
        guard case .http2(let exchange) = state else { return }
        exchange.wantsDrain = false
        drainHTTP2(exchange)
        handleEvents(exchange)
        // Faults that the session answers by itself show only when the answer has gone out.
        if isOpen, !exchange.isHandlingEvents, !exchange.isHeldUp, exchange.session.isFinished {
            if let fault = exchange.session.fault { fail("http2", "\(fault)") } else { closeWhenDrained() }
        }
    }

    /// The socket has drained: streams that stopped because of it, and not of their own window, read on. (`windowOpen` speaks only of
    /// streams that still hold bytes, or refused some.)
    func readOnStreams(_ exchange: HTTP2Exchange) {
        for stream in exchange.streams.values where stream.poll == nil {
            for id in stream.subscribers where loop.hub.isCurrent(id) && !loop.hub.isLive(id) { loop.readOnSoon(id, milliseconds: 0) }
        }
    }

    private func drainHTTP2(_ exchange: HTTP2Exchange) {
        flushFrames(exchange)
        var out: [UInt8] = []
        while isOpen, hasRoom(stream: 0), exchange.session.wantsWrite {
            out.removeAll(keepingCapacity: true)
            exchange.session.send(into: &out, bytesMax: Self.sendBytesMax)
            if out.isEmpty { break }
            write(out)
        }
    }

    func onHTTP2Idle(_ exchange: HTTP2Exchange) {
        switch exchange.leaving {
        case .no where !exchange.streams.isEmpty: clearDeadline()
        case .no: leaveHTTP2(exchange)
        case .announced: finishLeaving(exchange)
        case .final: close()
        }
    }

    /// Says goodbye in two steps, with a round trip between them, so that no request is lost which was on its way. What the streams have
    /// to say goes out first: some clients (Python's h2) take no more data of open streams once they have seen a GOAWAY.
    func leaveHTTP2(_ exchange: HTTP2Exchange) {
        guard exchange.leaving == .no else { return }
        drainHTTP2(exchange)
        exchange.leaving = .announced
        exchange.session.shutDown()
        exchange.session.ping()
        drainHTTP2(exchange)
        setDeadline(seconds: 1)
    }

    /// The second step.
    private func finishLeaving(_ exchange: HTTP2Exchange) {
        guard exchange.leaving != .final else { return }
        exchange.leaving = .final
        exchange.session.finalGoAway()
        drainHTTP2(exchange)
        if exchange.streams.isEmpty { closeWhenDrained() } else { setDeadline(seconds: loop.server.configuration.stallSecondsMax) }
    }

    /// Heartbeats and deadlines of the streams.
    func lookAtStreams(_ exchange: HTTP2Exchange) -> UInt32 {
        var next = UInt32.max
        for number in Array(exchange.streams.keys) {
            // What is done for one stream may end others, or the connection.
            guard isOpen, let stream = exchange.streams[number] else { continue }
            if let session = stream.eventStream {
                next = min(next, lookAtStream(session, stream: number))
            } else if let session = stream.webSocket {
                next = min(next, lookAtToken(.webSocket(session)), heartbeat(session))
            } else if let poll = stream.poll {
                next = min(next, loop.tick >= poll.dueTick ? loop.endPoll(poll, self, number) ?? .max : poll.dueTick)
            } else if stream.deadlineTick > 0 {
                next = min(next, lookAtDeadline(number, stream, exchange))
            }
        }
        flushHTTP2()
        return next
    }
}

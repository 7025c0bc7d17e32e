import HTTP2Session
import HTTPTypes

/// A server on one HTTP/2 connection that does all that an owner of a session may do, as numbers drawn from the input say.
final class AnsweringServer {
    private enum Answer: Equatable {
        case waiting
        case streaming
        case done
    }

    private let session: HTTP2ServerSession
    private let limits: HTTP2Limits
    private let grammar = StreamGrammar()
    private var draw: Draw
    private var nowMilliseconds: Int64 = 0
    private var answers: [HTTP2StreamID: Answer] = [:]
    /// What was handed over for each stream, and what came out of it.
    private var offered: [HTTP2StreamID: [UInt8]] = [:]
    private var sent: [UInt8] = []
    /// What is set aside for frames that are written here.
    private var credits: [HTTP2StreamID: (left: Int32, version: UInt16)] = [:]

    init(_ limits: HTTP2Limits, _ meter: HTTP2AllocationMeter, _ draw: Draw) {
        self.limits = limits
        self.draw = draw
        session = HTTP2ServerSession(limits: limits, meter: meter)
    }

    /// - Returns: whether the connection goes on.
    func read(_ bytes: UnsafeRawBufferPointer) -> Bool {
        nowMilliseconds += Int64(draw.below(50))
        do throws(HTTP2Fault) {
            try session.receive(bytes, nowMilliseconds: nowMilliseconds)
        } catch {
            requireSame(session.fault, error, "another fault than the one that was thrown")
        }
        takeEvents()
        if draw.below(4) > 0 {
            session.send(into: &sent, bytesMax: sent.count + [1, 1000, 100_000][draw.below(3)])
            takeEvents()
        }
        if draw.below(64) == 0 { endOrPing() }
        require(session.openStreams <= Int(limits.concurrentStreamsMax), "more open streams than are allowed")
        require(grammar.openCount <= session.openStreams, "a stream is lost")
        return session.fault == nil && !session.isFinished
    }

    /// Sends what is left, and looks at all that was sent.
    func end() {
        for _ in 0..<1000 where session.wantsWrite {
            session.send(into: &sent, bytesMax: sent.count + 1000)
            takeEvents()
        }
        require(session.fault == nil || session.isFinished, "a connection with a fault that is not at its end")
        let data = dataSent()
        for (stream, bytes) in data {
            require((offered[stream] ?? []).starts(with: bytes), "other bytes are sent than were offered")
        }
    }

    private func endOrPing() {
        switch draw.below(4) {
        case 0: session.shutDown()
        case 3: session.ping()
        case 1: session.finalGoAway()
        default: session.terminate(errorCode: UInt32(draw.below(14)))
        }
    }

    private func takeEvents() {
        while let event = session.nextEvent() {
            grammar.take(event)
            switch event {
            case .request(let stream, _, _), .headersTooLarge(let stream):
                answers[stream] = Answer.waiting
                if draw.below(3) > 0 { answer(stream) }
            case .body(let stream, _), .bodyTooLong(let stream), .end(let stream):
                if draw.below(2) > 0 { answer(stream) }
            case .windowOpen(let stream):
                require(answers[stream] != Answer.waiting, "a window before an answer")
                goOn(stream)
            case .closed(let stream, _):
                requireSame(session.pendingBytes(stream), 0, "a closed stream has something pending")
                answers[stream] = nil
                credits[stream] = nil
            case .goAway, .pingAcknowledged: break
            }
        }
    }

    private func answer(_ stream: HTTP2StreamID) {
        guard answers[stream] == Answer.waiting else { return goOn(stream) }
        var response = HTTPResponse(status: [.ok, .noContent, .contentTooLarge][draw.below(3)])
        response.headerFields[.contentType] = "text/event-stream"
        response.headerFields[.connection] = "close"
        switch draw.below(5) {
        case 0: session.reset(stream: stream, errorCode: UInt32(draw.below(14)))
        case 1:
            let body = someBytes()
            offered[stream, default: []] += body
            session.respond(stream: stream, response, body: body)
            answers[stream] = .done
        case 2:
            session.respond(stream: stream, response, body: [])
            answers[stream] = .done
        default:
            session.startStreaming(stream: stream, response)
            answers[stream] = .streaming
            goOn(stream)
        }
    }

    private func goOn(_ stream: HTTP2StreamID) {
        guard answers[stream] == .streaming else { return }
        switch draw.below(8) {
        case 0:
            giveBack(stream)
            session.finish(stream: stream)
            answers[stream] = .done
        case 1: session.reset(stream: stream, errorCode: 8)
        case 2, 3, 4: writeFrame(stream)
        default:
            giveBack(stream)
            let bytes = someBytes()
            let start = draw.below(bytes.count + 1)
            if session.offer(stream: stream, bytes, range: start..<bytes.count) { offered[stream, default: []] += bytes[start...] }
        }
    }

    private func writeFrame(_ stream: HTTP2StreamID) {
        let bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: draw.next()), count: [1, 100, 16_384][draw.below(3)])
        var (left, version) = credits[stream] ?? (0, 0)
        let isAllowed = session.mayWrite(bytes.count, stream: stream, credit: &left, version: &version, portion: 500)
        credits[stream] = (left, version)
        require(!isAllowed || session.fault == nil && session.pendingBytes(stream) == 0, "a frame may be written that may not")
        guard isAllowed else { return }
        offered[stream, default: []] += bytes
        HTTP2Frames.append(type: 0, flags: 0, stream: UInt32(stream), bytes, to: &sent)
    }

    private func giveBack(_ stream: HTTP2StreamID) {
        session.giveBack(stream: stream, Int(credits[stream]?.left ?? 0))
        credits[stream] = nil
    }

    private func someBytes() -> [UInt8] {
        let count = [0, 1, 100, 20_000, 70_000][draw.below(5)]
        let first = UInt8(truncatingIfNeeded: draw.next())
        return (0..<count).map { first &+ UInt8(truncatingIfNeeded: $0) }
    }

    /// The payloads of DATA frames, stream by stream.
    private func dataSent() -> [HTTP2StreamID: [UInt8]] {
        var data: [HTTP2StreamID: [UInt8]] = [:]
        var ended: Set<HTTP2StreamID> = []
        HTTP2Frames.forEach(of: sent) { type, flags, stream, payload in
            require(!ended.contains(stream) || type != 0 && type != 1, "something behind the end of a stream")
            if type == 0 { data[stream, default: []] += payload }
            if type <= 1, flags & 1 != 0 { ended.insert(stream) }
        }
        return data
    }
}

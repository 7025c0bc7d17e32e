import HTTP1Codec
import HTTP2Session
import Limits
import NIOCore
import NotificationCore
import Transports
import WebSocketCodec

extension ServerLoop {
    /// So many are let go at a time: some milliseconds of the loop.
    private static let leaversMax = 500

    /// Asks everybody to come back later, each at a time of its own within the drain time, and lets them go.
    func leave(spreadMilliseconds: Int) {
        eventLoop.preconditionInEventLoop()
        let open = connections.indices.filter { connections[$0].map { $0.isOpen && !$0.isOwn } ?? false }
        var generator = Randomness()
        let phase = Double.random(in: 0..<1, using: &generator)
        let slots = DrainSlots(count: open.count, overMilliseconds: spreadMilliseconds, phase: phase)
        leave(open[...], slots, began: Clock.monotonicMilliseconds())
    }

    private func leave(_ places: ArraySlice<Int>, _ slots: DrainSlots, began: Int64) {
        var slots = slots
        let elapsed = Int(Clock.monotonicMilliseconds() - began)
        for index in places.prefix(Self.leaversMax) {
            let slot = max(DrainSlots.millisecondsMin, slots.next() - elapsed)
            if let connection = connections[index], connection.isOpen {
                connection.leave(retryAfterMilliseconds: slot, .serviceRestart)
            }
        }
        let rest = places.dropFirst(Self.leaversMax)
        if rest.isEmpty { return }
        let bound = bind((self, rest, slots))
        eventLoop.scheduleTask(in: .milliseconds(5)) { bound.value.0.leave(bound.value.1, bound.value.2, began: began) }
    }

    var openConnections: Int { counters.connections }

    /// What is still there after the drain time.
    func closeAll() {
        for connection in connections { connection?.close() }
    }
}

extension Connection {
    /// With the next answer.
    var isLeaving: Bool { loop.server.isDraining && !isOwn }

    /// - Parameter code: of a WebSocket's close: 1012, or 1013 where the server only has too much to do.
    func leave(retryAfterMilliseconds: Int, _ code: WebSocketCloseCode) {
        let goingAway = ControlObject.goingAway(retryAfterMilliseconds: retryAfterMilliseconds)
        switch state {
        case .webSocket(let session):
            end(session, milliseconds: retryAfterMilliseconds, code, Self.reason(code))
        case .eventStream(let session):
            endEventStream(session, stream: 0, goingAway, event: "going-away", retryMilliseconds: retryAfterMilliseconds)
        case .http1(let exchange):
            if let poll = exchange.poll {
                leave(poll, retryAfterMilliseconds)
            } else if exchange.head == nil, heldBytes == 0, !loop.server.isHandedOver {
                closeWhenDrained()
            }
        case .http2(let exchange):
            leaveHTTP2(exchange, retryAfterMilliseconds, code)
        case .sniffing:
            if !loop.server.isHandedOver { close() }
        case .lingering, .closed:
            break
        }
    }

    private static func reason(_ code: WebSocketCloseCode) -> String {
        code == .serviceRestart ? "the server restarts" : "the server is full"
    }

    /// `Retry-After` is in whole seconds: what is left of the slot passes before the answer, so that clients come back as evenly as over
    /// the other transports.
    private static func parts(of milliseconds: Int) -> (seconds: Int, rest: Int) {
        let seconds = max(1, milliseconds / 1000)
        return (seconds, max(0, milliseconds - 1000 * seconds))
    }

    private func leave(_ poll: ParkedPoll, _ milliseconds: Int) {
        let (seconds, rest) = Self.parts(of: milliseconds)
        if rest == 0 { return answer(leaving: poll, stream: 0, seconds) }
        hold(poll)
        let bound = loop.bind((self, poll))
        loop.eventLoop.scheduleTask(in: .milliseconds(Int64(rest))) {
            let (connection, poll) = bound.value
            connection.answer(leaving: poll, stream: 0, seconds)
        }
    }

    /// It is handed nothing more: else the next message would be its answer, and it would come again at once instead of in its slot.
    private func hold(_ poll: ParkedPoll) {
        for id in poll.subscribers where loop.hub.isCurrent(id) { loop.outlets[id].isClosing = true }
    }

    private func answer(leaving poll: ParkedPoll, stream: Int32, _ seconds: Int) {
        guard isOpen, self.poll(stream) === poll, !poll.isCounting else { return }
        if case .http1(let exchange) = state { exchange.head?.keepAlive = false }
        answer(poll, stream: stream, with: Problem.goingAway(retryAfterSeconds: seconds))
    }

    /// Refuses what was parked.
    func answer(_ poll: ParkedPoll, stream: Int32, with problem: Problem) {
        guard isOpen, self.poll(stream) === poll, !poll.isCounting else { return }
        switch state {
        case .http1(let exchange):
            exchange.repeated = nil
            exchange.poll = nil
            for id in poll.subscribers { loop.detachLater(id, self) }
            answerHTTP1(exchange, problem.response, problem.json, isHead: false)
        case .http2(let exchange):
            for id in poll.subscribers { loop.detachLater(id, self) }
            exchange.streams[stream]?.poll = nil
            respond(stream, exchange, problem.response, problem.json)
        default: break
        }
    }

    /// Sends a last message, if there is room for it, and ends the stream after it.
    func endEventStream(_ session: EventStreamSession, stream: Int32, _ object: [UInt8], event: String, retryMilliseconds: Int?) {
        // It has been ended, and what its socket has not taken goes out.
        if stream == 0, closesWhenDrained { return }
        let shape = loop.outlets[session.subscribers[0]].shape
        var out: [UInt8] = []
        shape.append(control: object, event: event, retryMilliseconds: retryMilliseconds, to: &out)
        guard stream != 0, case .http2(let exchange) = state else {
            if shape.isChunked { out.append(contentsOf: "0\r\n\r\n".utf8) }
            write(out)
            // What the socket has not taken goes out, and nothing after it.
            for id in session.subscribers { loop.detachLater(id, self) }
            return closeWhenDrained()
        }
        if hasRoom(stream: stream) { _ = offer(exchange, stream, out, 0..<out.count) }
        returnCredit(exchange, stream)
        for id in session.subscribers { loop.detachLater(id, self) }
        exchange.streams[stream]?.eventStream = nil
        exchange.session.finish(stream: stream)
        if loop.isFanningOut { wantFlush(exchange) } else { flushHTTP2() }
    }

    private func leaveHTTP2(_ exchange: HTTP2Exchange, _ milliseconds: Int, _ code: WebSocketCloseCode) {
        let (seconds, rest) = Self.parts(of: milliseconds)
        guard rest > 0, exchange.streams.values.contains(where: { $0.poll != nil }) else {
            return leaveStreams(exchange, milliseconds, code)
        }
        for stream in exchange.streams.values { if let poll = stream.poll { hold(poll) } }
        // All of them together, since what is answered behind the goodbye is lost to some clients.
        let bound = loop.bind((self, exchange))
        loop.eventLoop.scheduleTask(in: .milliseconds(Int64(rest))) {
            let (connection, exchange) = bound.value
            if connection.isOpen { connection.leaveStreams(exchange, 1000 * seconds, code) }
        }
    }

    private func leaveStreams(_ exchange: HTTP2Exchange, _ milliseconds: Int, _ code: WebSocketCloseCode) {
        let goingAway = ControlObject.goingAway(retryAfterMilliseconds: milliseconds)
        for (number, stream) in exchange.streams {
            if let session = stream.eventStream {
                endEventStream(session, stream: number, goingAway, event: "going-away", retryMilliseconds: milliseconds)
            } else if let session = stream.webSocket {
                end(session, milliseconds: milliseconds, code, Self.reason(code))
            } else if let poll = stream.poll {
                answer(leaving: poll, stream: number, max(1, milliseconds / 1000))
            }
        }
        leaveHTTP2(exchange)
        flushHTTP2()
    }
}

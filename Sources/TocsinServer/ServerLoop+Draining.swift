import HTTP2Session
import NIOCore
import NotificationCore
import Transports
import WebSocketCodec

extension ServerLoop {
    /// Asks everybody to come back later, each at a time of its own within the drain time, and lets them go.
    func leave(spreadMilliseconds: Int) {
        eventLoop.preconditionInEventLoop()
        for connection in connections {
            guard let connection, connection.isOpen else { continue }
            let retry = Int.random(in: 200...max(201, spreadMilliseconds))
            connection.leave(retryAfterMilliseconds: retry)
        }
    }

    var openConnections: Int { counters.connections }

    /// What is still there after the drain time.
    func closeAll() {
        for connection in connections { connection?.close() }
    }
}

extension Connection {
    func leave(retryAfterMilliseconds: Int) {
        let goingAway = ControlObject.goingAway(retryAfterMilliseconds: retryAfterMilliseconds)
        switch state {
        case .webSocket(let session):
            leave(session, goingAway)
        case .eventStream(let session):
            endEventStream(session, stream: 0, goingAway, event: "going-away", retryMilliseconds: retryAfterMilliseconds)
        case .http1(let exchange):
            if let poll = exchange.poll {
                exchange.poll = nil
                for id in poll.subscribers { loop.detachLater(id, self) }
                let problem = Problem.goingAway(retryAfterSeconds: (retryAfterMilliseconds + 999) / 1000)
                answerHTTP1(exchange, problem.response, problem.json, isHead: false)
            } else if exchange.head == nil, heldBytes == 0 {
                closeWhenDrained()
            }
        case .http2(let exchange):
            leaveStreams(exchange, goingAway, retryAfterMilliseconds)
        case .sniffing:
            close()
        case .lingering, .closed:
            break
        }
    }

    private func leave(_ session: WebSocketSession, _ goingAway: [UInt8]) {
        var out: [UInt8] = []
        session.adapter.shape.append(control: goingAway, event: "going-away", to: &out)
        session.adapter.close(.serviceRestart, "the server restarts", &out)
        send(session, out)
        close(session, awaitsPeer: true)
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

    private func leaveStreams(_ exchange: HTTP2Exchange, _ goingAway: [UInt8], _ retryAfterMilliseconds: Int) {
        for (number, stream) in exchange.streams {
            if let session = stream.eventStream {
                endEventStream(session, stream: number, goingAway, event: "going-away", retryMilliseconds: retryAfterMilliseconds)
            } else if let session = stream.webSocket {
                leave(session, goingAway)
            } else if let poll = stream.poll {
                for id in poll.subscribers { loop.detachLater(id, self) }
                exchange.streams[number]?.poll = nil
                let problem = Problem.goingAway(retryAfterSeconds: (retryAfterMilliseconds + 999) / 1000)
                respond(number, exchange, problem.response, problem.json)
            }
        }
        leaveHTTP2(exchange)
        flushHTTP2()
    }
}

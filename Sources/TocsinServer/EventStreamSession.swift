import NotificationCore
import Transports

/// What an SSE stream holds.
final class EventStreamSession {
    let id: SessionID
    var commands: CommandSession
    let heartbeatSeconds: UInt16
    let paddingBytes: Int
    var token: SessionToken?
    /// In the counts of its user.
    var place: CountedPlace?

    init(id: SessionID, commands: CommandSession, heartbeatSeconds: Int, paddingBytes: Int) {
        self.id = id
        self.commands = commands
        self.heartbeatSeconds = UInt16(heartbeatSeconds)
        self.paddingBytes = paddingBytes
    }

    var subscribers: [SubscriberID] { commands.subscribers }
}

extension Connection {
    /// A client has nothing to say while its stream runs; a little of it is passed over.
    func receiveWhileStreaming(_ session: EventStreamSession, _ count: Int) {
        if count > 1024 { fail("http1", "bytes during an event stream") }
    }

    /// - Returns: when to look again.
    func lookAtStream(_ session: EventStreamSession, stream: Int32 = 0) -> UInt32 {
        // It has ended, and what is left goes out.
        if closesWhenDrained { return .max }
        let next = lookAtToken(.eventStream(session, stream: stream))
        // It may have ended with its token.
        guard eventStream(stream) === session else { return .max }
        return min(next, heartbeat(session, stream: stream))
    }

    /// - Returns: when to look again.
    func heartbeat(_ session: EventStreamSession, stream: Int32 = 0) -> UInt32 {
        let interval = loop.ticks(seconds: Int(session.heartbeatSeconds))
        let lastTick = session.subscribers.reduce(0) { max($0, loop.outlets[$1].lastTick) }
        guard loop.tick - lastTick >= interval else { return lastTick + interval }
        let first = session.subscribers[0]
        loop.outlets[first].lastTick = loop.tick
        if hasRoom(stream: stream) {
            var out: [UInt8] = []
            loop.outlets[first].shape.appendHeartbeat(paddingBytes: session.paddingBytes, to: &out)
            write(out, stream: stream)
            if !hasRoom(stream: stream) { for id in session.subscribers { loop.stop(id) } }
        }
        return loop.tick + interval
    }

    /// The event stream on a stream of HTTP/2, or, with 0, on the whole connection.
    func eventStream(_ stream: Int32) -> EventStreamSession? {
        switch state {
        case .eventStream(let session) where stream == 0: session
        case .http2(let exchange): exchange.streams[stream]?.eventStream
        default: nil
        }
    }
}

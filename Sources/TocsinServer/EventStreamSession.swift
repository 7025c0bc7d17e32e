import NotificationCore
import Transports

/// What an SSE stream holds.
final class EventStreamSession {
    let subscriber: SubscriberID
    let heartbeatSeconds: UInt16
    let paddingBytes: Int

    init(subscriber: SubscriberID, heartbeatSeconds: Int, paddingBytes: Int) {
        self.subscriber = subscriber
        self.heartbeatSeconds = UInt16(heartbeatSeconds)
        self.paddingBytes = paddingBytes
    }
}

extension Connection {
    /// A client has nothing to say while its stream runs; a little of it is passed over.
    func receiveWhileStreaming(_ session: EventStreamSession, _ count: Int) {
        if count > 1024 { fail("http1", "bytes during an event stream") }
    }

    /// - Returns: when to look again.
    func heartbeat(_ session: EventStreamSession, stream: Int32 = 0) -> UInt32 {
        let interval = loop.ticks(seconds: Int(session.heartbeatSeconds))
        let outlet = loop.outlets[session.subscriber]
        guard loop.tick - outlet.lastTick >= interval else { return outlet.lastTick + interval }
        loop.outlets[session.subscriber].lastTick = loop.tick
        if hasRoom(stream: stream) {
            var out: [UInt8] = []
            outlet.shape.appendHeartbeat(paddingBytes: session.paddingBytes, to: &out)
            write(out, stream: stream)
            if !hasRoom(stream: stream) { loop.stop(session.subscriber) }
        }
        return loop.tick + interval
    }
}

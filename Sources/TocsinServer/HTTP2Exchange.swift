import HTTP2Session
import HTTPTypes
import NotificationCore
import Transports

/// What an HTTP/2 connection holds.
final class HTTP2Exchange {
    let session: HTTP2ServerSession
    var streams: [Int32: HTTP2Stream] = [:]
    /// It is among those that are flushed at the end of the fan-out.
    var isDirty = false
    var isLeaving = false

    init(limits: HTTP2Limits) {
        session = HTTP2ServerSession(limits: limits)
    }
}

struct HTTP2Stream {
    var request: HTTPRequest?
    var body: [UInt8] = []
    /// An SSE subscriber on this stream.
    var eventStream: EventStreamSession?
    var poll: ParkedPoll?

    var subscriber: SubscriberID? { eventStream?.subscriber ?? poll?.subscriber }
}

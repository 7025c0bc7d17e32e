import HTTP1Codec
import HTTPTypes
import Identity
import NotificationCore
import Transports

/// What an HTTP/1.1 connection holds while it is one.
final class HTTP1Exchange {
    var parser: HTTP1RequestParser
    /// Of the request that is being read or answered.
    var head: HTTP1RequestHead?
    var body: [UInt8] = []
    var bodyBytesMax: Int
    /// A request is being answered; what comes meanwhile is held (pipelining).
    var isAnswering = false
    var isHeadDeadlineSet = false
    var poll: ParkedPoll?
    /// Tells late answers from the request that is there now.
    var serial: Int32 = 0

    init(limits: HTTP1Limits) {
        parser = HTTP1RequestParser(limits: limits)
        bodyBytesMax = limits.bodyBytesMax
    }
}

/// A long-poll that waits at the head.
struct ParkedPoll {
    /// One for each subscription of the request.
    var subscribers: [SubscriberID]
    var isList: Bool
    var session: SessionID?
    var waitSeconds: Int
    var dueTick: UInt32
    /// It is answered at once, whatever there is.
    var isImmediate: Bool
    /// The connection ends with the answer.
    var closes: Bool
    /// What goes into its answer.
    var room: Hub.Room
    /// Its answer is there but for the count of unread alerts.
    var isCounting = false
    var token: SessionToken?
}

/// One request that is being answered: on HTTP/1.1 the only one of its connection, on HTTP/2 a stream.
struct RequestHandle {
    let connection: Connection
    /// HTTP/2: the stream. HTTP/1.1: 0.
    let stream: Int32
    /// HTTP/1.1: which request of the connection.
    let serial: Int32
    let isHead: Bool
    /// HTTP/2: an extended CONNECT (RFC 8441).
    var isTunnel = false
    /// Who makes the request; nil: nobody in particular.
    var identity: Identity?

    /// The other origin whose page made the request, if it may: named in the answer.
    var crossOrigin: String? {
        get {
            if case .http2(let exchange) = connection.state { return exchange.streams[stream]?.crossOrigin }
            return connection.crossOrigin
        }
        nonmutating set {
            if case .http2(let exchange) = connection.state {
                exchange.streams[stream]?.crossOrigin = newValue
            } else {
                connection.crossOrigin = newValue
            }
        }
    }
}

import NotificationCore
import Transports

/// How a subscriber is reached: what the fan-out has to know, side by side in memory, one per place in the hub's table.
///
/// The connection is held by its channel's pipeline; an outlet is taken out before that lets go of it, so it needs no count.
struct Outlet {
    enum Kind: UInt8 {
        case none
        /// WebSocket or SSE on a plain HTTP/1.1 connection: `send()` on the descriptor.
        case direct
        /// The same over TLS, or without a descriptor: through the connection.
        case buffered
        /// SSE or a WebSocket on a stream of HTTP/2.
        case http2
        /// Several subscriptions of one plain connection: what a batch holds for them goes out together.
        case gathered
        /// An event stream whose messages are padded: it is served by reading.
        case padded
        /// A parked poll: the next delivery is its answer.
        case longPoll
        /// A parked poll that is answered by reading: it has a rate, a user or several subscriptions.
        case readingPoll

        var isPoll: Bool { self == .longPoll || self == .readingPoll }
    }

    var connection: Unmanaged<Connection>?
    var descriptor: Int32 = -1
    /// Of HTTP/2; else 0.
    var stream: Int32 = 0
    /// HTTP/2: what is left of the portion of its stream's window that is set aside for it; negative: none is to be.
    var credit: Int32 = 0
    var creditVersion: UInt16 = 0
    /// When something was last sent to it: a heartbeat is due some time after.
    var lastTick: UInt32 = 0
    var kind = Kind.none
    var shape = WireShape.webSocket
    /// Its connection is closed; it is taken out after the fan-out that is under way.
    var isClosing = false
    /// The log has been asked for it.
    var isAsking = false
    /// It named a user: its count of unread alerts may change with what it is handed.
    var isUsers = false

    /// It is the canary's.
    var isOwn: Bool { connection?._withUnsafeGuaranteedRef { $0.isOwn } ?? false }

    var transport: Transport {
        kind.isPoll ? .longPoll : shape.isWebSocket ? .webSocket : .eventStream
    }
}

/// What a peer said: a whole message, or a control frame.
package enum WebSocketEvent: Equatable, Sendable {
    /// A text message. The bytes are valid UTF-8.
    case text([UInt8])
    case binary([UInt8])
    /// Wants a pong with the same bytes, at most 125.
    case ping([UInt8])
    case pong([UInt8])
    /// The last event of a connection. No code means an empty close frame: answer with an empty one.
    case close(WebSocketCloseCode?, reason: String)

    /// Ping, pong or close (RFC 6455 section 5.5).
    package var isControl: Bool {
        switch self {
        case .text, .binary: false
        case .ping, .pong, .close: true
        }
    }
}

/// Which end of the connection a decoder stands at (RFC 6455 section 5.1).
package enum WebSocketRole: Sendable {
    /// Reads what a client sends: every frame has to be masked.
    case server
    /// Reads what a server sends: no frame may be masked.
    case client
}

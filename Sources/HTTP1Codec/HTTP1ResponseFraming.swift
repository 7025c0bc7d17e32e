/// How the end of a response's body is found (RFC 9112 section 6.3).
package enum HTTP1ResponseFraming: Equatable, Sendable {
    /// No body: 1xx, 204, 304, or the answer to HEAD.
    case none
    /// So many bytes, by Content-Length. May be 0.
    case length(Int)
    /// Transfer-Encoding: chunked. Never to an HTTP/1.0 client.
    case chunked
    /// All until the connection closes.
    case untilClose
}

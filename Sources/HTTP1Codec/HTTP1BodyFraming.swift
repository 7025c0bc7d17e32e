/// How the end of a request's body is found (RFC 9112 section 6.3).
package enum HTTP1BodyFraming: Equatable, Sendable {
    /// No body, and no field about it.
    case none
    /// So many bytes, by Content-Length. May be 0.
    case length(Int)
    /// Transfer-Encoding: chunked.
    case chunked
}

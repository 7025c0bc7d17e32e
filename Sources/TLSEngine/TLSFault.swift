/// Why a TLS session, or the making of its context, cannot go on.
///
/// The texts come from OpenSSL or from here and hold nothing that a peer chose, so they may be logged.
package enum TLSFault: Error, Equatable, Sendable {
    /// The handshake did not come to its end: no common version, cipher or protocol, an untrusted certificate, a fatal alert.
    case handshakeFailed(String)
    /// The first bytes look like an HTTP request without TLS. Nothing was answered, so that the caller can do it in plain HTTP.
    case plainHTTPRequest
    /// After the handshake: a record that cannot be decrypted, a fatal alert, a message where it must not be (RFC 8446 section 6.2).
    case protocolError(String)
    /// The transport ended without close_notify: what came may be cut short (RFC 8446 section 6.1).
    case closedUncleanly
    /// A use of the session after a fault or after its `close`.
    case ended
    /// A file of certificates or keys cannot be used; `why` says what to look at.
    case certificate(file: String, why: String)
    /// OpenSSL refused a setting: the library on this host is not the one that was built for, or its policy forbids the setting.
    case settings(String)
}

extension TLSFault: CustomStringConvertible {
    package var description: String {
        switch self {
        case .handshakeFailed(let why): "TLS handshake failed: \(why)"
        case .plainHTTPRequest: "plain HTTP was sent to a TLS port; use https:// (or wss://), or the port without TLS"
        case .protocolError(let why): "TLS session failed: \(why)"
        case .closedUncleanly: "the peer closed the connection without close_notify; data may be missing"
        case .ended: "the TLS session has ended"
        case .certificate(let file, let why): "\(file): \(why)"
        case .settings(let why): "OpenSSL refuses a setting: \(why)"
        }
    }
}

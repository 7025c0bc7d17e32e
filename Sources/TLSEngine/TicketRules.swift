import COpenSSL
import Glibc

/// What has to hold, besides the ticket's key and lifetime, for a session to be resumed. Where it does not, there is a full handshake.
///
/// - The last full handshake is not too long ago. OpenSSL gives each TLS 1.3 ticket a whole new lifetime, so the time of the full handshake
///   is kept in the ticket, 8 bytes, and handed on from ticket to ticket (RFC 8446 section 4.6.1).
/// - The client's certificate, if there was one, has not expired since.
/// - In TLS 1.2, the client names the server that it named then (RFC 6066 section 3), which OpenSSL does not look at. In TLS 1.3 the
///   name is not part of the session.
///
/// That the rules for client certificates are still the same is held by the session id context (`ClientAuthorities`).
final class TicketRules {
    private let authenticationSecondsMax: Int64

    init(authenticationSecondsMax: Int) {
        self.authenticationSecondsMax = Int64(authenticationSecondsMax)
    }

    /// Makes sessions of `context` follow the rules, which have to outlive them.
    func install(in context: OpaquePointer) {
        let isSet = SSL_CTX_set_session_ticket_cb(
            context,
            { session, _ in
                guard let session, let state = SSL_get_session(session) else { return 0 }
                if TicketRules.fullHandshakeSeconds(of: state) == nil {
                    TicketRules.setFullHandshakeSeconds(Int64(SSL_SESSION_get_time(state)), of: state)
                }
                return 1
            },
            { session, state, _, _, status, argument in
                guard status == SSL_TICKET_SUCCESS || status == SSL_TICKET_SUCCESS_RENEW, let session, let state, let argument else {
                    return SSL_TICKET_RETURN_IGNORE_RENEW
                }
                let rules = Unmanaged<TicketRules>.fromOpaque(argument).takeUnretainedValue()
                // The clock of OpenSSL's own check of the ticket's lifetime.
                guard rules.allow(state, in: session, now: Int64(time(nil))) else { return SSL_TICKET_RETURN_IGNORE_RENEW }
                return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW
            },
            Unmanaged.passUnretained(self).toOpaque()
        )
        precondition(isSet == 1, "OpenSSL refused a callback")
    }

    private func allow(_ state: OpaquePointer, in session: OpaquePointer, now: Int64) -> Bool {
        guard let then = Self.fullHandshakeSeconds(of: state), now - then < authenticationSecondsMax else { return false }
        if let certificate = SSL_SESSION_get0_peer(state) {
            var seconds = Int(now)
            guard X509_cmp_time(X509_get0_notAfter(certificate), &seconds) > 0 else { return false }
        }
        return SSL_version(session) == TLS1_3_VERSION || Self.isSameServerName(state, session)
    }

    private static func fullHandshakeSeconds(of state: OpaquePointer) -> Int64? {
        var data: UnsafeMutableRawPointer?
        var count = 0
        guard SSL_SESSION_get0_ticket_appdata(state, &data, &count) == 1, let data, count == MemoryLayout<Int64>.size else { return nil }
        return data.loadUnaligned(as: Int64.self)
    }

    private static func setFullHandshakeSeconds(_ seconds: Int64, of state: OpaquePointer) {
        let isSet = withUnsafeBytes(of: seconds) { SSL_SESSION_set1_ticket_appdata(state, $0.baseAddress, $0.count) }
        precondition(isSet == 1, "out of memory")
    }

    /// Whether the ClientHello that is being read has the server name of `state`, or neither has one.
    private static func isSameServerName(_ state: OpaquePointer, _ session: OpaquePointer) -> Bool {
        let before = SSL_SESSION_get0_hostname(state)
        var bytes: UnsafePointer<UInt8>?
        var count = 0
        guard SSL_client_hello_get0_ext(session, UInt32(TLSEXT_TYPE_server_name), &bytes, &count) == 1 else { return before == nil }
        guard let before else { return false }
        // Length of the list, kind of the name (0: host), length of the name, the name.
        let list = UnsafeBufferPointer(start: bytes, count: count)
        let headBytes = 5
        return list.count > headBytes && list[2] == 0 && list[headBytes...].elementsEqual(String(cString: before).utf8)
    }
}

import COpenSSL

/// What a client keeps of a session to resume it in another (RFC 8446, section 4.6.1): the ticket of the server, and the key with it.
package final class TLSTicket {
    fileprivate let state: OpaquePointer

    fileprivate init(state: OpaquePointer) {
        self.state = state
    }

    deinit {
        SSL_SESSION_free(state)
    }
}

extension TLSEngine {
    /// Ends our half, and gives what the next session of this client resumes with; nil if the server gave nothing. The close_notify is for
    /// nobody: the connection is gone, or about to be.
    package func endForTicket() -> TLSTicket? {
        var unsent: [UInt8] = []
        // OpenSSL takes a session that ended without it for a bad one.
        close(outgoing: &unsent)
        guard let state = SSL_get1_session(session) else { return nil }
        let ticket = TLSTicket(state: state)
        return SSL_SESSION_is_resumable(state) == 1 ? ticket : nil
    }

    /// To be called by a client before the handshake begins. The server may refuse, and make a full handshake.
    package func resume(_ ticket: TLSTicket) {
        precondition(SSL_set_session(session, ticket.state) == 1, "the ticket is of another protocol")
    }
}

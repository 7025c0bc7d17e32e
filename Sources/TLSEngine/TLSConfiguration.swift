/// How a server speaks TLS. The defaults are those of a server that faces the internet.
package struct TLSConfiguration: Sendable, Hashable {
    /// At least one; the first is for clients that name no server, or an unknown one. Several with the same name and different kinds of
    /// key (ECDSA and RSA) serve that name together: each client gets one that it can verify. Of two with the same name and the same
    /// kind of key the first counts.
    package var certificates: [TLSCertificateFiles]
    /// Application protocols in order of preference (RFC 7301). Clients without ALPN are let in; those with ALPN and none in common are
    /// not.
    package var alpn = ["h2", "http/1.1"]
    package var minimumVersion = TLSVersion.tls12
    package var clientCertificates = ClientCertificatePolicy.off
    /// How many seconds a session ticket is good for; 0 gives out none. RFC 8446 section 4.6.1 allows seven days. In TLS 1.2 whoever gets
    /// hold of the ticket key reads all sessions of its tickets, so the number is small.
    package var ticketSecondsMax = 12 * 3600
    /// How many seconds after a full handshake its session can be resumed, from ticket to ticket (RFC 8446 section 4.6.1 asks for a
    /// limit). Only a full handshake looks at a client's certificate again, and at whether its authority is still trusted.
    package var authenticationSecondsMax = 24 * 3600
    /// How many bytes a client may send before its handshake is done; also the longest chain of client certificates. A ClientHello has
    /// 300 to 2,000 bytes, and BoringSSL takes 16 KB of a message.
    package var handshakeBytesMax = 32 << 10
    /// In TLS 1.3 the key for what the server sends is changed after so many records: below the 2^24.5 that RFC 8446 section 5.5 allows
    /// of AES-GCM. A subscriber of a busy channel gets there within days.
    package var recordsPerKeyMax = 1 << 23

    package init(certificates: [TLSCertificateFiles]) {
        self.certificates = certificates
    }
}

/// A version of the protocol that is still spoken (RFC 8996).
package enum TLSVersion: String, Sendable, Hashable, CaseIterable {
    /// RFC 5246.
    case tls12 = "1.2"
    /// RFC 8446.
    case tls13 = "1.3"
}

/// Whether clients show certificates, and which are good.
package enum ClientCertificatePolicy: Sendable, Hashable {
    /// None is asked for.
    case off
    /// Asked for. A client without one is let in; one whose certificate is not good is not.
    ///
    /// - Parameter caFile: path of a PEM file with the authorities to trust. Their names are sent to the client.
    case optional(caFile: String)
    /// As `optional`, and a client without one is not let in.
    case required(caFile: String)

    var caFile: String? {
        switch self {
        case .off: nil
        case .optional(let caFile), .required(let caFile): caFile
        }
    }
}

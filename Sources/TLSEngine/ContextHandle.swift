import COpenSSL

/// One `SSL_CTX` with the settings that all of ours have.
final class ContextHandle {
    let pointer: OpaquePointer

    /// TLS 1.2: forward secrecy and AEAD only, which is also what HTTP/2 asks for (RFC 9113 section 9.2.2). AES-128 stands first because it
    /// is the fastest with hardware support; clients without it put ChaCha20 first, and `PRIORITIZE_CHACHA` follows them.
    private static let ciphers12 = """
        ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
        ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
        ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305
        """
    private static let ciphers13 = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
    /// P-384 is last and only there for certificates on that curve: in TLS 1.2 they need the group as well.
    private static let groups = "X25519:P-256:P-384"
    /// Nothing with SHA-1 (RFC 9155), and PSS before PKCS #1, which TLS 1.3 has for certificates only. Ed25519 is there for private
    /// authorities.
    private static let signatureAlgorithms = """
        ecdsa_secp256r1_sha256:ed25519:rsa_pss_rsae_sha256:ecdsa_secp384r1_sha384:rsa_pss_rsae_sha384:\
        ecdsa_secp521r1_sha512:rsa_pss_rsae_sha512:rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512
        """

    /// - Throws: `TLSFault.settings`.
    init(isServer: Bool, minimumVersion: TLSVersion = .tls12) throws(TLSFault) {
        OpenSSLErrors.clear()
        guard let context = SSL_CTX_new(isServer ? TLS_server_method() : TLS_client_method()) else {
            throw .settings(OpenSSLErrors.takeText())
        }
        pointer = context
        // 112 bits (RSA 2048 and up), whatever the host's openssl.cnf says. So with the options: it may have set any of them.
        SSL_CTX_set_security_level(context, 2)
        SSL_CTX_clear_options(context, SSL_CTX_get_options(context))
        // Not there, on purpose: ALLOW_NO_DHE_KEX, so that resuming in TLS 1.3 has forward secrecy; NO_TICKET; IGNORE_UNEXPECTED_EOF,
        // which would not matter, as our transport never says "end of file" to OpenSSL: the owner says it to `TLSEngine.endOfInput`.
        SSL_CTX_set_options(
            context,
            COpenSSL_OP_NO_RENEGOTIATION | COpenSSL_OP_NO_COMPRESSION | COpenSSL_OP_CIPHER_SERVER_PREFERENCE
                | COpenSSL_OP_PRIORITIZE_CHACHA | COpenSSL_OP_ENABLE_MIDDLEBOX_COMPAT
        )
        guard
            COpenSSL_SSL_CTX_set_min_proto_version(context, minimumVersion == .tls13 ? TLS1_3_VERSION : TLS1_2_VERSION) == 1,
            COpenSSL_SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1,
            SSL_CTX_set_cipher_list(context, Self.ciphers12) == 1,
            SSL_CTX_set_ciphersuites(context, Self.ciphers13) == 1,
            COpenSSL_SSL_CTX_set1_groups_list(context, Self.groups) == 1,
            COpenSSL_SSL_CTX_set1_sigalgs_list(context, Self.signatureAlgorithms) == 1,
            // No 0-RTT: a replayed request would publish twice (RFC 8446 section 8).
            SSL_CTX_set_max_early_data(context, 0) == 1
        else {
            throw .settings(OpenSSLErrors.takeText())
        }
        // Releases the two record buffers (16 KB and more each) of a session that waits. Chains are sent as the file has them.
        COpenSSL_SSL_CTX_set_mode(context, Int(SSL_MODE_RELEASE_BUFFERS) | Int(SSL_MODE_NO_AUTO_CHAIN))
        // Resumption is by tickets, which the client keeps; the cache would keep sessions here, up to 20,480 of them.
        COpenSSL_SSL_CTX_set_session_cache_mode(context, Int(SSL_SESS_CACHE_OFF))
        BorrowingTransport.countRecords(in: context)
        if isServer { BorrowingTransport.learnSecrets(in: context) }
    }

    /// Session tickets: for so many seconds, one for each full handshake and each resumption of TLS 1.3. 0: none.
    func offerTickets(seconds: Int) {
        guard seconds > 0 else {
            SSL_CTX_set_options(pointer, COpenSSL_OP_NO_TICKET)
            SSL_CTX_set_num_tickets(pointer, 0)
            return
        }
        SSL_CTX_set_timeout(pointer, seconds)
        SSL_CTX_set_num_tickets(pointer, 1)
    }

    deinit {
        SSL_CTX_free(pointer)
    }

    /// Adds a certificate. OpenSSL chooses among those of different key kinds by what the client can verify.
    ///
    /// - Throws: `TLSFault.certificate` if it is below the security level, for example.
    func use(_ certificate: LoadedCertificate, file: String) throws(TLSFault) {
        OpenSSLErrors.clear()
        guard SSL_CTX_use_cert_and_key(pointer, certificate.leaf, certificate.key, certificate.chain, 0) == 1 else {
            throw .certificate(file: file, why: OpenSSLErrors.takeText())
        }
    }
}

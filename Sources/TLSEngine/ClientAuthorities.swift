import COpenSSL

/// The authorities that a server trusts for client certificates, read from a file. Owns the OpenSSL objects.
final class ClientAuthorities {
    private let policy: ClientCertificatePolicy
    /// `X509_STORE *`.
    private let store: OpaquePointer
    /// `X509 *`, at least one if certificates are asked for.
    private var certificates: [OpaquePointer] = []
    private var fingerprints: [[UInt8]] = []

    /// Leaf and intermediate certificates. The chains of real authorities have two or three.
    private static let depthMax: Int32 = 5

    /// - Throws: `TLSFault.certificate` naming the file.
    init(_ policy: ClientCertificatePolicy) throws(TLSFault) {
        self.policy = policy
        guard let store = X509_STORE_new() else { preconditionFailure("out of memory") }
        self.store = store
        guard let file = policy.caFile else { return }
        let read = try PEMFile.certificates(path: file)
        defer { PEMFile.freeChain(read.chain) }
        certificates.append(read.leaf)
        for index in 0..<OPENSSL_sk_num(read.chain) {
            let certificate = OpaquePointer(OPENSSL_sk_value(read.chain, index)!)
            X509_up_ref(certificate)
            certificates.append(certificate)
        }
        OpenSSLErrors.clear()
        for certificate in certificates {
            guard X509_check_ca(certificate) != 0 else {
                throw .certificate(file: file, why: "\(PeerCertificate(certificate).subject) is no certificate of an authority")
            }
            guard X509_STORE_add_cert(store, certificate) == 1 else {
                throw .certificate(file: file, why: OpenSSLErrors.takeText())
            }
            fingerprints.append(PeerCertificate.sha256(of: certificate))
        }
    }

    deinit {
        X509_STORE_free(store)
        for certificate in certificates {
            X509_free(certificate)
        }
    }

    /// Makes sessions of `context`, a server's, ask for certificates as the policy says.
    func install(in context: OpaquePointer) {
        let id = sessionIDContext
        let isSet = SSL_CTX_set_session_id_context(context, id, UInt32(id.count))
        precondition(isSet == 1, "the id is too long")
        switch policy {
        case .off:
            SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nil)
            return
        case .optional:
            SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
        case .required:
            SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
        }
        SSL_CTX_set_verify_depth(context, Self.depthMax)
        SSL_CTX_set1_cert_store(context, store)
        for certificate in certificates {
            let isAdded = SSL_CTX_add_client_CA(context, certificate)
            precondition(isAdded == 1, "out of memory")
        }
    }

    /// Stands in each ticket, and only contexts with the same one resume its session: one that began where no certificate was needed, or
    /// other authorities were trusted, is not resumed. 32 bytes, the most that OpenSSL takes.
    private var sessionIDContext: [UInt8] {
        let rule: UInt8 =
            switch policy {
            case .off: 0
            case .optional: 1
            case .required: 2
            }
        return SHA256.hash([rule] + fingerprints.sorted { $0.lexicographicallyPrecedes($1) }.joined())
    }
}

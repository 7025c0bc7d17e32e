import COpenSSL

/// The settings and certificates of TLS sessions: TLS 1.2 and 1.3, no renegotiation, no compression, no early data.
///
/// Immutable once made. To change certificates make a new one and swap it (`TLSContexts`); sessions that run keep the old one alive.
///
/// Sendable unchecked: after `init` nothing here is written, and an `SSL_CTX` that is only used to make sessions counts its references
/// atomically and locks its own tables (OpenSSL's manual, openssl-threads(7)).
package final class TLSContext: @unchecked Sendable {
    /// What new sessions begin with.
    let pointer: OpaquePointer
    /// Whether a client's sessions check the server's name; the chain is checked by the settings of the context.
    let checksServerName: Bool
    let isServer: Bool
    /// The DNS names of the server's certificates, in lower case, each once. A wildcard begins with `*.`.
    package let names: [String]
    /// When the first of the server's certificates expires, in seconds since 1970; nil for a client. Chains are not looked at.
    package let notAfter: Int64?

    private let handles: [ContextHandle]
    /// The callbacks of the contexts point to these two.
    private let protocols: ProtocolList
    private let serverNames: ServerNames?

    /// For a server.
    ///
    /// - Parameters:
    ///   - certificates: at least one; the first is for clients that name no server, or an unknown one. Several with the same name and
    ///     different kinds of key (ECDSA and RSA) serve that name together: each client gets one that it can verify. Of two with the
    ///     same name and the same kind of key the first counts.
    ///   - alpn: protocols in order of preference. Clients without ALPN are let in; those with ALPN and none in common are not.
    ///   - time: seconds since 1970 at which the certificates have to be valid; nil is OpenSSL's own clock.
    /// - Throws: `TLSFault.certificate` naming the file, or `.settings`.
    package init(
        server certificates: [TLSCertificateFiles],
        alpn: [String] = ["h2", "http/1.1"],
        at time: Int64? = nil
    ) throws(TLSFault) {
        precondition(!certificates.isEmpty, "a server needs a certificate")
        var loaded: [(files: TLSCertificateFiles, certificate: LoadedCertificate)] = []
        for files in certificates {
            loaded.append((files, try LoadedCertificate(files, validAt: time)))
        }
        var names: [String] = []
        for name in loaded.flatMap(\.certificate.names) where !names.contains(name) {
            names.append(name)
        }

        // One SSL_CTX for each set of certificates that serve some name together.
        var handlesBySet: [[Int]: ContextHandle] = [:]
        var handles: [ContextHandle] = []
        func handle(for set: [Int]) throws(TLSFault) -> ContextHandle {
            if let handle = handlesBySet[set] {
                return handle
            }
            let handle = try ContextHandle(isServer: true)
            for index in set {
                try handle.use(loaded[index].certificate, file: loaded[index].files.certificateChain)
            }
            handlesBySet[set] = handle
            handles.append(handle)
            return handle
        }
        func set(for name: String) -> [Int] {
            var kinds: [Int32] = []
            return loaded.indices.filter { index in
                let certificate = loaded[index].certificate
                guard certificate.names.contains(name), !kinds.contains(certificate.keyKind) else { return false }
                kinds.append(certificate.keyKind)
                return true
            }
        }
        // The first certificate is in the set of each of its names, since nothing comes before it.
        let fallback = try handle(for: loaded[0].certificate.names.first.map { set(for: $0) } ?? [0])
        var table = ServerNameTable(fallback: fallback.pointer)
        for name in names {
            table.add(name, try handle(for: set(for: name)).pointer)
        }

        protocols = ProtocolList(alpn)
        let serverNames = ServerNames(table)
        for handle in handles {
            if !alpn.isEmpty {
                protocols.choose(in: handle.pointer)
            }
            serverNames.choose(in: handle.pointer)
        }
        self.serverNames = serverNames
        self.handles = handles
        self.names = names
        pointer = fallback.pointer
        notAfter = loaded.lazy.map(\.certificate.notAfter).min()
        checksServerName = false
        isServer = true
    }

    /// For a client.
    ///
    /// - Parameters:
    ///   - caFile: path of a PEM file with the roots to trust; nil is those of the system.
    ///   - verifies: whether an untrusted certificate, or one for another name, ends the handshake.
    ///   - alpn: protocols in order of preference; empty offers none.
    /// - Throws: `TLSFault.certificate` naming the file, or `.settings`.
    package init(clientTrusting caFile: String?, verifies: Bool = true, alpn: [String] = ["h2", "http/1.1"]) throws(TLSFault) {
        let handle = try ContextHandle(isServer: false)
        SSL_CTX_set_verify(handle.pointer, verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nil)
        OpenSSLErrors.clear()
        if let caFile {
            guard SSL_CTX_load_verify_file(handle.pointer, caFile) == 1 else {
                throw .certificate(file: caFile, why: OpenSSLErrors.takeText())
            }
        } else if SSL_CTX_set_default_verify_paths(handle.pointer) != 1 {
            throw .settings(OpenSSLErrors.takeText())
        }
        protocols = ProtocolList(alpn)
        if !protocols.isEmpty {
            protocols.offer(in: handle.pointer)
        }
        pointer = handle.pointer
        handles = [handle]
        serverNames = nil
        names = []
        notAfter = nil
        checksServerName = verifies
        isServer = false
    }
}

/// The table behind the SNI callback, which needs an object to point to.
private final class ServerNames {
    private let table: ServerNameTable<OpaquePointer>

    init(_ table: ServerNameTable<OpaquePointer>) {
        self.table = table
    }

    /// Makes sessions of `context` go over to the context of the name that the client sends. The table has to outlive the sessions.
    func choose(in context: OpaquePointer) {
        COpenSSL_SSL_CTX_set_tlsext_servername_callback(context) { session, _, argument in
            guard let session, let argument else { return SSL_TLSEXT_ERR_NOACK }
            guard let name = SSL_get_servername(session, TLSEXT_NAMETYPE_host_name) else { return SSL_TLSEXT_ERR_NOACK }
            let names = Unmanaged<ServerNames>.fromOpaque(argument).takeUnretainedValue()
            let context = names.table.lookUp(String(cString: name))
            if SSL_get_SSL_CTX(session) != context {
                SSL_set_SSL_CTX(session, context)
            }
            return SSL_TLSEXT_ERR_OK
        }
        COpenSSL_SSL_CTX_set_tlsext_servername_arg(context, Unmanaged.passUnretained(self).toOpaque())
    }
}

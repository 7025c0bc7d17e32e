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

    /// What to look at, though it can be used: chains out of order, OCSP responses that are not current, and the like. Empty for a client.
    package let warnings: [String]

    let limits: SessionLimits
    private let handles: [ContextHandle]
    /// The callbacks of the contexts point to these.
    private let protocols: ProtocolList
    private let callbacks: [AnyObject]

    /// For a server.
    ///
    /// - Parameters:
    ///   - configuration: the files are read now.
    ///   - ticketKeys: those of the other contexts of this server, so that tickets outlive a reload.
    ///   - time: seconds since 1970 at which the certificates have to be valid; nil is OpenSSL's own clock.
    /// - Throws: `TLSFault.certificate` naming the file, or `.settings`.
    package init(
        server configuration: TLSConfiguration,
        ticketKeys: SharedTicketKeys = SharedTicketKeys(),
        at time: Int64? = nil
    ) throws(TLSFault) {
        precondition(!configuration.certificates.isEmpty, "a server needs a certificate")
        var loaded: [(files: TLSCertificateFiles, certificate: LoadedCertificate)] = []
        for files in configuration.certificates {
            loaded.append((files, try LoadedCertificate(files, validAt: time)))
        }
        let authorities = try ClientAuthorities(configuration.clientCertificates)
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
            let handle = try ContextHandle(isServer: true, minimumVersion: configuration.minimumVersion)
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

        protocols = ProtocolList(configuration.alpn)
        let serverNames = ServerNames(table)
        let ticketRules = TicketRules(authenticationSecondsMax: configuration.authenticationSecondsMax)
        let staples = StapledResponses(
            loaded.reduce(into: [:]) { responses, entry in responses[entry.certificate.leaf] = entry.certificate.ocspResponse }
        )
        for handle in handles {
            if !protocols.isEmpty {
                protocols.choose(in: handle.pointer)
            }
            serverNames.choose(in: handle.pointer)
            authorities.install(in: handle.pointer)
            handle.offerTickets(seconds: configuration.ticketSecondsMax)
            ticketKeys.install(in: handle.pointer)
            ticketRules.install(in: handle.pointer)
            staples.install(in: handle.pointer)
            COpenSSL_SSL_CTX_set_max_cert_list(handle.pointer, configuration.handshakeBytesMax)
        }
        callbacks = [serverNames, ticketKeys, ticketRules, staples]
        self.handles = handles
        self.names = names
        limits = SessionLimits(
            handshakeBytesMax: configuration.handshakeBytesMax,
            recordsPerKeyMax: configuration.recordsPerKeyMax
        )
        pointer = fallback.pointer
        notAfter = loaded.lazy.map(\.certificate.notAfter).min()
        warnings = loaded.flatMap { $0.certificate.warnings(of: $0.files, at: time) }
        checksServerName = false
        isServer = true
    }

    /// For a server with the defaults of `TLSConfiguration`.
    package convenience init(
        server certificates: [TLSCertificateFiles],
        alpn: [String] = ["h2", "http/1.1"],
        at time: Int64? = nil
    ) throws(TLSFault) {
        var configuration = TLSConfiguration(certificates: certificates)
        configuration.alpn = alpn
        try self.init(server: configuration, at: time)
    }

    /// For a client.
    ///
    /// - Parameters:
    ///   - caFile: path of a PEM file with the roots to trust; nil is those of the system.
    ///   - verifies: whether an untrusted certificate, or one for another name, ends the handshake.
    ///   - alpn: protocols in order of preference; empty offers none.
    ///   - certificate: shown to servers that ask for one; nil: none.
    /// - Throws: `TLSFault.certificate` naming the file, or `.settings`.
    package init(
        clientTrusting caFile: String?,
        verifies: Bool = true,
        alpn: [String] = ["h2", "http/1.1"],
        certificate: TLSCertificateFiles? = nil
    ) throws(TLSFault) {
        let handle = try ContextHandle(isServer: false)
        SSL_CTX_set_verify(handle.pointer, verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nil)
        OpenSSLErrors.clear()
        if let caFile {
            guard SSL_CTX_load_verify_file(handle.pointer, caFile) == 1 else {
                throw .certificate(file: caFile, why: OpenSSLErrors.takeText())
            }
        } else if verifies {
            // Not `SSL_CTX_set_default_verify_paths`: its third place, a store, reads the whole directory in each handshake.
            guard SSL_CTX_set_default_verify_file(handle.pointer) == 1, SSL_CTX_set_default_verify_dir(handle.pointer) == 1 else {
                throw .settings(OpenSSLErrors.takeText())
            }
        }
        if let certificate {
            try handle.use(try LoadedCertificate(certificate, validAt: nil), file: certificate.certificateChain)
        }
        protocols = ProtocolList(alpn)
        if !protocols.isEmpty {
            protocols.offer(in: handle.pointer)
        }
        pointer = handle.pointer
        handles = [handle]
        callbacks = []
        names = []
        notAfter = nil
        warnings = []
        limits = SessionLimits()
        checksServerName = verifies
        isServer = false
    }
}

/// What a peer may do, and what a key may be used for. The defaults are those of a client.
struct SessionLimits {
    /// Servers send chains of certificates: OpenSSL takes 100 KB.
    var handshakeBytesMax = 128 << 10
    var recordsPerKeyMax = 1 << 23
    /// Records from the peer in a row that bring no data: empty ones, KeyUpdate, tickets, warnings. As many as BoringSSL allows of
    /// KeyUpdate and OpenSSL of empty ones. A peer that only listens sends one KeyUpdate in millions of records.
    let uselessRecordsMax = 32
    /// The last one may bring data: that is known when it has been read.
    var recordsUntilData: Int { uselessRecordsMax + 1 }
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

import Foundation
import TLSEngine
import Testing

@Suite("TLS settings")
struct SettingsTests {
    @Test("The cipher suites are these, in this order")
    func ciphers() throws {
        #expect(
            LibSSL.ciphers(TLSEngine(server: try TestCertificates.server("ecdsa"))) == [
                "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
                "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
            ]
        )
    }

    /// SSL_OP_NO_COMPRESSION, _ENABLE_MIDDLEBOX_COMPAT, _PRIORITIZE_CHACHA, _CIPHER_SERVER_PREFERENCE, _NO_RENEGOTIATION.
    private static let options: UInt64 = 1 << 17 | 1 << 20 | 1 << 21 | 1 << 22 | 1 << 30

    @Test("The options are these")
    func options() throws {
        #expect(LibSSL.options(TLSEngine(server: try TestCertificates.server("ecdsa"))) == Self.options)
    }

    @Test("The host's openssl.cnf changes none of it")
    func hostConfiguration() async {
        await #expect(processExitsWith: .success) {
            let path = NSTemporaryDirectory() + "tocsin-\(UUID().uuidString).cnf"
            let text = """
                openssl_conf = a
                [a]
                ssl_conf = b
                [b]
                system_default = c
                [c]
                MinProtocol = TLSv1
                CipherString = ALL:@SECLEVEL=0
                Options = UnsafeLegacyRenegotiation,-SessionTicket,NoRenegotiation,AllowNoDHEKEX
                Groups = ffdhe2048:P-521
                SignatureAlgorithms = RSA+SHA1
                """
            try text.write(toFile: path, atomically: true, encoding: .utf8)
            defer { try? FileManager.default.removeItem(atPath: path) }
            // Before the first call of OpenSSL in this process.
            setenv("OPENSSL_CONF", path, 1)
            let pair = TLSPair(server: try TestCertificates.server("ecdsa", "rsa"), client: try TestCertificates.client())
            // SSL_OP_ENABLE_KTLS is how the session gives its keys to the sealer.
            precondition(LibSSL.options(pair.server) == Self.options | 1 << 3)
            precondition(LibSSL.ciphers(pair.server).count == 9)
            try pair.handshake()
            precondition(pair.server.isEstablished && !LibSSL.ticket(pair.client).isEmpty)
        }
    }

    @Test("A server for TLS 1.3 only refuses TLS 1.2")
    func minimumVersion() throws {
        var configuration = TLSConfiguration(certificates: [TestCertificates.files("ecdsa"), TestCertificates.files("wildcard")])
        configuration.minimumVersion = .tls13
        let server = try TLSContext(server: configuration)
        for name in ["a.example", "x.b.example"] {
            let old = TLSPair(server: server, client: try TestCertificates.client(), name: name, version: .tls12)
            #expect(throws: TLSFault.handshakeFailed("unsupported protocol")) { try old.handshake() }
            let new = TLSPair(server: server, client: try TestCertificates.client(), name: name)
            try new.handshake()
            #expect(new.server.version == "TLSv1.3")
        }
    }

    @Test("A client with weak groups only is refused", arguments: ["ffdhe2048:ffdhe3072", "P-521", "X448"])
    func groupsRefused(groups: String) throws {
        for version in LibSSL.Version.supported {
            let pair = TLSPair(server: try TestCertificates.server("rsa"), client: try TestCertificates.client(), version: version)
            LibSSL.setGroups(pair.client, groups)
            try pair.client.startHandshake(outgoing: &pair.toServer)
            #expect(throws: TLSFault.self) { try pair.deliverToServer() }
        }
    }

    @Test("Each of the groups will do, also with a second ClientHello", arguments: ["X25519", "P-256", "P-384", "X448:P-256"])
    func groupsAccepted(groups: String) throws {
        for version in LibSSL.Version.supported {
            let pair = TLSPair(server: try TestCertificates.server("rsa"), client: try TestCertificates.client(), version: version)
            LibSSL.setGroups(pair.client, groups)
            try pair.handshake()
            #expect(pair.server.isEstablished)
        }
    }

    @Test("A client that can only verify SHA-1 is refused", arguments: ["RSA+SHA1", "ECDSA+SHA1:RSA+SHA1", "RSA+SHA224"])
    func sha1Refused(algorithms: String) throws {
        let pair = TLSPair(server: try TestCertificates.server("ecdsa", "rsa"), client: try TestCertificates.client(), version: .tls12)
        LibSSL.setCiphers(pair.client, "ALL:@SECLEVEL=0")
        LibSSL.setSignatureAlgorithms(pair.client, algorithms)
        try pair.client.startHandshake(outgoing: &pair.toServer)
        #expect(throws: TLSFault.self) { try pair.deliverToServer() }
    }

    @Test("In TLS 1.3 too a client that prefers ChaCha20 gets it")
    func chacha13() throws {
        for (offer, expected) in [
            ("TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
            ("TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
        ] {
            let pair = TLSPair(server: try TestCertificates.server("ecdsa"), client: try TestCertificates.client(), version: .tls13)
            typealias SetSuites = @convention(c) (OpaquePointer, UnsafePointer<CChar>) -> Int32
            #expect(LibSSL.find("SSL_set_ciphersuites", as: SetSuites.self)(pair.client.session, offer) == 1)
            try pair.handshake()
            #expect(pair.server.cipher == expected)
        }
    }

    @Test("A resumption without a new key exchange is refused: there is a full handshake")
    func keyExchangeOnResumption() throws {
        let server = try TestCertificates.server("ecdsa")
        let client = try TestCertificates.client()
        let first = TLSPair(server: server, client: client, version: .tls13)
        try first.handshake()
        let second = TLSPair(server: server, client: client, version: .tls13)
        LibSSL.setOptions(second.client, 1 << 10)  // SSL_OP_ALLOW_NO_DHE_KEX
        LibSSL.resume(second.client, first.client)
        try second.handshake()
        // OpenSSL's client offers both ways and the server takes the better.
        #expect(second.server.isEstablished && second.server.isResumed)
        #expect(LibSSL.hasOwnKeyExchange(second.client))
    }

    @Test(
        "What an operator should look at is said, and nothing else",
        arguments: [
            ("ecdsa", []), ("chained", []), ("nameless", ["has no DNS name"]),
            ("alone", ["no intermediate certificate in the file"]),
            ("rooted", ["certificate 3 is a root"]),
            ("disordered", ["certificate 2 did not issue the one before it", "certificate 3 did not issue the one before it"]),
        ] as [(String, [String])]
    )
    func warnings(name: String, expected: [String]) throws {
        let warnings = try TestCertificates.server(name).warnings
        #expect(warnings.count == expected.count, "\(warnings)")
        for (warning, text) in zip(warnings, expected) {
            #expect(warning.hasPrefix(TestCertificates.path("\(name).pem")))
            #expect(warning.contains(text))
        }
        #expect(try TestCertificates.client().warnings.isEmpty)
    }

    @Test("A key that everybody may read is worth a word")
    func readableKey() throws {
        let files = try TestCertificates.makeLive("ecdsa")
        for (mode, count) in [(0o600, 0), (0o640, 0), (0o644, 1)] {
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: files.privateKey)
            #expect(try TLSContext(server: [files]).warnings.count == count)
        }
    }
}

import TLSEngine
import Testing

@Suite("TLS handshake")
struct HandshakeTests {
    @Test("Both versions come to an agreement", arguments: LibSSL.Version.supported)
    func agrees(version: LibSSL.Version) throws {
        let pair = TLSPair(
            server: try TestCertificates.server("ecdsa"),
            client: try TestCertificates.client(alpn: ["http/1.1"]),
            version: version
        )
        #expect(!pair.server.isEstablished)
        #expect(pair.server.cipher == "")
        #expect(pair.server.negotiatedProtocol == nil)
        try pair.handshake()
        for end in [pair.client, pair.server] {
            #expect(end.isEstablished)
            #expect(!end.peerClosed)
            #expect(end.version == (version == .tls12 ? "TLSv1.2" : "TLSv1.3"))
            #expect(end.cipher == (version == .tls12 ? "ECDHE-ECDSA-AES128-GCM-SHA256" : "TLS_AES_128_GCM_SHA256"))
            #expect(end.negotiatedProtocol == "http/1.1")
            #expect(end.serverName == "a.example")
        }
    }

    @Test("Versions below 1.2 are refused by the server")
    func oldVersionRefused() throws {
        let pair = TLSPair(server: try TestCertificates.server("ecdsa"), client: try TestCertificates.client())
        LibSSL.setCiphers(pair.client, "ALL:@SECLEVEL=0")
        LibSSL.setVersion(pair.client, .tls10)
        try pair.client.startHandshake(outgoing: &pair.toServer)
        #expect(throws: TLSFault.handshakeFailed("unsupported protocol")) { try pair.deliverToServer() }
        // The alert protocol_version, fatal.
        #expect(pair.toClient.suffix(2) == [2, 70])
    }

    @Test("A client with only ciphers without forward secrecy is refused")
    func weakCipherRefused() throws {
        let pair = TLSPair(server: try TestCertificates.server("rsa"), client: try TestCertificates.client(), version: .tls12)
        LibSSL.setCiphers(pair.client, "AES128-GCM-SHA256:AES128-SHA:DHE-RSA-AES128-GCM-SHA256")
        try pair.client.startHandshake(outgoing: &pair.toServer)
        #expect(throws: TLSFault.handshakeFailed("no shared cipher")) { try pair.deliverToServer() }
    }

    @Test("A client that prefers ChaCha20 gets it, others get AES-128")
    func cipherPreference() throws {
        for (offer, expected) in [
            ("ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
            ("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ] {
            let pair = TLSPair(server: try TestCertificates.server("ecdsa"), client: try TestCertificates.client(), version: .tls12)
            LibSSL.setCiphers(pair.client, offer)
            try pair.handshake()
            #expect(pair.server.cipher == expected)
        }
    }

    @Test(
        "The server's order of protocols counts",
        arguments: [
            (["h2", "http/1.1"], ["http/1.1", "h2"], "h2"),
            (["h2", "http/1.1"], ["http/1.1"], "http/1.1"),
            (["http/1.1"], ["h2", "http/1.1"], "http/1.1"),
            (["h2", "http/1.1"], ["spdy/3", "h2"], "h2"),
        ] as [([String], [String], String)]
    )
    func alpn(server: [String], client: [String], expected: String) throws {
        for version in LibSSL.Version.supported {
            let pair = TLSPair(
                server: try TestCertificates.server("ecdsa", alpn: server),
                client: try TestCertificates.client(alpn: client),
                version: version
            )
            try pair.handshake()
            #expect(pair.server.negotiatedProtocol == expected)
            #expect(pair.client.negotiatedProtocol == expected)
        }
    }

    @Test("No protocol in common ends the handshake with no_application_protocol", arguments: LibSSL.Version.supported)
    func alpnMismatch(version: LibSSL.Version) throws {
        let pair = TLSPair(
            server: try TestCertificates.server("ecdsa"),
            client: try TestCertificates.client(alpn: ["spdy/3"]),
            version: version
        )
        try pair.client.startHandshake(outgoing: &pair.toServer)
        #expect(throws: TLSFault.handshakeFailed("no application protocol")) { try pair.deliverToServer() }
        #expect(pair.toClient.suffix(2) == [2, 120])
        #expect(throws: TLSFault.handshakeFailed("tlsv1 alert no application protocol")) { try pair.deliverToClient() }
    }

    @Test("A client without ALPN is let in", arguments: LibSSL.Version.supported)
    func noALPN(version: LibSSL.Version) throws {
        let pair = try TLSPair.established(version)
        #expect(pair.server.negotiatedProtocol == nil)
    }

    @Test(
        "The certificate is chosen by exact name, then wildcard, then the first",
        arguments: [
            ("a.example", "a.example"),
            ("A.Example", "a.example"),
            ("www.a.example", "www.a.example"),
            ("b.example", "b.example"),
            ("x.b.example", "x.b.example"),
            ("special.b.example", "special.b.example"),
            ("x.y.b.example", "a.example"),
            ("xb.example", "a.example"),
            ("unknown.example", "a.example"),
            ("127.0.0.1", "a.example"),
        ]
    )
    func serverNameIndication(asked: String, shown: String) throws {
        for version in LibSSL.Version.supported {
            let pair = TLSPair(
                server: try TestCertificates.server("ecdsa", "wildcard", "special"),
                client: try TestCertificates.client(alpn: ["h2"], verifies: false),
                name: asked,
                version: version
            )
            try pair.handshake()
            #expect(LibSSL.peerHasName(pair.client, shown))
            // The callback of ALPN is that of the chosen context.
            #expect(pair.server.negotiatedProtocol == "h2")
            #expect(pair.server.serverName == (asked == "127.0.0.1" ? nil : asked.lowercased()))
            // special.b.example has a certificate of its own and not the wildcard's.
            #expect(LibSSL.peerHasName(pair.client, "b.example") == (shown == "b.example" || shown == "x.b.example"))
        }
    }

    @Test("A verifying client accepts the names of the certificate", arguments: ["special.b.example", "127.0.0.1", "::1"])
    func namesVerified(name: String) throws {
        let pair = TLSPair(server: try TestCertificates.server("special"), client: try TestCertificates.client(), name: name)
        try pair.handshake()
        #expect(pair.client.isEstablished)
    }

    @Test("A verifying client refuses another name", arguments: ["other.example", "127.0.0.2", "b.example"])
    func otherNameRefused(name: String) throws {
        let pair = TLSPair(server: try TestCertificates.server("special"), client: try TestCertificates.client(), name: name)
        let fault = #expect(throws: TLSFault.self) { try pair.handshake() }
        #expect(fault?.description.contains("mismatch") == true)
        // The alert reaches the server.
        #expect(throws: TLSFault.self) { try pair.deliverToServer() }
    }

    @Test("A verifying client refuses a certificate that it does not trust", arguments: LibSSL.Version.supported)
    func untrustedRefused(version: LibSSL.Version) throws {
        let client = try TLSContext(clientTrusting: TestCertificates.path("rsa.pem"), verifies: true, alpn: [])
        let pair = TLSPair(server: try TestCertificates.server("ecdsa"), client: client, version: version)
        #expect(throws: TLSFault.handshakeFailed("certificate verify failed: self-signed certificate")) { try pair.handshake() }
        let fault = #expect(throws: TLSFault.self) { try pair.deliverToServer() }
        #expect(fault?.description.contains("alert unknown ca") == true)
    }

    @Test("The chain of the file is sent: a client that trusts only the root is content", arguments: LibSSL.Version.supported)
    func chainSent(version: LibSSL.Version) throws {
        let client = try TLSContext(clientTrusting: TestCertificates.path("root.pem"), verifies: true, alpn: [])
        let pair = TLSPair(server: try TestCertificates.server("ecdsa", "chained"), client: client, name: "c.example", version: version)
        try pair.handshake()
        #expect(pair.client.isEstablished)
    }

    @Test(
        "ECDSA and RSA serve one name together, in any order of the files",
        arguments: [["ecdsa", "rsa"], ["rsa", "ecdsa"]],
        [("ECDSA+SHA256", "only-ecdsa.example"), ("RSA-PSS+SHA256:RSA+SHA256", "only-rsa.example")]
    )
    func twoKinds(order: [String], client: (algorithms: String, shown: String)) throws {
        for version in LibSSL.Version.supported {
            for asked in ["a.example", "www.a.example"] {
                let pair = TLSPair(
                    server: try TLSContext(server: order.map(TestCertificates.files)),
                    client: try TestCertificates.client(),
                    name: asked,
                    version: version
                )
                LibSSL.setSignatureAlgorithms(pair.client, client.algorithms)
                try pair.handshake()
                #expect(LibSSL.peerHasName(pair.client, client.shown))
            }
        }
    }

    @Test("The first certificate of a kind counts for a name that two have")
    func firstOfAKindCounts() throws {
        for (first, second, shown) in [("ecdsa", "renewed", "www.a.example"), ("renewed", "ecdsa", "new.a.example")] {
            let pair = TLSPair(server: try TestCertificates.server(first, second), client: try TestCertificates.client())
            try pair.handshake()
            #expect(LibSSL.peerHasName(pair.client, shown))
        }
    }

    @Test("A ticket resumes a session, also one of a name that is not the first", arguments: LibSSL.Version.supported)
    func resumes(version: LibSSL.Version) throws {
        let server = try TestCertificates.server("ecdsa", "wildcard")
        let client = try TestCertificates.client(alpn: ["h2"])
        let first = TLSPair(server: server, client: client, name: "x.b.example", version: version)
        try first.handshake()
        #expect(!LibSSL.isResumed(first.client))
        let second = TLSPair(server: server, client: client, name: "x.b.example", version: version)
        LibSSL.resume(second.client, first.client)
        try second.handshake()
        #expect(LibSSL.isResumed(second.client))
        #expect(LibSSL.isResumed(second.server))
        #expect(second.server.negotiatedProtocol == "h2")
        #expect(second.server.serverName == "x.b.example")
    }
}

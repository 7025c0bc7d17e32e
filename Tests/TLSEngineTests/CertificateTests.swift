import TLSEngine
import TestSupport
import Testing

@Suite("TLS certificates")
struct CertificateTests {
    @Test("Names are those of all certificates, in order, in lower case, once")
    func names() throws {
        let context = try TestCertificates.server("ecdsa", "rsa", "wildcard", "nameless")
        #expect(
            context.names == ["a.example", "www.a.example", "only-ecdsa.example", "only-rsa.example", "b.example", "*.b.example"]
        )
        #expect(try TestCertificates.client().names.isEmpty)
    }

    @Test("A certificate without names serves whoever comes")
    func nameless() throws {
        let pair = TLSPair(server: try TestCertificates.server("nameless"), client: try TestCertificates.client(verifies: false))
        try pair.handshake()
        #expect(pair.server.isEstablished)
    }

    @Test("The expiry is that of the certificate that expires first")
    func expiry() throws {
        let notAfter = try #require(try TestCertificates.server("ecdsa", "rsa").notAfter)
        #expect(
            notAfter
                == min(
                    try #require(try TestCertificates.server("ecdsa").notAfter), try #require(try TestCertificates.server("rsa").notAfter)))
        // Valid to its last second and not in the next one; the files were made for 30 days.
        let files = [TestCertificates.files("ecdsa")]
        let last = try #require(try TLSContext(server: files).notAfter)
        #expect(throws: Never.self) { try TLSContext(server: files, at: last - 1) }
        let late = #expect(throws: TLSFault.self) { try TLSContext(server: files, at: last + 1) }
        #expect(late?.description.hasPrefix("\(files[0].certificateChain): the certificate expired at 20") == true)
        #expect(throws: Never.self) { try TLSContext(server: files, at: last - 30 * 86_400 + 1) }
        let early = #expect(throws: TLSFault.self) { try TLSContext(server: files, at: last - 31 * 86_400) }
        #expect(early?.description.contains("not valid before 20") == true)
        #expect(try TestCertificates.client().notAfter == nil)
    }

    @Test("One file may hold both")
    func combined() throws {
        let path = TestCertificates.path("combined.pem")
        let context = try TLSContext(server: [TLSCertificateFiles(certificateChain: path, privateKey: path)])
        #expect(context.names.first == "a.example")
    }

    @Test(
        "A fault names the file and says what is wrong with it",
        arguments: [
            ("missing.pem", "ecdsa.key", "missing.pem", "No such file or directory"),
            ("ecdsa.pem", "missing.key", "missing.key", "No such file or directory"),
            ("text.pem", "ecdsa.key", "text.pem", "no certificate in the file"),
            ("ecdsa.pem", "text.pem", "text.pem", "no private key in the file"),
            ("ecdsa.key", "ecdsa.key", "ecdsa.key", "no certificate in the file"),
            ("ecdsa.pem", "ecdsa.pem", "ecdsa.pem", "no private key in the file"),
            ("ecdsa.pem", "rsa.key", "rsa.key", "does not belong to the certificate in"),
            ("ecdsa.pem", "wildcard.key", "wildcard.key", "does not belong to the certificate in"),
            ("ecdsa.pem", "encrypted.key", "encrypted.key", "encrypted with a password"),
            ("damaged.pem", "ecdsa.key", "damaged.pem", "a further certificate cannot be read"),
            ("weak.pem", "weak.key", "weak.pem", "ee key too small"),
            (".", "ecdsa.key", "", "Is a directory"),
        ]
    )
    func badFiles(chain: String, key: String, file: String, why: String) throws {
        let files = TLSCertificateFiles(
            certificateChain: TestCertificates.path(chain),
            privateKey: TestCertificates.path(key)
        )
        // Behind a good one, so that the fault is not just that of the first.
        let fault = #expect(throws: TLSFault.self) { try TLSContext(server: [TestCertificates.files("wildcard"), files]) }
        guard case .certificate(let faultFile, let faultWhy) = fault else {
            Issue.record("\(String(describing: fault))")
            return
        }
        #expect(faultFile.contains(file))
        #expect(faultWhy.contains(why))
        #expect(fault?.description == "\(faultFile): \(faultWhy)")
    }

    @Test("A client's file of roots that cannot be read is a fault", arguments: ["missing.pem", "text.pem"])
    func badRoots(file: String) throws {
        let path = TestCertificates.path(file)
        let fault = #expect(throws: TLSFault.self) { try TLSContext(clientTrusting: path) }
        #expect(fault?.description.hasPrefix(path) == true)
    }

    @Test("A client may trust the roots of the system")
    func systemRoots() throws {
        #expect(throws: Never.self) { try TLSContext(clientTrusting: nil, verifies: true, alpn: ["h2"]) }
    }
}

@Suite("TLS reload")
struct ReloadTests {
    @Test("New sessions get the new certificate, and old ones go on", arguments: LibSSL.Version.supported)
    func swaps(version: LibSSL.Version) throws {
        let files = try TestCertificates.makeLive("ecdsa")
        let contexts = try TLSContexts(server: [files])
        let client = try TestCertificates.client()
        let old = TLSPair(server: contexts.current, client: client, version: version)
        try old.handshake()
        let halfway = TLSPair(server: contexts.current, client: client, version: version)
        try halfway.client.startHandshake(outgoing: &halfway.toServer)

        try TestCertificates.replace(files, with: "renewed")
        try contexts.reload()
        #expect(contexts.current.names == ["a.example", "new.a.example"])
        let new = TLSPair(server: contexts.current, client: client, name: "new.a.example", version: version)
        try new.handshake()
        #expect(LibSSL.peerHasName(new.client, "new.a.example"))

        try halfway.pump()
        #expect(LibSSL.peerHasName(halfway.client, "www.a.example"))
        try old.server.send([1, 2, 3], outgoing: &old.toClient)
        try old.client.send([4], outgoing: &old.toServer)
        try old.pump()
        #expect(old.clientReceived == [1, 2, 3])
        #expect(old.serverReceived == [4])
    }

    @Test("A ticket of before the reload is good after it", arguments: LibSSL.Version.supported)
    func oldTicket(version: LibSSL.Version) throws {
        let contexts = try TLSContexts(server: [TestCertificates.files("ecdsa")])
        let client = try TestCertificates.client()
        let first = TLSPair(server: contexts.current, client: client, version: version)
        try first.handshake()
        for isGood in [true, false] {
            try contexts.reload()
            let second = TLSPair(server: contexts.current, client: client, version: version)
            LibSSL.resume(second.client, first.client)
            try second.handshake()
            #expect(second.server.isEstablished)
            #expect(second.server.isResumed == isGood)
            contexts.ticketKeys.rotate()
            contexts.ticketKeys.rotate()
        }
    }

    @Test("Bad files leave the old context in place")
    func badFiles() throws {
        let files = try TestCertificates.makeLive("ecdsa")
        let contexts = try TLSContexts(server: [files])
        let before = contexts.current
        // Half of a renewal: the certificate is new and the key is not.
        try TestCertificates.replace(
            TLSCertificateFiles(certificateChain: files.certificateChain, privateKey: files.certificateChain + ".unused"),
            with: "renewed"
        )
        let fault = #expect(throws: TLSFault.self) { try contexts.reload() }
        #expect(fault?.description.contains("does not belong") == true)
        #expect(contexts.current === before)
        // The other half comes.
        try TestCertificates.replace(files, with: "renewed")
        try contexts.reload()
        #expect(contexts.current !== before)
        // Expired, at a time far from now.
        let current = contexts.current
        #expect(throws: TLSFault.self) { try contexts.reload(at: 4_000_000_000) }
        #expect(contexts.current === current)
    }

    @Test("Other files can be named, and stay named")
    func otherFiles() throws {
        let contexts = try TLSContexts(server: [TestCertificates.files("ecdsa")])
        try contexts.reload(TLSConfiguration(certificates: [TestCertificates.files("wildcard")]))
        #expect(contexts.current.names == ["b.example", "*.b.example"])
        #expect(throws: TLSFault.self) { try contexts.reload(TLSConfiguration(certificates: [TestCertificates.files("missing")])) }
        try contexts.reload()
        #expect(contexts.current.names == ["b.example", "*.b.example"])
    }

    @Test("The old context goes when its last session goes")
    func oldContextFreed() throws {
        let contexts = try TLSContexts(server: [TestCertificates.files("ecdsa")])
        weak let old = contexts.current
        var pair: TLSPair? = TLSPair(server: contexts.current, client: try TestCertificates.client())
        try pair?.handshake()
        try contexts.reload()
        #expect(old != nil)
        pair = nil
        #expect(old == nil)
    }
}

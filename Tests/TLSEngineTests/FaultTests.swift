import TLSEngine
import TestSupport
import Testing

@Suite("TLS faults of the peer")
struct FaultTests {
    /// What a server makes of first bytes that are cut in some way: the fault, if any, and the alert.
    private static func events(_ context: TLSContext, _ pieces: [[UInt8]]) -> [String] {
        let server = TLSEngine(server: context)
        var plaintext: [UInt8] = []
        var outgoing: [UInt8] = []
        for piece in pieces {
            do {
                try server.receive(piece, plaintext: &plaintext, outgoing: &outgoing)
            } catch {
                return ["\(error)", "\(outgoing)", "\(plaintext)"]
            }
        }
        return ["waiting", "\(outgoing)", "\(plaintext)"]
    }

    @Test(
        "Plain HTTP on a TLS port is recognised, and nothing is answered",
        arguments: [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST /v1/publish HTTP/1.1\r\n", "OPTIONS * HTTP/1.1\r\n", "DELETE / HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "CONNECT a:443 HTTP/1.1\r\n", "HEAD / HTTP/1.0\r\n", "PUT /x HTTP/1.1\r\n",
        ]
    )
    func plainHTTP(request: String) throws {
        let context = try TestCertificates.server("ecdsa")
        let events = try SplitVerifier.verify(Array(request.utf8)) { Self.events(context, $0) }
        #expect(events == [TLSFault.plainHTTPRequest.description, "[]", "[]"])
        #expect(events[0].contains("https://"))
    }

    @Test(
        "Bytes that are no ClientHello are a fault however they are cut",
        arguments: [
            [UInt8](repeating: 0, count: 64),
            [UInt8](repeating: 0xff, count: 64),
            Array("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".utf8).map { $0 | 0x20 },
            // A record of 65,535 bytes is announced.
            [22, 3, 1, 0xff, 0xff] + [UInt8](repeating: 1, count: 40),
            // A ServerHello; a handshake message of 16 MB; application data; a heartbeat; ChangeCipherSpec alone.
            [22, 3, 1, 0, 4, 2, 0, 0, 0],
            [22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff],
            [23, 3, 3, 0, 2, 1, 1],
            [24, 3, 2, 0, 3, 1, 0x40, 0],
            [20, 3, 3, 0, 1, 1],
            // A ClientHello that says nothing behind its version.
            [22, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3],
            // A fatal alert, and one that is none.
            [21, 3, 3, 0, 2, 2, 40],
            [21, 3, 3, 0, 1, 2],
        ] as [[UInt8]]
    )
    func garbage(bytes: [UInt8]) throws {
        let context = try TestCertificates.server("ecdsa")
        let events = try SplitVerifier.verify(bytes) { Self.events(context, $0) }
        #expect(events[0].hasPrefix("TLS handshake failed: "))
        #expect(!events[0].contains("unknown reason"))
        #expect(events[2] == "[]")
    }

    @Test("No random first bytes, and no damaged ClientHello, do more than throw")
    func fuzz() throws {
        let context = try TestCertificates.server("ecdsa", "rsa", "wildcard")
        var hello: [UInt8] = []
        try TLSEngine(client: try TestCertificates.client(alpn: ["h2"]), serverName: "x.b.example").startHandshake(outgoing: &hello)
        var random = SeededRandom(seed: 42)
        for round in 0..<3000 {
            var bytes = hello
            if round % 3 == 0 {
                bytes = (0..<Int.random(in: 1...200, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            } else {
                for _ in 0..<Int.random(in: 1...4, using: &random) {
                    bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
                }
            }
            let server = TLSEngine(server: context)
            var plaintext: [UInt8] = []
            var outgoing: [UInt8] = []
            do {
                try server.receive(bytes, plaintext: &plaintext, outgoing: &outgoing)
            } catch {
                #expect(throws: TLSFault.ended) { try server.receive(bytes, plaintext: &plaintext, outgoing: &outgoing) }
            }
            #expect(!server.isEstablished)
            #expect(plaintext.isEmpty)
        }
    }

    @Test("A changed byte anywhere in a record ends the session with an alert", arguments: LibSSL.Version.supported)
    func damagedRecord(version: LibSSL.Version) throws {
        let server = try TestCertificates.server("ecdsa")
        let client = try TestCertificates.client()
        let probe = TLSPair(server: server, client: client, version: version)
        try probe.handshake()
        try probe.client.send([1, 2, 3], outgoing: &probe.toServer)
        let length = probe.toServer.count
        // The length field is left alone: a longer record only waits.
        for index in [0, 1] + Array(5..<length) {
            let pair = TLSPair(server: server, client: client, version: version)
            try pair.handshake()
            try pair.client.send([1, 2, 3], outgoing: &pair.toServer)
            pair.toServer[index] ^= 0x40
            let fault = #expect(throws: TLSFault.self) { try pair.deliverToServer() }
            #expect(fault?.description.hasPrefix("TLS session failed: ") == true)
            #expect(pair.serverReceived.isEmpty)
            #expect(!pair.toClient.isEmpty)
            #expect(throws: TLSFault.self) { try pair.deliverToClient() }
            #expect(throws: TLSFault.ended) { try pair.server.send([1], outgoing: &pair.toClient) }
        }
    }

    @Test("Renegotiation is refused, and the session goes on")
    func renegotiation() throws {
        let pair = try TLSPair.established(.tls12)
        LibSSL.renegotiate(pair.client)
        // Reading makes the client say its ClientHello.
        try pair.client.receive([UInt8](), plaintext: &pair.clientReceived, outgoing: &pair.toServer)
        #expect(pair.toServer.first == 22)
        try pair.deliverToServer()
        // An encrypted alert and no ServerHello.
        #expect(pair.toClient.first == 21)
        #expect(pair.toClient.count < 64)
        #expect(pair.server.isEstablished)
        try pair.server.send([1], outgoing: &pair.toClient)
        #expect(throws: TLSFault.self) { try pair.deliverToClient() }
    }

    @Test("A fault of one session does not show in another")
    func faultsStayApart() throws {
        let good = try TLSPair.established(.tls13)
        for _ in 0..<10 {
            let bad = TLSEngine(server: try TestCertificates.server("ecdsa"))
            var plaintext: [UInt8] = []
            var outgoing: [UInt8] = []
            #expect(throws: TLSFault.self) {
                try bad.receive([UInt8](repeating: 0, count: 64), plaintext: &plaintext, outgoing: &outgoing)
            }
            _ = try? TLSContext(server: [TestCertificates.files("missing")])
            try good.client.send([1], outgoing: &good.toServer)
            try good.server.send([2], outgoing: &good.toClient)
            try good.pump()
        }
        #expect(good.serverReceived.count == 10)
        #expect(good.clientReceived.count == 10)
    }
}

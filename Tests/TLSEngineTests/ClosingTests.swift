import TLSEngine
import Testing

@Suite("TLS closing")
struct ClosingTests {
    @Test("close_notify goes both ways", arguments: LibSSL.Version.supported)
    func bothWays(version: LibSSL.Version) throws {
        let pair = try TLSPair.established(version)
        pair.client.close(outgoing: &pair.toServer)
        #expect(!pair.client.isEstablished)
        try pair.pump()
        #expect(pair.server.peerClosed)
        #expect(!pair.client.peerClosed)
        // The server's direction is still open.
        #expect(pair.server.isEstablished)
        try pair.server.send([1, 2], outgoing: &pair.toClient)
        pair.server.close(outgoing: &pair.toClient)
        try pair.pump()
        #expect(pair.clientReceived == [1, 2])
        #expect(pair.client.peerClosed)
        try pair.client.endOfInput()
        try pair.server.endOfInput()
    }

    @Test("close speaks once, and sending after it is refused", arguments: LibSSL.Version.supported)
    func once(version: LibSSL.Version) throws {
        let pair = try TLSPair.established(version)
        pair.server.close(outgoing: &pair.toClient)
        let said = pair.toClient
        #expect(!said.isEmpty)
        pair.server.close(outgoing: &pair.toClient)
        #expect(throws: TLSFault.ended) { try pair.server.send([1], outgoing: &pair.toClient) }
        #expect(pair.toClient == said)
        // What the client sent before it saw the close is still read.
        try pair.client.send([5], outgoing: &pair.toServer)
        try pair.deliverToServer()
        #expect(pair.serverReceived == [5])
    }

    @Test("What comes behind close_notify is ignored (RFC 8446 section 6.1)", arguments: LibSSL.Version.supported)
    func behindClose(version: LibSSL.Version) throws {
        let pair = try TLSPair.established(version)
        pair.client.close(outgoing: &pair.toServer)
        pair.toServer += [23, 3, 3, 0, 1, 0]
        try pair.deliverToServer()
        pair.toServer += Array("GET / HTTP/1.1".utf8)
        try pair.deliverToServer()
        #expect(pair.server.peerClosed)
        #expect(pair.serverReceived.isEmpty)
    }

    @Test("An end without close_notify is a truncation", arguments: LibSSL.Version.supported)
    func truncation(version: LibSSL.Version) throws {
        let pair = try TLSPair.established(version)
        try pair.client.send([UInt8](repeating: 1, count: 100), outgoing: &pair.toServer)
        // Whole records, or half of one: the same.
        pair.toServer.removeLast(10)
        try pair.deliverToServer()
        #expect(pair.serverReceived.isEmpty)
        #expect(throws: TLSFault.closedUncleanly) { try pair.server.endOfInput() }
        #expect(throws: Never.self) { try pair.server.endOfInput() }
        #expect(!pair.server.isEstablished)
        #expect(throws: TLSFault.ended) { try pair.server.send([1], outgoing: &pair.toClient) }
    }

    @Test("An end during the handshake is a fault, and close says nothing there")
    func endInHandshake() throws {
        let pair = TLSPair(server: try TestCertificates.server("ecdsa"), client: try TestCertificates.client())
        try pair.client.startHandshake(outgoing: &pair.toServer)
        pair.toServer.removeLast()
        try pair.deliverToServer()
        #expect(throws: TLSFault.handshakeFailed("the peer closed the connection during the handshake")) {
            try pair.server.endOfInput()
        }
        let other = TLSEngine(server: try TestCertificates.server("ecdsa"))
        var outgoing: [UInt8] = []
        other.close(outgoing: &outgoing)
        #expect(outgoing.isEmpty)
        #expect(throws: TLSFault.ended) {
            var plaintext: [UInt8] = []
            try other.receive([22], plaintext: &plaintext, outgoing: &outgoing)
        }
    }

    @Test("close_notify instead of a ClientHello is a fault")
    func closeInHandshake() throws {
        let server = TLSEngine(server: try TestCertificates.server("ecdsa"))
        var outgoing: [UInt8] = []
        var plaintext: [UInt8] = []
        let fault = #expect(throws: TLSFault.self) {
            try server.receive([21, 3, 1, 0, 2, 1, 0], plaintext: &plaintext, outgoing: &outgoing)
        }
        #expect(fault?.description.hasPrefix("TLS handshake failed") == true)
        #expect(!server.peerClosed)
    }

    @Test("Sessions are freed, whatever became of them")
    func freed() throws {
        let server = try TestCertificates.server("ecdsa")
        let client = try TestCertificates.client()
        let before = TLSEngine.aliveCount
        for round in 0..<400 {
            let pair = TLSPair(server: server, client: client)
            switch round % 4 {
            case 0:
                break
            case 1:
                try pair.client.startHandshake(outgoing: &pair.toServer)
                try pair.deliverToServer()
            case 2:
                pair.toServer = Array("GET / HTTP/1.1\r\n".utf8)
                #expect(throws: TLSFault.self) { try pair.deliverToServer() }
            default:
                try pair.handshake()
            }
        }
        // 800 were made. Other tests run in this process, with a few sessions each.
        #expect(abs(TLSEngine.aliveCount - before) < 200)
    }

    @Test("A context lives as long as its sessions")
    func contextLives() throws {
        weak var context: TLSContext?
        var pair: TLSPair?
        do {
            let made = try TestCertificates.server("ecdsa", "wildcard")
            context = made
            pair = TLSPair(server: made, client: try TestCertificates.client(alpn: ["h2"]), name: "x.b.example")
        }
        #expect(context != nil)
        // The callbacks still find their tables.
        try pair?.handshake()
        #expect(pair?.server.negotiatedProtocol == "h2")
        pair = nil
        #expect(context == nil)
    }
}

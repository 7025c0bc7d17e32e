import TLSEngine
import TestSupport
import Testing

@Suite("TLS data")
struct DataTests {
    private static func bytes(_ count: Int, seed: UInt64) -> [UInt8] {
        var random = SeededRandom(seed: seed)
        return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }

    @Test("Every cutting of handshake and data gives the same plaintext", arguments: LibSSL.Version.supported)
    func everyPieceLength(version: LibSSL.Version) throws {
        let server = try TestCertificates.server("ecdsa")
        let client = try TestCertificates.client(alpn: ["h2"])
        let question = Self.bytes(300, seed: 1)
        let answer = Self.bytes(20_000, seed: 2)
        for pieceBytes in Array(1...64) + [100, 255, 256, 517, 1000, 4096, 16_384, 16_406] {
            let pair = TLSPair(server: server, client: client, version: version)
            pair.pieceBytes = pieceBytes
            try pair.handshake()
            try pair.client.send(question, outgoing: &pair.toServer)
            try pair.server.send(answer, outgoing: &pair.toClient)
            try pair.pump()
            #expect(pair.serverReceived == question, "pieces of \(pieceBytes)")
            #expect(pair.clientReceived == answer, "pieces of \(pieceBytes)")
        }
    }

    @Test("Records cut at every point give the same plaintext and the same end", arguments: LibSSL.Version.supported)
    func everyCut(version: LibSSL.Version) throws {
        let server = try TestCertificates.server("ecdsa")
        let client = try TestCertificates.client()
        let messages = [Self.bytes(1, seed: 3), Self.bytes(130, seed: 4), Self.bytes(40, seed: 5)]
        func records() throws -> (pair: TLSPair, bytes: [UInt8]) {
            let pair = TLSPair(server: server, client: client, version: version)
            try pair.handshake()
            var bytes: [UInt8] = []
            for message in messages {
                try pair.client.send(message, outgoing: &bytes)
            }
            pair.client.close(outgoing: &bytes)
            return (pair, bytes)
        }
        // The records differ from session to session but not in their lengths, so the verifier's pieces say where to cut.
        let shape = [UInt8](repeating: 0, count: try records().bytes.count)
        let events = try SplitVerifier.verify(shape) { pieces in
            let (pair, bytes) = try records()
            #expect(bytes.count == shape.count)
            var offset = 0
            for piece in pieces {
                try pair.server.receive(
                    Array(bytes[offset..<offset + piece.count]),
                    plaintext: &pair.serverReceived,
                    outgoing: &pair.toClient
                )
                offset += piece.count
            }
            return ["\(pair.serverReceived)", "closed \(pair.server.peerClosed)"]
        }
        #expect(events == ["\(messages.flatMap { $0 })", "closed true"])
    }

    @Test("A megabyte goes both ways at once", arguments: LibSSL.Version.supported, [Int.max, 65_536, 1460])
    func megabyte(version: LibSSL.Version, pieceBytes: Int) throws {
        let pair = try TLSPair.established(version)
        pair.pieceBytes = pieceBytes
        let up = Self.bytes(1 << 20, seed: 6)
        let down = Self.bytes(1 << 20, seed: 7)
        try pair.client.send(up, outgoing: &pair.toServer)
        try pair.server.send(down, outgoing: &pair.toClient)
        // 64 records of 16 KB, each with a header of 5 bytes and at most 24 more.
        #expect(pair.toServer.count > up.count + 64 * 5)
        #expect(pair.toServer.count <= up.count + 64 * 29)
        try pair.pump()
        #expect(pair.serverReceived == up)
        #expect(pair.clientReceived == down)
    }

    @Test("Data behind the last word of the handshake, in the same bytes, is not lost", arguments: LibSSL.Version.supported)
    func dataBehindHandshake(version: LibSSL.Version) throws {
        let pair = TLSPair(server: try TestCertificates.server("ecdsa"), client: try TestCertificates.client(), version: version)
        try pair.client.startHandshake(outgoing: &pair.toServer)
        while !pair.client.isEstablished {
            try pair.deliverToServer()
            try pair.deliverToClient()
        }
        try pair.client.send([1, 2, 3], outgoing: &pair.toServer)
        pair.client.close(outgoing: &pair.toServer)
        try pair.deliverToServer()
        #expect(pair.server.isEstablished)
        #expect(pair.serverReceived == [1, 2, 3])
        #expect(pair.server.peerClosed)
    }

    @Test("What comes out is appended, and sending nothing sends nothing")
    func appends() throws {
        let pair = try TLSPair.established(.tls13)
        pair.serverReceived = [9]
        var outgoing: [UInt8] = [7]
        try pair.client.send([UInt8](), outgoing: &outgoing)
        #expect(outgoing == [7])
        try pair.client.send([1], outgoing: &outgoing)
        #expect(outgoing.first == 7)
        pair.toServer = Array(outgoing.dropFirst())
        try pair.pump()
        #expect(pair.serverReceived == [9, 1])
        try pair.server.receive([UInt8](), plaintext: &pair.serverReceived, outgoing: &pair.toClient)
        #expect(pair.serverReceived == [9, 1])
        #expect(pair.toClient.isEmpty)
    }

    @Test("Keys are changed and changed again without a word to the owner")
    func keyUpdate() throws {
        let pair = try TLSPair.established(.tls13)
        for round in UInt8(0)..<20 {
            LibSSL.updateKeys(pair.client)
            try pair.client.send([round], outgoing: &pair.toServer)
            try pair.deliverToServer()
            // The server's own change goes out before the next that it sends (OpenSSL waits for that).
            try pair.server.send([round], outgoing: &pair.toClient)
            try pair.pump()
        }
        #expect(pair.serverReceived == Array(0..<20))
        #expect(pair.clientReceived == Array(0..<20))
    }
}

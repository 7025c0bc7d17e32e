import TLSEngine
import TestSupport
import Testing

@Suite("TLS records that are sealed by the engine itself")
struct SealingTests {
    private static let suites = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]

    private static func pair(_ suite: String? = nil, sealer: RecordSealer?, version: LibSSL.Version = .tls13) throws -> TLSPair {
        let pair = TLSPair(
            server: try TestCertificates.server("ecdsa"), client: try TestCertificates.client(), version: version, sealer: sealer)
        if let suite { LibSSL.setSuites(pair.client, suite) }
        try pair.handshake()
        return pair
    }

    private static func say(_ bytes: [UInt8], _ pair: TLSPair) throws {
        let before = pair.clientReceived.count
        try pair.server.send(bytes, outgoing: &pair.toClient)
        try pair.pump()
        #expect(Array(pair.clientReceived[before...]) == bytes)
    }

    @Test("With every suite, of every length of record", arguments: suites)
    func suite(name: String) throws {
        let pair = try Self.pair(name, sealer: RecordSealer())
        #expect(pair.server.cipher == name && pair.server.isSealing)
        for count in [1, 15, 16, 17, 130, 16_383, 16_384, 16_385, 40_000] {
            try Self.say([UInt8](repeating: UInt8(truncatingIfNeeded: count), count: count), pair)
        }
        try pair.client.send([1, 2, 3], outgoing: &pair.toServer)
        try pair.pump()
        #expect(pair.serverReceived == [1, 2, 3])
        pair.server.close(outgoing: &pair.toClient)
        try pair.pump()
        #expect(pair.client.peerClosed)
    }

    @Test("Without a sealer, and in TLS 1.2, OpenSSL seals")
    func openSSLSeals() throws {
        let old = try Self.pair(sealer: RecordSealer(), version: .tls12)
        #expect(!old.server.isSealing)
        try Self.say([1, 2, 3], old)
        let without = try Self.pair(sealer: nil)
        #expect(!without.server.isSealing)
        try Self.say([1, 2, 3], without)
        LibSSL.updateKeys(without.client)
        try without.client.receive([UInt8](), plaintext: &without.clientReceived, outgoing: &without.toServer)
        try without.pump()
        try Self.say([4], without)
    }

    @Test("The peer asks for new keys, and its own change too, between records", arguments: suites)
    func keyUpdates(name: String) throws {
        let pair = try Self.pair(name, sealer: RecordSealer())
        for number in 0..<20 {
            try Self.say([UInt8](repeating: UInt8(number), count: 100), pair)
            LibSSL.updateKeys(pair.client)
            try pair.client.send([UInt8(number)], outgoing: &pair.toServer)
            // Sealed before the request for new keys comes.
            try pair.server.send([0xaa], outgoing: &pair.toClient)
            try pair.pump()
            #expect(pair.clientReceived.removeLast() == 0xaa)
        }
        #expect(pair.serverReceived == (0..<20).map { UInt8($0) })
    }

    @Test("One sealer for many sessions in turn")
    func manySessions() throws {
        let sealer = RecordSealer()
        let pairs = try (0..<30).map { try Self.pair(Self.suites[$0 % 3], sealer: sealer) }
        var random = SeededRandom(seed: 5)
        for round in 0..<600 {
            let pair = pairs[Int.random(in: pairs.indices, using: &random)]
            if Int.random(in: 0..<20, using: &random) == 0 {
                LibSSL.updateKeys(pair.client)
                try pair.client.send([1], outgoing: &pair.toServer)
            }
            for _ in 0...Int.random(in: 0...2, using: &random) {
                try Self.say([UInt8](repeating: UInt8(truncatingIfNeeded: round), count: Int.random(in: 1...300, using: &random)), pair)
            }
        }
        let areSealing = pairs.allSatisfy(\.server.isSealing)
        #expect(areSealing)
    }

    @Test("A session is resumed by a ticket that was sealed so")
    func tickets() throws {
        let server = try TestCertificates.server("ecdsa")
        let client = try TestCertificates.client()
        let sealer = RecordSealer()
        let first = TLSPair(server: server, client: client, version: .tls13, sealer: sealer)
        try first.handshake()
        try Self.say([1], first)
        let second = TLSPair(server: server, client: client, version: .tls13, sealer: sealer)
        LibSSL.resume(second.client, first.client)
        try second.handshake()
        #expect(second.server.isResumed && second.server.isSealing)
        try Self.say([2], second)
    }

    @Test("A fault of the peer is answered with an alert that it can read")
    func alert() throws {
        let pair = try Self.pair(sealer: RecordSealer())
        try pair.client.send([UInt8](repeating: 1, count: 50), outgoing: &pair.toServer)
        pair.toServer[30] ^= 1
        #expect(throws: TLSFault.self) { try pair.deliverToServer() }
        #expect(TLSRecords.kinds(pair.toClient) == [23])
        let fault = #expect(throws: TLSFault.self) { try pair.deliverToClient() }
        guard case .protocolError(let text) = fault else {
            Issue.record("\(String(describing: fault))")
            return
        }
        #expect(text.contains("bad record mac"))
    }
}

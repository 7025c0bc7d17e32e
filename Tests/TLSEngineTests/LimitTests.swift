import Foundation
import TLSEngine
import TestSupport
import Testing

@Suite("TLS limits")
struct LimitTests {
    private static func server(_ change: (inout TLSConfiguration) -> Void) throws -> TLSContext {
        var configuration = TLSConfiguration(certificates: [TestCertificates.files("ecdsa")])
        change(&configuration)
        return try TLSContext(server: configuration)
    }

    @Test("A handshake that does not end is a fault after so many bytes, and not before", arguments: [1, 100, 5000, 100_000])
    func handshakeBytes(pieceBytes: Int) throws {
        let server = TLSEngine(server: try Self.server { $0.handshakeBytesMax = 20_000 })
        // A ClientHello that says that it has 100 KB. OpenSSL alone waits for it.
        let hello = [1, 1, 0x86, 0xa0] + [UInt8](repeating: 3, count: 60_000)
        let bytes = stride(from: 0, to: hello.count, by: 4000).flatMap { TLSRecords.handshake(hello[$0..<min($0 + 4000, hello.count)]) }
        var plaintext: [UInt8] = []
        var outgoing: [UInt8] = []
        var taken = 0
        let fault = #expect(throws: TLSFault.self) {
            while taken < bytes.count {
                let piece = Array(bytes[taken..<min(bytes.count, taken + pieceBytes)])
                try server.receive(piece, plaintext: &plaintext, outgoing: &outgoing)
                taken += piece.count
            }
        }
        #expect(fault == .handshakeFailed("more than 20000 bytes before the end of the handshake"))
        #expect(taken <= 20_000 && taken + pieceBytes > 20_000)
        #expect(!server.isEstablished)
        #expect(throws: TLSFault.ended) { try server.receive([1], plaintext: &plaintext, outgoing: &outgoing) }
    }

    @Test("The limit is of the handshake, and not of the data behind it", arguments: LibSSL.Version.supported)
    func dataIsNotLimited(version: LibSSL.Version) throws {
        let pair = TLSPair(
            server: try Self.server { $0.handshakeBytesMax = 2000 }, client: try TestCertificates.client(), version: version)
        try pair.client.startHandshake(outgoing: &pair.toServer)
        while !pair.client.isEstablished {
            try pair.deliverToServer()
            try pair.deliverToClient()
        }
        // In the same bytes as the end of the handshake.
        let data = [UInt8](repeating: 7, count: 50_000)
        try pair.client.send(data, outgoing: &pair.toServer)
        try pair.pump()
        #expect(pair.serverReceived == data)
        try pair.client.send(data, outgoing: &pair.toServer)
        try pair.pump()
        #expect(pair.serverReceived.count == 100_000)
    }

    @Test("The default is enough for a client with everything", arguments: LibSSL.Version.supported)
    func defaultIsEnough(version: LibSSL.Version) throws {
        var configuration = TLSConfiguration(certificates: [TestCertificates.files("rsa")])
        configuration.clientCertificates = .required(caFile: TestCertificates.path("authority.pem"))
        let server = try TLSContext(server: configuration)
        let client = try TLSContext(
            clientTrusting: TestCertificates.path("trust.pem"),
            alpn: (0..<100).map { "a-protocol-that-nobody-speaks-\($0)" } + ["h2"],
            certificate: TestCertificates.files("device")
        )
        let first = TLSPair(server: server, client: client, version: version)
        try first.handshake()
        let second = TLSPair(server: server, client: client, version: version)
        LibSSL.resume(second.client, first.client)
        try second.handshake()
        #expect(second.server.isResumed)
    }

    @Test("A flood of key changes is a fault, however it is cut", arguments: [Int.max, 1, 1000])
    func keyUpdateFlood(pieceBytes: Int) throws {
        let pair = try TLSPair.established(.tls13)
        pair.pieceBytes = pieceBytes
        for _ in 0..<32 {
            LibSSL.updateKeys(pair.client)
            try pair.client.receive([UInt8](), plaintext: &pair.clientReceived, outgoing: &pair.toServer)
        }
        #expect(TLSRecords.kinds(pair.toServer) == [UInt8](repeating: 23, count: 32))
        try pair.deliverToServer()
        #expect(pair.server.isEstablished)
        // Data gives leave for as many again. One more could still be data: it has begun before that is known.
        try pair.client.send([1], outgoing: &pair.toServer)
        for _ in 0..<33 {
            LibSSL.updateKeys(pair.client)
            try pair.client.receive([UInt8](), plaintext: &pair.clientReceived, outgoing: &pair.toServer)
        }
        try pair.deliverToServer()
        #expect(pair.serverReceived == [1])
        // However many are asked for, few answers go out.
        #expect(pair.toClient.count < 2000)
        LibSSL.updateKeys(pair.client)
        try pair.client.receive([UInt8](), plaintext: &pair.clientReceived, outgoing: &pair.toServer)
        #expect(throws: TLSFault.protocolError("more than 32 records in a row without data")) { try pair.deliverToServer() }
        #expect(throws: TLSFault.ended) { try pair.server.send([1], outgoing: &pair.toClient) }
    }

    @Test("The key changes before too many records are sent with it (RFC 8446 section 5.5)", arguments: LibSSL.Version.supported)
    func ownKeyUpdate(version: LibSSL.Version) throws {
        let pair = TLSPair(
            server: try Self.server { $0.recordsPerKeyMax = 10 }, client: try TestCertificates.client(), version: version)
        try pair.handshake()
        var records = 0
        // One record each, and then four.
        for bytes in [Int](repeating: 100, count: 50) + [Int](repeating: 65_000, count: 10) {
            let before = pair.clientReceived.count
            try pair.server.send([UInt8](repeating: 1, count: bytes), outgoing: &pair.toClient)
            records += TLSRecords.kinds(pair.toClient).count
            try pair.pump()
            #expect(pair.clientReceived.count == before + bytes)
        }
        // 90 of data. A change is said in a record of its own, which counts: of the short ones 10 fit before the first and 9 between
        // two, so 5; then a change comes before every third.
        #expect(records == (version == .tls12 ? 90 : 90 + 5 + 3))
        // The other direction is as it was, and goes on.
        try pair.client.send([5], outgoing: &pair.toServer)
        try pair.pump()
        #expect(pair.serverReceived == [5])
    }

    @Test("Nothing that comes in the middle of a handshake does more than throw", arguments: LibSSL.Version.supported)
    func fuzzSecondFlight(version: LibSSL.Version) throws {
        let server = try Self.server { $0.clientCertificates = .optional(caFile: TestCertificates.path("authority.pem")) }
        let client = try TLSContext(
            clientTrusting: TestCertificates.path("trust.pem"), alpn: ["h2"], certificate: TestCertificates.files("device"))
        var random = SeededRandom(seed: 43)
        var established = 0
        for round in 0..<150 {
            let pair = TLSPair(server: server, client: client, version: version)
            try pair.client.startHandshake(outgoing: &pair.toServer)
            try pair.deliverToServer()
            try pair.deliverToClient()
            #expect(pair.toServer.count > 100)
            // The length of the first record is left alone in half of the rounds, so that more comes behind it.
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let index = Int.random(in: round % 2 == 0 ? 5..<pair.toServer.count : 0..<pair.toServer.count, using: &random)
                pair.toServer[index] ^= UInt8.random(in: 1...255, using: &random)
            }
            do { try pair.deliverToServer() } catch {}
            established += pair.server.isEstablished ? 1 : 0
            #expect(pair.serverReceived.isEmpty)
        }
        // The bytes that change nothing are those of a ChangeCipherSpec's version in TLS 1.3.
        #expect(established < 15)
    }

    @Test("Records of every kind in the clear, behind the handshake, do no more than throw", arguments: LibSSL.Version.supported)
    func clearRecords(version: LibSSL.Version) throws {
        for kind in [0, 19, 20, 21, 22, 23, 24, 25, 255] as [UInt8] {
            for body in [[], [1], [1, 0], [2, 40], [24, 0, 0, 1, 1], [UInt8](repeating: 0, count: 64)] as [[UInt8]] {
                let pair = try TLSPair.established(version)
                pair.toServer = [kind, 3, 3, 0, UInt8(body.count)] + body
                #expect(throws: TLSFault.self, "kind \(kind), \(body)") { try pair.deliverToServer() }
                #expect(pair.serverReceived.isEmpty)
            }
        }
    }
}

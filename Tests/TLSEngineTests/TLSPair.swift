import TLSEngine

/// A client and a server with a network between them that is two arrays, and cuts what it carries.
final class TLSPair {
    let client: TLSEngine
    let server: TLSEngine
    /// On the way.
    var toServer: [UInt8] = []
    var toClient: [UInt8] = []
    /// What came out.
    var serverReceived: [UInt8] = []
    var clientReceived: [UInt8] = []
    /// The longest piece that is delivered at once.
    var pieceBytes = Int.max

    /// - Parameter sealer: of the server; nil: OpenSSL seals its records.
    init(
        server: TLSContext, client: TLSContext, name: String = "a.example", version: LibSSL.Version? = nil,
        sealer: RecordSealer? = RecordSealer()
    ) {
        self.server = TLSEngine(server: server, sealer: sealer)
        self.client = TLSEngine(client: client, serverName: name)
        if let version {
            LibSSL.setVersion(self.client, version)
        }
    }

    /// ECDSA and RSA for a.example, and a client that trusts them; the handshake is done.
    static func established(_ version: LibSSL.Version, alpn: [String] = []) throws -> TLSPair {
        let pair = TLSPair(
            server: try TestCertificates.server("ecdsa", "rsa"),
            client: try TestCertificates.client(alpn: alpn),
            version: version
        )
        try pair.handshake()
        return pair
    }

    func handshake() throws {
        try client.startHandshake(outgoing: &toServer)
        try pump()
    }

    /// Delivers until both directions are empty.
    func pump() throws {
        while !toServer.isEmpty || !toClient.isEmpty {
            try deliverToServer()
            try deliverToClient()
        }
    }

    func deliverToServer() throws {
        let bytes = toServer
        toServer = []
        for piece in Self.pieces(bytes, pieceBytes) {
            try server.receive(piece, plaintext: &serverReceived, outgoing: &toClient)
        }
    }

    func deliverToClient() throws {
        let bytes = toClient
        toClient = []
        for piece in Self.pieces(bytes, pieceBytes) {
            try client.receive(piece, plaintext: &clientReceived, outgoing: &toServer)
        }
    }

    private static func pieces(_ bytes: [UInt8], _ count: Int) -> [[UInt8]] {
        guard bytes.count > count else { return bytes.isEmpty ? [] : [bytes] }
        return stride(from: 0, to: bytes.count, by: count).map { Array(bytes[$0..<min(bytes.count, $0 + count)]) }
    }
}

extension TLSEngine {
    func receive(_ bytes: [UInt8], plaintext: inout [UInt8], outgoing: inout [UInt8]) throws {
        try bytes.withUnsafeBytes { bytes in
            try receive(bytes, plaintext: &plaintext, outgoing: &outgoing)
        }
    }

    func send(_ bytes: [UInt8], outgoing: inout [UInt8]) throws {
        try bytes.withUnsafeBytes { bytes in
            try send(bytes, outgoing: &outgoing)
        }
    }
}

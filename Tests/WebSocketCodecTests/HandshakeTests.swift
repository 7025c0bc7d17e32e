import Testing

@testable import WebSocketCodec

@Suite("WebSocket: handshake")
struct HandshakeTests {
    static let key = "dGhlIHNhbXBsZSBub25jZQ=="

    /// The outcome of a request that is right but for what is given.
    static func request(
        method: String = "GET",
        upgrade: [String] = ["websocket"],
        connection: [String] = ["Upgrade"],
        version: [String] = ["13"],
        key: [String] = [key],
        subprotocols: [String] = [],
        extensions: [String] = []
    ) -> Result<WebSocketHandshake.Request, WebSocketHandshake.Refusal> {
        Result { () throws(WebSocketHandshake.Refusal) in
            try WebSocketHandshake.Request(
                method: method, upgrade: upgrade, connection: connection, version: version, key: key, subprotocols: subprotocols,
                extensions: extensions)
        }
    }

    static func refusal(_ result: Result<WebSocketHandshake.Request, WebSocketHandshake.Refusal>) -> WebSocketHandshake.Refusal? {
        if case .failure(let refusal) = result { refusal } else { nil }
    }

    @Test("the example of RFC 6455 section 1.3 is answered as there")
    func example() throws {
        let request = try Self.request(subprotocols: ["chat, superchat"]).get()
        #expect(request.accept == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        #expect(WebSocketHandshake.accept(key: Self.key) == request.accept)
        #expect(request.key == Self.key)
        #expect(request.subprotocols == ["chat", "superchat"])
    }

    @Test(
        "SHA-1 gives what its specification says",
        arguments: [
            ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            ("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1"),
            (String(repeating: "a", count: 1000), "291e9a6c66994949b57ba5e650361e98fc36b1ba"),
        ]
    )
    func sha1(_ message: String, _ digest: String) {
        #expect(SHA1.digest(Array(message.utf8)) == hex(digest))
    }

    @Test("SHA-1 pads every length to whole blocks")
    func sha1Padding() {
        #expect(Set((0...200).map { SHA1.digest(Array(repeating: 0, count: $0)) }).count == 201)
    }

    @Test(
        "base64 gives what RFC 4648 section 10 says",
        arguments: [
            ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy"),
        ]
    )
    func base64(_ plain: String, _ encoded: String) {
        #expect(Base64.encode(Array(plain.utf8)) == encoded)
    }

    @Test("fields are lists, and their tokens are found in any case")
    func lists() {
        #expect(Self.refusal(Self.request(upgrade: ["WebSocket"], connection: ["keep-alive, UPGRADE"])) == nil)
        #expect(Self.refusal(Self.request(upgrade: ["h2c", " , websocket\t"], connection: ["keep-alive", "Upgrade"])) == nil)
    }

    @Test(
        "what is wrong is refused for its reason",
        arguments: [
            (request(upgrade: []), .notWebSocket),
            (request(upgrade: ["websockets"]), .notWebSocket),
            (request(upgrade: ["websocket/13"]), .notWebSocket),
            (request(connection: []), .notWebSocket),
            (request(connection: ["keep-alive"]), .notWebSocket),
            (request(connection: ["not-upgrade"]), .notWebSocket),
            (request(method: "POST"), .badMethod),
            (request(method: "get"), .badMethod),
            (request(version: []), .badVersion),
            (request(version: ["8"]), .badVersion),
            (request(version: ["013"]), .badVersion),
            (request(version: ["13", "13"]), .badVersion),
            (request(version: ["13, 8"]), .badVersion),
            (request(key: []), .badKey),
            (request(key: [""]), .badKey),
            (request(key: [key, key]), .badKey),
            (request(key: ["dGhlIHNhbXBsZSBub25jZQ="]), .badKey),
            (request(key: ["dGhlIHNhbXBsZSBub25jZQ"]), .badKey),
            (request(key: ["dGhlIHNhbXBsZSBub25jZR=="]), .badKey),
            (request(key: ["dGhlIHNhbXBsZSBub25j_Q=="]), .badKey),
            (request(key: ["dGhlIHNhbXBsZSBub25jZQ== "]), .badKey),
            (request(key: ["dGhlIHNhbXBsZSBub25jZSE="]), .badKey),
            (request(key: ["====================A==="]), .badKey),
            (request(key: ["éééééééééééé"]), .badKey),
            (request(subprotocols: ["a, a"]), .badSubprotocols),
            (request(subprotocols: ["a", "b,a"]), .badSubprotocols),
            (request(subprotocols: ["a b"]), .badSubprotocols),
            (request(subprotocols: ["a;b"]), .badSubprotocols),
            (request(subprotocols: ["é"]), .badSubprotocols),
            (request(subprotocols: [(0...32).map(String.init).joined(separator: ",")]), .badSubprotocols),
        ] as [(Result<WebSocketHandshake.Request, WebSocketHandshake.Refusal>, WebSocketHandshake.Refusal)]
    )
    func refused(
        _ result: Result<WebSocketHandshake.Request, WebSocketHandshake.Refusal>,
        _ refusal: WebSocketHandshake.Refusal
    ) {
        #expect(Self.refusal(result) == refusal)
    }

    @Test("a key's last letter has no bits beyond the 16 bytes")
    func lastLetter() {
        let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        let taken = letters.filter { Self.refusal(Self.request(key: ["dGhlIHNhbXBsZSBub25jZ\($0)=="])) == nil }
        #expect(taken == "AQgw")
    }

    @Test("a refusal has a status, and the fields that its status asks for")
    func refusals() {
        for refusal in WebSocketHandshake.Refusal.allCases {
            #expect((400..<500).contains(refusal.status))
            #expect(!refusal.reason.isEmpty)
        }
        #expect(WebSocketHandshake.Refusal.badVersion.status == 426)
        #expect(WebSocketHandshake.Refusal.badVersion.fields.contains { $0 == ("Sec-WebSocket-Version", "13") })
        #expect(WebSocketHandshake.Refusal.badMethod.fields.contains { $0 == ("Allow", "GET") })
    }

    @Test("the client's first subprotocol that is supported is taken")
    func subprotocol() {
        let supported = ["tocsin.v1", "tocsin.v2"]
        #expect(WebSocketHandshake.subprotocol(offered: ["x", "tocsin.v2", "tocsin.v1"], supported: supported) == "tocsin.v2")
        #expect(WebSocketHandshake.subprotocol(offered: ["TOCSIN.V1"], supported: supported) == nil)
        #expect(WebSocketHandshake.subprotocol(offered: [], supported: supported) == nil)
    }

    @Test("a client's key is its random bytes, and a server takes it")
    func clientKey() {
        #expect(WebSocketHandshake.key(random: (0x7468_6520_7361_6D70, 0x6C65_206E_6F6E_6365)) == Self.key)
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<200 {
            let key = WebSocketHandshake.key(random: (generator.next(), generator.next()))
            #expect(Self.refusal(Self.request(key: [key])) == nil)
        }
    }
}

import HTTP1Codec
import HTTPTypes
import TestSupport
import Testing

/// Seeded garbage: nothing traps, and the cutting never changes the outcome.
struct RandomTests {
    private static let limits = HTTP1Limits(
        startLineBytesMax: 60,
        headBytesMax: 200,
        fieldsMax: 5,
        chunkExtensionBytesMax: 8,
        trailerBytesMax: 20,
        bodyBytesMax: 40
    )
    private static let words: [String] = [
        "GET", "POST", "OPTIONS", "CONNECT", " ", " ", "/", "*", "http://a", "a:1", " HTTP/1.1", " HTTP/1.0", "\r\n", "\r\n", "\r\n\r\n",
        "\r", "\n", "\t", "Host: a\r\n", "Host:", "Content-Length: 3\r\n", "Content-Length: ", "Transfer-Encoding: chunked\r\n",
        "Connection: upgrade\r\n", "Upgrade: websocket\r\n", "Expect: 100-continue\r\n", "x: y\r\n", ":", ";a", "0", "3", "abc",
        "0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.0 ", "204 \r\n", "\u{0}", "\u{7f}", "é",
    ]

    private func cut(_ bytes: [UInt8], _ random: inout SeededRandom) -> [[UInt8]] {
        var pieces: [[UInt8]] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = rest.prefix(Int.random(in: 0...20, using: &random))
            pieces.append(Array(piece))
            rest = rest.dropFirst(piece.count)
        }
        return pieces
    }

    @Test("Random words never trap, and random cuts change nothing", arguments: 0..<20)
    func words(seed: Int) {
        var random = SeededRandom(seed: UInt64(seed))
        for _ in 0..<500 {
            let count = Int.random(in: 1...25, using: &random)
            let bytes = (0..<count).flatMap { _ in Array(Self.words.randomElement(using: &random)!.utf8) }
            let pieces = cut(bytes, &random)
            #expect(requestLines([bytes], limits: Self.limits) == requestLines(pieces, limits: Self.limits), "\(bytes)")
            let method = [HTTPRequest.Method.get, .head, .connect].randomElement(using: &random)!
            #expect(
                responseLines([bytes], to: method, limits: Self.limits) == responseLines(pieces, to: method, limits: Self.limits),
                "\(bytes)"
            )
        }
    }

    @Test("Random bytes never trap", arguments: 0..<10)
    func bytes(seed: Int) {
        var random = SeededRandom(seed: UInt64(1000 + seed))
        for _ in 0..<500 {
            let bytes = (0..<Int.random(in: 0...300, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            #expect(requestLines([bytes]) == requestLines(cut(bytes, &random)))
            #expect(responseLines([bytes]) == responseLines(cut(bytes, &random)))
        }
    }

    @Test("Good cases with some bytes changed never trap, and random cuts change nothing", arguments: 0..<10)
    func mutations(seed: Int) {
        var random = SeededRandom(seed: UInt64(2000 + seed))
        for golden in GoldenCase.all("accept") {
            for _ in 0..<10 {
                var bytes = golden.bytes
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    let index = Int.random(in: 0..<bytes.count, using: &random)
                    switch Int.random(in: 0...3, using: &random) {
                    case 0: bytes[index] = UInt8.random(in: 0...255, using: &random)
                    case 1: bytes[index] ^= 1 << UInt8.random(in: 0...7, using: &random)
                    case 2: bytes.insert([0x0D, 0x0A, 0x20, 0x3A, 0x00].randomElement(using: &random)!, at: index)
                    default: if bytes.count > 1 { bytes.remove(at: index) }
                    }
                }
                #expect(requestLines([bytes]) == requestLines(cut(bytes, &random)), "\(bytes)")
            }
        }
    }
}

import LoadGenerator
import Testing

@Suite struct MarkerTests {
    private struct Found: Equatable, Sendable {
        let number: UInt32
        let due: Int64
    }

    private static func find(_ pieces: [[UInt8]], run: UInt32) -> [Found] {
        var scanner = MarkerScanner()
        var found: [Found] = []
        let prefix = MarkerPrefix(run: run)
        for piece in pieces {
            piece.withUnsafeBytes { scanner.scan($0, prefix: prefix) { found.append(Found(number: $0, due: $1)) } }
        }
        return found
    }

    private static func payload(run: UInt32, number: UInt32, due: Int64, bytes: Int = 128) -> [UInt8] {
        var out: [UInt8] = []
        PayloadMaker(run: run, payloadBytes: bytes).append(number: number, due: due, into: &out)
        return out
    }

    @Test("a payload has the length that is asked for, and is an object", arguments: [42, 43, 128, 5000])
    func length(bytes: Int) {
        let payload = Self.payload(run: 1, number: 2, due: 3, bytes: bytes)
        #expect(payload.count == bytes)
        #expect(String(decoding: payload, as: UTF8.self).hasPrefix(#"{"b":"@tb0000000100000002"#))
        #expect(String(decoding: payload, as: UTF8.self).hasSuffix(#""}"#))
    }

    @Test("markers are found in any wrapping, cut anywhere")
    func cut() {
        let run: UInt32 = 0xdead_beef
        var text = Array("id: a@tb\ndata: {\"x\":1,\"data\":".utf8)
        text += Self.payload(run: run, number: 0, due: 0)
        text += Array("}\n\n@@tbdeadbeef@tbdeadbeef0000".utf8)
        text += Self.payload(run: run, number: .max, due: (1 << 56) - 1, bytes: 42)
        text += Self.payload(run: run, number: 77, due: 123_456_789_012_345)
        let wanted = [
            Found(number: 0, due: 0), Found(number: .max, due: (1 << 56) - 1), Found(number: 77, due: 123_456_789_012_345),
        ]
        #expect(Self.find([text], run: run) == wanted)
        #expect(Self.find(text.map { [$0] }, run: run) == wanted)
        for cut in 0...text.count {
            #expect(Self.find([Array(text[..<cut]), [], Array(text[cut...])], run: run) == wanted, "cut at \(cut)")
        }
    }

    @Test("markers of another run, and what only looks like one, are passed over")
    func others() {
        let run: UInt32 = 5
        var text = Self.payload(run: 6, number: 1, due: 1)
        text += Array("@tb00000005000000ZZ@tb0000000500000001000000000000AA~@tb000000050000000100000000000001!".utf8)
        #expect(Self.find([text], run: run).isEmpty)
    }
}

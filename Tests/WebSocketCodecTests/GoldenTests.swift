import TestSupport
import Testing
import WebSocketCodec

@Suite("WebSocket: golden cases")
struct GoldenTests {
    @Test("there are golden cases, good and bad")
    func some() {
        #expect(GoldenCase.all.count >= 40)
        #expect(GoldenCase.all.contains { $0.outputs.contains { $0.hasPrefix("fault") } })
        #expect(GoldenCase.all.contains { !$0.outputs.contains { $0.hasPrefix("fault") } })
    }

    @Test("a golden case gives its events, however it is cut", arguments: GoldenCase.all)
    func golden(_ golden: GoldenCase) throws {
        let outputs = try SplitVerifier.verify(golden.bytes) { decode($0, role: golden.role, limits: golden.limits) }
        #expect(outputs.map(\.golden) == golden.outputs)
        var decoder = WebSocketDecoder(role: golden.role, limits: golden.limits)
        _ = decoder.feed(golden.bytes)
        #expect(decoder.isIdle == golden.isIdle)
    }
}

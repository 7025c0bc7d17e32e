import NotificationCore
import Testing

/// The field of W3C Trace Context.
@Suite struct TraceParentTests {
    private static let example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    @Test(
        "what is well-formed comes out as it went in, as text and as bytes",
        arguments: [
            example, "00-00000000000000000000000000000001-0000000000000001-00", "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-ff",
        ])
    func roundTrip(_ text: String) throws {
        let trace = try #require(TraceParent(text))
        #expect(trace.description == text)
        #expect(trace.bytes.count == TraceParent.byteCount)
        #expect(TraceParent(bytes: trace.bytes) == trace)
    }

    @Test("of a later version the ids count, and whether it is sampled", arguments: ["", "-", "-what else there is"])
    func laterVersion(_ more: String) {
        #expect(TraceParent("cc" + Self.example.dropFirst(2).dropLast(2) + "03" + more)?.description == Self.example)
    }

    @Test(
        "what is not well-formed is none",
        arguments: [
            "", "00", example.uppercased(), String(example.dropLast()), example + "-", example + "0", "ff" + example.dropFirst(2),
            "cc" + example.dropFirst(2) + "x", "0x" + example.dropFirst(2), example.replacing("-", with: "_"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01", " " + example,
        ])
    func malformed(_ text: String) {
        #expect(TraceParent(text) == nil)
    }

    @Test("bytes of another length, or without ids, are none")
    func malformedBytes() {
        #expect(TraceParent(bytes: []) == nil)
        #expect(TraceParent(bytes: [UInt8](repeating: 0, count: 25)) == nil)
        #expect(TraceParent(bytes: [UInt8](repeating: 1, count: 24)) == nil)
    }
}

import HTTP1Codec
import TestSupport
import Testing

/// The cases under `Fixtures/HTTP1`, however the network cuts them.
struct GoldenTests {
    @Test("A good request gives its events", arguments: GoldenCase.all("accept"))
    func accepted(golden: GoldenCase) throws {
        #expect(golden.lines.last?.hasPrefix("fault") != true)
        try check(golden)
    }

    @Test("A bad request is refused at the same byte for the same reason", arguments: GoldenCase.all("reject"))
    func rejected(golden: GoldenCase) throws {
        #expect(golden.lines.last?.hasPrefix("fault") == true)
        try check(golden)
    }

    private func check(_ golden: GoldenCase) throws {
        let lines = try SplitVerifier.verify(golden.bytes, splitsMax: 600) { requestLines($0) }
        #expect(lines == golden.lines)
    }

    @Test("There are cases, and each fault of a request but too many interim responses is in one")
    func coverage() {
        #expect(GoldenCase.all("accept").count >= 50)
        let rejected = GoldenCase.all("reject")
        #expect(rejected.count >= 200)
        let seen = Set(rejected.compactMap { $0.lines.last?.split(separator: " ").last.map(String.init) })
        let client: [HTTP1Fault] = [.statusLineMalformed, .tooManyInterimResponses, .connectionClosedEarly]
        let missing = HTTP1Fault.allCases.filter { !client.contains($0) && !seen.contains("\($0)") }
        #expect(missing == [])
    }

    @Test("Good requests can follow each other on one connection")
    func chained() throws {
        // Whole requests that leave the connection open and end where the next begins.
        let chain = GoldenCase.all("accept").filter { $0.lines.last == "end" }
        let bytes = chain.flatMap(\.bytes)
        #expect(requestLines([bytes]) == chain.flatMap(\.lines))
        #expect(requestLines(bytes.map { [$0] }) == chain.flatMap(\.lines))
    }
}

/// Feeds one input to a decoder in every way in which a network can cut it, and checks that the events are the same each time.
///
/// Every decoder of Tocsin goes through here: whole, byte by byte, and in two pieces cut at every point.
/// After swift-nio's `ByteToMessageDecoderVerifier`.
public enum SplitVerifier {
    /// What went differently, for a test to report.
    public struct Difference: Error, CustomStringConvertible {
        public var way: String
        public var expected: String
        public var actual: String

        public var description: String {
            "fed \(way):\n  expected \(expected)\n  actual   \(actual)"
        }
    }

    /// Runs `decode` over every splitting of `input`.
    ///
    /// - Parameters:
    ///   - input: the bytes of one connection, at most some tens of kilobytes: the cost is quadratic.
    ///   - splitsMax: at most so many two-piece splittings are tried, evenly spread.
    ///   - decode: makes a new decoder, feeds it the pieces in order, and returns all that came out. Pieces of body or data that
    ///     may legally come in several events have to be joined by it. A fault is an event as well.
    /// - Returns: the events of the whole feed.
    @discardableResult
    public static func verify<Event: Equatable>(
        _ input: [UInt8],
        splitsMax: Int = 2000,
        decode: ([[UInt8]]) throws -> [Event]
    ) throws -> [Event] {
        let expected = try decode([input])
        try compare(expected, try decode(input.map { [$0] }), way: "byte by byte")
        guard input.count > 1 else { return expected }
        let step = max(1, (input.count - 1) / max(1, splitsMax))
        for cut in stride(from: 1, to: input.count, by: step) {
            let pieces = [Array(input[..<cut]), Array(input[cut...])]
            try compare(expected, try decode(pieces), way: "cut at \(cut) of \(input.count)")
        }
        return expected
    }

    private static func compare<Event: Equatable>(_ expected: [Event], _ actual: [Event], way: String) throws {
        guard expected == actual else {
            throw Difference(way: way, expected: "\(expected)", actual: "\(actual)")
        }
    }
}

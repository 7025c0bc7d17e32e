import JSONCodec
import Testing

@testable import Transports

@Suite struct AcknowledgementTests {
    private func read(_ text: String) throws -> Acknowledgement {
        try Acknowledgement(try JSONSlice.checked(Array(text.utf8)[...]))
    }

    @Test("sequences and through are ranges, in whatever order they come")
    func both() throws {
        #expect(try read(#"{"channel":"a.b","sequences":[3,1],"through":2}"#).ranges == [1...2, 3...3, 1...1])
        #expect(try read(#"{"through":2,"channel":"a.b","sequences":[]}"#).ranges == [1...2])
        #expect(throws: Problem.self) { try read(#"{"channel":"a.b"}"#) }
    }

    @Test("no more sequences are taken than one list may have, however often the name stands there")
    func sequencesMax() throws {
        let list = Array(repeating: "1", count: Acknowledgement.sequencesMax).joined(separator: ",")
        #expect(try read(#"{"channel":"a","through":9,"sequences":[\#(list)]}"#).ranges.count == Acknowledgement.sequencesMax + 1)
        #expect(throws: Problem.self) { try read(#"{"channel":"a","sequences":[\#(list),1]}"#) }
        #expect(throws: Problem.self) { try read(#"{"channel":"a","sequences":[\#(list)],"sequences":[1]}"#) }
        #expect(try read(#"{"channel":"a","through":9,"through":3,"through":7}"#).ranges == [1...9])
    }
}

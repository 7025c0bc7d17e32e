import JSONCodec
import TestSupport
import Testing

private func document(_ text: String) -> JSONDocument { JSONDocument(Array(text.utf8)[...]) }

extension JSONDocument {
    fileprivate var text: String {
        var out: [UInt8] = []
        append(to: &out)
        return String(decoding: out, as: UTF8.self)
    }

    fileprivate mutating func merge(_ patch: String) { merge(Array(patch.utf8)[...]) }

    fileprivate func merged(_ patch: String) -> JSONDocument {
        var copy = self
        copy.merge(patch)
        return copy
    }

    /// The text after a patch; also checks that the size is kept.
    fileprivate func text(after patch: String) -> String {
        let merged = merged(patch)
        #expect(merged.byteCount == merged.text.utf8.count)
        return merged.text
    }
}

/// RFC 7396, section 2, as its pseudocode stands there: over a plain tree, with lists that are searched from the start.
private indirect enum Tree {
    case leaf(String)
    case object([(name: Name, value: Tree)])

    struct Name {
        /// How it is written, with quotes.
        var text: String
        var bytes: [UInt8]
    }

    var isNull: Bool { if case .leaf("null") = self { true } else { false } }

    static func read(_ slice: JSONSlice) -> Tree {
        guard slice.kind == .object else { return .leaf(String(decoding: slice.bytes, as: UTF8.self)) }
        var members: [(name: Name, value: Tree)] = []
        var at = slice.bytes.startIndex + 1
        for (name, value) in slice.members {
            let text = slice.bytes[at..<value.bytes.startIndex - 1]
            put(&members, Name(text: String(decoding: text, as: UTF8.self), bytes: Array(name.utf8)), read(value))
            at = value.bytes.endIndex + 1
        }
        return .object(members)
    }

    private static func put(_ members: inout [(name: Name, value: Tree)], _ name: Name, _ value: Tree) {
        if let at = members.firstIndex(where: { $0.name.bytes == name.bytes }) {
            members[at].value = value
        } else {
            members.append((name, value))
        }
    }

    func merged(_ patch: Tree) -> Tree {
        guard case .object(let changes) = patch else { return patch }
        var members: [(name: Name, value: Tree)] = []
        if case .object(let known) = self { members = known }
        for (name, value) in changes {
            if value.isNull {
                members.removeAll { $0.name.bytes == name.bytes }
            } else {
                let old = members.first { $0.name.bytes == name.bytes }?.value ?? .leaf("null")
                Self.put(&members, name, old.merged(value))
            }
        }
        return .object(members)
    }

    var text: String {
        switch self {
        case .leaf(let text): text
        case .object(let members): "{" + members.map { "\($0.name.text):\($0.value.text)" }.joined(separator: ",") + "}"
        }
    }
}

/// Random texts over names that meet often: a few bytes, written in several ways, some of them twice in an object.
private struct Texts {
    var random: SeededRandom
    var names: Int
    /// In a hundred.
    var nulls: Int

    mutating func name() -> String {
        let number = Int.random(in: 0..<names, using: &random)
        let special = [
            #""a""#, #""\u0061""#, #""é""#, #""\u00e9""#, "\"e\u{301}\"", #""\"""#, #""\u0022""#, #""""#, #""😀""#, #""\ud83D\uDE00""#,
        ]
        if number < special.count { return special[number] }
        return Int.random(in: 0..<8, using: &random) == 0 ? "\"\\u006b\(number)\"" : "\"k\(number)\""
    }

    mutating func value(depth: Int) -> String {
        if Int.random(in: 0..<100, using: &random) < nulls { return "null" }
        if depth > 0, Int.random(in: 0..<3, using: &random) == 0 {
            return object(depth: depth - 1, count: Int.random(in: 0..<24, using: &random))
        }
        let leaves = [
            "0", "-1.50E+2", "1e400", "true", "false", #""""#, #""x\n\"}]""#, "[]", #"[1,null,{"a":null,"a":[{}]}]"#, #"[{"b":"]"},"\\"]"#,
        ]
        return leaves.randomElement(using: &random)!
    }

    mutating func object(depth: Int, count: Int) -> String {
        "{" + (0..<count).map { _ in "\(name()):\(value(depth: depth))" }.joined(separator: ",") + "}"
    }
}

@Suite struct MergePatchTests {
    /// RFC 7396, appendix A: original, patch, result.
    static let appendixA = [
        (#"{"a":"b"}"#, #"{"a":"c"}"#, #"{"a":"c"}"#),
        (#"{"a":"b"}"#, #"{"b":"c"}"#, #"{"a":"b","b":"c"}"#),
        (#"{"a":"b"}"#, #"{"a":null}"#, #"{}"#),
        (#"{"a":"b","b":"c"}"#, #"{"a":null}"#, #"{"b":"c"}"#),
        (#"{"a":["b"]}"#, #"{"a":"c"}"#, #"{"a":"c"}"#),
        (#"{"a":"c"}"#, #"{"a":["b"]}"#, #"{"a":["b"]}"#),
        (#"{"a":{"b":"c"}}"#, #"{"a":{"b":"d","c":null}}"#, #"{"a":{"b":"d"}}"#),
        (#"{"a":[{"b":"c"}]}"#, #"{"a":[1]}"#, #"{"a":[1]}"#),
        (#"["a","b"]"#, #"["c","d"]"#, #"["c","d"]"#),
        (#"{"a":"b"}"#, #"["c"]"#, #"["c"]"#),
        (#"{"a":"foo"}"#, #"null"#, #"null"#),
        (#"{"a":"foo"}"#, #""bar""#, #""bar""#),
        (#"{"e":null}"#, #"{"a":1}"#, #"{"e":null,"a":1}"#),
        (#"[1,2]"#, #"{"a":"b","c":null}"#, #"{"a":"b"}"#),
        (#"{}"#, #"{"a":{"bb":{"ccc":null}}}"#, #"{"a":{"bb":{}}}"#),
    ]

    @Test(
        "the cases of RFC 7396, appendix A: those whose patch is an object as they are, all of them inside an object", arguments: appendixA)
    func appendix(_ original: String, _ patch: String, _ result: String) {
        if patch.hasPrefix("{") { #expect(document(original).text(after: patch) == result) }
        // Inside an object a null takes the member away.
        let inside = result == "null" ? #"{"y":1}"# : #"{"x":\#(result),"y":1}"#
        #expect(document(#"{"x":\#(original),"y":1}"#).text(after: #"{"x":\#(patch)}"#) == inside)
    }

    @Test("all fifteen are here")
    func complete() {
        #expect(Self.appendixA.count == 15)
    }

    @Test("the example of RFC 7396, section 3")
    func example() {
        let original =
            #"{"title":"Goodbye!","author":{"givenName":"John","familyName":"Doe"},"tags":["example","sample"],"content":"This"}"#
        let patch = #"{"title":"Hello!","phoneNumber":"+01-123-456-7890","author":{"familyName":null},"tags":["example"]}"#
        let result =
            #"{"title":"Hello!","author":{"givenName":"John"},"tags":["example"],"content":"This","phoneNumber":"+01-123-456-7890"}"#
        #expect(document(original).text(after: patch) == result)
    }

    @Test(
        "what is not an object is kept as it is, and a patch makes an object of it",
        arguments: ["null", "true", "-0.10e+01", #""\u0061""#, "[]", #"[1,{"a":null,"a":1}]"#])
    func notObjects(_ text: String) {
        let kept = document(text)
        #expect(!kept.isObject)
        #expect(kept.text == text)
        #expect(kept.byteCount == text.utf8.count)
        #expect(kept.merged("{}").isObject)
        #expect(kept.text(after: "{}") == "{}")
        #expect(kept.text(after: #"{"a":{"b":null,"c":[null]},"d":null}"#) == #"{"a":{"c":[null]}}"#)
        #expect(document(#"{"v":\#(text)}"#).text(after: #"{"v":{"b":null}}"#) == #"{"v":{}}"#)
    }

    @Test("texts of numbers, strings and arrays stay as they were sent, and members stay in order")
    func texts() {
        let text = #"{"z":1.50e+2,"a":[1,{"b":null}],"é":"\u00e9","n":{"y":1000000000000000000.0,"x":-0},"m":null}"#
        #expect(document(text).text == text)
        #expect(document(text).isObject)
        #expect(
            document(text).text(after: #"{"w":1E5,"z":2.00,"n":{"x":3.0,"w":{"v":null,"u":[null]}}}"#)
                == #"{"z":2.00,"a":[1,{"b":null}],"é":"\u00e9","n":{"y":1000000000000000000.0,"x":3.0,"w":{"u":[null]}},"m":null,"w":1E5}"#
        )
        #expect(document(#"{"a":1,"b":2}"#).merged(#"{"a":null}"#).text(after: #"{"a":3}"#) == #"{"b":2,"a":3}"#)
    }

    @Test("names are the same if they decode to the same bytes, and are kept as they were first written")
    func names() {
        #expect(document(#"{"\u0061":1}"#).text(after: #"{"a":2}"#) == #"{"\u0061":2}"#)
        #expect(document(#"{"a":1}"#).text(after: #"{"\u0061":2}"#) == #"{"a":2}"#)
        #expect(document(#"{"\u0061":{"b":1}}"#).text(after: #"{"a":{"\u0062":2}}"#) == #"{"\u0061":{"b":2}}"#)
        #expect(document(#"{"\u0061":1}"#).text(after: #"{"a":{"b":null}}"#) == #"{"\u0061":{}}"#)
        #expect(document(#"{"\u0061":{"b":1}}"#).text(after: #"{"a":1}"#) == #"{"\u0061":1}"#)
        #expect(document(#"{"\/\n\ud83d\ude00":1,"":2}"#).text(after: #"{"/\u000a😀":null,"":3}"#) == #"{"":3}"#)
        // Canonically the same, but other bytes.
        let both = document("{\"\u{e9}\":1}").text(after: "{\"e\u{301}\":2}")
        #expect(Array(both.utf8) == Array("{\"\u{e9}\":1,\"e\u{301}\":2}".utf8))
        #expect(document(#"{"a":1}"#).text(after: #"{"A":2,"aa":3}"#) == #"{"a":1,"A":2,"aa":3}"#)
    }

    @Test("of a name that is there twice the last value counts, in patches too")
    func twice() {
        #expect(document(#"{"a":1,"b":2,"\u0061":3}"#).text(after: "{}") == #"{"a":3,"b":2}"#)
        #expect(document(#"{"a":{"x":1},"a":{"y":2}}"#).text(after: "{}") == #"{"a":{"y":2}}"#)
        #expect(document(#"{"a":{"z":0}}"#).text(after: #"{"a":{"x":1},"a":{"y":2}}"#) == #"{"a":{"z":0,"y":2}}"#)
        #expect(document(#"{"a":{"z":0}}"#).text(after: #"{"a":null,"a":{"y":2}}"#) == #"{"a":{"z":0,"y":2}}"#)
        #expect(document(#"{"a":{"z":0}}"#).text(after: #"{"a":{"y":2},"a":null}"#) == "{}")
        #expect(document("{}").text(after: #"{"a":{"b":null,"b":1}}"#) == #"{"a":{"b":1}}"#)
    }

    @Test("a copy stays what it was", arguments: [1, 8, 9, 32, 33, 1000])
    func copies(count: Int) {
        let members = (0..<count).map { #""k\#($0)":{"v":\#($0)}"# }.joined(separator: ",")
        let original = document("{\(members)}")
        let text = original.text
        var changed = original
        changed.merge(#"{"k0":{"v":"other","w":1},"new":{"x":1}}"#)
        let afterOne = changed.text
        let second = changed
        changed.merge("{" + (0..<count).map { #""k\#($0)":null"# }.joined(separator: ",") + "}")
        #expect(changed.text == #"{"new":{"x":1}}"#)
        changed.merge(#"{"new":{"x":2}}"#)
        #expect(second.text == afterOne)
        #expect(original.text == text)
        #expect(original.byteCount == text.utf8.count)
        #expect(second.byteCount == afterOne.utf8.count)
        #expect(changed.byteCount == changed.text.utf8.count)
        changed.merge(#"{"new":null}"#)
        #expect(changed.text(after: #"{"k0":1,"new":null}"#) == #"{"k0":1}"#)
        #expect(changed.text == "{}")
    }

    @Test("objects and arrays inside each other as deep as a text may be")
    func deep() throws {
        func nested(_ depth: Int, _ inner: String) -> String {
            String(repeating: #"{"a":"#, count: depth) + inner + String(repeating: "}", count: depth)
        }
        let original = nested(63, #"{"x":1}"#)
        #expect(try minify(original) == original)
        let kept = document(original)
        #expect(kept.text == original)
        #expect(kept.text(after: nested(63, #"{"x":null,"y":2}"#)) == nested(63, #"{"y":2}"#))
        #expect(kept.text(after: nested(62, #"{"a":null}"#)) == nested(62, "{}"))
        #expect(document("1").text(after: nested(63, #"{"x":null}"#)) == nested(63, "{}"))
        let arrays = String(repeating: "[", count: 63) + String(repeating: "]", count: 63)
        #expect(kept.text(after: #"{"a":\#(arrays)}"#) == #"{"a":\#(arrays)}"#)
    }

    @Test("members come and go in a large object, and its order, its index and its size stay right", arguments: 0..<4)
    func comingAndGoing(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var kept = document("{}")
        var members: [(name: Int, value: Int)] = []
        for round in 0..<800 {
            let name = Int.random(in: 0..<60, using: &random)
            let at = members.firstIndex { $0.name == name }
            // By turns it fills and empties.
            if Int.random(in: 0..<10, using: &random) < (round / 200 % 2 == 0 ? 2 : 8) {
                if let at { members.remove(at: at) }
                kept.merge(#"{"k\#(name)":null}"#)
            } else {
                if let at { members[at].value = round } else { members.append((name, round)) }
                kept.merge(#"{"k\#(name)":\#(round)}"#)
            }
            let text = kept.text
            try #require(text == "{" + members.map { "\"k\($0.name)\":\($0.value)" }.joined(separator: ",") + "}")
            try #require(kept.byteCount == text.utf8.count)
        }
    }

    @Test("random patches come to what the RFC's pseudocode comes to, and the size is always that of the text", arguments: 0..<24)
    func random(seed: UInt64) throws {
        // From objects of a few names to objects of a hundred.
        let names = [4, 12, 40, 100][Int(seed % 4)]
        var texts = Texts(random: SeededRandom(seed: seed), names: names, nulls: 10)
        let original = texts.object(depth: 2, count: names)
        var kept = document(original)
        var tree = Tree.read(JSONSlice(Array(original.utf8)[...]))
        var textBefore = tree.text
        kept.merge(Array("{}".utf8)[...])  // members named twice go with the first merge
        try #require(kept.text == textBefore)
        for round in 0..<150 {
            texts.nulls = [0, 20, 50, 90].randomElement(using: &texts.random)!
            let patch = texts.object(depth: 2, count: Int.random(in: 0...8, using: &texts.random))
            let before = kept
            tree = tree.merged(Tree.read(JSONSlice(Array(patch.utf8)[...])))
            kept.merge(patch)
            let text = kept.text
            let expected = tree.text
            try #require(Array(text.utf8) == Array(expected.utf8), "\(textBefore) with \(patch)")
            try #require(kept.byteCount == text.utf8.count)
            try #require(before.text == textBefore, "the copy has changed")
            if round % 10 == 0 {
                #expect(try minify(text) == text)
                #expect(document(text).text == text)
            }
            textBefore = expected
        }
    }
}

/// A text with places for values, taken apart once.
package struct RequestTemplate: Sendable {
    private enum Piece: Sendable {
        case literal([UInt8])
        /// - Parameter isInPath: what is not unreserved is sent as %XX (RFC 3986 section 2).
        case value(Int, isInPath: Bool)
    }

    private var pieces: [Piece] = []

    /// - Parameter names: of the values, in the order in which they will be given.
    package init(_ text: String, names: [String], isInPath: Bool = false) {
        append(text, names: names, isInPath: isInPath)
    }

    private init() {}

    /// The head of an HTTP/1.1 request.
    ///
    /// - Parameter extra: lines behind the fields, each with its line end.
    static func head(
        _ request: Profile.Request, channel: String, authority: String, names: [String] = [], extra: String = ""
    ) -> RequestTemplate {
        var template = RequestTemplate()
        template.append("\(request.method) ", names: [], isInPath: false)
        template.append(request.path.replacing("{channel}", with: channel), names: names, isInPath: true)
        template.append(" HTTP/1.1\r\nHost: \(authority)\r\n", names: [], isInPath: false)
        for (name, value) in request.fields {
            template.append("\(name): ", names: [], isInPath: false)
            template.append(value.replacing("{channel}", with: channel) + "\r\n", names: names, isInPath: false)
        }
        template.append("\(extra)\r\n", names: [], isInPath: false)
        return template
    }

    package func append(values: [[UInt8]], into out: inout [UInt8]) {
        for piece in pieces {
            switch piece {
            case .literal(let bytes): out.append(contentsOf: bytes)
            case .value(let index, false): out.append(contentsOf: values[index])
            case .value(let index, true): Self.appendEncoded(values[index], into: &out)
            }
        }
    }

    private mutating func append(_ text: String, names: [String], isInPath: Bool) {
        var rest = text[...]
        while let open = rest.firstIndex(of: "{"), let close = rest[open...].firstIndex(of: "}") {
            guard let index = names.firstIndex(of: String(rest[rest.index(after: open)..<close])) else {
                appendLiteral(rest[...close])
                rest = rest[rest.index(after: close)...]
                continue
            }
            appendLiteral(rest[..<open])
            pieces.append(.value(index, isInPath: isInPath))
            rest = rest[rest.index(after: close)...]
        }
        appendLiteral(rest)
    }

    private mutating func appendLiteral(_ text: Substring) {
        guard !text.isEmpty else { return }
        if case .literal(let before) = pieces.last {
            pieces[pieces.count - 1] = .literal(before + Array(text.utf8))
        } else {
            pieces.append(.literal(Array(text.utf8)))
        }
    }

    private static func appendEncoded(_ bytes: [UInt8], into out: inout [UInt8]) {
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                out.append(byte)
            default:
                out.append(UInt8(ascii: "%"))
                for nibble in [byte >> 4, byte & 15] { out.append(nibble < 10 ? nibble + 0x30 : nibble + 0x37) }
            }
        }
    }
}

/// Takes from a body what first stands between two texts, wherever the body is cut.
package struct BodyCapture: Sendable {
    /// Longest value, in bytes; what is longer is not one.
    private static let valueBytesMax = 4096

    private enum State {
        case searching(matched: Int)
        case inside
        case done
    }

    private let after: [UInt8]
    private let until: UInt8
    /// How much of `after` still stands when the byte behind so much of it is another one (Knuth, Morris, Pratt).
    private let fallback: [Int]
    private let takesLast: Bool
    private var state = State.searching(matched: 0)

    /// - Parameter takesLast: goes on searching behind a value, so that the last one stays.
    package init(after: String, until: String, takesLast: Bool = false) {
        self.takesLast = takesLast
        precondition(!after.isEmpty && until.utf8.count == 1)
        self.after = Array(after.utf8)
        self.until = until.utf8.first!
        var fallback = Array(repeating: 0, count: self.after.count)
        var matched = 0
        for index in self.after.indices.dropFirst() {
            while matched > 0, self.after[index] != self.after[matched] { matched = fallback[matched - 1] }
            if self.after[index] == self.after[matched] { matched += 1 }
            fallback[index] = matched
        }
        self.fallback = fallback
    }

    /// Whether the value is complete.
    var isDone: Bool {
        if case .done = state { true } else { false }
    }

    /// The next body begins.
    package mutating func begin() {
        state = .searching(matched: 0)
    }

    /// - Parameter value: is set anew when the text before it has been found, and complete at the latest when the body is.
    package mutating func read(_ bytes: UnsafeRawBufferPointer, into value: inout [UInt8]) {
        for byte in bytes {
            switch state {
            case .searching(var matched):
                while matched > 0, byte != after[matched] { matched = fallback[matched - 1] }
                if byte == after[matched] { matched += 1 }
                if matched == after.count {
                    value.removeAll(keepingCapacity: true)
                    state = .inside
                } else {
                    state = .searching(matched: matched)
                }
            case .inside:
                guard byte != until, value.count < Self.valueBytesMax else {
                    state = takesLast ? .searching(matched: 0) : .done
                    continue
                }
                value.append(byte)
            case .done:
                return
            }
        }
    }
}

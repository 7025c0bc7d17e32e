import JSONCodec

/// A second reading of RFC 8259, written as its grammar stands there: recursive, over decoded characters, and slow. It shares nothing with
/// the scanner, so that where both agree the text of the RFC was probably read right.
struct Reference {
    private struct Refused: Error {}

    private var rest: Substring.UnicodeScalarView
    private var minified = ""
    private let depthMax: Int

    /// The text without insignificant white space; nil if it is not JSON.
    static func minify(_ bytes: [UInt8], depthMax: Int = 64) -> String? {
        guard let text = String(validating: bytes, as: UTF8.self) else { return nil }
        var reference = Reference(rest: Substring(text).unicodeScalars, depthMax: depthMax)
        do {
            try reference.element(depth: 0)
        } catch {
            return nil
        }
        return reference.rest.isEmpty ? reference.minified : nil
    }

    private init(rest: Substring.UnicodeScalarView, depthMax: Int) {
        self.rest = rest
        self.depthMax = depthMax
    }

    private mutating func element(depth: Int) throws {
        white()
        switch rest.first {
        case "{":
            try list("{", "}", depth: depth) { (reference: inout Self) in
                reference.white()
                try reference.string()
                reference.white()
                try reference.take(":")
                try reference.element(depth: depth + 1)
            }
        case "[": try list("[", "]", depth: depth) { (reference: inout Self) in try reference.element(depth: depth + 1) }
        case "\"": try string()
        case "t": try word("true")
        case "f": try word("false")
        case "n": try word("null")
        default: try number()
        }
        white()
    }

    private mutating func list(
        _ begin: Unicode.Scalar, _ end: Unicode.Scalar, depth: Int, item: (inout Self) throws -> Void
    ) throws {
        if depth == depthMax { throw Refused() }
        try take(begin)
        white()
        if rest.first == end { return try take(end) }
        try item(&self)
        white()
        while rest.first == "," {
            try take(",")
            try item(&self)
            white()
        }
        try take(end)
    }

    private mutating func white() {
        while let next = rest.first, [" ", "\t", "\n", "\r"].contains(next) { rest.removeFirst() }
    }

    private mutating func take(_ scalar: Unicode.Scalar) throws {
        try take { $0 == scalar }
    }

    private mutating func take(_ isWanted: (Unicode.Scalar) -> Bool) throws {
        guard let next = rest.first, isWanted(next) else { throw Refused() }
        rest.removeFirst()
        minified.unicodeScalars.append(next)
    }

    private mutating func word(_ text: String) throws {
        for scalar in text.unicodeScalars { try take(scalar) }
    }

    private mutating func string() throws {
        try take("\"")
        while rest.first != "\"" {
            guard rest.first == "\\" else {
                try take { $0.value >= 0x20 }
                continue
            }
            try take("\\")
            let isUnicode = rest.first == "u"
            try take { "\"\\/bfnrtu".unicodeScalars.contains($0) }
            if isUnicode { for _ in 0..<4 { try take { "0123456789abcdefABCDEF".unicodeScalars.contains($0) } } }
        }
        try take("\"")
    }

    private mutating func number() throws {
        if rest.first == "-" { try take("-") }
        if rest.first == "0" { try take("0") } else { try digits() }
        if rest.first == "." {
            try take(".")
            try digits()
        }
        if rest.first == "e" || rest.first == "E" {
            try take { _ in true }
            if rest.first == "+" || rest.first == "-" { try take { _ in true } }
            try digits()
        }
    }

    private mutating func digits() throws {
        repeat { try take { ("0"..."9").contains($0) } } while rest.first.map { ("0"..."9").contains($0) } ?? false
    }
}

/// Walks over a JSON text (RFC 8259) once, checks all of it and copies it without the white space between tokens.
///
/// There is no recursion: what the scanner is inside of is a stack of bits, so depth costs a bit and no stack frame.
///
///     value ──scalar──> afterValue
///       ├─ { ──> name, colon ──> value                 } at once: afterValue
///       └─ [ ──> value                                 ] at once: afterValue
///     afterValue ── , ──> name, colon or value         } ] ──> afterValue         outside of everything: only the end may follow
///
/// Bytes are copied in runs: everything between two stretches of white space goes over in one piece, and a text that has none is one
/// copy at the end. The input is a raw buffer whose subscript checks nothing in a release build, so every read here has its own check
/// against `count` before it. A token's loop counts in a local variable: `at` is memory, and would be written for every byte.
struct JSONScanner {
    private let input: UnsafeRawBufferPointer
    private let depthMax: Int
    private var at = 0
    /// Bytes from here to `at` are checked and still to be copied.
    private var runStart = 0
    private var nesting = JSONNesting()

    init(input: UnsafeRawBufferPointer, limits: JSONLimits) {
        self.input = input
        depthMax = limits.depthMax
    }

    mutating func scan(into out: inout [UInt8]) throws(JSONFault) {
        skipWhiteSpace(&out)
        while true {
            if try !beginValue(&out) { continue }
            if try !endValue(&out) { break }
        }
        guard at == input.count else { throw expected("the end") }
        copyRun(upTo: at, &out)
    }

    /// Reads a scalar, an empty array or object, or the beginning of one that is not empty.
    ///
    /// - Returns: whether a value is complete; otherwise the next thing is another value.
    private mutating func beginValue(_ out: inout [UInt8]) throws(JSONFault) -> Bool {
        guard at < input.count else { throw expected("a value") }
        let first = input[at]
        switch first {
        case UInt8(ascii: "\""):
            try string()
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
            try number()
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            guard nesting.depth < depthMax else { throw .tooDeep(offset: at) }
            let isObject = first == UInt8(ascii: "{")
            at += 1
            skipWhiteSpace(&out)
            if at < input.count, input[at] == Self.end(isObject) {
                at += 1
                return true
            }
            nesting.push(object: isObject)
            if isObject { try name(&out) }
            return false
        case UInt8(ascii: "t"):
            try literal("true")
        case UInt8(ascii: "f"):
            try literal("false")
        case UInt8(ascii: "n"):
            try literal("null")
        default:
            throw expected("a value")
        }
        return true
    }

    /// Reads what follows a value: ends, and then a comma.
    ///
    /// - Returns: whether another value follows; otherwise the outermost one is complete.
    private mutating func endValue(_ out: inout [UInt8]) throws(JSONFault) -> Bool {
        while true {
            skipWhiteSpace(&out)
            guard nesting.depth > 0 else { return false }
            let isObject = nesting.isObject
            guard at < input.count else { throw expected(isObject ? "\",\" or \"}\"" : "\",\" or \"]\"") }
            switch input[at] {
            case UInt8(ascii: ","):
                at += 1
                skipWhiteSpace(&out)
                if isObject { try name(&out) }
                return true
            case Self.end(isObject):
                at += 1
                nesting.pop()
            default:
                throw expected(isObject ? "\",\" or \"}\"" : "\",\" or \"]\"")
            }
        }
    }

    private static func end(_ isObject: Bool) -> UInt8 { isObject ? UInt8(ascii: "}") : UInt8(ascii: "]") }

    private func expected(_ what: String) -> JSONFault { .syntax(offset: at, expected: what) }

    // MARK: White space and copying

    private mutating func copyRun(upTo end: Int, _ out: inout [UInt8]) {
        guard end > runStart else { return }
        out.append(contentsOf: UnsafeRawBufferPointer(rebasing: input[runStart..<end]))
    }

    private static func isWhiteSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 }

    @inline(__always)
    private mutating func skipWhiteSpace(_ out: inout [UInt8]) {
        if at < input.count, input[at] <= 0x20 { skipSomeWhiteSpace(&out) }
    }

    private mutating func skipSomeWhiteSpace(_ out: inout [UInt8]) {
        let start = at
        while at < input.count, Self.isWhiteSpace(input[at]) {
            at += 1
            // Indentation.
            while input.count - at >= 8, ByteScan.word(input, at) == 0x2020_2020_2020_2020 { at += 8 }
        }
        guard at > start else { return }
        copyRun(upTo: start, &out)
        runStart = at
    }

    // MARK: Tokens

    /// A member's name and the colon after it.
    private mutating func name(_ out: inout [UInt8]) throws(JSONFault) {
        guard at < input.count, input[at] == UInt8(ascii: "\"") else { throw expected("a name in quotes") }
        try string()
        skipWhiteSpace(&out)
        guard at < input.count, input[at] == UInt8(ascii: ":") else { throw expected("\":\"") }
        at += 1
        skipWhiteSpace(&out)
    }

    private mutating func literal(_ text: StaticString) throws(JSONFault) {
        let count = text.utf8CodeUnitCount
        guard input.count - at >= count else { throw expected("a value") }
        for index in 0..<count where input[at + index] != text.utf8Start[index] { throw expected("a value") }
        at += count
    }

    private mutating func number() throws(JSONFault) {
        if input[at] == UInt8(ascii: "-") { at += 1 }
        if at < input.count, input[at] == UInt8(ascii: "0") { at += 1 } else { try digits() }
        if at < input.count, input[at] == UInt8(ascii: ".") {
            at += 1
            try digits()
        }
        if at < input.count, input[at] | 0x20 == UInt8(ascii: "e") {
            at += 1
            if at < input.count, input[at] == UInt8(ascii: "+") || input[at] == UInt8(ascii: "-") { at += 1 }
            try digits()
        }
    }

    @inline(__always)
    private mutating func digits() throws(JSONFault) {
        let end = input.count
        var position = at
        while position < end, input[position] &- UInt8(ascii: "0") < 10 { position &+= 1 }
        if position == at { throw expected("a digit") }
        at = position
    }

    // MARK: Strings

    private mutating func string() throws(JSONFault) {
        at += 1
        while true {
            at = endOfPlain(at)
            guard at < input.count else { throw expected("the end of the string") }
            let byte = input[at]
            if byte == UInt8(ascii: "\"") {
                at += 1
                return
            } else if byte == UInt8(ascii: "\\") {
                try escape()
            } else if byte < 0x20 {
                throw expected("an escaped control character")
            } else {
                at = try endOfCharacters(at)
            }
        }
    }

    /// Where the run of ASCII that stands for itself ends, which begins at `start`.
    @inline(__always)
    private func endOfPlain(_ start: Int) -> Int {
        let end = input.count
        var position = start
        while end &- position >= 8 {
            let word = ByteScan.word(input, position)
            let hits = ByteScan.special(word) | ByteScan.notASCII(word)
            if hits != 0 { return position &+ ByteScan.before(hits) }
            position &+= 8
        }
        while position < end {
            let byte = input[position]
            if byte < 0x20 || byte >= 0x80 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { break }
            position &+= 1
        }
        return position
    }

    private mutating func escape() throws(JSONFault) {
        at += 1
        guard at < input.count else { throw expected("the rest of an escape") }
        switch input[at] {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"), UInt8(ascii: "n"),
            UInt8(ascii: "r"), UInt8(ascii: "t"):
            at += 1
        case UInt8(ascii: "u"):
            at += 1
            for _ in 0..<4 {
                guard at < input.count, hexadecimalDigit(input[at]) != nil else { throw expected("four hexadecimal digits") }
                at += 1
            }
        default:
            throw expected("an escape")
        }
    }

    /// Where the run of characters of two to four bytes ends, which begins at `start` (RFC 3629, section 4).
    private func endOfCharacters(_ start: Int) throws(JSONFault) -> Int {
        let end = input.count
        var position = start
        while position < end, input[position] >= 0x80 {
            let left = end &- position
            let first = input[position]
            let second = left > 1 ? input[position &+ 1] : 0
            let third = left > 2 ? input[position &+ 2] : 0
            let fourth = left > 3 ? input[position &+ 3] : 0
            func isTail(_ byte: UInt8) -> Bool { byte & 0xc0 == 0x80 }
            if first < 0xe0 {
                // 0xc0 and 0xc1 would be overlong.
                guard first >= 0xc2, isTail(second) else { throw .invalidUTF8(offset: position) }
                position &+= 2
            } else if first < 0xf0 {
                // Not overlong, and no surrogate.
                guard isTail(second), isTail(third), first != 0xe0 || second >= 0xa0, first != 0xed || second < 0xa0 else {
                    throw .invalidUTF8(offset: position)
                }
                position &+= 3
            } else {
                // Not overlong, and not above U+10FFFF.
                guard first <= 0xf4, isTail(second), isTail(third), isTail(fourth), first != 0xf0 || second >= 0x90,
                    first != 0xf4 || second < 0x90
                else { throw .invalidUTF8(offset: position) }
                position &+= 4
            }
        }
        return position
    }
}

/// The value of a hexadecimal digit; nil for other bytes.
func hexadecimalDigit(_ byte: UInt8) -> UInt32? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0"))
    case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt32(byte - UInt8(ascii: "a") + 10)
    case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt32(byte - UInt8(ascii: "A") + 10)
    default: nil
    }
}

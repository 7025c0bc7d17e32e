/// Walks over a JSON text without recursion: what it is inside of is a stack of bits (object or array), so depth costs a bit and no
/// stack frame.
///
///     value ──scalar──> afterValue
///       ├─ { ──> firstName ──name──> colon ──> value
///       └─ [ ──> firstElement ──────────────> value          afterValue: , ──> name or value;  ] } ──> afterValue; at the end: done
struct JSONScanner {
    private let input: UnsafeRawBufferPointer
    private let limits: JSONLimits
    private var at = 0
    /// Bytes from here to `at` are still to be copied.
    private var runStart = 0

    init(input: UnsafeRawBufferPointer, limits: JSONLimits) {
        self.input = input
        self.limits = limits
    }

    mutating func scan(into out: inout [UInt8]) throws(JSONFault) {
        var isObject: [Bool] = []
        skipWhiteSpace(&out)
        var wantsValue = true
        while true {
            if wantsValue {
                guard at < input.count else { throw expected("a value") }
                switch input[at] {
                case UInt8(ascii: "{"), UInt8(ascii: "["):
                    if isObject.count == limits.depthMax { throw .tooDeep(offset: at) }
                    let opensObject = input[at] == UInt8(ascii: "{")
                    isObject.append(opensObject)
                    at += 1
                    skipWhiteSpace(&out)
                    if at < input.count, input[at] == (opensObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) {
                        at += 1
                        isObject.removeLast()
                        wantsValue = false
                    } else if opensObject {
                        try name(&out)
                    }
                    continue
                default:
                    try scalar()
                    wantsValue = false
                }
            }
            skipWhiteSpace(&out)
            guard let insideObject = isObject.last else { break }
            guard at < input.count else { throw expected(insideObject ? "\",\" or \"}\"" : "\",\" or \"]\"") }
            switch input[at] {
            case UInt8(ascii: ","):
                at += 1
                skipWhiteSpace(&out)
                if insideObject { try name(&out) }
                wantsValue = true
            case insideObject ? UInt8(ascii: "}") : UInt8(ascii: "]"):
                at += 1
                isObject.removeLast()
            default:
                throw expected(insideObject ? "\",\" or \"}\"" : "\",\" or \"]\"")
            }
        }
        guard at == input.count else { throw expected("the end") }
        out.append(contentsOf: input[runStart..<at])
    }

    private func expected(_ what: String) -> JSONFault { .syntax(offset: at, expected: what) }

    private mutating func skipWhiteSpace(_ out: inout [UInt8]) {
        let start = at
        while at < input.count, [0x20, 0x0a, 0x0d, 0x09].contains(input[at]) { at += 1 }
        if at > start {
            out.append(contentsOf: input[runStart..<start])
            runStart = at
        }
    }

    private mutating func name(_ out: inout [UInt8]) throws(JSONFault) {
        guard at < input.count, input[at] == UInt8(ascii: "\"") else { throw expected("a name in quotes") }
        try string()
        skipWhiteSpace(&out)
        guard at < input.count, input[at] == UInt8(ascii: ":") else { throw expected("\":\"") }
        at += 1
        skipWhiteSpace(&out)
    }

    private mutating func scalar() throws(JSONFault) {
        switch input[at] {
        case UInt8(ascii: "\""): try string()
        case UInt8(ascii: "t"): try literal("true")
        case UInt8(ascii: "f"): try literal("false")
        case UInt8(ascii: "n"): try literal("null")
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): try number()
        default: throw expected("a value")
        }
    }

    private mutating func literal(_ text: StaticString) throws(JSONFault) {
        let count = text.utf8CodeUnitCount
        guard input.count - at >= count,
            UnsafeRawBufferPointer(rebasing: input[at..<at + count]).elementsEqual(UnsafeRawBufferPointer(start: text.utf8Start, count: count))
        else { throw expected("a value") }
        at += count
    }

    private mutating func digits() throws(JSONFault) {
        let start = at
        while at < input.count, input[at] &- UInt8(ascii: "0") < 10 { at += 1 }
        if at == start { throw expected("a digit") }
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

    private mutating func string() throws(JSONFault) {
        at += 1
        while true {
            skipPlain()
            guard at < input.count else { throw expected("the end of the string") }
            switch input[at] {
            case UInt8(ascii: "\""):
                at += 1
                return
            case UInt8(ascii: "\\"):
                try escape()
            case ..<0x20:
                throw expected("an escaped control character")
            case 0x80...:
                try character()
            default:
                at += 1
            }
        }
    }

    /// Passes over ASCII that needs no look, eight bytes at a time.
    private mutating func skipPlain() {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let highs: UInt64 = 0x8080_8080_8080_8080
        while input.count - at >= 8 {
            let word = input.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            func hasZero(_ word: UInt64) -> UInt64 { (word &- ones) & ~word & highs }
            let special = (word & highs) | hasZero(word ^ (ones &* 0x22)) | hasZero(word ^ (ones &* 0x5c))
                | ((word &- (ones &* 0x20)) & ~word & highs)
            if special != 0 { return }
            at += 8
        }
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

    /// One character of two to four bytes (RFC 3629, section 4).
    private mutating func character() throws(JSONFault) {
        func byte(_ offset: Int, _ range: ClosedRange<UInt8>) -> Bool { at + offset < input.count && range.contains(input[at + offset]) }
        let tail: ClosedRange<UInt8> = 0x80...0xbf
        let length: Int
        switch input[at] {
        case 0xc2...0xdf where byte(1, tail): length = 2
        case 0xe0 where byte(1, 0xa0...0xbf) && byte(2, tail): length = 3
        case 0xe1...0xec where byte(1, tail) && byte(2, tail): length = 3
        case 0xed where byte(1, 0x80...0x9f) && byte(2, tail): length = 3
        case 0xee...0xef where byte(1, tail) && byte(2, tail): length = 3
        case 0xf0 where byte(1, 0x90...0xbf) && byte(2, tail) && byte(3, tail): length = 4
        case 0xf1...0xf3 where byte(1, tail) && byte(2, tail) && byte(3, tail): length = 4
        case 0xf4 where byte(1, 0x80...0x8f) && byte(2, tail) && byte(3, tail): length = 4
        default: throw .invalidUTF8(offset: at)
        }
        at += length
    }
}

func hexadecimalDigit(_ byte: UInt8) -> UInt32? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0"))
    case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt32(byte - UInt8(ascii: "a") + 10)
    case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt32(byte - UInt8(ascii: "A") + 10)
    default: nil
    }
}

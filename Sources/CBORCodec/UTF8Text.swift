/// Text on its way into a JSON string.
enum UTF8Text {
    /// Where the run of characters of two to four bytes ends, which begins at `start` (RFC 3629, section 4); nil if it is not UTF-8.
    static func endOfCharacters(_ text: UnsafeRawBufferPointer, from start: Int) -> Int? {
        let end = text.count
        var position = start
        while position < end, text[position] >= 0x80 {
            let left = end &- position
            let first = text[position]
            let second = left > 1 ? text[position &+ 1] : 0
            let third = left > 2 ? text[position &+ 2] : 0
            let fourth = left > 3 ? text[position &+ 3] : 0
            func isTail(_ byte: UInt8) -> Bool { byte & 0xc0 == 0x80 }
            if first < 0xe0 {
                // 0xc0 and 0xc1 would be overlong.
                guard first >= 0xc2, isTail(second) else { return nil }
                position &+= 2
            } else if first < 0xf0 {
                // Not overlong, and no surrogate.
                guard isTail(second), isTail(third), first != 0xe0 || second >= 0xa0, first != 0xed || second < 0xa0 else { return nil }
                position &+= 3
            } else {
                // Not overlong, and not above U+10FFFF.
                guard first <= 0xf4, isTail(second), isTail(third), isTail(fourth), first != 0xf0 || second >= 0x90,
                    first != 0xf4 || second < 0x90
                else { return nil }
                position &+= 4
            }
        }
        return position
    }

    /// How many bytes `appendEscape` appends.
    static func escapedCount(_ byte: UInt8) -> Int {
        switch byte {
        case 0x08, 0x09, 0x0a, 0x0c, 0x0d: 2
        case ..<0x20: 6
        default: 2
        }
    }

    /// Appends a quote, a backslash or a control character as JSON writes it (RFC 8259, section 7).
    static func appendEscape(_ byte: UInt8, to out: inout [UInt8]) {
        func hexadecimal(_ digit: UInt8) -> UInt8 { digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10 }
        out.append(UInt8(ascii: "\\"))
        switch byte {
        case 0x08: out.append(UInt8(ascii: "b"))
        case 0x09: out.append(UInt8(ascii: "t"))
        case 0x0a: out.append(UInt8(ascii: "n"))
        case 0x0c: out.append(UInt8(ascii: "f"))
        case 0x0d: out.append(UInt8(ascii: "r"))
        case ..<0x20:
            out.append(contentsOf: [UInt8(ascii: "u"), UInt8(ascii: "0"), UInt8(ascii: "0")])
            out.append(hexadecimal(byte >> 4))
            out.append(hexadecimal(byte & 15))
        default: out.append(byte)
        }
    }
}

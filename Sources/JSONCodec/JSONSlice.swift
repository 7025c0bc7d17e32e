/// A view of one value inside a JSON text that was checked and minified: walks over it without building a tree.
package struct JSONSlice: Sendable {
    package enum Kind: Sendable {
        case object, array, string, number, bool, null
    }

    /// The value's own text.
    package let bytes: ArraySlice<UInt8>

    /// - Parameter bytes: one value, as `JSONText.minify` leaves it. Anything else may trap.
    package init(_ bytes: ArraySlice<UInt8>) {
        precondition(!bytes.isEmpty)
        self.bytes = bytes
    }

    package var kind: Kind {
        switch bytes.first! {
        case UInt8(ascii: "{"): .object
        case UInt8(ascii: "["): .array
        case UInt8(ascii: "\""): .string
        case UInt8(ascii: "t"), UInt8(ascii: "f"): .bool
        case UInt8(ascii: "n"): .null
        default: .number
        }
    }

    /// The text of a string; nil for other kinds. A lone surrogate becomes U+FFFD.
    package func string() -> String? {
        guard kind == .string else { return nil }
        let inner = bytes.dropFirst().dropLast()
        guard inner.contains(UInt8(ascii: "\\")) else { return String(decoding: inner, as: UTF8.self) }
        return Self.unescape(inner)
    }

    /// A whole number that was written without fraction or exponent; nil otherwise.
    package func integer() -> Int64? {
        guard kind == .number else { return nil }
        return Int64(String(decoding: bytes, as: UTF8.self))
    }

    package func double() -> Double? {
        guard kind == .number else { return nil }
        return Double(String(decoding: bytes, as: UTF8.self))
    }

    package func bool() -> Bool? {
        guard kind == .bool else { return nil }
        return bytes.first == UInt8(ascii: "t")
    }

    /// The elements of an array; none for other kinds.
    package var elementList: [JSONSlice] {
        guard kind == .array else { return [] }
        var elements: [JSONSlice] = []
        var at = bytes.startIndex + 1
        while bytes[at] != UInt8(ascii: "]") {
            let end = endOfValue(at)
            elements.append(JSONSlice(bytes[at..<end]))
            at = bytes[end] == UInt8(ascii: ",") ? end + 1 : end
        }
        return elements
    }

    /// The members of an object, in order; none for other kinds.
    package var memberList: [(name: String, value: JSONSlice)] {
        guard kind == .object else { return [] }
        var members: [(name: String, value: JSONSlice)] = []
        var at = bytes.startIndex + 1
        while bytes[at] != UInt8(ascii: "}") {
            let nameEnd = endOfValue(at)
            let end = endOfValue(nameEnd + 1)
            members.append((JSONSlice(bytes[at..<nameEnd]).string()!, JSONSlice(bytes[nameEnd + 1..<end])))
            at = bytes[end] == UInt8(ascii: ",") ? end + 1 : end
        }
        return members
    }

    /// The last member of that name, as most readers take it.
    package subscript(name: String) -> JSONSlice? {
        memberList.last { $0.name == name }?.value
    }

    /// Where the value that begins at `start` ends.
    private func endOfValue(_ start: Int) -> Int {
        var depth = 0
        var at = start
        repeat {
            switch bytes[at] {
            case UInt8(ascii: "\""):
                at += 1
                while bytes[at] != UInt8(ascii: "\"") { at += bytes[at] == UInt8(ascii: "\\") ? 2 : 1 }
            case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
            default: break
            }
            at += 1
        } while depth > 0 || (at < bytes.endIndex && !isEnd(bytes[at]))
        return at
    }

    private func isEnd(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: ",") || byte == UInt8(ascii: "}") || byte == UInt8(ascii: "]") || byte == UInt8(ascii: ":")
    }

    private static func unescape(_ inner: ArraySlice<UInt8>) -> String {
        var units: [UInt16] = []
        units.reserveCapacity(inner.count)
        var rest = inner
        while let byte = rest.first {
            guard byte == UInt8(ascii: "\\") else {
                let run = rest.prefix { $0 != UInt8(ascii: "\\") }
                units.append(contentsOf: String(decoding: run, as: UTF8.self).utf16)
                rest = rest.dropFirst(run.count)
                continue
            }
            let escaped = rest[rest.startIndex + 1]
            rest = rest.dropFirst(2)
            switch escaped {
            case UInt8(ascii: "b"): units.append(8)
            case UInt8(ascii: "f"): units.append(12)
            case UInt8(ascii: "n"): units.append(10)
            case UInt8(ascii: "r"): units.append(13)
            case UInt8(ascii: "t"): units.append(9)
            case UInt8(ascii: "u"):
                units.append(UInt16(rest.prefix(4).reduce(0) { $0 << 4 | hexadecimalDigit($1)! }))
                rest = rest.dropFirst(4)
            default: units.append(UInt16(escaped))
            }
        }
        return String(decoding: units, as: UTF16.self)
    }
}

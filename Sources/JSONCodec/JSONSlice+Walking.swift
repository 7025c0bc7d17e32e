extension JSONSlice {
    /// The elements of an array in order, found one by one; none for other kinds.
    package struct Elements: Sequence, IteratorProtocol {
        private var walk: JSONWalk

        init(_ value: JSONSlice) {
            walk = JSONWalk(value.bytes, isEmpty: value.kind != .array)
        }

        package mutating func next() -> JSONSlice? {
            walk.beginItem() ? JSONSlice(walk.value()) : nil
        }
    }

    /// The members of an object in order, found one by one; none for other kinds.
    package struct Members: Sequence, IteratorProtocol {
        private var walk: JSONWalk

        init(_ value: JSONSlice) {
            walk = JSONWalk(value.bytes, isEmpty: value.kind != .object)
        }

        package mutating func next() -> (name: String, value: JSONSlice)? {
            guard let (name, value) = nextRaw() else { return nil }
            return (name.string()!, value)
        }

        /// The next member with its name as it was written.
        package mutating func nextRaw() -> (name: JSONSlice, value: JSONSlice)? {
            guard walk.beginItem() else { return nil }
            let name = JSONSlice(walk.value())
            precondition(name.kind == .string, "a member without a name")
            walk.passColon()
            return (name, JSONSlice(walk.value()))
        }
    }

    package var elements: Elements { Elements(self) }

    package var members: Members { Members(self) }

    /// `elements` as an array.
    package var elementList: [JSONSlice] { Array(elements) }

    /// `members` as an array.
    package var memberList: [(name: String, value: JSONSlice)] { Array(members) }

    package func forEachElement<Fault: Error>(_ body: (JSONSlice) throws(Fault) -> Void) throws(Fault) {
        var elements = elements
        while let element = elements.next() { try body(element) }
    }

    package func forEachMember<Fault: Error>(_ body: (_ name: String, _ value: JSONSlice) throws(Fault) -> Void) throws(Fault) {
        var members = members
        while let (name, value) = members.next() { try body(name, value) }
    }

    /// The last member of that name, as most readers take it (RFC 8259, section 4). Names are compared as bytes of UTF-8.
    package subscript(name: String) -> JSONSlice? {
        var found: JSONSlice?
        var members = members
        while let (rawName, value) = members.nextRaw() {
            if rawName.isString(name) { found = value }
        }
        return found
    }

    /// Whether it is this string, written without escapes.
    package func isPlainString(_ text: StaticString) -> Bool {
        bytes.withUnsafeBytes { bytes in
            let count = text.utf8CodeUnitCount
            return bytes.count == count + 2 && bytes[0] == UInt8(ascii: "\"")
                && UnsafeRawBufferPointer(rebasing: bytes[1...count]).elementsEqual(
                    UnsafeRawBufferPointer(start: text.utf8Start, count: count))
        }
    }

    private func isString(_ text: String) -> Bool {
        let inner = bytes.dropFirst().dropLast()
        if inner.contains(UInt8(ascii: "\\")) { return string()!.utf8.elementsEqual(text.utf8) }
        return inner.count == text.utf8.count && inner.elementsEqual(text.utf8)
    }
}

/// Finds where the values inside an array or object end. The text is known to be good, so only brackets and strings are looked at. A
/// text that is not good traps at the latest at its end.
struct JSONWalk {
    private let bytes: ArraySlice<UInt8>
    private var at: Int
    private var isFirst = true

    init(_ bytes: ArraySlice<UInt8>, isEmpty: Bool) {
        self.bytes = bytes
        at = isEmpty ? bytes.endIndex : bytes.startIndex + 1
    }

    /// Moves to the next element or name.
    ///
    /// - Returns: whether there is one.
    mutating func beginItem() -> Bool {
        // The last byte is the bracket that ends it all.
        guard at < bytes.endIndex - 1 else { return false }
        if !isFirst {
            precondition(bytes[at] == UInt8(ascii: ","), "not a checked text")
            at += 1
        }
        isFirst = false
        return true
    }

    mutating func passColon() {
        precondition(bytes[at] == UInt8(ascii: ":"), "not a checked text")
        at += 1
    }

    /// Passes over a value.
    mutating func value() -> ArraySlice<UInt8> {
        let start = at
        at = bytes.startIndex + bytes.withUnsafeBytes { Self.end(of: $0, from: start - bytes.startIndex) }
        precondition(at > start, "not a checked text")
        return bytes[start..<at]
    }

    /// Where the value that begins at `start` ends.
    private static func end(of text: UnsafeRawBufferPointer, from start: Int) -> Int {
        precondition(start < text.count, "not a checked text")
        switch text[start] {
        case UInt8(ascii: "\""):
            return endOfString(text, from: start)
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            return endOfNested(text, from: start)
        default:
            var at = start
            while at < text.count, !isEnd(text[at]) { at += 1 }
            return at
        }
    }

    private static func endOfNested(_ text: UnsafeRawBufferPointer, from start: Int) -> Int {
        var depth = 0
        var at = start
        while at < text.count {
            switch text[at] {
            case UInt8(ascii: "\""):
                at = endOfString(text, from: at)
                continue
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                depth -= 1
                if depth == 0 { return at + 1 }
            default:
                break
            }
            at += 1
        }
        preconditionFailure("not a checked text")
    }

    private static func endOfString(_ text: UnsafeRawBufferPointer, from start: Int) -> Int {
        var at = start + 1
        while true {
            at = ByteScan.firstSpecial(in: text, from: at)
            precondition(at < text.count, "not a checked text")
            if text[at] == UInt8(ascii: "\"") { return at + 1 }
            at += 2
            precondition(at < text.count, "not a checked text")
        }
    }

    private static func isEnd(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: ",") || byte == UInt8(ascii: "}") || byte == UInt8(ascii: "]")
    }
}

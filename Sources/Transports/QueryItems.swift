/// The parts of a request target: path and query items, percent-decoded.
package struct RequestTarget {
    /// Segments between slashes, percent-decoded; nil where one is not decodable.
    package let segments: [String]?
    package let items: QueryItems?

    package init(_ target: String) {
        // Bytes, not characters: a combining mark behind a `?` does not make it another sign.
        let bytes = target.utf8
        let path = bytes.prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
        var segments: [String]? = []
        for segment in path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).dropFirst() {
            guard let decoded = QueryItems.decode(segment, plusIsSpace: false) else {
                segments = nil
                break
            }
            segments?.append(decoded)
        }
        self.segments = segments
        let query = bytes[path.endIndex...].prefix { $0 != UInt8(ascii: "#") }.dropFirst()
        items = QueryItems(String(Substring(query)))
    }
}

/// `application/x-www-form-urlencoded` pairs, in order.
package struct QueryItems {
    package private(set) var pairs: [(name: String, value: String)] = []

    package init?(_ query: String) {
        guard !query.isEmpty else { return }
        for pair in query.utf8.split(separator: UInt8(ascii: "&")) {
            let name = pair.prefix { $0 != UInt8(ascii: "=") }
            let value = pair.dropFirst(name.count + 1)
            guard let name = Self.decode(name, plusIsSpace: true), let value = Self.decode(value, plusIsSpace: true) else { return nil }
            pairs.append((name, value))
        }
    }

    /// The first of that name.
    package subscript(name: String) -> String? { pairs.first { $0.name == name }?.value }

    /// Takes out all of that name.
    package mutating func take(_ name: String) -> [String] {
        let taken = all(name)
        if !taken.isEmpty { pairs.removeAll { $0.name == name } }
        return taken
    }

    package func all(_ name: String) -> [String] { pairs.filter { $0.name == name }.map(\.value) }

    /// - Returns: nil for a broken escape or what is not UTF-8 then.
    package static func decode(_ bytes: some Collection<UInt8>, plusIsSpace: Bool) -> String? {
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count)
        var iterator = bytes.makeIterator()
        while let byte = iterator.next() {
            switch byte {
            case UInt8(ascii: "%"):
                guard let high = iterator.next().flatMap(hexadecimal), let low = iterator.next().flatMap(hexadecimal) else { return nil }
                out.append(high << 4 | low)
            case UInt8(ascii: "+") where plusIsSpace:
                out.append(UInt8(ascii: " "))
            default:
                out.append(byte)
            }
        }
        return String(validating: out, as: UTF8.self)
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}

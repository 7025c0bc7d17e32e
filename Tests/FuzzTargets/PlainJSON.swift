/// A JSON text read as the grammar of RFC 8259 stands there: recursive, into a tree, and slow. It shares nothing with the scanner.
indirect enum PlainJSON {
    /// A string, number, true, false or null as it is written.
    case scalar([UInt8])
    case array([PlainJSON])
    /// Names as they are written, with their quotes.
    case object([(name: [UInt8], value: PlainJSON)])

    /// - Returns: nil if `text` is no JSON, or has arrays and objects deeper inside each other than `depthMax`.
    static func read(_ text: [UInt8], depthMax: Int) -> PlainJSON? {
        guard String(validating: text, as: UTF8.self) != nil else { return nil }
        var reader = Reader(text: text, depthMax: depthMax)
        guard let value = reader.element(depth: 0), reader.at == text.count else { return nil }
        return value
    }

    func append(to out: inout [UInt8]) {
        switch self {
        case .scalar(let raw): out += raw
        case .array(let elements):
            out.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                element.append(to: &out)
            }
            out.append(UInt8(ascii: "]"))
        case .object(let members):
            out.append(UInt8(ascii: "{"))
            for (index, member) in members.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                out += member.name
                out.append(UInt8(ascii: ":"))
                member.value.append(to: &out)
            }
            out.append(UInt8(ascii: "}"))
        }
    }

    /// Arrays and objects inside each other.
    var depth: Int {
        switch self {
        case .scalar: 0
        case .array(let elements): 1 + (elements.map(\.depth).max() ?? 0)
        case .object(let members): 1 + (members.map(\.value.depth).max() ?? 0)
        }
    }

    /// What a string stands for, in UTF-8. A surrogate without its other half stands for U+FFFD.
    static func decoded(_ string: [UInt8]) -> [UInt8] {
        var units: [UInt16] = []
        var rest = string.dropFirst().dropLast()
        while let byte = rest.first {
            guard byte == UInt8(ascii: "\\") else {
                let plain = rest.prefix { $0 != UInt8(ascii: "\\") }
                units += String(decoding: plain, as: UTF8.self).utf16
                rest = rest[plain.endIndex...]
                continue
            }
            let letter = rest[rest.startIndex + 1]
            rest = rest.dropFirst(2)
            switch letter {
            case UInt8(ascii: "u"):
                units.append(UInt16(String(decoding: rest.prefix(4), as: UTF8.self), radix: 16)!)
                rest = rest.dropFirst(4)
            case UInt8(ascii: "b"): units.append(8)
            case UInt8(ascii: "f"): units.append(12)
            case UInt8(ascii: "n"): units.append(10)
            case UInt8(ascii: "r"): units.append(13)
            case UInt8(ascii: "t"): units.append(9)
            default: units.append(UInt16(letter))
            }
        }
        return Array(String(decoding: units, as: UTF16.self).utf8)
    }

    // MARK: Merge patches

    /// RFC 7396 section 2. Where a name stands twice, the first gives its place and its writing, and the last its value.
    func merged(_ patch: PlainJSON) -> PlainJSON {
        guard case .object(let changes) = patch.unique else { return patch }
        var members: [(name: [UInt8], value: PlainJSON)?] = []
        if case .object(let known) = unique { members = known }
        var places: [[UInt8]: Int] = [:]
        for (place, member) in members.enumerated() { places[Self.decoded(member!.name)] = place }
        for change in changes {
            let place = places[Self.decoded(change.name)]
            if case .scalar(let raw) = change.value, raw == Array("null".utf8) {
                if let place { members[place] = nil }
            } else if let place {
                members[place]!.value = members[place]!.value.merged(change.value)
            } else {
                members.append((change.name, PlainJSON.scalar([]).merged(change.value)))
            }
        }
        return .object(members.compactMap { $0 })
    }

    /// Without names that stand twice in one object; arrays stay as they are.
    private var unique: PlainJSON {
        guard case .object(let members) = self else { return self }
        var found: [(name: [UInt8], value: PlainJSON)] = []
        var places: [[UInt8]: Int] = [:]
        for member in members {
            let name = Self.decoded(member.name)
            if let place = places[name] {
                found[place].value = member.value.unique
            } else {
                places[name] = found.count
                found.append((member.name, member.value.unique))
            }
        }
        return .object(found)
    }
}

extension PlainJSON {
    private struct Reader {
        let text: [UInt8]
        let depthMax: Int
        var at = 0

        var next: UInt8? { at < text.count ? text[at] : nil }

        mutating func element(depth: Int) -> PlainJSON? {
            white()
            defer { white() }
            let start = at
            switch next {
            case UInt8(ascii: "{")?, UInt8(ascii: "[")?: return depth < depthMax ? list(depth: depth) : nil
            case UInt8(ascii: "\"")?: return string().map { .scalar($0) }
            case UInt8(ascii: "t")?, UInt8(ascii: "f")?, UInt8(ascii: "n")?:
                for word in ["true", "false", "null"] where text[start...].starts(with: word.utf8) {
                    at += word.utf8.count
                    return .scalar(Array(text[start..<at]))
                }
                return nil
            default: return number().map { .scalar($0) }
            }
        }

        private mutating func list(depth: Int) -> PlainJSON? {
            let isObject = next == UInt8(ascii: "{")
            let end = isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")
            var elements: [PlainJSON] = []
            var members: [(name: [UInt8], value: PlainJSON)] = []
            at += 1
            white()
            if !take(end) {
                repeat {
                    if isObject {
                        white()
                        guard let name = string() else { return nil }
                        white()
                        guard take(UInt8(ascii: ":")), let value = element(depth: depth + 1) else { return nil }
                        members.append((name, value))
                    } else {
                        guard let value = element(depth: depth + 1) else { return nil }
                        elements.append(value)
                    }
                } while take(UInt8(ascii: ","))
                guard take(end) else { return nil }
            }
            return isObject ? .object(members) : .array(elements)
        }

        private mutating func white() {
            while let byte = next, [0x20, 0x09, 0x0a, 0x0d].contains(byte) { at += 1 }
        }

        private mutating func take(_ byte: UInt8) -> Bool {
            guard next == byte else { return false }
            at += 1
            return true
        }

        private mutating func string() -> [UInt8]? {
            let start = at
            guard take(UInt8(ascii: "\"")) else { return nil }
            while !take(UInt8(ascii: "\"")) {
                guard let byte = next, byte >= 0x20 else { return nil }
                at += 1
                guard byte == UInt8(ascii: "\\") else { continue }
                guard let letter = next, "\"\\/bfnrtu".utf8.contains(letter) else { return nil }
                at += 1
                guard letter == UInt8(ascii: "u") else { continue }
                for _ in 0..<4 {
                    guard let digit = next, "0123456789abcdefABCDEF".utf8.contains(digit) else { return nil }
                    at += 1
                }
            }
            return Array(text[start..<at])
        }

        private mutating func number() -> [UInt8]? {
            let start = at
            _ = take(UInt8(ascii: "-"))
            if !take(UInt8(ascii: "0")), !digits() { return nil }
            if take(UInt8(ascii: ".")), !digits() { return nil }
            if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
                _ = take(UInt8(ascii: "+")) || take(UInt8(ascii: "-"))
                if !digits() { return nil }
            }
            return Array(text[start..<at])
        }

        private mutating func digits() -> Bool {
            let start = at
            while let byte = next, (0x30...0x39).contains(byte) { at += 1 }
            return at > start
        }
    }
}

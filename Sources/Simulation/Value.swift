import JSONCodec

/// A JSON value, in the simplest form that can be right: what the oracle merges and compares.
indirect enum Value: Equatable {
    case null
    case bool(Bool)
    case number(String)
    case string(String)
    case array([Value])
    case object([String: Value])

    init(_ slice: JSONSlice) {
        switch slice.kind {
        case .object: self = .object(Dictionary(slice.memberList.map { ($0.name, Value($0.value)) }, uniquingKeysWith: { $1 }))
        case .array: self = .array(slice.elementList.map { Value($0) })
        case .string: self = .string(slice.string() ?? "")
        default:
            let text = String(decoding: slice.bytes, as: UTF8.self)
            switch text {
            case "null": self = .null
            case "true": self = .bool(true)
            case "false": self = .bool(false)
            default: self = .number(text)
            }
        }
    }

    init(text: [UInt8]) { self.init(JSONSlice(text[...])) }

    /// RFC 7396, section 2, word for word.
    func merged(with patch: Value) -> Value {
        guard case .object(let changes) = patch else { return patch }
        var target: [String: Value] = [:]
        if case .object(let members) = self { target = members }
        for (name, value) in changes {
            if value == .null { target[name] = nil } else { target[name] = (target[name] ?? .null).merged(with: value) }
        }
        return .object(target)
    }

    subscript(name: String) -> Value? {
        if case .object(let members) = self { members[name] } else { nil }
    }

    var integer: Int? {
        if case .number(let text) = self { Int(text) } else { nil }
    }
}

extension JSONSlice {
    /// - Returns: nil if it is not JSON.
    init?(checking text: [UInt8]) {
        var minified: [UInt8] = []
        guard (try? text.withUnsafeBytes { try JSONText.minify($0, into: &minified) }) != nil else { return nil }
        self.init(minified[...])
    }
}

import JSONCodec

/// A second reading of RFC 8949 and of what the codec does with it: recursive, over a tree, and slow. It shares nothing with the codec,
/// so that where both agree the RFC was probably read right.
indirect enum Reference: Equatable {
    case null
    case bool(Bool)
    /// Decimal digits, with a sign.
    case whole(String)
    case float(Double)
    case text([UInt8])
    case bytes([UInt8])
    case array([Reference])
    case map([Pair])

    struct Pair: Equatable {
        var name: [UInt8]
        var value: Reference
    }

    struct Refused: Error {}

    static func base64(_ bytes: [UInt8]) -> String {
        let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
        var text = ""
        var rest = bytes[...]
        while !rest.isEmpty {
            let group = Array(rest.prefix(3)) + [0, 0]
            let letter = [group[0] >> 2, group[0] << 4 & 63 | group[1] >> 4, group[1] << 2 & 63 | group[2] >> 6, group[2] & 63]
            text += String(letter.prefix(rest.prefix(3).count + 1).map { letters[Int($0)] })
            text += String(repeating: "=", count: 3 - rest.prefix(3).count)
            rest = rest.dropFirst(3)
        }
        return text
    }

    // MARK: Decimal digits and bytes

    static func digits(_ bigEndian: [UInt8], plusOne: Bool) -> String {
        var digits: [Int] = [0]
        func multiplyAdd(_ factor: Int, _ summand: Int) {
            var carry = summand
            for place in digits.indices {
                carry += digits[place] * factor
                digits[place] = carry % 10
                carry /= 10
            }
            while carry > 0 {
                digits.append(carry % 10)
                carry /= 10
            }
        }
        for byte in bigEndian { multiplyAdd(256, Int(byte)) }
        if plusOne { multiplyAdd(1, 1) }
        return digits.reversed().map(String.init).joined()
    }

    static func bigEndian(_ digits: Substring, minusOne: Bool) -> [UInt8] {
        var bytes: [UInt8] = []
        for digit in digits {
            var carry = digit.wholeNumberValue!
            for place in bytes.indices.reversed() {
                carry += Int(bytes[place]) * 10
                bytes[place] = UInt8(carry & 255)
                carry >>= 8
            }
            if carry > 0 { bytes.insert(UInt8(carry), at: 0) }
        }
        if minusOne {
            var place = bytes.count - 1
            while bytes[place] == 0 {
                bytes[place] = 255
                place -= 1
            }
            bytes[place] -= 1
        }
        return Array(bytes.drop { $0 == 0 })
    }

    // MARK: JSON

    /// - Parameter text: checked JSON.
    init(json text: JSONSlice) {
        switch text.kind {
        case .null: self = .null
        case .bool: self = .bool(text.bool()!)
        case .string: self = .text(Array(text.string()!.utf8))
        case .number:
            let written = String(decoding: text.bytes, as: UTF8.self)
            if written.contains(where: { ".eE".contains($0) }) {
                self = .float(Double(written)!)
            } else {
                let isNegative = written.hasPrefix("-")
                let magnitude = isNegative ? written.dropFirst() : written[...]
                let isBignum = Self.bigEndian(magnitude, minusOne: isNegative && magnitude != "0").count <= 128
                self = isBignum ? .whole(magnitude == "0" ? "0" : written) : .float(isNegative ? -.infinity : .infinity)
            }
        case .array: self = .array(text.elementList.map(Reference.init(json:)))
        case .object:
            var pairs: [Pair] = []
            for (name, value) in text.memberList {
                pairs.removeAll { $0.name == Array(name.utf8) }
                pairs.append(Pair(name: Array(name.utf8), value: Reference(json: value)))
            }
            self = .map(pairs)
        }
    }

    static func quoted(_ text: [UInt8]) -> String {
        var quoted = "\""
        for scalar in String(decoding: text, as: UTF8.self).unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "\u{8}": quoted += "\\b"
            case "\t": quoted += "\\t"
            case "\n": quoted += "\\n"
            case "\u{c}": quoted += "\\f"
            case "\r": quoted += "\\r"
            case _ where scalar.value < 0x20: quoted += "\\u00" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }

    func json(isTop: Bool = true) throws -> String {
        switch self {
        case .null: return "null"
        case .bool(let bool): return bool ? "true" : "false"
        case .whole(let digits): return digits
        case .float(let float):
            guard float.isFinite else { throw Refused() }
            return "\(float)"
        case .text(let text): return Self.quoted(text)
        case .bytes: throw Refused()
        case .array(let elements): return "[" + (try elements.map { try $0.json(isTop: false) }).joined(separator: ",") + "]"
        case .map(let pairs):
            var members: [String] = []
            var names: [[UInt8]] = []
            for pair in pairs {
                names.append(pair.name)
                if isTop, pair.name == Array("data".utf8), case .bytes(let bytes) = pair.value {
                    names.append(Array("encoding".utf8))
                    members.append("\"data\":\"\(Self.base64(bytes))\"")
                    members.append("\"encoding\":\"base64\"")
                } else {
                    members.append(Self.quoted(pair.name) + ":" + (try pair.value.json(isTop: false)))
                }
            }
            guard Set(names).count == names.count else { throw Refused() }
            return "{" + members.joined(separator: ",") + "}"
        }
    }

    // MARK: CBOR

    private static func head(_ major: UInt8, _ argument: UInt64) -> [UInt8] {
        for (width, information) in [(1, 24), (2, 25), (4, 26)] where argument < 1 << UInt64(8 * width) {
            if argument < 24 { return [major << 5 | UInt8(argument)] }
            return [major << 5 | UInt8(information)]
                + (0..<width).reversed().map { UInt8(truncatingIfNeeded: argument >> UInt64(8 * $0)) }
        }
        return [major << 5 | 27] + (0..<8).reversed().map { UInt8(truncatingIfNeeded: argument >> UInt64(8 * $0)) }
    }

    var cbor: [UInt8] {
        switch self {
        case .null: return [0xf6]
        case .bool(let bool): return [bool ? 0xf5 : 0xf4]
        case .whole(let written):
            let isNegative = written.hasPrefix("-")
            let bytes = Self.bigEndian(isNegative ? written.dropFirst() : written[...], minusOne: isNegative)
            if bytes.count <= 8 { return Self.head(isNegative ? 1 : 0, bytes.reduce(0) { $0 << 8 | UInt64($1) }) }
            return [isNegative ? 0xc3 : 0xc2] + Self.head(2, UInt64(bytes.count)) + bytes
        case .float(let float):
            if Double(Float16(float)) == float { return [0xf9] + Self.wide(UInt64(Float16(float).bitPattern), 2) }
            if Double(Float(float)) == float { return [0xfa] + Self.wide(UInt64(Float(float).bitPattern), 4) }
            return [0xfb] + Self.wide(float.bitPattern, 8)
        case .text(let text): return Self.head(3, UInt64(text.count)) + text
        case .bytes(let bytes): return Self.head(2, UInt64(bytes.count)) + bytes
        case .array(let elements): return Self.head(4, UInt64(elements.count)) + Array(elements.map(\.cbor).joined())
        case .map(let pairs):
            return Self.head(5, UInt64(pairs.count)) + Array(pairs.map { Reference.text($0.name).cbor + $0.value.cbor }.joined())
        }
    }

    private static func wide(_ number: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).reversed().map { UInt8(truncatingIfNeeded: number >> UInt64(8 * $0)) }
    }

    /// One item and nothing behind it.
    init(cbor: [UInt8], depthMax: Int = 64) throws {
        var rest = cbor[...]
        guard let item = try Self.item(&rest, depth: depthMax), rest.isEmpty else { throw Refused() }
        self = item
    }

    /// - Returns: nil for a break.
    private static func item(_ rest: inout ArraySlice<UInt8>, depth: Int) throws -> Reference? {
        guard let first = rest.popFirst() else { throw Refused() }
        let information = first & 31
        var argument = UInt64(information)
        if (24...27).contains(information) {
            let width = [1, 2, 4, 8][Int(information) - 24]
            guard rest.count >= width else { throw Refused() }
            argument = rest.prefix(width).reduce(0) { $0 << 8 | UInt64($1) }
            rest = rest.dropFirst(width)
        }
        guard !(28...30).contains(information) else { throw Refused() }
        let isOpen = information == 31
        switch first >> 5 {
        case 0 where !isOpen: return .whole(String(argument))
        case 1 where !isOpen: return .whole("-" + digits(wide(argument, 8), plusOne: true))
        case 2: return .bytes(try string(&rest, 2, isOpen ? nil : argument))
        case 3:
            var text: [UInt8] = []
            if isOpen {
                while rest.first != 0xff {
                    guard let head = rest.first, head >> 5 == 3, head & 31 != 31, case .text(let piece)? = try item(&rest, depth: 0) else {
                        throw Refused()
                    }
                    text += piece
                }
                rest = rest.dropFirst()
            } else {
                text = try string(&rest, 3, argument)
                guard String(validating: text, as: UTF8.self) != nil else { throw Refused() }
            }
            return .text(text)
        case 4:
            guard depth > 0 else { throw Refused() }
            var elements: [Reference] = []
            while isOpen || UInt64(elements.count) < argument {
                guard let element = try item(&rest, depth: depth - 1) else {
                    guard isOpen else { throw Refused() }
                    break
                }
                elements.append(element)
            }
            return .array(elements)
        case 5:
            guard depth > 0 else { throw Refused() }
            var pairs: [Pair] = []
            while isOpen || UInt64(pairs.count) < argument {
                if isOpen, rest.first == 0xff {
                    rest = rest.dropFirst()
                    break
                }
                guard rest.first.map({ $0 >> 5 }) == 3, case .text(let name)? = try item(&rest, depth: 0),
                    let value = try item(&rest, depth: depth - 1)
                else { throw Refused() }
                pairs.append(Pair(name: name, value: value))
            }
            return .map(pairs)
        case 6 where argument == 55799 && !isOpen:
            guard let item = try item(&rest, depth: depth) else { throw Refused() }
            return item
        case 6 where (argument == 2 || argument == 3) && !isOpen:
            guard rest.first.map({ $0 >> 5 }) == 2, case .bytes(let bytes)? = try item(&rest, depth: 0), bytes.count <= 128 else {
                throw Refused()
            }
            return .whole(argument == 2 ? digits(bytes, plusOne: false) : "-" + digits(bytes, plusOne: true))
        case 7:
            switch information {
            case 20: return .bool(false)
            case 21: return .bool(true)
            case 22: return .null
            case 25: return .float(Double(Float16(bitPattern: UInt16(argument))))
            case 26: return .float(Double(Float(bitPattern: UInt32(argument))))
            case 27: return .float(Double(bitPattern: argument))
            case 31: return nil
            default: throw Refused()
            }
        default: throw Refused()
        }
    }

    /// - Parameter count: nil if it is open.
    private static func string(_ rest: inout ArraySlice<UInt8>, _ major: UInt8, _ count: UInt64?) throws -> [UInt8] {
        if let count {
            guard count <= UInt64(rest.count) else { throw Refused() }
            defer { rest = rest.dropFirst(Int(count)) }
            return Array(rest.prefix(Int(count)))
        }
        var whole: [UInt8] = []
        while let first = rest.first, first != 0xff {
            guard first >> 5 == major, first & 31 != 31, case .bytes(let piece)? = try item(&rest, depth: 0) else { throw Refused() }
            whole += piece
        }
        guard !rest.isEmpty else { throw Refused() }
        rest = rest.dropFirst()
        return whole
    }
}

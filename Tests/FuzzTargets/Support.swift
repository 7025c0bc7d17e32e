import HTTPTypes

/// Traps with `word` unless `holds`.
@inline(__always)
func require(_ holds: Bool, _ word: StaticString, file: StaticString = #fileID, line: UInt = #line) {
    if !holds { preconditionFailure("\(word)", file: file, line: line) }
}

/// Traps with `word` and both values unless they are the same.
@inline(__always)
func requireSame<Value: Equatable>(
    _ found: Value, _ expected: Value, _ word: StaticString, file: StaticString = #fileID, line: UInt = #line
) {
    if found != expected { preconditionFailure("\(word):\n  \(found)\n  \(expected)", file: file, line: line) }
}

/// How an input is cut into reads.
enum Cut: CaseIterable {
    case whole
    case byteByByte
    /// Into pieces whose lengths follow from the input.
    case drawn

    /// Calls `body` with each piece in turn until it returns false. A piece is a copy in memory of exactly its size, so that a read
    /// behind it is noticed, and may be changed.
    func forEachPiece(of bytes: [UInt8], _ body: (UnsafeMutableRawBufferPointer) -> Bool) {
        var draw = Draw(bytes)
        let longest = [4, 40, 400][draw.below(3)]
        var start = 0
        while start < bytes.count {
            let wanted =
                switch self {
                case .whole: bytes.count
                case .byteByByte: 1
                case .drawn: 1 + draw.below(longest)
                }
            let end = min(start + wanted, bytes.count)
            let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: end - start, alignment: 1)
            defer { piece.deallocate() }
            piece.copyBytes(from: bytes[start..<end])
            guard body(piece) else { return }
            start = end
        }
    }

    /// Checks that `read` gives the same for every cut of `bytes`.
    ///
    /// - Returns: what it gave.
    @discardableResult
    static func same<Outcome: Equatable>(_ bytes: [UInt8], _ word: StaticString, _ read: (Cut) -> Outcome) -> Outcome {
        let whole = read(.whole)
        requireSame(read(.byteByByte), whole, word)
        requireSame(read(.drawn), whole, word)
        return whole
    }
}

/// Numbers that follow from an input alone (FNV-1a, then SplitMix64), so that a finding can be run again.
struct Draw {
    private var state: UInt64 = 0xcbf2_9ce4_8422_2325

    init(_ bytes: some Sequence<UInt8>) {
        for byte in bytes { state = (state ^ UInt64(byte)) &* 0x100_0000_01b3 }
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
}

extension Array where Element == UInt8 {
    /// Splits at every `separator`, which none of the parts holds; empty parts count.
    func parts(_ separator: UInt8) -> [[UInt8]] {
        split(separator: separator, omittingEmptySubsequences: false).map(Array.init)
    }
}

extension String {
    /// Its UTF-8. Strings are compared by it here: `==` takes different writings of one character for the same.
    var bytes: [UInt8] { Array(utf8) }
}

/// A header field as bytes, to be compared exactly.
struct PlainField: Equatable {
    var name: [UInt8]
    var value: [UInt8]

    /// All fields in order, but for those whose canonical name is in `without`.
    static func list(_ fields: HTTPFields, without: Set<String> = []) -> [PlainField] {
        fields.filter { !without.contains($0.name.canonicalName) }.map { field in
            PlainField(name: field.name.canonicalName.bytes, value: field.withUnsafeBytesOfValue { Array($0) })
        }
    }

    /// What no field may hold, whoever sent it (RFC 9110 section 5.5).
    static func requireHarmless(_ fields: HTTPFields) {
        for field in fields {
            require(!field.name.rawName.isEmpty, "a field without a name")
            let value = field.withUnsafeBytesOfValue { Array($0) }
            require(!value.contains { $0 == 0 || $0 == 0x0a || $0 == 0x0d }, "a line break in a field")
        }
    }
}

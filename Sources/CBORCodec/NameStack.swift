/// The names of all maps that are open, innermost last, as places in the output: what was written there for a name is the same bytes
/// for the same name. Tells whether a map has a name twice.
///
/// Few names are compared each with each, by their first eight bytes, which differ nearly always; many go through a table of hashes
/// whose function differs from process to process, so that nobody can send names that all meet.
struct NameStack {
    struct Name {
        var start: Int
        var end: Int
        /// Its first eight bytes, or all of it and zeros.
        var beginning: UInt64
    }

    /// Up to so many names: 120 comparisons of two words.
    private static let fewMax = 16

    private var names: [Name] = []

    var count: Int { names.count }

    init() { names.reserveCapacity(Self.fewMax) }

    /// - Parameters:
    ///   - start: where the name begins that the output ends with.
    ///   - out: the output.
    mutating func push(from start: Int, in out: UnsafeRawBufferPointer) {
        let end = out.count
        var beginning: UInt64 = 0
        if end &- start >= 8 {
            beginning = ByteScan.word(out, start)
        } else {
            for index in start..<end { beginning = beginning << 8 | UInt64(out[index]) }
        }
        names.append(Name(start: start, end: end, beginning: beginning))
    }

    mutating func removeLast(_ count: Int) { names.removeLast(count) }

    /// Whether a name is twice among those from `first` on.
    func hasRepeated(from first: Int, in out: UnsafeRawBufferPointer) -> Bool {
        guard names.count - first > 1 else { return false }
        return names.withUnsafeBufferPointer { all in
            let names = UnsafeBufferPointer(rebasing: all[first...])
            return names.count <= Self.fewMax ? Self.hasRepeatedAmongFew(names, out) : Self.hasRepeatedAmongMany(names, out)
        }
    }

    /// Takes out of the output the members from `first` on whose name comes again later. Their values begin where the names end, and
    /// the last one ends where the output does.
    ///
    /// - Returns: how many members are left.
    func dropRepeated(from first: Int, in out: inout ByteSink) -> Int {
        let end = out.count
        var last: [ArraySlice<UInt8>: Int] = [:]
        for index in first..<names.count { last[ArraySlice(Self.bytes(names[index], out.bytes))] = index }
        let kept = last.values.sorted()
        out.removeAll(from: names[first].start)
        for index in kept {
            out.keep(names[index].start..<(index + 1 < names.count ? names[index + 1].start : end), writtenBefore: end)
        }
        return kept.count
    }

    private static func hasRepeatedAmongFew(_ names: UnsafeBufferPointer<Name>, _ out: UnsafeRawBufferPointer) -> Bool {
        for later in 1..<names.count {
            let beginning = names[later].beginning
            for earlier in 0..<later where names[earlier].beginning == beginning {
                if areEqual(names[earlier], names[later], out) { return true }
            }
        }
        return false
    }

    private static func hasRepeatedAmongMany(_ names: UnsafeBufferPointer<Name>, _ out: UnsafeRawBufferPointer) -> Bool {
        // At most half full. A place holds the index of a name, plus one.
        let places = 1 << (Int.bitWidth - (2 * names.count - 1).leadingZeroBitCount)
        return withUnsafeTemporaryAllocation(of: UInt32.self, capacity: places) { table in
            table.initialize(repeating: 0)
            for (index, name) in names.enumerated() {
                var hasher = Hasher()
                hasher.combine(bytes: bytes(name, out))
                var place = hasher.finalize() & (places - 1)
                while table[place] != 0 {
                    if areEqual(names[Int(table[place]) - 1], name, out) { return true }
                    place = (place + 1) & (places - 1)
                }
                table[place] = UInt32(index + 1)
            }
            return false
        }
    }

    private static func areEqual(_ one: Name, _ other: Name, _ out: UnsafeRawBufferPointer) -> Bool {
        let count = one.end - one.start
        guard one.beginning == other.beginning, count == other.end - other.start else { return false }
        // The beginning is all there is of a short name. A longer one is compared by words, the last of them up to its end.
        var at = 8
        while at < count {
            let place = min(at, count - 8)
            guard ByteScan.word(out, one.start + place) == ByteScan.word(out, other.start + place) else { return false }
            at += 8
        }
        return true
    }

    private static func bytes(_ name: Name, _ out: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: out[name.start..<name.end])
    }
}

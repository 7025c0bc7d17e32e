/// An object of a kept document: its members in order, found by name.
///
/// Made so that a shared one is cheap to change. A slot is a member's place in the order of arrival. Slots are kept in chunks:
///
///     chunks  [ 0...31 ][ 32...63 ][ 64...  ]      changing a member copies one chunk and the list of chunks
///     index   name -> slot, plain words            copied (as bytes) only when a name comes or goes; none for a few members
///
/// With an index, a member that goes leaves a hole, so that no slot behind it changes. When there are more holes than members, all of
/// it is built anew.
struct JSONObject: Sendable {
    /// About the square root of 1000: then the list of chunks and a chunk weigh the same for objects of that size.
    private static let chunkSize = 32
    /// Up to here names are looked for one by one: quicker than hashing one.
    private static let unindexedMax = 8

    private var chunks: [[JSONMember]] = []
    /// Empty while there are no more than `unindexedMax` members.
    private var index = SlotIndex()
    private var count = 0
    /// Of its text: braces, commas and members.
    private(set) var byteCount = 2

    init() {}

    /// - Parameter text: an object, as `JSONText.minify` leaves it.
    init(_ text: ArraySlice<UInt8>) {
        self = text.withUnsafeBytes { text in
            var cursor = JSONCursor(text)
            let object = JSONObject(&cursor)
            precondition(cursor.isAtEnd, "not a checked text")
            return object
        }
    }

    private init(_ cursor: inout JSONCursor) {
        cursor.take(UInt8(ascii: "{"))
        while cursor.byte != UInt8(ascii: "}") {
            if count > 0 { cursor.take(UInt8(ascii: ",")) }
            set(JSONMember(&cursor) { cursor in JSONObject(&cursor) })
        }
        cursor.take(UInt8(ascii: "}"))
    }

    /// Applies a merge patch (RFC 7396, section 2).
    mutating func merge(_ patch: JSONObject) {
        patch.forEachMember { change in
            guard let slot = slot(of: change) else {
                if !change.isNull { insert(change.withoutNulls()) }
                return
            }
            if change.isNull { return remove(slot) }
            update(slot) { member in
                if let changes = change.object, member.object != nil {
                    member.object!.merge(changes)
                } else {
                    member.setValue(of: change.withoutNulls())
                }
            }
        }
    }

    /// What a patch makes of nothing: nulls have nothing to delete and vanish.
    func withoutNulls() -> JSONObject {
        var object = JSONObject()
        forEachMember { member in
            if !member.isNull { object.insert(member.withoutNulls()) }
        }
        return object
    }

    func append(to out: inout [UInt8]) {
        out.append(UInt8(ascii: "{"))
        var isFirst = true
        forEachMember { member in
            if !isFirst { out.append(UInt8(ascii: ",")) }
            isFirst = false
            out.append(contentsOf: member.text)
            member.object?.append(to: &out)
        }
        out.append(UInt8(ascii: "}"))
    }

    private func forEachMember(_ body: (JSONMember) -> Void) {
        for chunk in chunks {
            for member in chunk where !member.isHole { body(member) }
        }
    }

    // MARK: slots

    private subscript(slot: Int) -> JSONMember {
        _read { yield chunks[slot / Self.chunkSize][slot % Self.chunkSize] }
        _modify { yield &chunks[slot / Self.chunkSize][slot % Self.chunkSize] }
    }

    private func slot(of member: JSONMember) -> Int? {
        if index.isEmpty { return chunks.first?.firstIndex { $0.hasName(of: member) } }
        return index.slot(hash: member.nameHash) { self[$0].hasName(of: member) }
    }

    private mutating func set(_ member: JSONMember) {
        guard let slot = slot(of: member) else { return insert(member) }
        update(slot) { $0.setValue(of: member) }
    }

    private mutating func update(_ slot: Int, _ body: (inout JSONMember) -> Void) {
        byteCount -= self[slot].byteCount
        body(&self[slot])
        byteCount += self[slot].byteCount
    }

    /// Adds a member of a name that is not there.
    private mutating func insert(_ member: JSONMember) {
        if let last = chunks.last, last.count < Self.chunkSize {
            chunks[chunks.count - 1].append(member)
        } else {
            chunks.append([member])
        }
        byteCount += member.byteCount + (count > 0 ? 1 : 0)
        count += 1
        if !index.isEmpty {
            index.insert(hash: member.nameHash, slot: (chunks.count - 1) * Self.chunkSize + chunks.last!.count - 1)
        } else if count > Self.unindexedMax {
            for (slot, member) in chunks[0].enumerated() { index.insert(hash: member.nameHash, slot: slot) }
        }
    }

    private mutating func remove(_ slot: Int) {
        let member = self[slot]
        count -= 1
        byteCount -= member.byteCount + (count > 0 ? 1 : 0)
        guard !index.isEmpty else {
            chunks[0].remove(at: slot)
            return
        }
        index.remove(hash: member.nameHash, slot: slot)
        self[slot] = .hole
        let holes = (chunks.count - 1) * Self.chunkSize + chunks.last!.count - count
        if holes > count { closeHoles() }
    }

    private mutating func closeHoles() {
        var object = JSONObject()
        forEachMember { object.insert($0) }
        assert(object.count == count && object.byteCount == byteCount)
        self = object
    }
}

/// A member of an object: its name, and its value's text or tree.
struct JSONMember: Sendable {
    /// The name as it is written, a colon, and the value if that is no object. One piece, as it stood in the text it came with.
    private(set) var text: [UInt8]
    /// The value if that is an object.
    var object: JSONObject?
    /// Of the name, with its quotes.
    private var nameBytes: Int
    /// What the name stands for, if it has escapes. A lone surrogate stands for U+FFFD, as in `JSONSlice`.
    private var decodedName: [UInt8]?

    /// The place of a member that is gone.
    static let hole = JSONMember(text: [], object: nil, nameBytes: 0, decodedName: nil)

    var isHole: Bool { text.isEmpty }
    var isNull: Bool { object == nil && text[nameBytes + 1] == UInt8(ascii: "n") }
    var byteCount: Int { text.count + (object?.byteCount ?? 0) }

    var nameHash: UInt32 {
        withName { name in
            // Seeded for each process: names come from others, who shall not be able to choose those that collide.
            var hasher = Hasher()
            hasher.combine(bytes: name)
            return UInt32(truncatingIfNeeded: hasher.finalize())
        }
    }

    func hasName(of other: JSONMember) -> Bool {
        withName { name in other.withName { name.count == $0.count && name.elementsEqual($0) } }
    }

    private func withName<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        if let decodedName { return decodedName.withUnsafeBytes(body) }
        return text.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[1..<nameBytes - 1])) }
    }

    /// Takes the value of another member of this name, and leaves the name as it is written.
    mutating func setValue(of other: JSONMember) {
        object = other.object
        if text[..<nameBytes] == other.text[..<other.nameBytes] {
            text = other.text
        } else {
            text = Array(text[..<nameBytes] + other.text[other.nameBytes...])
        }
    }

    func withoutNulls() -> JSONMember {
        guard let object else { return self }
        var member = self
        member.object = object.withoutNulls()
        return member
    }
}

extension JSONMember {
    /// Reads a member. `readObject` reads a value that is an object.
    init(_ cursor: inout JSONCursor, readObject: (inout JSONCursor) -> JSONObject) {
        let start = cursor.at
        let hasEscapes = cursor.passString()
        nameBytes = cursor.at - start
        decodedName = hasEscapes ? Array(JSONEscapes.decode(cursor.bytes(start + 1..<cursor.at - 1)).utf8) : nil
        cursor.take(UInt8(ascii: ":"))
        let isObject = cursor.byte == UInt8(ascii: "{")
        if !isObject { cursor.passValue() }
        text = Array(cursor.bytes(start..<cursor.at))
        object = isObject ? readObject(&cursor) : nil
    }
}

/// Slots by the hash of a name: open addressing, one word an entry. Plain words, so that a copy is one move of memory.
struct SlotIndex: Sendable {
    /// Hash below, slot + 1 above; 0 where nothing is. Their count is a power of two, or 0.
    private var words: [UInt64] = []
    private var count = 0

    var isEmpty: Bool { count == 0 }

    /// - Parameter isMatch: whether it is the slot that is looked for: hashes may collide.
    func slot(hash: UInt32, isMatch: (Int) -> Bool) -> Int? {
        guard !words.isEmpty else { return nil }
        var at = home(hash)
        while words[at] != 0 {
            if UInt32(truncatingIfNeeded: words[at]) == hash {
                let slot = Int(words[at] >> 32) - 1
                if isMatch(slot) { return slot }
            }
            at = next(at)
        }
        return nil
    }

    mutating func insert(hash: UInt32, slot: Int) {
        // Three quarters at most: runs stay short.
        if (count + 1) * 4 > words.count * 3 { grow() }
        place(UInt64(UInt32(slot) + 1) << 32 | UInt64(hash))
        count += 1
    }

    mutating func remove(hash: UInt32, slot: Int) {
        let word = UInt64(UInt32(slot) + 1) << 32 | UInt64(hash)
        var gap = home(hash)
        while words[gap] != word {
            precondition(words[gap] != 0, "a member that is not in the index")
            gap = next(gap)
        }
        count -= 1
        // What follows moves up unless that would put it before its home.
        var at = next(gap)
        while words[at] != 0 {
            let home = home(UInt32(truncatingIfNeeded: words[at]))
            if (at &- home) & (words.count - 1) >= (at &- gap) & (words.count - 1) {
                words[gap] = words[at]
                gap = at
            }
            at = next(at)
        }
        words[gap] = 0
    }

    private func home(_ hash: UInt32) -> Int { Int(hash) & (words.count - 1) }
    private func next(_ at: Int) -> Int { (at + 1) & (words.count - 1) }

    private mutating func place(_ word: UInt64) {
        var at = home(UInt32(truncatingIfNeeded: word))
        while words[at] != 0 { at = next(at) }
        words[at] = word
    }

    private mutating func grow() {
        let old = words
        words = [UInt64](repeating: 0, count: max(16, old.count * 2))
        for word in old where word != 0 { place(word) }
    }
}

/// Goes once over a text that is known to be good. A text that is not good traps at the latest at its end.
struct JSONCursor {
    private let text: UnsafeRawBufferPointer
    private(set) var at = 0

    init(_ text: UnsafeRawBufferPointer) {
        self.text = text
    }

    var isAtEnd: Bool { at == text.count }

    var byte: UInt8 {
        precondition(at < text.count, "not a checked text")
        return text[at]
    }

    func bytes(_ range: Range<Int>) -> UnsafeRawBufferPointer {
        precondition(range.lowerBound >= 0 && range.upperBound <= text.count, "not a checked text")
        return UnsafeRawBufferPointer(rebasing: text[range])
    }

    mutating func take(_ expected: UInt8) {
        precondition(byte == expected, "not a checked text")
        at += 1
    }

    /// - Returns: whether it has escapes.
    @discardableResult
    mutating func passString() -> Bool {
        var hasEscapes = false
        take(UInt8(ascii: "\""))
        while true {
            at = ByteScan.firstSpecial(in: text, from: at)
            if byte == UInt8(ascii: "\"") {
                at += 1
                return hasEscapes
            }
            hasEscapes = true
            at += 2
            precondition(at < text.count, "not a checked text")
        }
    }

    /// Passes over a value inside an object or array.
    mutating func passValue() {
        var depth = 0
        repeat {
            switch byte {
            case UInt8(ascii: "\""): passString()
            case UInt8(ascii: "["), UInt8(ascii: "{"):
                depth += 1
                at += 1
            case UInt8(ascii: "]"), UInt8(ascii: "}"):
                depth -= 1
                at += 1
            case UInt8(ascii: ","), UInt8(ascii: ":"): at += 1
            default: passWord()
            }
        } while depth > 0
    }

    /// Passes over a number, true, false or null.
    private mutating func passWord() {
        while at < text.count, text[at] != UInt8(ascii: ","), text[at] != UInt8(ascii: "]"), text[at] != UInt8(ascii: "}") { at += 1 }
    }
}

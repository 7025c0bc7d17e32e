/// What a scanner is inside of: a stack of bits, set for an object, clear for an array. Up to 64 levels live in one word; deeper ones
/// put full words aside.
struct JSONNesting {
    private var word: UInt64 = 0
    private var full: [UInt64] = []
    private(set) var depth = 0

    /// Whether the innermost one is an object. There has to be one.
    var isObject: Bool {
        assert(depth > 0)
        return word & 1 == 1
    }

    mutating func push(object: Bool) {
        if depth & 63 == 0, depth > 0 {
            full.append(word)
            word = 0
        }
        word = word << 1 | (object ? 1 : 0)
        depth += 1
    }

    mutating func pop() {
        precondition(depth > 0, "more ends than beginnings")
        depth -= 1
        word >>= 1
        if depth & 63 == 0, depth > 0 { word = full.removeLast() }
    }
}

/// Why bytes are not a JSON text. Offsets count bytes from the start of the input.
package enum JSONFault: Error, Hashable, Sendable, CustomStringConvertible {
    /// The grammar of RFC 8259 wants something else here. `expected` is words for people.
    case syntax(offset: Int, expected: String)
    /// An array or object begins here that is inside more than `JSONLimits.depthMax - 1` others.
    case tooDeep(offset: Int)
    /// The character that begins here is not well-formed UTF-8 (RFC 3629), or is cut off.
    case invalidUTF8(offset: Int)

    package var description: String {
        switch self {
        case .syntax(let offset, let expected): "at byte \(offset): \(expected) expected"
        case .tooDeep(let offset): "at byte \(offset): too many arrays or objects inside each other"
        case .invalidUTF8(let offset): "at byte \(offset): not UTF-8"
        }
    }
}

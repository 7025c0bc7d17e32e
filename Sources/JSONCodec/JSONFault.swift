/// Bounds of a JSON text.
package struct JSONLimits: Sendable {
    /// Arrays and objects inside each other. RFC 8259, section 9, lets a parser bound it; deeper texts are attacks on recursive readers.
    package var depthMax: Int

    package init(depthMax: Int = 64) {
        self.depthMax = depthMax
    }
}

/// Why bytes are not a JSON text. Offsets count bytes from the start.
package enum JSONFault: Error, Hashable, Sendable, CustomStringConvertible {
    case syntax(offset: Int, expected: String)
    case tooDeep(offset: Int)
    case invalidUTF8(offset: Int)

    package var description: String {
        switch self {
        case .syntax(let offset, let expected): "at byte \(offset): \(expected) expected"
        case .tooDeep(let offset): "at byte \(offset): too many arrays or objects inside each other"
        case .invalidUTF8(let offset): "at byte \(offset): not UTF-8"
        }
    }
}

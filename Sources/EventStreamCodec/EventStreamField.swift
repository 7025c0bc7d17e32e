/// The value of an `id` or `event` field: a string that cannot hold CR, LF or NUL.
///
/// CR and LF would end the field's line, so that whoever chose the value could write fields and events of his own into another's
/// stream; an `id` with NUL is ignored by every client (WHATWG HTML section 9.2.6). With this type there is no such value to send.
package struct EventStreamField: Hashable, Sendable {
    package let value: String

    /// - Throws: if `string` holds CR, LF or NUL.
    package init(checking string: String) throws(EventStreamFieldFault) {
        var native = string
        native.makeContiguousUTF8()
        for byte in native.utf8 {
            switch byte {
            case UInt8(ascii: "\r"), UInt8(ascii: "\n"): throw .lineBreak
            case 0: throw .null
            default: continue
            }
        }
        value = native
    }

    /// - Returns: nil if `string` holds CR, LF or NUL.
    package init?(_ string: String) {
        guard let field = try? EventStreamField(checking: string) else { return nil }
        self = field
    }
}

/// Why a string cannot be a field's value.
package enum EventStreamFieldFault: Error, Equatable, Sendable {
    /// It holds CR or LF.
    case lineBreak
    /// It holds U+0000.
    case null
}

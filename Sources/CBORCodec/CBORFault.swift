/// Why bytes are not a command in CBOR. Offsets count bytes from the start of the input: where the item begins that is at fault.
package enum CBORFault: Error, Hashable, Sendable, CustomStringConvertible {
    /// The bytes end inside an item, or before all items that were announced (RFC 8949, appendix F, kind 2).
    case truncated(offset: Int)
    /// Something follows the one item (kind 1).
    case trailingBytes(offset: Int)
    /// Additional information 28 to 30, or 31 where a length cannot be left open (section 3).
    case reservedInformation(offset: Int)
    /// A break where no item of open length can end (section 3.2.1).
    case breakUnexpected(offset: Int)
    /// A part of a string of open length that is no string of that kind with a length of its own (section 3.2.3).
    case chunkUnexpected(offset: Int)
    /// A simple value below 32 in two bytes (section 3.3).
    case simpleReserved(offset: Int)
    /// A simple value that JSON does not have: undefined, and all that are not assigned.
    case simpleUnknown(offset: Int)
    /// NaN or an infinity, which JSON does not have.
    case notFinite(offset: Int)
    /// A tag other than those of bignums and of self-described CBOR.
    case tagUnknown(UInt64, offset: Int)
    /// The tag of a bignum before something that is no byte string (section 3.4.3).
    case bignumNotBytes(offset: Int)
    /// A bignum of more than `CBORLimits.bignumBytesMax`.
    case bignumTooLong(offset: Int)
    /// A byte string elsewhere than as the value of "data" in the outermost map.
    case bytesUnexpected(offset: Int)
    /// A name of a map that is no text string.
    case nameNotText(offset: Int)
    /// A map that has a name twice (section 5.6); the offset is where the map ends.
    case nameRepeated(offset: Int)
    /// Text that is not UTF-8 (RFC 3629); each part of a string of open length has to be (section 3.2.3).
    case textNotUTF8(offset: Int)
    /// An array or map inside more than `CBORLimits.depthMax - 1` others.
    case tooDeep(offset: Int)
    /// The JSON text would have more than `CBORLimits.outputBytesMax`.
    case outputTooLong(offset: Int)

    /// A few words in English. They hold nothing of what the peer sent but numbers.
    package var reason: String {
        switch self {
        case .truncated: "CBOR cut short"
        case .trailingBytes: "bytes behind the CBOR item"
        case .reservedInformation: "reserved additional information"
        case .breakUnexpected: "break out of place"
        case .chunkUnexpected: "part of a string of another type"
        case .simpleReserved: "simple value in a reserved form"
        case .simpleUnknown: "simple value other than false, true, null"
        case .notFinite: "NaN or infinity"
        case .tagUnknown(let tag, _): "tag \(tag) is not known"
        case .bignumNotBytes: "bignum that is no byte string"
        case .bignumTooLong: "bignum too long"
        case .bytesUnexpected: "byte string elsewhere than in \"data\""
        case .nameNotText: "name of a map that is no text"
        case .nameRepeated: "name of a map repeated"
        case .textNotUTF8: "text not UTF-8"
        case .tooDeep: "too many arrays or maps inside each other"
        case .outputTooLong: "command too long"
        }
    }

    package var offset: Int {
        switch self {
        case .truncated(let offset), .trailingBytes(let offset), .reservedInformation(let offset), .breakUnexpected(let offset),
            .chunkUnexpected(let offset), .simpleReserved(let offset), .simpleUnknown(let offset), .notFinite(let offset),
            .tagUnknown(_, let offset), .bignumNotBytes(let offset), .bignumTooLong(let offset), .bytesUnexpected(let offset),
            .nameNotText(let offset), .nameRepeated(let offset), .textNotUTF8(let offset), .tooDeep(let offset),
            .outputTooLong(let offset):
            offset
        }
    }

    package var description: String { "at byte \(offset): \(reason)" }
}

/// What a peer did wrong. After it the connection cannot be read any further: answer with a close frame of `closeCode` and `reason`.
package enum WebSocketFault: Error, Equatable, Sendable {
    /// RSV1, RSV2 or RSV3 without an extension that gives it a meaning (RFC 6455 section 5.2).
    case reservedBits
    /// An opcode of 3 to 7 or 11 to 15 (section 5.2).
    case reservedOpcode(UInt8)
    /// A client's frame that is not masked (section 5.1).
    case maskMissing
    /// A server's frame that is masked (section 5.1).
    case maskUnexpected
    /// A length in more bytes than it needs (section 5.2).
    case lengthNotMinimal
    /// A 64-bit length with its highest bit set (section 5.2).
    case lengthNegative
    /// A control frame with more than 125 bytes (section 5.5).
    case controlTooLong
    /// A control frame without FIN (section 5.5).
    case controlFragmented
    /// A continuation with no message to continue (section 5.4).
    case continuationUnexpected
    /// A new message before the last one is complete (section 5.4).
    case continuationExpected
    /// More than `WebSocketLimits.messageBytesMax`.
    case messageTooBig
    /// More than `WebSocketLimits.fragmentsMax`.
    case tooManyFragments
    /// Text that is not UTF-8 (section 8.1).
    case textNotUTF8
    /// A compressed message that is not DEFLATE, or ends inside a block (RFC 7692 section 7.2.2).
    case deflateInvalid
    /// A close frame whose payload is one byte: half a code (section 5.5.1).
    case closePayloadTooShort
    /// A close code that must not be sent (section 7.4).
    case closeCodeInvalid(UInt16)
    /// A close reason that is not UTF-8 (section 5.5.1).
    case closeReasonNotUTF8

    /// The code to close with: 1002, 1007 or 1009.
    package var closeCode: WebSocketCloseCode {
        switch self {
        case .reservedBits, .reservedOpcode, .maskMissing, .maskUnexpected, .lengthNotMinimal, .lengthNegative, .controlTooLong,
            .controlFragmented, .continuationUnexpected, .continuationExpected, .closePayloadTooShort, .closeCodeInvalid:
            .protocolError
        case .textNotUTF8, .deflateInvalid, .closeReasonNotUTF8: .invalidPayload
        case .messageTooBig, .tooManyFragments: .messageTooBig
        }
    }

    /// The reason to close with, short and in English. It holds nothing of what the peer sent but numbers.
    package var reason: String {
        switch self {
        case .reservedBits: "reserved bit set without an extension"
        case .reservedOpcode(let opcode): "reserved opcode \(opcode)"
        case .maskMissing: "frame of a client not masked"
        case .maskUnexpected: "frame of a server masked"
        case .lengthNotMinimal: "payload length not in its shortest form"
        case .lengthNegative: "payload length with its highest bit set"
        case .controlTooLong: "control frame above 125 bytes"
        case .controlFragmented: "control frame fragmented"
        case .continuationUnexpected: "continuation without a message"
        case .continuationExpected: "new message inside a fragmented one"
        case .messageTooBig: "message too big"
        case .tooManyFragments: "message in too many fragments"
        case .textNotUTF8: "text not UTF-8"
        case .deflateInvalid: "compressed message not DEFLATE"
        case .closePayloadTooShort: "close frame with half a code"
        case .closeCodeInvalid(let code): "close code \(code) must not be sent"
        case .closeReasonNotUTF8: "close reason not UTF-8"
        }
    }
}

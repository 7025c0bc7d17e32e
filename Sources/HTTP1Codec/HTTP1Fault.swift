/// What a peer did wrong. After it the connection cannot be read any further: a server answers with `status` and closes.
package enum HTTP1Fault: String, Error, Equatable, Sendable, CaseIterable {
    // The start line.
    /// A request line that is not `method SP target SP version` with single spaces (RFC 9112 section 3).
    case requestLineMalformed
    /// A method that is not a token (RFC 9110 section 9.1).
    case methodInvalid
    /// A request target with bytes that no URI has, or of a form that does not go with the method (RFC 9112 section 3.2).
    case targetInvalid
    /// A version that is not `HTTP/` digit `.` digit (section 2.3).
    case versionMalformed
    /// A version other than 1.0 and 1.1.
    case versionUnsupported
    /// A status line that is not `version SP code SP reason` (section 4).
    case statusLineMalformed

    // Lines and fields.
    /// A CR without LF (section 2.2).
    case bareCarriageReturn
    /// A LF without CR. Section 2.2 allows to accept it; taking it for a line end where a proxy does not is how requests are smuggled.
    case bareLineFeed
    /// A control character where none may be: NUL among them (RFC 9110 section 5.5).
    case controlCharacter
    /// A field name that is not a token; whitespace before the colon and lines without a colon are this too (RFC 9112 section 5.1).
    case fieldNameInvalid
    /// A field line that begins with whitespace (obs-fold, section 5.2).
    case fieldFolded

    // Host.
    /// An HTTP/1.1 request without Host (section 3.2).
    case hostMissing
    /// More than one Host.
    case hostRepeated
    /// A Host, or an authority in the target, that is not `name[:port]` or `[IPv6][:port]`.
    case hostInvalid
    /// A Host that is not the authority in the target.
    case hostDisagrees

    // Framing.
    /// A Content-Length that is not a number, or not one that a body can have (section 6.3); a tab beside it is this too.
    case contentLengthInvalid
    /// More than one Content-Length, even the same.
    case contentLengthRepeated
    /// Content-Length and Transfer-Encoding in one message (section 6.1).
    case contentLengthWithTransferEncoding
    /// A Transfer-Encoding that does not end in one `chunked`, or has a tab; or more than one such field.
    case transferEncodingInvalid
    /// A Transfer-Encoding that ends in `chunked` and has other codings before it.
    case transferEncodingUnsupported
    /// A Transfer-Encoding in an HTTP/1.0 message.
    case transferEncodingInOldVersion
    /// CONNECT with a body. It has no meaning (RFC 9110 section 9.3.6): some parsers take it for the first bytes of the tunnel.
    case contentInConnect
    /// A chunk size that is not hexadecimal digits, at most 16, with CRLF or an extension straight after (section 7.1).
    case chunkSizeInvalid
    /// A chunk extension that is not `;name`, `;name=token` or `;name="text"`, without whitespace but in the text (section 7.1.1).
    case chunkExtensionInvalid
    /// A chunk's data without CRLF behind it.
    case chunkEndMissing
    /// A trailer line that is no field line (section 7.1.2).
    case trailerInvalid

    // Limits.
    /// Above `HTTP1Limits.startLineBytesMax`.
    case startLineTooLong
    /// Above `HTTP1Limits.headBytesMax`.
    case headTooLong
    /// Above `HTTP1Limits.fieldsMax`, in the head or in the trailers.
    case tooManyFields
    /// Above `HTTP1Limits.chunkExtensionBytesMax`.
    case chunkExtensionTooLong
    /// Above `HTTP1Limits.trailerBytesMax`.
    case trailerTooLong
    /// Above `HTTP1Limits.bodyBytesMax`.
    case bodyTooLong
    /// More interim responses than anybody sends. Only a client sees it.
    case tooManyInterimResponses

    // The connection.
    /// The connection ended inside a message. Only a client sees it.
    case connectionClosedEarly

    /// The status to answer with: 400, 413, 414, 431, 501 or 505; 502 for what only a client sees.
    package var status: Int {
        switch self {
        case .bodyTooLong: 413
        case .startLineTooLong: 414
        case .headTooLong, .tooManyFields, .trailerTooLong: 431
        case .transferEncodingUnsupported: 501
        case .statusLineMalformed, .tooManyInterimResponses, .connectionClosedEarly: 502
        case .versionUnsupported: 505
        default: 400
        }
    }

    /// What is wrong, short and in English. It holds nothing of what the peer sent.
    package var detail: String {
        switch self {
        case .requestLineMalformed: "request line is not method, target and version with single spaces between"
        case .methodInvalid: "method is not a token"
        case .targetInvalid: "request target not allowed"
        case .versionMalformed: "HTTP version malformed"
        case .versionUnsupported: "HTTP version is neither 1.0 nor 1.1"
        case .statusLineMalformed: "status line malformed"
        case .bareCarriageReturn: "CR without LF"
        case .bareLineFeed: "LF without CR"
        case .controlCharacter: "control character"
        case .fieldNameInvalid: "field name is not a token with a colon straight behind it"
        case .fieldFolded: "folded field line"
        case .hostMissing: "Host missing"
        case .hostRepeated: "more than one Host"
        case .hostInvalid: "Host invalid"
        case .hostDisagrees: "Host differs from the authority of the request target"
        case .contentLengthInvalid: "Content-Length is not a number"
        case .contentLengthRepeated: "more than one Content-Length"
        case .contentLengthWithTransferEncoding: "both Content-Length and Transfer-Encoding"
        case .transferEncodingInvalid: "Transfer-Encoding does not end in a single chunked"
        case .transferEncodingUnsupported: "transfer coding other than chunked"
        case .transferEncodingInOldVersion: "Transfer-Encoding in HTTP/1.0"
        case .contentInConnect: "CONNECT with content"
        case .chunkSizeInvalid: "chunk size invalid"
        case .chunkExtensionInvalid: "chunk extension invalid"
        case .chunkEndMissing: "chunk without CRLF behind its data"
        case .trailerInvalid: "trailer line invalid"
        case .startLineTooLong: "start line too long"
        case .headTooLong: "fields too long"
        case .tooManyFields: "too many fields"
        case .chunkExtensionTooLong: "chunk extensions too long"
        case .trailerTooLong: "trailers too long"
        case .bodyTooLong: "body too long"
        case .tooManyInterimResponses: "too many interim responses"
        case .connectionClosedEarly: "connection closed inside a message"
        }
    }
}

package import HTTPTypes

/// Number of a stream on its connection; odd for those that the client opens (RFC 9113 5.1.1).
package typealias HTTP2StreamID = Int32

/// What a server learns from a connection.
///
/// For one stream: `request` (or `headersTooLarge`), `body` any number of times, `end`, and last, always and once, `closed`. Nothing
/// comes for a stream whose request was malformed: it is reset without a word.
package enum HTTP2Event: Sendable, Equatable {
    /// The header list is complete and valid. `authority` is `:authority` or else `Host` (which is no longer among the fields);
    /// requests where the two differ are reset as malformed (RFC 9113 8.3.1).
    case request(stream: HTTP2StreamID, HTTPRequest, hasBody: Bool)
    /// The header list is over its limit. The stream waits for an answer (431); its body is thrown away, no `end` follows.
    case headersTooLarge(stream: HTTP2StreamID)
    /// Next bytes of the body.
    case body(stream: HTTP2StreamID, [UInt8])
    /// The body, or the length that it announces, is over its limit. The stream waits for an answer (413); the rest of the body is
    /// thrown away, no `end` follows.
    case bodyTooLong(stream: HTTP2StreamID)
    /// The request is complete. Also for one without a body, right after `request`.
    case end(stream: HTTP2StreamID)
    /// A stream that had refused an `offer`, or had kept bytes beyond the `send` that followed it, has none pending any more.
    case windowOpen(stream: HTTP2StreamID)
    /// The stream is gone, for whatever reason: 0 (NO_ERROR) when both sides had ended it. Operations on it do nothing from now on.
    case closed(stream: HTTP2StreamID, errorCode: UInt32)
    /// The client opens no more streams; those that are open go on.
    case goAway(errorCode: UInt32)
    /// The client has read what was sent before our `ping`.
    case pingAcknowledged
}

/// What a client learns from a connection: the mirror of `HTTP2Event`.
package enum HTTP2ClientEvent: Sendable, Equatable {
    /// The final answer's head; informational ones (1xx) are passed over.
    case response(stream: HTTP2StreamID, HTTPResponse)
    /// The header list is over its limit; the stream has been reset and `closed` will follow.
    case headersTooLarge(stream: HTTP2StreamID)
    /// Next bytes of the body.
    case body(stream: HTTP2StreamID, [UInt8])
    /// The answer is complete.
    case end(stream: HTTP2StreamID)
    /// As for the server: bytes of the request's body that had to wait are gone.
    case windowOpen(stream: HTTP2StreamID)
    /// The stream is gone, for whatever reason.
    case closed(stream: HTTP2StreamID, errorCode: UInt32)
    /// The server takes no more streams.
    case goAway(errorCode: UInt32)
}

/// What a response parser has read.
package enum HTTP1ResponseEvent: Equatable, Sendable {
    /// A final response, or 101.
    case head(HTTP1ResponseHead)
    /// Bytes of the body, never none: offsets into the input of the call that gave this event.
    case body(Range<Int>)
    /// The response is complete. Trailers were validated and dropped.
    case end
}

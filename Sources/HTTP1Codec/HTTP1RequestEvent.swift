/// What a request parser has read.
package enum HTTP1RequestEvent: Equatable, Sendable {
    case head(HTTP1RequestHead)
    /// Bytes of the body, never none: offsets into the input of the call that gave this event.
    case body(Range<Int>)
    /// The request is complete. Trailers were validated and dropped.
    case end
}

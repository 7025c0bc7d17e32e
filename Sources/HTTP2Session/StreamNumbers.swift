import CNghttp2

/// Which stream numbers a client has used, for errors of the connection that nghttp2 lets pass:
///
/// - HEADERS or DATA on a stream that is closed (RFC 9113 5.1): nghttp2 keeps no closed streams here, as each costs some hundred bytes;
/// - HEADERS on a number below the highest that never was a stream (5.1.1): nghttp2 takes them for late trailers.
struct StreamNumbers {
    /// The highest number that the client opened.
    private(set) var last: HTTP2StreamID = 0
    /// Numbers that the client passed over and may not use any more, the newest few ranges. An honest client has none.
    private var passedOver: [ClosedRange<HTTP2StreamID>] = []
    /// Streams that we reset, on which something may still be under way; the newest.
    private var resetStreams: [HTTP2StreamID] = []

    private static let rangesMax = 16
    /// As many resets as a client may provoke at once, and some.
    private static let resetsMax = 2048

    mutating func noteReset(_ id: HTTP2StreamID) {
        if resetStreams.count == Self.resetsMax { resetStreams.removeFirst(Self.resetsMax / 2) }
        resetStreams.append(id)
    }

    /// Takes note of a frame that begins.
    ///
    /// - Returns: the error code to end the connection with (RFC 9113 section 7); nil: it may be.
    mutating func begin(_ kind: nghttp2_frame_type, _ id: HTTP2StreamID, isOpen: Bool) -> UInt32? {
        // Even numbers and 0 are nghttp2's to refuse; so is DATA on a stream that is to come.
        guard id % 2 == 1, kind == NGHTTP2_HEADERS || kind == NGHTTP2_DATA else { return nil }
        guard id > last else {
            if isOpen || resetStreams.contains(id) { return nil }
            let neverWas = passedOver.contains { $0.contains(id) }
            if neverWas, kind == NGHTTP2_DATA { return nil }
            return neverWas ? NGHTTP2_PROTOCOL_ERROR.rawValue : NGHTTP2_STREAM_CLOSED.rawValue
        }
        guard kind == NGHTTP2_HEADERS else { return nil }
        // Not `last + 2`: the last may be the greatest number that there is.
        if id - 2 > last {
            if passedOver.count == Self.rangesMax { passedOver.removeFirst() }
            passedOver.append((last == 0 ? 1 : last + 2)...(id - 2))
        }
        last = id
        return nil
    }
}

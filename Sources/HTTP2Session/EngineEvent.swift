import HTTPTypes

/// What the callbacks append: the events of both roles, before the session gives them its own names.
enum EngineEvent {
    indirect case request(HTTP2StreamID, HTTPRequest, hasBody: Bool)
    indirect case response(HTTP2StreamID, HTTPResponse)
    case headersTooLarge(HTTP2StreamID)
    case body(HTTP2StreamID, [UInt8])
    case bodyTooLong(HTTP2StreamID)
    case end(HTTP2StreamID)
    case windowOpen(HTTP2StreamID)
    case closed(HTTP2StreamID, UInt32)
    case goAway(UInt32)
    case pingAcknowledged
}

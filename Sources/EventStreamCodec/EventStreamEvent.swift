/// An event as a client sees it.
package struct EventStreamEvent: Equatable, Sendable {
    /// The `event` field; "message" if there was none or it was empty.
    package var type: String
    /// The `data` lines with LF between them.
    package var data: String
    /// The last `id` of the stream up to this event; "" if there was none. It may be that of an earlier event.
    package var lastEventID: String

    package init(type: String = "message", data: String, lastEventID: String = "") {
        self.type = type
        self.data = data
        self.lastEventID = lastEventID
    }
}

/// What was wrong with a stream. The grammar allows any bytes, so there is only the limit.
package enum EventStreamFault: Error, Equatable, Sendable {
    /// An event with more bytes than the decoder may hold.
    case eventTooBig
}

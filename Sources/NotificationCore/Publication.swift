/// How much a notification matters to the one who gets it.
package enum Priority: String, Sendable, CaseIterable {
    case low, normal, high, critical
}

/// A short text that goes into protocol fields (SSE `event:`, JSON members): no control characters, bounded.
package struct FieldText: Hashable, Sendable, CustomStringConvertible {
    /// Longer names help nobody, and each is stored with each message.
    package static let bytesMax = 255

    package let string: String

    /// - Returns: nil if empty, too long, or with a control character (CR, LF and NUL among them).
    package init?(_ string: String) {
        guard !string.isEmpty, string.utf8.count <= Self.bytesMax,
            !string.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7f })
        else { return nil }
        self.string = string
    }

    package var description: String { string }
}

/// How a publication changes the state of its channel.
package enum Change: String, Sendable, CaseIterable {
    /// The payload is a JSON Merge Patch (RFC 7396) of the channel's state.
    case merge
}

/// What a record of the log is.
package enum RecordKind: UInt8, Sendable {
    /// Published, or by the server for a publisher: a value that has gone stale.
    case notification
    /// In a user's own channel: what was read on one device, for the others.
    case acknowledgement
}

/// What a publisher hands in.
package struct Publication: Sendable, Equatable {
    package var channel: ChannelName
    /// The payload: one JSON value on one line, checked and without insignificant white space.
    package var data: [UInt8]
    /// Whether `data` is a JSON string that holds the payload in base64 (`application/octet-stream`).
    package var isBase64: Bool
    package var event: FieldText?
    package var key: FieldText?
    package var priority: Priority
    package var ttlSeconds: UInt32?
    package var replaces: FieldText?
    package var change: Change?
    /// Dashboards: nothing newer came for this key within the feed's `max_age`; `data` is still the value of then. Milliseconds since
    /// 1970. Only the server says so.
    package var staleSinceMilliseconds: Int64?
    /// The span that has published it.
    package var trace: TraceParent?
    package var kind = RecordKind.notification

    package init(
        channel: ChannelName,
        data: [UInt8],
        isBase64: Bool = false,
        event: FieldText? = nil,
        key: FieldText? = nil,
        priority: Priority = .normal,
        ttlSeconds: UInt32? = nil,
        replaces: FieldText? = nil,
        change: Change? = nil
    ) {
        self.channel = channel
        self.data = data
        self.isBase64 = isBase64
        self.event = event
        self.key = key
        self.priority = priority
        self.ttlSeconds = ttlSeconds
        self.replaces = replaces
        self.change = change
    }
}

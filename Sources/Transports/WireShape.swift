import EventStreamCodec
package import NotificationCore
import WebSocketCodec

/// The forms in which the same notification goes out. The JSON object inside is the same in all but the raw ones.
///
///     webSocket                  header {…}
///     eventStream                id: POSITION ⏎ data: {…} ⏎ ⏎
///     eventStreamRaw             id: POSITION ⏎ event: EVENT ⏎ data: PAYLOAD ⏎ ⏎
///     eventStream…Chunked        the same as one chunk of HTTP/1.1: SIZE CRLF … CRLF
package enum WireShape: UInt8, CaseIterable, Sendable {
    case webSocket
    case eventStream
    case eventStreamChunked
    case eventStreamRaw
    case eventStreamRawChunked

    package static func eventStream(isRaw: Bool, isChunked: Bool) -> WireShape {
        switch (isRaw, isChunked) {
        case (false, false): .eventStream
        case (false, true): .eventStreamChunked
        case (true, false): .eventStreamRaw
        case (true, true): .eventStreamRawChunked
        }
    }

    package var isChunked: Bool { self == .eventStreamChunked || self == .eventStreamRawChunked }

    private var isRaw: Bool { self == .eventStreamRaw || self == .eventStreamRawChunked }

    package func append(_ notification: Notification, epoch: LogEpoch, to out: inout [UInt8]) {
        switch self {
        case .webSocket:
            WebSocketEncoder.frame(.text, notification.object, into: &out)
        case .eventStream, .eventStreamRaw:
            appendEvent(notification, epoch, to: &out)
        case .eventStreamChunked, .eventStreamRawChunked:
            Chunk.append(to: &out) { appendEvent(notification, epoch, to: &$0) }
        }
    }

    private func append(_ gap: Gap, to out: inout [UInt8]) {
        var object: [UInt8] = []
        ControlObject.append(gap, to: &object)
        append(control: object, event: "gap", position: gap.position, to: &out)
    }

    /// - Parameter position: goes into `id:`, where it moves the reader's place.
    package func append(
        control object: [UInt8], event: String, position: Position? = nil, retryMilliseconds: Int? = nil, to out: inout [UInt8]
    ) {
        func appendControl(_ out: inout [UInt8]) {
            if let retryMilliseconds { out.append(contentsOf: "retry: \(retryMilliseconds)\n".utf8) }
            if let position { out.append(contentsOf: "id: \(position)\n".utf8) }
            out.append(contentsOf: "event: \(event)\ndata: ".utf8)
            out.append(contentsOf: object)
            out.append(contentsOf: "\n\n".utf8)
        }
        switch self {
        case .webSocket: WebSocketEncoder.frame(.text, object, into: &out)
        case .eventStream, .eventStreamRaw: appendControl(&out)
        case .eventStreamChunked, .eventStreamRawChunked: Chunk.append(to: &out, appendControl)
        }
    }

    /// SSE: a comment. (A WebSocket has pings.)
    package func appendHeartbeat(paddingBytes: Int, to out: inout [UInt8]) {
        if isChunked {
            Chunk.append(to: &out) { EventStreamEncoder.comment(padding: paddingBytes, into: &$0) }
        } else {
            EventStreamEncoder.comment(padding: paddingBytes, into: &out)
        }
    }

    package func append(_ item: PageItem, epoch: LogEpoch, to out: inout [UInt8]) {
        var object: [UInt8] = []
        switch item {
        case .gap(let gap):
            append(gap, to: &out)
        case .notification(let notification):
            append(notification, epoch: epoch, to: &out)
        case .marked(let notification, let skipped, let position):
            append(notification, skipped, position, to: &out)
        case .snapshot(let snapshot, let position):
            ControlObject.append(snapshot, position: position, to: &object)
            append(control: object, event: "snapshot", position: position, to: &out)
        case .digest(let channel, let digest, let position):
            ControlObject.append(digest, channel: channel, position: position, to: &object)
            append(control: object, event: "digest", position: position, to: &out)
        }
    }

    private func append(_ notification: Notification, _ skipped: UInt64, _ position: Position, to out: inout [UInt8]) {
        var object: [UInt8] = []
        object.reserveCapacity(notification.object.count + 64)
        notification.append(position: position, skipped: skipped, to: &object)
        func appendMarked(_ out: inout [UInt8]) {
            out.append(contentsOf: "id: ".utf8)
            position.append(to: &out)
            if isRaw {
                if let event = notification.event { out.append(contentsOf: "\nevent: \(event)".utf8) }
                out.append(contentsOf: "\ndata: ".utf8)
                out.append(contentsOf: notification.object[notification.data])
            } else {
                out.append(contentsOf: "\ndata: ".utf8)
                out.append(contentsOf: object)
            }
            out.append(contentsOf: "\n\n".utf8)
        }
        switch self {
        case .webSocket: WebSocketEncoder.frame(.text, object, into: &out)
        case .eventStream, .eventStreamRaw: appendMarked(&out)
        case .eventStreamChunked, .eventStreamRawChunked: Chunk.append(to: &out, appendMarked)
        }
    }

    private func appendEvent(_ notification: Notification, _ epoch: LogEpoch, to out: inout [UInt8]) {
        out.append(contentsOf: "id: ".utf8)
        Position.append(epoch: epoch, offset: notification.offset, to: &out)
        if isRaw {
            if let event = notification.event { out.append(contentsOf: "\nevent: \(event)".utf8) }
            out.append(contentsOf: "\ndata: ".utf8)
            out.append(contentsOf: notification.object[notification.data])
        } else {
            out.append(contentsOf: "\ndata: ".utf8)
            out.append(contentsOf: notification.object)
        }
        out.append(contentsOf: "\n\n".utf8)
    }
}

/// A chunk of HTTP/1.1 (RFC 9112, section 7.1) whose size is known only when it has been written.
private enum Chunk {
    /// Digits of the size: enough for 4 GiB; leading zeros are allowed.
    private static let digits = 8

    static func append(to out: inout [UInt8], _ body: (inout [UInt8]) -> Void) {
        // The size is written with as few digits as it needs, so the body is built behind a full field and the field is cut to fit.
        let start = out.count
        out.append(contentsOf: repeatElement(UInt8(ascii: "0"), count: digits))
        out.append(contentsOf: "\r\n".utf8)
        let bodyStart = out.count
        body(&out)
        var size = out.count - bodyStart
        out.append(contentsOf: "\r\n".utf8)
        var at = start + digits
        repeat {
            at -= 1
            let digit = UInt8(size & 0xf)
            out[at] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
            size >>= 4
        } while size > 0
        out.removeSubrange(start..<at)
    }
}

import CBORCodec
import EventStreamCodec
package import NotificationCore
package import WebSocketCodec

/// The forms in which the same notification goes out. The JSON object inside is the same in all but the raw ones.
///
///     webSocket                  header {…}
///     webSocketDeflated          header DEFLATE of {…}, if that is shorter (permessage-deflate, RFC 7692)
///     webSocketBinary…           the same with the object in CBOR (RFC 8949), in binary frames
///     eventStream                id: POSITION ⏎ data: {…} ⏎ ⏎
///     eventStreamRaw             id: POSITION ⏎ event: EVENT ⏎ data: PAYLOAD ⏎ ⏎
///     eventStream…Chunked        the same as one chunk of HTTP/1.1: SIZE CRLF … CRLF
package enum WireShape: UInt8, CaseIterable, Sendable {
    case webSocket
    case webSocketDeflated
    /// The same for clients that asked for a small window.
    case webSocketDeflatedSmall
    case webSocketBinary
    case webSocketBinaryDeflated
    case webSocketBinaryDeflatedSmall
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

    /// - Parameters:
    ///   - deflate: what was negotiated; nil: messages go out as they are.
    ///   - isBinary: objects are CBOR.
    package static func webSocket(_ deflate: PerMessageDeflate?, isBinary: Bool = false) -> WireShape {
        guard let deflate else { return isBinary ? .webSocketBinary : .webSocket }
        if deflate.serverWindowBits == 15 { return isBinary ? .webSocketBinaryDeflated : .webSocketDeflated }
        return isBinary ? .webSocketBinaryDeflatedSmall : .webSocketDeflatedSmall
    }

    package var isWebSocket: Bool {
        switch self {
        case .webSocket, .webSocketDeflated, .webSocketDeflatedSmall, .webSocketBinary, .webSocketBinaryDeflated,
            .webSocketBinaryDeflatedSmall:
            true
        case .eventStream, .eventStreamChunked, .eventStreamRaw, .eventStreamRawChunked: false
        }
    }

    package var isBinary: Bool {
        self == .webSocketBinary || self == .webSocketBinaryDeflated || self == .webSocketBinaryDeflatedSmall
    }

    package var isDeflated: Bool { isWebSocket && self != .webSocket && self != .webSocketBinary }

    package var isChunked: Bool { self == .eventStreamChunked || self == .eventStreamRawChunked }

    private var isRaw: Bool { self == .eventStreamRaw || self == .eventStreamRawChunked }

    package func append(_ notification: Notification, epoch: LogEpoch, _ compression: WireCompression, to out: inout [UInt8]) {
        if isWebSocket {
            appendFrame(notification.object, compression, to: &out)
        } else if isChunked {
            Chunk.append(to: &out) { appendEvent(notification, epoch, to: &$0) }
        } else {
            appendEvent(notification, epoch, to: &out)
        }
    }

    /// One message of a WebSocket, whatever is in it.
    func append(message: [UInt8], _ opcode: WebSocketOpcode, _ compression: WireCompression, to out: inout [UInt8]) {
        switch self {
        case .webSocketDeflated, .webSocketBinaryDeflated: compression.deflater.frame(opcode, message, into: &out)
        case .webSocketDeflatedSmall, .webSocketBinaryDeflatedSmall: compression.smallDeflater.frame(opcode, message, into: &out)
        default: WebSocketEncoder.frame(opcode, message, into: &out)
        }
    }

    /// One object as a message of a WebSocket.
    private func appendFrame(_ object: [UInt8], _ compression: WireCompression, to out: inout [UInt8]) {
        guard isBinary else { return append(message: object, .text, compression, to: &out) }
        var message: [UInt8] = []
        object.withUnsafeBytes { CBOREncoder.transcode(json: $0, into: &message) }
        append(message: message, .binary, compression, to: &out)
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
        if isBinary {
            var message: [UInt8] = []
            object.withUnsafeBytes { CBOREncoder.transcode(json: $0, into: &message) }
            WebSocketEncoder.frame(.binary, message, into: &out)
        } else if isWebSocket {
            WebSocketEncoder.frame(.text, object, into: &out)
        } else if isChunked {
            Chunk.append(to: &out, appendControl)
        } else {
            appendControl(&out)
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

    package func append(_ item: PageItem, epoch: LogEpoch, _ compression: WireCompression, to out: inout [UInt8]) {
        var object: [UInt8] = []
        switch item {
        case .gap(let gap):
            append(gap, to: &out)
        case .notification(let notification):
            append(notification, epoch: epoch, compression, to: &out)
        case .marked(let notification, let skipped, let position):
            append(notification, skipped, position, compression, to: &out)
        case .snapshot(let snapshot, let position):
            ControlObject.append(snapshot, position: position, to: &object)
            if isWebSocket { return appendFrame(object, compression, to: &out) }
            append(control: object, event: "snapshot", position: position, to: &out)
        case .digest(let channel, let digest, let position):
            ControlObject.append(digest, channel: channel, position: position, to: &object)
            append(control: object, event: "digest", position: position, to: &out)
        }
    }

    private func append(
        _ notification: Notification, _ skipped: UInt64, _ position: Position, _ compression: WireCompression, to out: inout [UInt8]
    ) {
        var object: [UInt8] = []
        object.reserveCapacity(notification.object.count + 64)
        notification.append(position: position, skipped: skipped, to: &object)
        func appendMarked(_ out: inout [UInt8]) {
            out.append(contentsOf: "id: ".utf8)
            position.append(to: &out)
            if isRaw {
                Self.appendRawEvent(notification, to: &out)
                out.append(contentsOf: "\ndata: ".utf8)
                out.append(contentsOf: notification.object[notification.data])
            } else {
                out.append(contentsOf: "\ndata: ".utf8)
                out.append(contentsOf: object)
            }
            out.append(contentsOf: "\n\n".utf8)
        }
        if isWebSocket {
            appendFrame(object, compression, to: &out)
        } else if isChunked {
            Chunk.append(to: &out, appendMarked)
        } else {
            appendMarked(&out)
        }
    }

    /// What is the server's own is not to be taken for a message.
    private static func appendRawEvent(_ notification: Notification, to out: inout [UInt8]) {
        if notification.channel.isReserved {
            out.append(contentsOf: "\nevent: ack".utf8)
        } else if let event = notification.event {
            out.append(contentsOf: "\nevent: \(event)".utf8)
        }
    }

    private func appendEvent(_ notification: Notification, _ epoch: LogEpoch, to out: inout [UInt8]) {
        out.append(contentsOf: "id: ".utf8)
        Position.append(epoch: epoch, offset: notification.offset, to: &out)
        if isRaw {
            Self.appendRawEvent(notification, to: &out)
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

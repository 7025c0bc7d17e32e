/// Reads the frames of one peer and gives out whole messages and control frames (RFC 6455 section 5).
///
///      0                   1                   2                   3
///      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///     +-+-+-+-+-------+-+-------------+-------------------------------+
///     |F|R|R|R| opcode|M|    length   |  16 or 64 bits of length, if  |
///     |I|S|S|S|  (4)  |A|     (7)     |  the 7 bits say 126 or 127    |
///     |N|V|V|V|       |S|             |                               |
///     | |1|2|3|       |K|             |                               |
///     +-+-+-+-+-------+-+-------------+-------------------------------+
///     |  masking key, if MASK (32)    |  payload, masked              |
///     +-------------------------------+-------------------------------+
///
/// The decoder is a phase (which of these comes next) and what is unfinished:
///
///     opcode -> length -> [extendedLength] -> [maskingKey] -> payload -> opcode ...
///        any fault, or a close frame, from any phase:  -> finished
///
/// It takes every byte it is given, so the caller keeps none: `next` returns nil only when it has read all of its input. An unfinished
/// header lives in the fields below; an unfinished payload is collected in an array that grows with what really came, never with what a
/// header announced. Each header byte is judged when it comes, in order, so a fault is the same however the network cut the bytes, and
/// a message over the limit is refused when its length is read, before any of its payload.
///
/// The odd cases: control frames may stand between the fragments of a message, so there are two collecting arrays; text is validated
/// as it comes, so a fragmented message fails at its first impossible byte and not at its end (a compressed one when it is complete);
/// and a frame that is in one read as a whole is unmasked where it lies and copied once, into the array of its event.
package struct WebSocketDecoder {
    private enum Phase: UInt8 {
        case opcode
        case length
        case extendedLength
        case maskingKey
        case payload
        case finished
    }

    private let limits: WebSocketLimits
    /// The data message so far, when it is not complete.
    private var message: [UInt8] = []
    /// The control frame's payload so far, when it is not complete.
    private var control: [UInt8] = []
    /// Of the current frame. In `extendedLength` it is the length as far as it was read.
    private var payloadBytesLeft: UInt64 = 0
    /// For the next byte of the payload. A client's stays zero, which changes nothing.
    private var mask = WebSocketMask(lowestByteFirst: 0)
    /// Frames of the current message.
    private var fragments: UInt32 = 0
    private let role: WebSocketRole
    private var phase = Phase.opcode
    /// Of the current frame.
    private var opcode = WebSocketOpcode.continuation
    private var isFinal = false
    /// Text or binary while a data message is unfinished, over all its fragments.
    private var messageOpcode: WebSocketOpcode?
    /// In `extendedLength` and `maskingKey`: how many bytes of it are missing.
    private var headerBytesLeft: UInt8 = 0
    /// How many bytes the extended length has: 0, 2 or 8.
    private var lengthBytes: UInt8 = 0
    /// Of the current text message, over all its fragments. A message that is given out leaves it complete, as it began.
    private var utf8 = UTF8Validator()
    /// The current message is compressed: it is inflated and checked when it is complete.
    private var isCompressed = false
    /// nil: permessage-deflate was not negotiated.
    private let inflater: MessageInflater?

    /// - Parameters:
    ///   - role: the end at which the decoder stands; a server reads masked frames.
    ///   - limits: what the peer may make it hold.
    ///   - inflater: of the thread, if permessage-deflate was negotiated (without context takeover by the peer); nil if not.
    package init(role: WebSocketRole, limits: WebSocketLimits = WebSocketLimits(), inflater: MessageInflater? = nil) {
        self.role = role
        self.inflater = inflater
        self.limits = limits
    }

    /// Whether nothing is unfinished: the next byte begins a frame, and no message waits for a fragment. Also true after the end.
    package var isIdle: Bool {
        phase == .finished || phase == .opcode && messageOpcode == nil
    }

    /// Whether a close frame or a fault ended the stream. What still comes is ignored.
    package var isFinished: Bool { phase == .finished }

    /// Reads at most one event from the front of `input`.
    ///
    /// Call it again with what is left as long as it returns an event; nil means that all of `input` was read and more is needed.
    /// After a close event or a fault it reads everything and returns nil.
    ///
    /// - Parameters:
    ///   - input: bytes of the peer, in order. Payloads are unmasked in place.
    ///   - consumed: the number of bytes read is added to it; they must not be given again.
    /// - Throws: what the peer did wrong; all of `input` counts as read.
    package mutating func next(
        _ input: UnsafeMutableRawBufferPointer,
        consumed: inout Int
    ) throws(WebSocketFault) -> WebSocketEvent? {
        var offset = 0
        do throws(WebSocketFault) {
            let event = try readEvent(input, &offset)
            precondition(event != nil || offset == input.count, "bytes left behind")
            consumed += offset
            return event
        } catch {
            finish()
            consumed += input.count
            throw error
        }
    }

    private mutating func readEvent(
        _ input: UnsafeMutableRawBufferPointer,
        _ offset: inout Int
    ) throws(WebSocketFault) -> WebSocketEvent? {
        while true {
            if phase == .finished {
                offset = input.count
                return nil
            }
            if phase != .payload {
                try readHeader(UnsafeRawBufferPointer(input), &offset)
                guard phase == .payload else { return nil }
            }
            if let event = try readPayload(input, &offset) { return event }
            if phase == .payload { return nil }
        }
    }

    private mutating func finish() {
        phase = .finished
        messageOpcode = nil
        message = []
        control = []
    }
}

// MARK: - Header

extension WebSocketDecoder {
    /// Reads header bytes until the phase is `payload` or the input is at its end.
    private mutating func readHeader(_ input: UnsafeRawBufferPointer, _ offset: inout Int) throws(WebSocketFault) {
        while offset < input.count, phase != .payload {
            let byte = input[offset]
            offset &+= 1
            switch phase {
            case .opcode: try readOpcode(byte)
            case .length: try readLength(byte)
            case .extendedLength: try readExtendedLength(byte)
            case .maskingKey: readMaskingKey(byte)
            case .payload, .finished: preconditionFailure("no header here")
            }
        }
    }

    private mutating func readOpcode(_ byte: UInt8) throws(WebSocketFault) {
        let bits = WebSocketReservedBits(rawValue: byte).intersection(.all)
        guard bits.isEmpty || bits == .rsv1 && inflater != nil else { throw .reservedBits }
        guard let opcode = WebSocketOpcode(rawValue: byte & 0x0F) else { throw .reservedOpcode(byte & 0x0F) }
        isFinal = byte & 0x80 != 0
        // RSV1 stands on the first frame of a compressed message and nowhere else (RFC 7692 section 6.1).
        if opcode.isControl || opcode == .continuation, !bits.isEmpty { throw .reservedBits }
        if opcode.isControl {
            guard isFinal else { throw .controlFragmented }
        } else if opcode == .continuation {
            guard messageOpcode != nil else { throw .continuationUnexpected }
            fragments += 1
            guard Int(fragments) <= limits.fragmentsMax else { throw .tooManyFragments }
        } else {
            guard messageOpcode == nil else { throw .continuationExpected }
            messageOpcode = opcode
            isCompressed = !bits.isEmpty
            fragments = 1
            precondition(utf8.isComplete, "the last message ended inside a character")
        }
        self.opcode = opcode
        phase = .length
    }

    private mutating func readLength(_ byte: UInt8) throws(WebSocketFault) {
        let isMasked = byte & 0x80 != 0
        switch role {
        case .server: guard isMasked else { throw .maskMissing }
        case .client: guard !isMasked else { throw .maskUnexpected }
        }
        let length = byte & 0x7F
        if opcode.isControl, length > controlPayloadBytesMax { throw .controlTooLong }
        switch length {
        case 126: lengthBytes = 2
        case 127: lengthBytes = 8
        default:
            lengthBytes = 0
            payloadBytesLeft = UInt64(length)
            return try acceptLength()
        }
        payloadBytesLeft = 0
        headerBytesLeft = lengthBytes
        phase = .extendedLength
    }

    private mutating func readExtendedLength(_ byte: UInt8) throws(WebSocketFault) {
        if headerBytesLeft == 8, byte & 0x80 != 0 { throw .lengthNegative }
        payloadBytesLeft = payloadBytesLeft << 8 | UInt64(byte)
        headerBytesLeft -= 1
        guard headerBytesLeft == 0 else { return }
        let isMinimal = lengthBytes == 2 ? payloadBytesLeft > 125 : payloadBytesLeft > 0xFFFF
        guard isMinimal else { throw .lengthNotMinimal }
        try acceptLength()
    }

    /// The length is known: the last moment at which it costs nothing to refuse it.
    private mutating func acceptLength() throws(WebSocketFault) {
        if !opcode.isControl {
            // The message is never above its limit, so this does not go below zero.
            guard payloadBytesLeft <= UInt64(limits.messageBytesMax - message.count) else { throw .messageTooBig }
        }
        switch role {
        case .server:
            headerBytesLeft = 4
            phase = .maskingKey
        case .client:
            phase = .payload
        }
    }

    private mutating func readMaskingKey(_ byte: UInt8) {
        // Each byte moves down as the next comes, so that the first of the four ends lowest and nothing of the last key is left.
        mask = WebSocketMask(lowestByteFirst: mask.key >> 8 | UInt32(byte) << 24)
        headerBytesLeft -= 1
        if headerBytesLeft == 0 { phase = .payload }
    }
}

// MARK: - Payload

extension WebSocketDecoder {
    /// Reads what there is of the current frame's payload, which may be nothing or empty.
    ///
    /// - Returns: an event if the frame completes one. If not, the phase tells whether the frame is at its end.
    private mutating func readPayload(
        _ input: UnsafeMutableRawBufferPointer,
        _ offset: inout Int
    ) throws(WebSocketFault) -> WebSocketEvent? {
        let count = Int(min(payloadBytesLeft, UInt64(input.count - offset)))
        let bytes = UnsafeMutableRawBufferPointer(rebasing: input[offset..<offset + count])
        offset += count
        payloadBytesLeft -= UInt64(count)
        mask.apply(to: bytes)
        let payload = UnsafeRawBufferPointer(bytes)
        return if opcode.isControl {
            try readControl(payload)
        } else {
            try readData(payload)
        }
    }

    private mutating func readData(_ payload: UnsafeRawBufferPointer) throws(WebSocketFault) -> WebSocketEvent? {
        let isPlainText = messageOpcode == .text && !isCompressed
        if isPlainText, !utf8.accept(payload) { throw .textNotUTF8 }
        let isFrameComplete = payloadBytesLeft == 0
        if isFrameComplete { phase = .opcode }
        guard isFrameComplete, isFinal else {
            message.append(contentsOf: payload)
            return nil
        }
        if isPlainText, !utf8.isComplete { throw .textNotUTF8 }
        var whole = Self.take(&message, andAppend: payload)
        if isCompressed, let inflater {
            whole = try inflater.inflate(whole, bytesMax: limits.messageBytesMax)
            if messageOpcode == .text, !whole.withUnsafeBytes(UTF8Validator.isValid) { throw .textNotUTF8 }
        }
        precondition(whole.count <= limits.messageBytesMax, "message above its limit")
        let kind = messageOpcode
        messageOpcode = nil
        return kind == .text ? .text(whole) : .binary(whole)
    }

    private mutating func readControl(_ payload: UnsafeRawBufferPointer) throws(WebSocketFault) -> WebSocketEvent? {
        guard payloadBytesLeft == 0 else {
            control.append(contentsOf: payload)
            return nil
        }
        phase = .opcode
        let whole = Self.take(&control, andAppend: payload)
        precondition(whole.count <= controlPayloadBytesMax, "control frame above its limit")
        switch opcode {
        case .ping: return .ping(whole)
        case .pong: return .pong(whole)
        case .close:
            let event = try Self.closeEvent(whole)
            finish()
            return event
        case .continuation, .text, .binary: preconditionFailure("not a control frame")
        }
    }

    /// Empties `collected` and returns what it held with `rest` behind: one copy of `rest`, and no other if nothing was collected.
    private static func take(_ collected: inout [UInt8], andAppend rest: UnsafeRawBufferPointer) -> [UInt8] {
        guard !collected.isEmpty else { return [UInt8](rest) }
        var whole: [UInt8] = []
        swap(&whole, &collected)
        whole.append(contentsOf: rest)
        return whole
    }

    private static func closeEvent(_ payload: [UInt8]) throws(WebSocketFault) -> WebSocketEvent {
        guard !payload.isEmpty else { return .close(nil, reason: "") }
        guard payload.count >= 2 else { throw .closePayloadTooShort }
        let code = WebSocketCloseCode(rawValue: UInt16(payload[0]) << 8 | UInt16(payload[1]))
        guard code.isValidOnWire else { throw .closeCodeInvalid(code.rawValue) }
        let reason = payload[2...]
        guard reason.withUnsafeBytes(UTF8Validator.isValid) else { throw .closeReasonNotUTF8 }
        return .close(code, reason: String(decoding: reason, as: UTF8.self))
    }
}

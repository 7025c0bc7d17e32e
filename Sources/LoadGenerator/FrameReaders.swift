/// What a reader of WebSocket frames tells its owner.
package protocol WebSocketSink: AnyObject {
    /// Next bytes of a text or binary message. Valid for the call.
    func webSocketData(_ bytes: UnsafeRawBufferPointer)
    func webSocketPing(_ payload: [UInt8])
    func webSocketClose(code: Int)
}

/// Reads a server's WebSocket frames (RFC 6455 section 5.2) from bytes cut anywhere, and gives out payloads where they lie.
package struct WebSocketFrames {
    private var head: [UInt8] = []
    private var opcode: UInt8 = 0
    private var left = 0
    private var isInPayload = false
    /// The payload of a ping or close: at most 125 bytes.
    private var control: [UInt8] = []

    package init() {
        head.reserveCapacity(10)
    }

    package mutating func read(_ bytes: UnsafeRawBufferPointer, into sink: some WebSocketSink) throws(ReadingFault) {
        var index = 0
        while index < bytes.count {
            guard isInPayload else {
                head.append(bytes[index])
                index += 1
                try takeHead(sink)
                continue
            }
            let count = min(left, bytes.count - index)
            let piece = UnsafeRawBufferPointer(rebasing: bytes[index..<index + count])
            index += count
            left -= count
            if opcode < 8 {
                sink.webSocketData(piece)
            } else {
                control.append(contentsOf: piece)
            }
            if left == 0 { endFrame(sink) }
        }
    }

    private mutating func takeHead(_ sink: some WebSocketSink) throws(ReadingFault) {
        guard head.count >= 2 else { return }
        let short = head[1]
        guard short < 128 else { throw ReadingFault("a masked frame from the server") }
        let wanted = short == 126 ? 4 : short == 127 ? 10 : 2
        guard head.count == wanted else { return }
        left = short < 126 ? Int(short) : head[2...].reduce(0) { $0 << 8 | Int($1) }
        opcode = head[0] & 15
        guard head[0] & 0x70 == 0 else { throw ReadingFault("a frame with reserved bits") }
        guard opcode < 8 || left <= 125, left >= 0 else { throw ReadingFault("a frame with a wrong length") }
        head.removeAll(keepingCapacity: true)
        isInPayload = true
        if left == 0 { endFrame(sink) }
    }

    private mutating func endFrame(_ sink: some WebSocketSink) {
        isInPayload = false
        switch opcode {
        case 8: sink.webSocketClose(code: control.count >= 2 ? Int(control[0]) << 8 | Int(control[1]) : 1005)
        case 9: sink.webSocketPing(control)
        default: break
        }
        if opcode >= 8 { control.removeAll(keepingCapacity: true) }
    }
}

/// What a reader of HTTP/2 frames tells its owner.
package protocol HTTP2Sink: AnyObject {
    /// Next bytes of a body, without padding. Valid for the call.
    func http2Data(stream: Int32, _ bytes: UnsafeRawBufferPointer)
    /// A DATA frame has been read to its end; all its bytes count against the windows.
    func http2DataEnd(stream: Int32, windowBytes: Int, isLast: Bool)
    /// - Parameter status: nil when the block does not begin with one that the static table has (RFC 7541, appendix A).
    func http2Head(stream: Int32, status: Int?, isLast: Bool)
    /// - Parameters:
    ///   - concurrentStreamsMax: nil when the server sets none.
    ///   - enablesConnect: whether extended CONNECT may be used (RFC 8441 section 3).
    func http2Settings(concurrentStreamsMax: Int?, enablesConnect: Bool)
    func http2Ping(_ payload: [UInt8])
    func http2Reset(stream: Int32, code: UInt32)
    func http2GoAway(code: UInt32)
}

/// Reads a server's HTTP/2 frames (RFC 9113 section 4) from bytes cut anywhere. DATA is given out where it lies; other frames are
/// gathered first. Of header blocks only the status is read, so the peer has to be told to keep no dynamic table.
package struct HTTP2Frames {
    private enum Kind {
        static let data: UInt8 = 0
        static let headers: UInt8 = 1
        static let reset: UInt8 = 3
        static let settings: UInt8 = 4
        static let ping: UInt8 = 6
        static let goAway: UInt8 = 7
    }

    private static let headBytes = 9
    /// SETTINGS_MAX_FRAME_SIZE as it is when nobody sets it.
    private static let frameBytesMax = 16384
    private static let maxConcurrentStreams = 3
    private static let enableConnectProtocol = 8

    private var head: [UInt8] = []
    private var kind: UInt8 = 0
    private var flags: UInt8 = 0
    private var stream: Int32 = 0
    private var length = 0
    private var left = 0
    /// Bytes of padding at the end of the frame; nil before the byte that says so.
    private var padding: Int? = 0
    private var isInPayload = false
    private var gathered: [UInt8] = []

    package init() {
        head.reserveCapacity(Self.headBytes)
    }

    package mutating func read(_ bytes: UnsafeRawBufferPointer, into sink: some HTTP2Sink) throws(ReadingFault) {
        var index = 0
        while index < bytes.count {
            guard isInPayload else {
                let count = min(Self.headBytes - head.count, bytes.count - index)
                head.append(contentsOf: bytes[index..<index + count])
                index += count
                if head.count == Self.headBytes { try takeHead(sink) }
                continue
            }
            guard kind == Kind.data else {
                let count = min(left, bytes.count - index)
                gathered.append(contentsOf: bytes[index..<index + count])
                index += count
                left -= count
                if left == 0 { try endFrame(sink) }
                continue
            }
            guard let padding else {
                self.padding = Int(bytes[index])
                index += 1
                left -= 1
                guard Int(bytes[index - 1]) <= left else { throw ReadingFault("more padding than frame") }
                if left == 0 { try endFrame(sink) }
                continue
            }
            let count = min(left, bytes.count - index)
            let useful = min(count, max(0, left - padding))
            if useful > 0 { sink.http2Data(stream: stream, UnsafeRawBufferPointer(rebasing: bytes[index..<index + useful])) }
            index += count
            left -= count
            if left == 0 { try endFrame(sink) }
        }
    }

    private mutating func takeHead(_ sink: some HTTP2Sink) throws(ReadingFault) {
        length = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
        guard length <= Self.frameBytesMax else { throw ReadingFault("a frame of \(length) bytes; is this HTTP/2?") }
        (kind, flags, left) = (head[3], head[4], length)
        stream = Int32(bitPattern: UInt32(head[5] & 0x7f) << 24 | UInt32(head[6]) << 16 | UInt32(head[7]) << 8 | UInt32(head[8]))
        padding = kind == Kind.data && flags & 8 != 0 ? nil : 0
        guard padding != nil || length > 0 else { throw ReadingFault("no room for the length of padding") }
        head.removeAll(keepingCapacity: true)
        isInPayload = true
        if left == 0 { try endFrame(sink) }
    }

    private mutating func endFrame(_ sink: some HTTP2Sink) throws(ReadingFault) {
        isInPayload = false
        defer { gathered.removeAll(keepingCapacity: true) }
        switch kind {
        case Kind.data:
            sink.http2DataEnd(stream: stream, windowBytes: length, isLast: flags & 1 != 0)
        case Kind.headers:
            var block = gathered[...]
            if flags & 8 != 0 { block = block.dropFirst() }
            if flags & 0x20 != 0 { block = block.dropFirst(5) }
            sink.http2Head(stream: stream, status: Self.status(block), isLast: flags & 1 != 0)
        case Kind.reset where length == 4:
            sink.http2Reset(stream: stream, code: Self.word(gathered[0...]))
        case Kind.settings where flags & 1 == 0:
            guard length % 6 == 0 else { throw ReadingFault("SETTINGS of \(length) bytes") }
            var streamsMax: Int?
            var enablesConnect = false
            for entry in stride(from: 0, to: length, by: 6) {
                let value = Int(Self.word(gathered[(entry + 2)...]))
                switch Int(gathered[entry]) << 8 | Int(gathered[entry + 1]) {
                case Self.maxConcurrentStreams: streamsMax = value
                case Self.enableConnectProtocol: enablesConnect = value == 1
                default: break
                }
            }
            sink.http2Settings(concurrentStreamsMax: streamsMax, enablesConnect: enablesConnect)
        case Kind.ping where flags & 1 == 0 && length == 8:
            sink.http2Ping(gathered)
        case Kind.goAway where length >= 8:
            sink.http2GoAway(code: Self.word(gathered[4...]))
        default:
            break
        }
    }

    private static func word(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        bytes.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
    }

    /// RFC 7541: a block may begin with changes of the table's size (001xxxxx); `:status` is an index of the static table (8 to 14), or
    /// a literal with one of these names and three digits, which may be in Huffman code: then only its length is known.
    private static func status(_ block: ArraySlice<UInt8>) -> Int? {
        var block = block
        while let first = block.first, first & 0xe0 == 0x20 {
            // The size is a number of five bits, or all ones and more bytes, up to the first below 128 (RFC 7541 section 5.1).
            block = block.dropFirst()
            if first == 0x3f { block = block.drop { $0 >= 0x80 }.dropFirst() }
        }
        guard let first = block.first else { return nil }
        if first & 0x80 != 0 {
            let statuses = [200, 204, 206, 304, 400, 404, 500]
            let index = Int(first & 0x7f) - 8
            return statuses.indices.contains(index) ? statuses[index] : nil
        }
        let digits = block.dropFirst(2).prefix(3)
        guard block.count >= 5, block[block.startIndex + 1] == 3 else { return nil }
        return Int(String(decoding: digits, as: UTF8.self))
    }
}

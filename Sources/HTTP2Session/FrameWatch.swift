/// Looks, in the bytes of a client as they come, for frames that nghttp2 passes over without a word:
///
/// - PRIORITY on stream 0 (RFC 9113 6.3), or of a stream that depends on itself (RFC 7540 5.3.1);
/// - DATA on a stream that is not open;
/// - CONTINUATION without end, where nghttp2 passes the header block over: it counts reads and not frames then.
///
/// It costs a step per frame, not per byte.
struct FrameWatch {
    /// There was such a PRIORITY. Nothing is looked at after it.
    private(set) var isPriorityBroken = false
    /// There were more CONTINUATION frames in a row than may be. Nothing is looked at after it.
    private(set) var hasTooManyContinuations = false
    /// DATA has come on this stream, which was not open then. It may have been opened by bytes that nghttp2 has not been given yet.
    private(set) var suspect: HTTP2StreamID?

    /// WINDOW_UPDATE is given by itself, and no frame's header in pieces: the owner may keep it from nghttp2.
    var isolatesWindowUpdates = false
    /// What was read last is this one.
    private(set) var windowUpdate: WindowUpdate?
    /// What was not read is the beginning of a frame: it is to be given again with what follows it.
    private(set) var isCut = false

    struct WindowUpdate {
        var stream: HTTP2StreamID
        var increment: Int
    }

    /// Bytes to pass over: the preface, then payloads.
    private var skip = prefaceBytes
    /// The frame header that comes in, and of PRIORITY the dependency behind it.
    private var header: [UInt8] = []
    private var headerCount = headerBytes
    /// The last frame may close its stream.
    private var lastMayClose = false
    private var continuations = 0
    /// Only CONTINUATION may come (RFC 9113 4.3).
    private var isInHeaderBlock = false
    private let continuationsMax: Int

    private static let headerBytes = 9
    private static let prefaceBytes = 24
    private static let dataType: UInt8 = 0
    private static let headersType: UInt8 = 1
    private static let priorityType: UInt8 = 2
    private static let resetType: UInt8 = 3
    private static let windowUpdateType: UInt8 = 8
    private static let continuationType: UInt8 = 9
    private static let endStreamFlag: UInt8 = 1
    private static let endHeadersFlag: UInt8 = 4
    private static let windowUpdateBytes = 13

    init(continuationsMax: Int) {
        self.continuationsMax = continuationsMax
    }

    private var isOver: Bool { isPriorityBroken || hasTooManyContinuations }

    /// Reads until the header of such a frame has come, or to the end; or up to a frame of DATA if something before it may have closed
    /// its stream: whether it is open can be said only when nghttp2 has been given that.
    ///
    /// - Returns: how many bytes were read.
    mutating func read(_ bytes: UnsafeRawBufferPointer, isOpen: (HTTP2StreamID) -> Bool) -> Int {
        suspect = nil
        windowUpdate = nil
        isCut = false
        if isOver { return bytes.count }
        var offset = 0
        // Of a frame that began in an earlier read the rest is still to be given.
        var mayHaveClosed = skip > 0 && lastMayClose
        while offset < bytes.count, suspect == nil, !isOver {
            if skip > 0 {
                let passed = min(skip, bytes.count - offset)
                skip -= passed
                offset += passed
                continue
            }
            let start = offset
            if isolatesWindowUpdates, !isInHeaderBlock, header.isEmpty, let count = isolate(bytes, start) { return count }
            let taken = min(headerCount - header.count, bytes.count - offset)
            header.append(contentsOf: bytes[offset..<offset + taken])
            offset += taken
            guard header.count == headerCount else { continue }
            if mayHaveClosed, header[3] == Self.dataType {
                // Its header began in this read, behind another frame.
                header.removeAll(keepingCapacity: true)
                return start
            }
            lastMayClose = mayCloseStream
            if lastMayClose { mayHaveClosed = true }
            look(isOpen)
        }
        return offset
    }

    /// Looks at the frame that begins there.
    ///
    /// - Returns: how many bytes were read, if it is a WINDOW_UPDATE, or not here as far as has to be.
    private mutating func isolate(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Int? {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[start...])
        if rest.count >= Self.headerBytes {
            // Of another length it is a fault, for nghttp2 to find.
            guard rest[3] == Self.windowUpdateType, rest[0] == 0, rest[1] == 0, rest[2] == 4 else { return nil }
        }
        isCut = rest.count < Self.windowUpdateBytes
        if isCut || start > 0 { return start }
        func number(_ at: Int) -> UInt32 { rest[at..<at + 4].reduce(0) { $0 << 8 | UInt32($1) } & 0x7fff_ffff }
        windowUpdate = WindowUpdate(stream: HTTP2StreamID(number(5)), increment: Int(number(9)))
        continuations = 0
        lastMayClose = false
        return Self.windowUpdateBytes
    }

    private mutating func look(_ isOpen: (HTTP2StreamID) -> Bool) {
        let length = Int(header[0]) << 16 | Int(header[1]) << 8 | Int(header[2])
        if header[3] == Self.priorityType {
            if length >= 4, headerCount == Self.headerBytes {
                headerCount += 4
                return
            }
            isPriorityBroken = number(at: 5) == 0 || headerCount > Self.headerBytes && number(at: 9) == number(at: 5)
        }
        continuations = header[3] == Self.continuationType ? continuations + 1 : 0
        if header[3] == Self.headersType || header[3] == Self.continuationType {
            isInHeaderBlock = header[4] & Self.endHeadersFlag == 0
        }
        hasTooManyContinuations = continuations > continuationsMax
        if header[3] == Self.dataType, !isOpen(number(at: 5)) { suspect = number(at: 5) }
        skip = length - (headerCount - Self.headerBytes)
        headerCount = Self.headerBytes
        header.removeAll(keepingCapacity: true)
    }

    private var mayCloseStream: Bool {
        switch header[3] {
        case Self.dataType, Self.headersType: header[4] & Self.endStreamFlag != 0
        case Self.resetType, Self.continuationType: true
        default: false
        }
    }

    /// 31 bits, without the reserved one.
    private func number(at start: Int) -> HTTP2StreamID {
        header[start..<start + 4].reduce(0) { $0 << 8 | HTTP2StreamID($1) } & HTTP2StreamID.max
    }
}

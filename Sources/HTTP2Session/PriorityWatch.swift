/// Looks for PRIORITY frames on stream 0 (RFC 9113 6.3) and for streams that depend on themselves (RFC 7540 5.3.1), in the bytes of a
/// client as they come. nghttp2 skips these frames once it has been told that priorities are not used.
///
/// It costs a step per frame, not per byte.
struct PriorityWatch {
    /// Nothing is looked at after the first such frame.
    private(set) var isBroken = false

    /// Bytes to pass over: the preface, then payloads.
    private var skip = prefaceBytes
    /// The frame header that comes in, and of PRIORITY the dependency behind it.
    private var header: [UInt8] = []
    private var headerCount = headerBytes

    private static let headerBytes = 9
    private static let prefaceBytes = 24
    private static let priorityType: UInt8 = 2

    mutating func read(_ bytes: UnsafeRawBufferPointer) {
        var offset = 0
        while offset < bytes.count, !isBroken {
            if skip > 0 {
                let passed = min(skip, bytes.count - offset)
                skip -= passed
                offset += passed
                continue
            }
            let taken = min(headerCount - header.count, bytes.count - offset)
            header.append(contentsOf: bytes[offset..<offset + taken])
            offset += taken
            if header.count == headerCount { look() }
        }
    }

    private mutating func look() {
        let length = Int(header[0]) << 16 | Int(header[1]) << 8 | Int(header[2])
        if header[3] == Self.priorityType {
            if length >= 4, headerCount == Self.headerBytes {
                headerCount += 4
                return
            }
            isBroken = number(at: 5) == 0 || headerCount > Self.headerBytes && number(at: 9) == number(at: 5)
        }
        skip = length - (headerCount - Self.headerBytes)
        headerCount = Self.headerBytes
        header.removeAll(keepingCapacity: true)
    }

    /// 31 bits, without the reserved one.
    private func number(at start: Int) -> HTTP2StreamID {
        header[start..<start + 4].reduce(0) { $0 << 8 | HTTP2StreamID($1) } & HTTP2StreamID.max
    }
}

/// HTTP/2 frames by hand, for what an honest client never sends, and to read what a server did send (RFC 9113 4.1).
struct RawFrame: Equatable {
    enum Kind {
        static let data: UInt8 = 0
        static let headers: UInt8 = 1
        static let priority: UInt8 = 2
        static let reset: UInt8 = 3
        static let settings: UInt8 = 4
        static let ping: UInt8 = 6
        static let goAway: UInt8 = 7
        static let windowUpdate: UInt8 = 8
        static let continuation: UInt8 = 9
    }

    var kind: UInt8
    var flags: UInt8 = 0
    var stream: Int32 = 0
    var payload: [UInt8] = []

    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + RawFrame(kind: Kind.settings).bytes

    var bytes: [UInt8] {
        let count = Self.word(UInt32(payload.count)).dropFirst()
        return Array(count) + [kind, flags] + Self.word(UInt32(bitPattern: stream)) + payload
    }

    /// Error code of a RST_STREAM or GOAWAY.
    var errorCode: UInt32 {
        payload[(kind == Kind.goAway ? 4 : 0)...].prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
    }

    static func word(_ value: UInt32) -> [UInt8] {
        [UInt8(value >> 24), UInt8(value >> 16 & 255), UInt8(value >> 8 & 255), UInt8(value & 255)]
    }

    /// HEADERS with each field as a literal without indexing (RFC 7541 6.2.2); values under 127 bytes.
    static func headers(_ stream: Int32, _ fields: [(String, String)] = get, end: Bool = true) -> RawFrame {
        RawFrame(kind: Kind.headers, flags: end ? 5 : 4, stream: stream, payload: block(fields))
    }

    static let get = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")]
    static let post = [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/")]

    static func block(_ fields: [(String, String)]) -> [UInt8] {
        var bytes: [UInt8] = []
        for (name, value) in fields {
            bytes.append(contentsOf: [0, UInt8(name.utf8.count)])
            bytes.append(contentsOf: name.utf8)
            bytes.append(UInt8(value.utf8.count))
            bytes.append(contentsOf: value.utf8)
        }
        return bytes
    }

    static func reset(_ stream: Int32, _ code: UInt32) -> RawFrame {
        RawFrame(kind: Kind.reset, stream: stream, payload: word(code))
    }

    static func windowUpdate(_ stream: Int32, _ bytes: UInt32) -> RawFrame {
        RawFrame(kind: Kind.windowUpdate, stream: stream, payload: word(bytes))
    }

    /// The whole frames in `bytes`.
    static func parse(_ bytes: [UInt8]) -> [RawFrame] {
        var frames: [RawFrame] = []
        var start = 0
        while start + 9 <= bytes.count {
            let count = Int(bytes[start]) << 16 | Int(bytes[start + 1]) << 8 | Int(bytes[start + 2])
            let stream = bytes[start + 5..<start + 9].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            frames.append(
                RawFrame(
                    kind: bytes[start + 3],
                    flags: bytes[start + 4],
                    stream: Int32(bitPattern: stream),
                    payload: Array(bytes[(start + 9)...].prefix(count))
                )
            )
            start += 9 + count
        }
        return frames
    }
}

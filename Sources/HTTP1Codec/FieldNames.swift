import HTTPTypes

/// Field names without allocation: those that clients send are found in a table of constants; any other is made.
///
/// `HTTPField.Name` holds two strings, and most names are too long for a string without a heap object; a browser's request would cost
/// twenty of them.
struct FieldNames: Sendable {
    static let shared = FieldNames()

    private static let mask = 255
    /// Open addressing: an index into `names` plus one, or 0.
    private var slots = [UInt8](repeating: 0, count: FieldNames.mask + 1)
    private var names: [HTTPField.Name] = []
    /// The canonical names, one behind the other, and where each begins; the last entry is where they end.
    private var text: [UInt8] = []
    private var textStarts: [UInt16] = [0]

    private init() {
        let common: [HTTPField.Name] = [
            .accept, .acceptEncoding, .acceptLanguage, .accessControlRequestHeaders, .accessControlRequestMethod, .age, .authorization,
            .cacheControl, .connection, .contentEncoding, .contentLength, .contentType, .cookie, .date, .eTag, .expect,
            .ifMatch, .ifModifiedSince, .ifNoneMatch, .ifUnmodifiedSince, .lastModified, .origin, .range, .referer, .retryAfter,
            .secWebSocketAccept, .secWebSocketExtensions, .secWebSocketKey,
            .secWebSocketProtocol, .secWebSocketVersion, .server, .te, .trailer, .transferEncoding, .upgrade,
            .userAgent, .vary, .via,
        ]
        let others: [StaticString] = [
            "Accept-Charset", "DNT", "Forwarded", "Idempotency-Key", "Keep-Alive", "Last-Event-ID", "Pragma", "Prefer", "Priority",
            "Sec-CH-UA", "Sec-CH-UA-Mobile", "Sec-CH-UA-Platform", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-User",
            "Sec-GPC", "Traceparent",
            "Tracestate", "Upgrade-Insecure-Requests", "X-Accel-Buffering", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
            "X-Real-IP", "X-Request-ID",
        ]
        for name in common { insert(name) }
        for text in others { insert(HTTPField.Name("\(text)")!) }
    }

    private mutating func insert(_ name: HTTPField.Name) {
        var slot = Array(name.canonicalName.utf8).withUnsafeBytes { Self.hash($0) }
        while slots[slot] != 0 { slot = (slot + 1) & Self.mask }
        names.append(name)
        text += name.canonicalName.utf8
        textStarts.append(UInt16(text.count))
        precondition(names.count < 128, "too full for its size")
        slots[slot] = UInt8(names.count)
    }

    private static func hash(_ bytes: UnsafeRawBufferPointer) -> Int {
        let count = bytes.count
        let first = Int(bytes[0] | 0x20)
        let middle = Int(bytes[count >> 1] | 0x20)
        let last = Int(bytes[count &- 1] | 0x20)
        return (count &* 7 &+ first &* 31 &+ middle &* 5 &+ last &* 17) & mask
    }

    /// The name of `bytes`, which are a token.
    func name(_ bytes: UnsafeRawBufferPointer) -> HTTPField.Name {
        precondition(!bytes.isEmpty, "an empty field name")
        var slot = Self.hash(bytes)
        while slots[slot] != 0 {
            let index = Int(slots[slot]) &- 1
            if matches(bytes, index) { return names[index] }
            slot = (slot &+ 1) & Self.mask
        }
        guard let name = HTTPField.Name(String(decoding: bytes, as: UTF8.self)) else {
            preconditionFailure("a token that is no field name")
        }
        return name
    }

    private func matches(_ bytes: UnsafeRawBufferPointer, _ index: Int) -> Bool {
        let start = Int(textStarts[index])
        guard Int(textStarts[index &+ 1]) &- start == bytes.count else { return false }
        return text.withUnsafeBufferPointer { text in
            for offset in 0..<bytes.count where ByteClass.lowercased(bytes[offset]) != text[start &+ offset] {
                return false
            }
            return true
        }
    }
}

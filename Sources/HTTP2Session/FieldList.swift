import CNghttp2
import HTTPTypes

/// A header list on its way to nghttp2: all names and values in one array, then pointers into it for the length of one call.
/// nghttp2 copies what it keeps.
struct FieldList {
    private struct Entry {
        var nameStart: Int
        var valueStart: Int
        var valueEnd: Int
        var flags: UInt8
    }

    private var bytes: [UInt8] = []
    private var entries: [Entry] = []

    init(_ response: HTTPResponse) {
        reserve(response.headerFields)
        let code = response.status.code
        append(":status") { $0.append(contentsOf: [UInt8(48 + code / 100 % 10), UInt8(48 + code / 10 % 10), UInt8(48 + code % 10)]) }
        append(response.headerFields)
    }

    init(_ request: HTTPRequest) {
        reserve(request.headerFields)
        append(":method", request.method.rawValue)
        if let value = request.scheme { append(":scheme", value) }
        if let value = request.authority { append(":authority", value) }
        if let value = request.path { append(":path", value) }
        if let value = request.extendedConnectProtocol { append(":protocol", value) }
        append(request.headerFields)
    }

    /// Calls `body` with the list in the form that nghttp2 takes.
    func withFields<Result>(_ body: (UnsafePointer<nghttp2_nv>, Int) -> Result) -> Result {
        bytes.withUnsafeBufferPointer { buffer in
            // nghttp2 does not write through these pointers; its struct only lacks the const.
            let base = UnsafeMutablePointer(mutating: buffer.baseAddress!)
            return withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: entries.count) { list in
                for (index, entry) in entries.enumerated() {
                    list.initializeElement(
                        at: index,
                        to: nghttp2_nv(
                            name: base + entry.nameStart,
                            value: base + entry.valueStart,
                            namelen: entry.valueStart - entry.nameStart,
                            valuelen: entry.valueEnd - entry.valueStart,
                            flags: entry.flags
                        )
                    )
                }
                return body(UnsafePointer(list.baseAddress!), entries.count)
            }
        }
    }

    private mutating func reserve(_ fields: HTTPFields) {
        entries.reserveCapacity(fields.count + 5)
        bytes.reserveCapacity(64 + fields.count * 48)
    }

    private mutating func append(_ fields: HTTPFields) {
        for field in fields where !Self.isOfConnection(field.name.canonicalName) {
            let flags: UInt8 =
                field.indexingStrategy == .disallow || field.indexingStrategy == .avoid
                ? UInt8(NGHTTP2_NV_FLAG_NO_INDEX.rawValue) : 0
            append(field.name.canonicalName, flags: flags) { bytes in
                field.withUnsafeBytesOfValue { bytes.append(contentsOf: $0) }
            }
        }
    }

    private mutating func append(_ name: String, _ value: String) {
        append(name) { $0.append(contentsOf: value.utf8) }
    }

    private mutating func append(_ name: String, flags: UInt8 = 0, value: (inout [UInt8]) -> Void) {
        let nameStart = bytes.count
        bytes.append(contentsOf: name.utf8)
        let valueStart = bytes.count
        value(&bytes)
        entries.append(Entry(nameStart: nameStart, valueStart: valueStart, valueEnd: bytes.count, flags: flags))
    }

    /// Fields that belong to an HTTP/1.1 connection and must not be sent (RFC 9113 8.2.2): one router writes answers for both
    /// versions, and need not know which it serves. `Host` travels as `:authority`.
    private static func isOfConnection(_ name: String) -> Bool {
        switch name {
        case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host": true
        default: false
        }
    }
}

import HTTPTypes

/// A header list while it comes in. One suffices for a connection, because a header block is never interleaved (RFC 9113 4.3).
struct HeaderBlock {
    var method: String?
    var scheme: String?
    var authority: String?
    var path: String?
    var extendedConnectProtocol: String?
    var status: Int?
    var host: String?
    var hostsDiffer = false
    var contentLength: Int?
    var fields = HTTPFields()
    /// Size by the measure of RFC 9113 6.5.2, and number of fields. Both go on counting over their limits.
    var bytes = 0
    var count = 0
    /// Over a limit: fields are counted only.
    var overflown = false

    /// Takes a field that nghttp2 has found valid (lower case name, legal value, pseudo-header fields first and once).
    mutating func append(name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>, isSensitive: Bool) {
        if name.first == UInt8(ascii: ":") {
            appendPseudo(name: name, value: value)
            return
        }
        guard let fieldName = HTTPField.Name(String(decoding: name, as: UTF8.self)) else { return }
        switch fieldName.canonicalName {
        case "host":
            let text = String(decoding: value, as: UTF8.self)
            if let host, host != text { hostsDiffer = true }
            host = text
            return
        case "content-length":
            contentLength = Int(String(decoding: value, as: UTF8.self))
        default:
            break
        }
        var field = HTTPField(name: fieldName, value: value)
        if isSensitive { field.indexingStrategy = .disallow }
        fields.append(field)
    }

    private mutating func appendPseudo(name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>) {
        let text = String(decoding: value, as: UTF8.self)
        switch String(decoding: name, as: UTF8.self) {
        case ":method": method = text
        case ":scheme": scheme = text
        case ":authority": authority = text
        case ":path": path = text
        case ":protocol": extendedConnectProtocol = text
        case ":status": status = Int(text)
        default: break
        }
    }

    /// The request, or nil if it is malformed in a way that nghttp2 lets pass.
    func request() -> HTTPRequest? {
        guard let method, let method = HTTPRequest.Method(method), !hostsDiffer else { return nil }
        if let authority, let host, authority != host { return nil }
        var request = HTTPRequest(
            method: method, scheme: scheme, authority: authority ?? host, path: path, headerFields: fields)
        if let extendedConnectProtocol { request.extendedConnectProtocol = extendedConnectProtocol }
        return request
    }

    /// The final answer, or nil if this was an informational one, or trailers.
    func response() -> HTTPResponse? {
        guard let status, (200...999).contains(status) else { return nil }
        return HTTPResponse(status: .init(code: status), headerFields: fields)
    }
}

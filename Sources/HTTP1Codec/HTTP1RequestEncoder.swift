package import HTTPTypes

/// Writes requests (RFC 9112 section 3). Bodies in chunks are written with `HTTP1ResponseEncoder.chunk`.
package enum HTTP1RequestEncoder {
    /// Whether `path` can stand in a request line: it begins with `/` or is `*`, and holds visible ASCII without `#` only.
    package static func isValidPath(_ path: String) -> Bool {
        guard path.utf8.first == UInt8(ascii: "/") || path == "*" else { return false }
        return path.utf8.allSatisfy { ByteClass.isVisible($0) && $0 != UInt8(ascii: "#") }
    }

    /// Whether `authority` can stand in Host: `name[:port]` or `[IPv6][:port]`.
    package static func isValidAuthority(_ authority: String) -> Bool {
        var authority = authority
        return authority.withUTF8 { Authority.isValid(UnsafeRawBufferPointer($0)) }
    }

    /// Appends the request line, Host, the fields and the empty line.
    ///
    /// `Host`, `Content-Length` and `Transfer-Encoding` among the fields are left out: they come from `authority` and `framing`.
    ///
    /// - Parameters:
    ///   - request: with an authority, and for all methods but CONNECT with a path; both have to be valid.
    ///   - framing: a POST, PUT or PATCH without body has `.length(0)` (RFC 9110 section 8.6).
    ///   - out: the bytes are appended.
    package static func head(_ request: HTTPRequest, framing: HTTP1BodyFraming, into out: inout [UInt8]) {
        guard let authority = request.authority, isValidAuthority(authority) else {
            preconditionFailure("a request without a valid authority")
        }
        out.append(contentsOf: request.method.rawValue.utf8)
        out.append(ByteClass.space)
        if request.method == .connect {
            out.append(contentsOf: authority.utf8)
        } else {
            guard let path = request.path, isValidPath(path) else {
                preconditionFailure("a request without a valid path")
            }
            out.append(contentsOf: path.utf8)
        }
        out.append(contentsOf: " HTTP/1.1\r\nHost: ".utf8)
        out.append(contentsOf: authority.utf8)
        MessageWriter.lineEnd(into: &out)
        MessageWriter.fields(request.headerFields, skippingHost: true, into: &out)
        switch framing {
        case .none: break
        case .length(let length): MessageWriter.contentLength(length, into: &out)
        case .chunked: out.append(contentsOf: "Transfer-Encoding: chunked\r\n".utf8)
        }
        MessageWriter.lineEnd(into: &out)
    }
}

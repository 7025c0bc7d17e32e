import HTTPTypes

extension HTTP1ResponseHead {
    /// - Parameters:
    ///   - bytes: a whole head, from the status line to the empty line, as a `HeadReader` gives it.
    ///   - requestMethod: of the request that it answers, as far as it matters.
    ///   - bodyBytesMax: above it a Content-Length is refused.
    init(
        _ bytes: UnsafeRawBufferPointer,
        requestMethod: HTTP1ResponseParser.RequestMethod,
        bodyBytesMax: Int
    ) throws(HTTP1Fault) {
        let lineEnd = ByteClass.firstControl(bytes, from: 0, to: bytes.count)
        let statusLine = try StatusLine(bytes.part(0..<lineEnd))
        let section = try FieldSection(bytes.part(lineEnd + 2..<bytes.count))
        minorVersion = statusLine.minorVersion
        if section.isChunked, minorVersion == 0 { throw .transferEncodingInOldVersion }
        let code = statusLine.code
        let hasNoBody = code < 200 || code == 204 || code == 304 || requestMethod == .head
        if hasNoBody || requestMethod == .connect && code < 300 {
            body = .none
        } else if section.isChunked {
            body = .chunked
        } else if let length = section.contentLength {
            guard length <= bodyBytesMax else { throw .bodyTooLong }
            body = .length(length)
        } else {
            body = .untilClose
        }
        keepAlive = section.keepAlive(minorVersion: minorVersion) && body != .untilClose
        // ISO Latin 1: every byte is the scalar of its number.
        var reason = ""
        for byte in bytes[StatusLine.reasonStart..<lineEnd] {
            reason.unicodeScalars.append(Unicode.Scalar(byte))
        }
        response = HTTPResponse(
            status: HTTPResponse.Status(code: code, reasonPhrase: reason),
            headerFields: section.fields
        )
    }
}

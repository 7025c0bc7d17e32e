import HTTPTypes

extension HTTP1RequestHead {
    /// - Parameters:
    ///   - bytes: a whole head, from the request line to the empty line, as a `HeadReader` gives it.
    ///   - bodyBytesMax: above it a Content-Length is refused.
    init(_ bytes: UnsafeRawBufferPointer, bodyBytesMax: Int) throws(HTTP1Fault) {
        let lineEnd = ByteClass.firstControl(bytes, from: 0, to: bytes.count)
        let line = bytes.part(0..<lineEnd)
        let requestLine = try RequestLine(line)
        let section = try FieldSection(bytes.part(lineEnd + 2..<bytes.count))
        minorVersion = requestLine.minorVersion
        body = try Self.framing(section, minorVersion: minorVersion, bodyBytesMax: bodyBytesMax)
        request = try Self.request(requestLine, line, section)
        // What a client sends behind CONNECT may be meant for the tunnel; where there is none, nobody must read it as a request
        // (RFC 9931 section 8).
        let isConnect = requestLine.form == .authority
        keepAlive = !isConnect && section.keepAlive(minorVersion: minorVersion)
        if isConnect, body != .none, body != .length(0) { throw .contentInConnect }
        // An HTTP/1.0 client understands neither (RFC 9110 sections 10.1.1 and 7.8).
        expectsContinue = minorVersion >= 1 && section.expectsContinue && body != .none && body != .length(0)
        upgrade = minorVersion >= 1 && section.saysUpgrade ? section.upgrade : nil
    }

    private static func framing(
        _ section: FieldSection,
        minorVersion: Int,
        bodyBytesMax: Int
    ) throws(HTTP1Fault) -> HTTP1BodyFraming {
        if section.isChunked {
            guard minorVersion >= 1 else { throw .transferEncodingInOldVersion }
            return .chunked
        }
        guard let length = section.contentLength else { return .none }
        guard length <= bodyBytesMax else { throw .bodyTooLong }
        return .length(length)
    }

    private static func request(
        _ requestLine: RequestLine,
        _ line: UnsafeRawBufferPointer,
        _ section: FieldSection
    ) throws(HTTP1Fault) -> HTTPRequest {
        if let host = section.host {
            guard Authority.isValid(host) else { throw .hostInvalid }
        } else if requestLine.minorVersion >= 1 {
            throw .hostMissing
        }
        let target = line.part(requestLine.target)
        var authority = section.host
        let path: String?
        switch requestLine.form {
        case .origin, .asterisk:
            path = String(decoding: target, as: UTF8.self)
        case .authority:
            authority = target
            path = nil
        case .absolute(let authorityRange, let pathRange):
            authority = target.part(authorityRange)
            let isOptions = line.part(requestLine.method).elementsEqual("OPTIONS".utf8)
            path = Self.path(target.part(pathRange), isOptions: isOptions)
        }
        if let host = section.host, let authority {
            guard ByteClass.equalsIgnoringCase(host, authority) else { throw .hostDisagrees }
        }
        guard let method = HTTPRequest.Method(String(decoding: line.part(requestLine.method), as: UTF8.self)) else {
            preconditionFailure("a token that is no method")
        }
        return HTTPRequest(
            method: method,
            scheme: nil,
            authority: authority.map { String(decoding: $0, as: UTF8.self) },
            path: path,
            headerFields: section.fields
        )
    }

    /// Origin-form of the end of an absolute target (RFC 9112 sections 3.2.1 and 3.2.4).
    private static func path(_ bytes: UnsafeRawBufferPointer, isOptions: Bool) -> String {
        guard let first = bytes.first else { return isOptions ? "*" : "/" }
        let text = String(decoding: bytes, as: UTF8.self)
        return first == UInt8(ascii: "/") ? text : "/" + text
    }
}

package import HTTPTypes

/// Writes responses (RFC 9112 sections 4, 6 and 7).
///
/// A response cannot be split: `HTTPField` lets no CR, LF or NUL into a value (it makes them spaces), `HTTPField.Name` holds a token, and
/// a reason phrase is legalized both by its type and here.
package enum HTTP1ResponseEncoder {
    /// Behind the last chunk: a chunk of size 0 and no trailers.
    package static let lastChunk: [UInt8] = Array("0\r\n\r\n".utf8)
    /// Behind the data of every chunk.
    package static let chunkEnd: [UInt8] = Array("\r\n".utf8)
    /// The interim response to `Expect: 100-continue` (RFC 9110 section 15.2.1).
    package static let continueResponse: [UInt8] = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)

    /// Appends the status line, the fields and the empty line.
    ///
    /// Framing fields are written here only: `Content-Length` and `Transfer-Encoding` among the fields are left out. `Connection` among the
    /// fields is written as it is (`upgrade` with 101 or 426), and `close` or, to an HTTP/1.0 client, `keep-alive` is added.
    ///
    /// - Parameters:
    ///   - response: with Date, and for 101 with Connection and Upgrade.
    ///   - framing: `.length(n)` writes Content-Length, also where no body follows (HEAD, 304). 1xx and 204 have `.none`. `.chunked` is not
    ///     for HTTP/1.0 clients. `.untilClose` closes, whatever `keepAlive` says.
    ///   - keepAlive: whether the connection stays open after this response.
    ///   - requestMinorVersion: of the request: 0 or 1.
    ///   - out: the bytes are appended.
    package static func head(
        _ response: HTTPResponse,
        framing: HTTP1ResponseFraming,
        keepAlive: Bool,
        requestMinorVersion: Int,
        into out: inout [UInt8]
    ) {
        let status = response.status
        precondition((100...599).contains(status.code), "no status of a response")
        out.append(contentsOf: "HTTP/1.1 ".utf8)
        MessageWriter.decimal(status.code, into: &out)
        out.append(ByteClass.space)
        reasonPhrase(status.reasonPhrase, into: &out)
        MessageWriter.lineEnd(into: &out)
        MessageWriter.fields(response.headerFields, into: &out)
        switch framing {
        case .none: break
        case .length(let length):
            precondition(status.code >= 200 && status.code != 204, "a status that has no body")
            MessageWriter.contentLength(length, into: &out)
        case .chunked:
            precondition(status.code >= 200 && status.code != 204, "a status that has no body")
            precondition(requestMinorVersion >= 1, "chunked to an HTTP/1.0 client")
            out.append(contentsOf: "Transfer-Encoding: chunked\r\n".utf8)
        case .untilClose:
            precondition(status.code >= 200 && status.code != 204, "a status that has no body")
        }
        if status.code != 101 {
            if !keepAlive || framing == .untilClose {
                out.append(contentsOf: "Connection: close\r\n".utf8)
            } else if requestMinorVersion == 0 {
                out.append(contentsOf: "Connection: keep-alive\r\n".utf8)
            }
        }
        MessageWriter.lineEnd(into: &out)
    }

    /// Appends a whole chunk. No bytes make no chunk, because that would be the last.
    package static func chunk(_ bytes: UnsafeRawBufferPointer, into out: inout [UInt8]) {
        guard !bytes.isEmpty else { return }
        chunkHeader(byteCount: bytes.count, into: &out)
        out.append(contentsOf: bytes)
        out.append(contentsOf: chunkEnd)
    }

    /// Appends a whole chunk. No bytes make no chunk, because that would be the last.
    package static func chunk(_ bytes: some Collection<UInt8>, into out: inout [UInt8]) {
        let count = bytes.count
        guard count > 0 else { return }
        chunkHeader(byteCount: count, into: &out)
        out.append(contentsOf: bytes)
        out.append(contentsOf: chunkEnd)
    }

    /// Appends the line before a chunk's data. `byteCount` bytes and `chunkEnd` follow.
    ///
    /// - Parameter byteCount: at least 1.
    package static func chunkHeader(byteCount: Int, into out: inout [UInt8]) {
        precondition(byteCount > 0, "an empty chunk would be the last")
        var shift = (63 - byteCount.leadingZeroBitCount) & ~3
        while shift >= 0 {
            let digit = UInt8(truncatingIfNeeded: byteCount >> shift & 15)
            out.append(digit < 10 ? 0x30 + digit : 0x57 + digit)
            shift -= 4
        }
        MessageWriter.lineEnd(into: &out)
    }

    /// In ISO Latin 1.
    private static func reasonPhrase(_ text: String, into out: inout [UInt8]) {
        for scalar in text.unicodeScalars {
            let byte = UInt8(exactly: scalar.value) ?? ByteClass.space
            out.append(ByteClass.isFieldValue(byte) ? byte : ByteClass.space)
        }
    }
}

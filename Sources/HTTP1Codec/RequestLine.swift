/// The first line of a request (RFC 9112 section 3):
///
///     method SP request-target SP "HTTP/1." DIGIT
struct RequestLine {
    /// Offsets into the line.
    let method: Range<Int>
    let target: Range<Int>
    let form: RequestTarget
    let minorVersion: Int

    /// - Parameter line: without CRLF; holds no control characters.
    init(_ line: UnsafeRawBufferPointer) throws(HTTP1Fault) {
        var offset = 0
        while offset < line.count, ByteClass.isToken(line[offset]) { offset &+= 1 }
        guard offset < line.count else { throw .requestLineMalformed }
        guard line[offset] == ByteClass.space else { throw .methodInvalid }
        guard offset > 0 else { throw .requestLineMalformed }
        method = 0..<offset
        let targetStart = offset &+ 1
        offset = targetStart
        while offset < line.count, ByteClass.isVisible(line[offset]) { offset &+= 1 }
        guard offset < line.count else { throw .requestLineMalformed }
        guard line[offset] == ByteClass.space else { throw .targetInvalid }
        guard offset > targetStart else { throw .requestLineMalformed }
        target = targetStart..<offset
        minorVersion = try HTTPVersion.minor(line.part(offset &+ 1..<line.count))
        form = try RequestTarget(line.part(target), method: line.part(method))
    }
}

/// `HTTP/1.0` and `HTTP/1.1` (RFC 9112 section 2.3).
enum HTTPVersion {
    /// - Returns: 0 or 1.
    static func minor(_ bytes: UnsafeRawBufferPointer) throws(HTTP1Fault) -> Int {
        guard bytes.count == 8, bytes.starts(with: "HTTP/".utf8), bytes[6] == UInt8(ascii: "."),
            ByteClass.isDigit(bytes[5]), ByteClass.isDigit(bytes[7])
        else { throw .versionMalformed }
        guard bytes[5] == UInt8(ascii: "1"), bytes[7] <= UInt8(ascii: "1") else { throw .versionUnsupported }
        return Int(bytes[7] &- 0x30)
    }
}

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

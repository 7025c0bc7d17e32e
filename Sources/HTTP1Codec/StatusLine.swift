/// The first line of a response (RFC 9112 section 4):
///
///     "HTTP/1." DIGIT SP 3DIGIT SP [ reason-phrase ]
struct StatusLine {
    let minorVersion: Int
    /// 100 to 599.
    let code: Int
    /// Where the reason phrase begins.
    static let reasonStart = 13

    /// - Parameter line: without CRLF; holds no control characters.
    init(_ line: UnsafeRawBufferPointer) throws(HTTP1Fault) {
        guard line.count >= Self.reasonStart, line[8] == ByteClass.space, line[12] == ByteClass.space,
            line[9..<12].allSatisfy(ByteClass.isDigit)
        else { throw .statusLineMalformed }
        minorVersion = try HTTPVersion.minor(line.part(0..<8))
        code = line[9..<12].reduce(0) { $0 * 10 + Int($1 &- 0x30) }
        guard (100...599).contains(code) else { throw .statusLineMalformed }
    }
}

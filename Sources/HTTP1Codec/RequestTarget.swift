/// The four forms of a request target (RFC 9112 section 3.2). Ranges are offsets into the target.
enum RequestTarget: Equatable {
    /// `/path?query`
    case origin
    /// `*`, with OPTIONS only
    case asterisk
    /// `http://authority/path?query`, as to a proxy. The last range is empty, or begins with `/` or `?`.
    case absolute(authority: Range<Int>, path: Range<Int>)
    /// `host:port`, with CONNECT only
    case authority

    /// - Parameters:
    ///   - target: visible ASCII, at least one.
    ///   - method: of the request.
    init(_ target: UnsafeRawBufferPointer, method: UnsafeRawBufferPointer) throws(HTTP1Fault) {
        if method.elementsEqual("CONNECT".utf8) {
            guard Authority.isValid(target, portRequired: true) else { throw .targetInvalid }
            self = .authority
            return
        }
        // A fragment never travels (RFC 9110 section 7.1). What else the grammar forbids, browsers do send.
        guard !target.contains(UInt8(ascii: "#")) else { throw .targetInvalid }
        if target[0] == UInt8(ascii: "/") {
            self = .origin
        } else if target.count == 1, target[0] == UInt8(ascii: "*") {
            guard method.elementsEqual("OPTIONS".utf8) else { throw .targetInvalid }
            self = .asterisk
        } else {
            self = try Self.absolute(target)
        }
    }

    private static func absolute(_ target: UnsafeRawBufferPointer) throws(HTTP1Fault) -> RequestTarget {
        guard let colon = target.prefix(6).firstIndex(of: UInt8(ascii: ":")) else { throw .targetInvalid }
        let scheme = target.part(0..<colon)
        guard ByteClass.equals(scheme, lowercase: "http") || ByteClass.equals(scheme, lowercase: "https") else { throw .targetInvalid }
        guard target.dropFirst(colon).starts(with: "://".utf8) else { throw .targetInvalid }
        let start = colon + 3
        let end = target[start...].firstIndex { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") } ?? target.count
        guard Authority.isValid(target.part(start..<end)) else { throw .hostInvalid }
        return .absolute(authority: start..<end, path: end..<target.count)
    }
}

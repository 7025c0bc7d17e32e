import HTTPTypes

/// The field lines of a head, and what they say about the message and the connection (RFC 9112 sections 5, 6 and 9).
struct FieldSection {
    /// All fields in order, without Host.
    private(set) var fields = HTTPFields()
    /// The value of Host.
    private(set) var host: UnsafeRawBufferPointer?
    private(set) var contentLength: Int?
    /// Whether there is a Transfer-Encoding; then it is `chunked`.
    private(set) var isChunked = false
    /// `close` in Connection.
    private(set) var saysClose = false
    /// `keep-alive` in Connection.
    private(set) var saysKeepAlive = false
    /// `upgrade` in Connection.
    private(set) var saysUpgrade = false
    /// `100-continue` in Expect.
    private(set) var expectsContinue = false
    /// The protocols of Upgrade, in lower case, with `, ` between.
    private(set) var upgrade: String?

    /// - Parameter bytes: field lines, each with its CRLF, and the CRLF of the empty line. Holds no control characters besides these and
    ///   tabs.
    init(_ bytes: UnsafeRawBufferPointer) throws(HTTP1Fault) {
        var list: [HTTPField] = []
        // A field line of a browser has some 40 bytes.
        list.reserveCapacity(bytes.count >> 5)
        let names = FieldNames.shared
        var offset = 0
        while bytes[offset] != ByteClass.carriageReturn {
            let start = offset
            while ByteClass.isToken(bytes[offset]) { offset &+= 1 }
            let nameBytes = bytes.part(start..<offset)
            guard offset > start, bytes[offset] == UInt8(ascii: ":") else {
                throw offset == start && ByteClass.isWhitespace(bytes[start]) ? .fieldFolded : .fieldNameInvalid
            }
            let valueStart = offset &+ 1
            offset = ByteClass.firstControl(bytes, from: valueStart, to: bytes.count)
            while bytes[offset] == ByteClass.tab {
                offset = ByteClass.firstControl(bytes, from: offset &+ 1, to: bytes.count)
            }
            let padded = bytes.part(valueStart..<offset)
            let value = padded.trimmed()
            if try !read(nameBytes, value, padded) {
                list.append(Self.field(names.name(nameBytes), value))
            }
            offset &+= 2
        }
        // At once: appending one by one goes the long way through the protocols of collections.
        fields.replaceSubrange(0..<0, with: list)
        if isChunked, contentLength != nil { throw .contentLengthWithTransferEncoding }
    }

    /// Whether the connection can be used again (RFC 9112 section 9.3).
    func keepAlive(minorVersion: Int) -> Bool {
        !saysClose && (minorVersion >= 1 || saysKeepAlive)
    }

    private static func field(_ name: HTTPField.Name, _ value: UnsafeRawBufferPointer) -> HTTPField {
        // Bytes that are not UTF-8 have to stay what they are, and a string would not keep them.
        if value.allSatisfy({ $0 < 0x80 }) {
            HTTPField(name: name, value: String(decoding: value, as: UTF8.self))
        } else {
            HTTPField(name: name, value: value)
        }
    }

    /// Takes what it says about the message and the connection.
    ///
    /// A tab beside what frames the message is refused, though RFC 9110 section 5.6.3 has it as whitespace: behind `chunked` it makes the
    /// coding another one for llhttp, and no client sends it.
    ///
    /// - Parameter padded: the value with the whitespace around it.
    /// - Returns: whether that is all it is for (Host).
    private mutating func read(
        _ name: UnsafeRawBufferPointer,
        _ value: UnsafeRawBufferPointer,
        _ padded: UnsafeRawBufferPointer
    ) throws(HTTP1Fault) -> Bool {
        switch name.count {
        case 4 where ByteClass.equals(name, lowercase: "host"):
            guard host == nil else { throw .hostRepeated }
            host = value
            return true
        case 6 where ByteClass.equals(name, lowercase: "expect"):
            if ByteClass.equals(value, lowercase: "100-continue") { expectsContinue = true }
        case 7 where ByteClass.equals(name, lowercase: "upgrade"):
            addUpgrade(value)
        case 10 where ByteClass.equals(name, lowercase: "connection"):
            addConnection(value)
        case 14 where ByteClass.equals(name, lowercase: "content-length"):
            guard contentLength == nil else { throw .contentLengthRepeated }
            guard !padded.contains(ByteClass.tab) else { throw .contentLengthInvalid }
            contentLength = try Self.contentLength(value)
        case 17 where ByteClass.equals(name, lowercase: "transfer-encoding"):
            guard !isChunked, !padded.contains(ByteClass.tab) else { throw .transferEncodingInvalid }
            try Self.checkTransferEncoding(value)
            isChunked = true
        default:
            break
        }
        return false
    }

    /// `1*DIGIT`, at most 19 of them.
    private static func contentLength(_ value: UnsafeRawBufferPointer) throws(HTTP1Fault) -> Int {
        guard (1...19).contains(value.count), value.allSatisfy(ByteClass.isDigit) else { throw .contentLengthInvalid }
        var length: UInt64 = 0
        for byte in value {
            length = length &* 10 &+ UInt64(byte &- 0x30)
        }
        guard let length = Int(exactly: length) else { throw .contentLengthInvalid }
        return length
    }

    private static func checkTransferEncoding(_ value: UnsafeRawBufferPointer) throws(HTTP1Fault) {
        if ByteClass.equals(value, lowercase: "chunked") { return }
        // For the status only: a list of other codings with one `chunked` at its end could be right, if we knew them.
        let codings = value.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
            .map { UnsafeRawBufferPointer(rebasing: $0).trimmed() }
        let areTokens = codings.allSatisfy { coding in !coding.isEmpty && coding.allSatisfy(ByteClass.isToken) }
        let chunked = codings.indices.filter { ByteClass.equals(codings[$0], lowercase: "chunked") }
        throw areTokens && chunked == [codings.count - 1] ? .transferEncodingUnsupported : .transferEncodingInvalid
    }

    private mutating func addConnection(_ value: UnsafeRawBufferPointer) {
        for element in value.split(separator: UInt8(ascii: ",")) {
            let option = UnsafeRawBufferPointer(rebasing: element).trimmed()
            if ByteClass.equals(option, lowercase: "close") {
                saysClose = true
            } else if ByteClass.equals(option, lowercase: "keep-alive") {
                saysKeepAlive = true
            } else if ByteClass.equals(option, lowercase: "upgrade") {
                saysUpgrade = true
            }
        }
    }

    /// `#( token [ "/" token ] )`; an element that is none is passed over, as an unknown protocol would be.
    private mutating func addUpgrade(_ value: UnsafeRawBufferPointer) {
        for element in value.split(separator: UInt8(ascii: ",")) {
            let name = UnsafeRawBufferPointer(rebasing: element).trimmed()
            let parts = name.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
            guard parts.count <= 2, parts.allSatisfy({ !$0.isEmpty && $0.allSatisfy(ByteClass.isToken) }) else { continue }
            let text = String(decoding: name.map(ByteClass.lowercased), as: UTF8.self)
            upgrade = upgrade.map { $0 + ", " + text } ?? text
        }
    }
}

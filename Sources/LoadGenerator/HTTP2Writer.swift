/// The frames of a client that opens streams and reads them (RFC 9113), and header blocks of literals only (RFC 7541 section 6.2.2).
enum HTTP2Writer {
    /// Of a stream and of the connection: as large as they can be (RFC 9113 section 6.9.1), so that reading costs no answers.
    static let windowMax = Int(Int32.max)
    private static let windowAtFirst = 65535

    /// The connection preface, SETTINGS, and the connection's window.
    ///
    /// - Parameter takesTable: whether the server may keep a dynamic table of the fields that it sends (of 4096 bytes, as when nobody says
    ///   anything). Its status is still to be read, for that of a success has an index in the static table.
    static func appendPreface(takesTable: Bool = false, into out: inout [UInt8]) {
        out.append(contentsOf: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
        let settings = (takesTable ? [] : [(1, 0)]) + [(2, 0), (4, windowMax)]
        appendHead(length: settings.count * 6, kind: 4, flags: 0, stream: 0, into: &out)
        for (identifier, value) in settings {
            out.append(contentsOf: [UInt8(identifier >> 8), UInt8(identifier & 255)])
            appendWord(UInt32(value), into: &out)
        }
        appendWindowUpdate(bytes: windowMax - windowAtFirst, into: &out)
    }

    /// A whole request without a body.
    static func appendRequest(
        stream: Int32, path: [UInt8], authority: String, isTLS: Bool, fields: [(name: String, value: [UInt8])], into out: inout [UInt8]
    ) {
        var block: [UInt8] = [0x82, isTLS ? 0x87 : 0x86]
        block.append(0x04)
        appendString(path, into: &block)
        block.append(0x01)
        appendString(Array(authority.utf8), into: &block)
        for (name, value) in fields {
            block.append(0)
            appendString(Array(name.lowercased().utf8), into: &block)
            appendString(value, into: &block)
        }
        // END_STREAM and END_HEADERS.
        appendHead(length: block.count, kind: 1, flags: 5, stream: stream, into: &out)
        out.append(contentsOf: block)
    }

    /// The same request over and over on one connection, with another path each time: the first puts what stays the same into the server's
    /// table (RFC 7541 section 6.2.1), the others name it by its place there.
    ///
    /// - Parameter isFirst: of this connection. Nothing else may enter the table.
    static func appendRepeatedRequest(
        stream: Int32, path: [UInt8], authority: String, isTLS: Bool, fields: [(name: String, value: [UInt8])], isFirst: Bool,
        into out: inout [UInt8]
    ) {
        var block: [UInt8] = [0x82, isTLS ? 0x87 : 0x86, 0x04]
        appendString(path, into: &block)
        if isFirst {
            block.append(0x41)
            appendString(Array(authority.utf8), into: &block)
            for (name, value) in fields {
                block.append(0x40)
                appendString(Array(name.lowercased().utf8), into: &block)
                appendString(value, into: &block)
            }
        } else {
            // The newest entry comes first, behind the 61 of the static table.
            for index in (0...fields.count).reversed() { block.append(0x80 | UInt8(62 + index)) }
        }
        appendHead(length: block.count, kind: 1, flags: 5, stream: stream, into: &out)
        out.append(contentsOf: block)
    }

    /// An extended CONNECT for a WebSocket (RFC 8441 section 4); its stream stays open.
    static func appendWebSocketConnect(stream: Int32, path: [UInt8], authority: String, isTLS: Bool, into out: inout [UInt8]) {
        var block: [UInt8] = []
        func append(_ name: String, _ value: [UInt8]) {
            block.append(0)
            appendString(Array(name.utf8), into: &block)
            appendString(value, into: &block)
        }
        block.append(0x02)
        appendString(Array("CONNECT".utf8), into: &block)
        append(":protocol", Array("websocket".utf8))
        block.append(isTLS ? 0x87 : 0x86)
        block.append(0x04)
        appendString(path, into: &block)
        block.append(0x01)
        appendString(Array(authority.utf8), into: &block)
        append("sec-websocket-version", Array("13".utf8))
        appendHead(length: block.count, kind: 1, flags: 4, stream: stream, into: &out)
        out.append(contentsOf: block)
    }

    /// A whole DATA frame, of at most 16384 bytes.
    static func appendData(stream: Int32, _ bytes: [UInt8], into out: inout [UInt8]) {
        appendHead(length: bytes.count, kind: 0, flags: 0, stream: stream, into: &out)
        out.append(contentsOf: bytes)
    }

    static func appendSettingsAcknowledgement(into out: inout [UInt8]) {
        appendHead(length: 0, kind: 4, flags: 1, stream: 0, into: &out)
    }

    static func appendPong(_ payload: [UInt8], into out: inout [UInt8]) {
        appendHead(length: 8, kind: 6, flags: 1, stream: 0, into: &out)
        out.append(contentsOf: payload)
    }

    /// Of the connection.
    static func appendWindowUpdate(bytes: Int, into out: inout [UInt8]) {
        appendHead(length: 4, kind: 8, flags: 0, stream: 0, into: &out)
        appendWord(UInt32(bytes), into: &out)
    }

    private static func appendHead(length: Int, kind: UInt8, flags: UInt8, stream: Int32, into out: inout [UInt8]) {
        out.append(contentsOf: [UInt8(length >> 16 & 255), UInt8(length >> 8 & 255), UInt8(length & 255), kind, flags])
        appendWord(UInt32(bitPattern: stream), into: &out)
    }

    private static func appendWord(_ word: UInt32, into out: inout [UInt8]) {
        for shift: UInt32 in [24, 16, 8, 0] { out.append(UInt8(truncatingIfNeeded: word >> shift)) }
    }

    /// RFC 7541 section 5.2, not in Huffman code.
    private static func appendString(_ text: [UInt8], into out: inout [UInt8]) {
        if text.count < 127 {
            out.append(UInt8(text.count))
        } else {
            out.append(127)
            var rest = text.count - 127
            while rest >= 128 {
                out.append(UInt8(rest & 127) | 128)
                rest >>= 7
            }
            out.append(UInt8(rest))
        }
        out.append(contentsOf: text)
    }
}

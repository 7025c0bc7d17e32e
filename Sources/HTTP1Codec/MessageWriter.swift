import HTTPTypes

/// What requests and responses have in common when they are written.
enum MessageWriter {
    static func lineEnd(into out: inout [UInt8]) {
        out.append(ByteClass.carriageReturn)
        out.append(ByteClass.lineFeed)
    }

    static func decimal(_ number: Int, into out: inout [UInt8]) {
        out.append(contentsOf: String(number).utf8)
    }

    static func contentLength(_ length: Int, into out: inout [UInt8]) {
        precondition(length >= 0, "a length below zero")
        out.append(contentsOf: "Content-Length: ".utf8)
        decimal(length, into: &out)
        lineEnd(into: &out)
    }

    /// Appends all fields but those that frame the message, which are never the caller's.
    static func fields(_ fields: HTTPFields, skippingHost: Bool = false, into out: inout [UInt8]) {
        for field in fields {
            switch field.name.canonicalName.utf8.count {
            case 4 where skippingHost && field.name.canonicalName == "host": continue
            case 14 where field.name == .contentLength: continue
            case 17 where field.name == .transferEncoding: continue
            default: break
            }
            out.append(contentsOf: field.name.rawName.utf8)
            out.append(UInt8(ascii: ":"))
            out.append(ByteClass.space)
            field.withUnsafeBytesOfValue { out.append(contentsOf: $0) }
            lineEnd(into: &out)
        }
    }
}

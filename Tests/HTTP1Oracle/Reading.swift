import Foundation

/// A request as every parser can tell it.
struct ReadRequest {
    var method: String
    var target: String
    var authority: String?
    var minorVersion: Int
    /// Names in lower case; bytes of values as received.
    var headers: [(name: String, value: [UInt8])]
    var body: [UInt8] = []
    var keepAlive: Bool

    var json: String {
        let fields = headers.map { "[\(quoted($0.name.utf8)),\(quoted($0.value))]" }.joined(separator: ",")
        return """
            {"method":\(quoted(method.utf8)),"target":\(quoted(target.utf8)),"authority":\(authority.map { quoted($0.utf8) } ?? "null"),\
            "version":"1.\(minorVersion)","headers":[\(fields)],"body":"\(Data(body).base64EncodedString())","keepAlive":\(keepAlive)}
            """
    }
}

/// What one parser made of all that one client sent.
struct Reading {
    enum End {
        /// Nothing is unfinished.
        case complete
        case incomplete
        case refused(String)
    }

    var requests: [ReadRequest] = []
    /// Its head is complete, and it is not.
    var partial: ReadRequest?
    var end = End.complete

    var json: String {
        let word =
            switch end {
            case .complete: "complete"
            case .incomplete: "incomplete"
            case .refused(let why): "refused: \(why)"
            }
        let list = requests.map(\.json).joined(separator: ",")
        return "{\"requests\":[\(list)],\"partial\":\(partial?.json ?? "null"),\"end\":\(quoted(word.utf8))}"
    }
}

/// A JSON string with a character for every byte.
private func quoted(_ bytes: some Sequence<UInt8>) -> String {
    var text = "\""
    for byte in bytes {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"):
            text += "\\"
            text.unicodeScalars.append(Unicode.Scalar(byte))
        case 0x20...0x7E: text.unicodeScalars.append(Unicode.Scalar(byte))
        default: text += "\\u00" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
    }
    return text + "\""
}

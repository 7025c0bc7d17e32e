import EventStreamCodec

/// The processing model of WHATWG HTML section 9.2.6, sentence by sentence and with no thought of speed, to compare with.
enum Reference {
    static func decode(_ bytes: [UInt8]) -> [Output] {
        var scalars = Array(String(decoding: bytes, as: UTF8.self).unicodeScalars)
        if scalars.first == "\u{FEFF}" { scalars.removeFirst() }
        var outputs: [Output] = []
        var data = String.UnicodeScalarView()
        var type = String.UnicodeScalarView()
        var idBuffer = String.UnicodeScalarView()
        var lastEventID = ""
        var retry: Int?
        var comments = 0
        for line in lines(scalars) {
            guard let first = line.first else {
                lastEventID = String(idBuffer)
                if !data.isEmpty {
                    data.removeLast()
                    let name = type.isEmpty ? "message" : String(type)
                    outputs.append(.event(EventStreamEvent(type: name, data: String(data), lastEventID: lastEventID)))
                }
                data = String.UnicodeScalarView()
                type = String.UnicodeScalarView()
                continue
            }
            if first == ":" {
                comments += 1
                continue
            }
            let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            var value = parts.count == 2 ? Array(parts[1]) : []
            if value.first == " " { value.removeFirst() }
            switch Array(parts[0]) {
            case Array("event".unicodeScalars): type = String.UnicodeScalarView(value)
            case Array("data".unicodeScalars):
                data.append(contentsOf: value)
                data.append("\n")
            case Array("id".unicodeScalars):
                if !value.contains("\0") { idBuffer = String.UnicodeScalarView(value) }
            case Array("retry".unicodeScalars):
                if !value.isEmpty, value.allSatisfy({ ("0"..."9").contains($0) }) {
                    retry = Int(String(String.UnicodeScalarView(value))).map { min($0, 2_147_483_647) } ?? 2_147_483_647
                }
            default: break
            }
        }
        return outputs + [.state(lastEventID: lastEventID, retryMilliseconds: retry, comments: comments)]
    }

    /// The lines that have an end.
    private static func lines(_ scalars: [Unicode.Scalar]) -> [[Unicode.Scalar]] {
        var lines: [[Unicode.Scalar]] = []
        var line: [Unicode.Scalar] = []
        for (index, scalar) in scalars.enumerated() {
            switch scalar {
            case "\n" where index > 0 && scalars[index - 1] == "\r": continue
            case "\r", "\n":
                lines.append(line)
                line = []
            default: line.append(scalar)
            }
        }
        return lines
    }
}

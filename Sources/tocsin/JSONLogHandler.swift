import Foundation
import JSONCodec
import Logging
import NotificationCore

/// Logs as one JSON object a line on standard error: `time`, `level`, `message`, and the metadata as further members.
struct JSONLogHandler: LogHandler {
    let label: String
    var logLevel = Logger.Level.info
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var out: [UInt8] = Array(#"{"time":""#.utf8)
        Timestamp.append(milliseconds: Int64(Date().timeIntervalSince1970 * 1000), to: &out)
        out.append(contentsOf: #"","level":"\#(event.level)","message":"#.utf8)
        JSONText.appendString(event.message.description, into: &out)
        let all = metadata.merging(event.metadata ?? [:]) { $1 }
        for (key, value) in all.sorted(by: { $0.key < $1.key }) {
            out.append(UInt8(ascii: ","))
            JSONText.appendString(key, into: &out)
            out.append(UInt8(ascii: ":"))
            JSONText.appendString("\(value)", into: &out)
        }
        out.append(contentsOf: "}\n".utf8)
        try? FileHandle.standardError.write(contentsOf: out)
    }
}

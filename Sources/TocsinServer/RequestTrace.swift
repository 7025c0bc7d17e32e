import HTTPTypes
import Logging
import NotificationCore
import Transports

/// Ties the log's lines of one request together, and to the trace that it belongs to, in the words of OpenTelemetry (logs data model,
/// "Trace Context in non-OTLP Log Formats"). Only made where something of a request is logged.
final class RequestTrace: Sendable {
    /// What the request says of itself; nil: it is the first of its trace.
    private let parent: TraceParent?
    private let own: TraceParent
    private let method: String
    private let path: String

    init(_ request: HTTPRequest) {
        var generator = Randomness()
        let values = request.headerFields[values: .traceparent]
        parent = values.count == 1 ? TraceParent(values[0]) : nil
        let random = SIMD2<UInt64>(generator.next(), generator.next() | 1)
        own = TraceParent(traceID: parent?.traceID ?? random, spanID: generator.next() | 1, flags: parent?.flags ?? 0)!
        method = request.method.rawValue
        path = Self.withoutSecrets(request.path ?? "")
    }

    /// A token may stand in a path by mistake, and what is behind the `?` may hold one that belongs there: long words are left out.
    private static func withoutSecrets(_ path: String) -> String {
        let words = path.prefix { $0 != "?" }.prefix(200).split(omittingEmptySubsequences: false) { $0 == "/" || $0 == "." }
        return words.reduce(into: "") { text, word in
            if word.startIndex > path.startIndex { text.append(path[path.index(before: word.startIndex)]) }
            text += word.utf8.count < wordBytesMax ? word : "…"
        }
    }

    /// Parts of tokens, tickets and keys have at least as many.
    private static let wordBytesMax = 20

    var metadata: Logger.Metadata {
        var metadata: Logger.Metadata = [
            "trace_id": "\(own.traceText)", "span_id": "\(TraceParent.hexadecimal(own.spanID))",
            "trace_flags": "\(own.description.suffix(2))", "method": "\(method)", "path": "\(path)",
        ]
        if let parent { metadata["parent_span_id"] = "\(TraceParent.hexadecimal(parent.spanID))" }
        return metadata
    }

    /// One line of the request.
    func log(_ message: String, _ more: [String: String], to logger: Logger) {
        logger.debug("\(message)", metadata: metadata(more.mapValues { "\($0)" }))
    }

    func metadata(_ more: Logger.Metadata) -> Logger.Metadata { metadata.merging(more) { $1 } }
}

extension HTTPField.Name {
    static let traceparent = HTTPField.Name("traceparent")!
}

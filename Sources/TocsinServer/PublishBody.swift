import HTTPTypes
import JSONCodec
import NotificationCore
import Transports

/// The payload of a publish request, by its media type.
enum PublishBody {
    struct Payload {
        var data: [UInt8]
        var isBase64 = false
        /// The type of a CloudEvent.
        var event: FieldText?
    }

    static func mediaType(_ request: HTTPRequest) -> String {
        (request.headerFields[.contentType] ?? "").prefix { $0 != ";" }.trimmed.lowercased()
    }

    static func payload(_ request: HTTPRequest, _ body: [UInt8]) throws(Problem) -> Payload {
        if request.headerFields[HTTPField.Name("ce-specversion")!] != nil { return try CloudEvent.binary(request, body) }
        let type = mediaType(request)
        switch type {
        case "application/cloudevents+json":
            return try CloudEvent.structured(body)
        case "application/json", "":
            return Payload(data: try JSONSlice.minified(body[...]))
        case _ where type.hasSuffix("+json"):
            return Payload(data: try JSONSlice.minified(body[...]))
        case "text/plain":
            return Payload(data: try text(body))
        case "application/octet-stream":
            return Payload(data: base64(body), isBase64: true)
        case "application/x-www-form-urlencoded":
            // What curl -d says unless it is told otherwise: taken for JSON, so that one curl is enough to publish.
            return Payload(data: try JSONSlice.minified(body[...]))
        default:
            throw unsupported(type, "application/json, text/plain, application/octet-stream or a CloudEvent")
        }
    }

    static func unsupported(_ type: String, _ wanted: String) -> Problem {
        Problem(
            "unsupported-media-type", "Unsupported media type", status: 415,
            detail: "\(type.prefix(100)) is not taken here; \(wanted) is"
        )
    }

    static func text(_ body: [UInt8]) throws(Problem) -> [UInt8] {
        guard let text = String(validating: body, as: UTF8.self) else {
            throw Problem("bad-request", "Not UTF-8", status: 400, detail: "text/plain has to be UTF-8")
        }
        var out: [UInt8] = []
        JSONText.appendString(text, into: &out)
        return out
    }

    /// RFC 4648, section 4, in quotes.
    static func base64(_ bytes: [UInt8]) -> [UInt8] {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count / 3 * 4 + 6)
        out.append(UInt8(ascii: "\""))
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let count = min(3, bytes.count - start)
            var bits = UInt32(bytes[start]) << 16
            if count > 1 { bits |= UInt32(bytes[start + 1]) << 8 }
            if count > 2 { bits |= UInt32(bytes[start + 2]) }
            for place in 0..<4 {
                out.append(place <= count ? alphabet[Int(bits >> UInt32(18 - 6 * place)) & 63] : UInt8(ascii: "="))
            }
        }
        out.append(UInt8(ascii: "\""))
        return out
    }
}

/// CloudEvents 1.0 over HTTP, in both modes. Either way the payload of the notification is the event in its JSON format.
enum CloudEvent {
    /// The `type` becomes the notification's event.
    private static func eventType(_ text: String) throws(Problem) -> FieldText {
        guard let type = FieldText(text) else {
            throw Problem(
                "bad-cloudevent", "Not a CloudEvent", status: 400,
                detail: "type has to have 1 to \(FieldText.bytesMax) bytes and no control characters"
            )
        }
        return type
    }

    static func structured(_ body: [UInt8]) throws(Problem) -> PublishBody.Payload {
        let event = try JSONSlice.checked(body[...])
        guard event.kind == .object else {
            throw Problem("bad-cloudevent", "Not a CloudEvent", status: 400, detail: "an object is wanted; batches go to /v1/publish")
        }
        for name in ["id", "source", "type"] where event[name]?.string()?.isEmpty ?? true { throw missing(name) }
        guard event["specversion"]?.string() == "1.0" else { throw missing("specversion (1.0)") }
        return PublishBody.Payload(data: Array(event.bytes), event: try eventType(event["type"]!.string()!))
    }

    /// Attributes are `ce-` fields, the body is the data.
    static func binary(_ request: HTTPRequest, _ body: [UInt8]) throws(Problem) -> PublishBody.Payload {
        var attributes: [(name: String, value: String)] = []
        for field in request.headerFields where field.name.canonicalName.hasPrefix("ce-") {
            guard let value = QueryItems.decode(field.value.utf8, plusIsSpace: false) else {
                throw .badParameter(field.name.rawName, "is not percent-encoded UTF-8")
            }
            attributes.append((String(field.name.canonicalName.dropFirst(3)), value))
        }
        func value(_ name: String) -> String? { attributes.first { $0.name == name }?.value }
        for name in ["id", "source", "type"] where value(name)?.isEmpty ?? true { throw missing("ce-" + name) }
        guard value("specversion") == "1.0" else { throw missing("ce-specversion (1.0)") }
        var out = [UInt8(ascii: "{")]
        for (name, value) in attributes where name != "datacontenttype" && name != "data" && name != "data_base64" {
            if out.count > 1 { out.append(UInt8(ascii: ",")) }
            JSONText.appendString(name, into: &out)
            out.append(UInt8(ascii: ":"))
            JSONText.appendString(value, into: &out)
        }
        let type = PublishBody.mediaType(request)
        if !body.isEmpty {
            if !type.isEmpty {
                out.append(contentsOf: #","datacontenttype":"#.utf8)
                JSONText.appendString(type, into: &out)
            }
            if type.isEmpty || type == "application/json" || type.hasSuffix("+json") {
                out.append(contentsOf: #","data":"#.utf8)
                out.append(contentsOf: try JSONSlice.minified(body[...]))
            } else if type.hasPrefix("text/") {
                out.append(contentsOf: #","data":"#.utf8)
                out.append(contentsOf: try PublishBody.text(body))
            } else {
                out.append(contentsOf: #","data_base64":"#.utf8)
                out.append(contentsOf: PublishBody.base64(body))
            }
        }
        out.append(UInt8(ascii: "}"))
        return PublishBody.Payload(data: out, event: try eventType(value("type")!))
    }

    private static func missing(_ name: String) -> Problem {
        Problem("bad-cloudevent", "Not a CloudEvent", status: 400, detail: "\(name) is missing or not valid")
    }
}

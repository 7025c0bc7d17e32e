package import HTTPTypes
import JSONCodec

/// A refusal, as `application/problem+json` (RFC 9457) says it.
package struct Problem: Error, Hashable, Sendable {
    /// The last part of the type's URI: `/problems/bad-channel`.
    package var type: String
    package var title: String
    package var status: Int
    package var detail: String
    /// The limit that refused it, and where it is configured.
    package var rule: String?
    package var configurationKey: String?
    /// The part of the request's JSON that it is about, a URI fragment (RFC 6901 section 6).
    package var pointer: String?
    /// What stands in the log in place of `detail`: what the client is not told.
    package var reason: String?
    /// Goes into `Retry-After`.
    package var retryAfterSeconds: Int?
    /// Goes into `Allow`, with 405.
    package var allow: String?
    /// Further header fields.
    package var fields: [String: String] = [:]

    package init(
        _ type: String, _ title: String, status: Int, detail: String, rule: String? = nil, configurationKey: String? = nil,
        retryAfterSeconds: Int? = nil, allow: String? = nil
    ) {
        self.type = type
        self.title = title
        self.status = status
        self.detail = detail
        self.rule = rule
        self.configurationKey = configurationKey
        self.retryAfterSeconds = retryAfterSeconds
        self.allow = allow
    }

    package var json: [UInt8] {
        var out: [UInt8] = []
        appendObject(to: &out)
        out.append(UInt8(ascii: "\n"))
        return out
    }

    package func appendObject(to out: inout [UInt8]) {
        out.append(contentsOf: #"{"type":"#.utf8)
        JSONText.appendString("/problems/" + type, into: &out)
        out.append(contentsOf: #","title":"#.utf8)
        JSONText.appendString(title, into: &out)
        out.append(contentsOf: #","status":"#.utf8)
        JSONText.appendInteger(status, into: &out)
        out.append(contentsOf: #","detail":"#.utf8)
        JSONText.appendString(detail, into: &out)
        if let rule {
            out.append(contentsOf: #","rule":"#.utf8)
            JSONText.appendString(rule, into: &out)
        }
        if let configurationKey {
            out.append(contentsOf: #","configuration_key":"#.utf8)
            JSONText.appendString(configurationKey, into: &out)
        }
        if let pointer {
            out.append(contentsOf: #","pointer":"#.utf8)
            JSONText.appendString(pointer, into: &out)
        }
        out.append(UInt8(ascii: "}"))
    }

    package var response: HTTPResponse {
        var response = HTTPResponse(status: HTTPResponse.Status(integerLiteral: status))
        response.headerFields[.contentType] = "application/problem+json"
        response.headerFields[.cacheControl] = "no-store"
        if let retryAfterSeconds { response.headerFields[.retryAfter] = String(retryAfterSeconds) }
        for (name, value) in fields {
            if let name = HTTPField.Name(name) { response.headerFields[name] = value }
        }
        if let allow { response.headerFields[.allow] = allow }
        return response
    }
}

extension Problem {
    package static func badParameter(_ name: String, _ detail: String) -> Problem {
        Problem("bad-parameter", "A parameter is not valid", status: 400, detail: "\(name): \(detail)")
    }

    package static func badChannel(_ text: String) -> Problem {
        Problem(
            "bad-channel", "Not a channel", status: 400,
            detail: "\"\(text.prefix(80))\" is not a channel here: dot-separated tokens of A-Z a-z 0-9 _ -, at most 16 tokens and 255 bytes"
        )
    }

    package static func badJSON(_ detail: String) -> Problem {
        Problem("bad-json", "Not valid JSON", status: 400, detail: detail)
    }

    package static let bodyTooLarge = Problem("body-too-large", "Body too large", status: 413, detail: "the body is too long")

    package static let tooManyBodies = Problem(
        "overloaded", "Too many bodies at once", status: 503, detail: "too many bytes of requests are on their way",
        rule: "bytes of request bodies that are being read", retryAfterSeconds: 1
    )

    package static func notFound(_ detail: String) -> Problem {
        Problem("not-found", "Not found", status: 404, detail: detail)
    }

    package static func methodNotAllowed(_ allow: String) -> Problem {
        Problem("method-not-allowed", "Method not allowed", status: 405, detail: "this path takes \(allow)", allow: allow)
    }

    package static func goingAway(retryAfterSeconds: Int) -> Problem {
        Problem(
            "going-away", "The server is going away", status: 503, detail: "it restarts or shuts down; come back later",
            retryAfterSeconds: retryAfterSeconds
        )
    }
}

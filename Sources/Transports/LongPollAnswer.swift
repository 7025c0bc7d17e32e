package import HTTPTypes
package import NotificationCore

/// The answers of a long-poll.
package enum LongPollAnswer {
    /// At most so much goes into one answer.
    package static let notificationsMax = 1000
    package static let bytesMax = 1 << 20

    package static func body(messages: [Notification], gaps: [Gap], epoch: LogEpoch, offset: UInt64) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(messages.reduce(64) { $0 + $1.object.count + 1 })
        out.append(contentsOf: #"{"position":""#.utf8)
        Position.append(epoch: epoch, offset: offset, to: &out)
        out.append(contentsOf: #"","messages":["#.utf8)
        var isFirst = true
        for gap in gaps {
            if !isFirst { out.append(UInt8(ascii: ",")) }
            isFirst = false
            ControlObject.append(gap, epoch: epoch, to: &out)
        }
        for message in messages {
            if !isFirst { out.append(UInt8(ascii: ",")) }
            isFirst = false
            out.append(contentsOf: message.object)
        }
        out.append(contentsOf: "]}\n".utf8)
        return out
    }

    package static func response(waitSeconds: Int) -> HTTPResponse {
        var response = HTTPResponse(status: .ok)
        response.headerFields[.contentType] = "application/json"
        response.headerFields[.cacheControl] = "no-store"
        response.headerFields[.preferenceApplied] = "wait=\(waitSeconds)"
        return response
    }
}

/// The head of an SSE answer.
package enum EventStreamAnswer {
    package static var response: HTTPResponse {
        var response = HTTPResponse(status: .ok)
        response.headerFields[.contentType] = "text/event-stream; charset=utf-8"
        response.headerFields[.cacheControl] = "no-store"
        response.headerFields[.accelBuffering] = "no"
        response.headerFields[.xContentTypeOptions] = "nosniff"
        return response
    }
}

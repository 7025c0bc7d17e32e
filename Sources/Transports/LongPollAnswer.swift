package import HTTPTypes
package import NotificationCore

/// The answers of a long-poll.
package enum LongPollAnswer {
    /// At most so much goes into one answer.
    package static let bytesMax = 1 << 20
    package static let room = Hub.Room(notifications: 1000, bytes: bytesMax)
    /// A client that falls back takes an answer that does not come for a way that does not work: the first one is to come through a slow
    /// line within its 5 seconds, the others within its 35.
    package static let roomOfFirst = Hub.Room(notifications: 1000, bytes: 16 << 10)
    private static let roomOfSession = Hub.Room(notifications: 1000, bytes: 128 << 10)

    /// What goes into one answer to a request.
    package static func room(_ session: SubscribeRequest.PollSession?) -> Hub.Room {
        var room =
            switch session {
            case nil: room
            case .new: roomOfFirst
            case .known: roomOfSession
            }
        room.holdsAllStates = true
        return room
    }

    /// What an answer has besides its messages.
    package struct Frame {
        package var session: SessionID?
        package var network: UInt32 = 0
        /// Of the request's subscriptions, at least one.
        package var positions: [Position]
        /// Whether the request had a list of them.
        package var isList = false
        /// Alerts that the user has not read; nil if no user was named.
        package var unread: Int?
        /// Until the client's token ends, if that is soon.
        package var tokenMilliseconds: Int?
        /// Control messages, which come before the others; each a JSON object.
        package var controls: [[UInt8]] = []

        package init(positions: [Position]) {
            self.positions = positions
        }

        /// - Parameter place: gets where that stands which is said of the session.
        func append(to out: inout [UInt8], placeOfSession place: inout Int) {
            out.append(contentsOf: #"{"position":""#.utf8)
            positions[0].append(to: &out)
            out.append(UInt8(ascii: "\""))
            if isList { out.append(contentsOf: ",\"subscriptions\":\(ControlObject.list(positions))".utf8) }
            place = out.count
            if let session { LongPollAnswer.append(session: session, network: network, to: &out) }
            if let unread { out.append(contentsOf: ",\"unread\":\(unread)".utf8) }
            if let tokenMilliseconds { out.append(contentsOf: ",\"token_expires_in_ms\":\(tokenMilliseconds)".utf8) }
        }
    }

    package static func body(_ items: [PageItem], position: Position) -> [UInt8] {
        body(items, Frame(positions: [position]))
    }

    package static func append(session: SessionID, network: UInt32, to out: inout [UInt8]) {
        let place = SessionID.hexadecimal(UInt64(network), digits: 8)
        out.append(contentsOf: #","session":"\#(session)","network":"\#(place)""#.utf8)
    }

    package static func body(_ items: [PageItem], _ frame: Frame) -> [UInt8] {
        var place = 0
        return body(items, frame, placeOfSession: &place)
    }

    static func body(_ items: [PageItem], _ frame: Frame, placeOfSession place: inout Int) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(items.reduce(96) { $0 + ($1.notification?.object.count ?? 200) + 1 })
        frame.append(to: &out, placeOfSession: &place)
        out.append(contentsOf: ",\"messages\":[".utf8)
        for (index, object) in frame.controls.enumerated() {
            if index > 0 { out.append(UInt8(ascii: ",")) }
            out.append(contentsOf: object)
        }
        for (index, item) in items.enumerated() {
            if index > 0 || !frame.controls.isEmpty { out.append(UInt8(ascii: ",")) }
            switch item {
            case .gap(let gap): ControlObject.append(gap, to: &out)
            case .notification(let notification): out.append(contentsOf: notification.object)
            case .marked(let notification, let skipped, let position):
                notification.append(position: position, skipped: skipped, to: &out)
            case .snapshot(let snapshot, let position): ControlObject.append(snapshot, position: position, to: &out)
            case .digest(let channel, let digest, let position):
                ControlObject.append(digest, channel: channel, position: position, to: &out)
            }
        }
        out.append(contentsOf: "]}\n".utf8)
        return out
    }

    package static func response(waitSeconds: Int) -> HTTPResponse {
        var response = HTTPResponse(status: .ok)
        response.headerFields[.contentType] = "application/json"
        response.headerFields[.cacheControl] = "no-store"
        response.headerFields[.vary] = "Accept"
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
        response.headerFields[.vary] = "Accept"
        return response
    }
}

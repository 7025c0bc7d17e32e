import JSONCodec
import Limits
package import NotificationCore

/// What a receiver can be told of.
package enum WebhookEventType: String, Sendable, CaseIterable {
    /// Somebody has come to a channel where nobody was.
    case channelOccupied = "channel.occupied"
    /// The last one has left it.
    case channelVacated = "channel.vacated"
    /// A user has neither read nor dismissed an alert for so long.
    case alertUnread = "alert.unread"
    /// Connections were refused because a limit was reached.
    case connectionRefused = "connection.refused"

    /// Whether a pattern of channels can say which of them are wanted.
    package var hasChannel: Bool { self != .connectionRefused }

    /// Whether a later event says what there is to know when this one is lost: it goes first when there is no room.
    package var isSupersedable: Bool { self != .alertUnread }
}

/// The bodies of events: `{"type","timestamp","data":{…}}` (Standard Webhooks 1.0.0, "Payload structure"), on one line.
package enum WebhookBody {
    /// Larger payloads are left out. With what is around it a body keeps below the 20 KB that Standard Webhooks advises.
    package static let payloadBytesMax = 16 << 10

    /// Of `channel.occupied` and `channel.vacated`.
    package static func channel(_ type: WebhookEventType, _ channel: ChannelName, timeMilliseconds: Int64) -> [UInt8] {
        object(type, timeMilliseconds) { out in
            out.append(contentsOf: "\"channel\":\"\(channel)\"".utf8)
        }
    }

    /// - Parameters:
    ///   - entry: the alert.
    ///   - timeMilliseconds: when it was found unread.
    package static func alertUnread(_ entry: LogEntry, user: String, timeMilliseconds: Int64) -> [UInt8] {
        let publication = entry.publication
        return object(.alertUnread, timeMilliseconds) { out in
            out.append(contentsOf: "\"channel\":\"\(publication.channel)\",\"sequence\":\(entry.sequence),\"user\":".utf8)
            JSONText.appendString(user, into: &out)
            if let event = publication.event?.string {
                out.append(contentsOf: ",\"event\":".utf8)
                JSONText.appendString(event, into: &out)
            }
            if let key = publication.key?.string {
                out.append(contentsOf: ",\"key\":".utf8)
                JSONText.appendString(key, into: &out)
            }
            out.append(contentsOf: ",\"priority\":\"\(publication.priority.rawValue)\",\"time\":".utf8)
            appendTime(entry.timeMilliseconds, &out)
            if publication.data.count > payloadBytesMax {
                out.append(contentsOf: ",\"data_bytes\":\(publication.data.count)".utf8)
            } else {
                if publication.isBase64 { out.append(contentsOf: ",\"encoding\":\"base64\"".utf8) }
                out.append(contentsOf: ",\"data\":".utf8)
                out.append(contentsOf: publication.data)
            }
        }
    }

    package static func connectionRefused(_ report: RefusalBook.Report, timeMilliseconds: Int64) -> [UInt8] {
        object(.connectionRefused, timeMilliseconds) { out in
            out.append(contentsOf: "\"limit\":".utf8)
            JSONText.appendString(report.limit, into: &out)
            if let address = report.address { out.append(contentsOf: ",\"address\":\"\(address)\"".utf8) }
            out.append(contentsOf: ",\"count\":\(report.count),\"from\":".utf8)
            appendTime(report.firstMilliseconds, &out)
            out.append(contentsOf: ",\"to\":".utf8)
            appendTime(report.lastMilliseconds, &out)
        }
    }

    private static func object(_ type: WebhookEventType, _ timeMilliseconds: Int64, _ members: (inout [UInt8]) -> Void) -> [UInt8] {
        var out = Array("{\"type\":\"\(type.rawValue)\",\"timestamp\":".utf8)
        appendTime(timeMilliseconds, &out)
        out.append(contentsOf: ",\"data\":{".utf8)
        members(&out)
        out.append(contentsOf: "}}".utf8)
        return out
    }

    private static func appendTime(_ milliseconds: Int64, _ out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        Timestamp.append(milliseconds: milliseconds, to: &out)
        out.append(UInt8(ascii: "\""))
    }
}

import JSONCodec

/// One published message, as the log has it. Never changes; shared by every loop that serves subscribers.
package final class Notification: Sendable {
    /// Its number in the log, over all channels: 1, 2, 3, …
    package let offset: UInt64
    /// Its number in its channel: 1, 2, 3, …
    package let sequence: UInt64
    package let channelID: ChannelID
    package let channel: ChannelName
    /// Milliseconds since 1970, by the clock of the node that took it.
    package let timeMilliseconds: Int64
    /// When it is not to be delivered any more, milliseconds since 1970; `Int64.max`: never.
    package let expiresMilliseconds: Int64
    package let event: FieldText?
    package let key: FieldText?
    /// Scores: bytes of the channel's state after it; else 0.
    package let stateBytes: UInt32
    package let isStale: Bool
    /// Scores: it is a change of the channel's state, not a state.
    package let isChange: Bool
    /// The JSON object that stands for it on every transport (protocol, section 2). Encoded once, here.
    package let object: [UInt8]
    /// Where in `object` the position token is, and the payload.
    private let position: Range<Int>
    package let data: Range<Int>

    package init(_ entry: LogEntry, epoch: LogEpoch) {
        offset = entry.offset
        sequence = entry.sequence
        channelID = entry.channel
        channel = entry.publication.channel
        timeMilliseconds = entry.timeMilliseconds
        expiresMilliseconds = entry.expiresMilliseconds
        event = entry.publication.event
        key = entry.publication.key
        stateBytes = entry.stateBytes
        isStale = entry.publication.staleSinceMilliseconds != nil
        isChange = entry.publication.change != nil
        (object, position, data) = Self.encode(entry, epoch)
    }

    /// What it costs to keep, in bytes: the object and this instance around it.
    package var bytes: Int { object.count + 192 }

    /// The object for somebody for whom messages before it were left out, or who stands in the midst of a page.
    package func append(position: Position, skipped: UInt64, to out: inout [UInt8]) {
        out.append(contentsOf: object[..<self.position.lowerBound])
        position.append(to: &out)
        let beforeData = data.lowerBound - Self.dataName.utf8.count
        out.append(contentsOf: object[self.position.upperBound..<beforeData])
        if skipped > 0 {
            out.append(contentsOf: ",\"skipped\":".utf8)
            appendDecimal(skipped, to: &out)
        }
        out.append(contentsOf: object[beforeData...])
    }

    private static let dataName = ",\"data\":"

    private static func encode(_ entry: LogEntry, _ epoch: LogEpoch) -> ([UInt8], position: Range<Int>, data: Range<Int>) {
        let publication = entry.publication
        var out: [UInt8] = []
        out.reserveCapacity(publication.data.count + publication.channel.string.utf8.count + 160)
        switch publication.kind {
        case .notification:
            out.append(contentsOf: #"{"type":"notification","channel":""#.utf8)
            out.append(contentsOf: publication.channel.string.utf8)  // its grammar needs no escapes
            out.append(contentsOf: #"","sequence":"#.utf8)
            appendDecimal(entry.sequence, to: &out)
        case .acknowledgement:
            out.append(contentsOf: #"{"type":"ack""#.utf8)
        }
        out.append(contentsOf: #","position":""#.utf8)
        let positionStart = out.count
        Position.append(epoch: epoch, offset: entry.offset, to: &out)
        let positionEnd = out.count
        out.append(contentsOf: #"","time":""#.utf8)
        Timestamp.append(milliseconds: entry.timeMilliseconds, to: &out)
        out.append(UInt8(ascii: "\""))
        func member(_ name: String, _ text: String?) {
            guard let text else { return }
            out.append(contentsOf: ",\"\(name)\":".utf8)
            JSONText.appendString(text, into: &out)
        }
        member("event", publication.event?.string)
        member("key", publication.key?.string)
        if publication.priority != .normal { member("priority", publication.priority.rawValue) }
        if let ttl = publication.ttlSeconds {
            out.append(contentsOf: ",\"ttl\":".utf8)
            appendDecimal(UInt64(ttl), to: &out)
        }
        member("replaces", publication.replaces?.string)
        member("change", publication.change?.rawValue)
        if let since = publication.staleSinceMilliseconds { member("stale", Timestamp.string(milliseconds: since)) }
        if publication.isBase64 { member("encoding", "base64") }
        out.append(contentsOf: dataName.utf8)
        let start = out.count
        out.append(contentsOf: publication.data)
        let end = out.count
        out.append(UInt8(ascii: "}"))
        return (out, positionStart..<positionEnd, start..<end)
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-11-21T10:00:00.123Z`.
package enum Timestamp {
    /// - Parameter milliseconds: since 1970; years 0 to 9999.
    package static func append(milliseconds: Int64, to out: inout [UInt8]) {
        let (seconds, thousandths) = divide(milliseconds, 1000)
        let (days, secondOfDay) = divide(seconds, 86_400)
        let (year, month, day) = civil(days)
        digits(year, 4, &out)
        out.append(UInt8(ascii: "-"))
        digits(month, 2, &out)
        out.append(UInt8(ascii: "-"))
        digits(day, 2, &out)
        out.append(UInt8(ascii: "T"))
        digits(secondOfDay / 3600, 2, &out)
        out.append(UInt8(ascii: ":"))
        digits(secondOfDay / 60 % 60, 2, &out)
        out.append(UInt8(ascii: ":"))
        digits(secondOfDay % 60, 2, &out)
        out.append(UInt8(ascii: "."))
        digits(thousandths, 3, &out)
        out.append(UInt8(ascii: "Z"))
    }

    package static func string(milliseconds: Int64) -> String {
        var out: [UInt8] = []
        append(milliseconds: milliseconds, to: &out)
        return String(decoding: out, as: UTF8.self)
    }

    /// Day count to calendar date, proleptic Gregorian. The algorithm is H. Hinnant's `civil_from_days`.
    static func civil(_ days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = days + 719_468
        let (era, dayOfEra) = divide(shifted, 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
    }

    private static func divide(_ number: Int64, _ by: Int64) -> (Int64, Int64) {
        let quotient = number >= 0 ? number / by : (number - by + 1) / by
        return (quotient, number - quotient * by)
    }

    private static func digits(_ number: Int64, _ count: Int, _ out: inout [UInt8]) {
        var divisor: Int64 = 1
        for _ in 1..<count { divisor *= 10 }
        while divisor > 0 {
            out.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: number / divisor % 10))
            divisor /= 10
        }
    }
}

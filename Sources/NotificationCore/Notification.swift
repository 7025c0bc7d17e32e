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
    package let position: Range<Int>
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

    /// The same message in another process, of the bytes that stand for it.
    ///
    /// - Returns: nil if the ranges do not lie in `object`, one behind the other and with what stands between them.
    package init?(
        offset: UInt64, sequence: UInt64, channelID: ChannelID, channel: ChannelName, timeMilliseconds: Int64,
        expiresMilliseconds: Int64, event: FieldText?, key: FieldText?, stateBytes: UInt32, isStale: Bool, isChange: Bool,
        object: [UInt8], position: Range<Int>, data: Range<Int>
    ) {
        guard position.lowerBound >= 0, position.upperBound + Self.dataName.utf8CodeUnitCount <= data.lowerBound,
            data.upperBound <= object.count
        else { return nil }
        self.offset = offset
        self.sequence = sequence
        self.channelID = channelID
        self.channel = channel
        self.timeMilliseconds = timeMilliseconds
        self.expiresMilliseconds = expiresMilliseconds
        self.event = event
        self.key = key
        self.stateBytes = stateBytes
        self.isStale = isStale
        self.isChange = isChange
        self.object = object
        self.position = position
        self.data = data
    }

    /// What it costs to keep, in bytes: the object and this instance around it.
    package var bytes: Int { object.count + 192 }

    /// The object for somebody for whom messages before it were left out, or who stands in the midst of a page.
    package func append(position: Position, skipped: UInt64, to out: inout [UInt8]) {
        out.append(contentsOf: object[..<self.position.lowerBound])
        position.append(to: &out)
        let beforeData = data.lowerBound - Self.dataName.utf8CodeUnitCount
        out.append(contentsOf: object[self.position.upperBound..<beforeData])
        if skipped > 0 {
            out.append(contentsOf: ",\"skipped\":".utf8)
            appendDecimal(skipped, to: &out)
        }
        out.append(contentsOf: object[beforeData...])
    }

    private static let dataName: StaticString = ",\"data\":"

    /// Written in one go into memory of the right size: this is done for each message, when it is published and when it is read.
    private static func encode(_ entry: LogEntry, _ epoch: LogEpoch) -> ([UInt8], position: Range<Int>, data: Range<Int>) {
        let publication = entry.publication
        let further = furtherMembers(publication)
        let name = publication.channel.string
        var position = 0..<0
        var data = 0..<0
        // 117: all that is put below between these.
        let capacity =
            117 + ByteWriter.digits(entry.sequence) + ByteWriter.digits(entry.offset) + name.utf8.count + further.count
            + publication.data.count
        let object = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
            var writer = ByteWriter(buffer)
            switch publication.kind {
            case .notification:
                writer.put("{\"type\":\"notification\",\"channel\":\"")
                writer.put(name)  // its grammar needs no escapes
                writer.put("\",\"sequence\":")
                writer.put(entry.sequence)
            case .acknowledgement:
                writer.put("{\"type\":\"ack\"")
            }
            writer.put(",\"position\":\"")
            let positionStart = writer.count
            writer.put(epoch)
            writer.put(".")
            writer.put(entry.offset)
            position = positionStart..<writer.count
            writer.put("\",\"time\":\"")
            writer.putTime(milliseconds: entry.timeMilliseconds)
            writer.put("\"")
            writer.put(further)
            writer.put(dataName)
            let dataStart = writer.count
            writer.put(publication.data)
            data = dataStart..<writer.count
            writer.put("}")
            count = writer.count
        }
        return (object, position, data)
    }

    /// The members that most messages do not have.
    private static func furtherMembers(_ publication: Publication) -> [UInt8] {
        var out: [UInt8] = []
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
        member("traceparent", publication.trace?.description)
        return out
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-11-21T10:00:00.123Z`.
package enum Timestamp {
    /// - Parameter milliseconds: since 1970; years 0 to 9999.
    package static let byteCount = 24

    package static func append(milliseconds: Int64, to out: inout [UInt8]) {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: byteCount) { text in
            write(milliseconds: milliseconds, to: text.baseAddress!)
            out.append(contentsOf: text)
        }
    }

    static func write(milliseconds: Int64, to text: UnsafeMutablePointer<UInt8>) {
        let (seconds, thousandths) = divide(milliseconds, 1000)
        let (days, secondOfDay) = divide(seconds, 86_400)
        let (year, month, day) = civil(days)
        digits(year, 4, text, 0)
        text[4] = UInt8(ascii: "-")
        digits(month, 2, text, 5)
        text[7] = UInt8(ascii: "-")
        digits(day, 2, text, 8)
        text[10] = UInt8(ascii: "T")
        digits(secondOfDay / 3600, 2, text, 11)
        text[13] = UInt8(ascii: ":")
        digits(secondOfDay / 60 % 60, 2, text, 14)
        text[16] = UInt8(ascii: ":")
        digits(secondOfDay % 60, 2, text, 17)
        text[19] = UInt8(ascii: ".")
        digits(thousandths, 3, text, 20)
        text[23] = UInt8(ascii: "Z")
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

    private static func digits(_ number: Int64, _ count: Int, _ text: UnsafeMutablePointer<UInt8>, _ start: Int) {
        var rest = number
        for place in stride(from: start + count - 1, through: start, by: -1) {
            text[place] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
            rest /= 10
        }
    }
}

/// Writes one thing behind the other into memory that has room for all of it.
private struct ByteWriter {
    private let start: UnsafeMutablePointer<UInt8>
    private let capacity: Int
    private(set) var count = 0

    init(_ buffer: UnsafeMutableBufferPointer<UInt8>) {
        start = buffer.baseAddress!
        capacity = buffer.count
    }

    private mutating func room(_ bytes: Int) -> UnsafeMutablePointer<UInt8> {
        precondition(bytes <= capacity - count, "the capacity was computed too small")
        defer { count += bytes }
        return start + count
    }

    mutating func put(_ text: StaticString) {
        room(text.utf8CodeUnitCount).update(from: text.utf8Start, count: text.utf8CodeUnitCount)
    }

    mutating func put(_ text: String) {
        var text = text
        text.withUTF8 { bytes in
            if let first = bytes.baseAddress { room(bytes.count).update(from: first, count: bytes.count) }
        }
    }

    mutating func put(_ bytes: [UInt8]) {
        bytes.withUnsafeBufferPointer { bytes in
            if let first = bytes.baseAddress { room(bytes.count).update(from: first, count: bytes.count) }
        }
    }

    static func digits(_ number: UInt64) -> Int {
        var digits = 1
        var rest = number / 10
        while rest > 0 {
            digits += 1
            rest /= 10
        }
        return digits
    }

    mutating func put(_ number: UInt64) {
        let digits = Self.digits(number)
        let place = room(digits)
        var rest = number
        for at in stride(from: digits - 1, through: 0, by: -1) {
            place[at] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
            rest /= 10
        }
    }

    mutating func put(_ epoch: LogEpoch) {
        let place = room(12)
        for at in 0..<12 {
            let digit = UInt8(truncatingIfNeeded: (epoch.bits >> UInt64(44 - 4 * at)) & 0xf)
            place[at] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
        }
    }

    mutating func putTime(milliseconds: Int64) {
        Timestamp.write(milliseconds: milliseconds, to: room(Timestamp.byteCount))
    }
}

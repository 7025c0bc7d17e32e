import JSONCodec

extension LogEntry {
    /// What was appended, out of the object that stands for it: the other direction of `Notification.init`. For where it is seldom
    /// wanted, so that not both have to be kept.
    package init(_ notification: Notification) {
        var publication = Publication(
            channel: notification.channel, data: Array(notification.object[notification.data]), event: notification.event,
            key: notification.key
        )
        var members = JSONSlice(notification.object[...]).members
        while let (name, value) = members.next(), name != "data" {
            let text = value.string()
            switch name {
            case "type": if text == "ack" { publication.kind = .acknowledgement }
            case "priority": publication.priority = text.flatMap { Priority(rawValue: $0) } ?? .normal
            case "ttl": publication.ttlSeconds = value.integer().flatMap { UInt32(exactly: $0) }
            case "replaces": publication.replaces = text.flatMap { FieldText($0) }
            case "change": publication.change = text.flatMap { Change(rawValue: $0) }
            case "stale": publication.staleSinceMilliseconds = text.flatMap { Timestamp.milliseconds($0) }
            case "encoding": publication.isBase64 = true
            case "traceparent": publication.trace = text.flatMap { TraceParent($0) }
            default: break
            }
        }
        self.init(
            channel: notification.channelID, offset: notification.offset, sequence: notification.sequence,
            timeMilliseconds: notification.timeMilliseconds, stateBytes: notification.stateBytes, publication: publication
        )
    }
}

extension Timestamp {
    /// - Parameter text: as `string` writes it; nil if it is of another form.
    package static func milliseconds(_ text: String) -> Int64? {
        let bytes = Array(text.utf8)
        guard bytes.count == byteCount else { return nil }
        func number(_ range: Range<Int>) -> Int64? {
            var sum: Int64 = 0
            for byte in bytes[range] {
                guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
                sum = sum * 10 + Int64(byte - UInt8(ascii: "0"))
            }
            return sum
        }
        guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10), let hour = number(11..<13),
            let minute = number(14..<16), let second = number(17..<19), let thousandths = number(20..<23), (1...12).contains(month)
        else { return nil }
        let time = ((hour * 60 + minute) * 60 + second) * 1000 + thousandths
        let milliseconds = days(year: year, month: month, day: day) * 86_400_000 + time
        return string(milliseconds: milliseconds) == text ? milliseconds : nil
    }

    /// The other direction of `civil`: `days_from_civil`.
    private static func days(year: Int64, month: Int64, day: Int64) -> Int64 {
        // Years begin in March; none of these is before the year -400.
        let shifted = (month <= 2 ? year - 1 : year) + 400
        let era = shifted / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return (era - 1) * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }
}

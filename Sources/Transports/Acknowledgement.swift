package import JSONCodec
package import NotificationCore

/// What a user has read of a channel: from `POST /v1/acks`, or the command `ack`.
package struct Acknowledgement: Sendable {
    /// Single sequences of one request: a screen of them, many times over.
    package static let sequencesMax = 1000

    package var channel: ChannelName
    package var ranges: [ClosedRange<UInt64>]
    package var isDismissed: Bool

    /// `{"channel":…,"sequences":[…] | "through":n,"dismiss":true}` of checked JSON.
    ///
    /// - Parameter ignoring: members that belong to what is around it.
    package init(_ value: JSONSlice, ignoring: Set<String> = []) throws(Problem) {
        guard value.kind == .object else { throw .badJSON("an object is wanted") }
        var channel: ChannelName?
        var through: UInt64?
        var sequences: [UInt64]?
        isDismissed = false
        for (name, member) in value.members where !ignoring.contains(name) {
            switch name {
            case "channel":
                let text = member.string() ?? ""
                guard let known = ChannelName(text), !known.isReserved else { throw .badChannel(text) }
                channel = known
            case "through":
                guard let last = member.integer().flatMap({ UInt64(exactly: $0) }), last > 0 else {
                    throw .badParameter(name, "a sequence is wanted")
                }
                through = max(through ?? 0, last)
            case "sequences":
                guard member.kind == .array else { throw .badParameter(name, "an array of sequences is wanted") }
                sequences = sequences ?? []
                for element in member.elements {
                    guard let sequence = element.integer().flatMap({ UInt64(exactly: $0) }), sequence > 0 else {
                        throw .badParameter(name, "sequences are whole numbers from 1")
                    }
                    guard sequences!.count < Self.sequencesMax else { throw .badParameter(name, "at most \(Self.sequencesMax) are taken") }
                    sequences!.append(sequence)
                }
            case "dismiss":
                switch String(decoding: member.bytes, as: UTF8.self) {
                case "true": isDismissed = true
                case "false": isDismissed = false
                default: throw .badParameter(name, "true or false is wanted")
                }
            default:
                throw .badParameter(name, "is not known here; known are channel, sequences, through, dismiss")
            }
        }
        guard let channel else { throw .badParameter("channel", "is missing") }
        guard through != nil || sequences != nil else { throw .badParameter("sequences", "is missing, and so is through") }
        self.channel = channel
        ranges = (through.map { [1...$0] } ?? []) + (sequences ?? []).map { $0...$0 }
    }
}

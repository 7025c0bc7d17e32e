import JSONCodec
package import NotificationCore

/// The control messages of WebSocket and SSE: JSON objects without a line break.
package enum ControlObject {
    /// - Parameter unread: alerts that the user has not read; nil if no user was named.
    package static func hello(session: SessionID, heartbeatSeconds: Int, position: Position, unread: Int? = nil) -> [UInt8] {
        let count = unread.map { ",\"unread\":\($0)" } ?? ""
        return Array(
            #"{"type":"hello","session":"\#(session)","heartbeat":\#(heartbeatSeconds),"position":"\#(position)"\#(count)}"#.utf8
        )
    }

    package static func unread(_ count: Int) -> [UInt8] {
        Array(#"{"type":"unread","count":\#(count)}"#.utf8)
    }

    package static func goingAway(retryAfterMilliseconds: Int) -> [UInt8] {
        Array(#"{"type":"going-away","retry_after_ms":\#(retryAfterMilliseconds)}"#.utf8)
    }

    package static func append(_ gap: Gap, to out: inout [UInt8]) {
        out.append(contentsOf: #"{"type":"gap","#.utf8)
        if let channel = gap.channel { out.append(contentsOf: #""channel":"\#(channel)","#.utf8) }
        if let from = gap.from { out.append(contentsOf: #""from":\#(from),"#.utf8) }
        if let to = gap.to { out.append(contentsOf: #""to":\#(to),"#.utf8) }
        out.append(contentsOf: #""reason":"\#(gap.reason.rawValue)""#.utf8)
        append(gap.position, to: &out)
        out.append(UInt8(ascii: "}"))
    }

    package static func append(_ snapshot: ChannelSnapshot, position: Position?, to out: inout [UInt8]) {
        out.append(contentsOf: #"{"type":"snapshot","channel":"\#(snapshot.channel)","sequence":\#(snapshot.sequence)"#.utf8)
        append(position, to: &out)
        if snapshot.timeMilliseconds > 0 {
            out.append(contentsOf: #","time":"\#(Timestamp.string(milliseconds: snapshot.timeMilliseconds))""#.utf8)
        }
        if !snapshot.staleKeys.isEmpty {
            out.append(contentsOf: ",\"stale\":[".utf8)
            for (index, key) in snapshot.staleKeys.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                JSONText.appendString(key, into: &out)
            }
            out.append(UInt8(ascii: "]"))
        }
        out.append(contentsOf: ",\"data\":".utf8)
        out.append(contentsOf: snapshot.data)
        out.append(UInt8(ascii: "}"))
    }

    package static func append(_ digest: Digest, channel: ChannelName, position: Position, to out: inout [UInt8]) {
        out.append(contentsOf: #"{"type":"digest","channel":"\#(channel)","from":\#(digest.from),"to":\#(digest.to)"#.utf8)
        append(position, to: &out)
        out.append(contentsOf: #","count":\#(digest.count),"by_priority":{"#.utf8)
        let counts = Priority.allCases.compactMap { priority in
            digest.byPriority[priority].map { "\"\(priority.rawValue)\":\($0)" }
        }
        out.append(contentsOf: counts.joined(separator: ",").utf8)
        out.append(contentsOf: "},\"newest\":[".utf8)
        for (index, notification) in digest.newest.enumerated() {
            if index > 0 { out.append(UInt8(ascii: ",")) }
            out.append(contentsOf: notification.object)
        }
        out.append(contentsOf: "]}".utf8)
    }

    private static func append(_ position: Position?, to out: inout [UInt8]) {
        guard let position else { return }
        out.append(contentsOf: #","position":""#.utf8)
        position.append(to: &out)
        out.append(UInt8(ascii: "\""))
    }
}

/// Names a connection of a subscriber: 128 random bits, so that it cannot be guessed.
package struct SessionID: Hashable, Sendable, CustomStringConvertible {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    package var description: String { Self.hexadecimal(high) + Self.hexadecimal(low) }

    private static func hexadecimal(_ bits: UInt64) -> String {
        let digits = String(bits, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

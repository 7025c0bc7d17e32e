import JSONCodec
package import NotificationCore

/// The control messages of WebSocket and SSE: JSON objects without a line break.
package enum ControlObject {
    package static func hello(session: SessionID, heartbeatSeconds: Int, position: Position) -> [UInt8] {
        Array(#"{"type":"hello","session":"\#(session)","heartbeat":\#(heartbeatSeconds),"position":"\#(position)"}"#.utf8)
    }

    package static func goingAway(retryAfterMilliseconds: Int) -> [UInt8] {
        Array(#"{"type":"going-away","retry_after_ms":\#(retryAfterMilliseconds)}"#.utf8)
    }

    package static func append(_ gap: Gap, epoch: LogEpoch, to out: inout [UInt8]) {
        out.append(contentsOf: #"{"type":"gap","#.utf8)
        if let channel = gap.channel { out.append(contentsOf: #""channel":"\#(channel)","#.utf8) }
        if let from = gap.from { out.append(contentsOf: #""from":\#(from),"#.utf8) }
        if let to = gap.to { out.append(contentsOf: #""to":\#(to),"#.utf8) }
        out.append(contentsOf: #""reason":"\#(gap.reason.rawValue)","position":"#.utf8)
        JSONText.appendString(Position(epoch: epoch, offset: gap.offset).description, into: &out)
        out.append(UInt8(ascii: "}"))
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

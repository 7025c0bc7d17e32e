import JSONCodec
package import NotificationCore

/// The control messages of WebSocket and SSE: JSON objects without a line break.
package enum ControlObject {
    /// - Parameters:
    ///   - network: names the network that the client is in.
    ///   - positions: of the request's subscriptions, at least one.
    ///   - isList: whether the request had a list of them.
    ///   - unread: alerts that the user has not read; nil if no user was named.
    package static func hello(
        session: SessionID, network: UInt32, heartbeatSeconds: Int, positions: [Position], isList: Bool, unread: Int? = nil
    ) -> [UInt8] {
        let count = unread.map { ",\"unread\":\($0)" } ?? ""
        let list = isList ? ",\"subscriptions\":\(self.list(positions))" : ""
        let place = SessionID.hexadecimal(UInt64(network), digits: 8)
        return Array(
            (#"{"type":"hello","session":"\#(session)","network":"\#(place)","heartbeat":\#(heartbeatSeconds),"#
                + #""position":"\#(positions[0])"\#(list)\#(count)}"#).utf8
        )
    }

    /// `[{"position":"…"},…]`
    static func list(_ positions: [Position]) -> String {
        "[" + positions.map { #"{"position":"\#($0)"}"# }.joined(separator: ",") + "]"
    }

    /// What tells a client when it was sent, so that it sees whether the way to it holds things back. The last one is large: small writes
    /// may be held back where large ones are not.
    ///
    /// - Parameter milliseconds: since `hello`.
    package static func probe(milliseconds: Int, isPadded: Bool) -> [UInt8] {
        let pad = isPadded ? #","pad":""# + String(repeating: " ", count: 2048) + "\"" : ""
        return Array(#"{"type":"probe","at":\#(milliseconds)\#(pad)}"#.utf8)
    }

    package static func unread(_ count: Int) -> [UInt8] {
        Array(#"{"type":"unread","count":\#(count)}"#.utf8)
    }

    package static func goingAway(retryAfterMilliseconds: Int) -> [UInt8] {
        Array(#"{"type":"going-away","retry_after_ms":\#(retryAfterMilliseconds)}"#.utf8)
    }

    /// The token that a stream has now does not cover these channels of it: its client comes back at once, without them.
    package static func noLongerGranted(_ patterns: [ChannelPattern], retryAfterMilliseconds: Int) -> [UInt8] {
        let list = patterns.map { "\"\($0)\"" }.joined(separator: ",")
        return Array(
            #"{"type":"going-away","retry_after_ms":\#(retryAfterMilliseconds),"reason":"not-granted","channels":[\#(list)]}"#.utf8
        )
    }

    package static func tokenExpiring(milliseconds: Int) -> [UInt8] {
        Array(#"{"type":"token-expiring","in_ms":\#(milliseconds)}"#.utf8)
    }

    package static let tokenExpired = Array(#"{"type":"token-expired"}"#.utf8)

    package static func append(_ gap: Gap, to out: inout [UInt8]) {
        out.append(contentsOf: #"{"type":"gap","#.utf8)
        if let channel = gap.channel { out.append(contentsOf: #""channel":"\#(channel)","#.utf8) }
        if gap.channel == nil, !gap.patterns.isEmpty {
            let names = gap.patterns.map { "\"\($0)\"" }.joined(separator: ",")
            out.append(contentsOf: "\"channels\":[\(names)],".utf8)
        }
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

/// Names a session of a subscriber: 128 random bits, so that it cannot be guessed, and where it is served.
package struct SessionID: Hashable, Sendable, CustomStringConvertible {
    private let high: UInt64
    private let low: UInt64
    /// The loop, and the place of the connection there.
    private let location: UInt32

    /// - Parameters:
    ///   - random: 128 bits.
    ///   - loop: number of the event loop that serves it.
    ///   - place: of its connection there; nil: it is one of polls, which have a connection each.
    package init(random: (UInt64, UInt64), loop: Int, place: UInt32?) {
        (high, low) = random
        location = UInt32(loop & 0xff) << 24 | min(place ?? Self.ofPolls, Self.ofPolls)
    }

    private static let ofPolls: UInt32 = 0xff_ffff

    /// - Returns: nil if `text` is not 40 hexadecimal digits in small letters.
    package init?(_ text: String) {
        let digits = Array(text.utf8)
        guard digits.count == 40, digits.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }),
            let high = UInt64(text.prefix(16), radix: 16), let low = UInt64(text.dropFirst(16).prefix(16), radix: 16),
            let location = UInt32(text.suffix(8), radix: 16)
        else { return nil }
        self.high = high
        self.low = low
        self.location = location
    }

    package var loop: Int { Int(location >> 24) }
    package var isOfPolls: Bool { location & 0xff_ffff == Self.ofPolls }
    /// Of its connection, if it is not one of polls.
    package var place: UInt32 { location & 0xff_ffff }

    package var description: String {
        Self.hexadecimal(high, digits: 16) + Self.hexadecimal(low, digits: 16) + Self.hexadecimal(UInt64(location), digits: 8)
    }

    static func hexadecimal(_ bits: UInt64, digits count: Int) -> String {
        let digits = String(bits, radix: 16)
        return String(repeating: "0", count: count - digits.count) + digits
    }
}

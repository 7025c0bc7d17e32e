import JSONCodec
import NotificationCore
import Presence

/// What clients are told of who is on a channel: JSON objects without a line break.
enum PresenceText {
    /// The control message.
    static func event(_ change: PresenceChange) -> [UInt8] {
        var out = Array(#"{"type":"presence","channel":"\#(change.channel)""#.utf8)
        append(change.counts, to: &out)
        for (name, users) in [("joined", change.joined), ("left", change.left)] {
            guard let users else { continue }
            out.append(contentsOf: ",\"\(name)\":[".utf8)
            for (index, user) in users.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                JSONText.appendString(user, into: &out)
            }
            out.append(UInt8(ascii: "]"))
        }
        out.append(UInt8(ascii: "}"))
        return out
    }

    /// The answer to a question.
    static func page(_ channel: ChannelName, _ page: PresencePage) -> [UInt8] {
        var out = Array(#"{"channel":"\#(channel)""#.utf8)
        append(page.counts, to: &out)
        if let members = page.members {
            out.append(contentsOf: ",\"members\":[".utf8)
            for (index, member) in members.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                out.append(contentsOf: "{\"user\":".utf8)
                JSONText.appendString(member.user, into: &out)
                let since = Timestamp.string(milliseconds: member.sinceMilliseconds)
                out.append(contentsOf: #","connections":\#(member.connections),"since":"\#(since)"}"#.utf8)
            }
            out.append(UInt8(ascii: "]"))
        }
        if let next = page.next {
            out.append(contentsOf: ",\"next\":".utf8)
            JSONText.appendString(next, into: &out)
        }
        out.append(UInt8(ascii: "}"))
        return out
    }

    private static func append(_ counts: PresenceCounts, to out: inout [UInt8]) {
        out.append(contentsOf: #","connections":\#(counts.connections),"users":\#(counts.users)"#.utf8)
        if counts.isAtLeast { out.append(contentsOf: #","users_at_least":true"#.utf8) }
    }
}

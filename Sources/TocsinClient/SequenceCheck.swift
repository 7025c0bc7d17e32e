/// Counts what is missing and what comes twice: messages of a channel are numbered 1, 2, 3, …, and each says how many before it were
/// left out on purpose.
struct SequenceCheck: Sendable {
    /// What a subscription to everything may see at once; beyond it the channels are looked at anew.
    private static let channelsMax = 100_000

    private var last: [String: Int] = [:]
    private(set) var lost = 0
    private(set) var duplicates = 0

    /// - Returns: whether the message is new.
    mutating func take(_ object: WireObject) -> Bool {
        guard let channel = object.message.channel else {
            // Numbers may have been given anew.
            if object.message.type == "gap" { last = [:] }
            return true
        }
        switch object.message.type {
        case "notification": return takeNotification(channel, object.message)
        case "snapshot": note(channel, object.message.sequence)
        case "gap", "digest": note(channel, object.to)
        default: break
        }
        return true
    }

    private mutating func takeNotification(_ channel: String, _ message: ClientMessage) -> Bool {
        guard let sequence = message.sequence else { return true }
        if let last = last[channel] {
            guard sequence > last else {
                duplicates += 1
                return false
            }
            // A server that counts nonsense is not to make us count beyond what an Int holds.
            lost += min(max(0, sequence - min(message.skipped, sequence) - last - 1), 1 << 32)
        }
        note(channel, sequence)
        return true
    }

    private mutating func note(_ channel: String, _ sequence: Int?) {
        guard let sequence else { return }
        if last.count >= Self.channelsMax, last[channel] == nil { last = [:] }
        last[channel] = max(last[channel] ?? 0, sequence)
    }
}

import JSONCodec
import NotificationCore

/// What the oracle knows of one client: how far each channel is accounted for.
final class Account {
    let name: String
    let patterns: [ChannelPattern]
    let user: String?
    /// By channel: everything up to here was delivered or explained.
    var known: [String: UInt64] = [:]
    /// The same as of its position: what was told without one is told again to who comes back.
    private var sure: [String: UInt64] = [:]
    /// By channel: where it began to listen, if that is not the beginning.
    var base: [String: UInt64] = [:]
    /// It began at the beginning of what the log had: what was dropped before is not missed.
    var beganEarly = false
    /// It came without a position and named a user: it gets what is unread first.
    var beganUnread = false
    /// Dashboards: by channel and key, the message that it has.
    var values: [String: [String: Int]] = [:]
    /// By channel: the end of a gap that does not move it on.
    var told: [String: UInt64] = [:]
    /// It has come with a position that the log has lost, and is to be told so before anything else.
    var isBeyond = false

    init(name: String, patterns: [ChannelPattern], user: String?) {
        self.name = name
        self.patterns = patterns
        self.user = user
    }

    func through(_ channel: String) -> UInt64 { known[channel] ?? base[channel] ?? 0 }

    /// Its position stands for all that it knows.
    func settle() { sure = known }

    /// It comes with its position.
    func comeBack() { known = sure }

    func begin(_ base: [String: UInt64], early: Bool, unread: Bool) {
        known = [:]
        sure = [:]
        values = [:]
        told = [:]
        // What is unread comes from before.
        self.base = unread ? base.filter { !$0.key.hasPrefix("alerts.") } : base
        beganEarly = early
        beganUnread = unread
    }
}

extension Oracle {
    /// A whole message came to a client.
    func received(_ message: JSONSlice, by account: Account) {
        if account.isBeyond, message["reason"]?.string() != "epoch" {
            return fail("a lost end is told", "\(account.name) got \(String(decoding: message.bytes.prefix(200), as: UTF8.self))")
        }
        let channel = message["channel"]?.string()
        switch message["type"]?.string() {
        case "notification": receivedNotification(message, channel ?? "", account)
        case "gap": receivedGap(message, channel, account)
        case "snapshot": receivedSnapshot(message, channel ?? "", account)
        case "digest": receivedDigest(message, channel ?? "", account)
        case "hello", "unread", "going-away", "ack": break
        default: fail("known types", "\(account.name) got \(String(decoding: message.bytes.prefix(200), as: UTF8.self))")
        }
    }

    /// The message that a payload alone stands for: how many were skipped, the client of a raw stream has to believe; here as
    /// many before it as may have been.
    ///
    /// - Parameter position: nil if the event had none of its own.
    func whole(_ payload: [UInt8], isAck: Bool, position: String?, for account: Account) -> JSONSlice {
        func message(_ members: String) -> JSONSlice {
            let place = position.map { ",\"position\":\"\($0)\"" } ?? ""
            return JSONSlice(Array("{\(members)\(place),\"data\":".utf8 + payload + Array("}".utf8))[...])
        }
        if isAck { return message(#""type":"ack""#) }
        for truth in channels.values where account.patterns.contains(where: { $0.matches(ChannelName(truth.name)!) }) {
            guard let index = truth.pins.firstIndex(where: { $0.data == payload }) else { continue }
            let (pin, sequence) = (truth.pins[index], UInt64(index + 1))
            let first = max(account.through(truth.name), account.told[truth.name] ?? 0) + 1
            var text = #""type":"notification","channel":"\#(truth.name)","sequence":\#(sequence)"#
            var skipped = sequence
            while skipped > first, isExcused(skipped - 1, truth, account) { skipped -= 1 }
            if skipped < sequence { text += #","skipped":\#(sequence - skipped)"# }
            if let key = pin.key { text += ",\"key\":\"\(key)\"" }
            return message(text)
        }
        fail("delivered only what is stored", "\(account.name) got \(String(decoding: payload.prefix(200), as: UTF8.self))")
        return message(#""type":"ack""#)
    }

    private func receivedNotification(_ message: JSONSlice, _ channel: String, _ account: Account) {
        let sequence = message["sequence"]?.unsignedInteger() ?? 0
        let skipped = message["skipped"]?.unsignedInteger() ?? 0
        let truth = self.channel(channel)
        let name = "\(channel)#\(sequence)"
        countDelivery()
        guard account.patterns.contains(where: { $0.matches(ChannelName(channel)!) }) else {
            return fail("only what was asked for", "\(account.name) got \(name)")
        }
        guard let pin = truth[sequence] else {
            return fail("delivered only what is stored", "\(account.name) got \(name), and the log ends with #\(truth.last)")
        }
        check(message, pin, name)
        let through = account.through(channel)
        if sequence <= through { return fail("in order, nothing twice", "\(account.name) got \(name) after #\(through)") }
        let first = sequence - min(skipped, sequence - 1)
        if first <= through {
            return fail("skipped counts what was skipped", "\(account.name) got \(name) with skipped \(skipped) after #\(through)")
        }
        if first > through + 1 {
            explainHole(through + 1...first - 1, truth, account, name)
        }
        for missing in first..<sequence where !isExcused(missing, truth, account) {
            return fail("left out for a reason", "\(account.name) got \(name) with skipped \(skipped), and #\(missing) was to come")
        }
        account.known[channel] = sequence
        if truth.feed.kind == .dashboards { account.values[channel, default: [:]][pin.key ?? ""] = pin.id }
    }

    private func check(_ message: JSONSlice, _ pin: Pin, _ name: String) {
        guard let data = message["data"] else { return fail("delivered as it is stored", "\(name) has no data") }
        if Array(data.bytes) != pin.data || message["key"]?.string() != pin.key || (message["stale"] != nil) != pin.isStale {
            fail("delivered as it is stored", "\(name) was delivered as another message than \(pin.id)")
        }
    }

    /// A hole that no skipped and no gap explains.
    private func explainHole(_ range: ClosedRange<UInt64>, _ truth: ChannelTruth, _ account: Account, _ name: String) {
        if account.told[truth.name] ?? 0 >= range.upperBound { return }
        if account.known[truth.name] == nil {
            if account.beganEarly, range.allSatisfy({ truth.mayBeDropped($0, now: now, untold: untoldCount()) }) { return }
            if account.beganUnread, truth.feed.kind == .alerts, range.allSatisfy({ isExcused($0, truth, account) }) { return }
        }
        fail("nothing missing", "\(account.name) got \(name), and #\(range.lowerBound) to #\(range.upperBound) is missing without a word")
    }

    /// Whether a message that is counted in `skipped` may have been left out.
    private func isExcused(_ sequence: UInt64, _ truth: ChannelTruth, _ account: Account) -> Bool {
        if truth.hasExpired(sequence, now: now) { return true }
        if truth.feed.kind == .dashboards { return truth.isSuperseded(sequence) }
        guard account.beganUnread, let user = account.user, truth.feed.kind == .alerts else { return false }
        return truth.isReplaced(sequence) || truth.mayBeDropped(sequence, now: now, untold: untoldCount())
            || truth.read[user]?.contains(sequence) == true || truth.maybeRead[user]?.contains(sequence) == true
    }

    private func receivedGap(_ message: JSONSlice, _ channel: String?, _ account: Account) {
        let reason = message["reason"]?.string() ?? ""
        if reason == "epoch" { return receivedEpochGap(message, account) }
        if reason == "acks" { return }
        guard let channel else { return fail("gaps say what", "\(account.name): a gap without channel") }
        let truth = self.channel(channel)
        guard let to = message["to"]?.unsignedInteger() else {
            return fail("gaps say what", "\(account.name): a gap without its end")
        }
        let through = account.through(channel)
        let from = message["from"]?.unsignedInteger() ?? through + 1
        let name = "\(account.name) was told of a gap \(reason) \(channel) \(from) to \(to)"
        if from > to || to > truth.last { return fail("gaps are of what there was", "\(name), the log ends with #\(truth.last)") }
        if reason == "retention" {
            guard truth.mayBeDropped(to, now: now, untold: untoldCount()) else {
                return fail("a gap for a reason", "\(name), and #\(to) cannot have been dropped")
            }
            account.known[channel] = max(through, to)
            return
        }
        // One without a position may come again to who was cut off before the next one that has one.
        if message["position"] == nil { account.told[channel] = max(account.told[channel] ?? 0, to) }
        if to <= through, to <= account.told[channel] ?? 0 { return }
        if to <= through { return fail("a gap of what is missing", "\(name) after #\(through)") }
        if from > through + 1 {
            explainHole(through + 1...from - 1, truth, account, "the gap \(reason) from #\(from)")
        }
        for sequence in max(from, through + 1)...to {
            let isRight =
                switch reason {
                case "expired": truth.hasExpired(sequence, now: now)
                case "conflated": truth.feed.kind == .dashboards && truth.isSuperseded(sequence)
                case "read": isExcused(sequence, truth, account)
                default: false
                }
            if !isRight { return fail("a gap for a reason", "\(name), and #\(sequence) was to come") }
        }
        account.known[channel] = to
    }

    /// From here on the client has what is up to the gap's position.
    private func receivedEpochGap(_ message: JSONSlice, _ account: Account) {
        guard account.isBeyond else {
            return fail("a gap for a reason", "\(account.name) was told of a gap epoch, and nothing of what it has was lost")
        }
        account.isBeyond = false
        let position = Position(message["position"]?.string() ?? "")
        var base: [String: UInt64] = [:]
        if let place = position?.places.first {
            for truth in channels.values {
                let offset: UInt64
                switch place {
                case .at(let number): offset = number
                // Channels before the window's own are done; for the others the window's beginning is the least that it has.
                case .within(let window): offset = window.base ?? 0
                case .beginning: offset = 0
                }
                base[truth.name] = UInt64(truth.pins.prefix { $0.offset <= offset }.count)
            }
        }
        if case .within(let window) = position?.places.first {
            // The oracle does not know which channel comes when: it takes what the client had, as far as it is still there.
            for truth in channels.values {
                let through = UInt64(truth.pins.prefix { $0.offset <= window.through }.count)
                base[truth.name] = max(base[truth.name] ?? 0, min(account.through(truth.name), through))
            }
        }
        let values = account.values
        let isUnread = if case .within(let window) = position?.places.first { window.base == nil } else { false }
        account.begin(base, early: true, unread: isUnread && account.user != nil)
        account.base = base
        account.values = values
    }

    private func receivedSnapshot(_ message: JSONSlice, _ channel: String, _ account: Account) {
        let sequence = message["sequence"]?.unsignedInteger() ?? 0
        let truth = self.channel(channel)
        let through = account.through(channel)
        if sequence < through {
            return fail("in order, nothing twice", "\(account.name) got a snapshot of \(channel)#\(sequence) after #\(through)")
        }
        guard let expected = truth.snapshot(at: sequence), let data = message["data"] else {
            return fail("a snapshot is of what there is", "\(account.name) got a snapshot of \(channel)#\(sequence) of \(truth.last)")
        }
        if Value(data) != expected.data {
            return fail("a snapshot is the state", "\(account.name) got a snapshot of \(channel)#\(sequence) that is not the state there")
        }
        let stale = message["stale"]?.elementList.compactMap { $0.string() } ?? []
        if stale != expected.staleKeys { return fail("a snapshot is the state", "stale keys of \(channel)#\(sequence) are \(stale)") }
        account.known[channel] = sequence
        guard truth.feed.kind == .dashboards else { return }
        var values: [String: Int] = [:]
        for (key, value) in data.memberList { values[key] = Value(value)["id"]?.integer }
        account.values[channel] = values
    }

    private func receivedDigest(_ message: JSONSlice, _ channel: String, _ account: Account) {
        let truth = self.channel(channel)
        let through = account.through(channel)
        guard let from = message["from"]?.unsignedInteger(), let to = message["to"]?.unsignedInteger(), to <= truth.last, from <= to else {
            return fail("a digest is of what there is", "\(account.name) got a digest of \(channel)")
        }
        let name = "the digest of \(channel)#\(from) to #\(to)"
        if from <= through { return fail("in order, nothing twice", "\(account.name) got \(name) after #\(through)") }
        if from > through + 1 { explainHole(through + 1...from - 1, truth, account, name) }
        let live = (from...to).filter { !truth.hasExpired($0, now: now) && !truth.isReplaced($0) }.count
        let count = message["count"]?.integer().map { Int($0) } ?? -1
        if count < live || count > Int(to - from + 1) {
            return fail("a digest counts right", "\(account.name) got \(name) with count \(count), and \(live) still stand")
        }
        for element in message["newest"]?.elementList ?? [] {
            let sequence = element["sequence"]?.unsignedInteger() ?? 0
            guard from <= sequence, sequence <= to, let pin = truth[sequence] else {
                return fail("a digest counts right", "\(name): #\(sequence)")
            }
            check(element, pin, "\(channel)#\(sequence)")
        }
        account.known[channel] = to
    }

    func cut(_ account: Account) {
        account.comeBack()
        for (name, sequence) in account.known { account.known[name] = min(sequence, channel(name).last) }
        account.settle()
        for (name, sequence) in account.told { account.told[name] = min(sequence, channel(name).last) }
    }

    // MARK: the end

    /// All is well again and everybody has had time: who has not everything?
    func finish(_ account: Account) {
        for truth in channels.values.sorted(by: { $0.name < $1.name }) {
            guard let name = ChannelName(truth.name), account.patterns.contains(where: { $0.matches(name) }), !name.isReserved else {
                continue
            }
            let through = max(account.through(truth.name), account.told[truth.name] ?? 0)
            if through < truth.last {
                let rest = through + 1...truth.last
                let isNew = account.known[truth.name] == nil
                let isGone =
                    isNew && account.beganEarly && rest.allSatisfy { truth.mayBeDropped($0, now: now) || truth.hasExpired($0, now: now) }
                let isKnown = isNew && account.beganUnread && rest.allSatisfy { isExcused($0, truth, account) }
                if !isGone, !isKnown {
                    fail(
                        "everybody comes to the head",
                        "\(account.name) has \(truth.name) up to #\(through), and it ends with #\(truth.last)"
                    )
                }
            }
            if truth.feed.kind == .dashboards { finishValues(truth, account) }
        }
    }

    private func finishValues(_ truth: ChannelTruth, _ account: Account) {
        var newest: [String: (sequence: UInt64, id: Int)] = [:]
        for (index, pin) in truth.pins.enumerated() { newest[pin.key ?? ""] = (UInt64(index + 1), pin.id) }
        let base = account.base[truth.name] ?? 0
        for (key, value) in newest.sorted(by: { $0.key < $1.key }) where value.sequence > base {
            if account.values[truth.name]?[key] == value.id { continue }
            if truth.mayBeDropped(value.sequence, now: now) { continue }
            fail("the newest value of each key", "\(account.name) has not message \(value.id) for key \(key) of \(truth.name)")
        }
    }
}

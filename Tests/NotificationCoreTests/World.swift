@testable import NotificationCore

/// A log in arrays: what a store does, in the simplest way that can be right.
final class MemoryLog {
    let limits: LogLimits
    var entries: [LogEntry] = []
    var channels: [ChannelRecord] = []
    var receipts: [String: Receipt] = [:]
    let epoch: LogEpoch
    var questions = 0

    init(epoch: LogEpoch, limits: LogLimits) {
        self.epoch = epoch
        self.limits = limits
    }

    func commit(_ commit: LogCommit) {
        channels += commit.channels
        entries += commit.entries
        for entry in commit.entries {
            channels[Int(entry.channel)].lastSequence = entry.sequence
            channels[Int(entry.channel)].lastOffset = entry.offset
        }
        for record in commit.receipts { receipts["\(record.user) \(record.channel)"] = record.receipt }
        for (index, channel) in channels.enumerated() {
            let max = UInt64(limits.feeds[channel.name].retention.countMax)
            guard channel.lastSequence > max + channel.trimmedSequence else { continue }
            let last = channel.lastSequence - max
            channels[index].trimmedSequence = last
            channels[index].trimmedOffset = entries.last { $0.channel == channel.id && $0.sequence <= last }!.offset
        }
        entries.removeAll { $0.sequence <= channels[Int($0.channel)].trimmedSequence }
    }

    func answer(_ query: LogQuery, now: Int64) -> LogAnswer {
        questions += 1
        var answer = LogAnswer()
        answer.through = query.through
        let wanted = Set(query.channels)
        answer.trimmed = channels.filter { wanted.contains($0.id) && $0.trimmedOffset > query.after }.map {
            TrimMark(channel: $0.id, sequence: $0.trimmedSequence, offset: $0.trimmedOffset)
        }
        let found = entries.filter { wanted.contains($0.channel) && $0.offset > query.after && $0.offset <= query.through }
        switch query.subject {
        case .messages, .unread:
            answer.sequences = query.channels.map { sequence($0, at: query.through) }
            for entry in found {
                if case .unread(let user) = query.subject {
                    let receipt = receipts["\(user) \(entry.channel)"] ?? Receipt()
                    if receipt.read.contains(entry.sequence) || entry.expiresMilliseconds <= now || isReplaced(entry) { continue }
                }
                if answer.notifications.count == query.notificationsMax {
                    answer.through = answer.notifications.last!.offset
                    break
                }
                answer.notifications.append(Notification(entry, epoch: epoch))
            }
        case .digest:
            guard let first = found.first, let last = found.last else { break }
            let counted = found.filter { $0.expiresMilliseconds > now && !isReplaced($0) }
            var newest: [FieldText?: LogEntry] = [:]
            var byPriority: [Priority: Int] = [:]
            for entry in counted {
                newest[entry.publication.key] = entry
                byPriority[entry.publication.priority, default: 0] += 1
            }
            answer.digest = Digest(
                from: first.sequence, to: last.sequence, count: counted.count, byPriority: byPriority,
                newest: newest.values.sorted { $0.sequence < $1.sequence }.map { Notification($0, epoch: epoch) }
            )
        case .sequences:
            answer.sequences = query.channels.map { sequence($0, at: query.after) }
        case .state:
            preconditionFailure("hubs have states themselves")
        }
        return answer
    }

    private func sequence(_ id: ChannelID, at offset: UInt64) -> UInt64 {
        entries.last { $0.channel == id && $0.offset <= offset }?.sequence ?? channels[Int(id)].trimmedSequence
    }

    private func isReplaced(_ entry: LogEntry) -> Bool {
        guard let key = entry.publication.key else { return false }
        return entries.contains { $0.channel == entry.channel && $0.sequence > entry.sequence && $0.publication.replaces == key }
    }
}

/// A writer, a log and a hub that follows it, and a sink that keeps what it is handed.
struct World: ~Copyable {
    struct Sink: DeliverySink {
        var batch: [Notification] = []
        var taken: [SubscriberID: [Notification]] = [:]
        var calls = 0
        /// What a subscriber answers, where it is not `taken`.
        var answers: [SubscriberID: DeliveryOutcome] = [:]

        mutating func deliver(_ delivery: Delivery) -> DeliveryOutcome {
            calls += 1
            let answer = answers[delivery.subscriber] ?? .taken
            if case .refused = answer { return answer }
            taken[delivery.subscriber, default: []] += delivery.indices.map { batch[Int($0)] }
            return answer
        }
    }

    let limits: LogLimits
    var writer: LogWriter
    let log: MemoryLog
    private(set) var hub: Hub
    var sink = Sink()
    var now: Int64 = 1_000_000

    init(limits: LogLimits = LogLimits(retention: Retention())) {
        let contents = LogContents(epoch: LogEpoch(random: 1))
        self.limits = limits
        writer = LogWriter(contents, limits: limits)
        log = MemoryLog(epoch: contents.epoch, limits: limits)
        hub = Hub(writer.preload(), limits: limits)
    }

    /// A loop that begins anew, with nothing in memory.
    mutating func restart() {
        hub = Hub(writer.preload(), limits: limits)
        sink = Sink()
    }

    mutating func publish(_ channels: String...) { publish(channels) }

    mutating func publish(_ channels: [String]) {
        publish(channels.map { Publication(channel: ChannelName($0)!, data: Array("{}".utf8)) })
    }

    @discardableResult
    mutating func publish(_ publications: [Publication]) -> [AppendOutcome] {
        let outcomes = writer.append(AppendRequest(publications), nowMilliseconds: now)
        commit()
        return outcomes
    }

    mutating func commit() {
        let commit = writer.takeCommit()
        log.commit(commit)
        let batch = writer.batch(commit)
        if batch.notifications.isEmpty { return }
        sink.batch = batch.notifications
        hub.apply(batch, nowMilliseconds: now, to: &sink)
    }

    func subscribe(
        _ patterns: String..., from start: StartPoint? = .latest, options: ReadingOptions = ReadingOptions()
    ) -> SubscriberID {
        hub.subscribe(patterns.map { ChannelPattern($0)! }, from: start, knownHead: writer.head, options: options)
    }

    func after(_ offset: UInt64) -> StartPoint { .after(Position(epoch: hub.epoch, offset: offset)) }

    /// One page, with the log asked as often as it takes.
    func page(_ id: SubscriberID, _ count: Int = 100, bytes: Int = 1 << 20) -> Page {
        var answer: (request: LogRequest, answer: LogAnswer)?
        for _ in 0..<100 {
            switch hub.read(id, room: Hub.Room(notifications: count, bytes: bytes), nowMilliseconds: now, answer: answer) {
            case .page(let page): return page
            case .wants(let request): answer = (request, log.answer(request.query, now: now))
            case .notYet: return Page()
            }
        }
        fatalError("the log is asked for ever")
    }

    /// Reads on to the head, a page at a time.
    func readAll(_ id: SubscriberID, page: Int = 100) -> [PageItem] {
        var items: [PageItem] = []
        for _ in 0..<100_000 {
            let next = self.page(id, page)
            items += next.items
            if next.isAtHead { return items }
        }
        fatalError("it never comes to the head")
    }

    func readOn(_ id: SubscriberID, page: Int = 100) -> (gaps: [Gap], notifications: [Notification]) {
        let items = readAll(id, page: page)
        return (items.gaps, items.compactMap(\.notification))
    }
}

extension [PageItem] {
    var gaps: [Gap] { compactMap { if case .gap(let gap) = $0 { gap } else { nil } } }

    /// `a#3`, `a#5+1` with one left out before it, `gap a 1-2 retention`, `snapshot a#4`, `digest a 1-9`.
    var names: [String] {
        map { item in
            switch item {
            case .notification(let notification): "\(notification.channel)#\(notification.sequence)"
            case .marked(let notification, let skipped, _):
                "\(notification.channel)#\(notification.sequence)" + (skipped > 0 ? "+\(skipped)" : "")
            case .gap(let gap):
                "gap \(gap.channel?.string ?? "all") \(gap.from.map(String.init) ?? "?")-\(gap.to.map(String.init) ?? "?") \(gap.reason)"
            case .snapshot(let snapshot, _): "snapshot \(snapshot.channel)#\(snapshot.sequence)"
            case .digest(let channel, let digest, _): "digest \(channel) \(digest.from)-\(digest.to)"
            }
        }
    }
}

extension [Notification] {
    var names: [String] { map { "\($0.channel)#\($0.sequence)" } }
}

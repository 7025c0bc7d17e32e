import GRDB
package import NotificationCore

extension NotificationStore {
    // MARK: Unread

    static func unread(_ query: LogQuery, _ user: FieldText, _ reading: Reading) throws -> LogAnswer {
        var answer = LogAnswer()
        answer.through = query.through
        var cursors: [AlertCursor] = []
        var heads: [AlertRow] = []
        var heap = OffsetHeap()
        for (id, state) in reading.channels {
            var known: [TrimMark] = []
            answer.sequences.append(try state.map { try reading.sequence(id, $0, through: query.through, &known) } ?? 0)
            guard let state, state.kind == .alerts, state.lastOffset > query.after else { continue }
            if let mark = try reading.mark(id, state, after: query.after) { answer.trimmed.append(mark) }
            let from =
                max(state.hiddenSequence, query.after == 0 ? 0 : try reading.sequence(id, state, through: query.after, &answer.trimmed)) + 1
            guard from <= state.lastSequence else { continue }
            let seen = try ReceiptTable.find(reading.database, user: user, channel: id)
            var cursor = AlertCursor(
                id, state.name, from...state.lastSequence, skipping: AlertCursor.union(seen.read, seen.dismissed),
                isNewestFirst: false, nowMilliseconds: reading.nowMilliseconds)
            guard let row = try cursor.next(reading.database) else { continue }
            heap.insert(row.offset, cursors.count)
            cursors.append(cursor)
            heads.append(row)
        }
        var page = PageBuilder(notificationsMax: query.notificationsMax, bytesMax: query.bytesMax)
        while let (offset, index) = heap.first, offset <= query.through {
            let (channel, name, row) = (cursors[index].channel, cursors[index].name, heads[index])
            do {
                guard page.append(try reading.runs.notification(channel, name, row)) else {
                    answer.through = page.notifications[page.notifications.count - 1].offset
                    break
                }
            } catch let error where StoreProblem.isDamage(error) {
                if let last = page.notifications.last {
                    answer.through = last.offset
                    break
                }
                // The alert has a row of its own, so it is known which one is damaged.
                answer.trimmed.append(
                    TrimMark(
                        channel: channel, sequence: row.sequence, offset: row.offset, damagedFrom: row.sequence, damagedThrough: row.offset)
                )
            }
            if let row = try cursors[index].next(reading.database) {
                heads[index] = row
                heap.moveFirst(to: row.offset)
            } else {
                heap.removeFirst()
            }
        }
        answer.notifications = page.notifications
        return answer
    }

    /// How many alerts of these channels a user has neither read nor dismissed. Those that have expired or were replaced do not count.
    package func unreadCount(user: FieldText, channels: [ChannelID], nowMilliseconds: Int64) throws(StoreFault) -> Int {
        try unreadCounts(user: user, channels: channels, nowMilliseconds: nowMilliseconds).reduce(0) { $0 + $1.count }
    }

    /// The same for each of the channels, in their order.
    package func unreadCounts(user: FieldText, channels: [ChannelID], nowMilliseconds: Int64) throws(StoreFault) -> [UnreadCount] {
        try reading(channels, nowMilliseconds: nowMilliseconds) { reading in
            try reading.channels.map { id, state in
                var count = UnreadCount()
                guard let state, state.kind == .alerts, state.hiddenSequence < state.lastSequence else { return count }
                let seen = try ReceiptTable.find(reading.database, user: user, channel: id)
                let range = (state.hiddenSequence + 1)...state.lastSequence
                let gaps = AlertCursor.gaps(range, skipping: AlertCursor.union(seen.read, seen.dismissed))
                count.add(try AlertTable.count(reading.database, id, gaps, nowMilliseconds: nowMilliseconds))
                return count
            }
        }
    }

    /// A user's alerts, the newest first: neither dismissed, expired nor replaced.
    ///
    /// - Parameter before: only those with a lower log number; `UInt64.max`: from the newest on.
    package func inbox(
        user: FieldText, channels: [ChannelID], before: UInt64, unreadOnly: Bool, limit: Int, nowMilliseconds: Int64
    ) throws(StoreFault) -> [InboxItem] {
        guard limit > 0, before > 1 else { return [] }
        return try reading(channels, nowMilliseconds: nowMilliseconds) { reading in
            var cursors: [AlertCursor] = []
            var heads: [AlertRow] = []
            var read: [[ClosedRange<UInt64>]] = []
            var heap = OffsetHeap()
            for (id, state) in reading.channels {
                guard let state, state.kind == .alerts else { continue }
                let last = try reading.sequence(id, state, through: before - 1)
                guard last > state.hiddenSequence else { continue }
                let seen = try ReceiptTable.find(reading.database, user: user, channel: id)
                var cursor = AlertCursor(
                    id, state.name, (state.hiddenSequence + 1)...last,
                    skipping: unreadOnly ? AlertCursor.union(seen.read, seen.dismissed) : seen.dismissed, isNewestFirst: true,
                    nowMilliseconds: nowMilliseconds)
                guard let row = try cursor.next(reading.database) else { continue }
                heap.insert(.max - row.offset, cursors.count)
                cursors.append(cursor)
                heads.append(row)
                read.append(seen.read)
            }
            var items: [InboxItem] = []
            while items.count < limit, let (_, index) = heap.first {
                let row = heads[index]
                let notification = try reading.runs.notification(cursors[index].channel, cursors[index].name, row)
                let isRead = !AlertCursor.gaps(row.sequence...row.sequence, skipping: read[index]).contains { $0.contains(row.sequence) }
                items.append(InboxItem(notification: notification, isRead: isRead))
                if let next = try cursors[index].next(reading.database) {
                    heads[index] = next
                    heap.moveFirst(to: .max - next.offset)
                } else {
                    heap.removeFirst()
                }
            }
            return items
        }
    }

    // MARK: Digest

    static func digest(_ query: LogQuery, _ reading: Reading) throws -> LogAnswer {
        precondition(query.channels.count == 1, "a digest is of one channel")
        var answer = LogAnswer()
        answer.through = query.through
        guard let state = reading.channels[0].state, state.lastOffset > query.after else { return answer }
        let id = query.channels[0]
        if let mark = try reading.mark(id, state, after: query.after) { answer.trimmed.append(mark) }
        let from = max(state.hiddenSequence, try reading.sequence(id, state, through: query.after, &answer.trimmed)) + 1
        var known: [TrimMark] = []
        let to = try reading.sequence(id, state, through: query.through, &known)
        guard from <= to else { return answer }
        answer.digest =
            state.kind == .alerts
            ? try digestOfAlerts(id, state.name, from...to, reading, &answer.trimmed)
            : try digestOfRuns(id, state, from...to, reading)
        return answer
    }

    private static func digestOfAlerts(
        _ id: ChannelID, _ name: ChannelName, _ range: ClosedRange<UInt64>, _ reading: Reading, _ marks: inout [TrimMark]
    ) throws -> Digest {
        var digest = Digest(from: range.lowerBound, to: range.upperBound, count: 0, byPriority: [:], newest: [])
        var damaged: [TrimMark] = []
        var cursor = AlertCursor(id, name, range, skipping: [], isNewestFirst: true, nowMilliseconds: reading.nowMilliseconds)
        var keys: Set<String?> = []
        while let row = try cursor.next(reading.database) {
            digest.count += 1
            digest.byPriority[row.priority, default: 0] += 1
            if keys.count < Digest.newestMax, keys.insert(row.key).inserted {
                do {
                    digest.newest.append(try reading.runs.notification(id, name, row))
                } catch let error where StoreProblem.isDamage(error) {
                    damaged.append(
                        TrimMark(
                            channel: id, sequence: row.sequence, offset: row.offset, damagedFrom: row.sequence, damagedThrough: row.offset))
                }
            }
        }
        marks += damaged.reversed()
        digest.newest.reverse()
        return digest
    }

    private static func digestOfRuns(
        _ id: ChannelID, _ state: ChannelState, _ range: ClosedRange<UInt64>, _ reading: Reading
    ) throws -> Digest {
        struct Group {
            var byPriority: [Priority: Int] = [:]
            var newest: LogEntry?
        }
        var groups: [FieldText?: Group] = [:]
        let first = try reading.runs.containing(id, sequence: range.lowerBound, state)
        try reading.runs.forEachEntries(id, state.name, after: first.firstOffset - 1) { _, entries in
            for entry in entries where range.contains(entry.sequence) {
                if let replaced = entry.publication.replaces { groups[replaced] = nil }
                guard entry.expiresMilliseconds > reading.nowMilliseconds else { continue }
                groups[entry.publication.key, default: Group()].byPriority[entry.publication.priority, default: 0] += 1
                groups[entry.publication.key]?.newest = entry
            }
            return entries.last.map { $0.sequence < range.upperBound } ?? true
        }
        var digest = Digest(from: range.lowerBound, to: range.upperBound, count: 0, byPriority: [:], newest: [])
        for group in groups.values {
            digest.byPriority.merge(group.byPriority, uniquingKeysWith: +)
            digest.count += group.byPriority.values.reduce(0, +)
        }
        digest.newest = groups.values.compactMap(\.newest).sorted { $0.sequence < $1.sequence }.suffix(Digest.newestMax)
            .map { Notification($0, epoch: reading.runs.epoch) }
        return digest
    }
}

extension RunTable {
    /// The message that an alert's row is about.
    fileprivate func notification(_ channel: ChannelID, _ name: ChannelName, _ row: AlertRow) throws -> Notification {
        let notification = try notification(channel, name, offset: row.offset)
        guard notification.sequence == row.sequence else {
            throw StoreProblem.corrupt("the row of alert \(row.sequence) of channel \(name) is about another message")
        }
        return notification
    }
}

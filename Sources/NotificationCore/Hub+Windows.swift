import DequeModule
import JSONCodec

/// Reading one channel after the other.
extension Hub {
    /// The window is done when this comes back `atHead`.
    func readWindow(
        _ channels: [ChannelID], _ reader: inout Reader, _ told: inout Told, _ context: inout ReadContext
    ) -> ReadEnd {
        guard case .window(var window) = reader.phase else { preconditionFailure("there is a window") }
        // The loop may be behind the one that gave the position out.
        if window.through > head { return .notYet }
        defer { reader.phase = .window(window) }
        for channel in channels where channel >= window.channel {
            if channel > window.channel {
                window.channel = channel
                window.offset = window.base ?? 0
            }
            guard window.offset < window.through, tail[channel].lastOffset > window.offset else { continue }
            if context.room.isEmpty { return .full }
            let isUnread = window.base == nil
            if isUnread, tail[channel].feed.kind != .alerts || context.options.user == nil { continue }
            let end: ReadEnd
            switch tail[channel].feed.kind {
            case .dashboards:
                end = readValues(channel, &window, &reader, &told, &context)
            case .scores where isShorterAsState(channel, window):
                end = readState(channel, &window, &told, &context)
            case .alerts where context.options.isDigest && !isUnread:
                end = readDigest(channel, &window, &reader, &told, &context)
            case .alerts, .scores, nil:
                end = readMessages(channel, &window, &reader, &told, &context)
            }
            guard case .atHead = end else { return end }
            window.offset = window.through
        }
        return .atHead
    }

    /// Whether messages between here and the head are left out, or a state is sent in their place.
    func leavesOut(_ channels: [ChannelID], _ cursor: UInt64) -> Bool {
        channels.contains { channel in
            guard tail[channel].lastOffset > cursor else { return false }
            switch tail[channel].feed.kind {
            case .dashboards: return true
            case .scores:
                return isShorterAsState(channel, Position.Window(base: cursor, through: head, channel: channel, offset: cursor))
            case nil, .alerts: return false
            }
        }
    }

    private func position(_ window: Position.Window, _ context: ReadContext) -> Position {
        #if DEFECTS
            if Defect.active == .plainPositionInWindow { return Position(epoch: epoch, offset: window.offset) }
        #endif
        return Position(epoch: epoch, context.isAlone ? .at(window.offset) : .within(window))
    }

    /// The sequence of a channel's newest message that is not after this number: from memory, or as the log told it.
    private func sequence(
        _ channel: ChannelID, at offset: UInt64, _ reader: inout Reader, _ context: inout ReadContext
    ) -> Known {
        if let sequence = tail[channel].sequence(at: offset) { return .sequence(sequence) }
        if let sequence = reader.sequence(channel, at: offset) { return .sequence(sequence) }
        let query = LogQuery(.sequences, channels: [channel], after: offset, through: offset)
        guard let answer = context.answer(to: query) else { return .wants(query) }
        // Where the log has dropped what came after, it does not know any more.
        if let mark = answer.trimmed.first { return .trimmed(mark) }
        reader.note(answer.sequences[0], channel, at: offset)
        return .sequence(answer.sequences[0])
    }

    /// What was dropped behind this window is told when it is read there: memory may still have it.
    private func within(_ mark: TrimMark, _ window: Position.Window) -> TrimMark {
        var mark = mark
        if let last = tail[mark.channel].sequence(at: window.through) { mark.sequence = min(mark.sequence, last) }
        return mark
    }

    /// Tells what was dropped, and moves the place past it: who comes back with that place is not told again, and nothing else.
    private func pass(
        _ mark: TrimMark, _ window: inout Position.Window, _ reader: inout Reader, _ told: inout Told, _ context: inout ReadContext
    ) {
        #if DEFECTS
            if Defect.active == .retentionGapDoesNotMove {
                reader.note(mark.sequence, mark.channel, at: window.offset)
                return tell(mark, &told, position(window, context), &context)
            }
        #endif
        let end = mark.damagedFrom == nil ? mark.offset : mark.damagedThrough
        window.offset = max(window.offset, min(end, window.through))
        reader.note(mark.sequence, mark.channel, at: window.offset)
        tell(mark, &told, position(window, context), &context)
    }

    private enum Known {
        case sequence(UInt64)
        case trimmed(TrimMark)
        case wants(LogQuery)
    }

    // MARK: dashboards

    /// The newest value of each key.
    private func readValues(
        _ channel: ChannelID, _ window: inout Position.Window, _ reader: inout Reader, _ told: inout Told, _ context: inout ReadContext
    ) -> ReadEnd {
        let (start, through) = (window.offset, window.through)
        let values = tail[channel].latest.values.filter { $0.offset > start && $0.offset <= through }.sorted { $0.offset < $1.offset }
        var previous: UInt64
        switch sequence(channel, at: start, &reader, &context) {
        case .wants(let query): return .wants(query)
        case .sequence(let sequence): previous = sequence
        case .trimmed(var mark):
            // The newest value of a key outlives its message: it is not told as missing.
            // Nor is one that stands behind this window.
            let kept = tail[channel].latest.values.lazy.filter { $0.offset > start }
            if let first = kept.min(by: { $0.sequence < $1.sequence }), first.sequence <= mark.sequence {
                (mark.sequence, mark.offset) = (first.sequence - 1, first.offset - 1)
                mark.damagedThrough = min(mark.damagedThrough, first.offset - 1)
            }
            previous = mark.sequence
            pass(mark, &window, &reader, &told, &context)
        }
        for value in values {
            #if DEFECTS
                if Defect.active == .conflationLosesLast { if value.offset == values.last?.offset { continue } }
            #endif
            if context.room.isEmpty { return .full }
            window.offset = value.offset
            append(value, after: previous, window, &context)
            previous = value.sequence
            reader.note(value.sequence, channel, at: value.offset)
            told.pass(channel)
        }
        // A window that was read in several turns may have been overtaken: its newest value is no longer the newest of its key.
        switch sequence(channel, at: through, &reader, &context) {
        case .wants(let query): return .wants(query)
        case .trimmed: window.offset = through  // told when the next window begins there
        case .sequence(let last):
            window.offset = through
            if last > previous { leaveOut(channel, previous + 1...last, .conflated, window, &context) }
        }
        return .atHead
    }

    private func append(_ notification: Notification, after previous: UInt64, _ window: Position.Window, _ context: inout ReadContext) {
        context.room.take(notification.object.count)
        let skipped = notification.sequence - min(previous + 1, notification.sequence)
        context.page.items.append(
            skipped == 0 && context.isAlone
                ? .notification(notification) : .marked(notification, skipped: skipped, position: position(window, context))
        )
    }

    private func leaveOut(
        _ channel: ChannelID, _ range: ClosedRange<UInt64>, _ reason: Gap.Reason, _ window: Position.Window, _ context: inout ReadContext
    ) {
        context.page.items.append(
            .gap(
                Gap(
                    channel: tail[channel].name, from: range.lowerBound, to: range.upperBound, reason: reason,
                    position: position(window, context)
                )
            )
        )
    }

    // MARK: scores

    /// Whether the state is the shorter way from here, and is of this window. Where nobody sends changes, each message is a state or an
    /// event of its own, and all are delivered.
    private func isShorterAsState(_ channel: ChannelID, _ window: Position.Window) -> Bool {
        let channel = tail[channel]
        guard channel.lastOffset <= window.through, channel.lastChangeOffset > window.offset, let document = channel.document else {
            return false
        }
        guard channel.reaches(back: window.offset) else { return true }
        let index = channel.index(afterOffset: window.offset)
        guard channel.notifications.count - index > Self.replayCountMin else { return false }
        var bytes = 0
        for notification in channel.notifications[index...] {
            bytes += notification.object.count
            if bytes > document.byteCount + 200 { return true }
        }
        return false
    }

    private func readState(
        _ channel: ChannelID, _ window: inout Position.Window, _ told: inout Told, _ context: inout ReadContext
    ) -> ReadEnd {
        guard let snapshot = tail[channel].snapshot else { preconditionFailure("it has a state") }
        window.offset = window.through
        context.room.take(snapshot.data.count)
        context.page.items.append(.snapshot(snapshot, position: position(window, context)))
        told.pass(channel)
        return .atHead
    }

    // MARK: alerts and plain messages

    /// All messages, or for a newcomer those that its user has not read.
    private func readMessages(
        _ channel: ChannelID, _ window: inout Position.Window, _ reader: inout Reader, _ told: inout Told, _ context: inout ReadContext
    ) -> ReadEnd {
        let isUnread = window.base == nil
        // A newcomer's first message of a channel has none before it.
        var previous: UInt64?
        if !isUnread || window.offset > 0 {
            switch sequence(channel, at: window.offset, &reader, &context) {
            case .wants(let query): return .wants(query)
            case .sequence(let sequence): previous = sequence
            case .trimmed(let found):
                let mark = within(found, window)
                previous = mark.sequence
                pass(mark, &window, &reader, &told, &context)
            }
        }
        var newest: UInt64?
        while window.offset < window.through {
            if context.room.isEmpty { return .full }
            let found: [Notification]
            var through = window.through
            if !isUnread, tail[channel].reaches(back: window.offset) {
                let notifications = tail[channel].notifications
                let start = tail[channel].index(afterOffset: window.offset)
                let end = min(tail[channel].index(afterOffset: window.through), start + context.room.notifications)
                found = Array(notifications[start..<end])
                if let last = found.last, end < tail[channel].index(afterOffset: window.through) { through = last.offset }
            } else {
                let subject = isUnread ? LogQuery.Subject.unread(user: context.options.user!) : .messages
                let query = LogQuery(
                    subject, channels: [channel], after: window.offset, through: window.through,
                    notificationsMax: context.room.notifications, bytesMax: context.room.bytes
                )
                guard let answer = context.answer(to: query) else { return .wants(query) }
                for mark in answer.trimmed.map({ within($0, window) }) where mark.sequence > previous ?? 0 {
                    // What was dropped may have been read.
                    if isUnread, mark.damagedFrom == nil { continue }
                    tell(mark, &told, position(window, context), &context)
                    previous = mark.sequence
                }
                if isUnread { newest = answer.sequences.first }
                found = answer.notifications
                through = min(answer.through, window.through)
            }
            var passedOver: (last: Notification, count: UInt64)?
            // What has expired is told with the next message, or by itself where the place moves on without one.
            func settle() {
                guard let passed = passedOver, let known = previous else { return }
                let last = passed.last
                window.offset = last.offset
                // Where only what is unread is looked at, others may be among them.
                let reason: Gap.Reason = passed.count == last.sequence - known ? .expired : .read
                leaveOut(channel, known + 1...last.sequence, reason, window, &context)
                reader.note(last.sequence, channel, at: last.offset)
                previous = last.sequence
                passedOver = nil
            }
            for notification in found {
                if context.room.isEmpty {
                    settle()
                    return .full
                }
                if notification.expiresMilliseconds <= context.now {
                    context.room.take(64)
                    passedOver = (notification, (passedOver?.count ?? 0) + 1)
                    continue
                }
                passedOver = nil
                window.offset = notification.offset
                append(notification, after: previous ?? notification.sequence - 1, window, &context)
                previous = notification.sequence
                reader.note(notification.sequence, channel, at: notification.offset)
                told.pass(channel)
            }
            settle()
            window.offset = through
            // Of what is unread, the last that was handed out need not be the newest there.
            if !isUnread, let previous { reader.note(previous, channel, at: through) }
        }
        if let known = previous, let newest, newest > known {
            leaveOut(channel, known + 1...newest, .read, window, &context)
            reader.note(newest, channel, at: window.through)
        }
        return .atHead
    }

    /// What was missed, in short. A single message is sent as it is.
    private func readDigest(
        _ channel: ChannelID, _ window: inout Position.Window, _ reader: inout Reader, _ told: inout Told, _ context: inout ReadContext
    ) -> ReadEnd {
        var (first, last): (UInt64, UInt64) = (0, 0)
        switch sequence(channel, at: window.offset, &reader, &context) {
        case .wants(let query): return .wants(query)
        case .sequence(let sequence): first = sequence
        case .trimmed(let found):
            let mark = within(found, window)
            first = mark.sequence
            pass(mark, &window, &reader, &told, &context)
        }
        switch sequence(channel, at: window.through, &reader, &context) {
        case .wants(let query): return .wants(query)
        case .sequence(let sequence): last = sequence
        case .trimmed(let found):
            let mark = within(found, window)
            guard mark.damagedFrom != nil else {
                // All of it was dropped meanwhile.
                pass(mark, &window, &reader, &told, &context)
                return .atHead
            }
            // It has to be noted: the next question would be this one again.
            last = mark.sequence
            reader.note(last, channel, at: window.through)
        }
        guard last > first + 1 else { return readMessages(channel, &window, &reader, &told, &context) }
        let query = LogQuery(.digest, channels: [channel], after: window.offset, through: window.through)
        guard let answer = context.answer(to: query) else { return .wants(query) }
        for mark in answer.trimmed.map({ within($0, window) }) { tell(mark, &told, position(window, context), &context) }
        window.offset = window.through
        if let digest = answer.digest {
            context.room.take(digest.newest.reduce(200) { $0 + $1.object.count })
            context.page.items.append(.digest(tail[channel].name, digest, position: position(window, context)))
        }
        told.pass(channel)
        return .atHead
    }
}

import GRDB
package import NotificationCore

/// What a reader goes by: the transaction it reads in, and what was known of the channels.
struct Reading {
    let database: Database
    let runs: RunTable
    let nowMilliseconds: Int64
    /// In the order of the question; nil: there is no such channel.
    let channels: [(id: ChannelID, state: ChannelState?)]

    /// Where the channel's messages begin for readers.
    func mark(_ id: ChannelID, _ state: ChannelState) throws -> TrimMark {
        let hidden = state.hiddenSequence
        let dropped = TrimMark(channel: id, sequence: state.trimmedSequence, offset: state.trimmedOffset)
        if hidden == state.trimmedSequence { return dropped }
        do {
            let run = try runs.decoded(try runs.containing(id, sequence: hidden, state), state.name)
            return TrimMark(channel: id, sequence: hidden, offset: run.notifications[Int(hidden - run.header.firstSequence)].offset)
        } catch let error where StoreProblem.isDamage(error) {
            // What is only hidden is told then as far as it can be read.
            return dropped
        }
    }

    /// The same if it is after `offset`, without looking when it cannot be.
    func mark(_ id: ChannelID, _ state: ChannelState, after offset: UInt64) throws -> TrimMark? {
        let hidden = state.hiddenSequence
        if hidden == 0 || state.lastOffset - min(state.lastOffset, state.lastSequence - min(hidden, state.lastSequence)) <= offset,
            state.trimmedOffset <= offset
        {
            return nil
        }
        let mark = try mark(id, state)
        return mark.offset > offset ? mark : nil
    }

    /// The channel's newest sequence whose log number is not after `offset`.
    func sequence(_ id: ChannelID, _ state: ChannelState, through offset: UInt64) throws -> UInt64 {
        if state.lastOffset <= offset { return state.lastSequence }
        guard let header = try runs.first(id, after: offset)?.header else {
            guard state.trimmedSequence >= state.lastSequence else {
                throw StoreProblem.corrupt("the newest messages of channel \(state.name) are missing")
            }
            return state.trimmedSequence
        }
        guard try runs.isNext(header, state, after: offset) else {
            throw StoreProblem.corrupt("messages before \(header.firstSequence) of channel \(state.name) are missing")
        }
        // Its columns are believed once all of it was looked at.
        return header.firstSequence + UInt64(try runs.decoded(header, state.name).index(after: offset)) - 1
    }

    /// The same. Where that is damaged it is the end of the damage, which goes to `marks`.
    func sequence(_ id: ChannelID, _ state: ChannelState, through offset: UInt64, _ marks: inout [TrimMark]) throws -> UInt64 {
        do {
            return try sequence(id, state, through: offset)
        } catch let error where StoreProblem.isDamage(error) {
            let found = try runs.damage(id, state, after: offset, last: nil)
            if let mark = found.mark { marks.append(mark) }
            return found.mark?.sequence ?? found.next?.sequence ?? state.lastSequence
        }
    }
}

extension NotificationStore {
    /// Runs `body` in a transaction.
    ///
    /// What was committed is looked at before the transaction begins, so it is in it; what was dropped, after, so what is missing in
    /// it is known to be gone. What another process has dropped is read in the transaction.
    ///
    /// - Parameter offset: only messages after it are wanted.
    func reading<Result>(
        _ ids: [ChannelID], after offset: UInt64 = 0, nowMilliseconds: Int64 = .min, _ body: (Reading) throws -> Result
    ) throws(StoreFault) -> Result {
        let before = channels[ids]
        return try onReader { database in
            let after = channels[ids]
            var states: [(ChannelID, ChannelState?)] = []
            states.reserveCapacity(ids.count)
            for index in ids.indices {
                var state = before[index]
                if isFollower {
                    // Who has nothing new is not asked what is gone.
                    if let known = state, known.lastOffset > offset, let row = try StoreOpening.record(database, ids[index]) {
                        state?.trimmedSequence = row.trimmedSequence
                        state?.trimmedOffset = row.trimmedOffset
                        // Messages that came since, and went again: this process will hear of them.
                        state?.lastSequence = max(known.lastSequence, row.trimmedSequence)
                        state?.lastOffset = max(known.lastOffset, row.trimmedOffset)
                    }
                } else if let now = after[index] {
                    state?.trimmedSequence = now.trimmedSequence
                    state?.trimmedOffset = now.trimmedOffset
                }
                states.append((ids[index], state))
            }
            return try body(Reading(database: database, runs: runs(database, cache), nowMilliseconds: nowMilliseconds, channels: states))
        }
    }

    /// Answers a reader that is behind.
    ///
    /// - Precondition: the subject is not `state`: the store does not merge.
    package func answer(_ query: LogQuery, nowMilliseconds: Int64) throws(StoreFault) -> LogAnswer {
        try reading(query.channels, after: query.after, nowMilliseconds: nowMilliseconds) { reading in
            switch query.subject {
            case .messages: try Self.messages(query, reading)
            case .unread(let user): try Self.unread(query, user, reading)
            case .digest: try Self.digest(query, reading)
            case .sequences: try Self.sequences(query, reading)
            case .state: preconditionFailure("the state of a channel is not asked of the store")
            }
        }
    }

    private static func messages(_ query: LogQuery, _ reading: Reading) throws -> LogAnswer {
        var answer = LogAnswer()
        var cursors: [MessageCursor] = []
        var heap = OffsetHeap()
        for (id, state) in reading.channels {
            guard let state, state.lastOffset > query.after else { continue }
            var start = query.after
            if let mark = try reading.mark(id, state, after: query.after) {
                answer.trimmed.append(mark)
                start = mark.offset
            }
            guard start < state.lastOffset, start < query.through else { continue }
            // Where its first message is shows when its turn comes: not before this.
            heap.insert(start + 1, cursors.count)
            cursors.append(MessageCursor(id, state, after: start))
        }
        var page = PageBuilder(notificationsMax: query.notificationsMax, bytesMax: query.bytesMax)
        answer.through = query.through
        merging: while let (_, index) = heap.first {
            let limit = heap.second
            while true {
                guard let notification = try cursors[index].current(reading.runs), notification.offset <= query.through else {
                    guard let damage = cursors[index].damage else {
                        heap.removeFirst()
                        break
                    }
                    guard damage.offset < query.through else {
                        heap.removeFirst()
                        break
                    }
                    guard damage.offset <= limit else {
                        heap.moveFirst(to: damage.offset)
                        break
                    }
                    // A page ends before it, and the next one begins with it.
                    if let last = page.notifications.last {
                        answer.through = last.offset
                        break merging
                    }
                    answer.trimmed.append(damage)
                    cursors[index].passDamage()
                    continue
                }
                // No two messages have one number, so at the limit, which may be too low for its cursor, it is this one's turn.
                guard notification.offset <= limit else {
                    heap.moveFirst(to: notification.offset)
                    break
                }
                guard page.append(notification) else {
                    answer.through = page.notifications[page.notifications.count - 1].offset
                    #if DEFECTS
                        if Defect.active == .pageThroughTooFar { answer.through = query.through }
                    #endif
                    break merging
                }
                cursors[index].advance()
            }
        }
        answer.notifications = page.notifications
        return answer
    }

    private static func sequences(_ query: LogQuery, _ reading: Reading) throws -> LogAnswer {
        var answer = LogAnswer()
        answer.through = query.through
        for (id, state) in reading.channels {
            guard let state else {
                answer.sequences.append(0)
                continue
            }
            answer.sequences.append(try reading.sequence(id, state, through: query.after, &answer.trimmed))
            if let mark = try reading.mark(id, state, after: query.after) { answer.trimmed.append(mark) }
        }
        return answer
    }

    /// Messages of a channel in order, those that retention hides not among them.
    package func history(
        channel: ChannelID, afterSequence: UInt64, limit: Int, bytesMax: Int
    ) throws(StoreFault) -> [Notification] {
        try reading([channel]) { reading in
            guard let state = reading.channels[0].state, limit > 0 else { return [] }
            let after = max(afterSequence, state.hiddenSequence)
            guard after < state.lastSequence else { return [] }
            let run = try reading.runs.containing(channel, sequence: after + 1, state)
            let offset = try reading.runs.decoded(run, state.name).notifications[Int(after + 1 - run.firstSequence)].offset
            var cursor = MessageCursor(channel, state, after: offset - 1, isFound: true)
            var page = PageBuilder(notificationsMax: limit, bytesMax: bytesMax)
            while let notification = try cursor.current(reading.runs), page.append(notification) { cursor.advance() }
            // What is sound before it is a page.
            if page.notifications.isEmpty, let damage = cursor.damage {
                throw StoreProblem.corrupt(
                    "the messages \(damage.damagedFrom ?? 0) to \(damage.sequence) of channel \(state.name) are not as they were written")
            }
            return page.notifications
        }
    }

    package func info(channel: ChannelID) throws(StoreFault) -> ChannelInfo {
        try reading([channel]) { reading in
            guard let state = reading.channels[0].state else {
                return ChannelInfo(firstSequence: 1, lastSequence: 0, lastOffset: 0, count: 0, bytes: 0)
            }
            var info = ChannelInfo(
                firstSequence: state.hiddenSequence + 1, lastSequence: state.lastSequence, lastOffset: state.lastOffset, count: 0,
                bytes: 0)
            guard state.hiddenSequence < state.lastSequence else { return info }
            info.count = Int(state.lastSequence - state.hiddenSequence)
            let first = try reading.runs.containing(channel, sequence: info.firstSequence, state)
            let last = try reading.runs.containing(channel, sequence: state.lastSequence, state)
            let firstBytes = try reading.runs.first(channel, after: first.lastOffset - 1)?.bytes ?? 0
            info.bytes = Int(clamping: last.total &- first.total &+ firstBytes)
            info.newestMilliseconds = try reading.runs.decoded(last, state.name).notifications.last?.timeMilliseconds
            return info
        }
    }
}

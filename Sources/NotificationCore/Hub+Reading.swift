import DequeModule

/// Reading on: how a cursor that is behind gets to the head.
///
/// Channels that only have messages are read together, in the order of the log. Where some messages are left out on purpose (values of
/// a key that were superseded, changes that a state stands for) or the subscriber chose a rate, one channel is read after the other in
/// a *window* of the log: so each message can say how many of its channel were left out before it, and the position in the midst of it
/// says which channels have been dealt with. Nothing of this has to be remembered here for a reader that comes back.
extension Hub {
    /// How much one page may hold.
    package struct Room: Sendable {
        package var notifications: Int
        package var bytes: Int
        /// The states that a newcomer begins with are handed out together: the next page would begin with them again.
        package var holdsAllStates = false

        /// - Parameters:
        ///   - notifications: at least 1.
        ///   - bytes: no further message is added once their objects have so many bytes.
        package init(notifications: Int, bytes: Int) {
            self.notifications = notifications
            self.bytes = bytes
        }

        var isEmpty: Bool { notifications <= 0 || bytes <= 0 }

        package mutating func take(_ bytes: Int) {
            notifications -= 1
            self.bytes -= bytes
        }
    }

    /// The states that a newcomer begins with have so many bytes together; what does not fit is left to be fetched.
    static let beginningBytesMax = 16 << 20
    /// Changes are replaced by the state they led to if there are more of them than this, and it is shorter.
    static let replayCountMin = 8

    /// The next page for a stopped subscriber.
    ///
    /// The caller takes all of a page. When it says `isAtHead`, nothing more is to be read.
    ///
    /// - Parameter answer: to what an earlier call asked; it is used if it is still what is wanted.
    package func read(
        _ id: SubscriberID, room: Room, nowMilliseconds: Int64, answer: (request: LogRequest, answer: LogAnswer)? = nil
    ) -> ReadStep {
        precondition(!isFanningOut && table.isCurrent(id) && room.notifications > 0)
        let at = Int(id.index)
        guard table.slots[at].state == .stopped else { return .page(Page(isAtHead: true)) }
        let revision = profiles[at].revision
        var context = ReadContext(
            epoch: epoch, options: profiles[at].options, room: room, now: nowMilliseconds,
            answer: answer.flatMap { $0.request.revision == revision ? $0 : nil }
        )
        let end = read(channels(of: at), &table.slots[at].cursor, &profiles[at].reader, hasStates(at), &context)
        var page = context.page
        if case .gap(var gap)? = page.items.first, gap.channel == nil {
            gap.patterns = patterns(of: id).filter { !$0.isReserved }
            page.items[0] = .gap(gap)
        }
        if case .atHead = end {
            table.slots[at].state = context.options.isPaced ? .paced : .live
            page.isAtHead = true
        }
        if page.items.isEmpty {
            switch end {
            case .wants(let query): return .wants(LogRequest(query: query, revision: revision))
            case .notYet: return .notYet
            case .atHead, .full: break
            }
        }
        return .page(page)
    }

    /// Where a stopped subscriber stands, if what it reads next is the same for all who stand there.
    ///
    /// It is until the head moves, or a message expires.
    package func sharedPlace(_ id: SubscriberID) -> SharedPlace? {
        precondition(table.isCurrent(id))
        let profile = profiles[Int(id.index)]
        let slot = table.slots[Int(id.index)]
        guard slot.state == .stopped, profile.subscriptions.count == 1, profile.options.user == nil, !profile.options.isDigest,
            case .none = profile.reader.notes
        else { return nil }
        var place = SharedPlace(
            pattern: nodes[Int(profile.subscriptions[0].node)].pattern, cursor: slot.cursor, isPaced: profile.options.isPaced, head: head)
        switch profile.reader.phase {
        case .running: break
        case .window(let window): place.window = window
        case .beginning: (place.cursor, place.states) = (head, 0)
        case .states(let states):
            guard states.isWhole else { return nil }
            place.states = states.count
        }
        return place
    }

    package func readingState(of id: SubscriberID) -> ReadingState {
        precondition(table.isCurrent(id))
        let slot = table.slots[Int(id.index)]
        return ReadingState(cursor: slot.cursor, state: slot.state, reader: profiles[Int(id.index)].reader)
    }

    /// Puts a subscriber where another one from the same `sharedPlace` came to by reading; it was handed the same.
    package func move(_ id: SubscriberID, to state: ReadingState) {
        precondition(!isFanningOut && table.isCurrent(id))
        table.slots[Int(id.index)].cursor = state.cursor
        table.slots[Int(id.index)].state = state.state
        profiles[Int(id.index)].reader = state.reader
    }

    func channels(of subscriber: Int) -> [ChannelID] {
        let subscriptions = profiles[subscriber].subscriptions
        if subscriptions.count == 1 { return nodes[Int(subscriptions[0].node)].channels }
        return Set(subscriptions.flatMap { nodes[Int($0.node)].channels }).sorted()
    }

    private func hasStates(_ subscriber: Int) -> Bool {
        profiles[subscriber].subscriptions.contains { nodes[Int($0.node)].hasStates }
    }

    // MARK: one reader

    private func read(
        _ channels: [ChannelID], _ cursor: inout UInt64, _ reader: inout Reader, _ hasStates: Bool, _ context: inout ReadContext
    ) -> ReadEnd {
        var told = begin(cursor, reader, &context)
        reader.notes = .none
        if case .beginning = reader.phase { begin(channels, &cursor, &reader, context) }
        if case .states(let states) = reader.phase, !handOut(states, cursor, &reader, &context) {
            reader.note(told)
            return .full
        }
        if case .window(let window) = reader.phase { context.isAlone = channels.count == 1 && window.base != nil }
        while true {
            if case .running = reader.phase {
                guard cursor < head else { return .atHead }
                context.isAlone = channels.count == 1
                if context.options.isPaced || context.options.isDigest || (hasStates && leavesOut(channels, cursor)) {
                    reader.phase = .window(Position.Window(base: cursor, through: head, channel: 0, offset: cursor))
                }
            }
            let end: ReadEnd
            switch reader.phase {
            case .beginning, .states: preconditionFailure("it has begun")
            case .running: end = readTogether(channels, &cursor, &told, &context)
            case .window: end = readWindow(channels, &reader, &told, &context)
            }
            guard case .atHead = end else {
                reader.note(told)
                return end
            }
            if case .window(let window) = reader.phase {
                cursor = window.through
                reader.phase = .running
                if context.options.isPaced { return .atHead }  // the rest at its next turn
            } else {
                return .atHead
            }
        }
    }

    private func begin(_ cursor: UInt64, _ reader: Reader, _ context: inout ReadContext) -> Told {
        switch reader.notes {
        case .none:
            return Told()
        case .told(let told):
            return told
        case .foreign:
            #if DEFECTS
                if Defect.active == .epochGapNotTold { return Told(isNew: true) }
            #endif
            context.page.items.append(.gap(Gap(reason: .epoch, position: reader.place(cursor: cursor, epoch: epoch))))
            return Told(isNew: true)
        case .earliest:
            return Told(isNew: true)
        }
    }

    /// What a newcomer begins with: the states, all of one moment; then alerts that it has not read.
    private func begin(_ channels: [ChannelID], _ cursor: inout UInt64, _ reader: inout Reader, _ context: ReadContext) {
        cursor = head
        var states = StatesToCome(channels.compactMap { tail[$0].state })
        let hasAlerts = context.options.user != nil && channels.contains { tail[$0].feed.kind == .alerts && tail[$0].lastSequence > 0 }
        if hasAlerts { states.window = Position.Window(base: nil, through: head, channel: 0, offset: 0) }
        reader.phase = .states(states)
    }

    /// - Returns: whether that was all of them.
    private func handOut(_ states: StatesToCome, _ cursor: UInt64, _ reader: inout Reader, _ context: inout ReadContext) -> Bool {
        var states = states
        let after = states.window.map { Reader.Phase.window($0) } ?? .running
        while states.count < states.states.count {
            if context.room.isEmpty, !context.room.holdsAllStates {
                reader.phase = .states(states)
                return false
            }
            let snapshot = states.states[states.count].snapshot
            states.count += 1
            states.bytes += snapshot.data.count
            context.room.take(snapshot.data.count)
            // Only the last one moves the reader's place: a reader that is cut off before begins anew.
            let isLast = states.count == states.states.count
            if isLast { reader.phase = after }
            let position = isLast ? reader.position(cursor: cursor, epoch: epoch) : nil
            context.page.items.append(
                states.bytes > Self.beginningBytesMax
                    ? .gap(Gap(channel: snapshot.channel, to: snapshot.sequence, reason: .size, position: position))
                    : .snapshot(snapshot, position: position))
        }
        reader.phase = after
        return true
    }

    // MARK: in the order of the log

    private func readTogether(
        _ channels: [ChannelID], _ cursor: inout UInt64, _ told: inout Told, _ context: inout ReadContext
    ) -> ReadEnd {
        var debts = Debts()
        defer { debts.settle(Position(epoch: epoch, offset: cursor), self, &context.page) }
        while cursor < head {
            if context.room.isEmpty { return .full }
            let behind = channels.filter { tail[$0].lastOffset > cursor }
            guard behind.contains(where: { !tail[$0].reaches(back: cursor) }) else {
                return readMemory(behind, &cursor, &debts, &told, &context)
            }
            let query = LogQuery(
                .messages, channels: behind, after: cursor, through: head, notificationsMax: context.room.notifications,
                bytesMax: context.room.bytes
            )
            guard let answer = context.answer(to: query) else { return .wants(query) }
            let place = Position(epoch: epoch, offset: cursor)
            for mark in answer.trimmed {
                // What was passed over before it is no part of it.
                if mark.damagedFrom != nil { debts.settle(place, self, &context.page) }
                tell(mark, &told, place, &context)
            }
            for notification in answer.notifications {
                hand(notification, &debts, &told, &context, before: Position(epoch: epoch, offset: cursor))
                cursor = notification.offset
            }
            cursor = max(cursor, answer.through)
        }
        return .atHead
    }

    private func readMemory(
        _ channels: [ChannelID], _ cursor: inout UInt64, _ debts: inout Debts, _ told: inout Told, _ context: inout ReadContext
    ) -> ReadEnd {
        var sources = SourceHeap()
        for channel in channels {
            let index = tail[channel].index(afterOffset: cursor)
            sources.insert(Source(offset: tail[channel].notifications[index].offset, channel: channel, index: index))
        }
        while let source = sources.first {
            if context.room.isEmpty { return .full }
            let notifications = tail[source.channel].notifications
            let notification = notifications[source.index]
            hand(notification, &debts, &told, &context, before: Position(epoch: epoch, offset: cursor))
            cursor = notification.offset
            let next = source.index + 1
            sources.replaceFirst(
                with: next < notifications.count
                    ? Source(offset: notifications[next].offset, channel: source.channel, index: next) : nil
            )
        }
        cursor = max(cursor, head)
        return .atHead
    }

    private func hand(
        _ notification: Notification, _ debts: inout Debts, _ told: inout Told, _ context: inout ReadContext, before: Position
    ) {
        told.pass(notification.channelID)
        guard notification.expiresMilliseconds > context.now else {
            // Looking costs too: a page of expired messages is a page.
            context.room.take(64)
            return debts.add(notification)
        }
        let skipped = debts.take(notification.channelID)
        // What is counted with this message is behind the place only when the message is.
        #if DEFECTS
            if Defect.active == .expiredGapMovesTooFar { debts.settle(before, self, &context.page) }
        #endif
        debts.settle(skipped == 0 ? before : nil, self, &context.page)
        context.room.take(notification.object.count)
        context.page.items.append(
            skipped == 0
                ? .notification(notification)
                : .marked(notification, skipped: skipped, position: Position(epoch: epoch, offset: notification.offset))
        )
    }

    /// Messages that the log has dropped, or cannot read, are told once.
    func tell(_ mark: TrimMark, _ told: inout Told, _ position: Position, _ context: inout ReadContext) {
        guard let from = told.tell(mark) else { return }
        #if DEFECTS
            if Defect.active == .retentionGapNotTold { return }
        #endif
        let channel = tail[mark.channel].name
        context.page.items.append(
            .gap(
                // Nobody has asked for the server's own channel, or knows its numbers.
                channel.isReserved
                    ? Gap(reason: .acks, position: position)
                    : Gap(
                        channel: channel, from: from, to: mark.sequence, reason: mark.damagedFrom == nil ? .retention : .damaged,
                        position: position
                    )
            )
        )
    }
}

/// See `Hub.sharedPlace`.
package struct SharedPlace: Hashable {
    var pattern: ChannelPattern
    var cursor: UInt64
    var window: Position.Window?
    /// Of a newcomer: how many of the states of the moment at `cursor` it has been handed.
    var states: Int?
    var isPaced: Bool
    var head: UInt64
}

package struct ReadingState {
    var cursor: UInt64
    var state: SubscriberSlot.State
    var reader: Reader

    package var isAtHead: Bool { state != .stopped }
    /// Whether it is known from where on it gets what comes.
    package var hasBegun: Bool { if case .beginning = reader.phase { false } else { true } }
}

/// What a reader has been told of messages that the log has dropped.
struct Told {
    /// It reads from the beginning: what was dropped before it came to a channel is not missed.
    var isNew = false
    /// By channel: the highest dropped sequence that it knows of; 0: none, but it has had something of this channel.
    private var marks: [ChannelID: UInt64] = [:]
    var isEmpty: Bool { !isNew && marks.isEmpty }

    init(isNew: Bool = false) {
        self.isNew = isNew
    }

    /// - Returns: the lowest sequence that may be missing, if there is something to be told.
    mutating func tell(_ mark: TrimMark) -> UInt64? {
        let known = marks[mark.channel]
        if let from = mark.damagedFrom {
            guard mark.sequence > known ?? 0, mark.sequence >= from else { return nil }
            marks[mark.channel] = mark.sequence
            return max(from, (known ?? 0) + 1)
        }
        if isNew, known == nil {
            marks[mark.channel] = mark.sequence
            return nil
        }
        guard mark.sequence > known ?? 0 else { return nil }
        marks[mark.channel] = mark.sequence
        return (known ?? 0) + 1
    }

    /// It has had something of this channel.
    mutating func pass(_ channel: ChannelID) {
        if isNew, marks[channel] == nil { marks[channel] = 0 }
    }
}

/// What reading goes by, and what it makes.
struct ReadContext {
    let epoch: LogEpoch
    let options: ReadingOptions
    var room: Hub.Room
    let now: Int64
    var answer: (request: LogRequest, answer: LogAnswer)?
    /// The reader has one channel only: its place can be told by a log number also in a window.
    var isAlone = false
    var page = Page()

    /// Takes the answer, if it is to this question. The head may have moved since, and channels may have become more: what was asked for
    /// is answered up to `through` all the same.
    mutating func answer(to query: LogQuery) -> LogAnswer? {
        guard let answer, answer.request.query.subject == query.subject,
            answer.request.query.after == query.after, query.subject == .messages || answer.request.query.channels == query.channels
        else { return nil }
        self.answer = nil
        return answer.answer
    }
}

enum ReadEnd {
    case atHead
    /// There is no room for more.
    case full
    case wants(LogQuery)
    case notYet
}

/// Messages that were passed over and not yet told, per channel: in the order of the log the next message of another channel would
/// move the position past them.
struct Debts {
    private var ranges: [ChannelID: ClosedRange<UInt64>] = [:]

    mutating func add(_ notification: Notification) {
        let lower = ranges[notification.channelID]?.lowerBound ?? notification.sequence
        ranges[notification.channelID] = lower...notification.sequence
    }

    /// - Returns: how many are told with the channel's next message.
    mutating func take(_ channel: ChannelID) -> UInt64 {
        #if DEFECTS
            if Defect.active == .expiredNotCounted { ranges[channel] = nil }
        #endif
        if ranges.isEmpty { return 0 }
        return ranges.removeValue(forKey: channel).map { $0.upperBound - $0.lowerBound + 1 } ?? 0
    }

    /// Tells the rest. Only the last one moves the reader's place, when all are told.
    mutating func settle(_ position: Position?, _ hub: Hub, _ page: inout Page) {
        if ranges.isEmpty { return }
        for (index, (channel, range)) in ranges.sorted(by: { $0.key < $1.key }).enumerated() {
            page.items.append(
                .gap(
                    Gap(
                        channel: hub.tail[channel].name, from: range.lowerBound, to: range.upperBound, reason: .expired,
                        position: index == ranges.count - 1 ? position : nil
                    )
                )
            )
        }
        ranges.removeAll()
    }
}

/// The next message of a channel, in a merge of channels.
private struct Source {
    var offset: UInt64
    var channel: Int32
    var index: Int
}

/// A binary heap of sources, the lowest log number first.
private struct SourceHeap {
    private var sources: [Source] = []

    var first: Source? { sources.first }

    mutating func insert(_ source: Source) {
        sources.append(source)
        var at = sources.count - 1
        while at > 0, sources[at].offset < sources[(at - 1) / 2].offset {
            sources.swapAt(at, (at - 1) / 2)
            at = (at - 1) / 2
        }
    }

    mutating func replaceFirst(with source: Source?) {
        if let source {
            sources[0] = source
        } else {
            let last = sources.removeLast()
            if sources.isEmpty { return }
            sources[0] = last
        }
        var at = 0
        while true {
            var least = at
            for child in [2 * at + 1, 2 * at + 2] where child < sources.count && sources[child].offset < sources[least].offset {
                least = child
            }
            if least == at { return }
            sources.swapAt(at, least)
            at = least
        }
    }
}

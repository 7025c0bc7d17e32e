package import JSONCodec

/// Gives each publication its numbers. There is one per log, and it alone decides the order.
///
/// What it appends is *staged*: the caller takes it as one commit, makes that durable, and only then tells publishers and subscribers.
/// If that fails, the writer is thrown away and made anew from what the store has.
///
///     append, acknowledge, … ──> staged ──takeCommit──> store ──> followers, answers
package struct LogWriter {
    package let epoch: LogEpoch
    package let limits: LogLimits
    package private(set) var head: UInt64
    private var channels: [Channel] = []
    private var indices: [ChannelName: ChannelID] = [:]
    /// Of `channels`: those in which users' devices tell each other what was read, and the server's other ones.
    private var usersOwnCount = 0
    private var otherOwnCount = 0
    private let answered: Answered
    private var staged = LogCommit()
    /// Answers that are staged: the store does not have them yet.
    private var stagedAnswers: [IdempotencyKey: IdempotencyRecord] = [:]
    /// Receipts that are staged: the store does not have them yet.
    private var stagedReceipts: [ReceiptKey: Receipt] = [:]
    /// Channels whose state is newer than what is stored of it.
    private var unsavedStates: Set<ChannelID> = []

    private struct Channel {
        var name: ChannelName
        var feed: Feed
        var lastSequence: UInt64
        var lastOffset: UInt64
        var state: ChannelState
        /// Scores: of the newest message that was a change.
        var lastChangeOffset: UInt64 = 0
        /// Scores: of the newest message.
        var lastTimeMilliseconds: Int64 = 0
        /// Messages since its state was last staged, and when the first of them came.
        var unsavedCount = 0
        var unsavedBytes = 0
        var unsavedSinceMilliseconds: Int64 = 0
    }

    private struct ReceiptKey: Hashable {
        var user: FieldText
        var channel: ChannelID
    }

    /// Asks the store what was answered to a key; nil: nothing that it remembers.
    package typealias Answered = @Sendable (IdempotencyKey) throws -> IdempotencyRecord?

    /// - Parameter contents: what the store has. Entries that are newer than the states in it are still to be handed to `restore`.
    package init(_ contents: LogContents, limits: LogLimits, answered: @escaping Answered = { _ in nil }) {
        epoch = contents.epoch
        self.limits = limits
        head = contents.head
        self.answered = answered
        for record in contents.channels {
            precondition(record.id == channels.count, "channels are numbered without a hole")
            let feed = limits.feeds[record.name]
            indices[record.name] = record.id
            count(record.name)
            channels.append(
                Channel(
                    name: record.name, feed: feed, lastSequence: record.lastSequence, lastOffset: record.lastOffset,
                    state: ChannelState(feed.kind)
                )
            )
        }
        for record in contents.states { restore(record) }
    }

    package var channelCount: Int { channels.count }
    package func id(of channel: ChannelName) -> ChannelID? { indices[channel] }

    // MARK: appending

    /// Stages what one request publishes.
    ///
    /// - Returns: one outcome per publication, in order; not to be told before the commit is durable.
    package mutating func append(_ request: AppendRequest, nowMilliseconds: Int64) -> [AppendOutcome] {
        let key = request.idempotencyKey.map { IdempotencyKey($0, publisher: request.publisher) }
        if let key {
            do {
                if let record = try stagedAnswers[key] ?? answered(key),
                    nowMilliseconds - record.timeMilliseconds <= Int64(limits.idempotency.ageSecondsMax) * 1000
                {
                    return repeated(request, record)
                }
            } catch {
                // Taken as new, it might be stored twice.
                return request.publications.map { _ in .refused(.storeFailed) }
            }
        }
        staged.entries.reserveCapacity(max(staged.entries.count + request.publications.count, 2 * staged.entries.count))
        let outcomes = request.publications.map { publication -> AppendOutcome in
            if publication.channel.isReserved, !request.isOwn { return .refused(.reservedChannel) }
            return append(publication, nowMilliseconds: nowMilliseconds)
        }
        if let key, outcomes.contains(where: { $0.receipt != nil }) {
            // What was refused once is refused again.
            let places = outcomes.map { outcome in
                outcome.receipt.map { IdempotencyRecord.Place(channel: indices[$0.channel]!, sequence: $0.sequence, offset: $0.offset) }
            }
            let record = IdempotencyRecord(
                key: key, fingerprint: request.fingerprint, places: places, timeMilliseconds: nowMilliseconds
            )
            stagedAnswers[key] = record
            staged.idempotency.append(record)
        }
        return outcomes
    }

    /// What is said to a request under a key that was used.
    private func repeated(_ request: AppendRequest, _ record: IdempotencyRecord) -> [AppendOutcome] {
        // Nobody is told of what another request has done, whatever the fingerprint says.
        let isSame =
            (record.fingerprint ?? request.fingerprint) == request.fingerprint && record.places.count == request.publications.count
            && zip(record.places, request.publications).allSatisfy { $0 == nil || $0?.channel == indices[$1.channel] }
        guard isSame else { return request.publications.map { _ in .refused(.idempotencyKeyReused) } }
        return zip(record.places, request.publications).map { place, publication in
            guard let place else { return .refused(.refusedBefore) }
            return .repeated(AppendReceipt(channel: publication.channel, sequence: place.sequence, offset: place.offset))
        }
    }

    private mutating func append(_ publication: Publication, nowMilliseconds: Int64) -> AppendOutcome {
        let known = indices[publication.channel]
        if known == nil, !hasRoom(for: publication.channel) { return .refused(.tooManyChannels) }
        let feed = known.map { channels[Int($0)].feed } ?? limits.feeds[publication.channel]
        var document: JSONDocument?
        do throws(RefusalError) {
            document = try check(publication, known, feed)
        } catch {
            return .refused(error.refusal)
        }
        let id = known ?? insert(publication.channel, feed)
        var entry = LogEntry(
            channel: id, offset: head + 1, sequence: channels[Int(id)].lastSequence + 1, timeMilliseconds: nowMilliseconds,
            publication: publication
        )
        // One text for all messages of a channel, not one for each.
        entry.publication.channel = channels[Int(id)].name
        if let document { entry.stateBytes = UInt32(document.byteCount) }
        head = entry.offset
        channels[Int(id)].lastOffset = entry.offset
        channels[Int(id)].lastSequence = entry.sequence
        take(entry, document)
        staged.entries.append(entry)
        saveStateIfDue(id, nowMilliseconds)
        return .appended(AppendReceipt(channel: publication.channel, sequence: entry.sequence, offset: entry.offset))
    }

    private struct RefusalError: Error {
        var refusal: AppendRefusal
    }

    /// Whether the channel's state takes it.
    ///
    /// - Returns: scores: the state after it.
    private func check(_ publication: Publication, _ known: ChannelID?, _ feed: Feed) throws(RefusalError) -> JSONDocument? {
        switch feed.kind {
        case nil, .alerts:
            return nil  // a change is carried: what it means is between publisher and subscribers
        case .scores:
            var document: JSONDocument
            if publication.change == nil {
                document = JSONDocument(publication.data[...])
            } else {
                guard let known, case .document(let state?) = channels[Int(known)].state else {
                    throw RefusalError(refusal: .change(.noState))
                }
                guard state.isObject else { throw RefusalError(refusal: .change(.stateIsNotAnObject)) }
                guard publication.data.first == UInt8(ascii: "{") else { throw RefusalError(refusal: .change(.patchIsNotAnObject)) }
                document = state
                document.merge(publication.data[...])
            }
            guard document.byteCount <= feed.stateBytesMax else {
                throw RefusalError(refusal: .stateTooLarge(bytes: document.byteCount, max: feed.stateBytesMax))
            }
            return document
        case .dashboards:
            var count = 0
            var bytes = LatestEntries.bytes(publication)
            var isNew = true
            if let known, case .latest(let latest) = channels[Int(known)].state {
                let old = latest.entry(of: publication.key)
                isNew = old == nil
                count = latest.count
                bytes += latest.bytes - (old.map { LatestEntries.bytes($0.publication) } ?? 0)
            }
            if isNew, count >= feed.keysMax { throw RefusalError(refusal: .tooManyKeys(max: feed.keysMax)) }
            if bytes > feed.stateBytesMax { throw RefusalError(refusal: .stateTooLarge(bytes: bytes, max: feed.stateBytesMax)) }
            return nil
        }
    }

    /// Channels stay for the log's life. So that neither takes the other's room, publishers and readers have as much each.
    private func hasRoom(for channel: ChannelName) -> Bool {
        if !channel.isReserved { return channels.count - usersOwnCount - otherOwnCount < limits.channelsMax }
        return !channel.isUsersOwn || usersOwnCount < limits.channelsMax
    }

    private mutating func count(_ channel: ChannelName) {
        guard channel.isReserved else { return }
        if channel.isUsersOwn { usersOwnCount += 1 } else { otherOwnCount += 1 }
    }

    private mutating func insert(_ name: ChannelName, _ feed: Feed) -> ChannelID {
        let id = ChannelID(channels.count)
        count(name)
        channels.append(Channel(name: name, feed: feed, lastSequence: 0, lastOffset: 0, state: ChannelState(feed.kind)))
        indices[name] = id
        staged.channels.append(ChannelRecord(id: id, name: name))
        return id
    }

    /// Brings the channel's state up to an entry.
    private mutating func take(_ entry: LogEntry, _ document: JSONDocument?) {
        let at = Int(entry.channel)
        switch channels[at].state {
        case .none: return
        case .document:
            channels[at].state = .document(document)
            if entry.publication.change != nil { channels[at].lastChangeOffset = entry.offset }
            channels[at].lastTimeMilliseconds = entry.timeMilliseconds
        case .latest(var latest):
            channels[at].state = .none  // so that there is one owner while it changes
            latest.take(entry, maxAgeSeconds: channels[at].feed.maxAgeSeconds)
            channels[at].state = .latest(latest)
        }
        if channels[at].unsavedCount == 0 { channels[at].unsavedSinceMilliseconds = entry.timeMilliseconds }
        channels[at].unsavedCount += 1
        channels[at].unsavedBytes += entry.publication.data.count
        unsavedStates.insert(entry.channel)
    }

    // MARK: the read state of alerts

    /// Stages what a user has read.
    ///
    /// - Parameters:
    ///   - stored: what the store has of it.
    ///   - sequences: clipped to what the channel has.
    /// - Returns: false if there is no such channel, or no room for the user's own.
    package mutating func acknowledge(
        _ user: FieldText, _ channel: ChannelName, _ sequences: [ClosedRange<UInt64>], isDismissed: Bool, stored: Receipt,
        nowMilliseconds: Int64
    ) -> Bool {
        guard let id = indices[channel], let own = ChannelName(acknowledgementsOf: user) else { return false }
        if indices[own] == nil, !hasRoom(for: own) { return false }
        let last = channels[Int(id)].lastSequence
        let ranges = sequences.compactMap { range in
            range.lowerBound > last || range.upperBound == 0 ? nil : max(1, range.lowerBound)...min(range.upperBound, last)
        }
        let key = ReceiptKey(user: user, channel: id)
        let before = stagedReceipts[key] ?? stored
        var receipt = before
        for range in ranges {
            receipt.read.insert(range)
            if isDismissed { receipt.dismissed.insert(range) }
        }
        if receipt == before { return true }
        let kept = UInt64(channels[Int(id)].feed.retention.countMax)
        let floor = last > kept ? last - kept : 0
        receipt.read.mergeBelow(floor)
        receipt.dismissed.mergeBelow(floor)
        stagedReceipts[key] = receipt
        staged.receipts.removeAll { $0.user == user && $0.channel == id }
        staged.receipts.append(ReceiptRecord(user: user, channel: id, receipt: receipt))
        var data = Array(#"{"channel":"\#(channel)","ranges":["#.utf8)
        for (index, range) in ranges.enumerated() {
            data.append(contentsOf: "\(index > 0 ? "," : "")[\(range.lowerBound),\(range.upperBound)]".utf8)
        }
        data.append(contentsOf: "],\"dismissed\":\(isDismissed)}".utf8)
        var publication = Publication(channel: own, data: data)
        publication.kind = .acknowledgement
        _ = append(publication, nowMilliseconds: nowMilliseconds)
        return true
    }

    // MARK: by the clock

    /// Stages what the clock brings: values that have gone stale, states to be stored. To be called about once a second.
    package mutating func expire(nowMilliseconds: Int64) {
        for id in channels.indices {
            guard let maxAge = channels[id].feed.maxAgeSeconds, case .latest = channels[id].state else { continue }
            while let entry = popStale(id, nowMilliseconds, maxAge) {
                var publication = entry.publication
                publication.staleSinceMilliseconds = entry.timeMilliseconds
                publication.trace = nil
                _ = append(publication, nowMilliseconds: nowMilliseconds)
            }
        }
        let old = unsavedStates.filter { nowMilliseconds - channels[Int($0)].unsavedSinceMilliseconds > Self.unsavedMillisecondsMax }
        for id in old.sorted() { saveState(id) }
    }

    private mutating func popStale(_ at: Int, _ nowMilliseconds: Int64, _ maxAgeSeconds: Int) -> LogEntry? {
        guard case .latest(var latest) = channels[at].state else { return nil }
        channels[at].state = .none
        defer { channels[at].state = .latest(latest) }
        return latest.popStale(nowMilliseconds: nowMilliseconds, maxAgeSeconds: maxAgeSeconds)
    }

    /// Retention can drop no message that a state needs: it is stored after so long even if little came.
    private static let unsavedMillisecondsMax: Int64 = 600_000

    private mutating func saveStateIfDue(_ id: ChannelID, _ nowMilliseconds: Int64) {
        if channels[Int(id)].unsavedCount == 0 { return }
        let channel = channels[Int(id)]
        // A state is worth several times its size in messages before it is written again, and is written well before retention waits.
        let perMessage = 64
        let size: Int
        switch channel.state {
        case .none: return
        case .document(let document): size = document?.byteCount ?? 0
        case .latest(let latest): size = latest.bytes
        }
        let due = min(max(256, 4 * size / perMessage), max(256, channel.feed.retention.countMax / 4))
        if channel.unsavedCount >= due || channel.unsavedBytes >= max(4 * size, channel.feed.retention.bytesMax / 4) { saveState(id) }
    }

    private mutating func saveState(_ id: ChannelID) {
        let channel = channels[Int(id)]
        let body: StateRecord.Body
        switch channel.state {
        case .none: return
        case .document(let document):
            guard let document else { return }
            var text: [UInt8] = []
            document.append(to: &text)
            body = .document(text)
        case .latest(let latest):
            body = .latest(latest.entries)
        }
        staged.states.removeAll { $0.channel == id }
        staged.states.append(
            StateRecord(
                channel: id, sequence: channel.lastSequence, body: body, lastChangeOffset: channel.lastChangeOffset,
                timeMilliseconds: channel.lastTimeMilliseconds
            )
        )
        channels[Int(id)].unsavedCount = 0
        channels[Int(id)].unsavedBytes = 0
        unsavedStates.remove(id)
    }

    // MARK: commits

    /// Everything that was staged since the last time.
    package mutating func takeCommit() -> LogCommit {
        defer {
            staged = LogCommit()
            stagedReceipts.removeAll(keepingCapacity: true)
            stagedAnswers.removeAll(keepingCapacity: true)
        }
        return staged
    }

    /// What the loops are told of a commit.
    package func batch(_ commit: LogCommit) -> LogBatch {
        batch(commit.entries.map { Notification($0, epoch: epoch) })
    }

    package func batch(_ notifications: [Notification]) -> LogBatch {
        var batch = LogBatch(notifications: notifications)
        for (index, notification) in notifications.enumerated() {
            let place = Int(notification.channelID)
            guard channels[place].lastOffset == notification.offset, case .document(let document?) = channels[place].state else { continue }
            batch.documents.append((index, document))
        }
        return batch
    }

    // MARK: opening

    private mutating func restore(_ record: StateRecord) {
        let at = Int(record.channel)
        switch (record.body, channels[at].state) {
        case (.document(let text), .document):
            channels[at].state = .document(JSONDocument(text[...]))
            channels[at].lastChangeOffset = record.lastChangeOffset
            channels[at].lastTimeMilliseconds = record.timeMilliseconds
        case (.latest(let entries), .latest(var latest)):
            for entry in entries { latest.take(entry, maxAgeSeconds: channels[at].feed.maxAgeSeconds) }
            channels[at].state = .latest(latest)
        default:
            break  // the feed had another kind then
        }
    }

    /// Channels that keep a state: their entries after what is stored of it are to be handed to `restore`, in order.
    package func channelsToRestore(_ contents: LogContents) -> [(channel: ChannelID, afterSequence: UInt64)] {
        let saved = Dictionary(contents.states.map { ($0.channel, $0.sequence) }, uniquingKeysWith: { $1 })
        return channels.indices.compactMap { at in
            if case .none = channels[at].state { return nil }
            let sequence = saved[ChannelID(at)] ?? 0
            return sequence < channels[at].lastSequence ? (ChannelID(at), sequence) : nil
        }
    }

    package mutating func restore(_ entry: LogEntry) {
        let at = Int(entry.channel)
        guard case .document(let state) = channels[at].state else { return take(entry, nil) }
        if entry.publication.change == nil {
            take(entry, JSONDocument(entry.publication.data[...]))
        } else if var document = state {
            document.merge(entry.publication.data[...])
            take(entry, document)
        }
    }

    /// What a loop that begins to follow the log has to know.
    package func preload() -> LogPreload {
        var preload = LogPreload(epoch: epoch, head: head)
        for channel in channels {
            var seed = LogPreload.Channel(name: channel.name, lastSequence: channel.lastSequence, lastOffset: channel.lastOffset)
            switch channel.state {
            case .none: break
            case .document(let document):
                seed.document = document
                seed.lastChangeOffset = channel.lastChangeOffset
                seed.lastTimeMilliseconds = channel.lastTimeMilliseconds
            case .latest(let latest): seed.latest = latest.entries.map { Notification($0, epoch: epoch) }
            }
            preload.channels.append(seed)
        }
        return preload
    }
}

/// A commit, as the loops see it.
package struct LogBatch: Sendable {
    package var notifications: [Notification]
    /// Scores: the state after the notification of this index, for the last one of each channel. Shared, not copied.
    package var documents: [(index: Int, document: JSONDocument)] = []
    /// When the oldest of them was taken from its publisher, by the machine's monotonic clock; 0: not known.
    package var takenNanoseconds: Int64 = 0

    package init(notifications: [Notification]) {
        self.notifications = notifications
    }
}

/// A log as a loop begins with it: every channel, and none of the messages.
package struct LogPreload: Sendable {
    package struct Channel: Sendable {
        package var name: ChannelName
        package var lastSequence: UInt64
        package var lastOffset: UInt64
        package var document: JSONDocument?
        /// Scores: of the newest message that was a change.
        package var lastChangeOffset: UInt64 = 0
        /// Scores: of the newest message.
        package var lastTimeMilliseconds: Int64 = 0
        /// In the order of the log.
        package var latest: [Notification] = []

        package init(name: ChannelName, lastSequence: UInt64, lastOffset: UInt64) {
            self.name = name
            self.lastSequence = lastSequence
            self.lastOffset = lastOffset
        }
    }

    package var epoch: LogEpoch
    package var pastEpochs: [LogEpoch: UInt64] = [:]
    package var head: UInt64
    package var channels: [Channel] = []

    package init(epoch: LogEpoch, head: UInt64 = 0) {
        self.epoch = epoch
        self.head = head
    }
}

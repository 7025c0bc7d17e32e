/// What one event loop knows: the tail of the log, and the subscribers that read it.
///
/// A hub follows the log: batches are applied in order, and each goes at once to the subscribers that stand at the head of their
/// channels. A subscriber is a cursor. While it is *live*, the fan-out moves its cursor. When its socket is full it is *stopped*: the
/// cursor stays, messages wait in the log (not in a queue of its own), and once the socket has drained, `read` hands out pages until
/// the cursor is at the head again.
///
///      subscribe(.latest) ──────────────────────────────┐
///                                                        v
///      subscribe(.after) ──> stopped ──read: at head──> live
///                               ^                        │
///                               └──── full or refused ───┘
///
/// One who chose a rate is *paced* instead of live: the fan-out passes it by, and when its turn comes (`wake`) it reads.
///
/// A hub belongs to one event loop and is not to be touched from another.
package final class Hub {
    package let epoch: LogEpoch
    package internal(set) var tail: LogTail
    var table = SubscriberTable()
    /// By subscriber index: what it is subscribed to. The cold part.
    var profiles: [Profile] = []
    var nodes: [AudienceNode] = []
    var unusedNodes: [Int32] = []
    var nodeOfPattern: [ChannelPattern: Int32] = [:]
    var wildcards = PatternTrie<Int32>()
    /// By channel index: the nodes whose audience it has, the exact one first.
    var nodesOfChannel: [[Int32]] = []
    /// A delivery must not change who is subscribed.
    var isFanningOut = false
    private var scratch = FanOutScratch()
    var figures: HubFigures

    /// Earlier lives of the log, and how far each of them is still in it.
    let pastEpochs: [LogEpoch: UInt64]

    package init(_ preload: LogPreload, limits: LogLimits) {
        epoch = preload.epoch
        pastEpochs = preload.pastEpochs
        tail = LogTail(preload, limits: limits)
        figures = HubFigures(limits.feeds)
        for channel in tail.channels.indices { connect(ChannelID(channel)) }
    }

    /// Number of the newest message applied.
    package var head: UInt64 { tail.head }
    package var subscriberCount: Int { table.count }
    package var patternCount: Int { nodeOfPattern.count }

    package func isCurrent(_ id: SubscriberID) -> Bool { table.isCurrent(id) }

    package func isLive(_ id: SubscriberID) -> Bool {
        precondition(table.isCurrent(id))
        return table.slots[Int(id.index)].state == .live
    }

    /// Whether nothing is left to be read.
    package func isAtHead(_ id: SubscriberID) -> Bool {
        precondition(table.isCurrent(id))
        return table.slots[Int(id.index)].state != .stopped
    }

    /// The position behind everything that the subscriber's first subscription was handed.
    package func position(of id: SubscriberID) -> Position {
        precondition(table.isCurrent(id))
        let slot = table.slots[Int(id.index)]
        if slot.state == .live { return Position(epoch: epoch, offset: max(slot.cursor, head)) }
        return profiles[Int(id.index)].reader.position(cursor: slot.cursor, epoch: epoch)
    }

    package func expire(nowMilliseconds: Int64) {
        tail.expire(nowMilliseconds: nowMilliseconds)
    }

    // MARK: the fan-out

    /// Takes a batch into the tail and hands it to those who are live on its channels.
    ///
    /// Nothing is allocated, retained or locked per delivery.
    package func apply(_ batch: LogBatch, nowMilliseconds: Int64, to sink: inout some DeliverySink & ~Copyable) {
        precondition(!isFanningOut)
        isFanningOut = true
        defer { isFanningOut = false }
        figures.begin()
        apply(batch.notifications, nowMilliseconds: nowMilliseconds, to: &sink)
        #if DEFECTS
            if Defect.active == .snapshotIsOld { return }
        #endif
        for (index, document) in batch.documents { tail.set(document, channel: batch.notifications[index].channelID) }
    }

    private func apply(_ batch: [Notification], nowMilliseconds: Int64, to sink: inout some DeliverySink & ~Copyable) {
        if batch.count == 1 {
            let channel = append(batch[0], nowMilliseconds: nowMilliseconds)
            fanOutOne(channel, offset: batch[0].offset, to: &sink)
            return
        }
        for (index, notification) in batch.enumerated() {
            let channel = append(notification, nowMilliseconds: nowMilliseconds)
            collect(channel, offset: notification.offset, index: UInt32(index))
        }
        flush(batch, to: &sink)
    }

    private func append(_ notification: Notification, nowMilliseconds: Int64) -> Int32 {
        let channel = notification.channelID
        if tail.append(notification, nowMilliseconds: nowMilliseconds) { connect(channel) }
        figures.count(channel, bytes: notification.object.count)
        for node in nodesOfChannel[Int(channel)] { nodes[Int(node)].lastOffset = notification.offset }
        return channel
    }

    private func fanOutOne(_ channel: Int32, offset: UInt64, to sink: inout some DeliverySink & ~Copyable) {
        var zero: UInt32 = 0
        withUnsafePointer(to: &zero) { zero in
            let indices = UnsafeBufferPointer(start: zero, count: 1)
            for node in nodesOfChannel[Int(channel)] {
                nodes[Int(node)].subscribers.withUnsafeBufferPointer { subscribers in
                    for index in subscribers {
                        let slot = table.slots + Int(index)
                        guard slot.pointee.state == .live, slot.pointee.cursor < offset else { continue }
                        let id = SubscriberID(index: index, generation: slot.pointee.generation)
                        settle(slot, sink.deliver(Delivery(subscriber: id, indices: indices)), through: offset)
                    }
                }
            }
        }
    }

    @inline(__always)
    private func settle(_ slot: UnsafeMutablePointer<SubscriberSlot>, _ outcome: DeliveryOutcome, through offset: UInt64) {
        switch outcome {
        case .taken:
            slot.pointee.cursor = offset
        case .takenAndFull:
            slot.pointee.cursor = offset
            slot.pointee.state = .stopped
        case .refused:
            slot.pointee.state = .stopped
            #if DEFECTS
                if Defect.active == .cursorMovesOnRefused { slot.pointee.cursor = offset }
            #endif
        }
    }

    /// Notes for each live subscriber that the batch holds something for it.
    private func collect(_ channel: Int32, offset: UInt64, index: UInt32) {
        for node in nodesOfChannel[Int(channel)] {
            nodes[Int(node)].subscribers.withUnsafeBufferPointer { subscribers in
                for subscriber in subscribers {
                    let slot = table.slots + Int(subscriber)
                    guard slot.pointee.state == .live, slot.pointee.cursor < offset else { continue }
                    scratch.add(index, for: subscriber, slot)
                }
            }
        }
    }

    /// One delivery per subscriber, with all that the batch holds for it.
    private func flush(_ batch: [Notification], to sink: inout some DeliverySink & ~Copyable) {
        for subscriber in scratch.touched {
            let slot = table.slots + Int(subscriber)
            let id = SubscriberID(index: subscriber, generation: slot.pointee.generation)
            let last = scratch.gather(slot)
            let outcome = scratch.gathered.withUnsafeBufferPointer { indices in
                sink.deliver(Delivery(subscriber: id, indices: indices))
            }
            settle(slot, outcome, through: batch[Int(last)].offset)
        }
        scratch.clear()
    }
}

/// Linked lists of batch indices per subscriber, in arrays that keep their memory from batch to batch.
private struct FanOutScratch {
    private struct Entry {
        var index: UInt32
        var next: Int32
    }

    private var entries: [Entry] = []
    private(set) var touched: [UInt32] = []
    private(set) var gathered: [UInt32] = []

    mutating func add(_ index: UInt32, for subscriber: UInt32, _ slot: UnsafeMutablePointer<SubscriberSlot>) {
        let entry = Int32(entries.count)
        if slot.pointee.firstEntry < 0 {
            slot.pointee.firstEntry = entry
            touched.append(subscriber)
        } else {
            // Two patterns of one subscriber may match the same channel.
            if entries[Int(slot.pointee.lastEntry)].index == index { return }
            entries[Int(slot.pointee.lastEntry)].next = entry
        }
        slot.pointee.lastEntry = entry
        entries.append(Entry(index: index, next: -1))
    }

    /// Fills `gathered` with the subscriber's list, and takes the list off the slot.
    ///
    /// - Returns: the last index of it.
    mutating func gather(_ slot: UnsafeMutablePointer<SubscriberSlot>) -> UInt32 {
        gathered.removeAll(keepingCapacity: true)
        var at = slot.pointee.firstEntry
        while at >= 0 {
            gathered.append(entries[Int(at)].index)
            at = entries[Int(at)].next
        }
        slot.pointee.firstEntry = -1
        slot.pointee.lastEntry = -1
        return gathered[gathered.count - 1]
    }

    mutating func clear() {
        entries.removeAll(keepingCapacity: true)
        touched.removeAll(keepingCapacity: true)
    }
}

import CPrefetch

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
    // The fan-out is the only one who touches these meanwhile (`isFanningOut`); to check that for each message would cost.
    @exclusivity(unchecked) package internal(set) var tail: LogTail
    @exclusivity(unchecked) var table = SubscriberTable()
    /// By subscriber index: what it is subscribed to. The cold part.
    var profiles: [Profile] = []
    @exclusivity(unchecked) var nodes: [AudienceNode] = []
    var unusedNodes: [Int32] = []
    var nodeOfPattern: [ChannelPattern: Int32] = [:]
    var wildcards = PatternTrie<Int32>()
    /// By channel index: the nodes whose audience it has, the exact one first.
    @exclusivity(unchecked) var nodesOfChannel: [[Int32]] = []
    /// A delivery must not change who is subscribed.
    var isFanningOut = false
    @exclusivity(unchecked) private var scratch = FanOutScratch()
    @exclusivity(unchecked) var figures: HubFigures

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
        flush(to: &sink)
    }

    private func append(_ notification: Notification, nowMilliseconds: Int64) -> Int32 {
        let channel = notification.channelID
        if tail.append(notification, nowMilliseconds: nowMilliseconds) { connect(channel) }
        figures.count(channel, bytes: notification.object.count)
        return channel
    }

    private func fanOutOne(_ channel: Int32, offset: UInt64, to sink: inout some DeliverySink & ~Copyable) {
        var zero: UInt32 = 0
        withUnsafePointer(to: &zero) { zero in
            let indices = UnsafeBufferPointer(start: zero, count: 1)
            for node in nodesOfChannel[Int(channel)] {
                nodes[Int(node)].lastOffset = offset
                nodes[Int(node)].subscribers.withUnsafeBufferPointer { subscribers in
                    for (place, index) in subscribers.enumerated() {
                        // One has been found by now, in a row as they are; what it leads to lies anywhere.
                        if place + 1 < subscribers.count { sink.prefetchFurther(subscribers[place + 1]) }
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
            nodes[Int(node)].lastOffset = offset
            nodes[Int(node)].subscribers.withUnsafeBufferPointer { subscribers in
                for subscriber in subscribers {
                    let slot = table.slots + Int(subscriber)
                    guard slot.pointee.state == .live, slot.pointee.cursor < offset else { continue }
                    scratch.add(index, offset: offset, for: subscriber, slot)
                }
            }
        }
    }

    /// One delivery per subscriber, with all that the batch holds for it.
    private func flush(to sink: inout some DeliverySink & ~Copyable) {
        let slots = table.slots
        var scratch = exchange(&scratch, with: FanOutScratch())
        // In the order of their places: so that what the next one needs, here and in the kernel, lies beside what this one needed.
        var next = scratch.popFirst()
        var second = scratch.popFirst()
        while let subscriber = next {
            (next, second) = (second, scratch.popFirst())
            if let second {
                tocsin_prefetch(slots + Int(second))
                sink.prefetch(second)
            }
            if let next {
                scratch.prefetch(slots + Int(next))
                sink.prefetchFurther(next)
            }
            let slot = slots + Int(subscriber)
            let id = SubscriberID(index: subscriber, generation: slot.pointee.generation)
            let through = scratch.gather(slot)
            let outcome = scratch.gathered.withUnsafeBufferPointer { indices in
                sink.deliver(Delivery(subscriber: id, indices: indices))
            }
            settle(slot, outcome, through: through)
        }
        scratch.clear()
        self.scratch = scratch
    }
}

/// Linked lists of batch indices per subscriber, in arrays that keep their memory from batch to batch.
private struct FanOutScratch {
    private struct Entry {
        var index: UInt32
        var next: Int32
        /// Of the notification, which is not to be looked at for it: it may be far away.
        var offset: UInt64
    }

    private var entries: [Entry] = []
    /// A bit for each subscriber that has a list.
    private var marks: [UInt64] = []
    /// Words of `marks` that may have bits.
    private var marked = 0..<0
    private(set) var gathered: [UInt32] = []

    mutating func add(_ index: UInt32, offset: UInt64, for subscriber: UInt32, _ slot: UnsafeMutablePointer<SubscriberSlot>) {
        let entry = Int32(entries.count)
        if slot.pointee.firstEntry < 0 {
            slot.pointee.firstEntry = entry
            mark(subscriber)
        } else {
            // Two patterns of one subscriber may match the same channel.
            if entries[Int(slot.pointee.lastEntry)].index == index { return }
            entries[Int(slot.pointee.lastEntry)].next = entry
        }
        slot.pointee.lastEntry = entry
        entries.append(Entry(index: index, next: -1, offset: offset))
    }

    private mutating func mark(_ subscriber: UInt32) {
        let word = Int(subscriber >> 6)
        while marks.count <= word { marks.append(0) }
        marks[word] |= 1 << UInt64(subscriber & 63)
        marked = marked.isEmpty ? word..<word + 1 : min(marked.lowerBound, word)..<max(marked.upperBound, word + 1)
    }

    /// Takes the mark off the first subscriber that has one.
    mutating func popFirst() -> UInt32? {
        while let word = marked.first {
            let bits = marks[word]
            if bits != 0 {
                marks[word] = bits & (bits - 1)
                return UInt32(word << 6 + bits.trailingZeroBitCount)
            }
            marked = marked.dropFirst()
        }
        return nil
    }

    /// To be called when the slot is near.
    func prefetch(_ slot: UnsafeMutablePointer<SubscriberSlot>) {
        entries.withUnsafeBufferPointer { tocsin_prefetch($0.baseAddress! + Int(max(0, slot.pointee.firstEntry))) }
    }

    /// Fills `gathered` with the subscriber's list, and takes the list off the slot.
    ///
    /// - Returns: the number in the log of its last notification.
    mutating func gather(_ slot: UnsafeMutablePointer<SubscriberSlot>) -> UInt64 {
        gathered.removeAll(keepingCapacity: true)
        var at = slot.pointee.firstEntry
        while at >= 0 {
            gathered.append(entries[Int(at)].index)
            at = entries[Int(at)].next
        }
        defer {
            slot.pointee.firstEntry = -1
            slot.pointee.lastEntry = -1
        }
        return entries[Int(slot.pointee.lastEntry)].offset
    }

    mutating func clear() {
        entries.removeAll(keepingCapacity: true)
    }
}

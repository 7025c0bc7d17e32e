import DequeModule

/// Reading on: how a cursor that is behind gets to the head.
extension Hub {
    /// The next page for a stopped subscriber.
    ///
    /// The caller takes all of it. When the page says `isLive`, nothing more is to be read.
    ///
    /// - Parameters:
    ///   - notificationsMax: at least 1.
    ///   - bytesMax: no further notification is added once their objects have so many bytes.
    package func read(_ id: SubscriberID, notificationsMax: Int, bytesMax: Int) -> Page {
        precondition(!isFanningOut && table.isCurrent(id) && notificationsMax > 0)
        let at = Int(id.index)
        var page = Page()
        guard table.slots[at].state == .stopped || !profiles[at].sideReaders.isEmpty else {
            page.isLive = true
            return page
        }
        var room = Room(notifications: notificationsMax, bytes: bytesMax)
        if table.slots[at].state == .stopped {
            let isAtHead = read(
                channels(of: at, reader: 0), &table.slots[at].cursor, &profiles[at].main, &room, &page
            )
            if isAtHead { table.slots[at].state = .live }
        }
        var finished: [UInt16] = []
        for reader in profiles[at].sideReaders.indices {
            var side = profiles[at].sideReaders[reader]
            let isAtHead = read(channels(of: at, reader: side.number), &side.cursor, &side.notes, &room, &page)
            profiles[at].sideReaders[reader] = side
            if isAtHead { finished.append(side.number) }
        }
        if table.slots[at].state == .live { merge(id.index, finished) }
        page.isLive = table.slots[at].state == .live && profiles[at].sideReaders.isEmpty
        return page
    }

    private struct Room {
        var notifications: Int
        var bytes: Int
        var isEmpty: Bool { notifications <= 0 || bytes <= 0 }
    }

    /// Side readers that came to the head are from now on read by the main cursor, which is there too.
    private func merge(_ subscriber: UInt32, _ numbers: [UInt16]) {
        let at = Int(subscriber)
        guard !numbers.isEmpty else { return }
        table.slots[at].cursor = max(table.slots[at].cursor, head)
        for subscription in profiles[at].subscriptions.indices
        where numbers.contains(profiles[at].subscriptions[subscription].reader) {
            take(subscriber, subscription)
        }
        profiles[at].sideReaders.removeAll { numbers.contains($0.number) }
    }

    /// The channels that a reader has, each once.
    private func channels(of subscriber: Int, reader: UInt16) -> [Int32] {
        let subscriptions = profiles[subscriber].subscriptions
        if subscriptions.count == 1, subscriptions[0].reader == reader { return nodes[Int(subscriptions[0].node)].channels }
        var channels: [Int32] = []
        for subscription in subscriptions where subscription.reader == reader {
            channels.append(contentsOf: nodes[Int(subscription.node)].channels)
        }
        return Array(Set(channels))
    }

    /// Merges the channels' tails by log number.
    ///
    /// - Returns: whether the cursor is at the head.
    private func read(
        _ channels: [Int32], _ cursor: inout UInt64, _ notes: inout ReadingNotes, _ room: inout Room, _ page: inout Page
    ) -> Bool {
        var told = begin(channels, cursor, notes, &page)
        var sources = SourceHeap()
        for channel in channels {
            let known = tail[channel]
            guard known.lastOffset > cursor else { continue }
            if known.trimmedOffset > cursor, known.trimmedSequence > told[channel] ?? 0 {
                page.gaps.append(
                    Gap(
                        channel: known.name, from: (told[channel] ?? 0) + 1, to: known.trimmedSequence, reason: .retention, offset: cursor
                    )
                )
                told[channel] = known.trimmedSequence
            }
            let index = known.index(afterOffset: cursor)
            if index < known.notifications.count {
                sources.insert(Source(offset: known.notifications[index].offset, channel: channel, index: index))
            }
        }
        while let source = sources.first {
            if room.isEmpty {
                notes = told.isEmpty ? .none : .told(told)
                return false
            }
            let notifications = tail[source.channel].notifications
            let notification = notifications[source.index]
            page.notifications.append(notification)
            cursor = notification.offset
            room.notifications -= 1
            room.bytes -= notification.object.count
            let next = source.index + 1
            sources.replaceFirst(
                with: next < notifications.count
                    ? Source(offset: notifications[next].offset, channel: source.channel, index: next) : nil
            )
        }
        cursor = max(cursor, head)
        notes = .none
        return true
    }

    /// - Returns: by channel, the highest dropped sequence that the reader knows of or does not ask for.
    private func begin(_ channels: [Int32], _ cursor: UInt64, _ notes: ReadingNotes, _ page: inout Page) -> [Int32: UInt64] {
        switch notes {
        case .none:
            return [:]
        case .told(let told):
            return told
        case .foreign:
            page.gaps.append(Gap(channel: nil, from: nil, to: nil, reason: .epoch, offset: cursor))
        case .earliest:
            break
        }
        var told: [Int32: UInt64] = [:]
        for channel in channels where tail[channel].trimmedSequence > 0 { told[channel] = tail[channel].trimmedSequence }
        return told
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

import DequeModule
package import JSONCodec

/// What a loop has of one channel in memory: its newest messages, oldest first, and its state if its kind has one.
package struct ChannelTail {
    package let name: ChannelName
    package let feed: Feed
    private(set) var notifications: Deque<Notification> = []
    package private(set) var bytes = 0
    /// Of the newest message; 0 if there was none.
    package private(set) var lastSequence: UInt64
    package private(set) var lastOffset: UInt64
    /// Of the newest message that is not in memory: the log may have it. 0 if all are.
    package private(set) var floorSequence: UInt64
    package private(set) var floorOffset: UInt64
    /// Scores: of the newest message that was a change of the state.
    private(set) var lastChangeOffset: UInt64
    private var lastTimeMilliseconds: Int64
    /// Scores: the state after the newest message.
    package private(set) var document: JSONDocument?
    /// Dashboards: the newest message of each key.
    private(set) var latest: [FieldText?: Notification] = [:]

    init(_ seed: LogPreload.Channel, feed: Feed) {
        name = seed.name
        self.feed = feed
        lastSequence = seed.lastSequence
        lastOffset = seed.lastOffset
        floorSequence = seed.lastSequence
        floorOffset = seed.lastOffset
        lastChangeOffset = seed.lastChangeOffset
        lastTimeMilliseconds = seed.lastTimeMilliseconds
        document = seed.document
        for notification in seed.latest { latest[notification.key] = notification }
    }

    package var count: Int { notifications.count }
    package var first: Notification? { notifications.first }
    package var last: Notification? { notifications.last }

    mutating func append(_ notification: Notification) {
        precondition(notification.sequence == lastSequence + 1 && notification.offset > lastOffset, "the log is out of order")
        lastSequence = notification.sequence
        lastOffset = notification.offset
        lastTimeMilliseconds = notification.timeMilliseconds
        notifications.append(notification)
        bytes += notification.bytes
        if notification.isChange { lastChangeOffset = notification.offset }
        if feed.kind == .dashboards { latest[notification.key] = notification }
    }

    mutating func set(_ document: JSONDocument) {
        self.document = document
    }

    /// - Returns: the bytes given back.
    @discardableResult
    mutating func dropOldest() -> Int {
        guard let oldest = notifications.popFirst() else { return 0 }
        floorSequence = oldest.sequence
        floorOffset = oldest.offset
        bytes -= oldest.bytes
        return oldest.bytes
    }

    func isOverLimit(nowMilliseconds: Int64) -> Bool {
        guard let oldest = notifications.first else { return false }
        return notifications.count > feed.retention.countMax || bytes > feed.retention.bytesMax
            || nowMilliseconds - oldest.timeMilliseconds > Int64(feed.retention.ageSecondsMax) * 1000
    }

    /// Whether everything after this log number is in memory.
    func reaches(back offset: UInt64) -> Bool { floorOffset <= offset }

    /// Index of the first message in memory with a greater log number.
    func index(afterOffset offset: UInt64) -> Int {
        var low = 0
        var high = notifications.count
        while low < high {
            let middle = (low + high) / 2
            if notifications[middle].offset > offset { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// The sequence of the newest message that is not after this log number; nil if memory does not tell.
    func sequence(at offset: UInt64) -> UInt64? {
        if offset >= lastOffset { return lastSequence }
        guard reaches(back: offset) else { return nil }
        let index = index(afterOffset: offset)
        return index == 0 ? floorSequence : notifications[index - 1].sequence
    }

    /// The state, if it has one.
    var state: StateOfChannel? {
        switch feed.kind {
        case .scores: document.map { state(.document($0)) }
        case .dashboards: latest.isEmpty ? nil : state(.values(latest))
        case nil, .alerts: nil
        }
    }

    private func state(_ content: StateOfChannel.Content) -> StateOfChannel {
        StateOfChannel(
            channel: name, sequence: lastSequence, offset: lastOffset, timeMilliseconds: lastTimeMilliseconds, content: content)
    }

    /// The state as one message, if it has one.
    package var snapshot: ChannelSnapshot? { state?.snapshot }
}

/// The state of a channel at a moment, as it lies in memory: what is the same later is shared with it.
struct StateOfChannel {
    enum Content {
        case document(JSONDocument)
        case values([FieldText?: Notification])
    }

    var channel: ChannelName
    /// It stands for everything up to here.
    var sequence: UInt64
    var offset: UInt64
    var timeMilliseconds: Int64
    var content: Content

    /// As one message.
    var snapshot: ChannelSnapshot {
        var data: [UInt8] = []
        var time = timeMilliseconds
        var staleKeys: [String] = []
        switch content {
        case .document(let document): document.append(to: &data)
        case .values(let values):
            data.append(UInt8(ascii: "{"))
            for notification in values.values.sorted(by: { $0.offset < $1.offset }) {
                if data.count > 1 { data.append(UInt8(ascii: ",")) }
                JSONText.appendString(notification.key?.string ?? "", into: &data)
                data.append(UInt8(ascii: ":"))
                data.append(contentsOf: notification.object[notification.data])
                if notification.isStale { staleKeys.append(notification.key?.string ?? "") }
                time = notification.timeMilliseconds
            }
            data.append(UInt8(ascii: "}"))
        }
        return ChannelSnapshot(
            channel: channel, sequence: sequence, offset: offset, timeMilliseconds: time, data: data, staleKeys: staleKeys.sorted())
    }
}

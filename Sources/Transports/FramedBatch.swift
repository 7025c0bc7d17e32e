package import NotificationCore

/// A batch of the log in every form that somebody wants: each form is made once, when the first subscriber of that form comes, and
/// those same bytes go to all of them.
///
/// All messages of the batch stand one behind the other in one buffer per form, so a subscriber that gets several of them in a row
/// gets them with one write.
package struct FramedBatch: ~Copyable {
    private struct Form {
        var bytes: [UInt8] = []
        /// Where each message ends; empty: not made yet.
        var ends: [Int] = []
        /// The same bytes at an address that stays, for system calls; as much as the largest batch so far needed, up to a bound.
        var memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    }

    /// The body of a long-poll answer.
    package struct LongPoll {
        package fileprivate(set) var bytes: [UInt8] = []
        /// Where that stands which an answer says of its session.
        package fileprivate(set) var place = 0
        /// The position that it gives.
        package fileprivate(set) var offset: UInt64 = 0
    }

    /// What a form keeps of its memory from batch to batch.
    private static let keptBytesMax = 1 << 20

    private let epoch: LogEpoch
    private let compression: WireCompression
    package private(set) var notifications: [Notification] = []
    private var forms = Array(repeating: Form(), count: WireShape.allCases.count)
    private var answer: (indices: [UInt32], longPoll: LongPoll) = ([], LongPoll())

    package init(epoch: LogEpoch, compression: WireCompression) {
        self.epoch = epoch
        self.compression = compression
    }

    deinit {
        for form in forms { form.memory.deallocate() }
    }

    /// Begins with another batch. Buffers keep their memory if nobody else holds them.
    package mutating func begin(_ notifications: [Notification]) {
        self.notifications = notifications
        for form in forms.indices where !forms[form].ends.isEmpty {
            forms[form].bytes.removeAll(keepingCapacity: forms[form].bytes.capacity <= Self.keptBytesMax)
            forms[form].ends.removeAll(keepingCapacity: true)
        }
        answer.indices.removeAll(keepingCapacity: true)
    }

    /// The bytes that make up these messages, if they follow each other in the batch. Valid until the next batch.
    @inline(__always)
    package mutating func run(_ indices: UnsafeBufferPointer<UInt32>, _ shape: WireShape) -> UnsafeRawBufferPointer? {
        let first = Int(indices[0])
        let last = Int(indices[indices.count - 1])
        #if DEFECTS
            if Defect.active == .runSpansOthers { return wholeRun(first, last, shape) }
        #endif
        guard last - first == indices.count - 1 else { return nil }
        let form = Int(shape.rawValue)
        if forms[form].ends.isEmpty { make(shape) }
        let start = first == 0 ? 0 : forms[form].ends[first - 1]
        return UnsafeRawBufferPointer(rebasing: forms[form].memory[start..<forms[form].ends[last]])
    }

    #if DEFECTS
        private mutating func wholeRun(_ first: Int, _ last: Int, _ shape: WireShape) -> UnsafeRawBufferPointer {
            let form = Int(shape.rawValue)
            if forms[form].ends.isEmpty { make(shape) }
            let start = first == 0 ? 0 : forms[form].ends[first - 1]
            return UnsafeRawBufferPointer(rebasing: forms[form].memory[start..<forms[form].ends[last]])
        }
    #endif

    /// Calls `body` with each run of bytes that makes up these messages: one, if they follow each other in the batch.
    package mutating func withRuns(
        _ indices: UnsafeBufferPointer<UInt32>, _ shape: WireShape, _ body: (borrowing [UInt8], Range<Int>) -> Void
    ) {
        let form = Int(shape.rawValue)
        if forms[form].ends.isEmpty { make(shape) }
        var first = 0
        while first < indices.count {
            var last = first
            while last + 1 < indices.count, indices[last + 1] == indices[last] + 1 { last += 1 }
            let start = indices[first] == 0 ? 0 : forms[form].ends[Int(indices[first]) - 1]
            body(forms[form].bytes, start..<forms[form].ends[Int(indices[last])])
            first = last + 1
        }
    }

    /// The body of the long-poll answer with these messages. Kept, as the next poller is likely to get the same.
    package mutating func longPoll(_ indices: UnsafeBufferPointer<UInt32>) -> LongPoll {
        if !answer.indices.elementsEqual(indices) || answer.indices.isEmpty {
            let messages = indices.map { notifications[Int($0)] }
            let offset = messages.last!.offset
            let frame = LongPollAnswer.Frame(positions: [Position(epoch: epoch, offset: offset)])
            var place = 0
            let bytes = LongPollAnswer.body(messages.map { .notification($0) }, frame, placeOfSession: &place)
            answer = (Array(indices), LongPoll(bytes: bytes, place: place, offset: offset))
        }
        return answer.longPoll
    }

    private mutating func make(_ shape: WireShape) {
        let form = Int(shape.rawValue)
        for notification in notifications {
            shape.append(notification, epoch: epoch, compression, to: &forms[form].bytes)
            forms[form].ends.append(forms[form].bytes.count)
        }
        let count = forms[form].bytes.count
        if forms[form].memory.count < count || forms[form].memory.count > Self.keptBytesMax {
            forms[form].memory.deallocate()
            forms[form].memory = .allocate(byteCount: max(count, 4096), alignment: 16)
        }
        forms[form].memory.copyBytes(from: forms[form].bytes)
    }
}

/// Names a subscriber of one hub. The generation tells a reused place from the one that was meant.
package struct SubscriberID: Hashable, Sendable {
    package let index: UInt32
    package let generation: UInt32
}

/// The part of a subscriber that the fan-out touches: 32 bytes, side by side in memory.
struct SubscriberSlot {
    enum State: UInt8 {
        case free
        /// At the head: what is appended is handed out at once.
        case live
        /// Its socket is full, or it still reads on: what is appended waits in the log.
        case stopped
        /// At the head, but served only when its turn comes: it chose a rate.
        case paced
    }

    /// Everything up to here, on its channels, was handed out.
    var cursor: UInt64 = 0
    var generation: UInt32 = 0
    var state: State = .free
    /// The list of what a batch holds for it, as indices of the hub's scratch entries.
    var firstEntry: Int32 = -1
    var lastEntry: Int32 = -1
}

/// Places for subscribers at fixed addresses, so that a fan-out is a walk over plain memory.
struct SubscriberTable: ~Copyable {
    private(set) var slots: UnsafeMutablePointer<SubscriberSlot>
    private(set) var capacity: Int
    private var unused: [UInt32] = []
    private var used = 0

    init() {
        capacity = 64
        slots = .allocate(capacity: capacity)
        slots.initialize(repeating: SubscriberSlot(), count: capacity)
    }

    deinit {
        slots.deinitialize(count: capacity)
        slots.deallocate()
    }

    var count: Int { used - unused.count }
    /// Places that were ever used: nobody is behind them.
    var usedPlaces: Int { used }

    mutating func insert(cursor: UInt64) -> SubscriberID {
        let index: UInt32
        if let reused = unused.popLast() {
            index = reused
        } else {
            if used == capacity { grow() }
            index = UInt32(used)
            used += 1
        }
        slots[Int(index)].cursor = cursor
        slots[Int(index)].state = .stopped
        return SubscriberID(index: index, generation: slots[Int(index)].generation)
    }

    mutating func remove(_ id: SubscriberID) {
        precondition(isCurrent(id))
        slots[Int(id.index)].state = .free
        slots[Int(id.index)].generation &+= 1
        unused.append(id.index)
    }

    func isCurrent(_ id: SubscriberID) -> Bool {
        id.index < used && slots[Int(id.index)].state != .free && slots[Int(id.index)].generation == id.generation
    }

    private mutating func grow() {
        let larger = UnsafeMutablePointer<SubscriberSlot>.allocate(capacity: capacity * 2)
        larger.moveInitialize(from: slots, count: capacity)
        (larger + capacity).initialize(repeating: SubscriberSlot(), count: capacity)
        slots.deallocate()
        slots = larger
        capacity *= 2
    }
}

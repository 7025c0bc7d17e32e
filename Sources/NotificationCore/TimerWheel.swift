/// Deadlines and heartbeats of many connections on one timer.
///
/// A wheel of slots, one a tick. An entry is only a number, and is not taken out when its deadline moves: the owner remembers at which
/// tick it wants to be looked at, and passes over entries that come at another. So moving a deadline costs nothing.
package struct TimerWheel {
    private static let slotCount: UInt32 = 256
    private var slots: [[UInt32]] = Array(repeating: [], count: Int(slotCount))
    package private(set) var now: UInt32 = 0

    package init() {}

    /// Puts `entry` where it comes out at `tick`: not before the next one, and not further off than a round of the wheel.
    ///
    /// - Returns: the tick at which it does.
    package mutating func schedule(_ entry: UInt32, at tick: UInt32) -> UInt32 {
        let due = min(max(tick, now + 1), now + Self.slotCount - 1)
        slots[Int(due % Self.slotCount)].append(entry)
        return due
    }

    /// Goes on by one tick.
    ///
    /// - Returns: the entries that come out.
    package mutating func advance() -> [UInt32] {
        now += 1
        let slot = Int(now % Self.slotCount)
        guard !slots[slot].isEmpty else { return [] }
        let due = slots[slot]
        slots[slot] = []
        return due
    }
}

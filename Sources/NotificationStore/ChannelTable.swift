import NotificationCore
import Synchronization

/// What the store keeps in memory of each channel: some 200 bytes. The writer changes it, the reader asks.
///
/// It is what makes readers cheap (who is asked for nothing new answers without the disk) and exact: the count that a channel is kept
/// to holds from the commit on, not from when the rows go.
struct ChannelState: Sendable {
    let name: ChannelName
    let kind: FeedKind?
    let retention: Retention
    var lastSequence: UInt64 = 0
    var lastOffset: UInt64 = 0
    /// Of the newest message whose row was deleted.
    var trimmedSequence: UInt64 = 0
    var trimmedOffset: UInt64 = 0
    /// `total` of its newest run; 0 when there is none.
    var total: UInt64 = 0
    /// Of the newest stored state.
    var stateSequence: UInt64 = 0
    /// Its oldest run, as far as retention wants to know; nil: not looked at yet, or there is none.
    var oldest: OldestRun?

    struct OldestRun: Sendable {
        var lastSequence: UInt64
        var lastTime: Int64
        /// `total` of it.
        var total: UInt64
        /// Bytes of its body.
        var bytes: UInt64
    }

    init(_ record: ChannelRecord, feed: Feed) {
        name = record.name
        kind = feed.kind
        retention = feed.retention
        lastSequence = record.lastSequence
        lastOffset = record.lastOffset
        trimmedSequence = record.trimmedSequence
        trimmedOffset = record.trimmedOffset
    }

    var hasRuns: Bool { lastSequence > trimmedSequence }

    /// The newest sequence that readers do not get any more, whether its row is still there or not.
    var hiddenSequence: UInt64 {
        let count = UInt64(max(0, retention.countMax))
        return max(trimmedSequence, lastSequence > count ? lastSequence - count : 0)
    }

    /// Whether its messages make a state, so that none may go that is not yet in the stored one.
    var keepsState: Bool { kind == .scores || kind == .dashboards }

    /// Whether `run`, its oldest, is to go.
    func drops(_ run: OldestRun, nowMilliseconds: Int64) -> Bool {
        if keepsState, run.lastSequence > stateSequence { return false }
        if run.lastSequence <= hiddenSequence { return true }
        let age = Int64(clamping: retention.ageSecondsMax).multipliedReportingOverflow(by: 1000)
        if !age.overflow, run.lastTime < nowMilliseconds &- age.partialValue { return true }
        let bytes = total &- run.total &+ run.bytes
        return bytes > UInt64(max(0, retention.bytesMax)) && run.lastSequence < lastSequence
    }

    func record(id: ChannelID) -> ChannelRecord {
        ChannelRecord(
            id: id, name: name, lastSequence: lastSequence, lastOffset: lastOffset, trimmedSequence: trimmedSequence,
            trimmedOffset: trimmedOffset)
    }
}

/// All channels, by number.
final class ChannelTable: Sendable {
    private let states = Mutex<[ChannelState]>([])

    var count: Int { states.withLock { $0.count } }

    /// nil: there is no such channel.
    subscript(channel: ChannelID) -> ChannelState? {
        states.withLock { $0.indices.contains(Int(channel)) ? $0[Int(channel)] : nil }
    }

    subscript(channels: [ChannelID]) -> [ChannelState?] {
        states.withLock { states in channels.map { states.indices.contains(Int($0)) ? states[Int($0)] : nil } }
    }

    func withAll<Result: Sendable>(_ body: (inout [ChannelState]) -> sending Result) -> Result {
        states.withLock { body(&$0) }
    }
}

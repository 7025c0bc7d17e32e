package import NIOCore
package import NotificationCore
package import NotificationStore

/// Told the outcomes on the loop that asked, after it has applied what was appended.
package typealias AppendCompletion = @Sendable ([AppendOutcome]) -> Void

package enum AcknowledgeOutcome: UInt8, Sendable {
    case done
    case noChannel
    case storeFailed
    /// Of the users who have acknowledged something there are as many as may be.
    case tooManyUsers
}

/// The log, as the loops of a process use it: `EmbeddedLog` where it is in this process, `SharedLog` where it is in the main process.
package protocol LogService: AnyObject, Sendable {
    var epoch: LogEpoch { get }
    /// The newest number that was given out. A loop may not have applied it yet.
    var head: UInt64 { get }
    /// Why nothing is taken at the moment; nil: all is well.
    var fault: StoreFault? { get }
    var statistics: StoreStatistics { get }

    /// Adds a loop that is told every batch from now on, in one hop each. The numbers of followers are 0, 1, 2, …
    func follow(_ follower: any LogFollower)

    func append(_ request: AppendRequest, from follower: any LogFollower, completion: @escaping AppendCompletion)

    /// Stores what a user has read. The user's other devices are told through the user's own channel.
    func acknowledge(
        _ user: FieldText, _ channel: ChannelName, _ ranges: [ClosedRange<UInt64>], isDismissed: Bool, from follower: any LogFollower,
        completion: @escaping @Sendable (AcknowledgeOutcome) -> Void
    )

    /// Reads from the store, on the reader's thread; the answer comes on the loop that asked.
    func read<Value: Sendable>(
        from follower: any LogFollower, _ body: @escaping @Sendable (NotificationStore) throws(StoreFault) -> Value,
        completion: @escaping @Sendable (Result<Value, StoreFault>) -> Void
    )

    /// Nothing is taken any more; what was taken before is still appended.
    func close() async
}

/// Who follows the log, on an event loop of its own.
package protocol LogFollower: AnyObject {
    var number: Int { get }
    var eventLoop: any EventLoop { get }

    /// Takes a batch of the log.
    func apply(_ batch: LogBatch)
}

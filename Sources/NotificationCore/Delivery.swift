/// What one batch holds for one subscriber that stands at the head: the values that the core hands out instead of frames.
package struct Delivery {
    package let subscriber: SubscriberID
    /// Which notifications of the batch, in order. Valid during the call.
    package let indices: UnsafeBufferPointer<UInt32>
}

/// What became of a delivery.
package enum DeliveryOutcome {
    /// All of it was taken, and there is room for more.
    case taken
    /// All of it was taken, and there is no room for more: the cursor stops behind it.
    case takenAndFull
    /// Nothing of it was taken: the cursor stays before it.
    case refused
}

/// Takes deliveries to the transports. Must not call the hub back.
package protocol DeliverySink: ~Copyable {
    mutating func deliver(_ delivery: Delivery) -> DeliveryOutcome
    /// The subscriber at this place gets a delivery soon: what is known of it by its place can be brought nearer meanwhile.
    func prefetch(_ index: UInt32)
    /// It gets the next one or the one after: what that leads to can be brought nearer, too.
    func prefetchFurther(_ index: UInt32)
}

extension DeliverySink where Self: ~Copyable {
    package func prefetch(_ index: UInt32) {}
    package func prefetchFurther(_ index: UInt32) {}
}

/// What a subscriber that is behind gets next.
package struct Page {
    package var items: [PageItem] = []
    /// Whether the subscriber now stands at the head: nothing more is to be read, until it is full again or its next turn comes.
    package var isAtHead = false
}

package enum PageItem {
    case gap(Gap)
    /// As it is stored.
    case notification(Notification)
    /// With a count of messages that were left out before it, or in the midst of a window.
    case marked(Notification, skipped: UInt64, position: Position)
    case snapshot(ChannelSnapshot, position: Position?)
    case digest(ChannelName, Digest, position: Position)

    package var notification: Notification? {
        switch self {
        case .notification(let notification), .marked(let notification, _, _): notification
        case .gap, .snapshot, .digest: nil
        }
    }
}

/// What reading came to.
package enum ReadStep {
    case page(Page)
    /// The log has to be asked first; the answer goes into the next `read`.
    case wants(LogRequest)
    /// The log has given out numbers that this hub has not seen yet: to be tried again when it has.
    case notYet
}

/// A question to the log, and what it was asked for.
package struct LogRequest: Sendable {
    package var query: LogQuery
    var revision: UInt32
}

/// Explicit word that something is not delivered.
package struct Gap: Hashable, Sendable {
    package enum Reason: String, Sendable {
        /// The messages were dropped under the retention rules.
        case retention
        /// The position is of another life of the log, or not of this log at all: what came between is not known.
        case epoch
        /// They expired before they could be delivered, and nothing of their channel came after them.
        case expired
        /// The user has read them, or they were replaced or have expired, and nothing of their channel came after them.
        case read
        /// Newer values of their keys are on the way.
        case conflated
        /// The states of all channels together are too large to begin with: this one is to be fetched.
        case size
        /// The user has acknowledged more, on other devices, than is kept. It names no channel.
        case acks
        /// What is stored of them is not what was written.
        case damaged
    }

    /// nil: all channels of the subscription, which are `patterns`.
    package var channel: ChannelName?
    package var patterns: [ChannelPattern] = []
    /// The lowest and highest sequence that are missing; nil where not known. With `retention`, `from` is exact only if the
    /// subscriber's own last sequence is not higher: the log does not remember numbers of what it dropped.
    package var from: UInt64?
    package var to: UInt64?
    package var reason: Reason
    /// Where the subscriber stands after the gap; nil: where it stood before.
    package var position: Position?
}

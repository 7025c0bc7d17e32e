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
}

/// What a subscriber that is behind gets next.
package struct Page {
    /// Precede the notifications.
    package var gaps: [Gap] = []
    package var notifications: [Notification] = []
    /// Whether the subscriber now stands at the head and is served by the fan-out.
    package var isLive = false
}

/// Explicit word that something can no longer be delivered.
package struct Gap: Hashable, Sendable {
    package enum Reason: String, Sendable {
        /// The messages were dropped under the retention rules.
        case retention
        /// The position is of another life of the log, or not of this log at all: what came between is not known.
        case epoch
    }

    /// nil: all channels of the subscription.
    package var channel: ChannelName?
    /// The lowest and highest sequence that are missing; nil where not known. `from` is exact only if the subscriber's own last
    /// sequence is not higher: the log does not remember numbers of what it dropped.
    package var from: UInt64?
    package var to: UInt64?
    package var reason: Reason
    /// Where the subscriber stands after the gap.
    package var offset: UInt64
}

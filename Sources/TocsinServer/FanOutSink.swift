import CPrefetch
import NotificationCore
import Transports

/// Takes what the hub delivers to the outlets of a loop.
///
/// It lives for one batch, on the stack: what the hot path needs is in it, so that a delivery costs the system call and little else.
struct FanOutSink: DeliverySink, ~Copyable {
    private unowned(unsafe) let loop: ServerLoop
    private var framed: FramedBatch
    private let outlets: UnsafeMutablePointer<Outlet>
    private let tick: UInt32
    private var webSocketDeliveries = 0
    private var eventStreamDeliveries = 0
    private var longPollDeliveries = 0
    private var congestions = 0
    private var bytes = 0

    init(loop: ServerLoop, framed: consuming FramedBatch, outlets: UnsafeMutablePointer<Outlet>, tick: UInt32) {
        self.loop = loop
        self.framed = framed
        self.outlets = outlets
        self.tick = tick
    }

    /// Writes down what was counted, and gives the batch back.
    consuming func finish() -> FramedBatch {
        loop.counters.deliveries[LoopCounters.index(.webSocket)] += webSocketDeliveries
        loop.counters.deliveries[LoopCounters.index(.eventStream)] += eventStreamDeliveries
        loop.counters.deliveries[LoopCounters.index(.longPoll)] += longPollDeliveries
        loop.counters.congestions += congestions
        loop.counters.deliveredBytes += bytes
        loop.fanOutTransports =
            (webSocketDeliveries > 0 ? 1 : 0) | (eventStreamDeliveries > 0 ? 2 : 0) | (longPollDeliveries > 0 ? 4 : 0)
        return framed
    }

    @inline(__always)
    func prefetch(_ index: UInt32) { tocsin_prefetch(outlets + Int(index)) }

    /// The connection, where it is more than a descriptor.
    @inline(__always)
    func prefetchFurther(_ index: UInt32) {
        let outlet = outlets + Int(index)
        guard outlet.pointee.kind != .direct, let connection = outlet.pointee.connection?.toOpaque() else { return }
        for line in 0..<Self.connectionLines { tocsin_prefetch(connection + 64 * line) }
    }

    /// Lines of the cache that a delivery looks at.
    private static let connectionLines = 5

    @inline(__always)
    mutating func deliver(_ delivery: Delivery) -> DeliveryOutcome {
        let outlet = outlets + Int(delivery.subscriber.index)
        if outlet.pointee.isClosing { return .refused }
        outlet.pointee.lastTick = tick
        if outlet.pointee.isUsers { loop.unreadDirty.insert(delivery.subscriber) }
        if outlet.pointee.kind == .direct, let run = framed.run(delivery.indices, outlet.pointee.shape) {
            return deliverDirectly(run, delivery.indices.count, outlet)
        }
        return deliverOtherwise(delivery, outlet)
    }

    /// The hot path: the shared bytes go to the descriptor in one system call. What the socket does not take goes through the channel,
    /// and the subscriber is congested until that has drained.
    @inline(__always)
    private mutating func deliverDirectly(
        _ run: UnsafeRawBufferPointer, _ count: Int, _ outlet: UnsafeMutablePointer<Outlet>
    ) -> DeliveryOutcome {
        if outlet.pointee.shape.isWebSocket { webSocketDeliveries += count } else { eventStreamDeliveries += count }
        bytes += run.count
        let sent = SystemCall.send(outlet.pointee.descriptor, run)
        if sent == run.count { return .taken }
        // An error of the socket shows itself to the channel, which then closes.
        congestions += 1
        outlet.pointee.connection!.takeUnretainedValue().enqueue(Array(run[max(sent, 0)...]))
        return .takenAndFull
    }

    private mutating func deliverOtherwise(_ delivery: Delivery, _ outlet: UnsafeMutablePointer<Outlet>) -> DeliveryOutcome {
        guard let connection = outlet.pointee.connection?.takeUnretainedValue() else {
            preconditionFailure("a live subscriber without an outlet")
        }
        let stream = outlet.pointee.stream
        switch outlet.pointee.kind {
        case .gathered:
            framed.withRuns(delivery.indices, outlet.pointee.shape) { bytes, range in connection.gather(bytes[range]) }
            count(delivery, outlet.pointee.shape)
            return .taken
        case .direct, .buffered:
            // Several runs of a plain connection come here too: the first that does not fit takes the rest with it.
            if let run = framed.run(delivery.indices, outlet.pointee.shape) {
                connection.write(run)
            } else {
                framed.withRuns(delivery.indices, outlet.pointee.shape) { bytes, range in connection.write(bytes, range) }
            }
            count(delivery, outlet.pointee.shape)
            if connection.hasRoom(stream: 0) { return .taken }
            congestions += 1
            return .takenAndFull
        case .http2:
            if let run = framed.run(delivery.indices, outlet.pointee.shape), connection.writeFrame(run, outlet) {
                count(delivery, outlet.pointee.shape)
                return .taken
            }
            guard offer(delivery, outlet.pointee.shape, connection, stream) else {
                congestions += 1
                #if DEFECTS
                    if Defect.active == .fullStreamIsTaken { return .taken }
                #endif
                return .refused
            }
            count(delivery, outlet.pointee.shape)
            return .taken
        case .longPoll:
            guard connection.answerPoll(stream: stream, framed.longPoll(delivery.indices)) else { return read(delivery.subscriber) }
            longPollDeliveries += delivery.indices.count
            return .takenAndFull
        case .readingPoll, .padded:
            return read(delivery.subscriber)
        case .none:
            preconditionFailure("a live subscriber without an outlet")
        }
    }

    /// It is served by reading, when the fan-out is through.
    private func read(_ id: SubscriberID) -> DeliveryOutcome {
        loop.afterFanOut { [loop] in if loop.hub.isCurrent(id) { loop.readOn(id) } }
        return .refused
    }

    /// All of it or nothing: a stream holds one run at a time.
    private mutating func offer(_ delivery: Delivery, _ shape: WireShape, _ connection: Connection, _ stream: Int32) -> Bool {
        var joined: [UInt8] = []
        var isTaken = true
        let indices = delivery.indices
        let isOneRun = Int(indices[indices.count - 1]) - Int(indices[0]) == indices.count - 1
        framed.withRuns(indices, shape) { bytes, range in
            if isOneRun {
                isTaken = connection.offer(stream: stream, bytes, range)
            } else {
                joined.append(contentsOf: bytes[range])
            }
        }
        return isOneRun ? isTaken : connection.offer(stream: stream, joined, 0..<joined.count)
    }

    private mutating func count(_ delivery: Delivery, _ shape: WireShape) {
        if shape.isWebSocket {
            webSocketDeliveries += delivery.indices.count
        } else {
            eventStreamDeliveries += delivery.indices.count
        }
    }
}

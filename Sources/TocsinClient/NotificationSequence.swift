/// The messages of one subscription, for one consumer. They come in the order of the server, each once, whatever the network does; a
/// consumer that is slow is waited for. It ends when the client is closed, and throws a `ClientFault` when the server refuses for good.
/// Letting go of it ends the subscription.
public struct NotificationSequence: AsyncSequence, Sendable {
    public typealias Element = ClientMessage

    /// Ends the subscription when nobody holds it any more.
    final class Hold: Sendable {
        let subscription: Subscription
        private let onEnd: @Sendable () -> Void

        init(_ subscription: Subscription, onEnd: @escaping @Sendable () -> Void) {
            self.subscription = subscription
            self.onEnd = onEnd
        }

        deinit {
            subscription.queue.finish()
            onEnd()
        }
    }

    let hold: Hold

    public struct AsyncIterator: AsyncIteratorProtocol {
        let hold: Hold

        public mutating func next() async throws -> ClientMessage? {
            try await hold.subscription.queue.next()
        }
    }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(hold: hold) }

    /// How many notifications are missing without a word of the server: more than 0 is a fault.
    public var lost: Int { hold.subscription.lost }
    /// How many came again, and were not handed out again: more than 0 is a fault.
    public var duplicates: Int { hold.subscription.duplicates }
}

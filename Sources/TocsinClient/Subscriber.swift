import JSONCodec
import TLSEngine

/// What a subscriber is told.
package enum SubscriberEvent: Sendable {
    /// It is connected.
    case live(ClientTransport)
    /// A notification, as its JSON object.
    case notification([UInt8])
    /// Something else that the server says of the channels, as its JSON object: gap, snapshot, digest, ack, unread.
    case control([UInt8])
    /// The connection is gone; the next try comes after so many milliseconds.
    case reconnecting(why: String, afterMilliseconds: Int)
}

/// A subscription that stays: it resumes by itself from its last position, on the transport that it was told or, with `auto`, on the
/// first one that gets through.
package struct Subscriber: Sendable {
    package var configuration: ClientConfiguration
    package var channels: [String]
    /// `latest`, `earliest` or a position; nil: as the kinds of the channels have it.
    package var after: String?
    /// Further query items: rate, user, digest.
    package var items: [(name: String, value: String)] = []
    /// In order of preference.
    package var transports: [ClientTransport]

    package init(_ configuration: ClientConfiguration, channels: [String], after: String?, transports: [ClientTransport]) {
        self.configuration = configuration
        self.channels = channels
        self.after = after
        self.transports = transports
    }

    private struct Progress {
        var position: String?
        var isLive = false
        var slotMilliseconds: Int?
    }

    /// Runs until `receive` throws, the task is cancelled or the server refuses for good.
    package func run(_ receive: (SubscriberEvent) async throws -> Void) async throws {
        let tls = try configuration.makeTLSContext()
        var progress = Progress()
        var rung = 0
        var failures = 0
        while !Task.isCancelled {
            let transport = transports[rung]
            progress.isLive = false
            progress.slotMilliseconds = nil
            // A long-poll without a position is answered at once with one, so "latest" works on all of them.
            let start = progress.position ?? (transport == .longPoll && after == "latest" ? nil : after)
            let attempt = SubscribeAttempt(configuration: configuration, tls: tls, channels: channels, items: items, after: start)
            var why = "the stream ended"
            do {
                try await attempt.run(transport) { incoming in try await handle(incoming, transport, &progress, receive) }
            } catch let stop as ReceiverStopped {
                throw stop.error
            } catch let fault as ClientFault {
                if fault.isFinal, rung == transports.count - 1 || progress.isLive { throw fault }
                why = fault.description
                progress.slotMilliseconds = progress.slotMilliseconds ?? fault.retryAfterMilliseconds
            } catch {
                why = "\(error)"
            }
            try Task.checkCancellation()
            if progress.isLive {
                failures = 0
            } else {
                failures += 1
                rung = (rung + 1) % transports.count
            }
            let ceiling = min(30_000, 200 << min(failures, 8))
            let wait = progress.slotMilliseconds ?? Int.random(in: 50...ceiling)
            try await receive(.reconnecting(why: why, afterMilliseconds: wait))
            try await Task.sleep(for: .milliseconds(wait))
        }
    }

    /// What the receiver itself threw, to be told from faults of the connection.
    private struct ReceiverStopped: Error {
        var error: any Error
    }

    private func handle(
        _ incoming: SubscribeAttempt.Incoming, _ transport: ClientTransport, _ progress: inout Progress,
        _ receive: (SubscriberEvent) async throws -> Void
    ) async throws {
        func tell(_ event: SubscriberEvent) async throws {
            do { try await receive(event) } catch { throw ReceiverStopped(error: error) }
        }
        if !progress.isLive {
            progress.isLive = true
            try await tell(.live(transport))
        }
        switch incoming {
        case .position(let position):
            progress.position = position
        case .object(let bytes):
            let object = try JSONSlice.minify(bytes)
            switch object["type"]?.string() {
            case "notification": try await tell(.notification(bytes))
            case "gap", "snapshot", "digest", "ack", "unread": try await tell(.control(bytes))
            case "going-away": progress.slotMilliseconds = object["retry_after_ms"]?.integer().map { Int($0) }
            default: break
            }
            if let position = object["position"]?.string() { progress.position = position }
        }
    }
}

import Logging
import NotificationCore
import NotificationStore
import Synchronization
import Transports
import WebSocketCodec

/// What of the log cannot be read.
///
/// Damage is passed over: who reads is told which messages are missing (`Gap.Reason.damaged`), and reads on behind them. Everything else
/// may be over in a moment, so it is tried again; but nobody is kept waiting for long without a word.
extension ServerLoop {
    /// So long an event stream or a WebSocket is kept that cannot be read for: as long as a reader hardly notices, and longer than the
    /// store takes to be opened anew.
    private static let readFaultMillisecondsMax: Int64 = 10_000
    private static let retryMilliseconds: Int64 = 1000

    /// A question of this subscriber was not answered. Its cursor stays.
    func noteFault(_ fault: StoreFault, _ id: SubscriberID) {
        counters.readFaults += 1
        let now = Clock.monotonicMilliseconds()
        let since = readFaults[id]?.since ?? now
        readFaults[id] = (since, fault)
        let outlet = outlets[id]
        guard let connection = outlet.connection?.takeUnretainedValue() else { return stop(id) }
        if outlet.kind.isPoll {
            guard let poll = connection.poll(outlet.stream) else { return }
            // What is due before the next try is answered now.
            if poll.isImmediate || poll.dueTick <= tick + Self.ticksPerSecond {
                return answerPoll(poll, [], connection, outlet.stream)
            }
        } else if now - since >= Self.readFaultMillisecondsMax, outlet.kind != .none {
            readFaults[id] = nil
            var generator = Randomness()
            let milliseconds = Int.random(in: 1000...5000, using: &generator)
            return connection.sendAway(stream: outlet.stream, retryAfterMilliseconds: milliseconds)
        }
        readOnSoon(id, milliseconds: Self.retryMilliseconds)
    }

    /// Why one of the poll's subscriptions could not be read, if so.
    func fault(of poll: ParkedPoll) -> StoreFault? {
        if readFaults.isEmpty { return nil }
        return poll.subscribers.lazy.compactMap { self.readFaults[$0]?.fault }.first
    }

    /// Says once what is damaged, however many read over it.
    func noteDamage(_ marks: [TrimMark]) {
        for mark in marks {
            guard let from = mark.damagedFrom else { continue }
            guard server.damage.withLock({ $0.note(mark) }) else { continue }
            counters.damages += 1
            server.logger.error(
                "messages are damaged and are told as a gap",
                metadata: ["channel": "\(hub.tail.channels[Int(mark.channel)].name)", "from": "\(from)", "to": "\(mark.sequence)"]
            )
        }
    }
}

/// Damage that has been said in the log.
struct DamageBook: Sendable {
    private struct Place: Hashable {
        var channel: ChannelID
        var sequence: UInt64
    }

    private var known: Set<Place> = []
    /// A file with more of it is mended by nobody stretch by stretch.
    private static let countMax = 10_000

    /// - Returns: whether it is new.
    mutating func note(_ mark: TrimMark) -> Bool {
        known.count < Self.countMax && known.insert(Place(channel: mark.channel, sequence: mark.sequence)).inserted
    }
}

/// Faults of reading that have been said in the log: each once a minute, and not for every reader and try.
struct ReadFaultLog: Sendable {
    private var said: [String: Int64] = [:]

    mutating func isNews(_ fault: StoreFault, milliseconds now: Int64 = Clock.monotonicMilliseconds()) -> Bool {
        if said.count >= 100 { said = [:] }
        let words = "\(fault)"
        if let last = said[words], now - last < 60_000 { return false }
        said[words] = now
        return true
    }
}

extension Connection {
    /// Asks the client of one stream to come back, and ends it.
    fileprivate func sendAway(stream: Int32, retryAfterMilliseconds milliseconds: Int) {
        let reason = "the log cannot be read"
        func end(_ session: EventStreamSession) {
            let goingAway = ControlObject.goingAway(retryAfterMilliseconds: milliseconds)
            endEventStream(session, stream: stream, goingAway, event: "going-away", retryMilliseconds: milliseconds)
        }
        switch state {
        case .webSocket(let session): self.end(session, milliseconds: milliseconds, .tryAgainLater, reason)
        case .eventStream(let session): end(session)
        case .http2(let exchange):
            if let session = exchange.streams[stream]?.eventStream { end(session) }
            if let session = exchange.streams[stream]?.webSocket { self.end(session, milliseconds: milliseconds, .tryAgainLater, reason) }
        default: break
        }
    }
}

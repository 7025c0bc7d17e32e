import Logging
import NotificationStore
import Synchronization
import Webhooks

/// What waits, on its way to its receivers.
extension WebhookService {
    /// Of an answer so much is read, and not looked at.
    private static let answerBytesMax = 64 << 10
    /// A `Retry-After` beyond that is a mistake.
    private static let restMillisecondsMax: Int64 = 86_400_000
    /// And one of 0 is no reason to ask without a pause.
    private static let restMillisecondsMin: Int64 = 1000

    func send(_ now: Int64) {
        for place in configuration.endpoints.indices {
            let (room, held) = state.withLock { state in (state.isStopped ? 0 : freeSlots(state.receivers[place], now), state.held.count) }
            guard room > 0 else { continue }
            let name = configuration.endpoints[place].name
            let found = log.withStore { store throws(StoreFault) in
                (
                    try store.dueOutbox(name, nowMilliseconds: now, limit: room + held), try store.nextDueOutbox(name)
                )
            }
            guard let (due, next) = found else { return }
            let rows = state.withLock { state in
                let rows = due.rows.filter { !state.held.contains($0.id) }.prefix(room)
                state.held.formUnion(rows.map(\.id))
                state.receivers[place].active += rows.count
                state.receivers[place].nextDueMilliseconds = next
                for id in due.damaged where !state.damaged.contains(id) { state.damaged.append(id) }
                return Array(rows)
            }
            for row in rows { Task { await self.attempt(row, place) } }
        }
    }

    private func freeSlots(_ receiver: Receiver, _ now: Int64) -> Int {
        guard !receiver.isGone, receiver.restUntilMilliseconds <= now, receiver.nextDueMilliseconds.map({ $0 <= now }) ?? false else {
            return 0
        }
        return (receiver.isFailing ? 1 : configuration.concurrencyMax) - receiver.active
    }

    private func attempt(_ row: OutboxRow, _ place: Int) async {
        let endpoint = configuration.endpoints[place]
        let secrets = state.withLock { $0.receivers[place].secrets }
        let seconds = Clock.wallMilliseconds() / 1000
        let fields: [(name: String, value: String)] = [
            ("webhook-id", row.message), ("webhook-timestamp", "\(seconds)"),
            ("webhook-signature", secrets.signature(id: row.message, timestampSeconds: seconds, body: row.body)),
        ]
        let result: Result<OutgoingHTTP.Reply, OutgoingHTTP.Fault>
        do throws(OutgoingHTTP.Fault) {
            result = .success(
                try await http.post(
                    endpoint.url, fields: fields, json: row.body, timeoutMilliseconds: configuration.timeoutMilliseconds,
                    bytesMax: Self.answerBytesMax
                )
            )
        } catch {
            result = .failure(error)
        }
        var generator = Randomness()
        finish(row, place, WebhookAnswer(result), random: generator.next())
    }

    private func finish(_ row: OutboxRow, _ place: Int, _ answer: WebhookAnswer, random: UInt64) {
        let now = Clock.wallMilliseconds()
        let attempts = row.attempts + 1
        let delay = configuration.schedule.delay(afterAttempts: attempts, random: random)
        let name = configuration.endpoints[place].name
        let (wasFailing, isGivenUp) = state.withLock { state -> (Bool, Bool) in
            state.receivers[place].active -= 1
            let wasFailing = state.receivers[place].isFailing
            if case .taken = answer {
                state.counts.sent[row.type, default: 0] += 1
                state.receivers[place].isFailing = false
                state.outcomes.append(OutboxOutcome(id: row.id, message: row.message, .done))
                return (wasFailing, false)
            }
            if state.isStopped {
                // The server goes down: that says nothing of the receiver.
                state.held.remove(row.id)
                return (true, false)
            }
            state.counts.failed[row.type, default: 0] += 1
            state.receivers[place].isFailing = true
            if case .gone = answer {
                state.receivers[place].isGone = true
                // Due again after the next start, if it is back by then.
                state.outcomes.append(OutboxOutcome(id: row.id, message: row.message, .later(milliseconds: now, attempts: row.attempts)))
                return (wasFailing, false)
            }
            guard let delay else {
                state.counts.drop(row.type, .attempts)
                state.outcomes.append(OutboxOutcome(id: row.id, message: row.message, .done))
                return (wasFailing, true)
            }
            var due = now + delay
            if case .failed(_, let rest?) = answer {
                due = now + min(max(rest, Self.restMillisecondsMin), Self.restMillisecondsMax)
                state.receivers[place].restUntilMilliseconds = max(state.receivers[place].restUntilMilliseconds, due)
            }
            state.outcomes.append(OutboxOutcome(id: row.id, message: row.message, .later(milliseconds: due, attempts: attempts)))
            return (wasFailing, false)
        }
        say(answer, name, wasFailing: wasFailing)
        if isGivenUp { noteDropped("all attempts failed") }
        wantTurn()
    }

    private func say(_ answer: WebhookAnswer, _ name: String, wasFailing: Bool) {
        switch answer {
        case .taken:
            if wasFailing { logger.notice("a webhook's receiver takes events again", metadata: ["webhook": "\(name)"]) }
        case .gone:
            logger.error(
                "a webhook's receiver says that it is gone (410): nothing is sent to it until the server is started again",
                metadata: ["webhook": "\(name)"]
            )
        case .failed(let why, _):
            if !wasFailing {
                logger.warning("a webhook's receiver does not take an event", metadata: ["webhook": "\(name)", "error": "\(why)"])
            }
        }
    }
}

/// What a receiver says to an event.
enum WebhookAnswer: Sendable, Equatable {
    case taken
    /// It does not want to hear of anything any more.
    case gone
    /// - Parameter restMilliseconds: it asks not to be told anything for so long.
    case failed(String, restMilliseconds: Int64?)

    init(_ result: Result<OutgoingHTTP.Reply, OutgoingHTTP.Fault>) {
        switch result {
        case .failure(let fault): self = .failed(fault.description, restMilliseconds: nil)
        case .success(let reply):
            switch reply.status {
            case 200..<300: self = .taken
            case 410: self = .gone
            case 429, 503:
                self = .failed(
                    "it answers \(reply.status)", restMilliseconds: reply.retryAfter.flatMap { TimeText.retryAfterMilliseconds($0) })
            default: self = .failed("it answers \(reply.status)", restMilliseconds: nil)
            }
        }
    }
}

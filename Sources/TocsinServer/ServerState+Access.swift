import Identity
import Logging
import NIOCore
import NotificationCore
import NotificationStore
import Synchronization
import Transports

/// Who may do what, as all loops of a process see it.
extension ServerState {
    /// Moves on when somebody who was let in might not be any more.
    var accessGeneration: Int { generation.load(ordering: .relaxed) }

    func noteAccessChange() { generation.add(1, ordering: .relaxed) }

    /// - Parameter new: with what its files say; keys that come from a URL stay.
    func setGate(_ new: Gate) {
        gateBox.withLock { $0 = $0.map { new.keepingFetchedKeys(of: $0) } ?? new }
        noteAccessChange()
    }

    /// Keys of tokens that came from a URL.
    func setTokens(_ tokens: TokenVerifier) {
        gateBox.withLock { $0?.tokens = tokens }
        noteAccessChange()
    }

    // MARK: what was taken back

    func isRevoked(_ identity: Identity) -> Bool { revocationsBox.withLock { $0.cover(identity) } }

    /// Whether somebody who was let in would not be any more, though their time is not over.
    func isTakenBack(_ identity: Identity) -> Bool { isRevoked(identity) || gate?.isCurrent(identity) == false }

    func hasRoomToRevoke(_ subject: Revocation.Subject) -> Bool {
        revocationsBox.withLock { $0.hasRoom(for: subject, nowMilliseconds: Clock.wallMilliseconds()) }
    }

    func revoke(_ revocations: [Revocation]) {
        let now = Clock.wallMilliseconds()
        let isWhole = revocationsBox.withLock { box in
            var isWhole = true
            for revocation in revocations where revocation.until > now {
                if !box.add(revocation, nowMilliseconds: now) { isWhole = false }
            }
            return isWhole
        }
        noteAccessChange()
        if !isWhole { logger.error("there are too many revocations", metadata: ["max": "\(Revocations.countMax)"]) }
    }

    /// What the log has of them; to be called before anybody is served. What comes later, the loops are told with its batch.
    func readRevocations() async throws {
        guard configuration.identity.isClosed, let reference = loops.first else { return }
        let found: [Revocation] = try await reference.eventLoop.flatSubmit { () -> EventLoopFuture<[Revocation]> in
            let loop = reference.value
            guard let channel = loop.hub.tail.index(of: .revocations) else { return loop.eventLoop.makeSucceededFuture([]) }
            let promise = loop.eventLoop.makePromise(of: [Revocation].self)
            loop.server.log.read(from: loop) { store throws(StoreFault) in
                var found: [Revocation] = []
                var sequence: UInt64 = 0
                while true {
                    let page = try store.history(channel: channel, afterSequence: sequence, limit: 1000, bytesMax: 1 << 20)
                    guard let last = page.last else { return found }
                    found += page.compactMap { Revocation(logged: $0.object[$0.data]) }
                    sequence = last.sequence
                }
            } completion: { result in
                promise.completeWith(result.mapError { $0 as any Error })
            }
            return promise.futureResult
        }.get()
        revoke(found)
    }

    // MARK: tickets

    /// - Returns: nil if there are too many.
    func issueTicket(_ identity: Identity) -> TicketID? {
        var generator = Randomness()
        let id = TicketID(random: (generator.next(), generator.next()), process: place)
        return tickets.withLock { $0.issue(id, identity, nowMilliseconds: Clock.monotonicMilliseconds()) } ? id : nil
    }

    /// Uses a ticket up that this process gave out.
    func take(_ ticket: TicketID) -> Identity? {
        tickets.withLock { $0.take(ticket, nowMilliseconds: Clock.monotonicMilliseconds()) }
    }

    /// The other process that gave a ticket out; nil: this one, or none.
    func process(of ticket: TicketID) -> Int? {
        guard let neighbours, ticket.process != neighbours.process, ticket.process < neighbours.processes else { return nil }
        return ticket.process
    }

    // MARK: refusals

    /// Counts a refusal, and says it in the log if its rule has not been said for a while.
    func note(_ problem: Problem) {
        guard let rule = problem.rule else { return }
        let isSaid = [401, 403, 421].contains(problem.status) || rule == Problem.hookRule
        let now = Clock.monotonicMilliseconds()
        let unsaid = refusals.withLock { refusals in
            refusals.count(rule)
            return isSaid ? refusals.note(rule, nowMilliseconds: now) : nil
        }
        guard let unsaid else { return }
        logger.notice(
            "refused",
            metadata: [
                "rule": "\(rule)", "type": "\(problem.type)", "configuration_key": "\(problem.configurationKey ?? "")",
                "reason": "\(problem.reason ?? problem.detail)", "not_said_before": "\(unsaid)",
            ]
        )
    }

    /// Prometheus text format, version 0.0.4.
    var accessExposition: String {
        var text = ""
        func metric(_ name: String, _ type: String, _ help: String, _ values: [(labels: String, value: Int)]) {
            text += "# HELP tocsin_\(name) \(help)\n# TYPE tocsin_\(name) \(type)\n"
            for (labels, value) in values { text += "tocsin_\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(value)\n" }
        }
        let counts = refusals.withLock { $0.counts }
        metric(
            "refusals_total", "counter", "Requests and commands refused, by the rule that decided it.",
            counts.sorted { $0.key < $1.key }.map { ("rule=\"\($0.key)\"", $0.value) }
        )
        if configuration.identity.isClosed {
            metric("revocations", "gauge", "What was taken back of tokens and is kept.", [("", revocationsBox.withLock { $0.count })])
        }
        if let keySource {
            let figures = keySource.figures
            metric(
                "token_key_fetches_total", "counter", "Times that the keys of tokens were fetched.",
                [("result=\"ok\"", figures.fetched), ("result=\"failed\"", figures.failed)]
            )
            metric("token_keys_age_seconds", "gauge", "Since the keys of tokens came; -1: never.", [("", figures.ageSeconds)])
        }
        if let hook {
            metric(
                "hook_answers_total", "counter", "What the hook has decided, by answer, and how often a cached answer did.",
                hook.counts.sorted { $0.key < $1.key }.map { ("answer=\"\($0.key)\"", $0.value) }
            )
        }
        return text + (webhooks?.exposition ?? "")
    }
}

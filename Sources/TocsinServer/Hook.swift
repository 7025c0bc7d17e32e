import Identity
import JSONCodec
import Logging
import NotificationCore
import Synchronization
import Transports

/// What may be asked at the product's own endpoint.
package enum HookAction: String, Sendable, CaseIterable {
    case connect, subscribe, publish
}

/// The product's own endpoint, which decides after grants have.
package struct HookConfiguration: Sendable {
    package var url: String
    /// What is asked; all else is not refused by it.
    package var actions = Set(HookAction.allCases)
    /// An answer has so long. A publisher or a handshake waits for it.
    package var timeoutMilliseconds = 1000
    /// An answer counts for so long.
    package var cacheSeconds = 10
    /// Whether what it does not answer is allowed.
    package var allowsWhenDown = false
    /// Goes into `Authorization: Bearer`, so that the product knows who asks.
    package var secret: String?

    package init(url: String) {
        self.url = url
    }
}

/// Asks the product whether somebody may do something. Answers are kept for some seconds, the same question is under way once, and where
/// there is no answer in time the configuration says what that means.
final class Hook: Sendable {
    struct Question: Hashable, Sendable {
        var action: HookAction
        var principal: Identity.Principal?
        var tokenID: String?
        /// A channel or pattern; nil with `connect`.
        var channel: String?
        /// With `connect`.
        var transport: String?
    }

    enum Answer: String, Sendable {
        case allowed, refused, unanswered
    }

    typealias Answers = [Question: Answer]

    private struct Kept {
        var isAllowed: Bool
        var untilMilliseconds: Int64
    }

    private struct State {
        var kept: [Question: Kept] = [:]
        var asked: [[Question]: Task<Answers, Never>] = [:]
        /// Nothing is asked until then: it has just not answered.
        var quietUntilMilliseconds: Int64 = 0
        var isFailing = false
        var counts: [String: Int] = ["allowed": 0, "refused": 0, "unanswered": 0, "cached": 0]
    }

    /// Some 300 bytes each.
    private static let keptMax = 100_000
    /// Requests under way: an endpoint that takes a second for each would be asked a thousand times a second.
    private static let askedMax = 1000
    private static let quietMilliseconds: Int64 = 1000
    private static let bytesMax = 256 << 10

    let configuration: HookConfiguration
    private let http: OutgoingHTTP
    private let logger: Logger
    private let state = Mutex(State())

    init(_ configuration: HookConfiguration, http: OutgoingHTTP, logger: Logger) {
        self.configuration = configuration
        self.http = http
        self.logger = logger
    }

    var counts: [String: Int] { state.withLock { $0.counts } }

    /// The answers to all of them, if they are at hand.
    func known(_ questions: [Question]) -> Answers? {
        let now = Clock.monotonicMilliseconds()
        return state.withLock { state in
            var answers: Answers = [:]
            for question in questions {
                guard let kept = state.kept[question], kept.untilMilliseconds > now else { return nil }
                answers[question] = kept.isAllowed ? .allowed : .refused
            }
            state.counts["cached"]! += answers.count
            return answers
        }
    }

    /// - Parameter completion: gets an answer to each, on any thread.
    func ask(_ questions: [Question], completion: @escaping @Sendable (Answers) -> Void) {
        let now = Clock.monotonicMilliseconds()
        var answers: Answers = [:]
        var missing: [HookAction: [Question]] = [:]
        var seen: Set<Question> = []
        let kept = state.withLock { state in questions.map { state.kept[$0] } }
        for (question, kept) in zip(questions, kept) {
            if let kept, kept.untilMilliseconds > now {
                answers[question] = kept.isAllowed ? .allowed : .refused
            } else if seen.insert(question).inserted {
                missing[question.action, default: []].append(question)
            }
        }
        let (known, groups) = (answers, Array(missing.values))
        Task {
            var answers = known
            await withTaskGroup(of: Answers.self) { tasks in
                for group in groups { tasks.addTask { await self.decide(group) } }
                for await some in tasks { answers.merge(some) { $1 } }
            }
            completion(answers)
        }
    }

    /// - Parameter questions: of one action and one principal.
    private func decide(_ questions: [Question]) async -> Answers {
        let now = Clock.monotonicMilliseconds()
        let task = state.withLock { state -> Task<Answers, Never>? in
            if let task = state.asked[questions] { return task }
            guard now >= state.quietUntilMilliseconds, state.asked.count < Self.askedMax else {
                state.counts["unanswered"]! += questions.count
                return nil
            }
            let task = Task { await self.post(questions) }
            state.asked[questions] = task
            return task
        }
        if let task { return await task.value }
        return Dictionary(uniqueKeysWithValues: questions.map { ($0, .unanswered) })
    }

    private func post(_ questions: [Question]) async -> Answers {
        let result: Result<Answers, OutgoingHTTP.Fault>
        do throws(OutgoingHTTP.Fault) {
            let answer = try await http.ask(
                configuration.url, json: Self.body(questions), bearer: configuration.secret,
                timeoutMilliseconds: configuration.timeoutMilliseconds,
                bytesMax: Self.bytesMax
            )
            guard answer.status == 200 else { throw .failed("the answer has status \(answer.status)") }
            guard let answers = Self.answers(answer.body, questions) else { throw .failed("the answer is not {\"allow\":…}") }
            result = .success(answers)
        } catch {
            result = .failure(error)
        }
        return take(result, questions)
    }

    private func take(_ result: Result<Answers, OutgoingHTTP.Fault>, _ questions: [Question]) -> Answers {
        let now = Clock.monotonicMilliseconds()
        let wasFailing = state.withLock { state in
            state.asked[questions] = nil
            let wasFailing = state.isFailing
            switch result {
            case .success(let answers):
                state.isFailing = false
                if state.kept.count + answers.count > Self.keptMax { state.kept = state.kept.filter { $0.value.untilMilliseconds > now } }
                if state.kept.count + answers.count > Self.keptMax { state.kept = [:] }
                for (question, answer) in answers {
                    state.counts[answer.rawValue]! += 1
                    guard configuration.cacheSeconds > 0 else { continue }
                    state.kept[question] = Kept(
                        isAllowed: answer == .allowed, untilMilliseconds: now + Int64(configuration.cacheSeconds) * 1000
                    )
                }
            case .failure:
                state.isFailing = true
                state.quietUntilMilliseconds = now + Self.quietMilliseconds
                state.counts["unanswered"]! += questions.count
            }
            return wasFailing
        }
        switch result {
        case .success(let answers):
            if wasFailing { logger.notice("the hook answers again") }
            return answers
        case .failure(let fault):
            let meaning = configuration.allowsWhenDown ? "allowed" : "refused"
            if !wasFailing {
                logger.error("the hook does not answer", metadata: ["error": "\(fault)", "what_it_would_decide_is": "\(meaning)"])
            }
            return Dictionary(uniqueKeysWithValues: questions.map { ($0, .unanswered) })
        }
    }

    // MARK: questions

    /// About channels; empty: such a thing is not asked.
    func questions(_ action: ChannelAction, _ patterns: [ChannelPattern], _ identity: Identity?) -> [Question] {
        let wanted: HookAction
        switch action {
        case .subscribe: wanted = .subscribe
        case .publish: wanted = .publish
        case .presence: return []
        }
        guard configuration.actions.contains(wanted) else { return [] }
        return patterns.map {
            Question(action: wanted, principal: identity?.principal, tokenID: identity?.tokenID, channel: $0.string)
        }
    }

    /// About a subscriber that comes.
    func questions(_ transport: Transport, _ identity: Identity?) -> [Question] {
        guard configuration.actions.contains(.connect) else { return [] }
        return [
            Question(action: .connect, principal: identity?.principal, tokenID: identity?.tokenID, transport: transport.rawValue)
        ]
    }

    /// - Throws: the first refusal.
    func check(_ questions: [Question], _ answers: Answers) throws(Problem) {
        for question in questions {
            if let problem = problem(answers[question]) { throw problem }
        }
    }

    // MARK: what is said

    static func body(_ questions: [Question]) -> [UInt8] {
        let first = questions[0]
        var out = Array(#"{"action":"\#(first.action.rawValue)""#.utf8)
        func member(_ name: String, _ value: String?) {
            guard let value else { return }
            out.append(contentsOf: ",\"\(name)\":".utf8)
            JSONText.appendString(value, into: &out)
        }
        switch first.principal {
        case .user(let name)?: member("user", name)
        case .key(let name)?: member("key", name)
        case nil: break
        }
        member("token_id", first.tokenID)
        member("transport", first.transport)
        let channels = questions.compactMap(\.channel)
        if !channels.isEmpty {
            out.append(contentsOf: ",\"channels\":[".utf8)
            for (index, channel) in channels.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                JSONText.appendString(channel, into: &out)
            }
            out.append(UInt8(ascii: "]"))
        }
        out.append(UInt8(ascii: "}"))
        return out
    }

    /// `{"allow":true}`, `{"allow":false}`, or `{"allow":["a","b.*"]}`: those of the channels that are allowed.
    static func answers(_ body: [UInt8], _ questions: [Question]) -> Answers? {
        guard let value = try? JSONSlice.checked(body[...]), value.kind == .object, let allow = value["allow"] else { return nil }
        switch allow.kind {
        case .bool:
            let answer: Answer = allow.bool() == true ? .allowed : .refused
            return Dictionary(questions.map { ($0, answer) }) { $1 }
        case .array:
            guard questions.allSatisfy({ $0.channel != nil }) else { return nil }
            let texts = allow.elements.map { $0.string() }
            guard !texts.contains(nil) else { return nil }
            let allowed = Set(texts.compactMap { $0 })
            return Dictionary(questions.map { ($0, allowed.contains($0.channel!) ? Answer.allowed : .refused) }) { $1 }
        default: return nil
        }
    }

    /// - Returns: why something is not to be done; nil: it is.
    func problem(_ answer: Answer?) -> Problem? {
        switch answer {
        case .allowed: return nil
        case .refused:
            return Problem(
                "not-granted", "Not granted", status: 403, detail: "the product that this server belongs to does not allow it",
                rule: Problem.hookRule, configurationKey: "hook (--hook)"
            )
        case .unanswered where configuration.allowsWhenDown: return nil
        // Without an answer because it was not asked: what is wanted has changed meanwhile.
        case .unanswered, nil:
            return Problem(
                "hook-unavailable", "Cannot be decided", status: 503, detail: "what decides whether it is allowed does not answer",
                rule: Problem.hookRule, configurationKey: "hook_down (--hook-down)", retryAfterSeconds: 2
            )
        }
    }
}

extension Problem {
    static let hookRule = "hook"
}

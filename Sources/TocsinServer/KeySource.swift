import Identity
import Logging
import Synchronization
import Transports

/// Keys of tokens from a URL: a JWK set that is fetched again as it grows old, and sooner when a token names a key that is not in it, so
/// that a new key counts with the first token that it has signed.
///
///     none ──fetched──> there ──its time is over, an unknown key──> fetching ──> there
///                                                                     └─fails──> the old keys stay; asked again soon
final class KeySource: Sendable {
    struct Figures: Sendable {
        var fetched = 0
        var failed = 0
        var ageSeconds = -1
    }

    private struct State {
        var figures = Figures()
        var fetchedMilliseconds: Int64?
        var triedMilliseconds: Int64?
        var isFetching = false
        var isFailing = false
        var waiting: [@Sendable () -> Void] = []
        var names: [String] = []
    }

    /// Without a word of the source an hour of trust is as usual; five minutes find a key that was taken out sooner.
    private static let keptSecondsUsual = 300
    private static let keptSecondsAllowed = 10...3600
    /// After a failure, and between two that unknown keys ask for.
    private static let pauseMilliseconds: Int64 = 5000
    private static let timeoutMilliseconds = 5000
    private static let bytesMax = 1 << 20
    private static let waitingMax = 10_000

    private let url: String
    private let issuers: [String]
    private let audiences: [String]
    private let http: OutgoingHTTP
    private let logger: Logger
    private let state = Mutex(State())
    private let task = Mutex<Task<Void, Never>?>(nil)
    private let onKeys = Mutex<(@Sendable (TokenVerifier) -> Void)?>(nil)

    init(_ url: String, _ configuration: IdentityConfiguration, http: OutgoingHTTP, logger: Logger) {
        self.url = url
        issuers = configuration.issuers
        audiences = configuration.audiences
        self.http = http
        self.logger = logger
    }

    var figures: Figures {
        state.withLock { state in
            var figures = state.figures
            if let then = state.fetchedMilliseconds { figures.ageSeconds = Int((Clock.monotonicMilliseconds() - then) / 1000) }
            return figures
        }
    }

    /// Fetches from now on.
    func start(_ onKeys: @escaping @Sendable (TokenVerifier) -> Void) {
        self.onKeys.withLock { $0 = onKeys }
        task.withLock { task in
            task = Task { [weak self] in
                while !Task.isCancelled {
                    guard let milliseconds = await self?.fetch() else { return }
                    try? await Task.sleep(for: .milliseconds(milliseconds))
                }
            }
        }
    }

    func stop() {
        task.withLock { $0?.cancel() }
    }

    /// Fetches sooner: a token names a key that is not known.
    ///
    /// - Parameter completion: when there is an answer.
    /// - Returns: false if it was asked just now, and so is not asked again.
    func refresh(_ completion: @escaping @Sendable () -> Void) -> Bool {
        let now = Clock.monotonicMilliseconds()
        enum Next { case wait, fetch, refuse }
        let next = state.withLock { state -> Next in
            guard state.waiting.count < Self.waitingMax else { return .refuse }
            if !state.isFetching, let tried = state.triedMilliseconds, now - tried < Self.pauseMilliseconds { return .refuse }
            state.waiting.append(completion)
            return state.isFetching ? .wait : .fetch
        }
        if case .fetch = next { Task { [weak self] in _ = await self?.fetch() } }
        if case .refuse = next { return false }
        return true
    }

    /// - Returns: when to fetch again, in milliseconds.
    private func fetch() async -> Int64 {
        let isMine = state.withLock { state in
            if state.isFetching { return false }
            state.isFetching = true
            state.triedMilliseconds = Clock.monotonicMilliseconds()
            return true
        }
        guard isMine else { return Self.pauseMilliseconds }
        let next: Int64
        do throws(TokenKeyFault) {
            let (tokens, seconds) = try await Self.fetch(url, issuers, audiences, http)
            onKeys.withLock { $0 }?(tokens)
            succeed(tokens)
            next = Int64(seconds) * 1000
        } catch {
            fail(error)
            next = Self.pauseMilliseconds
        }
        let waiting = state.withLock { state in
            state.isFetching = false
            defer { state.waiting = [] }
            return state.waiting
        }
        for completion in waiting { completion() }
        return next
    }

    /// Fetches once.
    ///
    /// - Returns: the keys, and for how long they may be kept.
    static func fetch(
        _ url: String, _ issuers: [String], _ audiences: [String], _ http: OutgoingHTTP
    ) async throws(TokenKeyFault) -> (tokens: TokenVerifier, seconds: Int) {
        let answer: OutgoingHTTP.Answer
        do throws(OutgoingHTTP.Fault) {
            answer = try await http.ask(url, timeoutMilliseconds: timeoutMilliseconds, bytesMax: bytesMax)
        } catch {
            throw TokenKeyFault(error.description)
        }
        guard answer.status == 200 else { throw TokenKeyFault("the answer has status \(answer.status)") }
        let tokens: TokenVerifier
        do {
            tokens = try await TokenVerifier(fetchedSet: answer.body, issuers: issuers, audiences: audiences)
        } catch let fault as TokenKeyFault {
            throw fault
        } catch {
            throw TokenKeyFault("\(error)")
        }
        return (tokens, keptSeconds(answer.cacheControl))
    }

    /// `max-age` of `Cache-Control` (RFC 9111 section 5.2.2.1), within bounds.
    static func keptSeconds(_ fields: [String]) -> Int {
        for directive in fields.flatMap({ $0.split(separator: ",") }) {
            let parts = directive.split(separator: "=", maxSplits: 1).map { $0.trimmed.lowercased() }
            guard parts.count == 2, parts[0] == "max-age", let seconds = Int(parts[1]), seconds >= 0 else { continue }
            return min(max(seconds, keptSecondsAllowed.lowerBound), keptSecondsAllowed.upperBound)
        }
        return keptSecondsUsual
    }

    private func succeed(_ tokens: TokenVerifier) {
        let (hasChanged, hasFailed) = state.withLock { state in
            defer {
                state.names = tokens.keyNames
                state.isFailing = false
                state.fetchedMilliseconds = Clock.monotonicMilliseconds()
                state.figures.fetched += 1
            }
            return (state.names != tokens.keyNames, state.isFailing)
        }
        if hasChanged || hasFailed {
            logger.notice("keys of tokens fetched", metadata: ["keys": "\(tokens.keyNames.joined(separator: ", "))"])
        }
    }

    /// It is said when it begins, not each time.
    private func fail(_ error: TokenKeyFault) {
        let (isNew, hasKeys) = state.withLock { state in
            defer { state.isFailing = true }
            state.figures.failed += 1
            return (!state.isFailing, state.fetchedMilliseconds != nil)
        }
        guard isNew else { return }
        logger.error(
            hasKeys ? "keys of tokens cannot be fetched, the old ones stay" : "keys of tokens cannot be fetched, and there are none yet",
            metadata: ["error": "\(error)"]
        )
    }
}

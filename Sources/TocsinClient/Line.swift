import HTTPTypes
import TLSEngine
import WebSocketCodec

/// One ladder and what it carries: runs the attempts that the ladder asks for, tells it what becomes of them, keeps the places of the
/// subscriptions, and hands out their messages.
///
/// One consumer that is slow holds the line: its connection is not read, and the line's time stands still, so that neither silence nor
/// late probes are blamed on the network.
actor Line {
    /// A subscription's place.
    struct Member {
        var subscription: Subscription
        /// `latest`, `earliest` or a position.
        var after: String?
        /// Whether `after` is a position of the server's.
        var hasPosition = false
        var rate: String?
    }

    /// An attempt that the ladder has not closed.
    struct Running {
        var rung: ClientTransport
        var role: FallbackLadder.Role
        var heartbeatMilliseconds: Int
        var task: Task<Void, Never>?
        var channel: ClientChannel?
        /// It has said hello.
        var isLive = false
        /// Its connection was closed to begin anew with other words; the ladder need not know.
        var isRestarting = false
        /// It has asked for another token since the last hello.
        var hasRenewed = false
        var token: String?
        var session: String?
        /// Those it has, in the order of its request.
        var members: [Int] = []
        /// The first one of its request: it is the one that acknowledgements move.
        var first: Int?
        /// To become members by command.
        var joining: Set<Int> = []
        /// The first probe message: when it came, and how long after the hello it was sent.
        var firstProbe: (came: Int, at: Int)?
    }

    let configuration: ClientConfiguration
    let tls: TLSContext?
    let tokens: TokenSource
    var ladder: FallbackLadder
    var members: [Member] = []
    var attempts: [Int: Running] = [:]
    /// Answers to commands that are awaited.
    var replies: [Int: CheckedContinuation<WireObject, any Error>] = [:]
    var lastCommand = 0
    /// Verdicts that the server was not told.
    var reports: [ClientTransport: (verdict: RungVerdict, milliseconds: Int)] = [:]
    /// Verdicts of which it is not known yet where they hold.
    private var found: [ClientTransport: PathVerdict] = [:]
    var network: String?
    var isRenewing = false

    /// Of the name of a network; a server's has eight.
    private static let networkBytesMax = 64

    private let onStatus: @Sendable (ClientStatus) -> Void
    private let start = ContinuousClock.now
    private var lastAttempt = 0
    private var timer: Task<Void, Never>?
    private var timerDue: Int?
    /// How long consumers were waited for.
    private var stalled = Duration.zero
    private var stall: (since: ContinuousClock.Instant, until: ContinuousClock.Instant?)?

    init(
        _ configuration: ClientConfiguration, tls: TLSContext?, tokens: TokenSource, onStatus: @escaping @Sendable (ClientStatus) -> Void
    ) {
        self.configuration = configuration
        self.tls = tls
        self.tokens = tokens
        self.onStatus = onStatus
        network = configuration.memory.lastNetwork(of: configuration.address)
        let known = network.map { Self.known(configuration, on: $0, now: 0) } ?? [:]
        ladder = FallbackLadder(rungs: configuration.transports, memory: known)
    }

    // MARK: time

    /// Milliseconds of the line's own time.
    var now: Int { now(at: .now) }

    private func now(at instant: ContinuousClock.Instant) -> Int {
        var passed = instant - start - stalled
        if let stall, stall.until == nil { passed -= max(.zero, instant - stall.since) }
        return Self.milliseconds(passed)
    }

    private static func milliseconds(_ duration: Duration) -> Int {
        Int(duration / .milliseconds(1))
    }

    /// Waits for a consumer.
    func stall(for subscription: Subscription) async {
        stall = (.now, nil)
        await subscription.queue.room()
        let end = ContinuousClock.now
        if let stall { stalled += end - stall.since }
        stall?.until = end
        schedule()
    }

    /// When a probe message came, in the line's time: what it waited here does not count. Never earlier than the first one has it.
    func cameTime(_ arrival: ContinuousClock.Instant, at: Int, after first: (came: Int, at: Int)?) -> Int {
        let handled = ContinuousClock.now
        var waited = handled - arrival
        if let stall, let until = stall.until { waited -= max(.zero, until - max(stall.since, arrival)) }
        let lag = max(0, Self.milliseconds(waited))
        let now = now(at: handled)
        guard let first else { return now - lag }
        return max(now - lag, min(now, first.came + at - first.at))
    }

    private func schedule() {
        guard let due = ladder.due else {
            timer?.cancel()
            timer = nil
            timerDue = nil
            return
        }
        if let timerDue, timerDue <= due { return }
        timer?.cancel()
        timerDue = due
        let pause = Duration.milliseconds(max(1, due - now))
        timer = Task { [weak self] in
            try? await Task.sleep(for: pause)
            if !Task.isCancelled { await self?.timerFired() }
        }
    }

    private func timerFired() {
        timerDue = nil
        if let due = ladder.due, due <= now { feed(.tick) } else { schedule() }
    }

    // MARK: the ladder

    func feed(_ event: FallbackLadder.Event, at time: Int? = nil) {
        for action in ladder.on(event, at: time ?? now) { perform(action) }
        schedule()
    }

    private func perform(_ action: FallbackLadder.Action) {
        switch action {
        case .open(let rung, let role, let heartbeat): open(rung, role, heartbeat)
        case .close(let rung, let role):
            for (id, attempt) in attempts where attempt.rung == rung && attempt.role == role { drop(id) }
        case .check:
            Task { [weak self, configuration, tls] in
                let yes = await Self.isReachable(configuration, tls)
                await self?.feed(.reachable(yes))
            }
        case .verdict(let rung, let verdict, let milliseconds): note(rung, verdict, milliseconds)
        case .status(let state, let rung, let why, let wait):
            onStatus(ClientStatus(state, rung, why, waitMilliseconds: wait))
            if state == .refused { finish(ClientFault("refused: the token is not accepted", isFinal: true)) }
        }
    }

    private func open(_ rung: ClientTransport, _ role: FallbackLadder.Role, _ heartbeat: Int) {
        lastAttempt += 1
        let attempt = Attempt(id: lastAttempt, rung: rung, role: role, configuration: configuration, tls: tls, line: self)
        attempts[lastAttempt] = Running(rung: rung, role: role, heartbeatMilliseconds: heartbeat)
        attempts[lastAttempt]!.task = Task { await attempt.run() }
    }

    private func drop(_ id: Int) {
        guard let attempt = attempts.removeValue(forKey: id) else { return }
        if attempt.role == .carry { failReplies() }
        if attempt.rung == .webSocket { attempt.channel?.send(.close, [0x03, 0xE8]) }
        attempt.channel?.close()
        attempt.task?.cancel()
    }

    private static func isReachable(_ configuration: ClientConfiguration, _ tls: TLSContext?) async -> Bool {
        let answer = try? await ClientChannel.exchange(
            configuration, tls, method: .get, path: "/healthz", token: nil, body: [], within: .seconds(3)
        )
        return answer.map { (200..<300).contains($0.response.status.code) } ?? false
    }

    /// Ends everything.
    ///
    /// - Parameter fault: what consumers are told behind their last message.
    func close(_ fault: ClientFault? = nil) {
        feed(.stop)
        finish(fault)
    }

    private func finish(_ fault: ClientFault?) {
        for member in members { member.subscription.queue.finish(fault) }
        members = []
        failReplies()
    }

    /// What they were awaited from is gone.
    func failReplies() {
        let waiting = replies.values
        replies = [:]
        for reply in waiting { reply.resume(throwing: ClientFault("the connection ended")) }
    }

    // MARK: memory

    /// What is known of a network, in the ladder's time.
    private static func known(
        _ configuration: ClientConfiguration, on network: String, now: Int
    ) -> [ClientTransport: FallbackLadder.Remembered] {
        var known: [ClientTransport: FallbackLadder.Remembered] = [:]
        for one in configuration.memory.verdicts(of: configuration.address, on: network) {
            known[one.transport] = FallbackLadder.Remembered(
                verdict: one.verdict, milliseconds: one.milliseconds, until: now + one.until - WallClock.milliseconds
            )
        }
        return known
    }

    private func note(_ rung: ClientTransport, _ verdict: RungVerdict, _ milliseconds: Int) {
        reports[rung] = (verdict, milliseconds)
        sendReports()
        found[rung] = PathVerdict(
            transport: rung, verdict: verdict, milliseconds: milliseconds, until: WallClock.milliseconds + FallbackLadder.Times().expiry
        )
        remember()
    }

    /// Keeps what was found, as soon as it is known where.
    private func remember() {
        guard let network else { return }
        for verdict in found.values { configuration.memory.remember(verdict, of: configuration.address, on: network) }
        found = [:]
    }

    /// The server names the network.
    func setNetwork(_ name: String) {
        guard name != network, name.utf8.count <= Self.networkBytesMax else { return }
        let wasThought = network != nil
        network = name
        configuration.memory.setLastNetwork(name, of: configuration.address)
        let known = Self.known(configuration, on: name, now: now)
        // Without any thought before, what this round found out was found out here.
        remember()
        if wasThought || !known.isEmpty { feed(.network(known)) }
    }
}

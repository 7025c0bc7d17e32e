/// Decides which transport carries the subscriptions: events and time in, actions out; no clock, no network, no chance of its own.
///
/// Docs/fallback.md is its specification, with the table of states and events, and Fixtures/Fallback its cases; the ladder of
/// `tocsin.js` is held to the same. In short:
///
///     idle -> connecting -> live | polling -> waiting -> connecting ...
///                  any of them -> offline -> connecting
///                  any of them -> refused | closed, for good
///
/// While connecting there are one or more attempts to carry (`pending`); the first that says hello is the carrier, and the others are
/// closed. While one below the best carries, a better one may be probed beside it.
///
/// All times are milliseconds from any beginning.
public struct FallbackLadder: Sendable {
    private struct Record {
        var verdict: RungVerdict?
        var milliseconds = 0
        /// The verdict is believed until then.
        var until = 0
        /// When it was ended soon after its hello.
        var deaths: [Int] = []
        /// How it ended last, after a longer life.
        var lastEnd: (lived: Int, idle: Int)?
        /// How long to wait after the next probe that fails.
        var retry: Int
        /// Not probed before.
        var retryAt = 0
        /// It has worked.
        var isProven = false
    }

    private struct Pending {
        var rung: ClientTransport
        var since: Int
    }

    /// A probe message: what the server's clock said, and when it came.
    private struct Measurement {
        var at: Int
        var came: Int
    }

    private struct Carrier {
        var rung: ClientTransport
        var since: Int
        var heard: Int
        /// nil: nothing is measured, or no more.
        var probes: [Measurement]?
    }

    private struct Probe {
        var rung: ClientTransport
        var since: Int
        var hello: Int?
        var probes: [Measurement]?
        /// It has to live until then.
        var until = 0
    }

    private struct Told: Equatable {
        var rung: ClientTransport?
        var why: Reason?
    }

    /// Not before something happens.
    private static let never = Int.max

    private let times: Times
    private let rungs: [ClientTransport]
    private let random: @Sendable () -> Double
    private var records: [ClientTransport: Record] = [:]
    /// Attempts to carry that have not said hello, in the order of their opening.
    private var pending: [Pending] = []
    private var carrier: Carrier?
    private var probe: Probe?
    private var heartbeat: Int
    private var failures = 0
    public private(set) var state = State.idle
    /// Until when it waits.
    private var wait: Int?
    private var blamed: Set<ClientTransport> = []
    /// A proven rung that was refused: is the server there at all?
    private var checking: ClientTransport?
    /// It was not refused but ended so soon, for the second time.
    private var lifeBeforeCheck: Int?
    /// It is: refused once more, and it is the rung's fault.
    private var confirmed: ClientTransport?
    /// Where to go back to if a climb fails.
    private var back: ClientTransport?
    private var nextProbe = Self.never
    private var raceAt = 0
    private var told = Told()
    private var now = 0
    private var actions: [Action] = []

    /// - Parameters:
    ///   - rungs: what the caller allows, at least one; their order does not matter.
    ///   - memory: what is known of this network.
    ///   - random: 0 to below 1.
    public init(
        rungs: [ClientTransport] = ClientTransport.allCases, memory: [ClientTransport: Remembered] = [:], times: Times = Times(),
        random: @escaping @Sendable () -> Double = { Double.random(in: 0..<1) }
    ) {
        self.rungs = ClientTransport.allCases.filter(rungs.contains)
        precondition(!self.rungs.isEmpty, "a ladder without rungs")
        self.times = times
        self.random = random
        heartbeat = times.heartbeat
        for rung in self.rungs {
            var record = Record(retry: times.retry)
            if let known = memory[rung] {
                (record.verdict, record.milliseconds, record.until) = (known.verdict, known.milliseconds, known.until)
            }
            records[rung] = record
        }
    }

    /// Takes an event.
    ///
    /// - Returns: what is to be done.
    public mutating func on(_ event: Event, at now: Int) -> [Action] {
        self.now = now
        actions = []
        switch event {
        case .start: round()
        case .hello(let rung): hello(rung)
        case .probe(let rung, let at): probed(rung, at)
        case .heard(let rung): if carrier?.rung == rung { carrier!.heard = now }
        case .closed(let rung, .probe, let ending): probeClosed(rung, ending)
        case .closed(let rung, .carry, let ending): closed(rung, ending)
        case .reachable(let yes): reached(yes)
        case .offline: offline()
        case .online: online()
        case .network(let memory): network(memory)
        case .stop: stop(.closed)
        case .tick: break
        }
        if state != .closed, state != .refused, state != .offline { tick() }
        return actions
    }

    /// When the ladder wants to be called again, with `tick`; nil: not before something happens.
    public var due: Int? {
        switch state {
        case .idle, .closed, .refused, .offline: return nil
        case .connecting, .live, .polling, .waiting: break
        }
        var due = wait ?? Self.never
        for attempt in pending { due = min(due, attempt.since + times.giveUp) }
        if !pending.isEmpty, candidate() != nil { due = min(due, raceAt) }
        if let carrier {
            due = min(due, carrier.heard + silence(of: carrier))
            if probe == nil { due = min(due, nextProbe) }
            if let probes = carrier.probes { due = min(due, measureDue(probes, heard: carrier.heard)) }
            if failures > 0 { due = min(due, carrier.since + times.short) }
        }
        if let probe {
            if let hello = probe.hello {
                due = min(due, probe.probes.map { measureDue($0, heard: hello) } ?? probe.until)
            } else {
                due = min(due, probe.since + times.probe)
            }
        }
        return due == Self.never ? nil : due
    }

    private mutating func tick() {
        if let wait, now >= wait { round() }
        for attempt in pending where now >= attempt.since + times.giveUp {
            close(attempt.rung, .carry)
            failed(attempt.rung, isSilent: true)
        }
        if !pending.isEmpty, now >= raceAt, let next = candidate() { open(next) }
        if let carrier {
            if failures > 0, now >= carrier.since + times.short { failures = 0 }
            if now >= carrier.heard + silence(of: carrier) {
                close(carrier.rung, .carry)
                ended(carrier, isSilent: true)
            } else if let probes = carrier.probes, now >= measureDue(probes, heard: carrier.heard) {
                carrierMeasured(probes)
            }
        }
        tickProbe()
        if carrier != nil, probe == nil, now >= nextProbe { startProbe() }
    }

    private mutating func tickProbe() {
        guard let probe else { return }
        guard let hello = probe.hello else {
            if now >= probe.since + times.probe { probeFailed(probe.rung, .blocked, 0) }
            return
        }
        if let probes = probe.probes {
            if now >= measureDue(probes, heard: hello) { probeMeasured(probes) }
        } else if now >= probe.until {
            climb(to: probe.rung)
        }
    }

    // MARK: doing

    private mutating func open(_ rung: ClientTransport) {
        pending.append(Pending(rung: rung, since: now))
        raceAt = now + (records[rung]!.isProven ? times.raceProven : times.race)
        actions.append(.open(rung, .carry, heartbeatMilliseconds: heartbeat))
    }

    private mutating func close(_ rung: ClientTransport, _ role: Role) {
        actions.append(.close(rung, role))
    }

    private mutating func tell(_ state: State, _ why: Reason? = nil, wait: Int = 0) {
        let now = Told(rung: carrier?.rung, why: why)
        if state == self.state, now == told, state != .waiting { return }
        self.state = state
        told = now
        actions.append(.status(state, now.rung, why, waitMilliseconds: wait))
    }

    private mutating func judge(_ rung: ClientTransport, _ verdict: RungVerdict, _ milliseconds: Int) {
        let record = records[rung]!
        let isNew = record.verdict != verdict || abs(record.milliseconds - milliseconds) > times.late
        records[rung]!.verdict = verdict
        records[rung]!.milliseconds = milliseconds
        records[rung]!.until = now + times.expiry
        if verdict == .clear { records[rung]!.retry = times.retry }
        if isNew { actions.append(.verdict(rung, verdict, milliseconds: milliseconds)) }
    }
}

// MARK: - Rounds: attempts, until one says hello or all have failed

extension FallbackLadder {
    /// Whether something is known against it.
    private func isBad(_ rung: ClientTransport) -> Bool {
        guard let record = records[rung], let verdict = record.verdict, record.until > now else { return false }
        switch verdict {
        case .clear: return false
        case .cut: return record.milliseconds < times.short
        case .buffered, .blocked: return true
        }
    }

    private mutating func round() {
        wait = nil
        blamed = []
        tell(.connecting)
        let good = rungs.filter { !isBad($0) }
        open(good.first { records[$0]!.until > now } ?? good.first ?? rungs.last!)
    }

    private func index(_ rung: ClientTransport) -> Int {
        rungs.firstIndex(of: rung)!
    }

    /// What is tried beside attempts that say nothing: a poll, since its answer ends and so cannot be held back.
    private func candidate() -> ClientTransport? {
        let lowest = pending.map { index($0.rung) }.max()!
        let below = rungs[(lowest + 1)...].filter { !blamed.contains($0) }
        return below.first(where: \.isPoll) ?? below.first
    }

    private mutating func hello(_ rung: ClientTransport) {
        if let probe, probe.rung == rung, probe.hello == nil {
            self.probe!.hello = now
            self.probe!.probes = rung.isPoll ? nil : []
            self.probe!.until = now
            return
        }
        guard let at = pending.firstIndex(where: { $0.rung == rung }) else { return }
        pending.remove(at: at)
        let better = index(rung)
        for other in pending {
            close(other.rung, .carry)
            if index(other.rung) < better { blamed.insert(other.rung) }
        }
        pending = []
        confirmed = nil
        back = nil
        // A check that is still under way no longer matters.
        checking = nil
        lifeBeforeCheck = nil
        wait = nil
        records[rung]!.isProven = true
        carrier = Carrier(rung: rung, since: now, heard: now, probes: rung.isPoll ? nil : [])
        if rung.isPoll { judge(rung, .clear, 0) }
        nextProbe = Self.never
        // What failed while this one works may have failed by chance: once more, soon.
        for other in rungs[..<better] {
            if blamed.contains(other) {
                if !isBad(other) { records[other]!.retryAt = now + times.confirm }
            } else if isBad(other) {
                records[other]!.retryAt = max(records[other]!.retryAt, now + times.retry)
            }
            nextProbe = min(nextProbe, max(records[other]!.retryAt, now + times.confirm))
        }
        tell(rung.isPoll ? .polling : .live, why())
    }

    /// An attempt to carry has failed before its hello.
    private mutating func failed(_ rung: ClientTransport, isSilent: Bool) {
        pending.removeAll { $0.rung == rung }
        if let back {
            // The climb failed: back to what worked.
            self.back = nil
            judge(rung, .blocked, 0)
            return open(back)
        }
        if records[rung]!.isProven, confirmed != rung, !isSilent {
            checking = rung
            actions.append(.check)
            return
        }
        if confirmed == rung { judge(rung, .blocked, 0) }
        confirmed = nil
        blamed.insert(rung)
        guard pending.isEmpty else { return }
        if let next = rungs[(index(rung) + 1)...].first(where: { !blamed.contains($0) && !isBad($0) }) {
            open(next)
        } else {
            rest(.unreachable)
        }
    }

    private mutating func reached(_ yes: Bool) {
        guard let rung = checking else { return }
        checking = nil
        let lived = lifeBeforeCheck
        lifeBeforeCheck = nil
        guard yes else { return rest(.unreachable) }
        if let lived {
            judge(rung, .cut, lived)
            return down(from: rung, isHeld: rung != .webSocket)
        }
        confirmed = rung
        open(rung)
    }

    /// Nothing works, so nothing is to blame.
    ///
    /// - Parameter milliseconds: the server's slot; nil: full jitter.
    private mutating func rest(_ why: Reason, milliseconds: Int? = nil) {
        let pause: Int
        if let milliseconds {
            pause = milliseconds
        } else {
            let ceiling = min(times.backoffMax, times.backoff << min(failures, 10))
            failures += 1
            pause = Int(random() * Double(ceiling))
        }
        wait = now + pause
        tell(.waiting, why, wait: pause)
    }
}

// MARK: - A carrier

extension FallbackLadder {
    /// How long nothing may be heard.
    private func silence(of carrier: Carrier) -> Int {
        carrier.rung.isPoll ? times.pollSilence : heartbeat + max(3000, heartbeat / 2)
    }

    private mutating func closed(_ rung: ClientTransport, _ ending: Ending) {
        let carrying = carrier.flatMap { $0.rung == rung ? $0 : nil }
        guard carrying != nil || pending.contains(where: { $0.rung == rung }) else { return }
        switch ending {
        case .denied: return stop(.refused)
        case .goingAway(let milliseconds):
            letGo()
            return rest(.goingAway, milliseconds: milliseconds)
        case .busy(let milliseconds):
            letGo()
            return rest(.busy, milliseconds: milliseconds)
        case .ended, .refused, .silent: break
        }
        if let carrying { ended(carrying, isSilent: ending == .silent) } else { failed(rung, isSilent: false) }
    }

    /// The carrier has gone, or nothing more comes of it.
    private mutating func ended(_ carrier: Carrier, isSilent: Bool) {
        let rung = carrier.rung
        let lived = now - carrier.since
        self.carrier = nil
        endProbe()
        if lived < times.short {
            let deaths = records[rung]!.deaths.filter { $0 > now - times.window } + [now]
            guard deaths.count < 2 else {
                // Unless the server is away, it is the path that cuts.
                records[rung]!.deaths = []
                checking = rung
                lifeBeforeCheck = lived
                return actions.append(.check)
            }
            records[rung]!.deaths = deaths
        } else {
            learn(rung, lived: lived, idle: isSilent ? heartbeat : now - carrier.heard, isSilent: isSilent)
        }
        rest(.ended)
    }

    /// Ends at the same age or after the same idle time, twice: so this path does it.
    private mutating func learn(_ rung: ClientTransport, lived: Int, idle: Int, isSilent: Bool) {
        func isLike(_ one: Int, _ other: Int) -> Bool { 4 * abs(one - other) <= one }
        let last = records[rung]!.lastEnd
        records[rung]!.lastEnd = (lived, idle)
        guard let last else { return }
        if idle >= 3000, isSilent || isLike(last.idle, idle) {
            let share = Int(Double(idle) * (isSilent ? 0.5 : 0.7) / 1000) * 1000
            heartbeat = max(1000, min(heartbeat, share))
            judge(rung, .cut, idle)
        } else if isLike(last.lived, lived) {
            judge(rung, .cut, lived)
        }
    }

    /// To the next rung below; past one that holds back, to the polls at once.
    private mutating func down(from rung: ClientTransport, isHeld: Bool = false) {
        let below = rungs[(index(rung) + 1)...].filter { !isBad($0) }
        blamed = []
        open((isHeld ? below.first(where: \.isPoll) : nil) ?? below.first ?? rungs.last!)
        tell(.connecting)
    }

    /// Why it is not the best rung.
    private func why() -> Reason? {
        func known(_ rung: ClientTransport) -> Reason? { isBad(rung) ? Reason(records[rung]!.verdict!) : nil }
        guard let carrier, index(carrier.rung) > 0 else { return nil }
        if carrier.rung.isPoll, let reason = known(.eventStream) { return reason }
        return known(.webSocket) ?? (blamed.isEmpty ? nil : .blocked)
    }
}

// MARK: - Measuring

extension FallbackLadder {
    private mutating func probed(_ rung: ClientTransport, _ at: Int) {
        let measurement = Measurement(at: at, came: now)
        if carrier?.rung == rung {
            guard carrier!.probes != nil else { return }
            carrier!.probes!.append(measurement)
            if carrier!.probes!.count == 3 { carrierMeasured(carrier!.probes!) }
        } else if probe?.rung == rung {
            guard probe!.probes != nil else { return }
            probe!.probes!.append(measurement)
            if probe!.probes!.count == 3 { probeMeasured(probe!.probes!) }
        }
    }

    /// The first probe comes when all that was missed has been sent; the others in their time after it.
    private func measureDue(_ probes: [Measurement], heard: Int) -> Int {
        (probes.first?.came ?? heard) + times.measure
    }

    /// - Returns: by how much messages are held back, in milliseconds.
    private func held(_ probes: [Measurement]) -> Int {
        guard probes.count >= 3 else { return times.measure }
        let offsets = probes.map { $0.came - $0.at }
        // A program that has only just begun may be late for the first.
        return offsets.dropFirst().max()! - offsets.min()!
    }

    /// The probes are here, or it is too late for them.
    private mutating func carrierMeasured(_ probes: [Measurement]) {
        let held = held(probes)
        let rung = carrier!.rung
        carrier!.probes = nil
        guard held > times.late else { return judge(rung, .clear, held) }
        judge(rung, .buffered, held)
        // With nothing below, late is better than never.
        guard rung != rungs.last else { return }
        letGo()
        down(from: rung, isHeld: true)
    }

    private mutating func probeMeasured(_ probes: [Measurement]) {
        let held = held(probes)
        let rung = probe!.rung
        probe!.probes = nil
        guard held <= times.late else { return probeFailed(rung, .buffered, held) }
        let record = records[rung]!
        probe!.until = now
        if record.verdict == .cut {
            probe!.until = max(now, probe!.hello! + min(record.milliseconds + 1000, times.hold))
        }
    }
}

// MARK: - The way up

extension FallbackLadder {
    private mutating func startProbe() {
        let better = rungs[..<index(carrier!.rung)]
        guard let rung = better.first(where: { records[$0]!.retryAt <= now }) else { return plan() }
        probe = Probe(rung: rung, since: now)
        actions.append(.open(rung, .probe, heartbeatMilliseconds: heartbeat))
    }

    private mutating func probeClosed(_ rung: ClientTransport, _ ending: Ending) {
        guard let probe, probe.rung == rung else { return }
        switch ending {
        case .ended, .refused:
            if let hello = probe.hello { probeFailed(rung, .cut, now - hello) } else { probeFailed(rung, .blocked, 0) }
        case .goingAway(let milliseconds), .busy(let milliseconds): probeLater(milliseconds ?? 0)
        case .denied, .silent: probeLater(0)
        }
    }

    private mutating func probeFailed(_ rung: ClientTransport, _ verdict: RungVerdict, _ milliseconds: Int) {
        judge(rung, verdict, milliseconds)
        let retry = records[rung]!.retry
        records[rung]!.retryAt = now + Int(Double(retry) * (0.8 + 0.2 * random()))
        records[rung]!.retry = min(times.retryMax, retry * 2)
        endProbe()
        plan()
        if carrier != nil { tell(state, why()) }
    }

    /// It was not the path that ended the probe.
    private mutating func probeLater(_ milliseconds: Int) {
        records[probe!.rung]!.retryAt = now + max(milliseconds, times.retry)
        endProbe()
        plan()
    }

    /// When the next better rung is due.
    private mutating func plan() {
        let better = carrier.map { rungs[..<index($0.rung)] } ?? []
        nextProbe = better.map { records[$0]!.retryAt }.min() ?? Self.never
    }

    private mutating func endProbe() {
        if let probe { close(probe.rung, .probe) }
        probe = nil
    }

    private mutating func climb(to rung: ClientTransport) {
        endProbe()
        judge(rung, .clear, 0)
        back = carrier!.rung
        close(carrier!.rung, .carry)
        carrier = nil
        open(rung)
    }
}

// MARK: - The rest

extension FallbackLadder {
    private var isUnused: Bool { state == .idle || state == .closed || state == .refused }

    private mutating func offline() {
        guard !isUnused else { return }
        letGo()
        wait = nil
        tell(.offline)
    }

    private mutating func online() {
        guard !isUnused else { return }
        letGo()
        failures = 0
        round()
    }

    private mutating func network(_ memory: [ClientTransport: Remembered]) {
        for rung in rungs {
            let known = memory[rung]
            records[rung]!.verdict = known?.verdict
            records[rung]!.milliseconds = known?.milliseconds ?? 0
            records[rung]!.until = known?.until ?? 0
            records[rung]!.retryAt = 0
            records[rung]!.retry = times.retry
            records[rung]!.lastEnd = nil
        }
        if carrier != nil { nextProbe = now }
    }

    private mutating func letGo() {
        for attempt in pending { close(attempt.rung, .carry) }
        pending = []
        if let carrier { close(carrier.rung, .carry) }
        carrier = nil
        checking = nil
        lifeBeforeCheck = nil
        confirmed = nil
        back = nil
        endProbe()
    }

    private mutating func stop(_ state: State) {
        letGo()
        wait = nil
        tell(state)
    }
}

import Limits
import Logging
import NIOCore
import Synchronization
import Transports
import Webhooks

/// The limits of a server, as its listeners and loops ask for them: what is counted by address and by user, whether there is too much to
/// do, what was refused.
final class ServerLimits: Sendable {
    let configuration: LimitConfiguration
    private let memory: LimitMemory
    private let hash: KeyedHash
    private let counts: CountTable
    private let buckets: BucketTable
    private let logger: Logger
    /// Whether anything is asked of a connection when it is accepted.
    let isAskedAtAccept: Bool
    let countsConnections: Bool
    /// Whether publications or commands have one.
    let hasRates: Bool
    /// Whether others want to be told of connections that are refused.
    let tellsRefusals: Bool
    private let notes = Mutex(Notes())
    private let gates: Mutex<Gates>
    private let overload = Atomic<Int>(OverloadGauge.State.calm.rawValue)
    private let lagMilliseconds = Atomic<Int>(0)
    /// Connections that are there only to be told that they are refused.
    private let refusing = Atomic<Int>(0)
    /// Connections on their way from the listener to their loop, which are to be told that.

    private struct Notes {
        var counts = [Int](repeating: 0, count: LimitRule.allCases.count)
        var seldom = [SeldomNote](repeating: SeldomNote(), count: LimitRule.allCases.count)
        var overload = OverloadGauge()
        var shed = 0
        var shedNote = SeldomNote()
        /// What others are to be told of; empty where they are not.
        var book = RefusalBook()
    }

    private struct Gates {
        var ramp: AdmissionRamp?
        var book: SlotBook
        var answers = TokenBucket()
    }

    /// Refusals that are told to the client, for which a connection has to be kept for a moment. Others are closed at once: a client that
    /// is well-behaved is among the first, one that floods is not worth more.
    private static let answers = RateLimit(perSecond: 100, burst: 100)
    private static let refusingMax = 256

    /// What the same address or user is counted for.
    private enum Kind: UInt64 {
        case connectionsOfAddress = 1
        case connectionsOfNetwork
        case connectionsOfUser
        case attemptsOfAddress
        case publishesOfUser
        case commandsOfUser
    }

    init(_ configuration: LimitConfiguration, memory: LimitMemory, logger: Logger, tellsRefusals: Bool = false) {
        self.tellsRefusals = tellsRefusals
        self.configuration = configuration
        self.memory = memory
        self.logger = logger
        hash = memory.hash
        counts = memory.counts
        buckets = memory.buckets
        countsConnections =
            configuration.connectionsMax != nil || configuration.connectionsPerAddressMax != nil
            || configuration.connectionsPerNetworkMax != nil
        hasRates =
            configuration.publishesPerConnection != nil || configuration.publishesPerUser != nil
            || configuration.commandsPerConnection != nil || configuration.commandsPerUser != nil
        let hasMarks =
            configuration.residentBytesMark != nil || configuration.descriptorPercentMark != nil
            || configuration.lagMillisecondsMark != nil
        isAskedAtAccept = countsConnections || configuration.attemptsPerAddress != nil || configuration.rampSeconds > 0 || hasMarks
        // Slots and the ramp are each process's own part.
        let share = { (rate: Int) in max(1, rate / memory.processes) }
        let ramp =
            configuration.rampSeconds == 0
            ? nil
            : AdmissionRamp(
                startNanoseconds: Clock.monotonicNanoseconds(), seconds: configuration.rampSeconds,
                perSecond: share(configuration.rampPerSecond)
            )
        gates = Mutex(Gates(ramp: ramp, book: SlotBook(perSecond: share(configuration.returnsPerSecond))))
    }

    // MARK: connections

    /// Proxies that speak for others are not held to what one of those may have.
    func isProxy(_ address: NetworkAddress) -> Bool {
        configuration.trustedProxies.contains(address) || configuration.proxyProtocolSources.contains(address)
    }

    func wantsProxyHeader(_ address: NetworkAddress) -> Bool {
        !configuration.proxyProtocolSources.isEmpty && configuration.proxyProtocolSources.contains(address)
    }

    /// Asked for each connection, as soon as its address is known: nothing has been made for it yet.
    func refusal(of address: NetworkAddress) -> LimitRefusal? {
        let now = Clock.monotonicNanoseconds()
        if !isProxy(address) {
            if let limit = configuration.attemptsPerAddress, !configuration.attemptsExempt.contains(address) {
                let wait = buckets.take(hash.of(address.site, kind: Kind.attemptsOfAddress.rawValue), of: limit, nowNanoseconds: now)
                if wait > 0 { return LimitRefusal(.attemptsPerAddress, nanoseconds: wait) }
            }
            for (rule, max, name) in bounds(address) where counts.count(name) >= max { return LimitRefusal(rule) }
        }
        return overloadRefusal(nowNanoseconds: now)
    }

    /// Whether nobody at all is let in at the moment.
    private func overloadRefusal(nowNanoseconds now: Int64) -> LimitRefusal? {
        if let max = configuration.connectionsMax, memory.connections >= max {
            return LimitRefusal(.connections, milliseconds: slot(nowNanoseconds: now))
        }
        if overload.load(ordering: .relaxed) != OverloadGauge.State.calm.rawValue {
            let cause = notes.withLock { $0.overload.cause }
            let rule: LimitRule = cause == .memory ? .memory : cause == .descriptors ? .descriptors : .lag
            return LimitRefusal(rule, milliseconds: slot(nowNanoseconds: now))
        }
        guard configuration.rampSeconds > 0 else { return nil }
        let wait = gates.withLock { $0.ramp?.admit(nowNanoseconds: now) ?? 0 }
        return wait == 0 ? nil : LimitRefusal(.ramp, milliseconds: wait)
    }

    /// When somebody may come back who cannot be taken now, in milliseconds.
    private func slot(nowNanoseconds now: Int64) -> Int { gates.withLock { $0.book.next(nowNanoseconds: now) } }

    /// The same, for somebody who is there and is asked to go.
    var slotMilliseconds: Int { slot(nowNanoseconds: Clock.monotonicNanoseconds()) }

    private func bounds(_ address: NetworkAddress) -> [(rule: LimitRule, max: Int, name: UInt64)] {
        let perAddress = configuration.connectionsPerAddressMax
        var bounds: [(rule: LimitRule, max: Int, name: UInt64)] = []
        if let perAddress {
            bounds.append((.connectionsPerAddress, perAddress, hash.of(address, kind: Kind.connectionsOfAddress.rawValue)))
        }
        if let perNetwork = configuration.connectionsPerNetworkMax ?? perAddress, !address.isVersion4 {
            bounds.append((.connectionsPerNetwork, perNetwork, hash.of(address.site, kind: Kind.connectionsOfNetwork.rawValue)))
        }
        return bounds
    }

    /// Counts a connection.
    ///
    /// - Returns: why it may not be; then it is not counted.
    func enter(_ address: NetworkAddress) -> LimitRefusal? {
        guard countsConnections else { return nil }
        if memory.addConnection(1) > configuration.connectionsMax ?? .max {
            memory.addConnection(-1)
            return LimitRefusal(.connections, milliseconds: slotMilliseconds)
        }
        guard !isProxy(address) else { return nil }
        let bounds = bounds(address)
        for (index, bound) in bounds.enumerated() where counts.add(bound.name) > bound.max {
            for earlier in bounds[...index] { counts.remove(earlier.name) }
            memory.addConnection(-1)
            return LimitRefusal(bound.rule)
        }
        return nil
    }

    /// A connection that was counted has ended.
    func leave(_ address: NetworkAddress) {
        guard countsConnections else { return }
        memory.addConnection(-1)
        guard !isProxy(address) else { return }
        for bound in bounds(address) { counts.remove(bound.name) }
    }

    /// A place for a subscription: of its user, and of the address that a proxy speaks for.
    func place(user: String?, forwarded address: NetworkAddress?) throws(Problem) -> CountedPlace? {
        var wanted = address.map { bounds($0) } ?? []
        if let max = configuration.connectionsPerUserMax, let user {
            wanted.append((.connectionsPerUser, max, hash.of(user, kind: Kind.connectionsOfUser.rawValue)))
        }
        if wanted.isEmpty { return nil }
        for (index, bound) in wanted.enumerated() where counts.add(bound.name) > bound.max {
            for earlier in wanted[...index] { counts.remove(earlier.name) }
            throw refuse(LimitRefusal(bound.rule), address)
        }
        return CountedPlace(memory, wanted.map(\.name))
    }

    // MARK: what is told to a connection that is refused

    /// Whether there is room to tell a connection that it is refused, which takes a place for a moment.
    ///
    /// - Parameter isSecret: the connection is of TLS, where a word to it costs a handshake: only for what is not the client's fault.
    func mayTell(_ refusal: LimitRefusal, isSecret: Bool) -> Bool {
        guard !isSecret || refusal.rule.isOverload, refusing.load(ordering: .relaxed) < Self.refusingMax else { return false }
        let now = Clock.monotonicNanoseconds()
        return gates.withLock { $0.answers.take(of: Self.answers, nowNanoseconds: now) } == 0
    }

    func beginRefusing() { refusing.add(1, ordering: .relaxed) }

    func endRefusing() { refusing.subtract(1, ordering: .relaxed) }

    // MARK: rates

    /// Takes of a connection's and its user's rates.
    ///
    /// - Throws: what to answer if there is not so much left. Then nothing counts but what was taken of the connection.
    func spend(_ what: Spending, _ count: Int, _ connection: Connection, user: String?) throws(Problem) {
        let (own, ofUser) =
            what == .publishes
            ? (configuration.publishesPerConnection, configuration.publishesPerUser)
            : (configuration.commandsPerConnection, configuration.commandsPerUser)
        guard count > 0, own != nil || ofUser != nil else { return }
        let now = Clock.monotonicNanoseconds()
        if let own {
            let bucket = what == .publishes ? \ConnectionSpending.publishes : \.commands
            let wait = connection.ensureSpending()[keyPath: bucket].take(count, of: own, nowNanoseconds: now)
            if wait > 0 {
                let rule: LimitRule = what == .publishes ? .publishesPerConnection : .commandsPerConnection
                throw refuse(LimitRefusal(rule, nanoseconds: wait), connection.address)
            }
        }
        if let ofUser, let user {
            let kind = what == .publishes ? Kind.publishesOfUser : .commandsOfUser
            let wait = buckets.take(hash.of(user, kind: kind.rawValue), count, of: ofUser, nowNanoseconds: now)
            if wait > 0 {
                let rule: LimitRule = what == .publishes ? .publishesPerUser : .commandsPerUser
                throw refuse(LimitRefusal(rule, nanoseconds: wait), connection.address)
            }
        }
    }

    enum Spending {
        case publishes
        case commands
    }

    // MARK: overload

    /// A loop was held up for so long.
    func note(lagMilliseconds lag: Int) { lagMilliseconds.max(lag, ordering: .relaxed) }

    /// Looks at what the process uses; to be called once a second.
    func look(connections: Int, connectionsMax: Int) {
        let marks = OverloadMarks(
            residentBytesMax: configuration.residentBytesMark,
            connectionsMax: configuration.descriptorPercentMark.map { connectionsMax / 100 * $0 + connectionsMax % 100 * $0 / 100 },
            lagMillisecondsMax: configuration.lagMillisecondsMark
        )
        if marks.areNone { return }
        var figures = OverloadFigures()
        figures.connections = connections
        figures.lagMilliseconds = lagMilliseconds.exchange(0, ordering: .relaxed)
        if marks.residentBytesMax != nil { figures.residentBytes = SystemCall.residentBytes() }
        let (before, after) = notes.withLock { notes in
            let before = notes.overload
            notes.overload.look(figures, marks)
            return (before, notes.overload)
        }
        overload.store(after.state.rawValue, ordering: .relaxed)
        guard before.state != after.state else { return }
        let words = [OverloadGauge.State.calm: "takes clients again", .full: "takes nobody new", .shedding: "asks idle clients to go"]
        logger.warning(
            "the server \(words[after.state]!)",
            metadata: [
                "mark": "\(after.cause?.rawValue ?? "none")", "resident_bytes": "\(figures.residentBytes)",
                "connections": "\(figures.connections)", "lag_ms": "\(figures.lagMilliseconds)",
            ]
        )
    }

    var isShedding: Bool { overload.load(ordering: .relaxed) == OverloadGauge.State.shedding.rawValue }

    func noteShed(_ count: Int) { notes.withLock { $0.shed += count } }

    // MARK: what is said of it

    /// Counts a refusal, and says it in the log once in a while.
    ///
    /// - Returns: the answer.
    func refuse(_ refusal: LimitRefusal, _ address: NetworkAddress?) -> Problem {
        note(refusal, address)
        return refusal.problem
    }

    /// Counts a refusal of somebody who is not told, and says it in the log once in a while.
    func note(_ refusal: LimitRefusal, _ address: NetworkAddress?) {
        let index = LimitRule.allCases.firstIndex(of: refusal.rule)!
        let now = Clock.monotonicNanoseconds()
        let count = notes.withLock { notes in
            notes.counts[index] += 1
            if tellsRefusals, refusal.rule.refusesConnections {
                notes.book.note(refusal.rule.rawValue, address == .unknown ? nil : address, nowMilliseconds: Clock.wallMilliseconds())
            }
            return notes.seldom[index].note(nowNanoseconds: now)
        }
        if let count {
            logger.warning(
                "a limit was reached",
                metadata: [
                    "limit": "\(refusal.rule.rawValue)", "flag": "\(refusal.rule.flag)", "refusals": "\(count)",
                    "address": "\(address.map { "\($0)" } ?? "unknown")",
                ]
            )
        }
    }

    /// Connections that were ended at once because the process had no descriptor for them.
    func noteForWantOfRoom(_ count: Int) {
        guard tellsRefusals, count > 0 else { return }
        let now = Clock.wallMilliseconds()
        let report = RefusalBook.Report(
            limit: Self.descriptorsWord, address: nil, count: count, firstMilliseconds: now, lastMilliseconds: now)
        notes.withLock { $0.book.note(report) }
    }

    /// What that is called where limits are named.
    private static let descriptorsWord = "descriptors"

    /// What was refused since the last time, for others.
    func takeRefusals() -> [RefusalBook.Report] { notes.withLock { $0.book.isEmpty ? [] : $0.book.takeAll() } }

    /// Prometheus text format.
    var exposition: String {
        let (counts, state, shed) = notes.withLock { ($0.counts, $0.overload.state, $0.shed) }
        var text = "# HELP tocsin_limit_refusals_total What was refused because a limit was reached, by limit.\n"
        text += "# TYPE tocsin_limit_refusals_total counter\n"
        for (rule, count) in zip(LimitRule.allCases, counts) {
            text += "tocsin_limit_refusals_total{limit=\"\(rule.rawValue)\"} \(count)\n"
        }
        text += "# HELP tocsin_overload Processes that are above a mark and take nobody new.\n# TYPE tocsin_overload gauge\n"
        text += "tocsin_overload \(state == .calm ? 0 : 1)\n"
        text += "# HELP tocsin_shed_total Connections that were asked to go because there was too much to do.\n"
        text += "# TYPE tocsin_shed_total counter\ntocsin_shed_total \(shed)\n"
        return text
    }
}

/// A limit that was reached, and when it is worth coming back.
struct LimitRefusal: Sendable {
    let rule: LimitRule
    let retryAfterMilliseconds: Int

    /// Of counts nobody knows when there is room again.
    private static let patienceMilliseconds = 5000

    init(_ rule: LimitRule, milliseconds: Int = patienceMilliseconds) {
        self.rule = rule
        retryAfterMilliseconds = milliseconds
    }

    init(_ rule: LimitRule, nanoseconds: Int64) {
        self.init(rule, milliseconds: Int(nanoseconds / 1_000_000) + 1)
    }

    var problem: Problem {
        Problem(
            rule.type, rule.title, status: rule.isOverload ? 503 : 429, detail: rule.detail, rule: rule.rawValue,
            configurationKey: "\(rule.rawValue) (\(rule.flag))", retryAfterSeconds: (retryAfterMilliseconds + 999) / 1000
        )
    }
}

/// The places that a subscription has in the counts of its user and address; given back with the last reference to it.
final class CountedPlace: Sendable {
    private let memory: LimitMemory
    private let names: [UInt64]

    init(_ memory: LimitMemory, _ names: [UInt64]) {
        self.memory = memory
        self.names = names
    }

    deinit {
        let counts = memory.counts
        for name in names { counts.remove(name) }
    }
}

/// What a connection has spent of its rates.
final class ConnectionSpending {
    var publishes = TokenBucket()
    var commands = TokenBucket()
    var bytes = TokenBucket()
}

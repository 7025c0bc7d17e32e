import Identity
package import Logging
import NIOCore
import Presence
import Synchronization
import TLSEngine
import Transports
import Webhooks

/// What all loops of a server share. Nothing in it changes often.
package final class ServerState: Sendable {
    package let configuration: ServerConfiguration
    package let log: any LogService
    /// A thread of its own, of low priority, for what takes long: large bodies. One, so that what it has been given comes out in order.
    let worker: any EventLoop
    package let logger: Logger
    /// Whether each request has lines in the log.
    let logsRequests: Bool
    package let version: String
    /// Further pages, by path: the demo's.
    var pages: [String: StaticPage] {
        get { pagesBox.withLock { $0 } }
        set { pagesBox.withLock { $0 = newValue } }
    }

    private let pagesBox: Mutex<[String: StaticPage]>
    /// Names that it may be called by; nil: any.
    let hosts: Set<String>?
    let startedMilliseconds = Clock.monotonicMilliseconds()
    private let draining = Atomic<Bool>(false)
    private let handedOver = Atomic<Bool>(false)
    /// Until when those are asked to come back who are told to go, in milliseconds of the monotonic clock.
    private let drainedMilliseconds = Atomic<Int64>(0)
    private let connections = Atomic<Int>(0)
    private let refused = Atomic<Int>(0)
    /// Connections of the whole process; known when it listens.
    private let connectionsMax: Atomic<Int>
    private let loopsBox = Mutex<[LoopReference]>([])

    /// Says who somebody is and what they may do; nil: everybody may do everything.
    var gate: Gate? { gateBox.withLock { $0 } }

    let gateBox: Mutex<Gate?>
    /// One for all loops: a ticket may be used at another than the one that gave it out.
    let tickets = Mutex(TicketTable())
    let revocationsBox = Mutex(Revocations())
    let generation = Atomic<Int>(0)
    let refusals = Mutex(RefusalLog())
    let damage = Mutex(DamageBook())
    let outgoing: OutgoingHTTP
    /// Where keys of tokens are fetched from; nil: from no URL.
    let keySource: KeySource?
    /// Asked about what somebody wants to do; nil: nobody is.
    let hook: Hook?
    /// Tells others of what happens; nil: there are none, or another process does.
    let webhooks: WebhookService?

    /// Whether pages of another origin may send a cookie along: only of one that is configured by its name.
    func takesCookies(of origin: String) -> Bool {
        configuration.identity.cookie != nil && origin != "*" && configuration.allowedOrigins.contains(origin)
    }

    /// The other processes of this server, or the one that it takes over or that takes it over; nil: this is the only one.
    var neighbours: Neighbours? {
        get { neighboursBox.withLock { $0 } }
        set { neighboursBox.withLock { $0 = newValue } }
    }

    private let neighboursBox: Mutex<Neighbours?>
    /// Of this process among those: sessions, tickets and the canary's channel have it in their names.
    let place: Int
    /// Loops are numbered through all processes, in the numbers of sessions: this is the first of this process.
    let firstLoop: Int
    /// A server that takes another one over has the other half of those numbers.
    static let loopsPerPlace = 128
    /// Shows that messages are delivered; nil: it is turned off.
    let canary: Canary?
    let limits: ServerLimits
    /// Who is on which channels; nil: it is not kept for any.
    package var presence: (any PresenceService)? { presenceBox.withLock { $0 } }
    let presenceBox: Mutex<(any PresenceService)?>
    /// The book of this process, while another one has the log, and with it the book.
    let ownPresence: PresenceHub?

    init(
        webhooks: WebhookService? = nil,
        configuration: ServerConfiguration, log: any LogService, worker: any EventLoop, logger: Logger, version: String,
        pages: [String: StaticPage], gate: Gate? = nil, neighbours: Neighbours? = nil, limitMemory: LimitMemory? = nil,
        presence: (any PresenceService)? = nil, place: Int = 0
    ) {
        guard let limitMemory = limitMemory ?? LimitMemory() else { preconditionFailure("there is no memory for the limits") }
        limits = ServerLimits(
            configuration.limits, memory: limitMemory, logger: logger,
            tellsRefusals: configuration.webhooks?.wants(.connectionRefused) ?? false
        )
        neighboursBox = Mutex(neighbours)
        self.place = neighbours?.process ?? place
        firstLoop = self.place * (neighbours?.loopsPerProcess ?? Self.loopsPerPlace)
        // With several processes the book is in the main process.
        let isPresenceHere = configuration.presence.isOn && neighbours == nil
        ownPresence = isPresenceHere ? PresenceHub(configuration.presence, eventLoop: worker) : nil
        presenceBox = Mutex(presence ?? ownPresence)
        canary = configuration.hasCanary ? Canary(process: self.place) : nil
        self.worker = worker
        gateBox = Mutex(gate)
        let outgoing = OutgoingHTTP(authorityFile: configuration.identity.authorityFile)
        self.outgoing = outgoing
        keySource = configuration.identity.keysURL.map { KeySource($0, configuration.identity, http: outgoing, logger: logger) }
        hook = configuration.identity.hook.map { Hook($0, http: outgoing, logger: logger) }
        self.webhooks = webhooks
        self.configuration = configuration
        self.log = log
        self.logger = logger
        logsRequests = logger.logLevel <= .debug
        self.version = version
        pagesBox = Mutex(pages)
        connectionsMax = Atomic(configuration.connectionsMax)
        let here: Set = ["localhost", "127.0.0.1", "[::1]"]
        if configuration.allowedHosts.contains("*") {
            hosts = nil
        } else if configuration.allowedHosts.isEmpty {
            hosts = here.contains(configuration.host) || configuration.host == "::1" ? here : nil
        } else {
            hosts = Set(configuration.allowedHosts.map { $0.lowercased() }).union(here)
        }
    }

    /// Keeps the connections below what the process may have of descriptors besides those that it has now.
    func limitConnections() {
        let free = SystemCall.descriptorsMax() - SystemCall.descriptorsOpen() - Self.descriptorsKept
        connectionsMax.store(max(1, min(configuration.connectionsMax, free)), ordering: .relaxed)
    }

    /// For the store's files, and for what is accepted and only then refused.
    private static let descriptorsKept = 24

    /// - Returns: false, and counts it, if there are too many connections.
    func admit() -> Bool {
        if connections.add(1, ordering: .relaxed).newValue <= connectionsMax.load(ordering: .relaxed) { return true }
        leave()
        noteRefused(1)
        return false
    }

    func leave() { connections.subtract(1, ordering: .relaxed) }

    func noteRefused(_ count: Int) {
        refused.add(count, ordering: .relaxed)
        limits.noteForWantOfRoom(count)
    }

    /// Connections that were ended at once, for want of room.
    var connectionsRefused: Int { refused.load(ordering: .relaxed) }

    /// The server goes down: it answers what it has, and takes nobody new.
    var isDraining: Bool { draining.load(ordering: .relaxed) }

    func beginDraining(overMilliseconds milliseconds: Int) {
        drainedMilliseconds.store(Clock.monotonicMilliseconds() + Int64(milliseconds), ordering: .relaxed)
        draining.store(true, ordering: .relaxed)
    }

    func endDraining() { draining.store(false, ordering: .relaxed) }

    /// Whether another server has taken this one over: who has just come is let finish, nobody is cut off who would have to come again.
    var isHandedOver: Bool {
        get { handedOver.load(ordering: .relaxed) }
        set { handedOver.store(newValue, ordering: .relaxed) }
    }

    /// Told to who comes while it drains: any of the seconds until the end of that, or of the next few.
    var drainProblem: Problem {
        let left = Int((drainedMilliseconds.load(ordering: .relaxed) - Clock.monotonicMilliseconds()) / 1000)
        var generator = Randomness()
        return .goingAway(retryAfterSeconds: Int.random(in: 1...max(Self.lateSeconds, left), using: &generator))
    }

    private static let lateSeconds = 5

    var openConnections: Int { connections.load(ordering: .relaxed) }

    var connectionsMost: Int { connectionsMax.load(ordering: .relaxed) }

    var loops: [LoopReference] {
        get { loopsBox.withLock { $0 } }
        set { loopsBox.withLock { $0 = newValue } }
    }
}

/// A fixed answer to a GET.
package struct StaticPage: Sendable {
    package var contentType: String
    package var bytes: [UInt8]
    /// Pages of any origin may load it: a script that holds no secret.
    package var isPublic: Bool

    package init(contentType: String, bytes: [UInt8], isPublic: Bool = false) {
        self.contentType = contentType
        self.bytes = bytes
        self.isPublic = isPublic
    }
}

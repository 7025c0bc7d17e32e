import CSimulatedDisk
import Logging
import NIOCore
import NotificationCore
import NotificationStore
import TocsinServer

/// The server, as it is, on a simulated disk, clock and network.
///
///     down ──start──> up ──crash──> down
final class SimulatedServer {
    private static let loopCount = 2

    unowned let run: Run
    let disk: Int32
    private(set) var embedded: EmbeddedServer?
    /// Those of the server's loops.
    private(set) var eventLoops: [SimulatedEventLoop] = []
    private var otherLoops: [SimulatedEventLoop] = []
    private var observer: Observer?
    /// Counts lives: what was begun in an earlier one is nobody's business.
    private(set) var life = 0
    private(set) var crashes = 0
    private let logger = Logger(label: "simulation") { _ in SwiftLogNoOpLogHandler() }

    init(_ run: Run, diskSeed: UInt64) {
        self.run = run
        disk = sd_create(diskSeed)
        if run.scenario.losesAfterFailedSync { sd_set_options(disk, SD_LOSE_AFTER_FAILED_SYNC) }
    }

    /// The run is over.
    func end() {
        abandon()
        sd_destroy(disk)
    }

    private func abandon() {
        // Connections know their loop without holding it.
        run.network.abandon()
        for loop in eventLoops + otherLoops { loop.die() }
        embedded?.abandon()
        embedded = nil
        eventLoops = []
        otherLoops = []
        observer = nil
    }

    var isUp: Bool { embedded != nil }

    /// By channel, the newest sequence that a loop has.
    func applied(loop: Int) -> [(String, UInt64)] {
        embedded?.applied(loop: loop).map { ($0.channel.string, $0.sequence) } ?? []
    }

    private var options: StoreOptions {
        let scenario = run.scenario
        let path = scenario.isInMemory ? ":memory:" : "/simulated/\(disk)/log.sqlite"
        var options = StoreOptions(path: path, durability: scenario.durability, limits: scenario.limits)
        options.cacheBytesMax = scenario.cacheBytesMax
        return options
    }

    // MARK: up and down

    func start() {
        precondition(!isUp)
        life += 1
        eventLoops = (0..<Self.loopCount).map { _ in makeLoop(0...8) }
        otherLoops = [makeLoop(0...8), makeLoop(0...6), makeLoop(0...6)]
        let following = SimulatedEventLoop(run.timeline, pause: nil)
        let observer = Observer(run, number: Self.loopCount, following)
        self.observer = observer
        do throws(StoreFault) {
            // A slice of a loop's time has a few pieces of work, or one.
            var steps: Int64 = 0
            let server = try EmbeddedServer(
                run.scenario.configuration, options, eventLoops: eventLoops, writerLoop: otherLoops[0], readerLoop: otherLoops[1],
                worker: otherLoops[2], observer: observer, newEpoch: LogEpoch(random: run.chance.next()), logger: logger
            ) { [unowned run] in
                steps += run.chance.milliseconds(0...100) * 1000
                return steps
            }
            try look(at: server)
            embedded = server
            run.note("the server is up, epoch \(server.log.epoch), head \(server.log.head)")
        } catch {
            if sd_is_stopped(disk) { return crash() }
            run.note("the server does not start: \(words(error))")
            if case .corrupt = error { run.oracle.fail("the file stays sound", "\(error)") }
            abandon()
            later(500) { [unowned self] in if !isUp { start() } }
        }
    }

    private func makeLoop(_ pause: ClosedRange<Int>) -> SimulatedEventLoop {
        let loop = SimulatedEventLoop(run.timeline) { [unowned run] in run.chance.milliseconds(pause) }
        loop.afterTask = { [unowned self] in
            if sd_is_stopped(disk), isUp { crash() } else { run.lookAtBeginnings() }
        }
        return loop
    }

    private func later(_ milliseconds: Int64, _ action: @escaping () -> Void) {
        let life = life
        run.after(milliseconds) { [unowned self] in if self.life == life { action() } }
    }

    /// Tells the oracle what is in the log.
    private func look(at server: EmbeddedServer) throws(StoreFault) {
        do throws(StoreFault) {
            let found = try server.withStore { store throws(StoreFault) in
                var found: [(record: ChannelRecord, entries: [LogEntry])] = []
                for record in try store.contents().channels {
                    found.append((record, try store.entries(of: record.id, afterSequence: 0, limit: 100_000)))
                }
                return found
            }
            run.oracle.opened(epoch: server.log.epoch, found)
            for client in run.clients { client.forgetWhatIsLost() }
        } catch {
            server.abandon()
            throw error
        }
    }

    /// The process dies, or the machine.
    func crash() {
        life += 1
        crashes += 1
        let isCut = run.scenario.hasPowerCuts && run.chance.happens(50)
        if isCut {
            if run.scenario.durability == .memory { run.oracle.mayHaveLost = true }
            sd_power_cut(disk, run.chance.next())
        } else {
            sd_kill(disk)
        }
        if run.scenario.isInMemory { run.oracle.mayHaveLost = true }
        abandon()
        for client in run.clients { client.loseConnection() }
        run.note(isCut ? "the power is cut" : "the server is killed")
        later(run.chance.milliseconds(10...600)) { [unowned self] in start() }
    }

    /// Without the disk's number, which is another in each run.
    private func words(_ fault: StoreFault) -> String {
        let path = "/simulated/\(disk)/"
        var text = fault.description[...]
        var words = ""
        while let character = text.first {
            if text.hasPrefix(path) {
                text.removeFirst(path.count)
            } else {
                words.append(character)
                text.removeFirst()
            }
        }
        return words
    }
}

/// Told what the log takes, when it takes it.
private final class Observer: LogFollower {
    private unowned let run: Run
    let number: Int
    let eventLoop: any EventLoop

    init(_ run: Run, number: Int, _ eventLoop: any EventLoop) {
        self.run = run
        self.number = number
        self.eventLoop = eventLoop
    }

    func apply(_ batch: LogBatch) {
        run.oracle.committed(batch.notifications.map { LogEntry($0) })
        run.note("the log has \(batch.notifications.count) more, up to \(batch.notifications.last!.offset)")
    }
}

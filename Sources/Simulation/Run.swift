import CSimulatedDisk
import JSONCodec
import NotificationCore
import NotificationStore
import TocsinServer

/// One run of the whole: all of it follows from the seed.
final class Run {
    /// That messages have which are no alerts, scores or values.
    static let event = "e"
    static let users = ["ann", "bob"]
    static let channels = [
        "alerts.a", "alerts.a", "alerts.b", "scores.m", "scores.m", "scores.n", "dashboards.x", "dashboards.x", "dashboards.y", "plain.p",
        "plain.q",
    ]
    /// Until everybody has everything: a paced reader may need some turns, a failed reading is tried again after a second.
    private static let quietMilliseconds: Int64 = 9000

    let seed: UInt64
    var chance: Chance
    let timeline = Timeline()
    let trace: Trace
    let scenario: Scenario
    let oracle: Oracle
    private(set) var network: Network!
    private(set) var server: SimulatedServer!
    private(set) var clients: [SimulatedClient] = []
    private var publishers: [SimulatedPublisher] = []
    /// Things are published and break.
    private(set) var isBusy = true
    private var messages = 0
    private lazy var reader = Requester(self)

    /// - Parameter scenario: nil: of the seed.
    init(seed: UInt64, isVerbose: Bool = false, scenario wanted: Scenario? = nil) {
        self.seed = seed
        chance = Chance(seed: seed)
        trace = Trace(timeline, isVerbose: isVerbose)
        scenario = wanted ?? Scenario(&chance)
        oracle = Oracle(limits: scenario.limits, isInMemory: scenario.isInMemory, timeline: timeline)
        network = Network(self)
        World.simulated = network
        server = SimulatedServer(self, diskSeed: chance.next())
        oracle.untoldCount = { [unowned self] in server.embedded?.log.untoldCount ?? 0 }
    }

    var now: Int64 { timeline.now }
    func after(_ milliseconds: Int64, _ action: @escaping () -> Void) { timeline.after(milliseconds, action) }
    func note(_ words: String) { trace.note(words) }

    func nextMessage() -> Int {
        messages += 1
        return messages
    }

    /// The server has done something.
    func lookAtBeginnings() {
        for client in clients { client.lookAtBeginning() }
    }

    /// - Returns: the promise that was broken, if one was.
    func go() -> Violation? {
        note("seed \(seed): \(scenario.words)")
        server.start()
        clients = (0..<scenario.clients).map { SimulatedClient(number: $0, run: self) }
        for client in clients {
            note(client.words)
            after(chance.milliseconds(0...3000)) { client.connect() }
            cutLater(client)
        }
        publishers = (0..<scenario.publishers).map { SimulatedPublisher(number: $0, run: self) }
        for publisher in publishers { publisher.begin() }
        for user in Self.users { readLater(user) }
        if scenario.hasCrashes { crashLater() }
        if scenario.hasFullDisk { fillLater() }
        if scenario.hasFailingCalls { failLater() }
        let end = now + scenario.busyMilliseconds
        while oracle.violation == nil, timeline.step(until: end) {}
        heal()
        let last = now + Self.quietMilliseconds
        while oracle.violation == nil, timeline.step(until: last) {}
        if oracle.violation == nil { finish() }
        return oracle.violation
    }

    /// Gives back what it has. What it found stays.
    func end() {
        server.end()
        timeline.removeAll()
        World.simulated = nil
    }

    // MARK: what happens

    private func cutLater(_ client: SimulatedClient) {
        after(chance.milliseconds(scenario.cutPauseMilliseconds)) { [unowned self] in
            guard isBusy else { return }
            client.cut()
            cutLater(client)
        }
    }

    private func readLater(_ user: String) {
        after(chance.milliseconds(200...1500)) { [unowned self] in
            guard isBusy else { return }
            read(user)
            readLater(user)
        }
    }

    private func read(_ user: String) {
        let name = chance.one(of: ["alerts.a", "alerts.b"])
        let last = oracle.channel(name).last
        guard last > 0 else { return }
        let upper = UInt64(chance.number(1...Int(last)))
        let lower = chance.happens(30) ? 1 : UInt64(chance.number(max(1, Int(upper) - 3)...Int(upper)))
        let losses = oracle.losses
        oracle.read(user, name, [lower...upper], isSure: false)
        let isThrough = lower == 1 && chance.happens(50)
        let what = isThrough ? "\"through\":\(upper)" : "\"sequences\":[\((lower...upper).map { "\($0)" }.joined(separator: ","))]"
        let body = "{\"user\":\"\(user)\",\"channel\":\"\(name)\",\(what),\"dismiss\":\(chance.happens(30))}"
        if reader.isBusy { reader.leave() }
        reader.send("/v1/acks", fields: [], body: Array(body.utf8)) { [unowned self] status, answer in
            note("\(user) has read \(name) \(lower) to \(upper): \(status)")
            if status == 201, oracle.losses == losses {
                oracle.read(user, name, [lower...upper], isSure: true)
            } else if status != 201, status != 503, status != 404 {
                oracle.fail("requests are taken", "\(String(decoding: answer.bytes.prefix(200), as: UTF8.self))")
            }
        }
    }

    private func crashLater() {
        after(chance.milliseconds(500...6000)) { [unowned self] in
            guard isBusy else { return }
            if server.isUp {
                if chance.happens(40) {
                    server.crash()
                } else {
                    let calls = chance.number(0...60)
                    note("the disk stops after \(calls) calls")
                    sd_stop_after(server.disk, UInt64(calls))
                }
            }
            crashLater()
        }
    }

    private func fillLater() {
        after(chance.milliseconds(1000...5000)) { [unowned self] in
            guard isBusy else { return }
            var size: Int64 = 0
            for name in ["log.sqlite", "log.sqlite-wal", "log.sqlite-journal"] { size += max(0, sd_size(server.disk, name)) }
            sd_set_capacity(server.disk, UInt64(size) + UInt64(chance.number(0...30_000)))
            note("the disk is nearly full")
            after(chance.milliseconds(300...3000)) { [unowned self] in
                sd_set_capacity(server.disk, 0)
                note("the disk has room again")
            }
            fillLater()
        }
    }

    private func failLater() {
        after(chance.milliseconds(500...4000)) { [unowned self] in
            guard isBusy else { return }
            // SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC, SQLITE_FULL
            let kinds: [(UInt32, Int32)] = [(2, 1034), (1, 778), (1, 13), (3, 778)].map { (UInt32($0.0), Int32($0.1)) }
            let (kind, code) = chance.one(of: kinds)
            let times = chance.one(of: [1, 1, 3, UInt64.max])
            sd_fail(server.disk, kind, UInt64(chance.number(0...15)), times, code)
            note("calls fail with \(code), \(times == .max ? "all" : "\(times)")")
            after(chance.milliseconds(100...2500)) { [unowned self] in
                sd_heal(server.disk)
                note("calls do not fail any more")
            }
            failLater()
        }
    }

    private func heal() {
        isBusy = false
        sd_heal(server.disk)
        sd_set_capacity(server.disk, 0)
        if sd_is_stopped(server.disk), server.isUp { server.crash() }
        sd_stop_after(server.disk, .max)
        note("all is well again")
    }

    private func finish() {
        for client in clients { client.finish() }
        guard let embedded = server.embedded else { return oracle.fail("it recovers", "the server is not there at the end") }
        do throws(StoreFault) {
            try embedded.withStore { store throws(StoreFault) in
                for user in Self.users {
                    for record in try store.contents().channels where record.name.feed == "alerts" {
                        try finish(FieldText(user)!, record, store)
                    }
                }
            }
        } catch {
            oracle.fail("it recovers", "\(error)")
        }
    }

    private func finish(_ user: FieldText, _ record: ChannelRecord, _ store: NotificationStore) throws(StoreFault) {
        let name = record.name.string
        let count = try store.unreadCount(user: user, channels: [record.id], nowMilliseconds: now)
        let expected = oracle.unread(user.string, name)
        if !expected.contains(count) {
            oracle.fail("unread counts", "\(user) has \(count) unread on \(name), and it is to be \(expected)")
        }
        let truth = oracle.channel(name)
        for item in try store.inbox(user: user, channels: [record.id], before: .max, unreadOnly: false, limit: 1000, nowMilliseconds: now) {
            let sequence = item.notification.sequence
            if truth.hasExpired(sequence, now: now) || truth.isReplaced(sequence) {
                oracle.fail("the inbox", "\(name)#\(sequence) is in the inbox of \(user), and does not stand any more")
            }
            let isSure = truth.read[user.string]?.contains(sequence) == true
            let isPossible = truth.maybeRead[user.string]?.contains(sequence) == true
            if item.isRead ? !isPossible : isSure {
                oracle.fail("the inbox", "\(name)#\(sequence) is \(item.isRead ? "read" : "not read") for \(user)")
            }
        }
    }
}

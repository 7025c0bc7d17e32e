import CSimulatedDisk
import Glibc
import NotificationCore
import NotificationStore

/// A fixed scenario of publishing, reading and maintenance, in which each write and each sync fails: once, and then for a while.
///
/// Whatever fails: what was taken is there afterwards, what was not taken was refused, and when the disk is well the log is, too. What is
/// to be told to others waits until it was told, and each alert that was left unread is told of once.
struct FailEach {
    private static let steps = 24
    /// SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC, SQLITE_FULL.
    private static let failures: [(kinds: UInt32, code: Int32)] = [(SD_WRITE, 778), (SD_SYNC, 1034), (SD_WRITE, 13)]
    /// Steps that a lasting failure lasts.
    private static let lasting = 5

    static func run() {
        var failed = 0
        var refused = 0
        for (kinds, code) in failures {
            var healthy = FailEach(kinds: kinds)
            healthy.go(healsAt: nil)
            let calls = sd_count(healthy.disk, kinds)
            healthy.end()
            for call in 0..<calls {
                for isLasting in [false, true] {
                    var one = FailEach(kinds: kinds)
                    sd_fail(one.disk, kinds, call, isLasting ? .max : 1, code)
                    one.go(healsAt: isLasting ? call : nil)
                    if let fault = one.check() {
                        print("call \(call) of kind \(kinds) failed with \(code), \(isLasting ? "for a while" : "once"): \(fault)")
                        exit(1)
                    }
                    refused += one.refused
                    one.end()
                    failed += 1
                }
            }
        }
        print("\(failed) calls failed, one at a time: nothing taken was lost, \(refused) requests were refused, and each log recovered")
    }

    private let disk: Int32
    private let kinds: UInt32
    private var opened: OpenedLog?
    private var now: Int64 = 1_800_000_000_000
    private var taken: [(channel: String, sequence: UInt64, data: [UInt8])] = []
    private var read: Set<UInt64> = []
    /// The same, and those of which it is not certain.
    private var acknowledged: Set<UInt64> = []
    private var refused = 0
    private var fault: String?
    /// Of events, by their message: that wait for certain; that were told, for certain; that were seen in the outbox.
    private var waiting: Set<String> = []
    private var told: Set<String> = []
    private var seen: Set<String> = []
    /// Alerts that `tellUnread` has named in a call that did not fail.
    private var unread: Set<UInt64> = []

    private init(kinds: UInt32) {
        disk = sd_create(7)
        self.kinds = kinds
    }

    private var options: StoreOptions {
        var limits = LogLimits()
        limits.feeds.other.retention.countMax = 12
        var options = StoreOptions(path: "/simulated/\(disk)/log.sqlite", durability: .disk, limits: limits)
        options.outbox = OutboxOptions()
        options.outbox?.watchesAlerts = true
        return options
    }

    private mutating func open() {
        let epoch = opened?.writer.epoch ?? LogEpoch(random: 5)
        opened?.store.close(isOrderly: false)
        opened = nil
        do throws(StoreFault) {
            opened = try OpenedLog(options, newEpoch: epoch, nowMilliseconds: now)
        } catch {
            if case .corrupt = error { fault = fault ?? "the file is damaged: \(error)" }
        }
    }

    /// - Parameter healsAt: the failures last until some steps after this call; nil: there is one at most.
    private mutating func go(healsAt call: UInt64?) {
        var brokenSteps = 0
        for step in 0..<Self.steps {
            now += 700
            if let call, sd_count(disk, kinds) > call { brokenSteps += 1 }
            if brokenSteps == Self.lasting { sd_heal(disk) }
            if opened == nil { open() }
            publish(step)
            if step % 4 == 3 { acknowledge(step) }
            if step % 3 == 2 { maintain() }
            if step % 2 == 1 { tell("m\(step)") }
            if step % 5 == 4 { tellUnread(afterMilliseconds: 2000) }
        }
        sd_heal(disk)
        publish(Self.steps)
        if opened == nil { open() }
    }

    private mutating func publish(_ step: Int) {
        let publications = ["alerts.a", "plain.p", "scores.m", "dashboards.x"].prefix(1 + step % 4).enumerated().map { index, name in
            Publication(
                channel: ChannelName(name)!, data: Array(#"{"step":\#(step),"index":\#(index)}"#.utf8), key: FieldText("k\(step % 3)"))
        }
        guard opened != nil else { return refused += 1 }
        let outcomes = opened!.writer.append(AppendRequest(publications, idempotencyKey: FieldText("key \(step)")), nowMilliseconds: now)
        guard commit() else { return }
        for (publication, outcome) in zip(publications, outcomes) {
            guard let receipt = outcome.receipt else { continue }
            taken.append((publication.channel.string, receipt.sequence, publication.data))
        }
    }

    private mutating func acknowledge(_ step: Int) {
        guard let opened, let id = opened.writer.id(of: ChannelName("alerts.a")!) else { return }
        let sequence = UInt64(step - 2)
        acknowledged.insert(sequence)
        do throws(StoreFault) {
            let stored = try opened.store.receipt(user: FieldText("ann")!, channel: id)
            let isKnown = self.opened!.writer.acknowledge(
                FieldText("ann")!, ChannelName("alerts.a")!, [sequence...sequence], isDismissed: false, stored: stored, nowMilliseconds: now
            )
            if commit(), isKnown, taken.contains(where: { $0.channel == "alerts.a" && $0.sequence == sequence }) { read.insert(sequence) }
        } catch {
            refused += 1
        }
    }

    private mutating func maintain() {
        guard let store = opened?.store else { return }
        do throws(StoreFault) {
            while try store.maintain(nowMilliseconds: now) {}
        } catch {
            open()
        }
    }

    /// Stores an event, and has two that wait told.
    private mutating func tell(_ message: String) {
        guard let store = opened?.store else { return }
        let event = OutboxEvent(message: message, type: "t", endpoints: ["x"], timeMilliseconds: now, body: Array(message.utf8))
        do throws(StoreFault) {
            let due = try look(at: store, limit: 2)
            // Whether they are still there is not known until it has not failed.
            waiting.subtract(due.map(\.message))
            try store.turnOutbox([event], due.map { OutboxOutcome(id: $0.id, message: $0.message, .done) }, nowMilliseconds: now)
            told.formUnion(due.map(\.message))
            waiting.insert(message)
        } catch {
            open()
        }
    }

    /// What waits, as it is in the outbox.
    private mutating func look(at store: NotificationStore, limit: Int) throws(StoreFault) -> [OutboxRow] {
        let (rows, damaged) = try store.dueOutbox("x", nowMilliseconds: now, limit: limit)
        if !damaged.isEmpty { fault = fault ?? "rows of the outbox are damaged" }
        for row in rows {
            if row.body != Array(row.message.utf8) { fault = fault ?? "the event \(row.message) has another body" }
            if told.contains(row.message) { fault = fault ?? "the event \(row.message) is told again" }
            seen.insert(row.message)
        }
        if Set(rows.map(\.message)).count != rows.count { fault = fault ?? "an event is there twice" }
        return rows
    }

    private mutating func tellUnread(afterMilliseconds wait: Int64) {
        guard let store = opened?.store else { return }
        var found: [UInt64] = []
        do throws(StoreFault) {
            var hasMore = true
            while hasMore {
                let before = found.count
                hasMore = try store.tellUnread(
                    throughMilliseconds: now - wait, nowMilliseconds: now, owner: { _ in FieldText("ann") }
                ) { alert in
                    let message = "u\(alert.entry.sequence)"
                    found.append(alert.entry.sequence)
                    return OutboxEvent(message: message, type: "u", endpoints: ["x"], timeMilliseconds: now, body: Array(message.utf8))
                }
                for sequence in found[before...] {
                    if !unread.insert(sequence).inserted { fault = fault ?? "alerts.a#\(sequence) is told of twice" }
                    waiting.insert("u\(sequence)")
                }
            }
        } catch {
            open()
        }
    }

    /// - Returns: what is not as it should be with what is to be told.
    private mutating func checkOutbox() -> String? {
        tellUnread(afterMilliseconds: 0)
        guard let store = opened?.store else { return "the outbox does not recover" }
        do throws(StoreFault) {
            let there = Set(try look(at: store, limit: 1000).map(\.message))
            if let lost = waiting.subtracting(there).min() { return "the event \(lost) was not told and is not there" }
        } catch {
            return "\(error)"
        }
        for message in taken where message.channel == "alerts.a" && !acknowledged.contains(message.sequence) {
            if !seen.contains("u\(message.sequence)") { return "alerts.a#\(message.sequence) is unread and was never told of" }
        }
        return fault
    }

    private mutating func commit() -> Bool {
        let commit = opened!.writer.takeCommit()
        do throws(StoreFault) {
            try opened!.store.commit(commit)
            return true
        } catch {
            refused += 1
            open()
            return false
        }
    }

    /// - Returns: what is not as it should be, after a power cut on top of all.
    private mutating func check() -> String? {
        sd_power_cut(disk, 11)
        open()
        guard let opened else { return fault ?? "the log does not recover" }
        if let fault { return fault }
        do throws(StoreFault) {
            for record in try opened.store.contents().channels {
                let entries = try opened.store.entries(of: record.id, afterSequence: 0, limit: 1000)
                for message in taken where message.channel == record.name.string && message.sequence > record.trimmedSequence {
                    guard entries.contains(where: { $0.sequence == message.sequence && $0.publication.data == message.data }) else {
                        return "\(message.channel)#\(message.sequence) was taken and is not there"
                    }
                }
            }
            for message in taken where opened.writer.id(of: ChannelName(message.channel)!) == nil { return "\(message.channel) is gone" }
            guard let id = opened.writer.id(of: ChannelName("alerts.a")!) else { return "nothing was taken at all" }
            let receipt = try opened.store.receipt(user: FieldText("ann")!, channel: id)
            for sequence in read.sorted() where !receipt.read.contains(sequence) { return "alerts.a#\(sequence) was read and is not" }
        } catch {
            return "\(error)"
        }
        now += 1
        if let fault = checkOutbox() { return fault }
        let before = refused
        publish(Self.steps + 1)
        return refused > before ? "it does not take anything when the disk is well again" : nil
    }

    private mutating func end() {
        opened?.store.close(isOrderly: false)
        opened = nil
        sd_destroy(disk)
    }
}

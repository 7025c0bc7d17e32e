import NotificationCore
import TestSupport
import Testing

@testable import NotificationStore

/// What waits to be told: its order, its bounds, what is left of it after a crash.
@Suite struct OutboxTests {
    private static func open(
        _ path: String, at time: Int64 = start, _ change: (inout OutboxOptions) -> Void = { _ in }
    ) throws -> NotificationStore {
        var options = StoreOptions(path: path, durability: .disk, limits: limits())
        var outbox = OutboxOptions()
        change(&outbox)
        options.outbox = outbox
        return try NotificationStore(options, newEpoch: epochA, nowMilliseconds: time)
    }

    private static func event(
        _ message: String, type: String = "a", to endpoints: [String] = ["x"], at time: Int64 = start, bytes: Int = 10,
        isSupersedable: Bool = false
    ) -> OutboxEvent {
        var event = OutboxEvent(
            message: message, type: type, endpoints: endpoints, timeMilliseconds: time, body: [UInt8](repeating: 65, count: bytes))
        event.isSupersedable = isSupersedable
        return event
    }

    private static func change(
        _ message: String, _ subject: String, _ change: OutboxEvent.Transition, to endpoints: [String] = ["x"]
    ) -> OutboxEvent {
        var event = event(message, type: change.rawValue, to: endpoints, isSupersedable: true)
        event.transition = (subject, change)
        return event
    }

    private static func done(_ row: OutboxRow) -> OutboxOutcome { OutboxOutcome(id: row.id, message: row.message, .done) }

    private static func due(_ store: NotificationStore, _ endpoint: String = "x", at time: Int64 = start) throws -> [OutboxRow] {
        let found = try store.dueOutbox(endpoint, nowMilliseconds: time, limit: 1000)
        #expect(found.damaged == [])
        return found.rows
    }

    @Test("what was stored is due for each receiver, is there after a crash as it was, and goes when it is done")
    func life() throws {
        let folder = TemporaryFolder()
        var store = try Self.open(folder.log)
        try store.turnOutbox([Self.event("m1", to: ["x", "y"]), Self.event("m2", at: start + 5)], [], nowMilliseconds: start + 7)
        let copy = TemporaryFolder()
        Files.copyLog(folder.log, copy.log)
        let first = try Self.due(store, at: start + 7)
        #expect(first.map(\.message) == ["m1", "m2"] && first.map(\.attempts) == [0, 0])
        #expect(try Self.due(store, "y", at: start + 7).map(\.message) == ["m1"])
        #expect(try Self.due(store, at: start + 6) == [])
        try store.turnOutbox([], [Self.done(first[0])], nowMilliseconds: start + 8)
        #expect(store.outboxFigures.waiting == ["a": 2] && store.outboxFigures.oldestMilliseconds == start)
        store.close(isOrderly: true)

        // Killed before it was said that the first was taken: it is sent again.
        store = try Self.open(copy.log, at: start + 9)
        #expect(try Self.due(store, at: start + 9) == first)
        #expect(store.outboxFigures.waiting == ["a": 3])
        store.close(isOrderly: true)
        #expect(try StoreTools.check(copy.log).problems == [])
        store = try Self.open(folder.log, at: start + 9)
        #expect(try Self.due(store, at: start + 9).map(\.message) == ["m2"])
        let rest = try Self.due(store, at: start + 9) + Self.due(store, "y", at: start + 9)
        try store.turnOutbox([], rest.map(Self.done), nowMilliseconds: start + 9)
        #expect(store.outboxFigures == OutboxFigures())
        store.close(isOrderly: true)
    }

    @Test("what is to be tried later is due then, with its attempts, also after a restart")
    func later() throws {
        let folder = TemporaryFolder()
        var store = try Self.open(folder.log)
        try store.turnOutbox([Self.event("m1")], [], nowMilliseconds: start)
        let row = try #require(try Self.due(store).first)
        let outcome = OutboxOutcome(id: row.id, message: row.message, .later(milliseconds: start + 5000, attempts: 1))
        try store.turnOutbox([], [outcome], nowMilliseconds: start)
        #expect(try store.nextDueOutbox("x") == start + 5000 && store.nextDueOutbox("y") == nil)
        store.close(isOrderly: true)
        store = try Self.open(folder.log)
        #expect(try Self.due(store, at: start + 4999) == [])
        #expect(try Self.due(store, at: start + 5000).map(\.attempts) == [1])
        // Of a row whose number is another's by now.
        try store.turnOutbox([], [OutboxOutcome(id: row.id, message: "m0", .done)], nowMilliseconds: start)
        #expect(store.outboxFigures.rows == 1)
        store.close(isOrderly: true)
        // A clock that was a year ahead.
        try sql(folder.log, "UPDATE outbox SET next = next + 31536000000")
        store = try Self.open(folder.log)
        #expect(try Self.due(store).count == 1)
    }

    @Test("of one subject only the first is due; what undoes what was not tried is never told")
    func order() throws {
        let store = try Self.open(":memory:")
        func turn(_ events: OutboxEvent..., done rows: [OutboxRow] = []) throws {
            try store.turnOutbox(events, rows.map(Self.done), nowMilliseconds: start)
        }
        try turn(Self.change("m1", "s", .occupied), Self.change("m2", "s", .vacated), Self.change("n1", "t", .occupied))
        var due = try Self.due(store)
        #expect(due.map(\.message) == ["m1", "n1"])
        try turn(Self.change("m3", "s", .occupied))
        #expect(store.outboxFigures.waiting == ["occupied": 2])
        try turn(Self.change("m4", "s", .vacated))
        #expect(try Self.due(store).map(\.message) == ["m1", "n1"])
        try turn(done: [due[0]])
        due = try Self.due(store)
        #expect(Set(due.map(\.message)) == ["n1", "m4"])
        try turn(done: due)
        #expect(store.outboxFigures.rows == 0)
    }

    @Test("for each receiver a subject's events alternate, begin as its life does, and end as it ends", arguments: 0..<8 as Range<UInt64>)
    func alternation(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let folder = TemporaryFolder()
        var store = try Self.open(folder.log)
        var last: [String: OutboxEvent.Transition] = [:]
        var told: [String: [String]] = [:]
        var number = 0
        func send() throws {
            for endpoint in ["x", "y"] where random.chance(50) {
                for row in try store.dueOutbox(endpoint, nowMilliseconds: start, limit: random.number(1...3)).rows {
                    let subject = String(row.message.split(separator: "-")[0])
                    told["\(endpoint) \(subject)", default: []].append(row.type)
                    // Killed in between: it comes once more, and nothing before it.
                    if random.chance(10) {
                        store.close(isOrderly: false)
                        store = try Self.open(folder.log)
                        told["\(endpoint) \(subject)"]!.removeLast()
                        return
                    }
                    try store.turnOutbox([], [Self.done(row)], nowMilliseconds: start)
                }
            }
        }
        for _ in 0..<200 {
            let subject = "s\(random.number(0...3))"
            let change: OutboxEvent.Transition = last[subject] == .occupied ? .vacated : .occupied
            last[subject] = change
            number += 1
            try store.turnOutbox([Self.change("\(subject)-\(number)", subject, change, to: ["x", "y"])], [], nowMilliseconds: start)
            #expect(store.outboxFigures.rows <= 4 * 2 * 2)
            try send()
        }
        while store.outboxFigures.rows > 0 { try send() }
        #expect(told.count == 8)
        for (key, types) in told {
            for (index, type) in types.enumerated() { #expect(type == (index % 2 == 0 ? "occupied" : "vacated"), "\(key): \(types)") }
            #expect(types.last == last[String(key.split(separator: " ")[1])]?.rawValue, "\(key)")
        }
        store.close(isOrderly: true)
    }

    @Test("what is occupied is told once; after a restart what nobody has come back to is known")
    func restart() throws {
        let folder = TemporaryFolder()
        var store = try Self.open(folder.log)
        try store.forgetSeen()
        try store.turnOutbox(
            ["s", "t", "u"].map { Self.change("m\($0)", $0, .occupied) } + [Self.change("n", "u", .vacated)], [], nowMilliseconds: start)
        #expect(store.outboxFigures.occupied == 2)
        try store.turnOutbox([], try Self.due(store).map(Self.done), nowMilliseconds: start)
        try store.turnOutbox([], try Self.due(store).map(Self.done), nowMilliseconds: start)
        #expect(store.outboxFigures.rows == 0)
        #expect(try store.unseenOccupied(limit: 10) == [])
        store.close(isOrderly: false)

        store = try Self.open(folder.log)
        // The file alone was opened anew.
        #expect(try store.unseenOccupied(limit: 10) == [])
        try store.forgetSeen()
        #expect(try store.unseenOccupied(limit: 10) == ["s", "t"] && store.unseenOccupied(limit: 1).count == 1)
        try store.turnOutbox([Self.change("m2", "s", .occupied)], [], nowMilliseconds: start)
        #expect(store.outboxFigures.rows == 0)
        #expect(try store.unseenOccupied(limit: 10) == ["t"])
        try store.turnOutbox([Self.change("m3", "t", .vacated)], [], nowMilliseconds: start)
        #expect(try Self.due(store).map(\.message) == ["m3"])
        #expect(try store.unseenOccupied(limit: 10) == [] && store.outboxFigures.occupied == 1)
        store.close(isOrderly: true)
    }

    @Test("over the bound on what is occupied, it is told all the same")
    func occupiedBound() throws {
        let store = try Self.open(":memory:") { $0.occupiedMax = 2 }
        try store.turnOutbox((0..<4).map { Self.change("m\($0)", "s\($0)", .occupied) }, [], nowMilliseconds: start)
        #expect(store.outboxFigures.rows == 4 && store.outboxFigures.occupied == 2)
    }

    // MARK: bounds

    @Test("over the bound, what is superseded goes first, the oldest of it, then the oldest of the others")
    func rows() throws {
        let store = try Self.open(":memory:") { $0.rowsMax = 4 }
        func turn(_ events: OutboxEvent...) throws -> [String] {
            try store.turnOutbox(events, [], nowMilliseconds: start)
            return try Self.due(store).map(\.message)
        }
        #expect(
            try turn(
                Self.event("a1"), Self.event("r1", type: "r", isSupersedable: true), Self.event("a2"),
                Self.event("r2", type: "r", isSupersedable: true)) == ["a1", "r1", "a2", "r2"])
        #expect(try turn(Self.event("a3")) == ["a1", "a2", "r2", "a3"])
        #expect(try turn(Self.event("r3", type: "r", isSupersedable: true)) == ["a1", "a2", "a3", "r3"])
        #expect(try turn(Self.event("a4")) == ["a1", "a2", "a3", "a4"])
        // All that is there is worth more.
        #expect(try turn(Self.event("r4", type: "r", isSupersedable: true)) == ["a1", "a2", "a3", "a4"])
        #expect(try turn(Self.event("a5")) == ["a2", "a3", "a4", "a5"])
        #expect(store.outboxFigures.lost == [.room: ["r": 4, "a": 1]])
    }

    @Test("a subject whose first event finds no room does not wait for it")
    func roomAndOrder() throws {
        let store = try Self.open(":memory:") { $0.rowsMax = 2 }
        try store.turnOutbox([Self.change("m1", "s", .occupied), Self.change("m2", "s", .vacated)], [], nowMilliseconds: start)
        try store.turnOutbox([Self.event("a1")], [], nowMilliseconds: start)
        #expect(try Set(Self.due(store).map(\.message)) == ["m2", "a1"])
    }

    @Test("bytes are bounded, too, and an event that is larger than all of it is not taken")
    func bytes() throws {
        let store = try Self.open(":memory:") { $0.bytesMax = 10_000 }
        for number in 0..<50 { try store.turnOutbox([Self.event("m\(number)", bytes: 1000)], [], nowMilliseconds: start) }
        #expect(store.outboxFigures.rows == 8 && store.outboxFigures.bytes <= 10_000)
        #expect(try Self.due(store).map(\.message) == (42..<50).map { "m\($0)" })
        try store.turnOutbox([Self.event("large", bytes: 10_001)], [], nowMilliseconds: start)
        #expect(store.outboxFigures.rows == 8)
        #expect(store.outboxFigures.lost == [.room: ["a": 43]])
        try store.turnOutbox([], try Self.due(store).map(Self.done), nowMilliseconds: start)
        #expect(store.outboxFigures.rows == 0 && store.outboxFigures.bytes == 0)
    }

    @Test("what has waited for too long is given up, also without anything else to do")
    func age() throws {
        let store = try Self.open(":memory:") { $0.ageSecondsMax = 60 }
        try store.turnOutbox([Self.event("m1"), Self.event("m2", at: start + 10_000)], [], nowMilliseconds: start)
        try store.turnOutbox([], [], nowMilliseconds: start + 60_000)
        #expect(store.outboxFigures.rows == 2)
        try store.turnOutbox([], [], nowMilliseconds: start + 60_001)
        #expect(try Self.due(store, at: start + 60_001).map(\.message) == ["m2"])
        #expect(store.outboxFigures.lost == [.age: ["a": 1]])
        #expect(store.outboxFigures.oldestMilliseconds == start + 10_000)
    }

    @Test("what is counted is what is there", arguments: 0..<5 as Range<UInt64>)
    func figures(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let folder = TemporaryFolder()
        let change: (inout OutboxOptions) -> Void = { ($0.rowsMax, $0.bytesMax, $0.ageSecondsMax) = (20, 20_000, 50) }
        var store = try Self.open(folder.log, change)
        var now = start
        for number in 0..<300 {
            now += Int64(random.number(0...2000))
            var outcomes: [OutboxOutcome] = []
            for row in try store.dueOutbox("x", nowMilliseconds: now, limit: 3).rows where random.chance(40) {
                outcomes.append(
                    random.chance(50)
                        ? Self.done(row)
                        : OutboxOutcome(
                            id: row.id, message: row.message, .later(milliseconds: now + Int64(random.number(0...5000)), attempts: 1)))
            }
            var events: [OutboxEvent] = []
            if random.chance(50) {
                events.append(
                    Self.event(
                        "m\(number)", type: ["a", "b"].randomElement(using: &random)!, to: random.chance(50) ? ["x"] : ["x", "y"], at: now,
                        bytes: random.number(0...3000), isSupersedable: random.chance(50)))
            }
            if random.chance(30) { events.append(Self.change("c\(number)", "s", random.chance(50) ? .occupied : .vacated)) }
            try store.turnOutbox(events, outcomes, nowMilliseconds: now)
            let figures = store.outboxFigures
            #expect(figures.rows <= 20 && figures.bytes <= 20_000)
            guard random.chance(10) else { continue }
            store.close(isOrderly: random.chance(50))
            store = try Self.open(folder.log, at: now, change)
            var (before, after) = (figures, store.outboxFigures)
            (before.lost, after.lost) = ([:], [:])
            #expect(before == after)
        }
        store.close(isOrderly: true)
    }

    // MARK: damage, and other versions

    @Test("a row that was changed on the disk is found, and taken out without the others")
    func damage() throws {
        let folder = TemporaryFolder()
        var store = try Self.open(folder.log)
        try store.turnOutbox([Self.event("m1"), Self.event("m2"), Self.event("m3")], [], nowMilliseconds: start)
        store.close(isOrderly: true)
        try sql(folder.log, "UPDATE outbox SET body = CAST(substr(body, 1, 6) || X'42' || substr(body, 8) AS BLOB) WHERE message = 'm1'")
        try sql(folder.log, "UPDATE outbox SET time = time + 1 WHERE message = 'm3'")
        #expect(try StoreTools.check(folder.log).problems.contains { $0.contains("2 webhooks") })
        store = try Self.open(folder.log)
        let found = try store.dueOutbox("x", nowMilliseconds: start, limit: 10)
        #expect(found.rows.map(\.message) == ["m2"] && found.damaged.count == 2)
        try store.turnOutbox([], [], damaged: found.damaged, nowMilliseconds: start)
        #expect(store.outboxFigures.waiting == ["a": 1] && store.outboxFigures.lost == [.damage: ["a": 2]])
        store.close(isOrderly: true)
        #expect(try StoreTools.check(folder.log).problems == [])
    }

    @Test("a log of an earlier version gets an outbox, and keeps what it has", arguments: EarlierLog.all)
    func migration(_ earlier: EarlierLog) throws {
        let folder = TemporaryFolder()
        try earlier.make(folder.log)
        let version = try number(folder.log, "PRAGMA user_version")
        #expect(try StoreTools.check(folder.log).problems == [])
        let store = try Self.open(folder.log) { $0.watchesAlerts = true }
        try store.turnOutbox([Self.event("m1")], [], nowMilliseconds: start)
        #expect(try Self.due(store).map(\.message) == ["m1"])
        store.close(isOrderly: true)
        #expect(version < 3)
        #expect(try number(folder.log, "PRAGMA user_version") == NotificationStore.schemaVersion)
        #expect(try StoreTools.check(folder.log).problems == [])
        var lines: [[UInt8]] = []
        try StoreTools.export(folder.log) { lines.append($0) }
        #expect(lines.dropFirst().dropLast() == earlier.lines.dropFirst())
    }

    @Test("a server without webhooks leaves what waits as it is")
    func off() throws {
        let folder = TemporaryFolder()
        var store = try Self.open(folder.log)
        try store.turnOutbox([Self.event("m1")], [], nowMilliseconds: start)
        store.close(isOrderly: true)
        let without = try NotificationStoreTests.open(folder.log)
        _ = try without.maintain(nowMilliseconds: start)
        without.close(isOrderly: true)
        store = try Self.open(folder.log)
        #expect(try Self.due(store).map(\.message) == ["m1"])
        store.close(isOrderly: true)
    }
}

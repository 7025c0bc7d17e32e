import NotificationCore
import NotificationStore
import TestSupport
import Testing

@Suite struct ToolsTests {
    /// With everything in it: dropped messages, states, receipts, an earlier epoch.
    private func makeLog(_ path: String) throws -> LogModel {
        var random = SeededRandom(seed: 5)
        var model = LogModel()
        let channels = ["alerts.a", "scores.b", "dashboards.c", "plain.d", "plain.empty"].map { model.channel($0) }
        var store = try open(path, limits(countMax: 100), durability: .memory)
        for life in 0..<2 {
            for _ in 0..<60 {
                for _ in 0..<7 { model.addRandom(channels[random.number(0...3)], &random) }
                try store.commit(model.commit(last: 7))
            }
            var commit = LogCommit()
            for user in ["ann", "böb"] {
                commit.receipts.append(
                    ReceiptRecord(
                        user: text(user), channel: 0,
                        receipt: Receipt(read: SequenceSet([1...9, 12...model.sequences[0]]), dismissed: SequenceSet([3...4]))))
            }
            let sequence = model.sequences[1]
            commit.states = [
                StateRecord(
                    channel: 1, sequence: sequence, body: .document(Array(#"{"score":[1,2]}"#.utf8)), lastChangeOffset: 7,
                    timeMilliseconds: 9),
                StateRecord(
                    channel: 2, sequence: model.sequences[2], body: .latest(model.entries(of: 2).filter { $0.sequence % 20 == 3 })),
            ]
            try store.commit(commit)
            while try store.maintain(nowMilliseconds: start) {}
            store.close(isOrderly: life == 1)
            if life == 0 { store = try open(path, limits(countMax: 100), durability: .memory, epoch: epochB) }
        }
        return model
    }

    private func export(_ path: String) throws -> [[UInt8]] {
        var lines: [[UInt8]] = []
        try StoreTools.export(path) { lines.append($0) }
        return lines
    }

    private func importLines(_ path: String, _ lines: [[UInt8]], isPartial: Bool = false) throws {
        var rest = lines[...]
        try StoreTools.import(path, limits: limits(countMax: 100), nowMilliseconds: start, isPartial: isPartial) { rest.popFirst() }
    }

    @Test("of an export of which a part was imported, no epoch is known to have got farther than that part")
    func partOfExport() throws {
        let (folder, other) = (TemporaryFolder(), TemporaryFolder())
        var model = LogModel()
        let channel = model.channel("plain.a")
        for epoch in [epochA, epochB] {
            let store = try open(folder.log, epoch: epoch)
            for _ in 0..<10 { model.add(channel) }
            try store.commit(model.commit(last: 10))
            store.close(isOrderly: true)
        }
        // The header, the channel, and five messages.
        try importLines(other.log, Array(export(folder.log).prefix(7)), isPartial: true)
        let store = try open(other.log, epoch: LogEpoch(random: 3))
        #expect(try store.contents().head == 5)
        #expect(try store.contents().pastEpochs == [epochA: 5, epochB: 5])
        store.close(isOrderly: true)
    }

    @Test("an export that is imported exports the same, byte for byte")
    func roundTrip() throws {
        let (folder, other) = (TemporaryFolder(), TemporaryFolder())
        let model = try makeLog(folder.log)
        let lines = try export(folder.log)
        #expect(lines.count > 400)
        #expect(lines.allSatisfy { !$0.contains(10) })
        try importLines(other.log, lines)
        #expect(try export(other.log) == lines)
        #expect(try StoreTools.check(other.log).problems == [])

        let (one, two) = (
            try open(folder.log, limits(countMax: 100), epoch: epochB), try open(other.log, limits(countMax: 100), epoch: epochB)
        )
        let (before, after) = (try one.contents(), try two.contents())
        #expect(after.epoch == before.epoch && after.epoch == epochB)
        #expect(after.pastEpochs == before.pastEpochs && after.pastEpochs.count == 1)
        #expect(after.channels == before.channels)
        #expect(after.states == before.states)
        let channels: [ChannelID] = [0, 1, 2, 3, 4]
        #expect(
            try readAll(two, channels, through: model.head).objects == readAll(one, channels, through: model.head).objects)
        for user in ["ann", "böb", "cy"] {
            #expect(
                try two.unreadCount(user: text(user), channels: channels, nowMilliseconds: start)
                    == one.unreadCount(user: text(user), channels: channels, nowMilliseconds: start))
        }
        one.close(isOrderly: true)
        two.close(isOrderly: true)
    }

    @Test("an import refuses a file that is there, and leaves none when a line is wrong")
    func importFaults() throws {
        let (folder, other) = (TemporaryFolder(), TemporaryFolder())
        _ = try makeLog(folder.log)
        let lines = try export(folder.log)
        #expect(throws: StoreFault.self) { try importLines(folder.log, lines) }
        var random = SeededRandom(seed: 9)
        for _ in 0..<150 {
            var wrong = lines
            let place = random.number(0...lines.count - 1)
            switch random.number(0...3) {
            case 0: wrong.remove(at: place)
            case 1: wrong.swapAt(place, random.number(0...lines.count - 1))
            case 2: wrong[place] = Array(wrong[place].prefix(random.number(0...wrong[place].count - 1)))
            default: wrong[place][random.number(0...wrong[place].count - 1)] = UInt8(random.number(32...126))
            }
            do {
                try importLines(other.log, wrong)
                // A line at the end of its kind may be missing, and a payload may be another.
                #expect(try StoreTools.check(other.log).problems == [])
                for ending in ["", "-wal", "-shm", ".lock"] { Files.remove(other.log + ending) }
            } catch is ImportFault {
                #expect(Files.read(other.log) == nil)
            }
        }
        #expect(throws: ImportFault.self) { try importLines(other.log, []) }
    }

    @Test("an export that was cut is refused, unless it is taken for a part, and empty lines do no harm")
    func cutOff() throws {
        let (folder, other) = (TemporaryFolder(), TemporaryFolder())
        _ = try makeLog(folder.log)
        let lines = try export(folder.log)
        #expect(String(decoding: lines.last!, as: UTF8.self) == #"{"end":true,"lines":\#(lines.count - 1)}"#)
        for count in [1, 40, lines.count - 1] {
            #expect {
                try importLines(other.log, Array(lines[..<count]))
            } throws: { error in
                (error as? ImportFault)?.line == count + 1 && "\(error)".contains("--partial")
            }
            var rest = lines[..<count]
            try StoreTools.import(other.log, limits: limits(), nowMilliseconds: start, isPartial: true) { rest.popFirst() }
            #expect(try StoreTools.check(other.log).problems == [])
            Files.remove(other.log)
        }
        #expect(throws: ImportFault.self) { try importLines(other.log, lines + [lines[3]]) }
        try importLines(other.log, lines + [[], Array("\r".utf8)])
        #expect(try export(other.log) == lines)
    }

    @Test("of a damaged log all that can be read is exported, and what is made of it tells the same gaps")
    func skippingDamage() throws {
        let (folder, other) = (TemporaryFolder(), TemporaryFolder())
        var model = LogModel()
        _ = ["alerts.a", "scores.b", "plain.c"].map { model.channel($0) }
        let store = try open(folder.log)
        for number in 1...60 {
            for part in 0..<3 { model.add(ChannelID((number + part) % 3)) }
            try store.commit(model.commit(last: 3))
        }
        var commit = LogCommit()
        commit.states = [StateRecord(channel: 1, sequence: 60, body: .document(Array(#"{"n":1}"#.utf8)))]
        commit.receipts = ["ann", "bob"].map {
            ReceiptRecord(user: text($0), channel: 0, receipt: Receipt(read: SequenceSet([1...9]), dismissed: SequenceSet([])))
        }
        try store.commit(commit)
        store.close(isOrderly: true)
        // Two one after the other, one alone, and the newest of a channel; and what one of the users has read.
        let plain = model.entries(of: 2).map(\.offset), scores = model.entries(of: 1).map(\.offset)
        try sql(
            folder.log,
            """
            UPDATE run SET body = zeroblob(9) WHERE id IN (\(2 << 40 | plain[10]), \(2 << 40 | plain[11]), \(1 << 40 | scores[20]));
            DELETE FROM run WHERE id = \(2 << 40 | plain[30]);
            UPDATE run SET body = zeroblob(9), count = count + 1 WHERE id = \(2 << 40 | plain[59]);
            UPDATE receipt SET read = zeroblob(5) WHERE user = 'bob'
            """)
        #expect(throws: StoreFault.self) { try export(folder.log) }
        var (lines, words): ([[UInt8]], [String]) = ([], [])
        try StoreTools.export(folder.log, skipped: { words.append($0) }) { lines.append($0) }
        #expect(words.contains { $0.contains("messages 11 to 12 of channel plain.c") } && words.contains { $0.contains("bob") })
        let gone = Set([plain[10], plain[11], plain[30], plain[59], scores[20]])
        let damaged = lines.map { String(decoding: $0, as: UTF8.self) }.filter { $0.hasPrefix(#"{"damaged""#) }
        #expect(damaged.count == 4 && damaged.contains(#"{"damaged":"plain.c","from":11,"to":12,"offset":\#(plain[12] - 1)}"#))
        #expect(lines.count { $0.starts(with: Array(#"{"channel""#.utf8)) } == 180 - gone.count)
        #expect(lines.contains { $0.starts(with: Array(#"{"state""#.utf8)) } && lines.contains { $0.starts(with: Array(#"{"user""#.utf8)) })

        try importLines(other.log, lines)
        let made = try open(other.log)
        defer { made.close(isOrderly: false) }
        // Where even the number of the newest is not known, it is one that was not given out.
        #expect(try made.contents().channels.map(\.lastSequence) == [60, 60, 64])
        #expect(try made.contents().states.map(\.sequence) == [60])
        let found = try readAll(made, [0, 1, 2], through: model.head, notificationsMax: 7)
        #expect(found.objects == objects(model.entries.filter { !gone.contains($0.offset) }))
        let ranges = Set(found.trimmed.map { "\($0.channel): \($0.damagedFrom!)-\($0.sequence)" })
        #expect(ranges == ["1: 21-21", "2: 11-12", "2: 31-31", "2: 60-64"])
        #expect(try made.unreadCount(user: text("ann"), channels: [0, 1, 2], nowMilliseconds: start) == 51)
        var again: [[UInt8]] = []
        try StoreTools.export(other.log, skipped: { _ in }) { again.append($0) }
        #expect(
            again.filter { !$0.starts(with: Array(#"{"damaged""#.utf8)) } == lines.filter { !$0.starts(with: Array(#"{"damaged""#.utf8)) })
        while try made.maintain(nowMilliseconds: start) {}
    }

    @Test(
        "numbers and times that no log can have are refused, and the line is named",
        arguments: [
            (1, #"{"tocsin_log":1,"epoch":"5f3a9c01b7de","past_epochs":[{"epoch":"5f3a9c01b7df","last_offset":9223372036854775808}]}"#),
            (2, #"{"id":0,"name":"alerts.x","trimmed_sequence":1099511627774,"trimmed_offset":1099511627774}"#),
            (2, #"{"id":0,"name":"alerts.x","trimmed_sequence":5,"trimmed_offset":0}"#),
            (3, #"{"channel":"alerts.x","sequence":1,"offset":1,"time":9223372036854775807,"ttl":4294967295,"data":1}"#),
            (3, #"{"channel":"alerts.x","sequence":1,"offset":1,"time":-9223372036854775808,"data":1}"#),
            (3, #"{"channel":"alerts.x","sequence":1,"offset":1,"time":1,"stale_since":-9223372036854775808,"data":1}"#),
            (3, #"{"channel":"alerts.x","sequence":1,"offset":1099511627774,"time":1,"data":1}"#),
            (3, #"{"damaged":"alerts.x","from":1,"to":18446744073709551615,"offset":5}"#),
            (3, #"{"damaged":"alerts.x","from":1,"to":7,"offset":5}"#),
            (4, #"{"user":"a","channel":"alerts.x","read":[[1,18446744073709551615]],"dismissed":[]}"#),
            (4, #"{"user":"a","channel":"alerts.x","read":[],"dismissed":[[0,0]]}"#),
        ])
    func ranges(line: Int, text: String) throws {
        let folder = TemporaryFolder()
        var lines = [
            #"{"tocsin_log":1,"epoch":"5f3a9c01b7de","past_epochs":[]}"#,
            #"{"id":0,"name":"alerts.x","trimmed_sequence":0,"trimmed_offset":0}"#,
            #"{"channel":"alerts.x","sequence":1,"offset":1,"time":1700000000000,"data":1}"#,
        ]
        if line <= lines.count { lines[line - 1] = text } else { lines.append(text) }
        #expect {
            try importLines(folder.log, lines.map { Array($0.utf8) })
        } throws: {
            ($0 as? ImportFault)?.line == line
        }
        #expect(Files.read(folder.log) == nil)
    }

    @Test("a log that was closed is read where nothing can be written; one that was not says what to do")
    func readOnlyMedium() throws {
        let folder = TemporaryFolder()
        guard TinyDisk.mount(folder.path) else { return }
        defer { TinyDisk.unmount(folder.path) }
        TinyDisk.grow(folder.path)
        let path = folder.path + "/log ü?#%.sqlite"
        _ = try makeLog(path)
        let lines = try export(path)
        for ending in ["-wal", "-shm", ".lock"] { Files.remove(path + ending) }
        TinyDisk.makeReadOnly(folder.path)
        #expect(try export(path) == lines)
        #expect(try StoreTools.check(path).problems == [])
    }

    @Test("a path that is no file is told as such")
    func noFile() throws {
        let folder = TemporaryFolder()
        for (path, words) in [("", "is empty"), (folder.path, "is a directory")] {
            for work in [{ _ = try open(path) }, { _ = try StoreTools.check(path) }] {
                #expect { try work() } throws: { "\($0)".contains(words) }
            }
        }
    }

    @Test("a check counts what is there, also while the log is in use")
    func check() throws {
        let folder = TemporaryFolder()
        let model = try makeLog(folder.log)
        let store = try open(folder.log, limits(countMax: 100), epoch: epochB)
        let report = try StoreTools.check(folder.log)
        #expect(report.problems == [])
        #expect(report.epoch == epochB)
        #expect(report.channels.map(\.name) == model.names)
        #expect(report.channels.map(\.lastSequence) == model.sequences)
        #expect(report.messages == report.channels.reduce(0) { $0 + Int($1.lastSequence + 1 - $1.firstSequence) })
        #expect(report.receipts == 2 && report.runs > 20 && report.fileBytes > 100_000)
        store.close(isOrderly: true)
    }

    @Test("a check says what is corrupt")
    func checkDamaged() throws {
        let folder = TemporaryFolder()
        _ = try makeLog(folder.log)
        try sql(
            folder.log,
            """
            UPDATE run SET body = CAST(body || x'00' AS BLOB) WHERE id = (SELECT id FROM run LIMIT 1 OFFSET 3);
            DELETE FROM run WHERE id = (SELECT id FROM run LIMIT 1 OFFSET 6);
            UPDATE alert SET priority = 9 WHERE sequence = (SELECT max(sequence) FROM alert)
            """)
        let report = try StoreTools.check(folder.log)
        #expect(report.problems.contains { $0.contains("are not as they were written") })
        #expect(report.problems.contains { $0.contains("are missing") })
        #expect(report.problems.count >= 2)
    }

    @Test("a compacted log has the same in fewer bytes, and one in use is left alone")
    func compact() throws {
        let folder = TemporaryFolder()
        let model = try makeLog(folder.log)
        let lines = try export(folder.log)
        try sql(folder.log, "CREATE TABLE filler AS SELECT randomblob(3000000) b; DROP TABLE filler")
        let before = try #require(Files.read(folder.log)).count
        try StoreTools.compact(folder.log)
        #expect(try #require(Files.read(folder.log)).count < before - 2_000_000)
        #expect(try export(folder.log) == lines)
        let store = try open(folder.log, limits(countMax: 100))
        #expect(try store.contents().head == model.head)
        #expect(throws: StoreFault.busy(path: folder.log)) { try StoreTools.compact(folder.log) }
        store.close(isOrderly: true)
        #expect(throws: StoreFault.self) { try StoreTools.compact(folder.path + "/none") }
        #expect(Files.read(folder.path + "/none") == nil)
    }
}

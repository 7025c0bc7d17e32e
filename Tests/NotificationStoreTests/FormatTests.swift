import Foundation
import GRDB
import NotificationCore
import Testing

@testable import NotificationStore

/// A log of Fixtures/Store that an earlier version wrote: `NAME.sql` makes the file again, and `NAME.jsonl` is that version's export of it.
struct EarlierLog: CustomTestStringConvertible, Sendable {
    var name: String
    private var statements: String
    var lines: [[UInt8]]

    var testDescription: String { name }

    static let all: [EarlierLog] = {
        var folder = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent()
        while !FileManager.default.fileExists(atPath: folder.appending(path: "Fixtures").path), folder.path != "/" {
            folder.deleteLastPathComponent()
        }
        folder.append(path: "Fixtures/Store")
        let names = try! FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".sql") }
        return names.sorted().map { file in
            let name = String(file.dropLast(4))
            return EarlierLog(
                name: name, statements: try! String(contentsOf: folder.appending(path: file), encoding: .utf8),
                lines: try! Data(contentsOf: folder.appending(path: name + ".jsonl")).split(separator: 10).map { Array($0) })
        }
    }()

    func make(_ path: String) throws {
        try sql(path, statements)
    }
}

/// What is in files has to be read by all versions that come.
@Suite struct FormatTests {
    @Test("there are logs of earlier versions")
    func something() {
        #expect(!EarlierLog.all.isEmpty)
    }

    @Test("a log of an earlier version is read as that version read it", arguments: EarlierLog.all)
    func reading(_ earlier: EarlierLog) throws {
        let folder = TemporaryFolder()
        try earlier.make(folder.log)
        func export() throws -> [[UInt8]] {
            var lines: [[UInt8]] = []
            try StoreTools.export(folder.log) { lines.append($0) }
            // The end came later.
            return lines.dropLast()
        }
        #expect(earlier.lines.count > 30)
        #expect(try export() == earlier.lines)
        #expect(try StoreTools.check(folder.log).problems == [])

        let store = try open(folder.log)
        let contents = try store.contents()
        let channels = contents.channels.indices.map { ChannelID($0) }
        let known = earlier.lines.filter { $0.starts(with: Array(#"{"channel":"#.utf8)) }
        #expect(try readAll(store, channels, through: contents.head).objects.count == known.count)
        store.close(isOrderly: true)
        // An epoch more, and nothing else.
        let after = try export()
        #expect(after.dropFirst() == earlier.lines.dropFirst())
        #expect(String(decoding: after[0], as: UTF8.self).contains(#""epoch":"\#(epochA)""#))
        #expect(contents.pastEpochs.count == 1 && contents.pastEpochs.values.first == contents.head)
    }

    @Test("what an earlier version could write has the same bytes now", arguments: EarlierLog.all)
    func writing(_ earlier: EarlierLog) throws {
        let folder = TemporaryFolder()
        try earlier.make(folder.log)
        let queue = try DatabaseQueue(path: folder.log)
        let runs = try queue.read { try Row.fetchAll($0, sql: "SELECT run.*, name FROM run JOIN channel ON channel.id = run.id >> 40") }
        try queue.close()
        #expect(runs.count > 10)
        for run in runs {
            let (id, body): (Int64, [UInt8]) = (run["id"], Array(run["body"] as Data))
            let header = RunHeader(
                channel: RunID.channel(id), firstOffset: UInt64(run["first_offset"] as Int64), lastOffset: RunID.offset(id),
                firstSequence: UInt64(run["first_sequence"] as Int64), count: run["count"], firstTime: run["first_time"],
                duration: run["duration"], total: UInt64(run["total"] as Int64))
            let entries = try body.withUnsafeBytes { try RunCodec.decode(header, $0, name: name(run["name"])) }
            var builder = RunBuilder(first: entries[0])
            for entry in entries.dropFirst() { builder.append(entry) }
            let again = builder.finish(totalBefore: header.total - UInt64(body.count))
            #expect(again.header == header)
            #expect(again.body == body)
        }
    }
}

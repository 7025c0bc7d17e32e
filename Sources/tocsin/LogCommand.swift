import ArgumentParser
import Foundation
import NotificationCore
import NotificationStore

/// Looks after the file of the log, while no server has it open.
struct LogCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log", abstract: "Checks, compacts, exports and imports the file of the log, while no server has it open.",
        subcommands: [Check.self, Compact.self, Export.self, Import.self]
    )

    struct StoreOption: ParsableArguments {
        @Option(help: "The file of the log; by default that of `tocsin serve`.")
        var store: String?

        var path: String { store ?? StateDirectory.logPath }
    }

    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Reads everything and says whether it is sound.")

        @OptionGroup var file: StoreOption

        func run() async throws {
            let report = try failing { () throws(StoreFault) in try StoreTools.check(file.path) }
            for channel in report.channels {
                print(
                    "\(channel.name): \(channel.firstSequence) to \(channel.lastSequence), \(channel.bytes) bytes in \(channel.runs) runs")
            }
            for problem in report.problems { print("problem: \(problem)") }
            print(
                "epoch \(report.epoch), \(report.messages) messages of \(report.channels.count) channels, \(report.fileBytes) bytes; "
                    + (report.problems.isEmpty ? "sound" : "\(report.problems.count) problems")
            )
            if !report.problems.isEmpty { throw ExitCode(1) }
        }
    }

    struct Compact: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Gives free space back to the file system.")

        @OptionGroup var file: StoreOption

        func run() async throws {
            try failing { () throws(StoreFault) in try StoreTools.compact(file.path) }
        }
    }

    struct Export: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Writes the log as lines of JSON to the standard output.",
            discussion: "All but idempotency keys is in it: `tocsin log import` makes a log of it in which positions stay valid."
        )

        @OptionGroup var file: StoreOption

        func run() async throws {
            let output = FileHandle.standardOutput
            do {
                try StoreTools.export(file.path) { line in try output.write(contentsOf: line + [UInt8(ascii: "\n")]) }
            } catch {
                throw CommandFailure(description: "\(error)")
            }
        }
    }

    struct Import: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Makes a log of an export, which it reads from the standard input.")

        @OptionGroup var file: StoreOption

        func run() async throws {
            do {
                let now = Int64(Date().timeIntervalSince1970 * 1000)
                try StoreTools.import(file.path, limits: LogLimits(), nowMilliseconds: now) {
                    readLine(strippingNewline: true).map { Array($0.utf8) }
                }
            } catch {
                throw CommandFailure(description: "\(error)")
            }
        }
    }
}

private func failing<Value>(_ body: () throws(StoreFault) -> Value) throws -> Value {
    do { return try body() } catch { throw CommandFailure(description: "\(error)") }
}

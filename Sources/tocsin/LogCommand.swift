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
            discussion:
                "All but idempotency keys and webhooks is in it: `tocsin log import` makes a log of it in which positions stay valid."
        )

        @OptionGroup var file: StoreOption

        @Flag(help: "Leave out what is damaged, and say what it is; the exit status is 1 then.")
        var skipDamaged = false

        func run() async throws {
            let output = FileHandle.standardOutput
            var count = 0
            do {
                let skipped = { (what: String) in
                    count += 1
                    FileHandle.standardError.write(Data("left out: \(what)\n".utf8))
                }
                try StoreTools.export(file.path, skipped: skipDamaged ? skipped : nil) { line in
                    do { try output.write(contentsOf: line + [UInt8(ascii: "\n")]) } catch {
                        throw CommandFailure(description: "the export cannot be written: \(reason(of: error))")
                    }
                }
            } catch let fault as StoreFault where !skipDamaged {
                guard case .corrupt = fault else { throw CommandFailure(description: "\(fault)") }
                throw CommandFailure(description: "\(fault); or export with --skip-damaged what can be read")
            } catch {
                throw CommandFailure(description: "\(error)")
            }
            if count > 0 { throw ExitCode(1) }
        }
    }

    struct Import: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Makes a log of an export, which it reads from the standard input.")

        @OptionGroup var file: StoreOption

        @Flag(help: "Take an export that was cut, or that an earlier version made: as far as it goes.")
        var partial = false

        func run() async throws {
            do {
                let now = Int64(Date().timeIntervalSince1970 * 1000)
                try StoreTools.import(file.path, limits: LogLimits(), nowMilliseconds: now, isPartial: partial) {
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

/// What Foundation's error is about, without what it is made of.
private func reason(of error: any Error) -> String {
    let error = error as NSError
    let inner = error.userInfo[NSUnderlyingErrorKey] as? NSError ?? error
    return inner.domain == NSPOSIXErrorDomain ? String(cString: strerror(Int32(inner.code))) : error.localizedDescription
}

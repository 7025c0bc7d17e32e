import ArgumentParser
import Foundation
import Identity

struct Key: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Makes API keys for publishers.", subcommands: [Make.self])

    struct Make: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes an API key: prints it, and the line of the file that has its hash.",
            discussion: """
                tocsin key make --name backend --publish 'scores.>' --file keys
                tocsin serve --token-key secret --api-keys keys

                With --file the line is appended there and the key alone is printed. Nobody can get the key back from the file.
                """
        )

        @Option(help: "The key's name: 1 to 64 of A-Z a-z 0-9 _ -.")
        var name: String

        @Option(help: "Where it may publish, a pattern (repeatable).")
        var publish: [String] = []

        @Option(help: "What it may subscribe to and read, likewise.")
        var subscribe: [String] = []

        @Option(help: "Whose presence it may see, likewise.")
        var presence: [String] = []

        @Flag(help: "It may revoke tokens.")
        var admin = false

        @Option(help: "The file to append to; it is made if there is none, readable to its owner alone.")
        var file: String?

        func run() throws {
            let grants =
                publish.map { "publish=\($0)" } + subscribe.map { "subscribe=\($0)" } + presence.map { "presence=\($0)" }
                + (admin ? ["admin"] : [])
            var generator = SystemRandomNumberGenerator()
            let random = (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
            let made: (key: String, line: String)
            do throws(TokenKeyFault) {
                made = try APIKeys.make(name: name, grants: grants, random: random)
            } catch {
                throw CommandFailure(description: error.description)
            }
            guard let file else { return print(made.key + "\n" + made.line) }
            try append(made.line, to: file)
            print(made.key)
        }

        private func append(_ line: String, to path: String) throws {
            let manager = FileManager.default
            var bytes = manager.contents(atPath: path).map { Array($0) } ?? []
            if manager.fileExists(atPath: path), !manager.isReadableFile(atPath: path) {
                throw CommandFailure(description: "cannot read \(path)")
            }
            if let last = bytes.last, last != UInt8(ascii: "\n") { bytes.append(UInt8(ascii: "\n")) }
            bytes += Array((line + "\n").utf8)
            do throws(TokenKeyFault) {
                _ = try APIKeys(file: bytes)
            } catch {
                throw CommandFailure(description: "\(path): \(error.description)")
            }
            // Through a file beside it: a server that reads it again meanwhile finds the old one or the new one.
            let beside = path + ".new"
            let mode = (try? manager.attributesOfItem(atPath: path)[.posixPermissions] as? Int) ?? 0o600
            guard manager.createFile(atPath: beside, contents: Data(bytes), attributes: [.posixPermissions: mode]),
                rename(beside, path) == 0
            else { throw CommandFailure(description: "cannot write \(path)") }
        }
    }
}

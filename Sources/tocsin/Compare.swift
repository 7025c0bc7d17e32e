import ArgumentParser
import Foundation
import TransportComparison

struct Compare: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures WebSocket, SSE, long-polling and short polling against each other.",
        discussion: """
            tocsin compare --out comparison

            The same feed goes over every transport, from servers that this command starts and ends. Writes comparison.json, comparison.md \
            and comparison.html, a page that needs nothing else. About ten minutes. The networks (delay, loss, a narrow line) need \
            root, ip (iproute2) and /dev/net/tun; TLS needs openssl. What is missing is said in the report.

            The exit status is 1 if a message was lost or came twice, or if something could not be measured.
            """
    )

    @Option(help: "The folder for the three files; it is made.", completion: .directory)
    var out = "."

    @Flag(help: "In less than a minute, with little load: shows that it works, not how fast it is.")
    var quick = false

    @Option(help: "Measures nothing: makes the table and the page from this comparison.json.", completion: .file())
    var render: String?

    func run() async throws {
        let folder = URL(filePath: out)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        if let render {
            guard let json = FileManager.default.contents(atPath: render) else {
                throw CommandFailure(description: "cannot read \(render)")
            }
            var comparison = try Comparison(json: json)
            comparison.claims = comparison.judged()
            try write(comparison, to: folder, withJSON: false)
            return
        }
        let comparison = try await ComparisonRun(isQuick: quick)()
        try write(comparison, to: folder, withJSON: true)
        guard comparison.missing.isEmpty, comparison.isWhole else {
            for line in comparison.missing { FileHandle.standardError.write(Data((line + "\n").utf8)) }
            if !comparison.isWhole { FileHandle.standardError.write(Data("messages were lost or came twice; see the report\n".utf8)) }
            throw ExitCode(1)
        }
    }

    private func write(_ comparison: Comparison, to folder: URL, withJSON: Bool) throws {
        if withJSON { try comparison.json().write(to: folder.appending(path: "comparison.json")) }
        try Data(MarkdownPage(comparison).markdown.utf8).write(to: folder.appending(path: "comparison.md"))
        try Data(HTMLPage(comparison).html.utf8).write(to: folder.appending(path: "comparison.html"))
    }
}

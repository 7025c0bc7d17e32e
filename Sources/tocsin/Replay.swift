import ArgumentParser
import Foundation
import TocsinClient

struct Replay: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Publishes a recorded feed at its own times.",
        discussion: "tocsin replay Fixtures/scores/wc2022-final.ndjson --speed 60"
    )

    @OptionGroup var connect: ConnectOptions

    @Argument(help: "The feed: NDJSON of {\"at\":SECONDS,\"channel\":…,\"data\":…}.", completion: .file())
    var file: String

    @Option(help: "How many times as fast as it was.")
    var speed = 1.0

    func validate() throws {
        guard speed > 0 else { throw ValidationError("--speed is more than 0") }
    }

    func run() async throws {
        guard let bytes = FileManager.default.contents(atPath: file) else { throw CommandFailure(description: "cannot read \(file)") }
        let feed = try RecordedFeed(Array(bytes))
        let publisher = try Publisher(try connect.makeConfiguration())
        try await feed.play(speed: speed) { entry in
            let (status, answer) = try await publisher.post("/v1/publish", contentType: "application/x-ndjson", body: entry.item)
            guard (200..<300).contains(status) else {
                throw CommandFailure(description: "refused with \(status): \(String(decoding: answer, as: UTF8.self))")
            }
        }
        await publisher.close()
        print("published \(feed.entries.count) messages")
    }
}

import ArgumentParser
import Foundation
import JSONCodec
import NIOCore
import NotificationCore
import TocsinServer

struct Demo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs the server with a page that shows it at work: a live score, a dashboard of this machine, alerts.",
        discussion: "Open http://127.0.0.1:8080/ then."
    )

    @OptionGroup var options: ServeOptions

    @Option(help: "How many times as fast as it was the match is played.")
    var speed = 60.0

    @Option(help: "The port of the bad network that a visitor can choose; 0: any free one. By default the one after --port, if it is free.")
    var faultPort: Int?

    func validate() throws {
        guard speed > 0 else { throw ValidationError("--speed is more than 0") }
    }

    func run() async throws {
        let pages = ["/": StaticPage(contentType: "text/html; charset=utf-8", bytes: PackageResources.demo_html)]
        let feed = try RecordedFeed(PackageResources.wc2022_final_ndjson)
        let speed = speed
        let host = options.host
        var options = options
        // A show begins anew each time.
        options.store = options.store ?? ":memory:"
        // Through the bad network the page's own server has another origin.
        options.allowOrigin += options.port == 0 ? ["*"] : ["127.0.0.1", "localhost", host].map { "http://\($0):\(options.port)" }
        let faultPorts = faultPort.map { [$0] } ?? (options.port == 0 ? [0] : [options.port + 1, 0])
        try await ServerRun(options, pages: pages) { server in
            let relay = FaultRelay(to: server.port)
            let (listener, relayPort) = try await relay.listen(host, faultPorts)
            defer { listener.close(promise: nil) }
            server.setPage("/fault-port", StaticPage(contentType: "text/plain", bytes: Array("\(relayPort)".utf8)))
            print("Open http://\(host):\(server.port)/ in a browser. Ctrl-C ends it.")
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await DemoFeeds.playMatch(feed, speed: speed, on: server) }
                group.addTask { try await DemoFeeds.watchHost(on: server) }
                try await group.waitForAll()
            }
        }.run()
    }
}

/// What the demo publishes.
private enum DemoFeeds {
    /// The match, again and again, with a pause between.
    static func playMatch(_ feed: RecordedFeed, speed: Double, on server: Server) async throws {
        while !Task.isCancelled {
            try await feed.play(speed: speed) { entry in try await server.publish([entry.publication]) }
            try await Task.sleep(for: .seconds(20))
        }
    }

    /// This machine's figures twice a second, and the alerts that they raise.
    static func watchHost(on server: Server) async throws {
        var figures = HostFigures()
        var rules = AlertRules()
        while !Task.isCancelled {
            let counts = try await server.connectionCounts()
            if let sample = figures.sample() {
                try await server.publish(dashboard(sample, counts))
                let alerts = rules.check(sample, connections: counts.webSocket + counts.eventStream + counts.longPoll)
                if !alerts.isEmpty { try await server.publish(alerts.map(alert)) }
            }
            try await Task.sleep(for: .milliseconds(500))
        }
    }

    private static func dashboard(_ sample: HostFigures.Sample, _ counts: Server.ConnectionCounts) -> [Publication] {
        let cores = sample.corePercents.map(one).joined(separator: ",")
        return [
            ("cpu", #"{"percent":\#(one(sample.cpuPercent)),"cores":[\#(cores)]}"#),
            ("memory", #"{"used_bytes":\#(sample.memoryUsedBytes),"total_bytes":\#(sample.memoryTotalBytes)}"#),
            (
                "network",
                #"{"rx_bytes_per_second":\#(Int(sample.receivedBytesPerSecond)),"tx_bytes_per_second":\#(Int(sample.sentBytesPerSecond))}"#
            ),
            (
                "connections",
                #"{"total":\#(counts.total),"websocket":\#(counts.webSocket),"sse":\#(counts.eventStream),"long_poll":\#(counts.longPoll)}"#
            ),
        ].map { key, json in
            Publication(channel: ChannelName("dashboards.host")!, data: Array(json.utf8), key: FieldText(key))
        }
    }

    private static func alert(_ alert: AlertRules.Alert) -> Publication {
        var data = Array(#"{"rule":"#.utf8)
        JSONText.appendString(alert.rule, into: &data)
        for (name, text) in [("severity", alert.severity), ("title", alert.title), ("text", alert.text)] {
            data += ",\"\(name)\":".utf8
            JSONText.appendString(text, into: &data)
        }
        data += ",\"value\":\(one(alert.value))}".utf8
        return Publication(
            channel: ChannelName("alerts.host")!, data: data, event: FieldText(alert.severity), key: FieldText(alert.rule),
            priority: Priority(rawValue: alert.priority) ?? .normal
        )
    }

    /// With one digit after the point.
    private static func one(_ number: Double) -> String { "\((number * 10).rounded() / 10)" }
}

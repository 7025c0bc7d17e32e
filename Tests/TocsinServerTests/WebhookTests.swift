import Limits
import NIOEmbedded
import NotificationCore
import NotificationStore
import Testing
import Webhooks

@testable import TocsinServer

/// What a server hands on for webhooks, and what it makes of the answers. Tests/Interop/test_webhooks.py has the rest.
@Suite struct WebhookTests {
    private static func configuration(_ filter: String) throws -> WebhookConfiguration {
        var endpoint = WebhookEndpoint(name: "w", url: "http://127.0.0.1:9/", secretFile: "none")
        endpoint.filter = try #require(WebhookFilter(filter))
        return WebhookConfiguration(endpoints: [endpoint])
    }

    @Test("connections that are refused are counted by limit and address, where somebody wants to know")
    func refusals() throws {
        let wanting = try Self.configuration("connection.refused")
        let bench = Bench {
            $0.limits.connectionsPerAddressMax = 1
            $0.webhooks = wanting
        }
        let limits = bench.loop.server.limits
        #expect(limits.tellsRefusals && limits.takeRefusals() == [])
        _ = try bench.connect(from: "192.0.2.7")
        for _ in 0..<3 { _ = try bench.connect(from: "192.0.2.7") }
        _ = try bench.connect(from: "192.0.2.8")
        let reports = limits.takeRefusals()
        #expect(reports.map(\.limit) == ["connections_per_address"] && reports.map(\.count) == [3])
        #expect(reports.first?.address == NetworkAddress("192.0.2.7"))
        #expect(limits.takeRefusals() == [])

        bench.loop.server.noteRefused(4)
        #expect(limits.takeRefusals().map { "\($0.limit) \($0.count) \($0.address == nil)" } == ["descriptors 4 true"])
        limits.note(LimitRefusal(.ramp), .unknown)
        #expect(limits.takeRefusals().map(\.address) == [nil])
    }

    @Test("what clients do once they are there is not about connections")
    func otherLimits() throws {
        let wanting = try Self.configuration("connection.refused")
        let limits = Bench { $0.webhooks = wanting }.loop.server.limits
        for rule in LimitRule.allCases { limits.note(LimitRefusal(rule), NetworkAddress("192.0.2.7")) }
        let known: Set = [
            "connections", "connections_per_address", "connections_per_network", "connections_per_user", "connection_rate_per_address",
            "ramp", "memory_mark", "descriptor_mark", "lag_mark",
        ]
        #expect(Set(limits.takeRefusals().map(\.limit)) == known)
    }

    @Test("nobody counts for nobody")
    func unwanted() throws {
        let other = try Self.configuration("alert.unread,channel.occupied")
        for webhooks in [nil, other] {
            let limits = Bench { $0.webhooks = webhooks }.loop.server.limits
            limits.note(LimitRefusal(.connections), NetworkAddress("192.0.2.7"))
            limits.noteForWantOfRoom(3)
            #expect(!limits.tellsRefusals && limits.takeRefusals() == [])
        }
    }

    @Test("what an answer means")
    func answers() {
        func answer(_ status: Int, _ retryAfter: String? = nil) -> WebhookAnswer {
            WebhookAnswer(.success(OutgoingHTTP.Reply(status: status, retryAfter: retryAfter)))
        }
        for status in [200, 201, 204, 299] { #expect(answer(status) == .taken) }
        #expect(answer(410) == .gone)
        for status in [301, 302, 307, 400, 401, 404, 409, 500, 502, 504, 199] {
            #expect(answer(status, "7") == .failed("it answers \(status)", restMilliseconds: nil))
        }
        for status in [429, 503] {
            #expect(answer(status, "7") == .failed("it answers \(status)", restMilliseconds: 7000))
            #expect(answer(status) == .failed("it answers \(status)", restMilliseconds: nil))
            #expect(answer(status, "Fri, 31 Dec 1999 23:59:59 GMT") == .failed("it answers \(status)", restMilliseconds: nil))
        }
        #expect(WebhookAnswer(.failure(.tooLate)) == .failed("no answer in time", restMilliseconds: nil))
    }

    @Test("the figures have a row for each event, and for each reason why one is not sent")
    func exposition() {
        var counts = WebhookCounts()
        counts.sent["alert.unread"] = 3
        counts.failed["alert.unread"] = 2
        counts.drop("alert.unread", .attempts)
        var figures = OutboxFigures()
        figures.waiting = ["channel.occupied": 7]
        figures.oldestMilliseconds = 10_000
        figures.lost = [.room: ["connection.refused": 5]]
        let text = counts.exposition(figures, failing: [("a", true), ("b", false)], nowMilliseconds: 75_999)
        for line in [
            #"tocsin_webhook_sent_total{event="alert.unread"} 3"#, #"tocsin_webhook_sent_total{event="channel.vacated"} 0"#,
            #"tocsin_webhook_failed_total{event="alert.unread"} 2"#,
            #"tocsin_webhook_dropped_total{event="alert.unread",reason="attempts"} 1"#,
            #"tocsin_webhook_dropped_total{event="connection.refused",reason="room"} 5"#,
            #"tocsin_webhook_dropped_total{event="connection.refused",reason="age"} 0"#,
            #"tocsin_webhook_waiting{event="channel.occupied"} 7"#, "tocsin_webhook_oldest_age_seconds 65",
            #"tocsin_webhook_receiver_failing{webhook="a"} 1"#, #"tocsin_webhook_receiver_failing{webhook="b"} 0"#,
        ] { #expect(text.contains(line + "\n"), "\(line)") }
        figures.oldestMilliseconds = nil
        #expect(counts.exposition(figures, failing: [], nowMilliseconds: 5).contains("tocsin_webhook_oldest_age_seconds 0\n"))
    }
}

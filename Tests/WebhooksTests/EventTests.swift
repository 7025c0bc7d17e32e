import Limits
import NotificationCore
import Testing

@testable import Webhooks

@Suite struct EventTests {
    private static let time: Int64 = 1_700_000_000_123

    private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    private static func alert(_ change: (inout Publication) -> Void = { _ in }) -> LogEntry {
        var publication = Publication(channel: ChannelName("alerts.host")!, data: Array(#"{"disk":"full"}"#.utf8))
        change(&publication)
        return LogEntry(channel: 0, offset: 9, sequence: 4, timeMilliseconds: time - 60_000, publication: publication)
    }

    @Test("the bodies are as the page says")
    func bodies() {
        #expect(
            Self.text(WebhookBody.channel(.channelOccupied, ChannelName("scores.a")!, timeMilliseconds: Self.time))
                == #"{"type":"channel.occupied","timestamp":"2023-11-14T22:13:20.123Z","data":{"channel":"scores.a"}}"#)
        #expect(
            Self.text(WebhookBody.alertUnread(Self.alert(), user: "anna", timeMilliseconds: Self.time))
                == #"{"type":"alert.unread","timestamp":"2023-11-14T22:13:20.123Z","data":{"channel":"alerts.host","sequence":4,"#
                + #""user":"anna","priority":"normal","time":"2023-11-14T22:12:20.123Z","data":{"disk":"full"}}}"#)
        let full = Self.alert {
            ($0.event, $0.key, $0.priority, $0.isBase64) = (FieldText("a\"b"), FieldText("k"), .critical, true)
            $0.data = Array(#""AAEC""#.utf8)
        }
        #expect(
            Self.text(WebhookBody.alertUnread(full, user: "ü\"", timeMilliseconds: Self.time))
                == #"{"type":"alert.unread","timestamp":"2023-11-14T22:13:20.123Z","data":{"channel":"alerts.host","sequence":4,"#
                + #""user":"ü\"","event":"a\"b","key":"k","priority":"critical","time":"2023-11-14T22:12:20.123Z","#
                + #""encoding":"base64","data":"AAEC"}}"#)
        let report = RefusalBook.Report(
            limit: "connections_per_address", address: NetworkAddress("192.0.2.7"), count: 3, firstMilliseconds: Self.time - 1000,
            lastMilliseconds: Self.time)
        #expect(
            Self.text(WebhookBody.connectionRefused(report, timeMilliseconds: Self.time))
                == #"{"type":"connection.refused","timestamp":"2023-11-14T22:13:20.123Z","data":{"limit":"connections_per_address","#
                + #""address":"192.0.2.7","count":3,"from":"2023-11-14T22:13:19.123Z","to":"2023-11-14T22:13:20.123Z"}}"#)
        var nobody = report
        nobody.address = nil
        #expect(!Self.text(WebhookBody.connectionRefused(nobody, timeMilliseconds: Self.time)).contains("address\":"))
    }

    @Test("a large payload is left out, and its size said")
    func large() {
        for (count, isLeftOut) in [(WebhookBody.payloadBytesMax, false), (WebhookBody.payloadBytesMax + 1, true)] {
            let entry = Self.alert { $0.data = [UInt8](repeating: UInt8(ascii: "1"), count: count) }
            let body = WebhookBody.alertUnread(entry, user: "anna", timeMilliseconds: Self.time)
            #expect(Self.text(body).contains(",\"data_bytes\":\(count)}}") == isLeftOut)
            #expect(body.count < 20_000)
        }
    }

    @Test("a filter lets through what it names")
    func filters() throws {
        let (a, b) = (ChannelName("scores.a")!, ChannelName("scores.b")!)
        let everything = WebhookFilter()
        for type in WebhookEventType.allCases {
            #expect(everything.wants(type) && everything.wants(type, a) && everything.wants(type, nil))
        }
        let some = try #require(WebhookFilter("channel.occupied:scores.a,alert.unread"))
        #expect(some.wants(.channelOccupied, a) && !some.wants(.channelOccupied, b) && !some.wants(.channelVacated, a))
        #expect(some.wants(.alertUnread, b) && !some.wants(.connectionRefused, nil) && !some.wants(.connectionRefused))
        let more = some.union(try #require(WebhookFilter("channel.occupied:*.b,connection.refused")))
        #expect(more.wants(.channelOccupied, a) && more.wants(.channelOccupied, b) && more.wants(.connectionRefused, nil))
        let wrong = [
            "", "channel", "channel.occupied:", "channel.occupied:a..b", "connection.refused:a", "alert.unread,", "alert.unread:>.a",
        ]
        for text in wrong {
            #expect(WebhookFilter(text) == nil, "\(text)")
        }
    }

    @Test("receivers of an event are those whose filters let it through")
    func receivers() throws {
        var one = WebhookEndpoint(name: "one", url: "http://a/", secretFile: "f")
        one.filter = try #require(WebhookFilter("channel.vacated:scores.>"))
        let all = WebhookEndpoint(name: "all", url: "http://b/", secretFile: "f")
        let configuration = WebhookConfiguration(endpoints: [one, all])
        #expect(configuration.receivers(of: .channelVacated, ChannelName("scores.a")) == ["one", "all"])
        #expect(configuration.receivers(of: .channelVacated, ChannelName("news.a")) == ["all"])
        #expect(configuration.receivers(of: .connectionRefused, nil) == ["all"])
        #expect(configuration.occupancy.map(\.string) == ["scores.>", ">"])
        #expect(configuration.wants(.alertUnread) && !WebhookConfiguration(endpoints: [one]).wants(.alertUnread))
    }

    @Test("whose alerts they are by the channel's name")
    func audiences() throws {
        var configuration = WebhookConfiguration(endpoints: [])
        configuration.audiences = [try #require(AlertAudience("alerts.user.{sub}")), try #require(AlertAudience("alerts.team.*.{sub}.>"))]
        let users: [(String, String?)] = [
            ("alerts.user.anna", "anna"), ("alerts.user.anna.more", nil), ("alerts.user", nil), ("alerts.host", nil),
            ("alerts.team.red.otto.disk", "otto"), ("alerts.team.red.otto", nil), ("news.user.anna", nil),
        ]
        for (channel, user) in users { #expect(configuration.user(of: ChannelName(channel)!)?.string == user, "\(channel)") }
        let wrong = [
            "alerts.user", "{sub}.alerts", "alerts.{sub}.{sub}", "alerts.{sub}x", "alerts.{user}", "alerts..{sub}", "alerts.>.{sub}",
        ]
        for text in wrong {
            #expect(AlertAudience(text) == nil, "\(text)")
        }
    }
}

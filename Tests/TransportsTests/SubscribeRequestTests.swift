import HTTPTypes
import NotificationCore
import Testing

@testable import Transports

private func parse(_ target: String, fields: [(String, String)] = []) throws -> SubscribeRequest {
    var request = HTTPRequest(method: .get, scheme: "http", authority: "a", path: target)
    for (name, value) in fields { request.headerFields.append(HTTPField(name: HTTPField.Name(name)!, value: value)) }
    return try SubscribeRequest(request, items: try #require(RequestTarget(target).items), limits: SubscribeLimits())
}

@Suite struct SubscribeRequestTests {
    @Test("a request is read as the protocol says")
    func whole() throws {
        let request = try parse("/v1/subscribe?channel=a.b&channel=c.%3E&after=0123456789ab.7&heartbeat=5&pad=100&format=raw&wait=3")
        #expect(request.patterns.map(\.string) == ["a.b", "c.>"])
        #expect(request.after == .after(Position("0123456789ab.7")!))
        #expect(request.heartbeatSeconds == 5)
        #expect(request.paddingBytes == 100)
        #expect(request.isRaw)
        #expect(request.waitSeconds == 3)
    }

    @Test(
        "what is not valid is refused with its reason",
        arguments: [
            ("channel=a..b", "bad-channel"), ("channel=", "bad-channel"), ("channel=a&after=x", "bad-position"),
            ("channel=a&heartbeat=0", "bad-parameter"),
            ("channel=a&heartbeat=301", "bad-parameter"), ("channel=a&pad=-1", "bad-parameter"), ("channel=a&format=xml", "bad-parameter"),
            ("channel=a&wait=x", "bad-parameter"), ("chanel=a", "bad-parameter"),
            ((0...100).map { "channel=c\($0)" }.joined(separator: "&"), "too-many-channels"),
        ])
    func refused(_ query: String, _ type: String) throws {
        let problem = #expect(throws: Problem.self) { try parse("/v1/subscribe?" + query) }
        #expect(problem?.type == type)
        #expect(problem?.status == 400)
    }

    @Test("Last-Event-ID wins over after, and Prefer over wait")
    func fields() throws {
        let request = try parse(
            "/v1/subscribe?channel=a&after=earliest&wait=9",
            fields: [("Last-Event-ID", "0123456789ab.7"), ("Prefer", "respond-async, wait=4")])
        #expect(request.after == .after(Position("0123456789ab.7")!))
        #expect(request.waitSeconds == 4)
        #expect(try parse("/v1/subscribe?channel=a", fields: [("Prefer", "wait=99999")]).waitSeconds == 300)
    }

    @Test("the body of a POST says the same")
    func body() throws {
        let request = HTTPRequest(method: .post, scheme: "http", authority: "a", path: "/v1/subscribe")
        let json = #"{"channels":["a","b.*"],"after":"earliest","heartbeat":7,"pad":1,"wait":2,"format":"raw"}"#
        let parsed = try SubscribeRequest(request, body: Array(json.utf8), limits: SubscribeLimits())
        #expect(parsed.patterns.map(\.string) == ["a", "b.*"])
        #expect(parsed.after == .earliest)
        #expect(parsed.heartbeatSeconds == 7 && parsed.paddingBytes == 1 && parsed.waitSeconds == 2 && parsed.isRaw)
        for bad in ["[]", "{\"channels\":\"a\"}", "{\"x\":1}", "{", "{\"heartbeat\":\"7\"}", "{\"channels\":[1]}"] {
            #expect(throws: Problem.self) { try SubscribeRequest(request, body: Array(bad.utf8), limits: SubscribeLimits()) }
        }
    }

    @Test("signs of a request target are bytes, whatever mark stands behind them")
    func marks() {
        let target = RequestTarget("/v1/\u{301}a?\u{301}x=\u{301}1&\u{301}y=2#\u{301}z")
        #expect(target.segments == ["v1", "\u{301}a"])
        #expect(target.items?.pairs.map(\.name) == ["\u{301}x", "\u{301}y"])
        #expect(target.items?.pairs.map(\.value) == ["\u{301}1", "2"])
    }

    @Test("a request target is percent-decoded, or refused")
    func targets() {
        #expect(RequestTarget("/v1/channels/a%2eb?x=1+2&y=%C3%A9").segments == ["v1", "channels", "a.b"])
        #expect(RequestTarget("/v1?x=1+2&y=%C3%A9").items?["x"] == "1 2")
        #expect(RequestTarget("/v1?x=1+2&y=%C3%A9").items?["y"] == "é")
        #expect(RequestTarget("/%zz").segments == nil)
        #expect(RequestTarget("/%ff").segments == nil)
        #expect(RequestTarget("/?a=%f").items == nil)
    }
}

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
        #expect(request.subscriptions[0].after == .after(Position("0123456789ab.7")!))
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
        #expect(request.subscriptions[0].after == .after(Position("0123456789ab.7")!))
        #expect(request.waitSeconds == 4)
        #expect(try parse("/v1/subscribe?channel=a", fields: [("Prefer", "wait=99999")]).waitSeconds == 300)
    }

    @Test("the body of a POST says the same")
    func body() throws {
        let request = HTTPRequest(method: .post, scheme: "http", authority: "a", path: "/v1/subscribe")
        let json = #"{"channels":["a","b.*"],"after":"earliest","heartbeat":7,"pad":1,"wait":2,"format":"raw"}"#
        let parsed = try SubscribeRequest(request, body: Array(json.utf8), limits: SubscribeLimits())
        #expect(parsed.patterns.map(\.string) == ["a", "b.*"])
        #expect(parsed.subscriptions[0].after == .earliest)
        #expect(parsed.heartbeatSeconds == 7 && parsed.paddingBytes == 1 && parsed.waitSeconds == 2 && parsed.isRaw)
        for bad in ["[]", "{\"channels\":\"a\"}", "{\"x\":1}", "{", "{\"heartbeat\":\"7\"}", "{\"channels\":[1]}"] {
            #expect(throws: Problem.self) { try SubscribeRequest(request, body: Array(bad.utf8), limits: SubscribeLimits()) }
        }
    }

    @Test("presence is wanted where it is said so, in a query, a body and a command")
    func presence() throws {
        #expect(try parse("/v1/subscribe?channel=a&presence=true").wantsPresence)
        #expect(try parse("/v1/subscribe?channel=a").wantsPresence == false)
        #expect(throws: Problem.self) { try parse("/v1/subscribe?channel=a&presence=1") }
        let request = HTTPRequest(method: .post, scheme: "http", authority: "a", path: "/v1/subscribe")
        let body = Array(#"{"channels":["a"],"presence":true}"#.utf8)
        #expect(try SubscribeRequest(request, body: body, limits: SubscribeLimits()).wantsPresence)
        for (text, isWanted) in [("true", true), ("false", false), ("null", false)] {
            let command = try WebSocketCommand.read(Array(#"{"type":"subscribe","channel":"a","presence":\#(text)}"#.utf8))
            #expect(command?.wantsPresence == isWanted)
        }
    }

    @Test("a question for presence names its page")
    func presenceQuestion() throws {
        let command = try WebSocketCommand.read(Array(#"{"id":1,"type":"presence","channel":"a","after":"b","limit":7}"#.utf8))
        guard case .presence(let question)? = command?.action else {
            Issue.record("no question")
            return
        }
        #expect(question == PresenceQuestion(channel: ChannelName("a")!, after: "b", limit: 7))
        let items = try #require(QueryItems("after=b&limit=7"))
        #expect(try PresenceQuestion(channel: ChannelName("a")!, items: items) == question)
        let reply = WebSocketReply.done(command?.id, object: Array(#"{"x":1}"#.utf8))
        #expect(String(decoding: reply, as: UTF8.self) == #"{"type":"reply","id":1,"x":1}"#)
    }

    @Test("control messages come first in the answer to a poll")
    func controlsOfPolls() {
        var frame = LongPollAnswer.Frame(positions: [Position(epoch: LogEpoch(random: 1), offset: 2)])
        frame.controls = [Array("{1}".utf8), Array("{2}".utf8)]
        #expect(String(decoding: LongPollAnswer.body([], frame), as: UTF8.self).hasSuffix(#""messages":[{1},{2}]}"# + "\n"))
    }

    @Test("a list of subscriptions is the same in a query and in a body")
    func list() throws {
        let list = #"[{"channels":["a","b.*"],"after":"earliest"},{"channels":["c"],"rate":"2/s"}]"#
        let escaped = list.utf8.map { "%" + String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        let query = try parse("/v1/subscribe?probe=true&subscriptions=" + escaped)
        let body = try SubscribeRequest(
            HTTPRequest(method: .post, scheme: "http", authority: "a", path: "/v1/subscribe"),
            body: Array(#"{"subscriptions":\#(list),"probe":true}"#.utf8), limits: SubscribeLimits())
        #expect(query == body)
        #expect(query.isList && query.isProbing)
        #expect(query.subscriptions.map { $0.patterns.map(\.string) } == [["a", "b.*"], ["c"]])
        #expect(query.subscriptions[0].after == .earliest)
        #expect(query.subscriptions[1].after == nil)
        #expect(query.subscriptions[1].rate == Rate("2/s"))
    }

    @Test(
        "a list that is not one is refused",
        arguments: [
            (#"{"subscriptions":{}}"#, "bad-parameter"), (#"{"subscriptions":[1]}"#, "bad-parameter"),
            (#"{"subscriptions":[{"channels":["a.*"]},{"channels":["a.b"]}]}"#, "overlapping-subscriptions"),
            (#"{"subscriptions":[{"channels":[]}]}"#, "no-channel"), (#"{"subscriptions":[{"channel":"a"}]}"#, "bad-parameter"),
            (#"{"channels":["a"],"subscriptions":[]}"#, "bad-parameter"), (#"{"subscriptions":[],"channels":["a"]}"#, "bad-parameter"),
            (#"{"subscriptions":[],"session":"x"}"#, "bad-parameter"),
        ])
    func badList(_ body: String, _ type: String) throws {
        let problem = #expect(throws: Problem.self) {
            try SubscribeRequest(
                HTTPRequest(method: .post, scheme: "http", authority: "a", path: "/v1/subscribe"), body: Array(body.utf8),
                limits: SubscribeLimits())
        }
        #expect(problem?.type == type)
    }

    @Test("a session says where it is served, and is not to be guessed")
    func sessions() {
        let id = SessionID(random: (0x0123_4567_89ab_cdef, 0xffff_ffff_0000_0001), loop: 3, place: 9)
        #expect(id.description == "0123456789abcdefffffffff0000000103000009")
        #expect(SessionID(id.description) == id)
        #expect(id.loop == 3 && id.place == 9 && !id.isOfPolls)
        #expect(SessionID(random: (1, 1), loop: 0, place: nil).isOfPolls)
        for bad in [
            "", "0123456789abcdefffffffff000000010300000", "0123456789ABCDEFffffffff0000000103000009",
            "+123456789abcdefffffffff0000000103000009",
        ] {
            #expect(SessionID(bad) == nil)
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

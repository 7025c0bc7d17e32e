import Foundation
import HTTPTypes
import JSONCodec
import Testing

@testable import TocsinClient

@Suite struct BoundedQueueTests {
    @Test("elements come in order, and the fault behind the last")
    func order() async throws {
        let queue = BoundedQueue<Int>(weightMax: 2)
        #expect(queue.push(1))
        #expect(!queue.push(2))
        #expect(!queue.hasRoom)
        queue.finish(ClientFault("over"))
        #expect(try await queue.next() == 1)
        #expect(try await queue.next() == 2)
        await #expect(throws: ClientFault.self) { _ = try await queue.next() }
        #expect(try await queue.next() == nil)
    }

    @Test("one task fills it, another empties it: never more than there is room for, nothing lost")
    func pumping() async throws {
        let queue = BoundedQueue<Int>(weightMax: 3)
        let writer = Task {
            for number in 0..<20_000 {
                await queue.room()
                queue.push(number)
                #expect(queue.weight <= 3)
            }
            queue.finish()
        }
        var next = 0
        while let number = try await queue.next() {
            #expect(number == next)
            next += 1
        }
        await writer.value
        #expect(next == 20_000)
    }

    @Test("cancellation ends both waits")
    func cancelling() async throws {
        let empty = BoundedQueue<Int>(weightMax: 1)
        let full = BoundedQueue<Int>(weightMax: 1)
        full.push(1)
        let reader = Task { try await empty.next() }
        let writer = Task { await full.room() }
        try await Task.sleep(for: .milliseconds(20))
        reader.cancel()
        writer.cancel()
        #expect(try await reader.value == nil)
        await writer.value
    }
}

@Suite struct SequenceCheckTests {
    private func object(_ json: String) throws -> WireObject {
        try #require(WireObject(Array(json.utf8)))
    }

    private func notification(_ sequence: Int, skipped: Int = 0, channel: String = "a") throws -> WireObject {
        let skipping = skipped == 0 ? "" : ",\"skipped\":\(skipped)"
        return try object("{\"type\":\"notification\",\"channel\":\"\(channel)\",\"sequence\":\(sequence)\(skipping)}")
    }

    @Test("what is missing is counted, what was skipped on purpose is not")
    func missing() throws {
        var check = SequenceCheck()
        let objects = try [notification(5), notification(6), notification(9, skipped: 2), notification(1, channel: "b"), notification(12)]
        let areNew = objects.map { check.take($0) }
        #expect(areNew == [true, true, true, true, true])
        #expect(check.lost == 2)
        #expect(check.duplicates == 0)
    }

    @Test("what comes again is not handed out again")
    func repeated() throws {
        var check = SequenceCheck()
        for (sequence, isNew) in [(1, true), (2, true), (2, false), (1, false), (3, true)] {
            let taken = check.take(try notification(sequence))
            #expect(taken == isNew)
        }
        #expect(check.duplicates == 2)
        #expect(check.lost == 0)
    }

    @Test("gaps, snapshots and digests account for what they are about; a new life of the log begins anew")
    func accounted() throws {
        var check = SequenceCheck()
        let words = [
            #"{"type":"gap","channel":"a","from":1,"to":9,"reason":"retention"}"#,
            #"{"type":"notification","channel":"a","sequence":10}"#,
            #"{"type":"snapshot","channel":"a","sequence":20}"#,
            #"{"type":"notification","channel":"a","sequence":21}"#,
            #"{"type":"digest","channel":"a","from":22,"to":30}"#,
            #"{"type":"notification","channel":"a","sequence":31}"#,
            #"{"type":"gap","channels":["a"],"reason":"epoch"}"#,
            #"{"type":"notification","channel":"a","sequence":1}"#,
        ]
        for one in words {
            let isNew = check.take(try object(one))
            #expect(isNew, "\(one)")
        }
        #expect(check.lost == 0)
    }

    @Test("numbers that make no sense do not trap")
    func nonsense() throws {
        var check = SequenceCheck()
        for sequence in [0, Int.max, 3] { _ = try check.take(notification(sequence, skipped: Int.max)) }
        for channel in ["b", "c", "d"] {
            _ = try check.take(notification(0, channel: channel))
            _ = try check.take(notification(Int.max, channel: channel))
        }
        _ = try check.take(object(#"{"type":"notification","channel":"b","sequence":-5,"skipped":-9223372036854775808}"#))
        #expect(check.lost > 0)
    }
}

@Suite struct WireTests {
    @Test(
        "two patterns overlap when a channel matches both",
        arguments: [
            ("a.b", "a.b", true), ("a.b", "a.c", false), ("a.*", "a.b", true), ("a.*", "*.b", true), ("a.*", "a.b.c", false),
            ("a.>", "a", false), ("a.>", "a.b.c", true), (">", "a", true), ("a.>", "*.*.c", true), ("a.*.x", "a.b.>", true),
            ("a.b", "a.b.c", false),
        ])
    func overlap(_ one: String, _ other: String, _ expected: Bool) {
        #expect(ChannelFilter(one).overlaps(ChannelFilter(other)) == expected)
        #expect(ChannelFilter(other).overlaps(ChannelFilter(one)) == expected)
    }

    private func request(_ transport: ClientTransport, _ subscriptions: [WireSubscription]) -> WireRequest {
        var request = WireRequest(transport: transport, subscriptions: subscriptions, user: "ann", heartbeatSeconds: 25)
        request.token = "t"
        return request
    }

    private let address = ServerAddress("http://example.org")!

    @Test("a GET has its words in the path")
    func get() {
        var wire = request(.webSocket, [WireSubscription(channels: ["a.>", "b"], after: "p.1", rate: "2/s")])
        wire.measures = true
        let (request, body) = wire.make(for: address)
        #expect(request.method == .get && body.isEmpty)
        #expect(request.path == "/v1/subscribe?user=ann&heartbeat=25&probe=true&channel=a.%3E&channel=b&after=p.1&rate=2%2Fs")
        #expect(request.headerFields[.authorization] == "Bearer t")
        wire.presence = true
        #expect(wire.make(for: address).request.path?.contains("?user=ann&presence=true&heartbeat=25&") == true)
    }

    @Test("several subscriptions go as one list, in a POST as JSON")
    func post() {
        let list = [WireSubscription(channels: ["a"], after: "p.1"), WireSubscription(channels: ["b"])]
        var wire = request(.longPollClose, list)
        wire.poll = WireRequest.Poll(waitSeconds: 25, session: "new")
        let (request, body) = wire.make(for: address)
        #expect(request.method == .post && request.path == "/v1/subscribe")
        let expected =
            #"{"user":"ann","wait":25,"session":"new","close":true,"#
            + #""subscriptions":[{"channels":["a"],"after":"p.1"},{"channels":["b"]}]}"#
        #expect(String(decoding: body, as: UTF8.self) == expected)
    }

    @Test("more channels than a request line holds: an event stream is posted, a WebSocket subscribes by command")
    func long() {
        let many = [WireSubscription(channels: (0..<100).map { "channel\($0)." + String(repeating: "x", count: 100) })]
        #expect(request(.eventStream, many).make(for: address).request.method == .post)
        let wire = request(.webSocket, many)
        #expect(wire.subscribesByCommand)
        #expect(wire.make(for: address).request.path?.contains("channel0") == false)
    }

    private func refusal(_ code: Int, _ type: String?, retry: String? = nil) -> AttemptFailure {
        var response = HTTPResponse(status: .init(code: code))
        response.headerFields[.contentType] = type == nil ? "text/html" : "application/problem+json"
        if let retry { response.headerFields[.retryAfter] = retry }
        return Attempt.refusal(response, Array("{\"type\":\"/problems/\(type ?? "")\",\"detail\":\"why\"}".utf8))
    }

    @Test("only Tocsin's own answers say something about Tocsin")
    func refusals() {
        #expect(refusal(503, "going-away", retry: "3").ending == .goingAway(3000))
        #expect(refusal(503, "overloaded", retry: "2").ending == .busy(2000))
        #expect(refusal(503, nil).ending == .refused)
        #expect(refusal(502, nil).ending == .refused)
        #expect(refusal(401, "unauthorized").ending == .denied)
        #expect(refusal(403, "forbidden").ending == .denied)
        #expect(refusal(403, nil).ending == .refused)
        #expect(refusal(400, "bad-channel").refusal?.description == "the server answered 400 why")
        #expect(refusal(400, "bad-handshake").refusal == nil)
        #expect(refusal(404, nil).refusal == nil)
        #expect(refusal(503, "overloaded", retry: "99999999999999999").ending == .busy(86_400_000))
    }

    @Test("statuses have their words")
    func texts() {
        func text(
            _ state: FallbackLadder.State, _ rung: ClientTransport?, _ why: FallbackLadder.Reason?, _ wait: Int = 0
        ) -> String {
            ClientStatus(state, rung, why, waitMilliseconds: wait).text
        }
        #expect(text(.live, .webSocket, nil) == "live over WebSocket")
        #expect(text(.live, .eventStreamPadded, .buffered) == "live over Server-Sent Events: this network holds WebSockets back")
        #expect(text(.polling, .longPoll, .cut) == "polling: this network cuts streams")
        #expect(text(.waiting, nil, .goingAway, 1840) == "the server restarts: back in 2 s")
        #expect(text(.waiting, nil, .unreachable, 4000) == "not reachable: trying again in 4 s")
        #expect(text(.waiting, nil, .ended, 310) == "the connection ended: trying again in 0.3 s")
        #expect(text(.waiting, nil, .ended, 980) == "the connection ended: trying again in 1 s")
    }
}

@Suite struct PathMemoryFileTests {
    @Test("verdicts outlive the process, by server and network; a file that cannot be read counts as empty")
    func file() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "tocsin-" + UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appending(path: "state/paths.json").path
        let servers = try ["http://a.example:80", "http://b.example:80"].map { try #require(ServerAddress($0)) }
        let verdict = PathVerdict(transport: .longPoll, verdict: .clear, milliseconds: 0, until: 5000)
        PathMemoryFile(path).setLastNetwork("n1", of: servers[0])
        PathMemoryFile(path).remember(verdict, of: servers[0], on: "n1")
        var cut = verdict
        (cut.verdict, cut.milliseconds) = (.cut, 700)
        PathMemoryFile(path).remember(cut, of: servers[0], on: "n1")
        let memory = PathMemoryFile(path)
        #expect(memory.lastNetwork(of: servers[0]) == "n1" && memory.lastNetwork(of: servers[1]) == nil)
        #expect(memory.verdicts(of: servers[0], on: "n1") == [cut])
        #expect(memory.verdicts(of: servers[0], on: "n2").isEmpty && memory.verdicts(of: servers[1], on: "n1").isEmpty)
        try Data("{".utf8).write(to: URL(filePath: path))
        #expect(memory.verdicts(of: servers[0], on: "n1").isEmpty)
        memory.remember(verdict, of: servers[0], on: "n1")
        #expect(memory.verdicts(of: servers[0], on: "n1") == [verdict])
    }
}

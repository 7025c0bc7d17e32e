import Identity
import Logging
import NotificationCore
import Testing
import Transports

@testable import TocsinServer

/// What the server says to the hook, what it takes for an answer, and how long keys from a URL are kept.
@Suite struct AccessTests {
    private static let anna = Identity.Principal.user("anna \"é\"")

    private static func question(_ channel: String) -> Hook.Question {
        Hook.Question(action: .subscribe, principal: anna, tokenID: "t1", channel: channel)
    }

    @Test("a question names who, what and where, and nothing that it has not")
    func questions() {
        let table: [([Hook.Question], String)] = [
            (
                [Self.question("a"), Self.question("b.*")],
                #"{"action":"subscribe","user":"anna \"é\"","token_id":"t1","channels":["a","b.*"]}"#
            ),
            ([Hook.Question(action: .connect, transport: "sse")], #"{"action":"connect","transport":"sse"}"#),
            (
                [Hook.Question(action: .publish, principal: .key("backend"), channel: "a")],
                #"{"action":"publish","key":"backend","channels":["a"]}"#
            ),
        ]
        for (questions, text) in table { #expect(String(decoding: Hook.body(questions), as: UTF8.self) == text) }
    }

    @Test(
        "an answer allows all, nothing, or what it names; anything else is none",
        arguments: [
            (#"{"allow":true}"#, [true, true]), (#"{"allow":false,"reason":"x"}"#, [false, false]), (#"{"allow":["b"]}"#, [false, true]),
            (#"{"allow":[]}"#, [false, false]), (#"{"allow":["a","b","c"]}"#, [true, true]), (#"{"allow":"yes"}"#, nil),
            (#"{"allow":1}"#, nil), (#"{"allow":null}"#, nil), (#"{"allow":["a",1]}"#, nil), (#"{"allow":true"#, nil), ("[true]", nil),
            ("{}", nil), ("", nil), ("true", nil),
        ] as [(String, [Bool]?)])
    func answers(_ text: String, _ meaning: [Bool]?) {
        let questions = [Self.question("a"), Self.question("b")]
        let answers = Hook.answers(Array(text.utf8), questions)
        #expect(answers.map { answers in questions.map { answers[$0] == .allowed } } == meaning)
    }

    @Test("there are no channels to name about a connection")
    func connects() {
        let question = Hook.Question(action: .connect, transport: "websocket")
        #expect(Hook.answers(Array(#"{"allow":["a"]}"#.utf8), [question]) == nil)
        #expect(Hook.answers(Array(#"{"allow":true}"#.utf8), [question]) == [question: .allowed])
    }

    @Test("only what was configured is asked, and the silence means what was configured")
    func configured() {
        var configuration = HookConfiguration(url: "http://localhost/")
        configuration.actions = [.publish]
        func hook() -> Hook {
            Hook(configuration, http: OutgoingHTTP(authorityFile: nil), logger: Logger(label: "test"))
        }
        let patterns = [ChannelPattern("a")!]
        #expect(hook().questions(.subscribe, patterns, nil).isEmpty && hook().questions(.longPoll, nil).isEmpty)
        let question = hook().questions(.publish, patterns, nil)
        #expect(question.map(\.channel) == ["a"])
        #expect(hook().problem(.allowed) == nil && hook().problem(.refused)?.status == 403)
        #expect(hook().problem(.unanswered)?.status == 503 && hook().problem(nil)?.status == 503)
        configuration.allowsWhenDown = true
        #expect(hook().problem(.unanswered) == nil && hook().problem(.refused)?.status == 403)
        // What was never asked is not allowed by a silence.
        #expect(hook().problem(nil)?.status == 503)
    }

    @Test(
        "keys are kept as long as their source says, within bounds",
        arguments: [
            ([], 300), (["max-age=600"], 600), (["public, max-age=60"], 60), (["max-age=0"], 10), (["Max-Age = 90"], 90),
            (["max-age=99999999"], 3600), (["max-age=-5"], 300), (["max-age=x"], 300), (["no-store"], 300),
            (["no-cache", "max-age=20"], 20),
        ] as [([String], Int)])
    func keptSeconds(_ fields: [String], _ seconds: Int) {
        #expect(KeySource.keptSeconds(fields) == seconds)
    }
}

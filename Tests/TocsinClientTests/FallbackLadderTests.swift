import Foundation
import Testing

@testable import TocsinClient

/// One file of Fixtures/Fallback: events in, and what a ladder has to do and when it wants to be called again.
struct LadderCase: CustomTestStringConvertible, Sendable {
    var name: String
    private var text: Data

    static let all: [LadderCase] = {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Fixtures/Fallback")
        let files = (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)) ?? []
        return files.filter { $0.pathExtension == "json" }.sorted { $0.path < $1.path }.map { file in
            LadderCase(name: file.deletingPathExtension().lastPathComponent, text: (try? Data(contentsOf: file)) ?? Data())
        }
    }()

    var testDescription: String { name }

    func object() throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: text) as? [String: Any])
    }
}

/// The words of the fixtures.
private enum Words {
    static func rung(_ value: Any?) throws -> ClientTransport {
        let name = try #require(value as? String)
        return try #require(ClientTransport(rawValue: name))
    }

    static func memory(_ value: Any?) throws -> [ClientTransport: FallbackLadder.Remembered] {
        var memory: [ClientTransport: FallbackLadder.Remembered] = [:]
        for (name, value) in try #require(value as? [String: [String: Any]]) {
            let word = try #require(value["verdict"] as? String)
            memory[try rung(name)] = FallbackLadder.Remembered(
                verdict: try #require(RungVerdict(rawValue: word)), milliseconds: value["ms"] as? Int ?? 0,
                until: try #require(value["until"] as? Int)
            )
        }
        return memory
    }

    static func ending(_ event: [String: Any]) throws -> FallbackLadder.Ending {
        let milliseconds = event["milliseconds"] as? Int
        switch try #require(event["how"] as? String) {
        case "ended": return .ended
        case "refused": return .refused
        case "silent": return .silent
        case "denied": return .denied
        case "going-away": return .goingAway(milliseconds)
        case "busy": return .busy(milliseconds)
        case let other: throw Unknown(word: other)
        }
    }

    static func event(_ event: [String: Any]) throws -> FallbackLadder.Event {
        switch try #require(event["type"] as? String) {
        case "start": return .start
        case "hello": return .hello(try rung(event["rung"]))
        case "probe": return .probe(try rung(event["rung"]), at: try #require(event["at"] as? Int))
        case "heard": return .heard(try rung(event["rung"]))
        case "closed":
            let word = event["role"] as? String ?? "carry"
            let role = try #require(FallbackLadder.Role(rawValue: word))
            return .closed(try rung(event["rung"]), role, try ending(event))
        case "reachable": return .reachable(try #require(event["yes"] as? Bool))
        case "offline": return .offline
        case "online": return .online
        case "network": return .network(try memory(event["memory"]))
        case "stop": return .stop
        case "tick": return .tick
        case let other: throw Unknown(word: other)
        }
    }

    static func action(_ action: FallbackLadder.Action) -> NSDictionary {
        switch action {
        case .open(let rung, let role, let heartbeat):
            ["action": "open", "rung": rung.rawValue, "role": role.rawValue, "heartbeat": heartbeat]
        case .close(let rung, let role): ["action": "close", "rung": rung.rawValue, "role": role.rawValue]
        case .check: ["action": "check"]
        case .verdict(let rung, let verdict, let milliseconds):
            ["action": "verdict", "rung": rung.rawValue, "verdict": verdict.rawValue, "ms": milliseconds]
        case .status(let state, let rung, let why, let wait):
            [
                "action": "status", "state": state.rawValue, "rung": rung?.rawValue ?? NSNull(), "why": why?.rawValue ?? NSNull(),
                "wait": wait,
            ]
        }
    }

    struct Unknown: Error {
        var word: String
    }
}

@Suite struct FallbackLadderTests {
    @Test("there are cases")
    func something() {
        #expect(LadderCase.all.count >= 25)
    }

    @Test("the ladder does what its case says, step by step", arguments: LadderCase.all)
    func fixture(_ one: LadderCase) throws {
        let object = try one.object()
        let random = try #require(object["random"] as? Double)
        var rungs = ClientTransport.allCases
        if let names = object["rungs"] as? [String] { rungs = try names.map { try Words.rung($0) } }
        var ladder = FallbackLadder(rungs: rungs, memory: try Words.memory(object["memory"]), random: { random })
        let steps = try #require(object["steps"] as? [[String: Any]])
        #expect(steps.count > 1)
        for (number, step) in steps.enumerated() {
            let at = try #require(step["at"] as? Int)
            let event = try #require(step["on"] as? [String: Any])
            let actions = ladder.on(try Words.event(event), at: at).map { Words.action($0) }
            let expected = try #require(step["do"] as? [NSDictionary])
            #expect(actions == expected, "\(one.name), step \(number) at \(at)")
            #expect(ladder.due == step["due"] as? Int, "\(one.name), step \(number) at \(at)")
        }
    }

    @Test("with nothing below, a rung that holds messages back goes on carrying")
    func nothingBelow() {
        var ladder = FallbackLadder(rungs: [.eventStream])
        _ = ladder.on(.start, at: 0)
        _ = ladder.on(.hello(.eventStream), at: 20)
        #expect(ladder.on(.tick, at: 2020) == [.verdict(.eventStream, .buffered, milliseconds: 2000)])
        #expect(ladder.state == .live)
    }
}

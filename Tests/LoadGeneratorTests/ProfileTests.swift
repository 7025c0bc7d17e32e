import Foundation
import LoadGenerator
import Testing

@Suite struct ProfileTests {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appending(
        path: "Bench/profiles")

    @Test("the profiles that ship can be read, and the built-in one is the file's")
    func files() throws {
        #expect(String(decoding: try Data(contentsOf: Self.folder.appending(path: "tocsin.json")), as: UTF8.self) == Profile.tocsin)
        for name in ["tocsin", "nchan", "floor"] {
            let profile = try Profile(Array(try Data(contentsOf: Self.folder.appending(path: "\(name).json"))))
            #expect(profile.name == name)
            #expect(profile.publish.method == "POST")
            #expect(profile.webSocket != nil && profile.eventStream != nil && profile.longPoll != nil)
            // The floor is started anew for each run.
            #expect(name == "floor" || profile.channelName(run: 1, number: 2) != profile.channelName(run: 2, number: 2))
            #expect(profile.channelName(run: 1, number: 2) != profile.channelName(run: 1, number: 1))
        }
    }

    @Test(
        "a profile that is wrong says where",
        arguments: [
            ("[", "not JSON"), ("[]", "not an object"), (#"{"name":"a"}"#, "channel"), (#"{"nome":"a"}"#, "nome"),
            (#"{"name":"a","channel":"c","publish":{"path":"x"}}"#, "begin with /"),
            (#"{"name":"a","channel":"c","publish":{"path":"/x","fields":{"A":1}}}"#, "\"A\""),
            (
                #"{"name":"a","channel":"c","publish":{"path":"/x"},"long-poll":{"first":{"path":"/"},"next":{"path":"/{place}"}}}"#,
                "{place}"
            ),
            (
                #"{"name":"a","channel":"c","publish":{"path":"/x"},"long-poll":{"first":{"path":"/"},"next":{"path":"/"},"#
                    + #""captures":[{"name":"p","after":"x","until":""}]}}"#,
                "until"
            ),
            (#"{"name":"a","channel":"c","publish":{"path":"/x"},"publish-batch":{"path":"/","item":"x"}}"#, "{payload}"),
            (#"{"name":"a","channel":"c","publish":{"path":"/x"},"resume":{"path":"/","captures":[]}}"#, "one capture"),
            (
                #"{"name":"a","channel":"c","publish":{"path":"/x"},"resume":{"path":"/","captures":[{"name":"p","field":"F"}]}}"#,
                "one capture"
            ),
        ]
    )
    func wrong(text: String, word: String) throws {
        let fault = try #require(throws: LoadFault.self) { try Profile(Array(text.utf8)) }
        #expect(fault.description.contains(word), "\(fault)")
    }

    @Test("values stand where their names were, and are encoded in paths only")
    func template() {
        var out: [UInt8] = []
        RequestTemplate("/a?x={one}&{other}={two}", names: ["one", "two"], isInPath: true).append(
            values: [Array("a/ü~".utf8), [0x31]], into: &out)
        #expect(String(decoding: out, as: UTF8.self) == "/a?x=a%2F%C3%BC~&{other}=1")
        out = []
        RequestTemplate("If: {one}{one}", names: ["one"]).append(values: [Array("a b".utf8)], into: &out)
        #expect(String(decoding: out, as: UTF8.self) == "If: a ba b")
    }

    @Test("what stands between two texts is found in a body cut anywhere, the first of it, in one body after the other")
    func capture() {
        let body = Array(#"{"aab":"aaaab":"5f.10","aaab":"x"}"#.utf8)
        for cut in 0...body.count {
            var capture = BodyCapture(after: #"aaab":""#, until: "\"")
            var value = Array("before".utf8)
            for round in 0..<2 {
                capture.begin()
                for piece in [body[..<cut], body[cut...]] { Array(piece).withUnsafeBytes { capture.read($0, into: &value) } }
                #expect(String(decoding: value, as: UTF8.self) == "5f.10", "cut at \(cut), body \(round)")
            }
        }
        var capture = BodyCapture(after: "x", until: "y")
        var value = Array("kept".utf8)
        Array("no such".utf8).withUnsafeBytes { capture.read($0, into: &value) }
        #expect(String(decoding: value, as: UTF8.self) == "kept")
    }

    @Test("of several values in one stream the last one stays, wherever the stream is cut")
    func lastCapture() {
        let body = Array(#"{"p":"1"}{"p":"22"}{"q":"x"}{"p":"333"}{"p"#.utf8)
        for cut in 0...body.count {
            var capture = BodyCapture(after: #""p":""#, until: "\"", takesLast: true)
            var value: [UInt8] = []
            for piece in [body[..<cut], body[cut...]] { Array(piece).withUnsafeBytes { capture.read($0, into: &value) } }
            #expect(String(decoding: value, as: UTF8.self) == "333", "cut at \(cut)")
        }
    }

    @Test("a load that cannot work is refused before it begins")
    func refusals() throws {
        let target = try Target("http://127.0.0.1:1")
        let profile = try Profile(Array(Profile.tocsin.utf8))
        func plan(_ change: (inout LoadPlan) -> Void) -> LoadPlan {
            var plan = LoadPlan(
                target: target, publishTarget: target, profile: profile, transport: .eventStream, subscribers: 4, rate: 1, messages: 1
            )
            change(&plan)
            return plan
        }
        try plan { _ in }.prepare()
        for refused in [
            plan { $0.subscribers = 0 }, plan { $0.channels = 5 }, plan { $0.rate = 0 }, plan { $0.payloadBytes = 41 },
            plan { $0.threads = 5 }, plan { $0.pauseSeconds = 1 }, plan { ($0.batch, $0.messages) = (2, 3) },
            plan { $0.cutMessages = -1 }, plan { ($0.cutMessages, $0.batch, $0.messages) = (3, 2, 2) },
            plan { ($0.cutMessages, $0.onlyListens) = (4, true) }, plan { ($0.cutMessages, $0.resumes, $0.warmUp) = (4, true, 1) },
            plan { $0.resumes = true }, plan { ($0.resumes, $0.warmUp, $0.transport) = (true, 1, .longPoll) },
            plan { ($0.transport, $0.streams, $0.messages) = (.eventStreamHTTP2, 4, 10_000_000) },
        ] {
            #expect(throws: LoadFault.self) { try refused.prepare() }
        }
        let many = try #require(throws: LoadFault.self) { try plan { $0.subscribers = 50_000_000 }.prepare() }
        #expect(many.description.contains("50000000 connections need 50000068 descriptors"))
        for url in ["ftp://a", "127.0.0.1:80", "http://127.0.0.1:99999", "http://127.0.0.1/path"] {
            #expect(throws: LoadFault.self) { try Target(url) }
        }
    }
}

import Identity
import Testing

@testable import TocsinServer

@Suite struct RevocationTests {
    private func token(_ user: String, id: String? = nil, issued: Int64? = nil) -> Identity {
        var identity = Identity(.user(user))
        identity.tokenID = id
        identity.issuedMilliseconds = issued
        return identity
    }

    @Test("what is taken back is what was named, as far as it was made before")
    func table() {
        var revocations = Revocations()
        let isAdded = [
            revocations.add(Revocation(.token("t1"), before: 100, until: 1000), nowMilliseconds: 0),
            revocations.add(Revocation(.principal(.user("anna")), before: 100, until: 1000), nowMilliseconds: 0),
        ]
        #expect(isAdded == [true, true])
        let cases: [(Identity, Bool)] = [
            (token("otto", id: "t1", issued: 200), true), (token("otto", id: "t2", issued: 0), false), (token("anna", issued: 99), true),
            (token("anna", issued: 100), false), (token("anna"), true), (token("otto"), false), (Identity(.key("anna")), false),
        ]
        for (identity, isCovered) in cases { #expect(revocations.cover(identity) == isCovered, "\(identity)") }
        // The later moment counts, whichever came first.
        _ = revocations.add(Revocation(.principal(.user("anna")), before: 50, until: 10), nowMilliseconds: 0)
        #expect(revocations.cover(token("anna", issued: 99)))
        _ = revocations.add(Revocation(.everybody, before: 10, until: 1000), nowMilliseconds: 0)
        #expect(revocations.cover(token("otto", issued: 9)) && !revocations.cover(token("otto", issued: 10)))
        #expect(!revocations.cover(Identity(.key("backend"))))
    }

    @Test("there are so many, and none goes before its time")
    func bounded() {
        var revocations = Revocations()
        for number in 0..<Revocations.countMax {
            let until: Int64 = number == 0 ? 10 : 1000
            _ = revocations.add(Revocation(.token("t\(number)"), before: 0, until: until), nowMilliseconds: 0)
        }
        let early = revocations.add(Revocation(.token("new"), before: 0, until: 1000), nowMilliseconds: 9)
        let known = revocations.add(Revocation(.token("t5"), before: 0, until: 1000), nowMilliseconds: 9)
        let late = revocations.add(Revocation(.token("new"), before: 0, until: 1000), nowMilliseconds: 10)
        #expect([early, known, late] == [false, true, true])
        #expect(revocations.cover(token("a", id: "new")) && revocations.cover(token("a", id: "t1")))
        #expect(!revocations.cover(token("a", id: "t0")))
    }

    @Test(
        "what stands in the log is what was meant",
        arguments: [.token("a\"b"), .principal(.user("anna\n")), .everybody] as [Revocation.Subject])
    func logged(_ subject: Revocation.Subject) {
        let revocation = Revocation(subject, before: 1_795_000_000_123, until: 1_800_000_000_000)
        #expect(Revocation(logged: revocation.json[...]) == revocation)
        for text in ["", "[]", "{}", #"{"user":"a"}"#, #"{"before_ms":1}"#] {
            #expect(Revocation(logged: Array(text.utf8)[...]) == nil)
        }
    }

    @Test("the log says each rule once a minute, and how often it did not")
    func refusals() {
        var log = RefusalLog()
        var said: [Int?] = []
        for (rule, now) in [("a", 0), ("a", 1), ("b", 2), ("a", 59_999), ("a", 60_000), ("a", 60_001), ("b", 200_000)] as [(String, Int64)]
        {
            said.append(log.note(rule, nowMilliseconds: now))
        }
        #expect(said == [0, nil, 0, nil, 2, nil, 0])
    }
}

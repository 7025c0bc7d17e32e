import CSimulatedDisk
import Glibc
import JSONCodec
import NotificationCore
import NotificationStore
import TocsinServer

/// A fixed row of requests to the server, during which each write and each sync fails: once, and then for a while.
///
/// What is not stored is refused with 503 and the problem `store-failed`; while the disk is broken `/readyz` says so, from the first
/// refusal on; when it is well again, so is the server, by itself; and after a power cut on top of all everything that was answered with
/// 201 is there.
final class FailEachOfServer {
    private static let requests = 12
    /// How long a lasting failure lasts, and how soon after it all is to be well: the server tries once a second, and believes it after
    /// three more where nobody publishes.
    private static let lastingMilliseconds: Int64 = 2500
    private static let recoveryMilliseconds: Int64 = 5000
    /// SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC, SQLITE_FULL.
    private static let failures: [(kinds: UInt32, code: Int32)] = [(SD_WRITE, 778), (SD_SYNC, 1034), (SD_WRITE, 13)]

    static func go() {
        var (failed, refused, unready) = (0, 0, 0)
        for (kinds, code) in failures {
            let healthy = FailEachOfServer()
            healthy.perform()
            let calls = sd_count(healthy.disk, kinds) - healthy.before(kinds)
            healthy.run.end()
            for call in 0..<calls {
                for isLasting in [false, true] {
                    let one = FailEachOfServer()
                    sd_fail(one.disk, kinds, call, isLasting ? .max : 1, code)
                    one.healsLater = isLasting
                    one.perform()
                    one.check()
                    if let fault = one.fault {
                        print("call \(call) of kind \(kinds) failed with \(code), \(isLasting ? "for a while" : "once"): \(fault)")
                        for line in one.run.trace.last { print("  \(line)") }
                        exit(1)
                    }
                    failed += 1
                    refused += one.refused
                    unready += one.unready
                    one.run.end()
                }
            }
        }
        print(
            "\(failed) calls failed under the server, one at a time: \(refused) requests were answered with 503, \(unready) times it "
                + "was not ready, nothing that was answered with 201 was lost, and it recovered each time")
    }

    private let run: Run
    private let publisher: Requester
    private let observer: Requester
    private let begun: [UInt32: UInt64]
    private var healsLater = false
    /// By channel and sequence, the number of the request that was told of it.
    private var stored: [String: Int] = [:]
    private var refused = 0
    private var unready = 0
    private var fault: String?

    private init() {
        run = Run(seed: 1, scenario: .quiet)
        publisher = Requester(run)
        observer = Requester(run)
        run.server.start()
        begun = Dictionary(uniqueKeysWithValues: [SD_WRITE, SD_SYNC].map { [disk = run.server.disk] in ($0, sd_count(disk, $0)) })
    }

    private var disk: Int32 { run.server.disk }
    private func before(_ kinds: UInt32) -> UInt64 { begun[kinds] ?? 0 }

    private func fail(_ words: String) { if fault == nil { fault = words } }

    private func pass(_ milliseconds: Int64) {
        let end = run.now + milliseconds
        while run.timeline.step(until: end) {}
        if let violation = run.oracle.violation { fail("\(violation.rule): \(violation.words)") }
    }

    /// Asks, and waits for the answer.
    private func ask(_ requester: Requester, _ path: String, key: String? = nil, _ body: String = "") -> (status: Int, answer: JSONSlice)? {
        var answer: (Int, JSONSlice)?
        if requester.isBusy { requester.leave() }
        requester.send(path, fields: key.map { [("Idempotency-Key", $0)] } ?? [], body: Array(body.utf8)) { answer = ($0, $1) }
        let end = run.now + 3000
        while answer == nil, run.timeline.step(until: end) {}
        return answer
    }

    private func perform() {
        for number in 0..<Self.requests where fault == nil {
            publish(number)
            if number % 4 == 3 {
                check(ask(publisher, "/v1/acks", #"{"user":"ann","channel":"alerts.a","through":\#(number - 2)}"#), "the acknowledgement")
            }
            pass(number % 3 == 0 ? 1100 : 30)
        }
    }

    private func publish(_ number: Int) {
        let channel = ["alerts.a", "plain.p", "dashboards.x"][number % 3]
        run.oracle.willSend(number, Publication(channel: ChannelName(channel)!, data: Array("{\"id\":\(number)}".utf8)))
        let answer = ask(publisher, "/v1/channels/\(channel)", key: "key \(number)", "{\"id\":\(number)}")
        if let sequence = check(answer, "request \(number)") { stored["\(channel)#\(sequence)"] = number }
    }

    /// - Returns: what was stored; nil: it was refused, and rightly so.
    @discardableResult
    private func check(_ answer: (status: Int, answer: JSONSlice)?, _ name: String) -> UInt64? {
        guard let answer else {
            fail("\(name) was not answered")
            return nil
        }
        if answer.status == 201 { return answer.answer["sequence"]?.unsignedInteger() }
        let text = String(decoding: answer.answer.bytes, as: UTF8.self)
        // The alert that is to be read may itself have been refused.
        if answer.status == 404, name == "the acknowledgement" { return nil }
        guard answer.status == 503, text.contains("/problems/store-failed") else {
            fail("\(name) was answered with \(answer.status) \(text)")
            return nil
        }
        refused += 1
        if healsLater { whileBroken() }
        return nil
    }

    /// The disk does not take anything: the server says so, until it does again.
    private func whileBroken() {
        let end = run.now + Self.lastingMilliseconds
        while run.now < end, fault == nil {
            if ready() { fail("it says that it is ready while the disk is broken") }
            unready += 1
            pass(400)
        }
        sd_heal(disk)
        healsLater = false
        let limit = run.now + Self.recoveryMilliseconds
        while !ready(), fault == nil {
            pass(200)
            if run.now > limit { fail("it is not ready \(Self.recoveryMilliseconds) ms after the disk is well") }
        }
    }

    private func ready() -> Bool {
        guard let answer = ask(observer, "/readyz") else {
            fail("/readyz was not answered")
            return false
        }
        if answer.status != 201, answer.status != 503 { fail("/readyz was answered with \(answer.status)") }
        return answer.status == 201
    }

    /// All is well again, and then the power is cut.
    private func check() {
        sd_heal(disk)
        pass(Self.recoveryMilliseconds)
        if fault == nil, !ready() { fail("it is not ready at the end") }
        let before = refused
        publish(Self.requests)
        if refused > before { fail("it does not take anything at the end") }
        run.server.crash()
        pass(2000)
        guard fault == nil else { return }
        guard let embedded = run.server.embedded else { return fail("it does not start") }
        do throws(StoreFault) {
            let found = try embedded.withStore { store throws(StoreFault) in
                var found: [String: String] = [:]
                for record in try store.contents().channels {
                    for entry in try store.entries(of: record.id, afterSequence: 0, limit: 1000) {
                        found["\(record.name)#\(entry.sequence)"] = String(decoding: entry.publication.data, as: UTF8.self)
                    }
                }
                return found
            }
            for (place, number) in stored.sorted(by: { $0.value < $1.value }) where found[place] != "{\"id\":\(number)}" {
                fail("\(place) was answered with 201, and is \(found[place] ?? "not there")")
            }
        } catch {
            fail("\(error)")
        }
    }
}

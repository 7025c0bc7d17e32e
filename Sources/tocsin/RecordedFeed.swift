import Foundation
import JSONCodec
import NotificationCore
import Transports

/// A feed that was written down: NDJSON of `{"at":SECONDS,"channel":…,"data":…, …}`, in the order of `at`. The other members are those
/// of a batch item.
struct RecordedFeed {
    struct Entry: Sendable {
        var atSeconds: Double
        var publication: Publication
        /// The line without `at`: an item of a batch.
        var item: [UInt8]
    }

    let entries: [Entry]

    init(_ bytes: [UInt8]) throws {
        var entries: [Entry] = []
        for (number, line) in bytes.withUnsafeBytes({ NDJSON.lines($0) }).enumerated() {
            do {
                let value = try JSONSlice.checked(bytes[line])
                guard let at = value["at"]?.double() else { throw CommandFailure(description: "\"at\" is missing") }
                guard at >= entries.last?.atSeconds ?? 0 else { throw CommandFailure(description: "\"at\" goes back") }
                let publication = try PublicationReader.item(value, ignoring: ["at"])
                entries.append(Entry(atSeconds: at, publication: publication, item: Self.item(value)))
            } catch let problem as Problem {
                throw CommandFailure(description: "line \(number + 1): \(problem.detail)")
            } catch {
                throw CommandFailure(description: "line \(number + 1): \(error)")
            }
        }
        self.entries = entries
    }

    private static func item(_ value: JSONSlice) -> [UInt8] {
        var out: [UInt8] = []
        for (name, member) in value.memberList where name != "at" {
            out.append(out.isEmpty ? UInt8(ascii: "{") : UInt8(ascii: ","))
            JSONText.appendString(name, into: &out)
            out.append(UInt8(ascii: ":"))
            out += member.bytes
        }
        return out + [UInt8(ascii: "}")]
    }

    /// Calls `body` with each entry at its time.
    ///
    /// - Parameter speed: 60: a minute of the feed in a second.
    func play(speed: Double, _ body: (Entry) async throws -> Void) async throws {
        let start = ContinuousClock.now
        for entry in entries {
            try await Task.sleep(until: start + .seconds(entry.atSeconds / speed), clock: .continuous)
            try await body(entry)
        }
    }
}

import Identity
import JSONCodec
import Transports

/// What an operator takes back: a token by its id, or those of a user, or of everybody, that were made before a moment.
struct Revocation: Sendable, Equatable {
    enum Subject: Hashable, Sendable {
        case token(String)
        case principal(Identity.Principal)
        case everybody
    }

    var subject: Subject
    /// Tokens made before this moment, in milliseconds since 1970.
    var before: Int64
    /// Until when it is kept.
    var until: Int64

    init(_ subject: Subject, before: Int64, until: Int64) {
        self.subject = subject
        self.before = before
        self.until = until
    }

    /// As it stands in the log, and in the answer to who asked for it.
    var json: [UInt8] {
        var out: [UInt8] = [UInt8(ascii: "{")]
        switch subject {
        case .token(let id):
            out.append(contentsOf: #""token_id":"#.utf8)
            JSONText.appendString(id, into: &out)
            out.append(UInt8(ascii: ","))
        case .principal(.user(let name)):
            out.append(contentsOf: #""user":"#.utf8)
            JSONText.appendString(name, into: &out)
            out.append(UInt8(ascii: ","))
        case .principal(.key), .everybody: break
        }
        out.append(contentsOf: "\"before_ms\":\(before),\"until_ms\":\(until)}".utf8)
        return out
    }

    /// What stands in the log; nil if that is none.
    init?(logged text: ArraySlice<UInt8>) {
        guard let value = try? JSONSlice.checked(text), value.kind == .object, let before = value["before_ms"]?.integer(),
            let until = value["until_ms"]?.integer()
        else { return nil }
        if let id = value["token_id"]?.string() {
            self.init(.token(id), before: before, until: until)
        } else if let user = value["user"]?.string() {
            self.init(.principal(.user(user)), before: before, until: until)
        } else {
            self.init(.everybody, before: before, until: until)
        }
    }
}

/// All that was taken back and may still matter. A token without `iat` counts as made before any moment.
///
/// Each is kept until the last token that it is about has ended, as far as that was said; there are at most so many, and then the oldest
/// goes only if it has ended.
struct Revocations: Sendable {
    /// As many as the log keeps of them; some 200 bytes each.
    static let countMax = 100_000

    private struct Entry: Sendable {
        var before: Int64
        var until: Int64
    }

    private var entries: [Revocation.Subject: Entry] = [:]

    var count: Int { entries.count }

    /// Whether there is room for one more.
    mutating func hasRoom(for subject: Revocation.Subject, nowMilliseconds now: Int64) -> Bool {
        if entries.count < Self.countMax || entries[subject] != nil { return true }
        entries = entries.filter { $0.value.until > now }
        return entries.count < Self.countMax
    }

    /// - Returns: false if there are too many.
    mutating func add(_ revocation: Revocation, nowMilliseconds now: Int64) -> Bool {
        guard hasRoom(for: revocation.subject, nowMilliseconds: now) else { return false }
        let known = entries[revocation.subject]
        entries[revocation.subject] = Entry(
            before: max(revocation.before, known?.before ?? .min), until: max(revocation.until, known?.until ?? .min)
        )
        return true
    }

    func cover(_ identity: Identity) -> Bool {
        if entries.isEmpty { return false }
        if let id = identity.tokenID, entries[.token(id)] != nil { return true }
        // `iat` has whole seconds: what was made in the second of the revocation is taken back with it.
        let made = identity.issuedMilliseconds ?? .min
        if let entry = entries[.principal(identity.principal)], made < entry.before { return true }
        guard let entry = entries[.everybody], !identity.isKey else { return false }
        return made < entry.before
    }
}

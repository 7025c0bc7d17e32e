import Identity

/// What was taken back: tokens by their id, or of a user, or of everybody, made before a moment. A token without `iat` counts as made
/// before any moment.
///
/// Each is kept until the last token that it is about has ended, as far as that was said; there are at most so many, and then the oldest
/// goes only if it has ended.
struct Revocations: Sendable {
    enum Subject: Hashable, Sendable {
        case token(String)
        case principal(Identity.Principal)
        case everybody
    }

    static let countMax = 100_000

    private struct Entry: Sendable {
        /// Tokens made before this moment, in milliseconds since 1970.
        var before: Int64
        /// Until when it is kept.
        var until: Int64
    }

    private var entries: [Subject: Entry] = [:]

    var isEmpty: Bool { entries.isEmpty }

    /// - Returns: false if there are too many.
    mutating func add(_ subject: Subject, before: Int64, until: Int64, nowMilliseconds now: Int64) -> Bool {
        if entries.count >= Self.countMax, entries[subject] == nil {
            entries = entries.filter { $0.value.until > now }
            guard entries.count < Self.countMax else { return false }
        }
        let known = entries[subject]
        entries[subject] = Entry(before: max(before, known?.before ?? before), until: max(until, known?.until ?? until))
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

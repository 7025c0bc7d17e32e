import DequeModule
import JSONCodec

/// What the writer keeps of a channel beside its messages, as the feed's kind wants it.
enum ChannelState {
    case none
    /// Scores: nil until the first snapshot.
    case document(JSONDocument?)
    case latest(LatestEntries)

    init(_ kind: FeedKind?) {
        switch kind {
        case nil, .alerts: self = .none
        case .scores: self = .document(nil)
        case .dashboards: self = .latest(LatestEntries())
        }
    }
}

/// The newest entry of each key of a dashboards channel.
struct LatestEntries {
    private struct Value {
        var entry: LogEntry
        var isQueued: Bool
    }

    private struct Due {
        var key: FieldText?
        /// When the value goes stale if nothing newer has come; milliseconds since 1970.
        var timeMilliseconds: Int64
    }

    private var values: [FieldText?: Value] = [:]
    /// Each key at most once; ascending times.
    private var queue: Deque<Due> = []
    private(set) var bytes = 0

    var count: Int { values.count }
    func entry(of key: FieldText?) -> LogEntry? { values[key]?.entry }

    static func bytes(_ publication: Publication) -> Int { publication.data.count + (publication.key?.string.utf8.count ?? 0) }

    /// In the order of the log.
    var entries: [LogEntry] { values.values.map(\.entry).sorted { $0.offset < $1.offset } }

    mutating func take(_ entry: LogEntry, maxAgeSeconds: Int?) {
        let key = entry.publication.key
        let old = values[key]
        bytes += Self.bytes(entry.publication) - (old.map { Self.bytes($0.entry.publication) } ?? 0)
        let isFresh = entry.publication.staleSinceMilliseconds == nil
        var isQueued = old?.isQueued ?? false
        if let maxAgeSeconds, isFresh, !isQueued {
            queue.append(Due(key: key, timeMilliseconds: entry.timeMilliseconds + Int64(maxAgeSeconds) * 1000))
            isQueued = true
        }
        values[key] = Value(entry: entry, isQueued: isQueued)
    }

    /// Takes out one key whose value has gone stale.
    mutating func popStale(nowMilliseconds: Int64, maxAgeSeconds: Int) -> LogEntry? {
        while let first = queue.first, first.timeMilliseconds <= nowMilliseconds {
            queue.removeFirst()
            guard var value = values[first.key] else { continue }
            let due = value.entry.timeMilliseconds + Int64(maxAgeSeconds) * 1000
            if value.entry.publication.staleSinceMilliseconds == nil, due > nowMilliseconds {
                // Something newer came meanwhile.
                queue.append(Due(key: first.key, timeMilliseconds: due))
                continue
            }
            value.isQueued = false
            values[first.key] = value
            if value.entry.publication.staleSinceMilliseconds == nil { return value.entry }
        }
        return nil
    }
}

import NIOCore
import NotificationStore
import Transports

/// What a loop counts. Plain numbers, added up over the loops when somebody asks.
struct LoopCounters: Sendable {
    var connections = 0
    var connectionsAccepted = 0
    var subscribers: [Int] = [0, 0, 0]
    var deliveries: [Int] = [0, 0, 0]
    var congestions = 0
    var deliveredBytes = 0
    var requests = 0
    var published = 0
    var faults: [String: Int] = [:]
    var tailMessages = 0
    var tailBytes = 0
    var channels = 0
    var acknowledgingUsers = 0
    var patterns = 0
    var logReads = 0
    /// Reads that failed, and damaged stretches that were found.
    var readFaults = 0
    var damages = 0
    var sharedPages = 0
    var roundTrips = RoundTrips()
    var paths: [PathReport: Int] = [:]
    var times = DeliveryTimes()
    var presence = LoopPresence.Figures()
    /// What was looked at for this one answer.
    var figures = LoopFigures()

    static func index(_ transport: Transport) -> Int {
        switch transport {
        case .webSocket: 0
        case .eventStream: 1
        case .longPoll: 2
        }
    }

    mutating func add(_ other: LoopCounters) {
        connections += other.connections
        connectionsAccepted += other.connectionsAccepted
        for index in subscribers.indices {
            subscribers[index] += other.subscribers[index]
            deliveries[index] += other.deliveries[index]
        }
        congestions += other.congestions
        deliveredBytes += other.deliveredBytes
        requests += other.requests
        published += other.published
        faults.merge(other.faults, uniquingKeysWith: +)
        // Each loop has all of the tail: it is not a sum.
        tailMessages = max(tailMessages, other.tailMessages)
        tailBytes = max(tailBytes, other.tailBytes)
        channels = max(channels, other.channels)
        acknowledgingUsers = max(acknowledgingUsers, other.acknowledgingUsers)
        patterns += other.patterns
        logReads += other.logReads
        readFaults += other.readFaults
        damages += other.damages
        sharedPages += other.sharedPages
        roundTrips.add(other.roundTrips)
        paths.merge(other.paths, uniquingKeysWith: +)
        times.add(other.times)
        presence.add(other.presence)
        figures.add(other.figures)
    }

    /// - Parameter received: by transport, what the canary's own subscribers have got.
    mutating func subtract(canary received: [Int]) {
        for (index, count) in received.enumerated() { deliveries[index] -= count }
    }

    /// Prometheus text format, version 0.0.4.
    func exposition(
        head: UInt64, connectionsRefused: Int, store: StoreStatistics, isStoreFailed: Bool, channelsMax: Int, uptimeSeconds: Int64,
        isDraining: Bool
    ) -> String {
        var text = ""
        func metric(_ name: String, _ type: String, _ help: String, _ values: [(labels: String, value: Int)]) {
            text += "# HELP tocsin_\(name) \(help)\n# TYPE tocsin_\(name) \(type)\n"
            for (labels, value) in values { text += "tocsin_\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(value)\n" }
        }
        func perTransport(_ values: [Int]) -> [(labels: String, value: Int)] {
            Transport.allCases.map { ("transport=\"\($0.rawValue)\"", values[Self.index($0)]) }
        }
        metric("connections", "gauge", "Open connections.", [("", connections)])
        metric("connections_accepted_total", "counter", "Connections accepted.", [("", connectionsAccepted)])
        metric("connections_refused_total", "counter", "Connections ended at once for want of room.", [("", connectionsRefused)])
        metric("subscribers", "gauge", "Subscribers, by transport; a parked poll is one.", perTransport(subscribers))
        metric("deliveries_total", "counter", "Notifications handed to subscribers, by transport.", perTransport(deliveries))
        metric("delivered_bytes_total", "counter", "Bytes handed to sockets by the fan-out.", [("", deliveredBytes)])
        metric("congestions_total", "counter", "Times that a subscriber's socket was full and its cursor stopped.", [("", congestions)])
        metric("requests_total", "counter", "HTTP requests.", [("", requests)])
        metric("published_total", "counter", "Notifications published through this node.", [("", published)])
        metric(
            "faults_total", "counter", "Connections ended for a fault of the peer, by protocol.",
            faults.sorted { $0.key < $1.key }.map { ("protocol=\"\($0.key)\"", $0.value) }
        )
        metric("log_head", "gauge", "Number of the newest notification in the log.", [("", Int(head))])
        metric("log_tail_messages", "gauge", "Notifications in memory.", [("", tailMessages)])
        metric("log_tail_bytes", "gauge", "Bytes of the notifications in memory.", [("", tailBytes)])
        metric("log_reads_total", "counter", "Pages read from the store for subscribers that were behind the memory.", [("", logReads)])
        metric(
            "log_read_faults_total", "counter", "Reads of the log that failed, and stretches of it that were found damaged.",
            [("kind=\"failed\"", readFaults), ("kind=\"damaged\"", damages)]
        )
        metric("shared_pages_total", "counter", "Pages sent that had been read and encoded for another subscriber.", [("", sharedPages)])
        metric("store_commits_total", "counter", "Commits; with durability disk each is one fsync.", [("", store.commits)])
        metric("store_entries_total", "counter", "Notifications committed.", [("", store.entries)])
        metric("store_file_bytes", "gauge", "Bytes of the store's file.", [("", store.fileBytes)])
        metric("store_wal_bytes", "gauge", "Bytes of its write-ahead log.", [("", store.walBytes)])
        metric("store_cached_bytes", "gauge", "Bytes of decoded pages kept for readers.", [("", store.cachedBytes)])
        metric("idempotency_keys", "gauge", "Idempotency keys that are remembered.", [("", store.idempotencyKeys)])
        metric("idempotency_bytes", "gauge", "About what they take in the store.", [("", store.idempotencyBytes)])
        metric(
            "idempotency_forgotten_total", "counter", "Idempotency keys forgotten before their time, for want of room.",
            [("", store.idempotencyForgotten)]
        )
        metric("store_failed", "gauge", "1 while the store cannot be used and publishing is refused.", [("", isStoreFailed ? 1 : 0)])
        metric("channels", "gauge", "Channels that ever had a notification.", [("", channels)])
        metric("channels_max", "gauge", "Channels that there may be, and as many acknowledging users.", [("", channelsMax)])
        metric("acknowledging_users", "gauge", "Users who ever acknowledged an alert.", [("", acknowledgingUsers)])
        metric("patterns", "gauge", "Different channels and patterns subscribed to.", [("", patterns)])
        metric("draining", "gauge", "1 while the server goes down.", [("", isDraining ? 1 : 0)])
        metric("uptime_seconds", "gauge", "Seconds since the start.", [("", Int(uptimeSeconds))])
        metric(
            "path_verdicts_total", "counter", "What clients found of the ways to subscribe, by transport and verdict.",
            PathReport.Rung.allCases.flatMap { rung in
                PathReport.Verdict.allCases.map { verdict in
                    ("transport=\"\(rung.rawValue)\",verdict=\"\(verdict.rawValue)\"", paths[PathReport(rung: rung, verdict: verdict)] ?? 0)
                }
            }
        )
        figures.append(to: &text)
        text += times.exposition
        text += roundTrips.exposition
        return text
    }
}

/// Times from a ping to its pong, as a Prometheus histogram.
struct RoundTrips: Sendable {
    /// Upper bounds of the buckets in milliseconds: a local network to a bad line.
    private static let bounds: [Int64] = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000]

    private var counts = Array(repeating: 0, count: bounds.count + 1)
    private var sumMilliseconds: Int64 = 0

    mutating func note(milliseconds: Int64) {
        counts[Self.bounds.firstIndex { milliseconds <= $0 } ?? Self.bounds.count] += 1
        sumMilliseconds += milliseconds
    }

    mutating func add(_ other: RoundTrips) {
        for index in counts.indices { counts[index] += other.counts[index] }
        sumMilliseconds += other.sumMilliseconds
    }

    var exposition: String {
        let name = "tocsin_websocket_round_trip_seconds"
        var text = "# HELP \(name) Time from a ping to its pong.\n# TYPE \(name) histogram\n"
        var sum = 0
        for (index, count) in counts.enumerated() {
            sum += count
            let bound = index < Self.bounds.count ? "\(Double(Self.bounds[index]) / 1000)" : "+Inf"
            text += "\(name)_bucket{le=\"\(bound)\"} \(sum)\n"
        }
        return text + "\(name)_sum \(Double(sumMilliseconds) / 1000)\n\(name)_count \(sum)\n"
    }
}

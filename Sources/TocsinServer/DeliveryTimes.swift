import NotificationCore
import Transports

/// Times from when the server had a publication as a whole to when the fan-out had written it to the last of its subscribers, as
/// Prometheus histograms by transport and kind.
///
/// One observation for each batch, loop, transport that it was written to, and kind that is in it; the time is that of the batch's oldest
/// publication. Who is behind and reads on later is not in it: that is what the lag of cursors says.
struct DeliveryTimes: Sendable {
    /// Upper bounds of the buckets in nanoseconds: from one write on a quiet machine to a disk that stands still.
    static let bounds: [Int64] = [
        100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000, 100_000_000, 250_000_000,
        500_000_000, 1_000_000_000, 2_500_000_000, 5_000_000_000,
    ]
    private static let buckets = bounds.count + 1
    private static let kinds = NotificationKind.allCases.count
    private static let series = Transport.allCases.count * kinds

    /// By transport, kind and bucket.
    private var counts = Array(repeating: 0, count: series * buckets)
    private var sums = Array(repeating: Int64(0), count: series)

    /// - Parameters:
    ///   - transports: bits, as `LoopCounters` numbers them.
    ///   - kinds: bits, as `NotificationKind` numbers them.
    mutating func note(nanoseconds: Int64, transports: UInt8, kinds: UInt8) {
        let time = max(0, nanoseconds)
        var bucket = 0
        while bucket < Self.bounds.count, time > Self.bounds[bucket] { bucket += 1 }
        for transport in 0..<Transport.allCases.count where transports & 1 << UInt8(transport) != 0 {
            for kind in 0..<Self.kinds where kinds & 1 << UInt8(kind) != 0 {
                let series = transport * Self.kinds + kind
                counts[series * Self.buckets + bucket] += 1
                sums[series] += time
            }
        }
    }

    mutating func add(_ other: DeliveryTimes) {
        for index in counts.indices { counts[index] += other.counts[index] }
        for index in sums.indices { sums[index] += other.sums[index] }
    }

    var exposition: String {
        let name = "tocsin_publish_to_write_seconds"
        var text = "# HELP \(name) From taking a publication to writing it to the last subscriber that is live, by batch.\n"
        text += "# TYPE \(name) histogram\n"
        for transport in Transport.allCases {
            for kind in NotificationKind.allCases {
                let labels = "transport=\"\(transport.rawValue)\",kind=\"\(kind.name)\""
                let series = LoopCounters.index(transport) * Self.kinds + kind.rawValue
                var sum = 0
                for bucket in 0..<Self.buckets {
                    sum += counts[series * Self.buckets + bucket]
                    let bound = bucket < Self.bounds.count ? "\(Double(Self.bounds[bucket]) / 1e9)" : "+Inf"
                    text += "\(name)_bucket{\(labels),le=\"\(bound)\"} \(sum)\n"
                }
                text += "\(name)_sum{\(labels)} \(Double(sums[series]) / 1e9)\n\(name)_count{\(labels)} \(sum)\n"
            }
        }
        return text
    }
}

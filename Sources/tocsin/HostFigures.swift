import Foundation

/// This machine's figures, from `/proc`.
struct HostFigures {
    struct Sample {
        var cpuPercent: Double
        var corePercents: [Double]
        var memoryUsedBytes: Int
        var memoryTotalBytes: Int
        var receivedBytesPerSecond: Double
        var sentBytesPerSecond: Double
    }

    private struct Ticks {
        var busy: Double
        var total: Double
    }

    private var lastCores: [Ticks] = []
    private var lastNetwork: (received: Double, sent: Double)?
    private var lastTime: ContinuousClock.Instant?

    /// - Returns: what changed since the last call; nil the first time.
    mutating func sample() -> Sample? {
        let now = ContinuousClock.now
        let cores = Self.readCores()
        let network = Self.readNetwork()
        let (used, total) = Self.readMemory()
        defer {
            lastCores = cores
            lastNetwork = network
            lastTime = now
        }
        guard let lastTime, let lastNetwork, lastCores.count == cores.count, !cores.isEmpty else { return nil }
        let seconds = max(0.001, Double((now - lastTime).components.attoseconds) / 1e18 + Double((now - lastTime).components.seconds))
        let percents = zip(cores, lastCores).map { now, before in
            now.total > before.total ? 100 * max(0, now.busy - before.busy) / (now.total - before.total) : 0
        }
        return Sample(
            cpuPercent: percents[0], corePercents: Array(percents.dropFirst()), memoryUsedBytes: used, memoryTotalBytes: total,
            receivedBytesPerSecond: max(0, network.received - lastNetwork.received) / seconds,
            sentBytesPerSecond: max(0, network.sent - lastNetwork.sent) / seconds
        )
    }

    private static func lines(_ path: String) -> [Substring] {
        guard let data = FileManager.default.contents(atPath: path) else { return [] }
        return String(decoding: data, as: UTF8.self).split(separator: "\n")
    }

    /// All cores together, then each (proc(5), /proc/stat).
    private static func readCores() -> [Ticks] {
        lines("/proc/stat").prefix { $0.hasPrefix("cpu") }.map { line in
            let numbers = line.split(separator: " ").dropFirst().compactMap { Double($0) }
            let total = numbers.prefix(8).reduce(0, +)
            let idle = numbers.count > 4 ? numbers[3] + numbers[4] : 0
            return Ticks(busy: total - idle, total: total)
        }
    }

    private static func readMemory() -> (used: Int, total: Int) {
        var values: [Substring: Int] = [:]
        for line in lines("/proc/meminfo") {
            let parts = line.split(whereSeparator: { $0 == " " || $0 == ":" })
            if parts.count >= 2, let kilobytes = Int(parts[1]) { values[parts[0]] = kilobytes * 1024 }
        }
        let total = values["MemTotal"] ?? 0
        return (total - (values["MemAvailable"] ?? 0), total)
    }

    /// All interfaces, loopback too: on a demo machine that is where the traffic is.
    private static func readNetwork() -> (received: Double, sent: Double) {
        var received = 0.0
        var sent = 0.0
        for line in lines("/proc/net/dev").dropFirst(2) {
            let numbers = line.split(separator: ":").last?.split(separator: " ").compactMap { Double($0) } ?? []
            if numbers.count >= 9 {
                received += numbers[0]
                sent += numbers[8]
            }
        }
        return (received, sent)
    }
}

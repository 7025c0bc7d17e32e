import Foundation

/// Rules over this machine's figures. Each raises once when its figure goes over its mark, and clears once when it is well below again,
/// so that a figure around the mark does not ring all the time.
struct AlertRules {
    struct Alert {
        var rule: String
        var severity: String
        var priority: String
        var title: String
        var text: String
        var value: Double
    }

    private struct Rule {
        var name: String
        var title: String
        var unit: String
        var high: Double
        var low: Double
        var priority: String
        var figure: @Sendable (HostFigures.Sample, _ connections: Int) -> Double
        var isRaised = false
    }

    private var rules = [
        Rule(name: "cpu-high", title: "CPU is busy", unit: "%", high: 60, low: 30, priority: "high") { sample, _ in sample.cpuPercent },
        Rule(name: "cpu-saturated", title: "CPU is saturated", unit: "%", high: 95, low: 70, priority: "critical") { sample, _ in
            sample.cpuPercent
        },
        Rule(name: "memory-high", title: "Memory runs low", unit: "%", high: 85, low: 75, priority: "critical") { sample, _ in
            100 * Double(sample.memoryUsedBytes) / Double(max(1, sample.memoryTotalBytes))
        },
        Rule(name: "network-busy", title: "Network is busy", unit: " MB/s", high: 5, low: 1, priority: "normal") { sample, _ in
            (sample.receivedBytesPerSecond + sample.sentBytesPerSecond) / 1e6
        },
        Rule(name: "visitors", title: "Somebody is watching", unit: " connections", high: 1, low: 0.5, priority: "low") { _, count in
            Double(count)
        },
    ]

    mutating func check(_ sample: HostFigures.Sample, connections: Int) -> [Alert] {
        var alerts: [Alert] = []
        for index in rules.indices {
            let rule = rules[index]
            let value = (rule.figure(sample, connections) * 10).rounded() / 10
            if !rule.isRaised, value >= rule.high {
                rules[index].isRaised = true
                alerts.append(
                    Alert(
                        rule: rule.name, severity: rule.priority == "critical" ? "critical" : rule.priority == "high" ? "warning" : "info",
                        priority: rule.priority, title: rule.title, text: "\(value)\(rule.unit), the mark is \(rule.high)\(rule.unit)",
                        value: value
                    )
                )
            } else if rule.isRaised, value < rule.low {
                rules[index].isRaised = false
                alerts.append(
                    Alert(
                        rule: rule.name, severity: "resolved", priority: "low", title: rule.title + ": over",
                        text: "back to \(value)\(rule.unit)", value: value
                    )
                )
            }
        }
        return alerts
    }
}

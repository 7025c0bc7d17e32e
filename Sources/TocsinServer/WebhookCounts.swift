import NotificationStore
import Webhooks

/// What became of events, by their type.
struct WebhookCounts: Sendable {
    /// Why an event is not told, where the outbox does not count it itself.
    enum Drop: String, Sendable, CaseIterable {
        /// All attempts failed.
        case attempts
        /// The store could not be written for so long that there was no room in memory.
        case queue
    }

    var sent: [String: Int] = [:]
    /// Attempts.
    var failed: [String: Int] = [:]
    private var dropped: [Drop: [String: Int]] = [:]

    mutating func drop(_ type: String, _ why: Drop) {
        dropped[why, default: [:]][type, default: 0] += 1
    }

    /// - Parameter failing: by receiver, whether it took the last event.
    func exposition(_ figures: OutboxFigures, failing: [(name: String, isFailing: Bool)], nowMilliseconds: Int64) -> String {
        var text = ""
        func metric(_ name: String, _ type: String, _ help: String, _ values: [(labels: String, value: Int)]) {
            text += "# HELP tocsin_webhook_\(name) \(help)\n# TYPE tocsin_webhook_\(name) \(type)\n"
            for (labels, value) in values { text += "tocsin_webhook_\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(value)\n" }
        }
        let types = WebhookEventType.allCases.map(\.rawValue)
        func perType(_ values: [String: Int]) -> [(labels: String, value: Int)] { types.map { ("event=\"\($0)\"", values[$0] ?? 0) } }
        metric("sent_total", "counter", "Events that a receiver has taken.", perType(sent))
        metric("failed_total", "counter", "Attempts to send an event that failed.", perType(failed))
        let reasons = Drop.allCases.map { ($0.rawValue, dropped[$0]) } + OutboxFigures.Loss.allCases.map { ($0.rawValue, figures.lost[$0]) }
        metric(
            "dropped_total", "counter", "Events that are not sent any more, by reason.",
            reasons.flatMap { reason, values in
                types.map { ("event=\"\($0)\",reason=\"\(reason)\"", values?[$0] ?? 0) }
            }
        )
        metric("waiting", "gauge", "Events that wait to be taken, one for each receiver.", perType(figures.waiting))
        let age = figures.oldestMilliseconds.map { Int(max(0, nowMilliseconds - $0) / 1000) } ?? 0
        metric("oldest_age_seconds", "gauge", "Since the oldest event that waits happened; 0: none waits.", [("", age)])
        metric(
            "receiver_failing", "gauge", "1 while a receiver does not take what it is sent.",
            failing.map { ("webhook=\"\($0.name)\"", $0.isFailing ? 1 : 0) }
        )
        metric("alerts_watched", "gauge", "Alerts of which it is to be told if they are left unread.", [("", figures.watched)])
        metric(
            "alerts_unwatched_total", "counter", "Alerts that were not watched because there were too many.", [("", figures.unwatched)])
        return text
    }
}

import Glibc
import JSONCodec

/// Memory of the server, and of the kernel in the whole machine, at one moment; bytes, nil where it cannot be read.
struct MemoryFigures: Sendable {
    let anonymous: Int?
    let tcpBuffers: Int?
    let kernelObjects: Int?

    init(_ processes: [Int32]) {
        anonymous = processes.isEmpty ? nil : ProcessFigures.anonymousBytes(processes)
        tcpBuffers = ProcessFigures.tcpBufferBytes
        kernelObjects = ProcessFigures.kernelObjectBytes
    }
}

/// What a load found.
package struct LoadReport: Sendable {
    let plan: LoadPlan
    var subscribedSeconds = 0.0
    var memoryBefore = MemoryFigures([])
    var memoryAfter = MemoryFigures([])
    /// Deliveries that there have to be, those that warm up among them.
    var expected = 0
    var measuredDeliveries = 0
    var measuredSeconds = 0.0
    var serverCPUSeconds: Double?
    var idleSeconds = 0.0
    var idleCPUSeconds: Double?
    var ownCPUSeconds = 0.0
    /// Until all subscribers listened again and had got what they had missed; nil unless that was measured.
    var resumedSeconds: Double?
    var publisher = PublisherResult()
    var ended = 0
    var firstEnd: String?
    private var subscribers = SubscriberResult(latencies: Histogram())
    /// While messages were timed.
    private var wireBytes = WireBytes()
    private var idleWire = WireBytes()
    private var handshakes = Histogram()
    private var handshakeWire = WireBytes()
    private var resumes = Histogram()

    init(_ plan: LoadPlan) {
        self.plan = plan
    }

    mutating func add(_ result: SubscriberResult) {
        subscribers.latencies.add(result.latencies)
        subscribers.returns.add(result.returns)
        subscribers.delivered += result.delivered
        subscribers.repeated += result.repeated
        subscribers.reordered += result.reordered
        subscribers.foreign += result.foreign
        // Those of a connection that ended are no longer known.
        if let before = result.wires[.measuring], let after = result.wires[.measured] { wireBytes = wireBytes + after.since(before) }
        if let before = result.wires[.idling], let after = result.wires[.warming] { idleWire = idleWire + after.since(before) }
        handshakes.add(result.handshakes)
        handshakeWire = handshakeWire + result.handshakeWire
        resumes.add(result.resumes)
    }

    package var lost: Int { expected - subscribers.delivered }

    /// Whether every subscriber got every message once and in order.
    package var isWhole: Bool {
        lost == 0 && subscribers.repeated == 0 && subscribers.reordered == 0 && subscribers.foreign == 0 && ended == 0
    }

    private func perDelivery(_ value: Double?) -> Double? {
        measuredDeliveries > 0 ? value.map { $0 / Double(measuredDeliveries) } : nil
    }

    private func perSubscriber(_ value: (MemoryFigures) -> Int?) -> Double? {
        guard let before = value(memoryBefore), let after = value(memoryAfter) else { return nil }
        return Double(after - before) / Double(plan.subscribers)
    }

    private var wire: (received: Double?, sent: Double?) {
        ended > 0 ? (nil, nil) : (perDelivery(Double(wireBytes.received)), perDelivery(Double(wireBytes.acknowledged)))
    }

    // MARK: - JSON

    /// One object, in lines.
    package var json: [UInt8] {
        var object = ReportObject()
        object.add("profile", plan.profile.name)
        object.add("transport", plan.transport.rawValue)
        object.add("tls", plan.target.isTLS)
        object.add("subscribers", plan.subscribers)
        object.add("connections", plan.connections)
        object.add("streams_per_connection", plan.streamsEach)
        object.add("channels", plan.channels)
        object.add("payload_bytes", plan.payloadBytes)
        object.add("threads", plan.threads)
        object.add("subscribed_seconds", subscribedSeconds)
        object.add("memory", memory)
        object.add("handshake", handshake)
        if plan.idleSeconds > 0 { object.add("idle", idle) }
        if !plan.onlyMemory { addLoad(to: &object) }
        return object.text(indent: 0) + [UInt8(ascii: "\n")]
    }

    private var memory: ReportObject {
        var memory = ReportObject()
        memory.add("user_bytes_per_subscriber", perSubscriber(\.anonymous), digits: 1)
        memory.add("tcp_buffer_bytes_per_subscriber_both_ends", perSubscriber(\.tcpBuffers), digits: 1)
        memory.add("kernel_object_bytes_per_subscriber_both_ends", perSubscriber(\.kernelObjects), digits: 1)
        memory.add("anonymous_bytes_before", memoryBefore.anonymous.map(Double.init), digits: 0)
        memory.add("anonymous_bytes_after", memoryAfter.anonymous.map(Double.init), digits: 0)
        return memory
    }

    /// Of one connection, until all its subscribers listen.
    private var handshake: ReportObject {
        var object = ReportObject()
        let count = max(1, Double(handshakes.count))
        object.add("connections", Int(handshakes.count))
        Self.add(handshakeWire, dividedBy: count, to: &object)
        object.add("ms", Self.quantiles(handshakes))
        return object
    }

    /// Of one subscriber, a second.
    private var idle: ReportObject {
        var object = ReportObject()
        object.add("seconds", idleSeconds)
        let subscriberSeconds = max(1e-9, idleSeconds * Double(plan.subscribers))
        object.add("server_cpu_us_per_subscriber_second", idleCPUSeconds.map { $0 * 1e6 / subscriberSeconds }, digits: 4)
        Self.add(idleWire, dividedBy: subscriberSeconds, to: &object)
        return object
    }

    private static func add(_ wire: WireBytes, dividedBy divisor: Double, to object: inout ReportObject) {
        object.add("bytes_in", Double(wire.received) / divisor, digits: 3)
        object.add("bytes_out", Double(wire.acknowledged) / divisor, digits: 3)
        object.add("segments_in", Double(wire.segmentsReceived) / divisor, digits: 4)
        object.add("segments_out", Double(wire.segmentsSent) / divisor, digits: 4)
    }

    private func addLoad(to object: inout ReportObject) {
        object.add("rate", plan.rate)
        object.add("messages", plan.messages)
        object.add("warm_up_messages", plan.warmUp)
        object.add("measured_seconds", measuredSeconds)
        object.add("expected", expected)
        object.add("delivered", subscribers.delivered)
        object.add("lost", lost)
        object.add("repeated", subscribers.repeated)
        object.add("reordered", subscribers.reordered)
        object.add("foreign", subscribers.foreign)
        object.add("subscribers_ended", ended)
        if let firstEnd { object.add("first_end", firstEnd) }
        if let resumedSeconds {
            object.add("resumed_seconds", resumedSeconds)
            object.add("resumed_ms", Self.quantiles(subscribers.returns))
        }
        object.add("whole", isWhole)
        object.add("latency_ms", Self.quantiles(subscribers.latencies))
        object.add("publisher_late_ms", Self.quantiles(publisher.lateness))
        var published = ReportObject()
        published.add("sent", publisher.sent)
        published.add("accepted", publisher.accepted)
        published.add("refused", publisher.refused)
        published.add("unanswered", publisher.sent - publisher.accepted - publisher.refused)
        published.add("unsent", publisher.unsent)
        if let refusal = publisher.refusal { published.add("first_refusal_status", refusal) }
        object.add("published", published)
        object.add("measured_deliveries", measuredDeliveries)
        object.add("server_cpu_seconds", serverCPUSeconds, digits: 6)
        object.add("server_cpu_us_per_delivery", perDelivery(serverCPUSeconds).map { $0 * 1e6 }, digits: 4)
        object.add("server_cpu_share_of_a_core", measuredSeconds > 0 ? serverCPUSeconds.map { $0 / measuredSeconds } : nil, digits: 4)
        object.add("generator_cpu_share_of_a_core", measuredSeconds > 0 ? ownCPUSeconds / measuredSeconds : nil, digits: 4)
        object.add("wire_bytes_in_per_delivery", wire.received, digits: 2)
        object.add("wire_bytes_out_per_delivery", wire.sent, digits: 2)
        object.add("segments_in_per_delivery", ended > 0 ? nil : perDelivery(Double(wireBytes.segmentsReceived)), digits: 4)
        object.add("segments_out_per_delivery", ended > 0 ? nil : perDelivery(Double(wireBytes.segmentsSent)), digits: 4)
        if plan.cutMessages > 0 { object.add("resume_ms", Self.quantiles(resumes)) }
    }

    private static func quantiles(_ histogram: Histogram) -> ReportObject {
        var object = ReportObject()
        object.add("count", Int(histogram.count))
        for (name, fraction) in quantileNames { object.add(name, milliseconds(histogram.quantile(fraction)), digits: 4) }
        object.add("max", milliseconds(histogram.maximum), digits: 4)
        object.add("mean", histogram.mean / 1e6, digits: 4)
        return object
    }

    private static let quantileNames = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)]

    private static func milliseconds(_ nanoseconds: Int64) -> Double { Double(nanoseconds) / 1e6 }

    // MARK: - Table

    /// For people: a line a figure.
    package var table: String {
        var rows: [(String, String)] = []
        let tls = plan.target.isTLS ? " over TLS" : ""
        rows.append(
            (
                "load",
                "\(plan.profile.name), \(plan.transport.rawValue)\(tls), \(plan.subscribers) subscribers on \(plan.connections)"
                    + " connections, \(plan.channels) channels"
            ))
        rows.append(("all subscribed in", Self.number(subscribedSeconds, digits: 3) + " s"))
        if !plan.onlyMemory { rows += loadRows }
        rows.append(("user memory per subscriber", Self.text(perSubscriber(\.anonymous), "B", digits: 0)))
        rows.append(
            (
                "kernel memory per subscriber",
                Self.text(perSubscriber(\.kernelObjects), "B of objects", digits: 0) + ", "
                    + Self.text(perSubscriber(\.tcpBuffers), "B of TCP buffers; both ends, whole machine", digits: 0)
            ))
        let width = rows.map(\.0.count).max() ?? 0
        return rows.map { $0.0 + String(repeating: " ", count: width - $0.0.count + 2) + $0.1 + "\n" }.joined()
    }

    private var loadRows: [(String, String)] {
        var rows: [(String, String)] = []
        let rate = Self.number(plan.rate, digits: 1)
        rows.append(("messages", "\(plan.messages) of \(plan.payloadBytes) bytes at \(rate)/s, after \(plan.warmUp) to warm up"))
        rows.append(
            (
                "published",
                "\(publisher.sent) sent, \(publisher.accepted) accepted, \(publisher.refused) refused, "
                    + "\(publisher.unsent) not sent"
            ))
        rows.append(
            (
                "delivered",
                "\(subscribers.delivered) of \(expected): \(lost) lost, \(subscribers.repeated) repeated, "
                    + "\(subscribers.reordered) out of order, \(subscribers.foreign) foreign"
            ))
        if ended > 0 { rows.append(("connections ended", "of \(ended) subscribers; the first: \(firstEnd ?? "")")) }
        if let resumedSeconds {
            rows.append(("all back, with all they missed", Self.number(resumedSeconds, digits: 3) + " s"))
            rows.append(("each back", Self.line(subscribers.returns)))
        }
        rows.append(("latency from due", Self.line(subscribers.latencies)))
        rows.append(("of it the publisher", Self.line(publisher.lateness)))
        rows.append(("server CPU per delivery", Self.text(perDelivery(serverCPUSeconds).map { $0 * 1e6 }, "us", digits: 3)))
        let shares = [serverCPUSeconds, ownCPUSeconds].map { $0.map { Self.number(100 * $0 / max(measuredSeconds, 1e-9), digits: 1) } }
        rows.append(("share of a core", "server \(shares[0] ?? "?") %, load generator \(shares[1] ?? "?") %"))
        rows.append(("bytes per delivery", "in " + Self.text(wire.received, "", digits: 1) + " out " + Self.text(wire.sent, "", digits: 1)))
        return rows
    }

    private static func line(_ histogram: Histogram) -> String {
        let parts = quantileNames.map { name, fraction in
            "\(name.replacing("_", with: ".")) \(number(milliseconds(histogram.quantile(fraction)), digits: 3))"
        }
        return parts.joined(separator: "  ") + "  max \(number(milliseconds(histogram.maximum), digits: 3)) ms"
    }

    private static func text(_ value: Double?, _ unit: String, digits: Int) -> String {
        value.map { number($0, digits: digits) + (unit.isEmpty ? "" : " " + unit) } ?? "not known"
    }

    /// A decimal number with so many digits behind the point.
    static func number(_ value: Double, digits: Int) -> String {
        guard value.isFinite else { return "0" }
        let scale = pow(10, Double(digits))
        let scaled = Int64((abs(value) * scale).rounded())
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard digits > 0 else { return "\(sign)\(scaled)" }
        let (whole, rest) = scaled.quotientAndRemainder(dividingBy: Int64(scale))
        let text = String(rest)
        return "\(sign)\(whole)." + String(repeating: "0", count: digits - text.count) + text
    }
}

/// A JSON object that keeps the order of its members.
struct ReportObject: Sendable {
    private enum Value: Sendable {
        case text(String)
        case literal(String)
        case object(ReportObject)
    }

    private var members: [(name: String, value: Value)] = []

    mutating func add(_ name: String, _ value: String) { members.append((name, .text(value))) }
    mutating func add(_ name: String, _ value: Bool) { members.append((name, .literal(value ? "true" : "false"))) }
    mutating func add(_ name: String, _ value: Int) { members.append((name, .literal(String(value)))) }
    mutating func add(_ name: String, _ value: ReportObject) { members.append((name, .object(value))) }
    mutating func add(_ name: String, _ value: Double?, digits: Int = 3) {
        members.append((name, .literal(value.map { LoadReport.number($0, digits: digits) } ?? "null")))
    }

    func text(indent: Int) -> [UInt8] {
        var out: [UInt8] = Array("{".utf8)
        for (index, (name, value)) in members.enumerated() {
            out += Array((index == 0 ? "\n" : ",\n").utf8) + Array(repeating: 0x20, count: indent + 2)
            JSONText.appendString(name, into: &out)
            out += Array(": ".utf8)
            switch value {
            case .text(let text): JSONText.appendString(text, into: &out)
            case .literal(let text): out += Array(text.utf8)
            case .object(let object): out += object.text(indent: indent + 2)
            }
        }
        return out + Array("\n".utf8) + Array(repeating: 0x20, count: indent) + Array("}".utf8)
    }
}

import Glibc
import Synchronization
import TLSEngine

/// One load from start to end: connects, warms up, publishes on schedule, waits for the rest, counts.
package struct LoadRun {
    private static let pollMicroseconds: UInt32 = 5000
    /// Between the word to begin and the first message.
    private static let leadNanoseconds: Int64 = 50_000_000
    /// After the last delivery, so that the polls that follow it are counted to it.
    private static let afterwardsMicroseconds: UInt32 = 20000

    private let plan: LoadPlan
    private let progress: (String) -> Void
    private let control = LoadControl()

    /// - Parameter progress: gets a line for each step.
    package init(_ plan: LoadPlan, progress: @escaping (String) -> Void = { _ in }) {
        self.plan = plan
        self.progress = progress
    }

    /// - Throws: when not all subscribers could be connected, or the plan cannot work. A loss is no fault; it is in the report.
    package func callAsFunction() throws(LoadFault) -> LoadReport {
        try plan.prepare()
        try checkProfile()
        if plan.onlyMemory, plan.serverProcesses.isEmpty { throw LoadFault("memory is read from the server's process: name it with --pid") }
        var report = LoadReport(plan)
        report.memoryBefore = MemoryFigures(plan.serverProcesses)
        let run = UInt32.random(in: .min ... .max)
        let tls = try tlsContext(plan.target, alpn: plan.transport.isHTTP2 ? ["h2"] : ["http/1.1"])
        let publisherTLS = try tlsContext(plan.publishTarget, alpn: ["http/1.1"])

        let subscribers = (0..<plan.threads).map { index in
            SubscriberThread(
                plan: plan, run: run, tlsContext: tls,
                connections: plan.connections * index / plan.threads..<plan.connections * (index + 1) / plan.threads,
                control: control, gauge: ThreadGauge()
            )
        }
        let publisher = PublisherThread(plan: plan, run: run, tlsContext: publisherTLS, control: control, gauge: ThreadGauge())
        let started = monotonicNanoseconds()
        var threads = subscribers.map { subscriber in LoadThread { subscriber() } }
        defer {
            control.phase = .done
            for thread in threads { thread.join() }
        }
        try waitForSubscribers(subscribers.map(\.gauge))
        report.subscribedSeconds = Double(monotonicNanoseconds() - started) / 1e9
        progress("\(plan.subscribers) subscribed in \(LoadReport.number(report.subscribedSeconds, digits: 3)) s")
        usleep(UInt32(plan.settleSeconds * 1e6))
        report.memoryAfter = MemoryFigures(plan.serverProcesses)
        let gauges = subscribers.map(\.gauge)
        if plan.idleSeconds > 0 { idle(gauges, into: &report) }
        if plan.onlyMemory {
            finish(gauges, &threads, into: &report)
            return report
        }

        threads.append(LoadThread { publisher() })
        try waitForPublisher(publisher.gauge)
        measure(gauges, into: &report)
        if plan.cutMessages > 0 { cut(gauges, publisher: publisher.gauge) }
        finish(gauges, &threads, into: &report)
        report.publisher = publisher.gauge.result!
        report.firstEnd = report.firstEnd ?? publisher.gauge.firstEnd
        return report
    }

    private func finish(_ gauges: [ThreadGauge<SubscriberResult>], _ threads: inout [LoadThread], into report: inout LoadReport) {
        control.phase = .done
        for thread in threads { thread.join() }
        threads = []
        for gauge in gauges { report.add(gauge.result!) }
        report.ended = gauges.reduce(0) { $0 + $1.ended.load(ordering: .relaxed) }
        report.firstEnd = gauges.lazy.compactMap(\.firstEnd).first
    }

    private func begin(_ phase: LoadPhase, _ gauges: [ThreadGauge<SubscriberResult>]) {
        control.phase = phase
        while !gauges.allSatisfy({ $0.hasArrived(at: phase) }) { usleep(Self.pollMicroseconds) }
    }

    /// What it costs that nothing is published: heartbeats, and polls without an answer.
    private func idle(_ gauges: [ThreadGauge<SubscriberResult>], into report: inout LoadReport) {
        begin(.idling, gauges)
        let before = ProcessFigures.cpuNanoseconds(plan.serverProcesses)
        let start = monotonicNanoseconds()
        usleep(UInt32(plan.idleSeconds * 1e6))
        let after = ProcessFigures.cpuNanoseconds(plan.serverProcesses)
        begin(.warming, gauges)
        report.idleSeconds = Double(monotonicNanoseconds() - start) / 1e9
        if !plan.serverProcesses.isEmpty, let before, let after { report.idleCPUSeconds = Double(after - before) / 1e9 }
        progress("idle for \(LoadReport.number(report.idleSeconds, digits: 1)) s")
    }

    /// Cuts all connections, publishes what they miss, and lets them come back.
    private func cut(_ gauges: [ThreadGauge<SubscriberResult>], publisher: ThreadGauge<PublisherResult>) {
        begin(.cut, gauges)
        let start = monotonicNanoseconds()
        control.cutStart.store(start, ordering: .releasing)
        let deadline = start + Int64(plan.patienceSeconds * 1e9)
        while publisher.delivered.load(ordering: .relaxed) < plan.numbers.count, monotonicNanoseconds() < deadline {
            usleep(Self.pollMicroseconds)
        }
        begin(.resuming, gauges)
        let expected = Tally.expected(messages: plan.numbers, channels: plan.channels, subscribers: 0..<plan.subscribers)
        waitForDeliveries(expected, end: monotonicNanoseconds(), gauges)
        progress("cut, and came back")
    }

    private func checkProfile() throws(LoadFault) {
        let isThere =
            switch plan.transport {
            case .webSocket, .webSocketHTTP2: plan.profile.webSocket != nil
            case .eventStream, .eventStreamHTTP2: plan.profile.eventStream != nil
            case .longPoll: plan.profile.longPoll != nil
            case .longPollHTTP2: plan.profile.longPoll?.hasOnlyBodyCaptures ?? false
            case .shortPoll: plan.profile.shortPoll != nil
            }
        guard plan.cutMessages == 0 || plan.profile.resume != nil else {
            throw LoadFault("the profile \(plan.profile.name) does not say how to resume")
        }
        guard isThere else { throw LoadFault("the profile \(plan.profile.name) has nothing for \(plan.transport.rawValue)") }
    }

    private func tlsContext(_ target: Target, alpn: [String]) throws(LoadFault) -> TLSContext? {
        guard target.isTLS else { return nil }
        do throws(TLSFault) {
            // A load on a certificate of the machine's own. The handshake costs the server the same.
            return try TLSContext(clientTrusting: nil, verifies: false, alpn: alpn)
        } catch {
            throw LoadFault("TLS: \(error)")
        }
    }

    private func waitForSubscribers(_ gauges: [ThreadGauge<SubscriberResult>]) throws(LoadFault) {
        let deadline = monotonicNanoseconds() + Int64(plan.connectSecondsMax * 1e9)
        while true {
            let ready = gauges.reduce(0) { $0 + $1.ready.load(ordering: .relaxed) }
            if let why = gauges.lazy.compactMap(\.firstEnd).first {
                throw LoadFault("\(ready) of \(plan.subscribers) had subscribed, then one could not: \(why)")
            }
            if ready == plan.subscribers { return }
            guard monotonicNanoseconds() < deadline else {
                throw LoadFault("only \(ready) of \(plan.subscribers) had subscribed after \(plan.connectSecondsMax) s")
            }
            usleep(Self.pollMicroseconds)
        }
    }

    private func waitForPublisher(_ gauge: ThreadGauge<PublisherResult>) throws(LoadFault) {
        let deadline = monotonicNanoseconds() + Int64(plan.connectSecondsMax * 1e9)
        while gauge.ready.load(ordering: .relaxed) < min(plan.publishConnections, plan.channels) {
            if let why = gauge.firstEnd { throw LoadFault("the publisher has no connection: \(why)") }
            guard monotonicNanoseconds() < deadline else { throw LoadFault("the publisher could not connect in time") }
            usleep(Self.pollMicroseconds)
        }
    }

    private func measure(_ gauges: [ThreadGauge<SubscriberResult>], into report: inout LoadReport) {
        let allSubscribers = 0..<plan.subscribers
        let warmUpExpected = Tally.expected(messages: 0..<plan.warmUp, channels: plan.channels, subscribers: allSubscribers)
        report.expected = Tally.expected(messages: plan.numbers, channels: plan.channels, subscribers: allSubscribers)
        let beforeCut = Tally.expected(messages: 0..<plan.timed.upperBound, channels: plan.channels, subscribers: allSubscribers)
        if plan.warmUp > 0 {
            control.phase = .warming
            let start = monotonicNanoseconds() + Self.leadNanoseconds
            control.warmUpStart.store(start, ordering: .releasing)
            waitForDeliveries(warmUpExpected, end: Schedule(start: start, rate: plan.rate, numbers: 0..<plan.warmUp).end, gauges)
            progress("warmed up with \(plan.warmUp) messages")
        }
        begin(.measuring, gauges)
        let deliveredBefore = delivered(gauges)
        let serverBefore = ProcessFigures.cpuNanoseconds(plan.serverProcesses)
        let ownBefore = ProcessFigures.ownCPUNanoseconds
        let start = monotonicNanoseconds() + Self.leadNanoseconds
        control.measureStart.store(start, ordering: .releasing)
        let schedule = Schedule(start: start, rate: plan.rate, numbers: plan.timed)
        waitForDeliveries(beforeCut, end: schedule.end, gauges)
        usleep(Self.afterwardsMicroseconds)
        report.measuredSeconds = Double(monotonicNanoseconds() - start) / 1e9
        report.ownCPUSeconds = Double(ProcessFigures.ownCPUNanoseconds - ownBefore) / 1e9
        if !plan.serverProcesses.isEmpty, let serverBefore, let serverAfter = ProcessFigures.cpuNanoseconds(plan.serverProcesses) {
            report.serverCPUSeconds = Double(serverAfter - serverBefore) / 1e9
        }
        report.measuredDeliveries = delivered(gauges) - deliveredBefore
        begin(.measured, gauges)
    }

    /// Until so many have come, nobody listens any more, or nothing came for as long as the plan's patience behind the last due time.
    private func waitForDeliveries(_ expected: Int, end: Int64, _ gauges: [ThreadGauge<SubscriberResult>]) {
        let patience = Int64(plan.patienceSeconds * 1e9)
        var seen = -1
        var giveUpAt = end + patience
        while true {
            let delivered = delivered(gauges)
            let now = monotonicNanoseconds()
            if delivered != seen {
                seen = delivered
                giveUpAt = max(end, now) + patience
            }
            let ended = gauges.reduce(0) { $0 + $1.ended.load(ordering: .relaxed) }
            guard delivered < expected, now < giveUpAt, ended < plan.subscribers else { return }
            usleep(Self.pollMicroseconds)
        }
    }

    private func delivered(_ gauges: [ThreadGauge<SubscriberResult>]) -> Int {
        gauges.reduce(0) { $0 + $1.delivered.load(ordering: .relaxed) }
    }
}

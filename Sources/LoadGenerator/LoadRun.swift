import Glibc
import Synchronization
import TLSEngine

/// One load from start to end: connects, warms up, publishes on schedule, waits for the rest, counts.
package struct LoadRun {
    private static let pollMicroseconds: UInt32 = 5000
    private static let resumePollMicroseconds: UInt32 = 1000
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
        let run = plan.run ?? UInt32.random(in: .min ... .max)
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

        if !plan.onlyListens {
            threads.append(LoadThread { publisher() })
            try waitForPublisher(publisher.gauge)
        }
        if plan.resumes {
            measureResuming(gauges, publisher.gauge, into: &report)
        } else {
            measure(gauges, into: &report)
            if plan.cutMessages > 0 { cut(gauges, publisher: publisher.gauge) }
        }
        finish(gauges, &threads, into: &report)
        report.publisher = publisher.gauge.result ?? report.publisher
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

    /// What it costs that nothing is published: heartbeats, and polls without an answer.
    private func idle(_ gauges: [ThreadGauge<SubscriberResult>], into report: inout LoadReport) {
        enter(.idling, gauges)
        let before = ProcessFigures.cpuNanoseconds(plan.serverProcesses)
        let start = monotonicNanoseconds()
        usleep(UInt32(plan.idleSeconds * 1e6))
        let after = ProcessFigures.cpuNanoseconds(plan.serverProcesses)
        enter(.warming, gauges)
        report.idleSeconds = Double(monotonicNanoseconds() - start) / 1e9
        if !plan.serverProcesses.isEmpty, let before, let after { report.idleCPUSeconds = Double(after - before) / 1e9 }
        progress("idle for \(LoadReport.number(report.idleSeconds, digits: 1)) s")
    }

    /// Cuts all connections, publishes what they miss, and lets them come back.
    private func cut(_ gauges: [ThreadGauge<SubscriberResult>], publisher: ThreadGauge<PublisherResult>) {
        enter(.cut, gauges)
        let start = monotonicNanoseconds()
        control.cutStart.store(start, ordering: .releasing)
        waitUntilAccepted(by: start + Int64(plan.patienceSeconds * 1e9), publisher)
        enter(.resuming, gauges)
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
        guard isThere else { throw LoadFault("the profile \(plan.profile.name) has nothing for \(plan.transport.rawValue)") }
        guard plan.batch == 1 || plan.profile.publishBatch != nil else {
            throw LoadFault("the profile \(plan.profile.name) does not say how a batch is published")
        }
        guard plan.resumes || plan.cutMessages > 0 else { return }
        guard let resume = plan.profile.resume else {
            throw LoadFault("the profile \(plan.profile.name) does not say how one resumes")
        }
        let captures = plan.profile.longPoll?.captures ?? []
        guard !plan.transport.isPoll || captures.contains(where: { $0.name == resume.capture.name }) else {
            throw LoadFault("the profile \(plan.profile.name) has no capture \"\(resume.capture.name)\" for polls, which it resumes with")
        }
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

    /// All threads have done what the phase begins with when this returns.
    private func enter(_ phase: LoadPhase, _ gauges: [ThreadGauge<SubscriberResult>]) {
        control.phase = phase
        while !gauges.allSatisfy({ $0.hasArrived(at: phase) }) { usleep(Self.pollMicroseconds) }
    }

    private func warmUp(_ gauges: [ThreadGauge<SubscriberResult>], into report: inout LoadReport) {
        let allSubscribers = 0..<plan.subscribers
        report.expected = Tally.expected(messages: plan.numbers, channels: plan.channels, subscribers: allSubscribers)
        guard plan.warmUp > 0 else { return }
        control.phase = .warming
        let start = monotonicNanoseconds() + Self.leadNanoseconds
        control.warmUpStart.store(start, ordering: .releasing)
        waitForDeliveries(
            Tally.expected(messages: 0..<plan.warmUp, channels: plan.channels, subscribers: allSubscribers),
            end: Schedule(start: start, rate: plan.rate, numbers: 0..<plan.warmUp, batch: plan.batch).end, gauges
        )
        progress("warmed up with \(plan.warmUp) messages")
    }

    /// All connections are cut; what is published meanwhile has been accepted when all come back at once, each with its position.
    private func measureResuming(
        _ gauges: [ThreadGauge<SubscriberResult>], _ publisher: ThreadGauge<PublisherResult>, into report: inout LoadReport
    ) {
        warmUp(gauges, into: &report)
        enter(.cut, gauges)
        let start = monotonicNanoseconds() + Self.leadNanoseconds
        control.measureStart.store(start, ordering: .releasing)
        let schedule = Schedule(start: start, rate: plan.rate, numbers: plan.timed, batch: plan.batch)
        waitUntilAccepted(by: schedule.end + Int64(plan.patienceSeconds * 1e9), publisher)
        time(into: &report) { report in
            let resumed = monotonicNanoseconds()
            control.resumeStart.store(resumed, ordering: .relaxed)
            enter(.resuming, gauges)
            waitUntilAllAreBack(since: resumed, expected: report.expected, gauges)
            report.resumedSeconds = Double(monotonicNanoseconds() - resumed) / 1e9
            return resumed
        }
        report.measuredDeliveries = plan.subscribers * plan.messages / plan.channels
        // What comes twice comes behind.
        usleep(Self.afterwardsMicroseconds)
    }

    /// Until all that is published has been answered.
    private func waitUntilAccepted(by deadline: Int64, _ publisher: ThreadGauge<PublisherResult>) {
        while publisher.delivered.load(ordering: .relaxed) < plan.numbers.count, monotonicNanoseconds() < deadline {
            usleep(Self.pollMicroseconds)
        }
    }

    /// Or until one could not come back, or nothing happens any more.
    private func waitUntilAllAreBack(since start: Int64, expected: Int, _ gauges: [ThreadGauge<SubscriberResult>]) {
        var seen = 0
        var lastProgress = start
        while gauges.allSatisfy({ $0.firstEnd == nil }) {
            let ready = gauges.reduce(0) { $0 + $1.ready.load(ordering: .relaxed) }
            let delivered = delivered(gauges)
            guard ready < plan.subscribers || delivered < expected else { return }
            let now = monotonicNanoseconds()
            if ready + delivered != seen { (seen, lastProgress) = (ready + delivered, now) }
            let patienceSeconds = ready < plan.subscribers ? plan.connectSecondsMax : plan.patienceSeconds
            guard now < lastProgress + Int64(patienceSeconds * 1e9) else { return }
            usleep(Self.resumePollMicroseconds)
        }
    }

    private func measure(_ gauges: [ThreadGauge<SubscriberResult>], into report: inout LoadReport) {
        warmUp(gauges, into: &report)
        enter(.measuring, gauges)
        let deliveredBefore = delivered(gauges)
        time(into: &report) { report in
            let start = monotonicNanoseconds() + Self.leadNanoseconds
            control.measureStart.store(start, ordering: .releasing)
            if plan.onlyListens { progress("listening") }
            let schedule = Schedule(start: start, rate: plan.rate, numbers: plan.timed, batch: plan.batch)
            let beforeCut = 0..<plan.timed.upperBound
            waitForDeliveries(
                Tally.expected(messages: beforeCut, channels: plan.channels, subscribers: 0..<plan.subscribers), end: schedule.end, gauges
            )
            // What is repeated may come late.
            usleep(plan.onlyListens ? 1_000_000 : Self.afterwardsMicroseconds)
            return start
        }
        report.measuredDeliveries = delivered(gauges) - deliveredBefore
        enter(.measured, gauges)
    }

    /// Time and processor time of what `body` does.
    ///
    /// - Parameter body: answers when it began.
    private func time(into report: inout LoadReport, _ body: (inout LoadReport) -> Int64) {
        let serverBefore = ProcessFigures.cpuNanoseconds(plan.serverProcesses)
        let ownBefore = ProcessFigures.ownCPUNanoseconds
        let start = body(&report)
        report.measuredSeconds = Double(monotonicNanoseconds() - start) / 1e9
        report.ownCPUSeconds = Double(ProcessFigures.ownCPUNanoseconds - ownBefore) / 1e9
        if !plan.serverProcesses.isEmpty, let serverBefore, let serverAfter = ProcessFigures.cpuNanoseconds(plan.serverProcesses) {
            report.serverCPUSeconds = Double(serverAfter - serverBefore) / 1e9
        }
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

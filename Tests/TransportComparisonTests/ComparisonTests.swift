import Foundation
import Testing
import TransportComparison

/// A comparison whose figures are made up.
enum Sample {
    static let settings = Comparison.Settings(
        payloadBytes: 128, heartbeatSeconds: 25, clients: 100, memoryClients: 1000, sharedStreams: 100, idleSeconds: 50, rareSeconds: 20,
        shapeClients: 10, shapeRate: 10, missedMessages: 5
    )

    static func quantiles(_ value: Double) -> Quantiles {
        Quantiles(count: 1000, p50: value, p99: value * 2, p999: value * 3, max: value * 4)
    }

    static func wire(_ bytes: Double) -> Wire { Wire(bytesIn: bytes, bytesOut: 0, segmentsIn: 1, segmentsOut: 1) }

    /// Every transport costs the same, but for what `change` does.
    static func comparison(_ change: (inout Comparison.Figures) -> Void = { _ in }) -> Comparison {
        let machine = Comparison.Machine(cores: 2, processor: "a processor <of> \"tests\"", memoryBytes: 8_000_000_000, kernel: "6.1")
        var comparison = Comparison(version: "0", date: "2026-01-01T00:00:00Z", isQuick: false, machine: machine, settings: settings)
        for id in TransportID.allCases {
            var figures = Comparison.Figures(id)
            figures.handshakes = [false, true].map { Comparison.Handshake(tls: $0, wire: wire(600)) }
            figures.rates = [0.05, 1, 10, 100].map { rate in
                Comparison.AtRate(
                    rate: rate, clients: 100, seconds: 10 / rate,
                    delivery: Delivery(expected: 1000, delivered: 1000, lost: 0, repeated: 0, reordered: 0), latency: quantiles(2),
                    cpuPerMessage: 5, wire: wire(300)
                )
            }
            figures.idle = Comparison.Idle(
                seconds: 50, cpu: 1, cpuWithoutClients: 100, wire: Wire(bytesIn: 1, bytesOut: 1, segmentsIn: 0, segmentsOut: 0))
            figures.memory = Comparison.Memory(clients: 1000, user: 4000, kernelBothEnds: 8000)
            figures.resume = quantiles(3)
            change(&figures)
            comparison.transports.append(figures)
        }
        var shape = Comparison.Shape(name: "80 ms", roundTripMilliseconds: 80, lossPercent: 0, kilobitsPerSecond: nil)
        shape.cells = TransportID.allCases.flatMap { id in
            [false, true].map { tls in
                Comparison.Shape.Cell(
                    transport: id, tls: tls, handshake: quantiles(160), handshakeWire: wire(600), latency: quantiles(41),
                    resume: quantiles(200), delivery: Delivery(expected: 10, delivered: 10, lost: 0, repeated: 0, reordered: 0)
                )
            }
        }
        comparison.shapes = [shape]
        comparison.claims = comparison.judged()
        return comparison
    }
}

@Suite struct ComparisonTests {
    @Test("a comparison that is written as JSON is read as the same")
    func json() throws {
        let comparison = Sample.comparison()
        let written = try comparison.json()
        let again = try Comparison(json: written)
        #expect(try again.json() == written)
        #expect(HTMLPage(again).html == HTMLPage(comparison).html)
        #expect(MarkdownPage(again).markdown == MarkdownPage(comparison).markdown)
    }

    @Test("a comparison of another format is refused")
    func format() throws {
        var comparison = Sample.comparison()
        comparison.format = 99
        let written = try comparison.json()
        #expect(throws: ComparisonFault.self) { try Comparison(json: written) }
    }

    @Test("what a client costs is what it costs idle, and each message what goes beyond that")
    func costs() throws {
        let figures = try #require(Sample.comparison()[.webSocket])
        // 1000 deliveries in a second: 100 clients at 1 us and the server's 100 us are 0.2 us of each 5; 1 + 10 * 4.8.
        let cost = try #require(figures.cpuPerClientSecond(rate: 10))
        #expect(abs(cost - 49) < 1e-6)
        #expect(abs(try #require(figures.clientsPerCore(rate: 10)) - 1e6 / 49) < 1e-3)
        #expect(figures.clientsPerGigabyte == 250_000)
        #expect(figures.clientsPerKernelGigabyte == 250_000)
        #expect(figures.clientsPerCore(rate: 7) == nil)
        // At 1 a second: 404 bytes a message, 2 of them idling; 3600 * 2 + 60 * 402. And 3600 * 1 + 60 * (5 - 2) us.
        let hour = try #require(figures.hourAtOneAMinute)
        #expect(abs(hour.bytes - 31_320) < 1e-6)
        #expect(abs(hour.cpuMilliseconds - 3.78) < 1e-9)
    }

    @Test("a comparison is whole as long as nothing was lost and nothing came twice")
    func whole() {
        #expect(Sample.comparison().isWhole)
        #expect(!Sample.comparison { $0.rates[1].delivery.lost = 1 }.isWhole)
        var comparison = Sample.comparison()
        comparison.shapes[0].cells[3].delivery.repeated = 1
        #expect(!comparison.isWhole)
    }

    @Test(
        "figures have three digits that count",
        arguments: [
            (0, "0"), (0.01234, "0.0123"), (1, "1"), (1.2, "1.2"), (9.996, "10"), (12.34, "12.3"), (99.96, "100"), (123.4, "123"),
            (1234, "1,230"), (1_234_567, "1,230,000"), (-12.34, "-12.3"), (.nan, "–"),
        ]
    )
    func numbers(value: Double, text: String) {
        #expect(number(value) == text)
    }
}

@Suite struct ClaimTests {
    private static func verdict(_ place: Int, _ change: (inout Comparison.Figures) -> Void) -> Claim.Verdict {
        Sample.comparison(change).claims[place].verdict
    }

    @Test("smaller messages: than all others, than none, than some")
    func smaller() {
        #expect(Self.verdict(0) { if $0.transport == .webSocket { $0.rates[2].wire.bytesIn = 100 } } == .held)
        #expect(Self.verdict(0) { _ in } == .didNotHold)
        #expect(Self.verdict(0) { if $0.transport == .longPoll { $0.rates[2].wire.bytesIn = 1000 } } == .depends)
    }

    @Test("polling: cheap and soon, dear and late, cheap but late")
    func polling() {
        #expect(Self.verdict(1) { _ in } == .held)
        let isPoll = { (figures: Comparison.Figures) in figures.transport.family == .shortPoll }
        #expect(
            Self.verdict(1) { figures in
                guard isPoll(figures) else { return }
                figures.rates[0].latency.p50 = 2500
                figures.idle!.cpu = 100
                figures.idle!.wire.bytesIn = 500
            } == .didNotHold)
        #expect(Self.verdict(1) { if isPoll($0) { $0.rates[0].latency.p50 = 2500 } } == .depends)
    }

    @Test("one-way: as good as a WebSocket, much worse, worse in one")
    func oneWay() {
        #expect(Self.verdict(2) { _ in } == .held)
        #expect(Self.verdict(2) { if $0.transport == .eventStream { $0.memory!.user = 9000 } } == .depends)
        #expect(Self.verdict(2) { if $0.transport == .eventStream { $0.rates[3].delivery.lost = 1 } } == .depends)
    }

    @Test("at scale: no cheaper when all cost the same")
    func scale() {
        #expect(Self.verdict(3) { _ in } == .didNotHold)
        #expect(
            Self.verdict(3) { figures in
                guard figures.transport == .webSocket else { return }
                figures.memory!.user = 2000
                for index in figures.rates.indices { figures.rates[index].cpuPerMessage = 2 }
            } == .held)
    }

    @Test("HTTP/2: cheap only where streams share a connection")
    func cheap() {
        #expect(Self.verdict(4) { _ in } == .didNotHold)
        #expect(
            Self.verdict(4) { figures in
                guard figures.transport == .eventStreamHTTP2Shared else { return }
                (figures.memory!.user, figures.rates[2].cpuPerMessage) = (1000, 1)
            } == .depends)
    }

    @Test("without its figures a claim is not judged")
    func missing() {
        #expect(Self.verdict(0) { if $0.transport == .eventStream { $0.rates = [] } } == .notMeasured)
        #expect(Self.verdict(3) { $0.memory = nil } == .notMeasured)
        #expect(Sample.comparison().claims.count == 5)
    }
}

@Suite struct PageTests {
    @Test("the page needs nothing else, says what is escaped, and has every transport, plot and claim")
    func html() {
        let comparison = Sample.comparison()
        let page = HTMLPage(comparison).html
        for load in ["http:", "https:", "src=", "@import", "url(", "<script", "<link"] { #expect(!page.contains(load), "\(load)") }
        #expect(page.contains("a processor &lt;of&gt; &quot;tests&quot;"))
        for id in TransportID.allCases { #expect(page.contains(">\(id.name)</text>")) }
        for claim in comparison.claims { #expect(page.contains(claim.text)) }
        for word in ["NaN", "nan", "inf", "Optional"] { #expect(!page.contains("\"\(word)") && !page.contains(">\(word)"), "\(word)") }
        #expect(page.components(separatedBy: "<svg").count == page.components(separatedBy: "</svg>").count)
        #expect(page.components(separatedBy: "<svg").count > 15)
        #expect(page.contains("prefers-color-scheme: dark") && page.contains("width=device-width"))
    }

    @Test("what was not measured is said, and drawn as nothing")
    func missing() {
        var comparison = Sample.comparison { figures in
            (figures.memory, figures.idle, figures.resume) = (nil, nil, nil)
            figures.rates = []
        }
        comparison.shapes = []
        comparison.shapesBy = "The networks were not measured: only root can."
        comparison.missing = ["TLS was not measured"]
        for page in [HTMLPage(comparison).html, MarkdownPage(comparison).markdown] {
            #expect(page.contains("only root can") && page.contains("TLS was not measured"))
            #expect(page.contains("not measured"))
        }
    }

    @Test("the tables have a row for each transport, and as many cells in each row as in the head")
    func markdown() {
        let lines = MarkdownPage(Sample.comparison()).markdown.split(separator: "\n").map(String.init)
        var cells = 0
        var tables = 0
        for (before, line) in zip([""] + lines, lines) where line.hasPrefix("|") {
            let count = line.count { $0 == "|" }
            if !before.hasPrefix("|") { (cells, tables) = (count, tables + 1) }
            #expect(count == cells, "\(line)")
        }
        #expect(tables > 10)
        for id in TransportID.allCases { #expect(lines.count { $0.hasPrefix("| \(id.name) |") } > 8) }
    }
}

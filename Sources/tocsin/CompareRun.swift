import Dispatch
import Foundation
import LoadGenerator
import Synchronization
import TransportComparison

/// One comparison from start to end.
struct ComparisonRun: Sendable {
    private let isQuick: Bool
    private let scale: Scale
    private let progress: ComparisonProgress

    /// How much of everything.
    private struct Scale: Sendable {
        struct Load: Sendable {
            var rate: Double
            var messages: Int
            var seconds: Double { Double(messages) / rate }
        }

        var settings: Comparison.Settings
        var settleSeconds: Double
        var loads: [Load]
        var rareMessages: Int
        var resumeClients: Int
        var shapes: [Comparison.Shape]
        var shapeMessages: Int

        static let full = Scale(
            settings: Comparison.Settings(
                payloadBytes: 128, heartbeatSeconds: 25, clients: 200, memoryClients: 1000, sharedStreams: 100, idleSeconds: 50,
                rareSeconds: 15, shapeClients: 10, shapeRate: 10, missedMessages: 5
            ),
            settleSeconds: 2, loads: [Load(rate: 1, messages: 10), Load(rate: 10, messages: 60), Load(rate: 100, messages: 500)],
            rareMessages: 3, resumeClients: 50,
            shapes: [
                Comparison.Shape(name: "20 ms", roundTripMilliseconds: 20, lossPercent: 0, kilobitsPerSecond: nil),
                Comparison.Shape(name: "80 ms", roundTripMilliseconds: 80, lossPercent: 0, kilobitsPerSecond: nil),
                Comparison.Shape(name: "200 ms", roundTripMilliseconds: 200, lossPercent: 0, kilobitsPerSecond: nil),
                Comparison.Shape(name: "80 ms, 1 % loss", roundTripMilliseconds: 80, lossPercent: 1, kilobitsPerSecond: nil),
                Comparison.Shape(name: "20 ms, 1 Mbit/s", roundTripMilliseconds: 20, lossPercent: 0, kilobitsPerSecond: 1000),
            ],
            shapeMessages: 60
        )

        static let quick = Scale(
            settings: Comparison.Settings(
                payloadBytes: 128, heartbeatSeconds: 2, clients: 5, memoryClients: 60, sharedStreams: 20, idleSeconds: 6, rareSeconds: 3,
                shapeClients: 3, shapeRate: 10, missedMessages: 3
            ),
            settleSeconds: 0.2, loads: [Load(rate: 1, messages: 2), Load(rate: 10, messages: 10), Load(rate: 100, messages: 50)],
            rareMessages: 2, resumeClients: 5,
            shapes: [Comparison.Shape(name: "80 ms", roundTripMilliseconds: 80, lossPercent: 0, kilobitsPerSecond: nil)],
            shapeMessages: 10
        )
    }

    init(isQuick: Bool) {
        self.isQuick = isQuick
        scale = isQuick ? .quick : .full
        progress = ComparisonProgress()
    }

    func callAsFunction() async throws -> Comparison {
        let leftovers = ComparisonLeftovers()
        let signals = [SIGINT, SIGTERM].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler {
                leftovers.clear()
                exit(128 + number)
            }
            source.resume()
            return source
        }
        defer {
            for signal in signals { signal.cancel() }
            leftovers.clear()
        }
        let started = Date.now
        var comparison = Comparison(
            version: Tocsin.version, date: started.formatted(.iso8601), isQuick: isQuick, machine: Self.machine, settings: scale.settings
        )
        let place = try makePlace(leftovers)
        var certificate: [URL] = []
        do {
            certificate = try makeCertificate(place.folder)
        } catch {
            comparison.missing.append("TLS was not measured, for there is no certificate: \(error)")
        }
        let gathered = Gathered()
        let steps = makeSteps(place, certificate, gathered)
        progress.begin(seconds: isQuick ? steps.map(\.seconds).max()! : steps.reduce(0) { $0 + $1.seconds })
        if isQuick {
            // The first alone, since memory is that of the whole machine; the others side by side.
            await steps[0].run()
            await withTaskGroup(of: Void.self) { group in
                for step in steps.dropFirst() { group.addTask { await step.run() } }
            }
        } else {
            for step in steps {
                await step.run()
                progress.did(step.seconds)
            }
        }
        progress.end()
        gathered.give(to: &comparison)
        comparison.seconds = (Date.now.timeIntervalSince(started) * 10).rounded() / 10
        comparison.claims = comparison.judged()
        return comparison
    }

    // MARK: - Before it begins

    private func makePlace(_ leftovers: ComparisonLeftovers) throws -> ComparisonPlace {
        let folder = FileManager.default.temporaryDirectory.appending(path: "tocsin-compare-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        leftovers.set(folder: folder)
        // A long-poll waits as long as the others' heartbeats are apart.
        let profile = folder.appending(path: "profile.json")
        let text = Profile.tocsin.replacing("wait=300", with: "wait=\(scale.settings.heartbeatSeconds)")
        try Data(text.utf8).write(to: profile)
        let program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        return ComparisonPlace(program: program, folder: folder, leftovers: leftovers, profile: profile)
    }

    private func makeCertificate(_ folder: URL) throws -> [URL] {
        let (chain, key) = (folder.appending(path: "chain.pem"), folder.appending(path: "key.pem"))
        try Child.run([
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
            "/CN=compare", "-keyout", key.path, "-out", chain.path,
        ])
        return [chain, key]
    }

    private static var machine: Comparison.Machine {
        func text(_ path: String) -> String { String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self) }
        let processor = text("/proc/cpuinfo").split(separator: "\n").first { $0.hasPrefix("model name") }
        return Comparison.Machine(
            cores: ProcessInfo.processInfo.activeProcessorCount,
            processor: processor?.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) } ?? "unknown processor",
            memoryBytes: Int(clamping: ProcessInfo.processInfo.physicalMemory),
            kernel: text("/proc/sys/kernel/osrelease").trimmingCharacters(in: .whitespacesAndNewlines)
        )
    }

    // MARK: - Steps

    private struct Step: Sendable {
        var seconds: Double
        var run: @Sendable () async -> Void
    }

    private func makeSteps(_ place: ComparisonPlace, _ certificate: [URL], _ gathered: Gathered) -> [Step] {
        let connecting = 2.0
        func load(_ id: TransportID) -> Double { scale.loads.reduce(0) { $0 + $1.seconds + connecting + (id.pollSeconds ?? 0) * 1.5 } + 4 }
        let memory = isQuick ? 9.0 : 9 * (scale.settleSeconds + connecting)
        var steps = [Step(seconds: memory) { await measureMemory(place, gathered) }]
        if isQuick {
            steps += TransportID.allCases.map { id in Step(seconds: load(id)) { await measureLoads(id, place, certificate, gathered) } }
        } else {
            for id in TransportID.allCases {
                steps.append(Step(seconds: load(id)) { await measureLoads(id, place, certificate, gathered) })
            }
        }
        let rare = scale.settings.idleSeconds + Double(scale.rareMessages) * scale.settings.rareSeconds + connecting
        steps.append(Step(seconds: rare) { await measureRare(place, gathered) })
        let shape = Double(scale.shapeMessages) / scale.settings.shapeRate + 9
        steps.append(
            Step(seconds: shape * Double(scale.shapes.count) * (certificate.isEmpty ? 1 : 2)) {
                await measureShapes(place, certificate, gathered)
            })
        return steps
    }

    private func bench(
        _ place: ComparisonPlace, _ id: TransportID, _ server: ServerChild, clients: Int, _ more: [String], tls: Bool = false
    ) async throws -> BenchReport {
        let url = tls ? "https://127.0.0.1:\(server.tlsPort ?? 0)" : "http://127.0.0.1:\(server.port)"
        return try await BenchReport.run(
            place, id,
            ["--url", url, "--pid", String(server.process), "--subscribers", String(clients), "--publishers", "1"]
                + ["--payload", String(scale.settings.payloadBytes), "--streams", streams(id, of: clients)] + more
        )
    }

    private func streams(_ id: TransportID, of clients: Int) -> String {
        String(id == .eventStreamHTTP2Shared ? min(clients, scale.settings.sharedStreams) : 1)
    }

    private func withServer(
        _ place: ComparisonPlace, _ certificate: [URL], _ gathered: Gathered, _ what: String,
        _ body: (ServerChild) async throws -> Void
    ) async {
        do {
            let server = try ServerChild(place, heartbeat: scale.settings.heartbeatSeconds, certificate: certificate)
            defer { server.end() }
            try await body(server)
        } catch {
            gathered.add(missing: "\(what): \(error)")
        }
    }

    private func measureMemory(_ place: ComparisonPlace, _ gathered: Gathered) async {
        for id in TransportID.allCases {
            progress.say("memory of idle clients: \(id.name)")
            await withServer(place, [], gathered, "memory, \(id.name)") { server in
                let clients = scale.settings.memoryClients
                let report = try await bench(place, id, server, clients: clients, ["--memory", "--settle", String(scale.settleSeconds)])
                guard let user = report.memory.userBytesPerSubscriber, let kernel = report.memory.kernelObjectBytesPerSubscriberBothEnds
                else { throw ComparisonFault("no figures of memory") }
                gathered.change(id) { $0.memory = Comparison.Memory(clients: clients, user: user, kernelBothEnds: kernel) }
            }
        }
    }

    private func measureLoads(_ id: TransportID, _ place: ComparisonPlace, _ certificate: [URL], _ gathered: Gathered) async {
        await withServer(place, certificate, gathered, "load, \(id.name)") { server in
            for load in scale.loads {
                progress.say("\(id.name): \(Int(load.rate)) messages a second")
                // Of a poll some periods are to be seen.
                let messages = isQuick ? load.messages : max(load.messages, Int(load.rate * 3 * (id.pollSeconds ?? 0)))
                let report = try await bench(
                    place, id, server, clients: scale.settings.clients,
                    ["--rate", String(load.rate), "--messages", String(messages), "--settle", "0.2"] + (isQuick ? ["--warm-up", "0"] : [])
                )
                guard let atRate = report.atRate else { throw ComparisonFault("no figures at \(load.rate) a second") }
                gathered.change(id) { figures in
                    figures.rates.append(atRate)
                    if figures.handshakes.isEmpty {
                        figures.handshakes.append(Comparison.Handshake(tls: false, wire: report.handshake.wire))
                    }
                }
            }
            progress.say("\(id.name): back after a cut")
            let report = try await bench(
                place, id, server, clients: scale.resumeClients,
                ["--rate", "20", "--messages", "10", "--warm-up", "0", "--settle", "0.2", "--cut", String(scale.settings.missedMessages)]
            )
            guard let resume = report.resumeMs, let deliveries = report.deliveries else { throw ComparisonFault("no figures of a cut") }
            if !deliveries.isWhole {
                throw ComparisonFault("after the cut \(deliveries.lost) were lost, \(deliveries.repeated) came twice")
            }
            gathered.change(id) { $0.resume = resume.quantiles }
            guard !certificate.isEmpty else { return }
            let clients = max(20, isQuick ? 0 : scale.settings.sharedStreams)
            let secure = try await bench(place, id, server, clients: clients, ["--memory", "--settle", "0"], tls: true)
            gathered.change(id) { $0.handshakes.append(Comparison.Handshake(tls: true, wire: secure.handshake.wire)) }
        }
    }

    /// All transports side by side, each with a server of its own: what they do most of the time is nothing.
    private func measureRare(_ place: ComparisonPlace, _ gathered: Gathered) async {
        progress.say("all transports idle, then a message each \(Int(scale.settings.rareSeconds)) s")
        await withTaskGroup(of: Void.self) { group in
            for id in TransportID.allCases {
                group.addTask {
                    await withServer(place, [], gathered, "rare messages, \(id.name)") { server in
                        let base = try await costWithoutClients(server)
                        let load: [String] = [
                            "--rate", String(1 / scale.settings.rareSeconds), "--messages", String(scale.rareMessages), "--warm-up", "0",
                            "--idle", String(scale.settings.idleSeconds), "--settle", "0.5",
                        ]
                        let report = try await bench(place, id, server, clients: scale.settings.clients, load)
                        guard var atRate = report.atRate, let idle = report.idleCost(base: base) else {
                            throw ComparisonFault("no figures")
                        }
                        // The report has rounded it.
                        atRate.rate = 1 / scale.settings.rareSeconds
                        gathered.change(id) { [atRate] figures in
                            figures.rates.append(atRate)
                            figures.idle = idle
                        }
                    }
                }
            }
        }
    }

    /// Microseconds of processor time a second.
    private func costWithoutClients(_ server: ServerChild) async throws -> Double {
        try await Task.sleep(for: .seconds(1))
        let before = ProcessFigures.cpuNanoseconds([server.process])
        let start = monotonicNanoseconds()
        try await Task.sleep(for: .seconds(isQuick ? 1 : 4))
        guard let before, let after = ProcessFigures.cpuNanoseconds([server.process]) else { throw ComparisonFault("the server is gone") }
        return Double(after - before) / 1000 / (Double(monotonicNanoseconds() - start) / 1e9)
    }

    private func measureShapes(_ place: ComparisonPlace, _ certificate: [URL], _ gathered: Gathered) async {
        let network: EmulatedNetwork
        do {
            network = try EmulatedNetwork(lines: TransportID.allCases.count, leftovers: place.leftovers)
        } catch {
            gathered.set(shapesBy: "The shapes of networks were not measured: \(error).")
            return gathered.add(missing: "networks: \(error)")
        }
        defer { network.end() }
        gathered.set(
            shapesBy:
                "Delay, loss and rate are made by this command, in user space, between TUN devices of two network namespaces (not by tc "
                + "netem, which not every kernel has): both ends are the kernel's TCP. Delay is half of the round trip each way; loss is "
                + "of packets, each way; a rate is that of each transport's line, each way, with a buffer of 300 ms. Publishing goes by it."
        )
        do {
            let server = try ServerChild(
                place, host: "0.0.0.0", inNamespace: network.serverWords, heartbeat: scale.settings.heartbeatSeconds,
                certificate: certificate
            )
            defer { server.end() }
            for shape in scale.shapes {
                network.set(
                    LineShape(
                        delayNanoseconds: Int64(shape.roundTripMilliseconds * 1e6 / 2), loss: shape.lossPercent / 100,
                        bitsPerSecond: shape.kilobitsPerSecond.map { $0 * 1000 }
                    ))
                var measured = shape
                for tls in certificate.isEmpty ? [false] : [false, true] {
                    progress.say("network of \(shape.name)\(tls ? ", TLS" : "")")
                    measured.cells += try await measureShape(place, network, server, tls: tls)
                    if !isQuick { progress.did(0) }
                }
                gathered.add(measured)
            }
        } catch {
            gathered.add(missing: "networks: \(error)")
        }
    }

    /// All transports side by side, each on a line of its own.
    private func measureShape(
        _ place: ComparisonPlace, _ network: EmulatedNetwork, _ server: ServerChild, tls: Bool
    ) async throws -> [Comparison.Shape.Cell] {
        try await withThrowingTaskGroup(of: (Int, Comparison.Shape.Cell).self) { group in
            for (line, id) in TransportID.allCases.enumerated() {
                group.addTask {
                    let address = EmulatedNetwork.address(line: line)
                    let clients = scale.settings.shapeClients
                    let report = try await BenchReport.run(
                        place, inNamespace: network.clientWords, id,
                        [
                            "--url", tls ? "https://\(address):\(server.tlsPort ?? 0)" : "http://\(address):\(server.port)",
                            "--publish-url", "http://\(EmulatedNetwork.publishAddress):\(server.port)", "--subscribers", String(clients),
                            "--streams", streams(id, of: clients), "--publishers", "1", "--payload", String(scale.settings.payloadBytes),
                            "--rate", String(scale.settings.shapeRate), "--messages", String(scale.shapeMessages), "--warm-up", "2",
                            "--settle", "0.5", "--cut", String(scale.settings.missedMessages), "--patience", "20",
                        ]
                    )
                    guard let latency = report.latencyMs, let resume = report.resumeMs, let delivery = report.deliveries else {
                        throw ComparisonFault("\(id.name): no figures")
                    }
                    return (
                        line,
                        Comparison.Shape.Cell(
                            transport: id, tls: tls, handshake: report.handshake.ms.quantiles, handshakeWire: report.handshake.wire,
                            latency: latency.quantiles, resume: resume.quantiles, delivery: delivery
                        )
                    )
                }
            }
            var cells: [(Int, Comparison.Shape.Cell)] = []
            for try await cell in group { cells.append(cell) }
            return cells.sorted { $0.0 < $1.0 }.map(\.1)
        }
    }
}

/// The figures as they come, from steps that may run side by side.
private final class Gathered: Sendable {
    private struct Held {
        var figures = TransportID.allCases.map { Comparison.Figures($0) }
        var shapes: [Comparison.Shape] = []
        var shapesBy = ""
        var missing: [String] = []
    }

    private let held = Mutex(Held())

    func change(_ id: TransportID, _ body: (inout Comparison.Figures) -> Void) {
        held.withLock { held in body(&held.figures[held.figures.firstIndex { $0.transport == id }!]) }
    }

    func add(_ shape: Comparison.Shape) { held.withLock { $0.shapes.append(shape) } }
    func set(shapesBy text: String) { held.withLock { $0.shapesBy = text } }
    func add(missing text: String) { held.withLock { $0.missing.append(text) } }

    func give(to comparison: inout Comparison) {
        held.withLock { held in
            comparison.transports = held.figures.map { figures in
                var figures = figures
                figures.rates.sort { $0.rate < $1.rate }
                return figures
            }
            (comparison.shapes, comparison.shapesBy) = (held.shapes, held.shapesBy)
            comparison.missing += held.missing
        }
    }
}

/// A bar on standard error: how much is done, how much time is left, what is under way.
private final class ComparisonProgress: Sendable {
    private struct Held {
        var total = 1.0
        var done = 0.0
        var stepStart = Date.now
        var words = ""
        var isOver = false
    }

    private static let width = 30
    private let held = Mutex(Held())
    private let isTerminal = isatty(STDERR_FILENO) == 1

    /// - Parameter seconds: how long all will take, about.
    func begin(seconds: Double) {
        held.withLock { $0 = Held(total: max(seconds, 1)) }
        guard isTerminal else { return }
        Thread.detachNewThread { [self] in
            while !held.withLock({ $0.isOver }) {
                draw()
                sleep(1)
            }
        }
    }

    /// A step has been done that was to take so long.
    func did(_ seconds: Double) {
        guard seconds > 0 else { return }
        held.withLock {
            $0.done += seconds
            $0.stepStart = .now
        }
    }

    func say(_ words: String) {
        held.withLock { $0.words = words }
        draw()
    }

    func end() {
        held.withLock { held in
            (held.isOver, held.done, held.words) = (true, held.total, "done")
        }
        draw()
        if isTerminal { write("\n") }
    }

    private func draw() {
        let (total, done, words) = held.withLock { held in
            (held.total, min(held.total, held.done + Date.now.timeIntervalSince(held.stepStart)), held.words)
        }
        let left = Int((total - done).rounded(.up))
        let time = "\(left / 60):\(left % 60 < 10 ? "0" : "")\(left % 60) left"
        guard isTerminal else { return write("\(Int(100 * done / total)) %, \(time): \(words)\n") }
        let filled = Int(Double(Self.width) * done / total)
        let bar = String(repeating: "█", count: filled) + String(repeating: "·", count: Self.width - filled)
        write("\r\u{1b}[K\(bar) \(time)  \(words)")
    }

    private func write(_ text: String) {
        FileHandle.standardError.write(Data(text.utf8))
    }
}

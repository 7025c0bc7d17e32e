import Foundation
import Synchronization
import TransportComparison

/// What a comparison has to take away behind itself, whatever ends it: its processes by their numbers, its network namespaces, its folder.
final class ComparisonLeftovers: Sendable {
    private struct Held {
        var processes: Set<Int32> = []
        var namespaces: [String] = []
        var folder: URL?
        /// What is added from now on is taken away at once.
        var isOver = false
    }

    private let held = Mutex(Held())

    func add(process: Int32) {
        let isOver = held.withLock { held in
            held.processes.insert(process)
            return held.isOver
        }
        if isOver { kill(process, SIGKILL) }
    }

    func remove(process: Int32) { held.withLock { _ = $0.processes.remove(process) } }
    func add(namespace: String) { held.withLock { $0.namespaces.append(namespace) } }
    func set(folder: URL) { held.withLock { $0.folder = folder } }

    func clear() {
        let held = held.withLock { held in
            defer { held = Held(isOver: true) }
            return held
        }
        for process in held.processes { kill(process, SIGKILL) }
        for namespace in held.namespaces { _ = try? Child.result(of: ["ip", "netns", "delete", namespace]) }
        if let folder = held.folder { try? FileManager.default.removeItem(at: folder) }
    }
}

/// A process that was started here. What it prints goes to files, so that none waits for another who holds the end of its pipe.
struct Child: Sendable {
    let number: Int32
    private let output: URL?

    /// - Parameters:
    ///   - words: the program, found in PATH if it has no slash, and its arguments.
    ///   - output: a file for what it prints; nil: nowhere.
    ///   - errors: a file for its standard error; nil: nowhere.
    init(_ words: [String], output: URL? = nil, errors: URL? = nil) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        let nowhere = "/dev/null"
        let writes = O_WRONLY | O_CREAT | O_TRUNC
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, nowhere, O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output?.path ?? nowhere, writes, 0o600)
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, errors?.path ?? nowhere, writes, 0o600)
        // The signals that are ignored here are not to be ignored there.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        for signal in [SIGINT, SIGTERM] { sigaddset(&signals, signal) }
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF))
        let arguments = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var number: pid_t = 0
        let result = posix_spawnp(&number, words[0], &actions, &attributes, arguments, environ)
        guard result == 0 else { throw ComparisonFault("\(words[0]) cannot be started: \(String(cString: strerror(result)))") }
        (self.number, self.output) = (number, output)
    }

    /// Waits for its end; to be called once.
    ///
    /// - Returns: its exit status, -1 when a signal ended it, and what it printed.
    func wait() -> (status: Int32, output: Data) {
        var status: Int32 = 0
        while waitpid(number, &status, 0) < 0, errno == EINTR {}
        let hasExited = status & 0x7f == 0
        return (hasExited ? status >> 8 & 0xff : -1, output.flatMap { FileManager.default.contents(atPath: $0.path) } ?? Data())
    }

    static func result(of words: [String]) throws -> (status: Int32, output: Data) {
        let output = Self.newFile
        defer { try? FileManager.default.removeItem(at: output) }
        return try Child(words, output: output).wait()
    }

    /// Runs it to its end; a status other than 0 is a fault.
    static func run(_ words: [String]) throws {
        let errors = Self.newFile
        defer { try? FileManager.default.removeItem(at: errors) }
        let status = try Child(words, errors: errors).wait().status
        guard status == 0 else {
            let said = String(decoding: FileManager.default.contents(atPath: errors.path) ?? Data(), as: UTF8.self)
            throw ComparisonFault("\(words.joined(separator: " ")): \(said.trimmingCharacters(in: .whitespacesAndNewlines))")
        }
    }

    private static var newFile: URL { FileManager.default.temporaryDirectory.appending(path: "tocsin-compare-\(UUID().uuidString)") }
}

/// `tocsin serve`, as a process of its own.
struct ServerChild: Sendable {
    private static let startSecondsMax = 30.0

    let process: Int32
    let port: Int
    let tlsPort: Int?
    private let child: Child
    private let leftovers: ComparisonLeftovers

    /// - Parameters:
    ///   - inNamespace: words that stand before the command.
    ///   - certificate: of a chain and its key.
    init(
        _ place: ComparisonPlace, host: String = "127.0.0.1", inNamespace: [String] = [], heartbeat: Int, certificate: [URL]
    ) throws {
        leftovers = place.leftovers
        let log = place.folder.appending(path: "serve-\(UUID().uuidString).log")
        var words = inNamespace + [place.program, "serve", "--host", host, "--port", "0", "--store", ":memory:", "--loops", "1"]
        words += ["--heartbeat", String(heartbeat), "--durability", "memory", "--allow-host", "*", "--drain", "0"]
        if certificate.count == 2 {
            words += ["--tls-port", "0", "--certificate", certificate[0].path, "--key", certificate[1].path]
        }
        child = try Child(words, errors: log)
        process = child.number
        leftovers.add(process: process)
        struct Listening: Decodable {
            var message: String
            // "none" where there is none.
            var port: String?
            var tls_port: String?
        }
        let giveUp = Date.now + Self.startSecondsMax
        while true {
            let said = FileManager.default.contents(atPath: log.path) ?? Data()
            let lines = said.split(separator: UInt8(ascii: "\n")).compactMap { try? JSONDecoder().decode(Listening.self, from: $0) }
            if let line = lines.first(where: { $0.message == "listening" }), let port = line.port.flatMap({ Int($0) }) {
                (self.port, tlsPort) = (port, line.tls_port.flatMap { Int($0) })
                return
            }
            guard kill(process, 0) == 0, Date.now < giveUp else {
                kill(process, SIGKILL)
                _ = child.wait()
                throw ComparisonFault("the server did not start: \(String(decoding: said.prefix(500), as: UTF8.self))")
            }
            usleep(20_000)
        }
    }

    func end() {
        kill(process, SIGKILL)
        _ = child.wait()
        leftovers.remove(process: process)
    }
}

/// What all steps of a comparison need.
struct ComparisonPlace: Sendable {
    /// This program.
    let program: String
    /// For certificates, logs and the profile; removed at the end.
    let folder: URL
    let leftovers: ComparisonLeftovers
    let profile: URL
}

/// What `tocsin bench` found.
struct BenchReport: Decodable, Sendable {
    struct Times: Decodable, Sendable {
        var count: Int
        var p50, p99, p999, max: Double

        var quantiles: Quantiles { Quantiles(count: count, p50: p50, p99: p99, p999: p999, max: max) }
    }

    struct Handshake: Decodable, Sendable {
        var bytesIn, bytesOut, segmentsIn, segmentsOut: Double
        var ms: Times

        var wire: Wire { Wire(bytesIn: bytesIn, bytesOut: bytesOut, segmentsIn: segmentsIn, segmentsOut: segmentsOut) }
    }

    struct Idle: Decodable, Sendable {
        var seconds: Double
        var serverCpuUsPerSubscriberSecond: Double?
        var bytesIn, bytesOut, segmentsIn, segmentsOut: Double
    }

    struct Memory: Decodable, Sendable {
        var userBytesPerSubscriber: Double?
        var kernelObjectBytesPerSubscriberBothEnds: Double?
    }

    var subscribers: Int
    var memory: Memory
    var handshake: Handshake
    var idle: Idle?
    var rate: Double?
    var measuredSeconds: Double?
    var expected, delivered, lost, repeated, reordered: Int?
    var latencyMs: Times?
    var resumeMs: Times?
    var serverCpuUsPerDelivery: Double?
    var wireBytesInPerDelivery, wireBytesOutPerDelivery, segmentsInPerDelivery, segmentsOutPerDelivery: Double?

    /// Runs it as a process of its own.
    ///
    /// - Parameter words: those before the command, when it runs in a namespace.
    static func run(_ place: ComparisonPlace, inNamespace words: [String] = [], _ id: TransportID, _ arguments: [String]) async throws
        -> Self
    {
        let log = place.folder.appending(path: "bench-\(UUID().uuidString).log")
        var line = words + [place.program, "bench", "--json", "-", "--profile", place.profile.path, "--transport", id.benchName]
        if let seconds = id.pollSeconds { line += ["--poll-seconds", String(seconds)] }
        let printed = place.folder.appending(path: "bench-\(UUID().uuidString).json")
        let child = try Child(line + arguments, output: printed, errors: log)
        place.leftovers.add(process: child.number)
        let output = await withCheckedContinuation { continuation in
            Thread.detachNewThread { continuation.resume(returning: child.wait().output) }
        }
        place.leftovers.remove(process: child.number)
        guard !output.isEmpty else {
            let said = String(decoding: FileManager.default.contents(atPath: log.path) ?? Data(), as: UTF8.self)
            throw ComparisonFault("\(id.name): \(said.trimmingCharacters(in: .whitespacesAndNewlines))")
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Self.self, from: output)
    }

    var deliveries: Delivery? {
        guard let expected, let delivered, let lost, let repeated, let reordered else { return nil }
        return Delivery(expected: expected, delivered: delivered, lost: lost, repeated: repeated, reordered: reordered)
    }

    var atRate: Comparison.AtRate? {
        guard let rate, let measuredSeconds, let deliveries, let latencyMs, let serverCpuUsPerDelivery, let wireBytesInPerDelivery,
            let wireBytesOutPerDelivery, let segmentsInPerDelivery, let segmentsOutPerDelivery
        else { return nil }
        return Comparison.AtRate(
            rate: rate, clients: subscribers, seconds: measuredSeconds, delivery: deliveries, latency: latencyMs.quantiles,
            cpuPerMessage: serverCpuUsPerDelivery,
            wire: Wire(
                bytesIn: wireBytesInPerDelivery, bytesOut: wireBytesOutPerDelivery, segmentsIn: segmentsInPerDelivery,
                segmentsOut: segmentsOutPerDelivery
            )
        )
    }

    /// - Parameter base: microseconds of processor time that the server takes in a second without clients.
    func idleCost(base: Double) -> Comparison.Idle? {
        guard let idle, let cpu = idle.serverCpuUsPerSubscriberSecond else { return nil }
        let wire = Wire(bytesIn: idle.bytesIn, bytesOut: idle.bytesOut, segmentsIn: idle.segmentsIn, segmentsOut: idle.segmentsOut)
        return Comparison.Idle(seconds: idle.seconds, cpu: max(0, cpu - base / Double(subscribers)), cpuWithoutClients: base, wire: wire)
    }
}

extension TransportID {
    /// What `tocsin bench` calls it.
    var benchName: String {
        switch self {
        case .eventStreamHTTP2Shared: "sse-h2"
        case .pollEach1, .pollEach5: "poll"
        default: rawValue
        }
    }
}

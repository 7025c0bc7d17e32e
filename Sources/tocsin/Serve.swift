import ArgumentParser
import Logging
import NotificationCore
import NotificationStore
import Presence
import TLSEngine
import TocsinServer
import Transports
import Webhooks

/// What `serve` and `demo` have in common.
struct ServeOptions: ParsableArguments {
    @Option(help: "The address to listen on.")
    var host = "127.0.0.1"

    @Option(help: "The port for plain HTTP/1.1, HTTP/2 and WebSocket; 0 for any free one.")
    var port = 8080

    @Option(help: "The port for the same over TLS.")
    var tlsPort: Int?

    @Option(help: "The certificate chain, a PEM file; may be given several times, each with its --key.")
    var certificate: [String] = []

    @Option(help: "The private key of the certificate, a PEM file.")
    var key: [String] = []

    @Option(help: "The OCSP response to staple to the certificate, a DER file; as many as certificates, or none.")
    var ocsp: [String] = []

    @Option(help: "The oldest version of TLS that is spoken: 1.2 or 1.3.")
    var tlsMinimum = TLSVersion.tls12

    @Option(help: "The authorities whose client certificates are good, a PEM file; clients may show one.")
    var clientCa: String?

    @Flag(help: "Clients have to show a certificate; with --client-ca.")
    var clientCertificateRequired = false

    @Option(help: "Seconds between heartbeats, 1 to 300.")
    var heartbeat = 25

    @Option(help: "Event loops; by default one a core.")
    var loops: Int?

    @Option(help: "An origin whose pages may use this server besides its own (repeatable); * for all.")
    var allowOrigin: [String] = []

    @Option(help: "A name that clients may call the server by, besides those of this host (repeatable); * for any.")
    var allowHost: [String] = []

    @Option(
        help: ArgumentHelp(
            "The file of the log; :memory: keeps it in the process.",
            discussion: "By default log.sqlite in the state directory: $STATE_DIRECTORY, $XDG_STATE_HOME/tocsin or ~/.local/state/tocsin."
        )
    )
    var store: String?

    @Option(help: "When a publish is answered: disk (after the fsync) or memory (when the operating system has it).")
    var durability = Durability.disk

    @Option(help: "Seconds given to clients to leave when the server goes down.")
    var drain = 5

    @Flag(inversion: .prefixedNo, help: "Compress messages for WebSockets that offer permessage-deflate.")
    var compression = true

    @OptionGroup(title: "Who may do what") var access: AccessOptions

    @Flag(
        inversion: .prefixedNo,
        help: "Send a message through the log and over each transport once a second; /readyz says whether it has come back."
    )
    var canary = true

    @OptionGroup(title: "Feeds") var feeds: FeedOptions

    @OptionGroup(title: "Presence") var presence: PresenceOptions

    @OptionGroup(title: "Deadlines") var deadlines: DeadlineOptions

    @OptionGroup(title: "Limits") var limits: LimitOptions

    @OptionGroup(title: "Webhooks") var webhooks: WebhookOptions

    @Option(help: "trace, debug, info, notice, warning, error or critical.")
    var logLevel = "info"

    func validate() throws {
        guard (1...300).contains(heartbeat) else { throw ValidationError("--heartbeat is 1 to 300 seconds") }
        guard certificate.count == key.count else { throw ValidationError("each --certificate needs its --key") }
        guard tlsPort == nil || !certificate.isEmpty else { throw ValidationError("--tls-port needs --certificate and --key") }
        guard ocsp.isEmpty || ocsp.count == certificate.count else { throw ValidationError("give as many --ocsp as --certificate") }
        guard clientCa != nil || !clientCertificateRequired else {
            throw ValidationError("--client-certificate-required needs --client-ca")
        }
        guard Logger.Level(rawValue: logLevel) != nil else { throw ValidationError("\"\(logLevel)\" is not a log level") }
        guard loops ?? 1 > 0, drain >= 0 else { throw ValidationError("a number is out of range") }
    }

    func makeConfiguration(coreCount: Int) throws -> ServerConfiguration {
        var configuration = ServerConfiguration()
        configuration.host = host
        configuration.port = port
        configuration.tlsPort = tlsPort
        configuration.tls.certificates = certificate.indices.map { index in
            TLSCertificateFiles(
                certificateChain: certificate[index], privateKey: key[index], ocspResponse: ocsp.isEmpty ? nil : ocsp[index]
            )
        }
        configuration.tls.minimumVersion = tlsMinimum
        if let clientCa {
            configuration.tls.clientCertificates = clientCertificateRequired ? .required(caFile: clientCa) : .optional(caFile: clientCa)
        }
        configuration.loops = loops ?? coreCount
        configuration.subscribe.heartbeatSecondsDefault = heartbeat
        configuration.allowedOrigins = allowOrigin
        configuration.allowedHosts = allowHost
        configuration.log = try feeds.limits()
        configuration.storePath = store ?? StateDirectory.logPath
        configuration.durability = durability
        configuration.identity = try access.configuration()
        configuration.presence = try presence.configuration()
        configuration.drainSeconds = drain
        configuration.compresses = compression
        configuration.hasCanary = canary
        deadlines.apply(to: &configuration)
        limits.apply(to: &configuration)
        configuration.webhooks = try webhooks.configuration()
        configuration.presence.occupancy += configuration.webhooks?.occupancy ?? []
        return configuration
    }
}

/// How long a peer may take.
struct DeadlineOptions: ParsableArguments {
    @Option(help: "Seconds for a TLS handshake.")
    var handshakeTimeout = 10

    @Option(help: "Seconds for the head of a request.")
    var headTimeout = 10

    @Option(help: "Seconds for the body of a request.")
    var bodyTimeout = 30

    @Option(help: "Seconds after which a connection without a request is closed.")
    var idleTimeout = 75

    @Option(help: "Seconds after which a connection that takes nothing of what waits for it is closed.")
    var stallTimeout = 300

    func validate() throws {
        guard [handshakeTimeout, headTimeout, bodyTimeout, idleTimeout, stallTimeout].allSatisfy((1...86_400).contains) else {
            throw ValidationError("a timeout is 1 to 86400 seconds")
        }
    }

    func apply(to configuration: inout ServerConfiguration) {
        configuration.handshakeSecondsMax = handshakeTimeout
        configuration.headSecondsMax = headTimeout
        configuration.bodySecondsMax = bodyTimeout
        configuration.idleSecondsMax = idleTimeout
        configuration.stallSecondsMax = stallTimeout
    }
}

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Runs the server.")

    @OptionGroup var options: ServeOptions

    @Option(help: "Processes that serve clients; each may have as many connections as the system gives a process descriptors.")
    var processes = 1

    @Flag(
        help: ArgumentHelp(
            "Take over from the server that runs with the same --store: its log and its listeners, without refusing a connection.",
            discussion: "Its clients come back within --drain seconds, each in a slot of its own. If there is none: start as usual."
        )
    )
    var takeover = false

    @Option(help: .hidden)
    var worker: Int?

    @Flag(help: "For the test suites of the protocols: a WebSocket that echoes at /echo, and 128 KiB at /. Not for use.")
    var conformance = false

    func validate() throws {
        guard (1...Self.processesMax).contains(processes) else {
            throw ValidationError("--processes is 1 to \(Self.processesMax)")
        }
        guard processes == 1 || processes * (options.loops ?? 1) <= 256 else {
            throw ValidationError("all processes together have at most 256 event loops")
        }
        guard takeover else { return }
        guard processes == 1 else {
            throw ValidationError(
                "--takeover is for a server of one process: end one of several with SIGTERM and start it again, its clients have slots to "
                    + "come back in"
            )
        }
        guard options.store != ":memory:" else {
            throw ValidationError("--takeover wants a log that outlives its process: name a file with --store")
        }
        guard options.loops ?? 1 <= ServerRun.takeoverLoopsMax else {
            throw ValidationError("--takeover is for at most \(ServerRun.takeoverLoopsMax) event loops")
        }
    }

    /// More than cores help only where the descriptors of a process are few.
    private static let processesMax = 64

    func run() async throws {
        let run = ServerRun(options, processes: processes, isConformanceDoorOpen: conformance, takesOver: takeover)
        if processes == 1 {
            try await run.run()
        } else if let worker {
            try await run.runWorker(worker)
        } else {
            // A worker has all that this process was started with.
            try await run.runProcesses(arguments: Array(CommandLine.arguments.dropFirst()))
        }
    }
}

extension Durability: ExpressibleByArgument {}
extension TLSVersion: ExpressibleByArgument {}

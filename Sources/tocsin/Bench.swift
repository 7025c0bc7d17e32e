import ArgumentParser
import Foundation
import LoadGenerator

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures a server: subscribers by the thousand, messages on a fixed schedule.",
        discussion: """
            tocsin bench --url http://127.0.0.1:8080 --transport websocket --subscribers 1000 --rate 20 --messages 400 --pid $(pidof tocsin)

            Every subscriber checks that it gets every message of its channel once and in order; the exit status is 1 if one did not. \
            Latency counts from when a message was due. The server's processor time and memory are read from the processes of --pid.
            """
    )

    @Option(help: "The server to subscribe to: http://host:port or https://host:port. Certificates are not verified.")
    var url: String

    @Option(help: "Where to publish, if that is another port; by default the same.")
    var publishUrl: String?

    @Option(help: "websocket, websocket-h2 (HTTP/2), sse, sse-h2, long-poll, long-poll-h2, or poll (short polling).")
    var transport: LoadPlan.Transport = .webSocket

    @Option(help: "HTTP/2: subscribers on each connection.")
    var streams = 1

    @Option(help: "Subscribers.")
    var subscribers = 1000

    @Option(help: "Channels; subscriber s listens to channel s modulo channels.")
    var channels = 1

    @Option(help: "Messages a second, over all channels.")
    var rate = 20.0

    @Option(help: "Messages that are timed.")
    var messages = 200

    @Option(help: "Messages before those; by default half a second of them.")
    var warmUp: Int?

    @Option(help: "Bytes of a payload, at least 42.")
    var payload = 128

    @Option(help: "Threads that read.")
    var threads = 1

    @Option(help: "Connections that publish; the messages of a channel go over one of them.")
    var publishers = 4

    @Option(help: "Messages of one request, due together.")
    var batch = 1

    @Option(help: "The server's process on this machine (repeatable).")
    var pid: [Int32] = []

    @Option(help: "A file for the figures, JSON; - for standard output in place of the table.", completion: .file())
    var json: String?

    @Option(help: "A file that says how the server is subscribed and published to; by default it is a Tocsin.", completion: .file())
    var profile: String?

    @Option(help: "Seconds without a delivery after which the rest is lost.")
    var patience = 5.0

    @Option(help: "Seconds that subscribers rest before memory is read.")
    var settle: Double?

    @Option(help: "Milliseconds that a reading thread sleeps between two looks at its sockets; 0: it is woken by what comes.")
    var pause = 0.0

    @Flag(help: "Cuts all connections, publishes --messages, and measures how long it takes until all are back and have got them.")
    var resume = false

    @Flag(help: "Who comes back makes a full TLS handshake; by default it has the ticket of its earlier session, as a browser has.")
    var fullHandshakes = false

    @Option(
        name: .customLong("run"),
        help: "A number for the names of the channels and the marks of messages; several processes with the same one hear the same."
    )
    var runNumber: UInt32?

    @Option(help: "Seconds that subscribers may take to connect.")
    var connectTimeout = 120.0

    @Flag(help: "Publish nothing: what is published under --run by another process is waited for, for --patience.")
    var listen = false

    @Option(help: "poll: seconds from one poll of a subscriber to the next.")
    var pollSeconds = 1.0

    @Option(help: "Seconds for which it is measured what the subscribers cost while nothing is published.")
    var idle = 0.0

    @Option(help: "At the end cuts all connections, publishes so many messages meanwhile, and times the coming back.")
    var cut = 0

    @Flag(help: "Only what idle subscribers take; nothing is published.")
    var memory = false

    func run() throws {
        do {
            let report = try LoadRun(try makePlan(), progress: say)()
            if json != "-" { print(report.table, terminator: "") }
            if let json {
                if json == "-" {
                    print(String(decoding: report.json, as: UTF8.self), terminator: "")
                } else {
                    try Data(report.json).write(to: URL(filePath: json))
                }
            }
            guard memory || report.isWhole else { throw ExitCode(1) }
        } catch let fault as LoadFault {
            throw CommandFailure(description: fault.description)
        }
    }

    private func makePlan() throws -> LoadPlan {
        let target = try Target(url)
        var text = Array(Profile.tocsin.utf8)
        if let profile {
            guard let bytes = FileManager.default.contents(atPath: profile) else {
                throw CommandFailure(description: "cannot read \(profile)")
            }
            text = Array(bytes)
        }
        var plan = LoadPlan(
            target: target, publishTarget: try publishUrl.map { try Target($0) } ?? target, profile: try Profile(text),
            transport: transport, subscribers: subscribers, rate: rate, messages: messages
        )
        plan.streams = streams
        plan.channels = channels
        let batches = max(1, min(messages, Int((rate / 2).rounded(.up))) / max(1, batch))
        plan.warmUp = listen ? 0 : warmUp ?? (messages == 0 ? 0 : batches * batch)
        plan.batch = batch
        plan.payloadBytes = payload
        plan.threads = threads
        plan.publishConnections = publishers
        plan.serverProcesses = pid
        plan.run = runNumber
        plan.onlyListens = listen
        plan.connectSecondsMax = connectTimeout
        plan.onlyMemory = memory
        plan.resumes = resume
        plan.fullHandshakes = fullHandshakes
        plan.pauseSeconds = pause / 1000
        plan.pollSeconds = pollSeconds
        plan.idleSeconds = idle
        plan.cutMessages = cut
        // A poll comes only when its time has come.
        plan.patienceSeconds = max(0, patience) + (transport == .shortPoll ? max(0, pollSeconds) : 0)
        plan.settleSeconds = max(0, settle ?? (memory ? 3 : 0.5))
        return plan
    }

    private func say(_ line: String) {
        FileHandle.standardError.write(Data((line + "\n").utf8))
    }
}

extension LoadPlan.Transport: ExpressibleByArgument {}

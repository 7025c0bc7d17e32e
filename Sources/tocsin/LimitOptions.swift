import ArgumentParser
import Limits
import TocsinServer

/// How much of the server one may have, and when it takes nobody new. Docs/operations/limits.md says what each is for.
struct LimitOptions: ParsableArguments {
    @Option(help: "Open connections in all; the descriptors of each process bound them besides.")
    var connections: Int?

    @Option(help: "Open connections of one address.")
    var connectionsPerAddress: Int?

    @Option(help: "Open connections of one /64 of IP version 6; by default as many as of one address.")
    var connectionsPerNetwork: Int?

    @Option(help: "Open subscriptions of one user; with --token-key.")
    var connectionsPerUser: Int?

    @Option(
        help: ArgumentHelp(
            "Connections that one address may open in a second, as RATE or RATE:BURST; none for any number.",
            discussion: "By default 2000:20000 for addresses of the internet, and none for those of a network of one's own."
        )
    )
    var connectionRatePerAddress: RateOption?

    @Option(help: "Streams of an HTTP/2 connection.")
    var streamsPerConnection = 128

    @Option(help: "Channels of a subscriber.")
    var channelsPerSubscriber = 100

    @Option(help: "Notifications that a connection may publish in a second, as RATE or RATE:BURST.")
    var publishRate: RateOption?

    @Option(help: "The same for a user, on all connections.")
    var publishRatePerUser: RateOption?

    @Option(help: "Commands that a connection may send in a second, as RATE or RATE:BURST.")
    var commandRate: RateOption?

    @Option(help: "The same for a user, on all connections.")
    var commandRatePerUser: RateOption?

    @Option(help: "Bytes that a connection may send in a second, as RATE or RATE:BURST.")
    var byteRate: RateOption?

    @Option(help: "An address or network of proxies that are believed where a request comes from (repeatable).")
    var trustedProxy: [NetworkRange] = []

    @Option(help: "The field that they write: x-forwarded-for or forwarded.")
    var forwardedField = ForwardedFor.xForwardedFor

    @Option(help: "An address or network of proxies whose connections begin with a PROXY protocol header (repeatable).")
    var proxyProtocolFrom: [NetworkRange] = []

    @Option(help: "Seconds after a start in which clients are let in ever faster; 0 for everybody at once.")
    var ramp = 0

    @Option(help: "Clients a second at the end of the ramp.")
    var rampRate = 1000

    @Option(help: "MiB of memory in use above which a process takes nobody new.")
    var memoryMark: Int?

    @Option(help: "Hundredths of the connections that a process may have, above which it takes nobody new.")
    var descriptorMark: Int?

    @Option(help: "Milliseconds that an event loop is held up, above which a process takes nobody new.")
    var lagMark: Int?

    @Option(help: "Clients a second that are told to come back when there is no room for them.")
    var returnRate = 100

    func validate() throws {
        let counts = [connections, connectionsPerAddress, connectionsPerNetwork, connectionsPerUser, memoryMark, lagMark]
        guard counts.allSatisfy({ (1...1_000_000_000).contains($0 ?? 1) }) else { throw ValidationError("a limit is at least 1") }
        guard (1...100_000).contains(streamsPerConnection), (1...10_000).contains(channelsPerSubscriber) else {
            throw ValidationError("--streams-per-connection is 1 to 100000, --channels-per-subscriber 1 to 10000")
        }
        guard (1...99).contains(descriptorMark ?? 1) else { throw ValidationError("--descriptor-mark is 1 to 99") }
        guard (0...3600).contains(ramp), (1...1_000_000).contains(rampRate), (1...1_000_000).contains(returnRate) else {
            throw ValidationError("--ramp is 0 to 3600 seconds, --ramp-rate and --return-rate are 1 to 1000000")
        }
    }

    func apply(to configuration: inout ServerConfiguration) {
        configuration.setLimits(streamsPerConnection: streamsPerConnection, channelsPerSubscriber: channelsPerSubscriber)
        var limits = LimitConfiguration()
        limits.connectionsMax = connections
        limits.connectionsPerAddressMax = connectionsPerAddress
        limits.connectionsPerNetworkMax = connectionsPerNetwork
        limits.connectionsPerUserMax = connectionsPerUser
        limits.attemptsPerAddress = connectionRatePerAddress.map(\.limit) ?? RateLimit(perSecond: 2000, burst: 20_000)
        if connectionRatePerAddress == nil { limits.attemptsExempt = NetworkRange.local }
        limits.publishesPerConnection = publishRate?.limit
        limits.publishesPerUser = publishRatePerUser?.limit
        limits.commandsPerConnection = commandRate?.limit
        limits.commandsPerUser = commandRatePerUser?.limit
        limits.bytesPerConnection = byteRate?.limit
        limits.trustedProxies = trustedProxy
        limits.forwardedField = forwardedField
        limits.proxyProtocolSources = proxyProtocolFrom
        limits.rampSeconds = ramp
        limits.rampPerSecond = rampRate
        limits.residentBytesMark = memoryMark.map { $0 << 20 }
        limits.descriptorPercentMark = descriptorMark
        limits.lagMillisecondsMark = lagMark
        limits.returnsPerSecond = returnRate
        configuration.limits = limits
    }
}

/// A rate, or none.
struct RateOption: ExpressibleByArgument {
    let limit: RateLimit?

    init?(argument: String) {
        if argument == "none" {
            limit = nil
        } else {
            guard let limit = RateLimit(argument) else { return nil }
            self.limit = limit
        }
    }
}

extension NetworkRange: ExpressibleByArgument {
    package init?(argument: String) {
        self.init(argument as String)
    }
}

extension ForwardedFor: ExpressibleByArgument {}

import HTTP2Session
package import Limits
import Transports

/// How much of the server one client, address or user may have, and when nobody new is taken. nil: there is no such bound.
package struct LimitConfiguration: Sendable {
    /// Open connections of the whole server, in all its processes.
    package var connectionsMax: Int?
    /// Open connections of one address. A proxy that is trusted has no such bound; the clients that it speaks for have.
    package var connectionsPerAddressMax: Int?
    /// Open connections of one /64 of version 6: what a single customer may have as many addresses of as they like. nil: as many as of
    /// an address.
    package var connectionsPerNetworkMax: Int?
    /// Open subscriptions of one user, on any transport.
    package var connectionsPerUserMax: Int?
    /// Connections that one address (of version 6: one /64) may open.
    package var attemptsPerAddress: RateLimit?
    /// Who may open as many as they like.
    package var attemptsExempt: [NetworkRange] = []
    /// Notifications that a connection, or a user, may publish.
    package var publishesPerConnection: RateLimit?
    package var publishesPerUser: RateLimit?
    /// Commands over a WebSocket, or by `POST /v1/sessions/…`.
    package var commandsPerConnection: RateLimit?
    package var commandsPerUser: RateLimit?
    /// Bytes that a connection may send.
    package var bytesPerConnection: RateLimit?

    /// Proxies in front of the server: what they say of where a request comes from is believed.
    package var trustedProxies: [NetworkRange] = []
    /// The one field that they write. Any other of that meaning comes from anybody.
    package var forwardedField = ForwardedFor.xForwardedFor
    /// Whose connections begin with a header of the PROXY protocol.
    package var proxyProtocolSources: [NetworkRange] = []

    /// Clients are let in ever faster for so many seconds after a start. 0: everybody at once.
    package var rampSeconds = 0
    /// How fast at the end of that, in clients a second.
    package var rampPerSecond = 1000
    /// Marks above which nobody new is taken. Bytes of resident memory; a hundredth of the connections that the process may have;
    /// milliseconds that a loop is held up.
    package var residentBytesMark: Int?
    package var descriptorPercentMark: Int?
    package var lagMillisecondsMark: Int?
    /// Who is sent away is told to come back at times of which there are so many a second.
    package var returnsPerSecond = 100

    package init() {}
}

extension ServerConfiguration {
    /// Bounds that the protocols have.
    package mutating func setLimits(streamsPerConnection: Int, channelsPerSubscriber: Int) {
        http2.concurrentStreamsMax = UInt32(streamsPerConnection)
        subscribe.channelsMax = channelsPerSubscriber
    }
}

/// A limit that a client may meet.
enum LimitRule: String, CaseIterable, Sendable {
    case connections
    case connectionsPerAddress = "connections_per_address"
    case connectionsPerNetwork = "connections_per_network"
    case connectionsPerUser = "connections_per_user"
    case attemptsPerAddress = "connection_rate_per_address"
    case publishesPerConnection = "publish_rate"
    case publishesPerUser = "publish_rate_per_user"
    case commandsPerConnection = "command_rate"
    case commandsPerUser = "command_rate_per_user"
    case bytesPerConnection = "byte_rate"
    case ramp
    case memory = "memory_mark"
    case descriptors = "descriptor_mark"
    case lag = "lag_mark"

    /// The server has too much to do, which is not the client's fault.
    var isOverload: Bool {
        switch self {
        case .connections, .ramp, .memory, .descriptors, .lag: true
        default: false
        }
    }

    /// Whether it keeps somebody from coming, and not from what they do here.
    var refusesConnections: Bool {
        switch self {
        case .publishesPerConnection, .publishesPerUser, .commandsPerConnection, .commandsPerUser, .bytesPerConnection: false
        default: true
        }
    }

    /// The flag that sets it.
    var flag: String { "--" + rawValue.split(separator: "_").joined(separator: "-") }

    private var words: (type: String, title: String, detail: String) {
        switch self {
        case .connections: ("overloaded", "Too many connections", "the server has as many connections as it may have")
        case .connectionsPerAddress: ("too-many-connections", "Too many connections", "of this address")
        case .connectionsPerNetwork: ("too-many-connections", "Too many connections", "of this address's /64 network")
        case .connectionsPerUser: ("too-many-connections", "Too many connections", "of this user")
        case .attemptsPerAddress: ("too-many-connections", "Too many connections", "opened by this address in a short time")
        case .publishesPerConnection: ("too-many-publishes", "Too many publications", "on this connection in a short time")
        case .publishesPerUser: ("too-many-publishes", "Too many publications", "of this user in a short time")
        case .commandsPerConnection: ("too-many-commands-a-second", "Too many commands", "on this connection in a short time")
        case .commandsPerUser: ("too-many-commands-a-second", "Too many commands", "of this user in a short time")
        case .bytesPerConnection: ("too-many-bytes", "Too many bytes", "on this connection in a short time")
        case .ramp: ("overloaded", "The server has just started", "it takes some clients after the others")
        case .memory: ("overloaded", "The server is full", "its memory is above the mark")
        case .descriptors: ("overloaded", "The server is full", "its connections are above the mark")
        case .lag: ("overloaded", "The server is full", "it has more to do than it gets done")
        }
    }

    var title: String { words.title }
    var type: String { words.type }
    var detail: String { words.detail }
}

package import Foundation

/// The ways to be notified that are compared. The order is that of all tables and plots.
package enum TransportID: String, Codable, Sendable, CaseIterable {
    case webSocket = "websocket"
    case webSocketHTTP2 = "websocket-h2"
    case eventStream = "sse"
    case eventStreamHTTP2 = "sse-h2"
    /// 100 event streams on each connection: what a proxy, or an application with many feeds, makes of HTTP/2.
    case eventStreamHTTP2Shared = "sse-h2-shared"
    case longPoll = "long-poll"
    case longPollHTTP2 = "long-poll-h2"
    case pollEach1 = "poll-1s"
    case pollEach5 = "poll-5s"

    package enum Family: String, Sendable {
        case webSocket = "ws"
        case eventStream = "sse"
        case longPoll = "lp"
        case shortPoll = "poll"
    }

    package var name: String {
        switch self {
        case .webSocket: "WebSocket h1"
        case .webSocketHTTP2: "WebSocket h2"
        case .eventStream: "SSE h1"
        case .eventStreamHTTP2: "SSE h2"
        case .eventStreamHTTP2Shared: "SSE h2, shared"
        case .longPoll: "Long-poll h1"
        case .longPollHTTP2: "Long-poll h2"
        case .pollEach1: "Poll each 1 s"
        case .pollEach5: "Poll each 5 s"
        }
    }

    package var family: Family {
        switch self {
        case .webSocket, .webSocketHTTP2: .webSocket
        case .eventStream, .eventStreamHTTP2, .eventStreamHTTP2Shared: .eventStream
        case .longPoll, .longPollHTTP2: .longPoll
        case .pollEach1, .pollEach5: .shortPoll
        }
    }

    /// Round trips until the server's first answer has come, by what the protocols prescribe: one of TCP, one of TLS 1.3, one of the
    /// request, and for a WebSocket on HTTP/2 one more, since the client has to wait for SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441
    /// section 3).
    package func roundTripsByDesign(tls: Bool) -> Int {
        (self == .webSocketHTTP2 ? 3 : 2) + (tls ? 1 : 0)
    }

    package var pollSeconds: Double? {
        switch self {
        case .pollEach1: 1
        case .pollEach5: 5
        default: nil
        }
    }
}

/// Milliseconds.
package struct Quantiles: Codable, Sendable, Equatable {
    package var count: Int
    package var p50: Double
    package var p99: Double
    package var p999: Double
    package var max: Double

    package init(count: Int, p50: Double, p99: Double, p999: Double, max: Double) {
        (self.count, self.p50, self.p99, self.p999, self.max) = (count, p50, p99, p999, max)
    }
}

/// What went over the wire, seen from the client; each figure for what the member that holds it says.
package struct Wire: Codable, Sendable, Equatable {
    /// Payload of TCP, TLS records among it.
    package var bytesIn: Double
    package var bytesOut: Double
    /// With those that only acknowledge.
    package var segmentsIn: Double
    package var segmentsOut: Double

    /// IPv4 20, TCP 20 and its timestamps 12.
    package static let headerBytes = 52.0

    package init(bytesIn: Double, bytesOut: Double, segmentsIn: Double, segmentsOut: Double) {
        (self.bytesIn, self.bytesOut, self.segmentsIn, self.segmentsOut) = (bytesIn, bytesOut, segmentsIn, segmentsOut)
    }

    package var payloadBytes: Double { bytesIn + bytesOut }
    /// An estimate: a fixed size for each segment.
    package var headersEstimate: Double { (segmentsIn + segmentsOut) * Self.headerBytes }
    package var allBytes: Double { payloadBytes + headersEstimate }
}

/// Whether every client got every message once and in order.
package struct Delivery: Codable, Sendable, Equatable {
    package var expected: Int
    package var delivered: Int
    package var lost: Int
    package var repeated: Int
    package var reordered: Int

    package init(expected: Int, delivered: Int, lost: Int, repeated: Int, reordered: Int) {
        (self.expected, self.delivered, self.lost, self.repeated, self.reordered) = (expected, delivered, lost, repeated, reordered)
    }

    package var isWhole: Bool { lost == 0 && repeated == 0 && reordered == 0 && delivered == expected }
}

/// All figures of a run.
package struct Comparison: Codable, Sendable {
    package static let formatNow = 1

    package struct Machine: Codable, Sendable {
        package var cores: Int
        package var processor: String
        package var memoryBytes: Int
        package var kernel: String

        package init(cores: Int, processor: String, memoryBytes: Int, kernel: String) {
            (self.cores, self.processor, self.memoryBytes, self.kernel) = (cores, processor, memoryBytes, kernel)
        }
    }

    /// What was asked of the run.
    package struct Settings: Codable, Sendable {
        package var payloadBytes: Int
        /// Of WebSockets and event streams, and how long a long-poll waits, seconds.
        package var heartbeatSeconds: Int
        package var clients: Int
        package var memoryClients: Int
        /// Event streams on each connection of `sse-h2-shared`.
        package var sharedStreams: Int
        package var idleSeconds: Double
        /// Seconds between two messages of what stands for one a minute.
        package var rareSeconds: Double
        package var shapeClients: Int
        package var shapeRate: Double
        /// Published while all connections are cut.
        package var missedMessages: Int

        package init(
            payloadBytes: Int, heartbeatSeconds: Int, clients: Int, memoryClients: Int, sharedStreams: Int, idleSeconds: Double,
            rareSeconds: Double, shapeClients: Int, shapeRate: Double, missedMessages: Int
        ) {
            (self.payloadBytes, self.heartbeatSeconds, self.clients) = (payloadBytes, heartbeatSeconds, clients)
            (self.memoryClients, self.sharedStreams, self.idleSeconds) = (memoryClients, sharedStreams, idleSeconds)
            (self.rareSeconds, self.shapeClients, self.shapeRate) = (rareSeconds, shapeClients, shapeRate)
            self.missedMessages = missedMessages
        }
    }

    /// Of one connection with one client, until the server's first answer has come; with `sse-h2-shared`, all its clients.
    package struct Handshake: Codable, Sendable {
        package var tls: Bool
        package var wire: Wire

        package init(tls: Bool, wire: Wire) {
            (self.tls, self.wire) = (tls, wire)
        }
    }

    /// A load at one rate, on this machine without a network.
    package struct AtRate: Codable, Sendable {
        /// Messages a second.
        package var rate: Double
        package var clients: Int
        package var seconds: Double
        package var delivery: Delivery
        package var latency: Quantiles
        /// Microseconds of the server's processor time for each delivered message; publishing and polling are in it.
        package var cpuPerMessage: Double
        /// For each delivered message.
        package var wire: Wire

        package init(
            rate: Double, clients: Int, seconds: Double, delivery: Delivery, latency: Quantiles, cpuPerMessage: Double, wire: Wire
        ) {
            (self.rate, self.clients, self.seconds, self.delivery) = (rate, clients, seconds, delivery)
            (self.latency, self.cpuPerMessage, self.wire) = (latency, cpuPerMessage, wire)
        }
    }

    /// What a client costs that is sent nothing, a second.
    package struct Idle: Codable, Sendable {
        package var seconds: Double
        /// Microseconds of the server's processor time, without what it takes when it has no client.
        package var cpu: Double
        /// That, of the whole server.
        package var cpuWithoutClients: Double
        package var wire: Wire

        package init(seconds: Double, cpu: Double, cpuWithoutClients: Double, wire: Wire) {
            (self.seconds, self.cpu, self.cpuWithoutClients, self.wire) = (seconds, cpu, cpuWithoutClients, wire)
        }
    }

    /// Bytes that an idle client takes.
    package struct Memory: Codable, Sendable {
        package var clients: Int
        package var user: Double
        /// Both ends of a loopback connection, of the whole machine.
        package var kernelBothEnds: Double

        package init(clients: Int, user: Double, kernelBothEnds: Double) {
            (self.clients, self.user, self.kernelBothEnds) = (clients, user, kernelBothEnds)
        }
    }

    package struct Figures: Codable, Sendable {
        package var transport: TransportID
        package var handshakes: [Handshake] = []
        /// By rising rate; the first is what stands for one message a minute.
        package var rates: [AtRate] = []
        package var idle: Idle?
        package var memory: Memory?
        /// Until a client that was cut off has what it missed, milliseconds; without a network.
        package var resume: Quantiles?

        package init(_ transport: TransportID) {
            self.transport = transport
        }
    }

    package struct Shape: Codable, Sendable {
        package struct Cell: Codable, Sendable {
            package var transport: TransportID
            package var tls: Bool
            /// From the first SYN until the server's first answer has come.
            package var handshake: Quantiles
            package var handshakeWire: Wire
            package var latency: Quantiles
            package var resume: Quantiles
            package var delivery: Delivery

            package init(
                transport: TransportID, tls: Bool, handshake: Quantiles, handshakeWire: Wire, latency: Quantiles, resume: Quantiles,
                delivery: Delivery
            ) {
                (self.transport, self.tls, self.handshake, self.handshakeWire) = (transport, tls, handshake, handshakeWire)
                (self.latency, self.resume, self.delivery) = (latency, resume, delivery)
            }
        }

        package var name: String
        package var roundTripMilliseconds: Double
        package var lossPercent: Double
        /// Each way; nil: no limit.
        package var kilobitsPerSecond: Double?
        package var cells: [Cell] = []

        package init(name: String, roundTripMilliseconds: Double, lossPercent: Double, kilobitsPerSecond: Double?) {
            (self.name, self.roundTripMilliseconds) = (name, roundTripMilliseconds)
            (self.lossPercent, self.kilobitsPerSecond) = (lossPercent, kilobitsPerSecond)
        }
    }

    package var format = Comparison.formatNow
    package var version: String
    /// When it began: ISO 8601, UTC.
    package var date: String
    package var isQuick: Bool
    package var seconds = 0.0
    package var machine: Machine
    package var settings: Settings
    package var transports: [Figures] = []
    package var shapes: [Shape] = []
    /// How the shapes of the network were made, or why they were not.
    package var shapesBy = ""
    /// What could not be measured, and why.
    package var missing: [String] = []
    /// Of these figures.
    package var claims: [Claim] = []

    package init(version: String, date: String, isQuick: Bool, machine: Machine, settings: Settings) {
        (self.version, self.date, self.isQuick, self.machine, self.settings) = (version, date, isQuick, machine, settings)
    }

    /// Whether nothing was lost and nothing came twice, in any load.
    package var isWhole: Bool {
        transports.allSatisfy { $0.rates.allSatisfy(\.delivery.isWhole) } && shapes.allSatisfy { $0.cells.allSatisfy(\.delivery.isWhole) }
    }

    package subscript(_ transport: TransportID) -> Figures? {
        transports.first { $0.transport == transport }
    }

    // MARK: - JSON

    /// One object, in lines, its members sorted.
    package func json() throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return try encoder.encode(self) + Data("\n".utf8)
    }

    package init(json: Data) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(Comparison.self, from: json)
        guard format == Self.formatNow else {
            throw ComparisonFault("this comparison has format \(format); known is \(Self.formatNow)")
        }
    }

}

package struct ComparisonFault: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }
}

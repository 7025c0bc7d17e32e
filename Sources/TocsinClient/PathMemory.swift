import Synchronization

/// What was found out about a rung on a network.
public struct PathVerdict: Sendable, Equatable {
    public var transport: ClientTransport
    public var verdict: RungVerdict
    public var milliseconds: Int
    /// When it is no longer believed: milliseconds since 1970.
    public var until: Int

    public init(transport: ClientTransport, verdict: RungVerdict, milliseconds: Int, until: Int) {
        self.transport = transport
        self.verdict = verdict
        self.milliseconds = milliseconds
        self.until = until
    }
}

/// Remembers verdicts from one connection to the next. `network` is the opaque word by which a server's `hello` names the client's
/// network.
public protocol PathMemory: Sendable {
    /// The network that this server named last.
    func lastNetwork(of server: ServerAddress) -> String?
    func setLastNetwork(_ network: String, of server: ServerAddress)
    func verdicts(of server: ServerAddress, on network: String) -> [PathVerdict]
    /// Replaces what was known of that transport.
    func remember(_ verdict: PathVerdict, of server: ServerAddress, on network: String)
}

/// For the life of the process.
public final class ProcessPathMemory: PathMemory {
    private struct Place: Hashable {
        var server: ServerAddress
        var network: String
    }

    private struct Contents {
        var networks: [ServerAddress: String] = [:]
        var verdicts: [Place: [PathVerdict]] = [:]
    }

    public static let shared = ProcessPathMemory()

    /// A process sees few networks; a wandering one forgets all of them at times.
    private static let placesMax = 100

    private let contents = Mutex(Contents())

    public init() {}

    public func lastNetwork(of server: ServerAddress) -> String? {
        contents.withLock { $0.networks[server] }
    }

    public func setLastNetwork(_ network: String, of server: ServerAddress) {
        contents.withLock { contents in
            if contents.networks.count >= Self.placesMax { contents.networks = [:] }
            contents.networks[server] = network
        }
    }

    public func verdicts(of server: ServerAddress, on network: String) -> [PathVerdict] {
        contents.withLock { $0.verdicts[Place(server: server, network: network)] ?? [] }
    }

    public func remember(_ verdict: PathVerdict, of server: ServerAddress, on network: String) {
        contents.withLock { contents in
            if contents.verdicts.count >= Self.placesMax { contents.verdicts = [:] }
            let place = Place(server: server, network: network)
            contents.verdicts[place, default: []].removeAll { $0.transport == verdict.transport }
            contents.verdicts[place, default: []].append(verdict)
        }
    }
}

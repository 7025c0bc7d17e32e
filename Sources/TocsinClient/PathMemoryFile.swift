import Foundation
import Synchronization

/// What was found out about networks, in a file, so that the next run begins with the transport that gets through.
///
/// It is a help and nothing more: a file that cannot be read counts as empty, and one that cannot be written is left.
public final class PathMemoryFile: PathMemory {
    private struct Verdict: Codable {
        var transport: String
        var verdict: String
        var ms: Int
        var until: Int
    }

    private struct Server: Codable {
        var network: String?
        var verdicts: [String: [Verdict]] = [:]
    }

    /// More servers, or networks of one, than a person sees in the hour that a verdict counts.
    private static let entriesMax = 50

    private let path: String
    private let lock = Mutex(())

    /// - Parameter path: of the file; it and its directory are made when there is something to keep.
    public init(_ path: String) {
        self.path = path
    }

    private func read() -> [String: Server] {
        guard let bytes = FileManager.default.contents(atPath: path) else { return [:] }
        return (try? JSONDecoder().decode([String: Server].self, from: bytes)) ?? [:]
    }

    /// Reads the file anew each time, since other processes write it too; the last one wins.
    private func change(_ address: ServerAddress, _ body: (inout Server) -> Void) {
        lock.withLock { _ in
            var servers = read()
            if servers.count >= Self.entriesMax, servers[address.description] == nil { servers = [:] }
            var server = servers[address.description] ?? Server()
            body(&server)
            servers[address.description] = server
            let file = URL(filePath: path)
            try? FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try? JSONEncoder().encode(servers).write(to: file, options: .atomic)
        }
    }

    public func lastNetwork(of server: ServerAddress) -> String? {
        read()[server.description]?.network
    }

    public func setLastNetwork(_ network: String, of server: ServerAddress) {
        change(server) { $0.network = network }
    }

    public func verdicts(of server: ServerAddress, on network: String) -> [PathVerdict] {
        (read()[server.description]?.verdicts[network] ?? []).compactMap { one in
            guard let transport = ClientTransport(rawValue: one.transport), let verdict = RungVerdict(rawValue: one.verdict) else {
                return nil
            }
            return PathVerdict(transport: transport, verdict: verdict, milliseconds: one.ms, until: one.until)
        }
    }

    public func remember(_ verdict: PathVerdict, of server: ServerAddress, on network: String) {
        change(server) { contents in
            if contents.verdicts.count >= Self.entriesMax, contents.verdicts[network] == nil { contents.verdicts = [:] }
            contents.verdicts[network, default: []].removeAll { $0.transport == verdict.transport.rawValue }
            contents.verdicts[network, default: []].append(
                Verdict(
                    transport: verdict.transport.rawValue, verdict: verdict.verdict.rawValue, ms: verdict.milliseconds,
                    until: verdict.until
                )
            )
        }
    }
}

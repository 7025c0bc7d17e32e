import Glibc
import TLSEngine
import Testing

@Suite("TLS memory")
struct MemoryTests {
    /// Bytes that `malloc` has given out, as malloc_info(3) says: what it has of the system, without what lies free in it.
    private static func usedBytes() -> Int {
        typealias MallocInfo = @convention(c) (Int32, UnsafeMutablePointer<FILE>) -> Int32
        var text: UnsafeMutablePointer<CChar>?
        var count = 0
        let stream = open_memstream(&text, &count)!
        precondition(LibSSL.find("malloc_info", as: MallocInfo.self)(0, stream) == 0)
        fclose(stream)
        let report = String(cString: text!)
        free(text)
        // The totals of all arenas come last.
        func size(_ element: String) -> Int {
            let line = report.split(separator: "\n").last { $0.hasPrefix("<\(element)") }!
            return Int(line.split(separator: "\"").last { $0.allSatisfy(\.isNumber) }!)!
        }
        return size("system type=\"current\"") + size("total type=\"mmap\"") - size("total type=\"fast\"") - size("total type=\"rest\"")
    }

    /// The allocators of sanitizers say nothing of their memory (`make sanitize`).
    private static var isSanitized: Bool { getenv("TOCSIN_SANITIZER") != nil }

    // In a process of its own, so that nothing else allocates.
    @Test("An idle session has no buffers", .disabled(if: isSanitized, "no figures of malloc under a sanitizer"))
    func idle() async throws {
        let result = try await #require(processExitsWith: .success, observing: [\.standardOutputContent]) {
            let count = 150
            for version in LibSSL.Version.supported {
                for isAuthenticated in [false, true] {
                    var configuration = TLSConfiguration(certificates: [TestCertificates.files("ecdsa")])
                    if isAuthenticated {
                        configuration.clientCertificates = .required(caFile: TestCertificates.path("authority.pem"))
                    }
                    let server = try TLSContext(server: configuration)
                    let client = try TLSContext(
                        clientTrusting: TestCertificates.path("trust.pem"), certificate: TestCertificates.files("device")
                    )
                    var engines: [TLSEngine] = []
                    engines.reserveCapacity(count)
                    var before = 0
                    let sealer = RecordSealer()
                    // The first one makes what all share.
                    for number in 0...count {
                        if number == 1 { before = Self.usedBytes() }
                        let pair = TLSPair(server: server, client: client, version: version, sealer: sealer)
                        try pair.handshake()
                        try pair.server.send([UInt8](repeating: 1, count: 20_000), outgoing: &pair.toClient)
                        try pair.client.send([UInt8](repeating: 1, count: 20_000), outgoing: &pair.toServer)
                        try pair.pump()
                        if number > 0 { engines.append(pair.server) }
                    }
                    let bytes = (Self.usedBytes() - before) / count
                    print(version, isAuthenticated ? "with" : "without", "client certificate:", bytes, "bytes per idle session")
                    // A buffer for a record has 16 KB and more.
                    precondition(bytes < (isAuthenticated ? 24_000 : 16_000), "\(bytes) bytes")
                    precondition(bytes > 5000, "that is no session")
                    precondition(engines.allSatisfy(\.isEstablished))
                }
            }
        }
        let lines = String(decoding: result.standardOutputContent, as: UTF8.self).split(separator: "\n")
        #expect(lines.filter { $0.hasSuffix("bytes per idle session") }.count == 4)
        print(lines.joined(separator: "\n"))
    }
}

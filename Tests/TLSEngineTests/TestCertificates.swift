import Foundation
import TLSEngine

/// The certificates that `Fixtures/TLS/make-certificates.sh` makes, once per test process.
enum TestCertificates {
    private static let folder: URL = {
        let temporary = FileManager.default.temporaryDirectory.appendingPathComponent("tocsin-tls-\(UUID().uuidString)")
        do {
            try FileManager.default.createDirectory(at: temporary, withIntermediateDirectories: true)
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/bin/sh")
            process.arguments = [fixtures.appendingPathComponent("make-certificates.sh").path, temporary.path]
            try process.run()
            process.waitUntilExit()
            precondition(process.terminationStatus == 0, "make-certificates.sh failed; see \(temporary.path)/log")
        } catch {
            preconditionFailure("no test certificates: \(error)")
        }
        atexit { try? FileManager.default.removeItem(at: TestCertificates.folder) }
        return temporary
    }()

    private static var fixtures: URL {
        var folder = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent()
        while !FileManager.default.fileExists(atPath: folder.appendingPathComponent("Fixtures/TLS").path), folder.path != "/" {
            folder.deleteLastPathComponent()
        }
        return folder.appendingPathComponent("Fixtures/TLS")
    }

    static func path(_ file: String) -> String { folder.appendingPathComponent(file).path }

    static func files(_ name: String) -> TLSCertificateFiles {
        TLSCertificateFiles(certificateChain: path("\(name).pem"), privateKey: path("\(name).key"))
    }

    /// A folder of its own with copies of a certificate, to be overwritten: `live.pem` and `live.key`.
    static func makeLive(_ name: String) throws -> TLSCertificateFiles {
        let own = folder.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: own, withIntermediateDirectories: true)
        let files = TLSCertificateFiles(
            certificateChain: own.appendingPathComponent("live.pem").path,
            privateKey: own.appendingPathComponent("live.key").path
        )
        try replace(files, with: name)
        return files
    }

    static func replace(_ files: TLSCertificateFiles, with name: String) throws {
        try Data(contentsOf: URL(fileURLWithPath: path("\(name).pem"))).write(to: URL(fileURLWithPath: files.certificateChain))
        try Data(contentsOf: URL(fileURLWithPath: path("\(name).key"))).write(to: URL(fileURLWithPath: files.privateKey))
    }

    static func server(_ names: String..., alpn: [String] = ["h2", "http/1.1"]) throws -> TLSContext {
        try TLSContext(server: names.map(files), alpn: alpn)
    }

    /// Trusts all of the test certificates and checks names.
    static func client(alpn: [String] = [], verifies: Bool = true) throws -> TLSContext {
        try TLSContext(clientTrusting: path("trust.pem"), verifies: verifies, alpn: alpn)
    }
}

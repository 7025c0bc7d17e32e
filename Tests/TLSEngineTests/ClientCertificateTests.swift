import Foundation
import TLSEngine
import Testing

@Suite("TLS client certificates")
struct ClientCertificateTests {
    private static let authority = TestCertificates.path("authority.pem")

    private static func server(_ policy: ClientCertificatePolicy, keys: SharedTicketKeys = SharedTicketKeys()) throws -> TLSContext {
        var configuration = TLSConfiguration(certificates: [TestCertificates.files("ecdsa"), TestCertificates.files("wildcard")])
        configuration.clientCertificates = policy
        return try TLSContext(server: configuration, ticketKeys: keys)
    }

    private static func client(_ certificate: String?) throws -> TLSContext {
        try TLSContext(
            clientTrusting: TestCertificates.path("trust.pem"), alpn: [], certificate: certificate.map { TestCertificates.files($0) }
        )
    }

    /// Of the DER form, as the tool says it.
    private static func fingerprint(_ name: String) throws -> String {
        let pem = try String(contentsOfFile: TestCertificates.path("\(name).pem"), encoding: .utf8)
        let body = pem.components(separatedBy: "-----")[2].replacingOccurrences(of: "\n", with: "")
        let process = Process()
        let input = Pipe()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/sha256sum")
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        input.fileHandleForWriting.write(try #require(Data(base64Encoded: body)))
        try input.fileHandleForWriting.close()
        process.waitUntilExit()
        return String(decoding: output.fileHandleForReading.readDataToEndOfFile().prefix(64), as: UTF8.self)
    }

    @Test("The verified name and fingerprint are known on both ends", arguments: LibSSL.Version.supported)
    func verified(version: LibSSL.Version) throws {
        for policy in [ClientCertificatePolicy.optional(caFile: Self.authority), .required(caFile: Self.authority)] {
            let pair = TLSPair(server: try Self.server(policy), client: try Self.client("device"), version: version)
            #expect(pair.server.peerCertificate == nil)
            try pair.handshake()
            let certificate = try #require(pair.server.peerCertificate)
            #expect(certificate.subject == #"CN=device 7,O=Example\, Inc."#)
            #expect(certificate.fingerprint == (try Self.fingerprint("device")))
            #expect(pair.client.peerCertificate?.subject == "CN=ecdsa")
            #expect(LibSSL.namedAuthorities(pair.client) == 1)
        }
    }

    @Test("Without the policy nobody is asked", arguments: LibSSL.Version.supported)
    func off(version: LibSSL.Version) throws {
        let pair = TLSPair(server: try Self.server(.off), client: try Self.client("device"), version: version)
        try pair.handshake()
        #expect(pair.server.peerCertificate == nil)
        #expect(LibSSL.namedAuthorities(pair.client) == 0)
        // Nor is a name given out that nobody asked to verify.
        let careless = TLSPair(server: try Self.server(.off), client: try TestCertificates.client(verifies: false), version: version)
        try careless.handshake()
        #expect(careless.client.peerCertificate == nil)
    }

    @Test("A client without a certificate is let in where it is optional", arguments: LibSSL.Version.supported)
    func none(version: LibSSL.Version) throws {
        let optional = TLSPair(server: try Self.server(.optional(caFile: Self.authority)), client: try Self.client(nil), version: version)
        try optional.handshake()
        #expect(optional.server.isEstablished)
        #expect(optional.server.peerCertificate == nil)
    }

    // The name of another context must not be a way around.
    @Test(
        "A client without a certificate is not let in where it is required, whatever name it asks for", arguments: LibSSL.Version.supported)
    func requiredByAllNames(version: LibSSL.Version) throws {
        for name in ["a.example", "x.b.example", "unknown.example", "127.0.0.1"] {
            let server = try Self.server(.required(caFile: Self.authority))
            let anonymous = TLSPair(server: server, client: try TestCertificates.client(verifies: false), name: name, version: version)
            #expect(throws: TLSFault.handshakeFailed("peer did not return a certificate")) { try anonymous.handshake() }
            #expect(!anonymous.server.isEstablished)
            #expect(anonymous.server.peerCertificate == nil)
            // An alert: certificate_required or handshake_failure.
            #expect(throws: TLSFault.self) { try anonymous.deliverToClient() }
        }
        for name in ["a.example", "x.b.example"] {
            let pair = TLSPair(
                server: try Self.server(.required(caFile: Self.authority)), client: try Self.client("device"), name: name, version: version)
            try pair.handshake()
            #expect(pair.server.peerCertificate != nil)
        }
    }

    @Test(
        "A certificate that is not good is refused, also where it is optional",
        arguments: [
            ("stranger", "unable to get local issuer certificate"), ("serving", "unsuitable certificate purpose"),
            ("expired", "certificate has expired"), ("ecdsa", "self-signed certificate"),
        ],
        LibSSL.Version.supported
    )
    func refused(client: (name: String, why: String), version: LibSSL.Version) throws {
        for policy in [ClientCertificatePolicy.optional(caFile: Self.authority), .required(caFile: Self.authority)] {
            let pair = TLSPair(server: try Self.server(policy), client: try Self.client(nil), version: version)
            LibSSL.useCertificate(pair.client, client.name)
            #expect(throws: TLSFault.handshakeFailed("certificate verify failed: \(client.why)")) { try pair.handshake() }
            #expect(pair.server.peerCertificate == nil)
        }
    }

    @Test("A name is printable ASCII, whatever stands in the certificate")
    func escaped() throws {
        let pair = TLSPair(server: try Self.server(.required(caFile: Self.authority)), client: try Self.client("umlaut"))
        try pair.handshake()
        #expect(pair.server.peerCertificate?.subject == #"CN=J\C3\BCrgen\0Aroot"#)
    }

    @Test("A session that is resumed still has the name", arguments: LibSSL.Version.supported)
    func resumed(version: LibSSL.Version) throws {
        let server = try Self.server(.required(caFile: Self.authority))
        let client = try Self.client("device")
        let first = TLSPair(server: server, client: client, version: version)
        try first.handshake()
        let second = TLSPair(server: server, client: client, version: version)
        LibSSL.resume(second.client, first.client)
        try second.handshake()
        #expect(second.server.isResumed)
        #expect(second.server.peerCertificate == first.server.peerCertificate)
        #expect(second.server.peerCertificate != nil)
    }

    @Test("A session whose client certificate has expired since is not resumed", arguments: LibSSL.Version.supported)
    func expiredSince(version: LibSSL.Version) throws {
        let server = try Self.server(.optional(caFile: Self.authority))
        let client = try Self.client(nil)
        let first = TLSPair(server: server, client: client, version: version)
        LibSSL.useCertificate(first.client, "expired")
        LibSSL.doNotCheckTimes(first.server)
        try first.handshake()
        #expect(first.server.peerCertificate?.subject == "CN=expired")
        let second = TLSPair(server: server, client: client, version: version)
        LibSSL.resume(second.client, first.client)
        try second.handshake()
        #expect(!second.server.isResumed)
        #expect(second.server.peerCertificate == nil)
    }

    @Test("A session of other rules is not resumed, with the same ticket keys", arguments: LibSSL.Version.supported)
    func otherRules(version: LibSSL.Version) throws {
        let other = TestCertificates.path("other-authority.pem")
        let both = TestCertificates.path("both-authorities.pem")
        let text = try [Self.authority, other].map { try String(contentsOfFile: $0, encoding: .utf8) }.joined()
        try text.write(toFile: both, atomically: true, encoding: .utf8)
        let keys = SharedTicketKeys()
        let rules: [ClientCertificatePolicy] = [
            .off, .optional(caFile: Self.authority), .required(caFile: Self.authority), .optional(caFile: both), .required(caFile: both),
        ]
        for before in rules {
            for after in rules {
                let client = try Self.client("device")
                let first = TLSPair(server: try Self.server(before, keys: keys), client: client, version: version)
                try first.handshake()
                let second = TLSPair(server: try Self.server(after, keys: keys), client: client, version: version)
                LibSSL.resume(second.client, first.client)
                try second.handshake()
                #expect(second.server.isResumed == (before == after), "\(before), then \(after)")
                #expect((second.server.peerCertificate == nil) == (after == .off))
            }
        }
        // The case that matters: a client that never had a certificate.
        let anonymous = try Self.client(nil)
        let first = TLSPair(server: try Self.server(.off, keys: keys), client: anonymous, version: version)
        try first.handshake()
        let second = TLSPair(server: try Self.server(.required(caFile: Self.authority), keys: keys), client: anonymous, version: version)
        LibSSL.resume(second.client, first.client)
        #expect(throws: TLSFault.self) { try second.handshake() }
    }

    @Test(
        "A file of authorities that cannot be used is a fault",
        arguments: [
            ("missing.pem", "No such file"), ("text.pem", "no certificate in the file"), ("damaged.pem", "a further certificate"),
            ("device.pem", #"CN=device 7,O=Example\, Inc. is no certificate of an authority"#),
        ]
    )
    func badFile(file: String, why: String) throws {
        let path = TestCertificates.path(file)
        let fault = #expect(throws: TLSFault.self) { try Self.server(.required(caFile: path)) }
        #expect(fault?.description.hasPrefix("\(path): ") == true)
        #expect(fault?.description.contains(why) == true)
    }
}

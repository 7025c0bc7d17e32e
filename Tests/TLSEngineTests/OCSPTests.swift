import Foundation
import TLSEngine
import Testing

@Suite("TLS OCSP stapling")
struct OCSPTests {
    private static func files(_ name: String, _ ocspResponse: String?) -> TLSCertificateFiles {
        var files = TestCertificates.files(name)
        files.ocspResponse = ocspResponse
        return files
    }

    /// What a client gets that asks for the status, or does not.
    private static func stapled(
        _ context: TLSContext, name: String, _ version: LibSSL.Version, asks: Bool = true, algorithms: String? = nil
    ) throws -> [UInt8]? {
        let pair = TLSPair(server: context, client: try TestCertificates.client(), name: name, version: version)
        if asks { LibSSL.askForStatus(pair.client) }
        if let algorithms { LibSSL.setSignatureAlgorithms(pair.client, algorithms) }
        try pair.handshake()
        return LibSSL.stapled(pair.client)
    }

    @Test("Who asks gets the response, and nobody else", arguments: LibSSL.Version.supported)
    func asked(version: LibSSL.Version) throws {
        let path = TestCertificates.path("chained.ocsp")
        let context = try TLSContext(server: [Self.files("chained", path)])
        #expect(context.warnings.isEmpty)
        let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: path)))
        #expect(try Self.stapled(context, name: "c.example", version) == bytes)
        #expect(try Self.stapled(context, name: "c.example", version, asks: false) == nil)
    }

    @Test("Each certificate has its own response", arguments: LibSSL.Version.supported)
    func ownResponse(version: LibSSL.Version) throws {
        // These two sign themselves, and so their responses.
        let ecdsa = OCSPMaker(about: "ecdsa", issuer: "ecdsa", signer: "ecdsa", digest: .sha256)
        let rsa = OCSPMaker(about: "rsa", issuer: "rsa", signer: "rsa")
        let paths = (ecdsa: try ecdsa.write(), rsa: try rsa.write())
        let context = try TLSContext(server: [Self.files("ecdsa", paths.ecdsa), Self.files("rsa", paths.rsa), Self.files("wildcard", nil)])
        for (algorithms, path) in [("ECDSA+SHA256", paths.ecdsa), ("RSA-PSS+SHA256:RSA+SHA256", paths.rsa)] {
            let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: path)))
            #expect(try Self.stapled(context, name: "a.example", version, algorithms: algorithms) == bytes)
        }
        #expect(try Self.stapled(context, name: "b.example", version) == nil)
    }

    @Test("A session that is resumed has no certificate, and so no response", arguments: LibSSL.Version.supported)
    func resumed(version: LibSSL.Version) throws {
        let context = try TLSContext(server: [Self.files("chained", TestCertificates.path("chained.ocsp"))])
        let client = try TestCertificates.client()
        let first = TLSPair(server: context, client: client, name: "c.example", version: version)
        try first.handshake()
        let second = TLSPair(server: context, client: client, name: "c.example", version: version)
        LibSSL.askForStatus(second.client)
        LibSSL.resume(second.client, first.client)
        try second.handshake()
        #expect(second.server.isResumed)
        #expect(LibSSL.stapled(second.client) == nil)
    }

    @Test("A response that is not current is loaded with a warning, and not sent", arguments: LibSSL.Version.supported)
    func expired(version: LibSSL.Version) throws {
        let now = Int(Date().timeIntervalSince1970)
        for (thisUpdate, nextUpdate) in [(now - 7200, now - 1), (now + 3600, now + 7200)] {
            let path = try OCSPMaker(thisUpdate: thisUpdate, nextUpdate: nextUpdate).write()
            let context = try TLSContext(server: [Self.files("chained", path)])
            #expect(context.warnings == ["\(path): the OCSP response is not current, so it is not sent; get a new one"])
            #expect(try Self.stapled(context, name: "c.example", version) == nil)
        }
    }

    @Test("A response that expires after it was loaded is not sent any more")
    func expiresLater() throws {
        let now = Int(Date().timeIntervalSince1970)
        let path = try OCSPMaker(thisUpdate: now - 7200, nextUpdate: now - 1).write()
        // Loaded when it was current; the certificates are seconds old, and OpenSSL compares to the second.
        let notAfter = try #require(try TLSContext(server: [TestCertificates.files("chained")]).notAfter)
        let made = notAfter - 30 * 86_400
        let early = try OCSPMaker(thisUpdate: Int(made) - 7200, nextUpdate: Int(made) + 2).write()
        #expect(try TLSContext(server: [Self.files("chained", early)], at: made + 1).warnings.isEmpty)
        #expect(try TLSContext(server: [Self.files("chained", early)], at: made + 2).warnings.count == 1)
        #expect(try Self.stapled(try TLSContext(server: [Self.files("chained", path)], at: made + 1), name: "c.example", .tls13) == nil)
    }

    @Test("A reload takes the new response")
    func reload() throws {
        let path = try OCSPMaker().write()
        let contexts = try TLSContexts(server: [Self.files("chained", path)])
        let before = try #require(try Self.stapled(contexts.current, name: "c.example", .tls13))
        let new = OCSPMaker(digest: .sha256).bytes()
        #expect(new != before)
        try Data(new).write(to: URL(fileURLWithPath: path))
        #expect(try Self.stapled(contexts.current, name: "c.example", .tls13) == before)
        try contexts.reload()
        #expect(try Self.stapled(contexts.current, name: "c.example", .tls13) == new)
        try Data("gone".utf8).write(to: URL(fileURLWithPath: path))
        #expect(throws: TLSFault.self) { try contexts.reload() }
        #expect(try Self.stapled(contexts.current, name: "c.example", .tls13) == new)
    }

    enum Refused: String, CaseIterable {
        case missing, text, empty, behind, truncated, otherCertificate, otherIssuer, strangerSigned, siblingSigned, damaged
        case revoked, unknown, withoutEnd, tryLater, huge, certificate

        func write() throws -> String {
            switch self {
            case .missing: return TestCertificates.path("missing.ocsp")
            case .text: return TestCertificates.path("text.pem")
            case .certificate: return TestCertificates.path("chained.pem")
            case .otherCertificate: return try OCSPMaker(about: "muststaple").write()
            case .otherIssuer: return try OCSPMaker(issuer: "root").write()
            case .strangerSigned: return try OCSPMaker(signer: "ecdsa").write()
            // Of the same issuer, but not for signing responses.
            case .siblingSigned: return try OCSPMaker(signer: "muststaple").write()
            case .revoked: return try OCSPMaker(status: 1).write()
            case .unknown: return try OCSPMaker(status: 2).write()
            case .withoutEnd: return try OCSPMaker(nextUpdate: nil).write()
            case .tryLater: return try OCSPMaker(responseStatus: 3).write()
            case .empty, .behind, .truncated, .damaged, .huge:
                var bytes = OCSPMaker(includesSigner: false).bytes()
                switch self {
                case .empty: bytes = []
                case .behind: bytes.append(0)
                case .truncated: bytes.removeLast()
                case .huge: bytes += [UInt8](repeating: 0, count: 40_000)
                // A byte of the signature.
                default: bytes[bytes.count - 5] ^= 1
                }
                let path = TestCertificates.path("\(UUID().uuidString).ocsp")
                try Data(bytes).write(to: URL(fileURLWithPath: path))
                return path
            }
        }

        var why: String {
            switch self {
            case .missing: "No such file"
            case .text, .certificate, .empty, .truncated: "no OCSP response in DER"
            case .behind: "1 bytes behind the OCSP response"
            case .otherCertificate: "about another certificate"
            case .otherIssuer, .strangerSigned, .siblingSigned, .damaged: "not signed by the certificate's issuer"
            case .revoked: "says of the certificate: revoked"
            case .unknown: "says of the certificate: unknown"
            case .withoutEnd: "until when it is current"
            case .tryLater: "refused: trylater"
            case .huge: "more than 32768 bytes"
            }
        }
    }

    @Test("What is no good response for the certificate is refused, naming the file", arguments: Refused.allCases)
    func refused(_ refused: Refused) throws {
        let path = try refused.write()
        let fault = #expect(throws: TLSFault.self) { try TLSContext(server: [Self.files("chained", path)]) }
        #expect(fault?.description.hasPrefix("\(path): ") == true)
        #expect(fault?.description.contains(refused.why) == true, "\(String(describing: fault))")
    }

    @Test("What the tool says of a revoked certificate is refused")
    func revokedByTool() throws {
        let fault = #expect(throws: TLSFault.self) {
            try TLSContext(server: [Self.files("muststaple", TestCertificates.path("muststaple.ocsp"))])
        }
        #expect(fault?.description.contains("revoked") == true)
    }

    @Test("Without the issuer in the chain a response cannot be checked")
    func noIssuer() throws {
        let fault = #expect(throws: TLSFault.self) { try TLSContext(server: [Self.files("alone", try OCSPMaker().write())]) }
        #expect(fault?.description.contains("does not hold its issuer") == true)
    }

    @Test("A certificate that asks for stapling gets a warning if there is no response")
    func mustStaple() throws {
        let warnings = try TestCertificates.server("muststaple").warnings
        #expect(warnings.count == 1)
        #expect(warnings.first?.contains("RFC 7633") == true)
        let path = try OCSPMaker(about: "muststaple").write()
        #expect(try TLSContext(server: [Self.files("muststaple", path)]).warnings.isEmpty)
    }
}

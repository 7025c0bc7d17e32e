import Foundation
import TLSEngine

/// Functions of OpenSSL that only the tests' client needs: an odd client has to be told to be odd.
///
/// They are looked up by name, so that the tests depend on nothing but `TLSEngine`.
enum LibSSL {
    enum Version: Int, CaseIterable, Sendable {
        case tls10 = 0x0301
        case tls12 = 0x0303
        case tls13 = 0x0304

        static let supported: [Version] = [.tls12, .tls13]
    }

    static func find<Function>(_ name: String, as type: Function.Type) -> Function {
        // A nil handle is RTLD_DEFAULT: everything that is linked.
        guard let symbol = dlsym(nil, name) else { preconditionFailure("libssl has no \(name)") }
        return unsafeBitCast(symbol, to: type)
    }

    private typealias Control = @convention(c) (OpaquePointer, Int32, Int, UnsafeRawPointer?) -> Int
    private typealias OfSession = @convention(c) (OpaquePointer) -> Int32

    /// SSL_set_min_proto_version and SSL_set_max_proto_version.
    static func setVersion(_ engine: TLSEngine, _ version: Version) {
        let control = find("SSL_ctrl", as: Control.self)
        precondition(control(engine.session, 123, version.rawValue, nil) == 1)
        precondition(control(engine.session, 124, version.rawValue, nil) == 1)
    }

    /// SSL_set1_sigalgs_list: what the client can verify.
    static func setSignatureAlgorithms(_ engine: TLSEngine, _ list: String) {
        let result = list.withCString { find("SSL_ctrl", as: Control.self)(engine.session, 98, 0, $0) }
        precondition(result == 1)
    }

    static func setCiphers(_ engine: TLSEngine, _ list: String) {
        typealias SetCiphers = @convention(c) (OpaquePointer, UnsafePointer<CChar>) -> Int32
        find("SSL_set_security_level", as: (@convention(c) (OpaquePointer, Int32) -> Void).self)(engine.session, 0)
        precondition(list.withCString { find("SSL_set_cipher_list", as: SetCiphers.self)(engine.session, $0) } == 1)
    }

    /// SSL_set_ciphersuites: those of TLS 1.3.
    static func setSuites(_ engine: TLSEngine, _ list: String) {
        typealias SetSuites = @convention(c) (OpaquePointer, UnsafePointer<CChar>) -> Int32
        precondition(list.withCString { find("SSL_set_ciphersuites", as: SetSuites.self)(engine.session, $0) } == 1)
    }

    /// Makes the session begin a renegotiation with the next call.
    static func renegotiate(_ engine: TLSEngine) {
        typealias ClearOptions = @convention(c) (OpaquePointer, UInt64) -> UInt64
        _ = find("SSL_clear_options", as: ClearOptions.self)(engine.session, 1 << 30)  // SSL_OP_NO_RENEGOTIATION
        precondition(find("SSL_renegotiate", as: OfSession.self)(engine.session) == 1)
    }

    /// Makes the session change its keys, and ask for the same, with the next `send`.
    static func updateKeys(_ engine: TLSEngine) {
        typealias KeyUpdate = @convention(c) (OpaquePointer, Int32) -> Int32
        precondition(find("SSL_key_update", as: KeyUpdate.self)(engine.session, 1) == 1)
    }

    /// SSL_get1_session and SSL_set_session: `engine` resumes what `earlier` left.
    static func resume(_ engine: TLSEngine, _ earlier: TLSEngine) {
        typealias Get = @convention(c) (OpaquePointer) -> OpaquePointer?
        typealias Set = @convention(c) (OpaquePointer, OpaquePointer) -> Int32
        guard let session = find("SSL_get1_session", as: Get.self)(earlier.session) else { preconditionFailure("no session") }
        precondition(find("SSL_set_session", as: Set.self)(engine.session, session) == 1)
        find("SSL_SESSION_free", as: (@convention(c) (OpaquePointer) -> Void).self)(session)
    }

    static func isResumed(_ engine: TLSEngine) -> Bool {
        find("SSL_session_reused", as: OfSession.self)(engine.session) == 1
    }

    /// Whether the peer's certificate is for `name`.
    static func peerHasName(_ engine: TLSEngine, _ name: String) -> Bool {
        typealias Get = @convention(c) (OpaquePointer) -> OpaquePointer?
        typealias Check = @convention(c) (OpaquePointer, UnsafePointer<CChar>, Int, UInt32, UnsafeMutableRawPointer?) -> Int32
        guard let certificate = find("SSL_get1_peer_certificate", as: Get.self)(engine.session) else { return false }
        defer { find("X509_free", as: (@convention(c) (OpaquePointer) -> Void).self)(certificate) }
        return name.withCString { find("X509_check_host", as: Check.self)(certificate, $0, name.utf8.count, 0, nil) } == 1
    }

    /// SSL_set1_groups_list.
    static func setGroups(_ engine: TLSEngine, _ list: String) {
        let result = list.withCString { find("SSL_ctrl", as: Control.self)(engine.session, 92, 0, $0) }
        precondition(result == 1)
    }

    /// The cipher suites that are offered or accepted, by OpenSSL's names, in order.
    static func ciphers(_ engine: TLSEngine) -> [String] {
        typealias Name = @convention(c) (OpaquePointer, Int32) -> UnsafePointer<CChar>?
        return (Int32(0)...).lazy.map { find("SSL_get_cipher_list", as: Name.self)(engine.session, $0) }.prefix { $0 != nil }
            .map { String(cString: $0!) }
    }

    static func options(_ engine: TLSEngine) -> UInt64 {
        find("SSL_get_options", as: (@convention(c) (OpaquePointer) -> UInt64).self)(engine.session)
    }

    /// Makes the session ask for more than `TLSContext` lets clients ask for, or less.
    static func setOptions(_ engine: TLSEngine, _ options: UInt64) {
        _ = find("SSL_set_options", as: (@convention(c) (OpaquePointer, UInt64) -> UInt64).self)(engine.session, options)
    }

    /// Whether there was a key exchange (SSL_get_peer_tmp_key), and not only the secret of an earlier session.
    static func hasOwnKeyExchange(_ engine: TLSEngine) -> Bool {
        typealias Peer = @convention(c) (OpaquePointer, Int32, Int, UnsafeMutableRawPointer?) -> Int
        var key: OpaquePointer?
        let result = withUnsafeMutablePointer(to: &key) { find("SSL_ctrl", as: Peer.self)(engine.session, 109, 0, $0) }
        guard result == 1, let key else { return false }
        find("EVP_PKEY_free", as: (@convention(c) (OpaquePointer) -> Void).self)(key)
        return true
    }

    // MARK: - OCSP

    /// SSL_set_tlsext_status_type: asks for a stapled response.
    static func askForStatus(_ engine: TLSEngine) {
        precondition(find("SSL_ctrl", as: Control.self)(engine.session, 65, 1, nil) == 1)
    }

    /// The stapled response that came.
    static func stapled(_ engine: TLSEngine) -> [UInt8]? {
        typealias Get = @convention(c) (OpaquePointer, Int32, Int, UnsafeMutableRawPointer?) -> Int
        var bytes: UnsafePointer<UInt8>?
        let count = withUnsafeMutablePointer(to: &bytes) { find("SSL_ctrl", as: Get.self)(engine.session, 70, 0, $0) }
        guard let bytes, count > 0 else { return nil }
        return Array(UnsafeBufferPointer(start: bytes, count: count))
    }

    // MARK: - Client certificates

    /// Shows a certificate that `TLSContext` would refuse to load.
    static func useCertificate(_ engine: TLSEngine, _ name: String) {
        typealias UseFile = @convention(c) (OpaquePointer, UnsafePointer<CChar>, Int32) -> Int32
        let files = TestCertificates.files(name)
        precondition(find("SSL_use_certificate_file", as: UseFile.self)(engine.session, files.certificateChain, 1) == 1)
        precondition(find("SSL_use_PrivateKey_file", as: UseFile.self)(engine.session, files.privateKey, 1) == 1)
    }

    /// Makes the session take certificates of any time (X509_V_FLAG_NO_CHECK_TIME).
    static func doNotCheckTimes(_ engine: TLSEngine) {
        typealias Get = @convention(c) (OpaquePointer) -> OpaquePointer
        typealias Set = @convention(c) (OpaquePointer, UInt) -> Int32
        let parameters = find("SSL_get0_param", as: Get.self)(engine.session)
        precondition(find("X509_VERIFY_PARAM_set_flags", as: Set.self)(parameters, 0x20_0000) == 1)
    }

    /// How many authorities the server named when it asked for a certificate.
    static func namedAuthorities(_ engine: TLSEngine) -> Int {
        typealias Get = @convention(c) (OpaquePointer) -> OpaquePointer?
        guard let list = find("SSL_get0_peer_CA_list", as: Get.self)(engine.session) else { return 0 }
        return Int(find("OPENSSL_sk_num", as: OfSession.self)(list))
    }

    // MARK: - Tickets

    /// The session of an engine; owned by the engine.
    private static func state(_ engine: TLSEngine) -> OpaquePointer {
        typealias Get = @convention(c) (OpaquePointer) -> OpaquePointer?
        return find("SSL_get_session", as: Get.self)(engine.session)!
    }

    /// The ticket that a client has; empty if none.
    static func ticket(_ engine: TLSEngine) -> [UInt8] {
        typealias Get = @convention(c) (OpaquePointer, UnsafeMutablePointer<UnsafePointer<UInt8>?>, UnsafeMutablePointer<Int>) -> Void
        var bytes: UnsafePointer<UInt8>?
        var count = 0
        find("SSL_SESSION_get0_ticket", as: Get.self)(state(engine), &bytes, &count)
        return Array(UnsafeBufferPointer(start: bytes, count: count))
    }

    /// For how many seconds the server says that a client's ticket is good.
    static func ticketSeconds(_ engine: TLSEngine) -> Int {
        find("SSL_SESSION_get_ticket_lifetime_hint", as: (@convention(c) (OpaquePointer) -> Int).self)(state(engine))
    }

    /// How many bytes of early data a client's ticket allows.
    static func earlyDataMax(_ engine: TLSEngine) -> UInt32 {
        find("SSL_SESSION_get_max_early_data", as: (@convention(c) (OpaquePointer) -> UInt32).self)(state(engine))
    }

    /// SSL_SESSION_set1_ticket_appdata of a server's session: what its next ticket holds besides the session.
    static func setTicketData(_ engine: TLSEngine, _ bytes: [UInt8]) {
        typealias Set = @convention(c) (OpaquePointer, UnsafeRawPointer?, Int) -> Int32
        precondition(find("SSL_SESSION_set1_ticket_appdata", as: Set.self)(state(engine), bytes, bytes.count) == 1)
    }

    static func ticketData(_ engine: TLSEngine) -> [UInt8] {
        typealias Get = @convention(c) (OpaquePointer, UnsafeMutablePointer<UnsafeMutableRawPointer?>, UnsafeMutablePointer<Int>) -> Int32
        var bytes: UnsafeMutableRawPointer?
        var count = 0
        precondition(find("SSL_SESSION_get0_ticket_appdata", as: Get.self)(state(engine), &bytes, &count) == 1)
        return Array(UnsafeRawBufferPointer(start: bytes, count: count))
    }

    /// `engine` resumes what `earlier` left, but with another ticket, of the same length.
    static func resume(_ engine: TLSEngine, _ earlier: TLSEngine, ticket other: [UInt8]) {
        typealias Encode = @convention(c) (OpaquePointer, UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>?) -> Int32
        typealias Decode = @convention(c) (OpaquePointer?, UnsafeMutablePointer<UnsafePointer<UInt8>?>, Int) -> OpaquePointer?
        typealias Set = @convention(c) (OpaquePointer, OpaquePointer) -> Int32
        let encode = find("i2d_SSL_SESSION", as: Encode.self)
        var bytes = [UInt8](repeating: 0, count: Int(encode(state(earlier), nil)))
        bytes.withUnsafeMutableBufferPointer { buffer in
            var next = buffer.baseAddress
            _ = encode(state(earlier), &next)
        }
        let ticket = ticket(earlier)
        precondition(other.count == ticket.count)
        let start = (0...bytes.count - ticket.count).first { bytes[$0..<$0 + ticket.count].elementsEqual(ticket) }!
        bytes.replaceSubrange(start..<start + ticket.count, with: other)
        let session = bytes.withUnsafeBufferPointer { buffer in
            var next = buffer.baseAddress
            return find("d2i_SSL_SESSION", as: Decode.self)(nil, &next, buffer.count)!
        }
        precondition(find("SSL_set_session", as: Set.self)(engine.session, session) == 1)
        find("SSL_SESSION_free", as: (@convention(c) (OpaquePointer) -> Void).self)(session)
    }
}

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

    private static func find<Function>(_ name: String, as type: Function.Type) -> Function {
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
}

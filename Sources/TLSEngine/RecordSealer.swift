import COpenSSL

/// Seals records of TLS 1.3 for many sessions (RFC 8446, section 5.2). One for each event loop, whose memory stays warm where a cipher
/// context for each session would be cold: setting a session's key takes less than fetching such a context from memory.
///
/// Not Sendable: it belongs to one event loop.
package final class RecordSealer {
    static let plaintextBytesMax = Int(SSL3_RT_MAX_PLAIN_LENGTH)
    static let headerBytes = 5
    static let tagBytes = 16

    /// By suite, made when it is first needed.
    private var contexts = [OpaquePointer?](repeating: nil, count: SealingSuite.allCases.count)
    /// Whose key each of them has: the `serial` of the keys.
    private var serials = [UInt64](repeating: 0, count: SealingSuite.allCases.count)
    private var lastSerial: UInt64 = 0

    package init() {}

    deinit {
        for context in contexts { EVP_CIPHER_CTX_free(context) }
    }

    /// A number for keys that no other keys have.
    func newSerial() -> UInt64 {
        lastSerial += 1
        return lastSerial
    }

    /// Encrypts in place.
    ///
    /// - Parameters:
    ///   - key, nonce: as long as the suite has them.
    ///   - header: of the record, which is authenticated with it; 5 bytes.
    ///   - content: the text and its content type; behind it there is room for the tag.
    func seal(
        _ suite: SealingSuite, serial: UInt64, key: UnsafePointer<UInt8>, nonce: UnsafePointer<UInt8>, header: UnsafePointer<UInt8>,
        content: UnsafeMutableBufferPointer<UInt8>
    ) {
        let index = Int(suite.rawValue)
        let context = contexts[index] ?? makeContext(suite)
        let isKeyed = serials[index] == serial
        serials[index] = serial
        guard let text = content.baseAddress else { preconditionFailure("a record has at least its content type") }
        var count: Int32 = 0
        let isSealed =
            EVP_EncryptInit_ex(context, nil, nil, isKeyed ? nil : key, nonce) == 1
            && EVP_EncryptUpdate(context, nil, &count, header, Int32(Self.headerBytes)) == 1
            && EVP_EncryptUpdate(context, text, &count, text, Int32(content.count)) == 1
            && EVP_EncryptFinal_ex(context, text + content.count, &count) == 1
            && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, Int32(Self.tagBytes), text + content.count) == 1
        precondition(isSealed, "OpenSSL cannot encrypt")
    }

    private func makeContext(_ suite: SealingSuite) -> OpaquePointer {
        guard let cipher = EVP_CIPHER_fetch(nil, suite.cipherName, nil), let context = EVP_CIPHER_CTX_new(),
            EVP_EncryptInit_ex(context, cipher, nil, nil, nil) == 1
        else { preconditionFailure("out of memory, or OpenSSL has lost a cipher that it has agreed on") }
        // The context has a reference of its own.
        EVP_CIPHER_free(cipher)
        contexts[Int(suite.rawValue)] = context
        return context
    }
}

/// The cipher suites of TLS 1.3 that are offered (RFC 8446, appendix B.4).
enum SealingSuite: UInt8, CaseIterable {
    case aes128GCM
    case aes256GCM
    case chaCha20Poly1305

    /// - Parameter kernelNumber: as <linux/tls.h> has it.
    init?(kernelNumber: Int32) {
        switch kernelNumber {
        case TLS_CIPHER_AES_GCM_128: self = .aes128GCM
        case TLS_CIPHER_AES_GCM_256: self = .aes256GCM
        case TLS_CIPHER_CHACHA20_POLY1305: self = .chaCha20Poly1305
        default: return nil
        }
    }

    /// What <linux/tls.h> calls the salt: the beginning of the nonce.
    var saltBytes: Int { self == .chaCha20Poly1305 ? 0 : 4 }

    var keyBytes: Int { self == .aes128GCM ? 16 : 32 }

    /// Of the hash, and so of the secrets.
    var secretBytes: Int { self == .aes256GCM ? 48 : 32 }

    fileprivate var cipherName: String {
        switch self {
        case .aes128GCM: "AES-128-GCM"
        case .aes256GCM: "AES-256-GCM"
        case .chaCha20Poly1305: "ChaCha20-Poly1305"
        }
    }
}

import COpenSSL
import Synchronization

/// The ticket keys of a server: the same for all its contexts and event loops, so that a ticket is good at whichever it comes back to.
///
/// A handshake takes its lock once or twice. The owner calls `rotate` every few hours.
package final class SharedTicketKeys: Sendable {
    private let keys: Mutex<TicketKeys>

    /// - Parameter keys: nil makes a key from OpenSSL's own generator.
    package init(_ keys: TicketKeys? = nil) {
        self.keys = Mutex(keys ?? TicketKeys(random: Self.random()))
    }

    /// Makes a new key the current one, as `TicketKeys.rotate` does.
    ///
    /// - Parameter random: `TicketKeys.randomBytes` bytes; nil takes them from OpenSSL's own generator.
    package func rotate(random: [UInt8]? = nil) {
        let random = random ?? Self.random()
        keys.withLock { $0.rotate(random: random) }
    }

    /// Takes other keys, such as those that the nodes of a cluster share. Tickets of keys that are not among them are worth nothing.
    package func replace(with keys: TicketKeys) {
        self.keys.withLock { $0 = keys }
    }

    private static func random() -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: TicketKeys.randomBytes) { buffer, count in
            let result = RAND_priv_bytes(buffer.baseAddress, Int32(TicketKeys.randomBytes))
            precondition(result == 1, "the system has no random bytes")
            count = TicketKeys.randomBytes
        }
    }

    // MARK: - OpenSSL

    /// Makes sessions of `context` seal and open tickets with these keys, which have to outlive them.
    func install(in context: OpaquePointer) {
        let isSet = SSL_CTX_set_ex_data(context, Self.index, Unmanaged.passUnretained(self).toOpaque())
        precondition(isSet == 1, "out of memory")
        SSL_CTX_set_tlsext_ticket_key_evp_cb(context) { session, name, iv, cipher, mac, isSealing in
            guard
                let session, let name, let iv, let cipher, let mac,
                let pointer = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(session), SharedTicketKeys.index)
            else { return SharedTicketKeys.failed }
            let keys = Unmanaged<SharedTicketKeys>.fromOpaque(pointer).takeUnretainedValue()
            return isSealing == 1 ? keys.seal(name, iv, cipher, mac) : keys.open(session, name, iv, cipher, mac)
        }
    }

    /// Where a context keeps the pointer to its keys: the callback has no argument.
    private static let index = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL_CTX, 0, nil, nil, nil, nil)

    /// What the callback answers (SSL_CTX_set_tlsext_ticket_key_evp_cb(3)).
    private static let failed: Int32 = -1
    private static let unknownKey: Int32 = 0
    private static let done: Int32 = 1
    private static let doneAndRenew: Int32 = 2

    private func seal(
        _ name: UnsafeMutablePointer<UInt8>, _ iv: UnsafeMutablePointer<UInt8>, _ cipher: OpaquePointer, _ mac: OpaquePointer
    ) -> Int32 {
        let key = keys.withLock { $0.current }
        guard
            RAND_bytes(iv, EVP_MAX_IV_LENGTH) == 1,
            EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), nil, key.cipher.baseAddress?.assumingMemoryBound(to: UInt8.self), iv) == 1,
            Self.use(key, for: mac)
        else { return Self.failed }
        UnsafeMutableRawPointer(name).copyMemory(from: key.name.baseAddress!, byteCount: TicketKey.nameBytes)
        return Self.done
    }

    private func open(
        _ session: OpaquePointer,
        _ name: UnsafeMutablePointer<UInt8>, _ iv: UnsafeMutablePointer<UInt8>, _ cipher: OpaquePointer, _ mac: OpaquePointer
    ) -> Int32 {
        let (key, isCurrent) = keys.withLock { keys in
            let key = keys.find(UnsafeRawBufferPointer(start: name, count: TicketKey.nameBytes))
            return (key, key === keys.current)
        }
        guard let key else { return Self.unknownKey }
        guard
            Self.use(key, for: mac),
            EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), nil, key.cipher.baseAddress?.assumingMemoryBound(to: UInt8.self), iv) == 1
        else { return Self.failed }
        // In TLS 1.3 a ticket is for one connection, so that connections cannot be linked by it (RFC 8446 appendix C.4).
        return isCurrent && SSL_version(session) != TLS1_3_VERSION ? Self.done : Self.doneAndRenew
    }

    private static func use(_ key: TicketKey, for mac: OpaquePointer) -> Bool {
        // The parameters point to their names.
        OSSL_MAC_PARAM_KEY.withCString { keyName in
            OSSL_MAC_PARAM_DIGEST.withCString { digestName in
                var digest = Array("SHA256".utf8CString)
                return digest.withUnsafeMutableBufferPointer { digest in
                    let parameters = [
                        OSSL_PARAM_construct_octet_string(keyName, key.mac.baseAddress, key.mac.count),
                        OSSL_PARAM_construct_utf8_string(digestName, digest.baseAddress, 0),
                        OSSL_PARAM_construct_end(),
                    ]
                    return EVP_MAC_CTX_set_params(mac, parameters) == 1
                }
            }
        }
    }
}

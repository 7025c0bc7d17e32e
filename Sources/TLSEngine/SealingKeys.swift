import COpenSSL

/// What the records of one session to its peer are sealed with, when OpenSSL does not do that itself (RFC 8446, sections 5.2, 5.3, 7.2).
///
/// OpenSSL hands them over as it does to a kernel that does TLS (`SSL_OP_ENABLE_KTLS`); it goes on to make alerts, tickets and KeyUpdate,
/// which come through the session's BIO with their content type.
struct SealingKeys {
    static let nonceBytes = 12

    let suite: SealingSuite
    /// Of the key: no other has the same with this sealer.
    private var serial: UInt64
    /// Records sealed with this key: it makes the nonce.
    private(set) var sequence: UInt64
    private var key: InlineArray<32, UInt8>
    private var iv: InlineArray<12, UInt8>
    private var secret: InlineArray<48, UInt8>

    /// - Parameters:
    ///   - info: a `tls_crypto_info`, as for setsockopt(2) with `TLS_TX`.
    ///   - secret: the server's application traffic secret, from which the next keys come.
    /// - Returns: nil for what is not sealed here: TLS 1.2, other suites.
    init?(_ info: UnsafeRawPointer, secret: [UInt8], sealer: RecordSealer) {
        let head = info.loadUnaligned(as: tls_crypto_info.self)
        guard head.version == UInt16(TLS1_3_VERSION), let suite = SealingSuite(kernelNumber: Int32(head.cipher_type)),
            secret.count == suite.secretBytes
        else { return nil }
        self.suite = suite
        key = InlineArray(repeating: 0)
        iv = InlineArray(repeating: 0)
        self.secret = InlineArray(repeating: 0)
        for (index, byte) in secret.enumerated() { self.secret[index] = byte }
        // Behind the head all of them have `iv`, `key`, `salt`, `rec_seq`, which are bytes; the salt stands before the rest of the nonce.
        let ivBytes = Self.nonceBytes - suite.saltBytes
        let bytes = UnsafeRawBufferPointer(
            start: info + MemoryLayout<tls_crypto_info>.size, count: Self.nonceBytes + suite.keyBytes + MemoryLayout<UInt64>.size
        )
        let saltStart = ivBytes + suite.keyBytes
        for index in 0..<ivBytes { iv[suite.saltBytes + index] = bytes[index] }
        for index in 0..<suite.keyBytes { key[index] = bytes[ivBytes + index] }
        for index in 0..<suite.saltBytes { iv[index] = bytes[saltStart + index] }
        sequence = bytes[(saltStart + suite.saltBytes)...].reduce(0) { $0 << 8 | UInt64($1) }
        serial = sealer.newSerial()
    }

    /// Nothing of them stays in memory. They are of no use afterwards.
    mutating func wipe() {
        withUnsafeMutableBytes(of: &key) { OPENSSL_cleanse($0.baseAddress, $0.count) }
        withUnsafeMutableBytes(of: &iv) { OPENSSL_cleanse($0.baseAddress, $0.count) }
        withUnsafeMutableBytes(of: &secret) { OPENSSL_cleanse($0.baseAddress, $0.count) }
    }

    /// Appends records with some bytes: one for each 16 KB.
    ///
    /// - Returns: how many records.
    mutating func seal(_ kind: UInt8, _ plaintext: UnsafeRawBufferPointer, with sealer: RecordSealer, to outgoing: inout [UInt8]) -> Int {
        var rest = plaintext
        var records = 0
        while !rest.isEmpty {
            let text = UnsafeRawBufferPointer(rebasing: rest.prefix(RecordSealer.plaintextBytesMax))
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(text.count))
            let length = text.count + 1 + RecordSealer.tagBytes
            outgoing.append(addingCapacity: RecordSealer.headerBytes + length) { span in
                span.withUnsafeMutableBufferPointer { buffer, count in
                    guard let header = buffer.baseAddress else { preconditionFailure("no room") }
                    // Of TLS 1.2, whose application data all records of TLS 1.3 pretend to be.
                    header[0] = UInt8(SSL3_RT_APPLICATION_DATA)
                    header[1] = 3
                    header[2] = 3
                    header[3] = UInt8(truncatingIfNeeded: length >> 8)
                    header[4] = UInt8(truncatingIfNeeded: length)
                    let content = UnsafeMutableBufferPointer(start: header + RecordSealer.headerBytes, count: text.count + 1)
                    UnsafeMutableRawBufferPointer(content).copyMemory(from: text)
                    content[text.count] = kind
                    seal(header, content, with: sealer)
                    count = RecordSealer.headerBytes + length
                }
            }
            records += 1
        }
        return records
    }

    private mutating func seal(_ header: UnsafePointer<UInt8>, _ content: UnsafeMutableBufferPointer<UInt8>, with sealer: RecordSealer) {
        var nonce = iv
        for index in 0..<8 { nonce[4 + index] ^= UInt8(truncatingIfNeeded: sequence >> (56 - 8 * UInt64(index))) }
        sequence += 1
        key.span.withUnsafeBufferPointer { key in
            nonce.span.withUnsafeBufferPointer { nonce in
                guard let key = key.baseAddress, let nonce = nonce.baseAddress else { preconditionFailure("no key") }
                sealer.seal(suite, serial: serial, key: key, nonce: nonce, header: header, content: content)
            }
        }
    }

    /// Goes over to the next keys: a KeyUpdate has been sealed with the present ones.
    mutating func update(with sealer: RecordSealer) {
        let next = expand("traffic upd", suite.secretBytes)
        for index in 0..<suite.secretBytes { secret[index] = next[index] }
        let newKey = expand("key", suite.keyBytes)
        for index in 0..<suite.keyBytes { key[index] = newKey[index] }
        let newIV = expand("iv", Self.nonceBytes)
        for index in 0..<Self.nonceBytes { iv[index] = newIV[index] }
        sequence = 0
        serial = sealer.newSerial()
    }

    /// HKDF-Expand-Label with the secret and no context (RFC 8446, section 7.1).
    private func expand(_ label: String, _ count: Int) -> [UInt8] {
        let name = Array("tls13 \(label)".utf8)
        let info = [0, UInt8(count), UInt8(name.count)] + name + [0]
        let key = (0..<suite.secretBytes).map { secret[$0] }
        var result = [UInt8](repeating: 0, count: count)
        var written = count
        guard let context = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, nil) else { preconditionFailure("out of memory") }
        defer { EVP_PKEY_CTX_free(context) }
        let isDerived =
            EVP_PKEY_derive_init(context) == 1
            && EVP_PKEY_CTX_set_hkdf_mode(context, Int32(EVP_PKEY_HKDEF_MODE_EXPAND_ONLY)) == 1
            && EVP_PKEY_CTX_set_hkdf_md(context, suite == .aes256GCM ? EVP_sha384() : EVP_sha256()) == 1
            && EVP_PKEY_CTX_set1_hkdf_key(context, key, Int32(key.count)) == 1
            && EVP_PKEY_CTX_add1_hkdf_info(context, info, Int32(info.count)) == 1
            && EVP_PKEY_derive(context, &result, &written) == 1
        precondition(isDerived && written == count, "OpenSSL cannot derive a key")
        return result
    }
}

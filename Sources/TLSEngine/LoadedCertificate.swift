import COpenSSL

/// A certificate with its chain and key, read from files and checked. Owns the OpenSSL objects.
final class LoadedCertificate {
    /// `X509 *`.
    let leaf: OpaquePointer
    /// `STACK_OF(X509) *`: the intermediate certificates.
    let chain: OpaquePointer
    /// `EVP_PKEY *`.
    let key: OpaquePointer
    /// The DNS names of the subjectAltName extension, in lower case, in order. A wildcard begins with `*.`.
    let names: [String]
    /// Seconds since 1970.
    let notAfter: Int64
    /// `EVP_PKEY_RSA`, `EVP_PKEY_EC`, ...: an `SSL_CTX` holds one certificate of each kind.
    let keyKind: Int32
    /// To be stapled; it is about `leaf`.
    private(set) var ocspResponse: OCSPResponse?

    /// - Parameters:
    ///   - files: where to read.
    ///   - time: seconds since 1970 at which the certificate has to be valid; nil is OpenSSL's own clock.
    /// - Throws: `TLSFault.certificate` when a file cannot be read, key and certificate do not belong together, or it is not valid
    ///   at `time`.
    init(_ files: TLSCertificateFiles, validAt time: Int64?) throws(TLSFault) {
        let certificates = try PEMFile.certificates(path: files.certificateChain)
        leaf = certificates.leaf
        chain = certificates.chain
        do throws(TLSFault) {
            key = try PEMFile.privateKey(path: files.privateKey)
        } catch {
            X509_free(certificates.leaf)
            PEMFile.freeChain(certificates.chain)
            throw error
        }
        names = Self.names(of: certificates.leaf)
        notAfter = ASN1Time.secondsSince1970(X509_get0_notAfter(certificates.leaf))
        keyKind = EVP_PKEY_get_base_id(key)
        // From here on every property is set, so `deinit` frees them when something is thrown.
        guard X509_check_private_key(leaf, key) == 1 else {
            OpenSSLErrors.clear()
            throw .certificate(
                file: files.privateKey,
                why: "the private key does not belong to the certificate in \(files.certificateChain)"
            )
        }
        try Self.checkValidity(leaf, file: files.certificateChain, time: time)
        if let path = files.ocspResponse {
            ocspResponse = try OCSPResponse(path: path, leaf: leaf, chain: chain, validAt: time)
        }
    }

    deinit {
        X509_free(leaf)
        PEMFile.freeChain(chain)
        EVP_PKEY_free(key)
    }

    private static func checkValidity(_ leaf: OpaquePointer, file: String, time: Int64?) throws(TLSFault) {
        let notAfter = X509_get0_notAfter(leaf)
        if ASN1Time.compare(notAfter, with: time) <= 0 {
            throw .certificate(file: file, why: "the certificate expired at \(ASN1Time.text(notAfter))")
        }
        let notBefore = X509_get0_notBefore(leaf)
        if ASN1Time.compare(notBefore, with: time) > 0 {
            throw .certificate(file: file, why: "the certificate is not valid before \(ASN1Time.text(notBefore))")
        }
    }

    private static func names(of leaf: OpaquePointer) -> [String] {
        guard let extensionValue = X509_get_ext_d2i(leaf, NID_subject_alt_name, nil, nil) else {
            OpenSSLErrors.clear()
            return []
        }
        let all = OpaquePointer(extensionValue)
        defer { GENERAL_NAMES_free(all) }
        var names: [String] = []
        for index in 0..<max(0, OPENSSL_sk_num(all)) {
            guard let element = OPENSSL_sk_value(all, index) else { continue }
            var kind: Int32 = 0
            let value = GENERAL_NAME_get0_value(element.assumingMemoryBound(to: GENERAL_NAME.self), &kind)
            guard kind == GEN_DNS, let value else { continue }
            let string = value.assumingMemoryBound(to: ASN1_IA5STRING.self)
            let bytes = UnsafeBufferPointer(start: ASN1_STRING_get0_data(string), count: Int(ASN1_STRING_length(string)))
            // A name with a blank, a control character or a NUL in it is no name; it must not match half of itself.
            guard !bytes.isEmpty, bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else { continue }
            let name = String(decoding: bytes, as: UTF8.self).lowercased()
            if !names.contains(name) {
                names.append(name)
            }
        }
        return names
    }
}

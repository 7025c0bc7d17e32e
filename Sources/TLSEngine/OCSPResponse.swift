import COpenSSL

/// What an authority says on the state of one certificate (RFC 6960), read from a file and checked: to be stapled to the handshake, so that
/// clients need not ask the authority themselves (RFC 6066 section 8, RFC 8446 section 4.4.2.1).
struct OCSPResponse {
    /// In DER.
    let bytes: [UInt8]
    /// Seconds since 1970.
    let thisUpdate: Int64
    let nextUpdate: Int64

    /// Authorities send 0.5 to 2 KB, and 5 KB with a certificate of their own inside.
    private static let bytesMax = 32 << 10
    /// Clocks differ; clients allow for about as much.
    private static let skewSeconds: Int64 = 300

    /// Whether clients take it at `time`, in seconds since 1970.
    func isCurrent(at time: Int64) -> Bool {
        thisUpdate - Self.skewSeconds <= time && time < nextUpdate
    }

    /// - Parameters:
    ///   - path: of a DER file.
    ///   - leaf: `X509 *`, whose state it has to be about.
    ///   - chain: `STACK_OF(X509) *`, where the issuer stands.
    ///   - time: seconds since 1970, for the certificate of whoever signed the response; nil is OpenSSL's own clock.
    /// - Throws: `TLSFault.certificate` when it is no response, not about this certificate, not signed by its issuer or for it, or does
    ///   not say "good". One that has expired is none of these.
    init(path: String, leaf: OpaquePointer, chain: OpaquePointer, validAt time: Int64?) throws(TLSFault) {
        func fault(_ why: String) -> TLSFault { .certificate(file: path, why: why) }

        bytes = try Self.read(path)
        defer { OpenSSLErrors.clear() }
        let (response, used) = bytes.withUnsafeBufferPointer { buffer in
            var next = buffer.baseAddress
            let response = d2i_OCSP_RESPONSE(nil, &next, buffer.count)
            return (response, next.map { $0 - buffer.baseAddress! } ?? 0)
        }
        guard let response else { throw fault("no OCSP response in DER") }
        defer { OCSP_RESPONSE_free(response) }
        guard used == bytes.count else { throw fault("\(bytes.count - used) bytes behind the OCSP response") }
        let status = OCSP_response_status(response)
        guard status == OCSP_RESPONSE_STATUS_SUCCESSFUL else {
            throw fault("the OCSP responder refused: \(String(cString: OCSP_response_status_str(Int(status))))")
        }
        guard let basic = OCSP_response_get1_basic(response) else { throw fault("an OCSP response of an unknown kind") }
        defer { OCSP_BASICRESP_free(basic) }

        guard let issuer = Self.issuer(of: leaf, chain) else {
            throw fault("the certificate's file does not hold its issuer, by which the OCSP response is checked")
        }
        guard Self.isSigned(basic, by: issuer, chain, time) else {
            throw fault("the OCSP response is not signed by the certificate's issuer: \(OpenSSLErrors.takeText())")
        }
        guard let single = Self.single(in: basic, leaf, issuer) else { throw fault("the OCSP response is about another certificate") }
        var this: UnsafeMutablePointer<ASN1_GENERALIZEDTIME>?
        var next: UnsafeMutablePointer<ASN1_GENERALIZEDTIME>?
        let state = OCSP_single_get0_status(single, nil, nil, &this, &next)
        guard state == V_OCSP_CERTSTATUS_GOOD else {
            throw fault("the OCSP response says of the certificate: \(String(cString: OCSP_cert_status_str(Int(state))))")
        }
        guard let next else { throw fault("the OCSP response does not say until when it is current") }
        thisUpdate = ASN1Time.secondsSince1970(this)
        nextUpdate = ASN1Time.secondsSince1970(next)
    }

    private static func read(_ path: String) throws(TLSFault) -> [UInt8] {
        let file = try PEMFile.open(path)
        defer { BIO_free(file) }
        // One byte more than is allowed, to notice it.
        let bytes = [UInt8](unsafeUninitializedCapacity: bytesMax + 1) { buffer, count in
            while count < buffer.count, case let more = BIO_read(file, buffer.baseAddress! + count, Int32(buffer.count - count)), more > 0 {
                count += Int(more)
            }
        }
        guard bytes.count <= bytesMax else { throw .certificate(file: path, why: "an OCSP response of more than \(bytesMax) bytes") }
        return bytes
    }

    private static func issuer(of leaf: OpaquePointer, _ chain: OpaquePointer) -> OpaquePointer? {
        for index in 0..<OPENSSL_sk_num(chain) {
            let candidate = OpaquePointer(OPENSSL_sk_value(chain, index)!)
            if X509_check_issued(candidate, leaf) == X509_V_OK { return candidate }
        }
        return X509_check_issued(leaf, leaf) == X509_V_OK ? leaf : nil
    }

    /// Whether the issuer signed, or somebody to whom it gave a certificate for that (RFC 6960 section 4.2.2.2).
    private static func isSigned(_ basic: OpaquePointer, by issuer: OpaquePointer, _ chain: OpaquePointer, _ time: Int64?) -> Bool {
        guard let store = X509_STORE_new() else { preconditionFailure("out of memory") }
        defer { X509_STORE_free(store) }
        guard let candidates = OPENSSL_sk_dup(chain) else { preconditionFailure("out of memory") }
        defer { OPENSSL_sk_free(candidates) }
        OPENSSL_sk_push(candidates, UnsafeRawPointer(issuer))
        X509_STORE_add_cert(store, issuer)
        // The issuer is most often no root, and is trusted all the same.
        X509_STORE_set_flags(store, UInt(X509_V_FLAG_PARTIAL_CHAIN))
        if let time {
            X509_VERIFY_PARAM_set_time(X509_STORE_get0_param(store), Int(time))
        }
        return OCSP_basic_verify(basic, candidates, store, UInt(OCSP_NOEXPLICIT)) == 1
    }

    /// The part that is about the certificate, named by the hashes that the response uses.
    private static func single(in basic: OpaquePointer, _ leaf: OpaquePointer, _ issuer: OpaquePointer) -> OpaquePointer? {
        for index in 0..<OCSP_resp_count(basic) {
            guard let single = OCSP_resp_get0(basic, index), let id = OCSP_SINGLERESP_get0_id(single) else { continue }
            var algorithm: OpaquePointer?
            guard OCSP_id_get0_info(nil, &algorithm, nil, nil, id) == 1 else { continue }
            guard
                let digest = EVP_get_digestbyname(OBJ_nid2sn(OBJ_obj2nid(algorithm))),
                let ours = OCSP_cert_to_id(digest, leaf, issuer)
            else { continue }
            defer { OCSP_CERTID_free(ours) }
            if OCSP_id_cmp(ours, id) == 0 { return single }
        }
        return nil
    }
}

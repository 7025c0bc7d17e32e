import COpenSSL
import Glibc

extension LoadedCertificate {
    /// What an operator should look at, though the certificate can be used: each text names the file.
    ///
    /// - Parameter time: seconds since 1970; nil is OpenSSL's own clock.
    func warnings(of files: TLSCertificateFiles, at time: Int64?) -> [String] {
        let file = files.certificateChain
        var warnings: [String] = []
        if names.isEmpty {
            warnings.append("\(file): the certificate has no DNS name (subjectAltName), so browsers refuse it")
        }
        warnings += chainWarnings(time).map { "\(file): \($0)" }
        if let path = files.ocspResponse, let ocspResponse, !ocspResponse.isCurrent(at: time ?? Int64(Glibc.time(nil))) {
            warnings.append("\(path): the OCSP response is not current, so it is not sent; get a new one")
        } else if ocspResponse == nil, mustStaple {
            warnings.append("\(file): the certificate asks for OCSP stapling (RFC 7633) and no response is given, so browsers refuse it")
        }
        var status = stat()
        if stat(files.privateKey, &status) == 0, status.st_mode & S_IROTH != 0 {
            warnings.append("\(files.privateKey): everybody on this host may read the private key")
        }
        return warnings
    }

    private func chainWarnings(_ time: Int64?) -> [String] {
        var warnings: [String] = []
        var below = leaf
        for index in 0..<OPENSSL_sk_num(chain) {
            let certificate = OpaquePointer(OPENSSL_sk_value(chain, index)!)
            let number = index + 2
            if X509_check_issued(certificate, below) != X509_V_OK {
                warnings.append("certificate \(number) did not issue the one before it, which TLS 1.2 asks for (RFC 5246 section 7.4.2)")
            } else if X509_check_issued(certificate, certificate) == X509_V_OK {
                warnings.append("certificate \(number) is a root, which clients have or do not trust; leave it out")
            }
            let notAfter = X509_get0_notAfter(certificate)
            if ASN1Time.compare(notAfter, with: time) <= 0 {
                warnings.append("certificate \(number) expired at \(ASN1Time.text(notAfter))")
            }
            below = certificate
        }
        if OPENSSL_sk_num(chain) == 0, X509_check_issued(leaf, leaf) != X509_V_OK {
            warnings.append("no intermediate certificate in the file; only clients that trust the issuer itself accept that")
        }
        return warnings
    }

    /// Whether the certificate has the TLS feature `status_request` (RFC 7633).
    private var mustStaple: Bool {
        guard let value = X509_get_ext_d2i(leaf, NID_tlsfeature, nil, nil) else {
            OpenSSLErrors.clear()
            return false
        }
        let features = OpaquePointer(value)
        defer { TLS_FEATURE_free(features) }
        return (0..<max(0, OPENSSL_sk_num(features))).contains { index in
            let feature = OPENSSL_sk_value(features, index)?.assumingMemoryBound(to: ASN1_INTEGER.self)
            return ASN1_INTEGER_get(feature) == Int(TLSEXT_TYPE_status_request)
        }
    }
}

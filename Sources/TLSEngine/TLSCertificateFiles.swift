/// The files of one certificate. Chain and key may be in the same file.
package struct TLSCertificateFiles: Sendable, Hashable {
    /// Path of a PEM file: the certificate, then the intermediate ones that lead to the root, in order.
    package var certificateChain: String
    /// Path of a PEM file: the private key, not encrypted.
    package var privateKey: String
    /// Path of a DER file: the certificate's OCSP response (RFC 6960 section 4.2), sent while it is current to clients that ask for it. The
    /// chain has to hold the issuer, by which the response is checked. nil: none.
    package var ocspResponse: String?

    package init(certificateChain: String, privateKey: String, ocspResponse: String? = nil) {
        self.certificateChain = certificateChain
        self.privateKey = privateKey
        self.ocspResponse = ocspResponse
    }
}

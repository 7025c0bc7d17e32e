/// The two files of one certificate. Both may name the same file.
package struct TLSCertificateFiles: Sendable, Hashable {
    /// Path of a PEM file: the certificate, then the intermediate ones that lead to the root, in order.
    package var certificateChain: String
    /// Path of a PEM file: the private key, not encrypted.
    package var privateKey: String

    package init(certificateChain: String, privateKey: String) {
        self.certificateChain = certificateChain
        self.privateKey = privateKey
    }
}

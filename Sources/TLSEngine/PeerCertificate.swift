import COpenSSL

/// What the peer's certificate says, after it has been verified.
package struct PeerCertificate: Sendable, Hashable {
    /// The distinguished name as RFC 2253 writes it, the last part first: `CN=device 7,O=Example`. Only printable ASCII: whatever else is
    /// in a name is escaped, as `\C3\A9`.
    package let subject: String
    /// SHA-256 of the certificate's DER form, as 64 digits `0-9 a-f`. It names this certificate and no other, also of the same subject.
    package let fingerprint: String

    /// - Parameter certificate: an `X509 *`.
    init(_ certificate: OpaquePointer) {
        subject = Self.text(of: X509_get_subject_name(certificate))
        let digits = Array("0123456789abcdef".utf8)
        fingerprint = String(
            decoding: Self.sha256(of: certificate).flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] },
            as: UTF8.self
        )
    }

    static func sha256(of certificate: OpaquePointer) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: SHA256.bytes)
        let isDone = X509_digest(certificate, EVP_sha256(), &digest, nil)
        precondition(isDone == 1, "OpenSSL has no SHA-256")
        return digest
    }

    private static func text(of name: OpaquePointer?) -> String {
        guard let memory = BIO_new(BIO_s_mem()) else { preconditionFailure("out of memory") }
        defer { BIO_free(memory) }
        X509_NAME_print_ex(memory, name, 0, COpenSSL_XN_FLAG_RFC2253)
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 256)
        while case let count = BIO_read(memory, &piece, Int32(piece.count)), count > 0 {
            bytes += piece[..<Int(count)]
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// SHA-256 (FIPS 180-4).
enum SHA256 {
    static let bytes = 32

    static func hash(_ message: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: bytes)
        let isDone = EVP_Digest(message, message.count, &digest, nil, EVP_sha256(), nil)
        precondition(isDone == 1, "OpenSSL has no SHA-256")
        return digest
    }
}

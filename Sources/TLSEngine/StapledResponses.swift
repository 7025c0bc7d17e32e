import COpenSSL
import Glibc

/// The OCSP responses of a server's certificates, for the callback that staples them.
final class StapledResponses {
    /// By `X509 *`.
    private let responses: [OpaquePointer: OCSPResponse]

    init(_ responses: [OpaquePointer: OCSPResponse]) {
        self.responses = responses
    }

    /// Makes sessions of `context` staple the response of their certificate, if the client asks for it and it is current. OpenSSL calls
    /// only when it asks. The responses have to outlive the sessions.
    func install(in context: OpaquePointer) {
        COpenSSL_SSL_CTX_set_tlsext_status_cb(context) { session, argument in
            guard let session, let argument, let certificate = SSL_get_certificate(session) else { return SSL_TLSEXT_ERR_NOACK }
            let responses = Unmanaged<StapledResponses>.fromOpaque(argument).takeUnretainedValue().responses
            guard let response = responses[certificate], response.isCurrent(at: Int64(time(nil))) else { return SSL_TLSEXT_ERR_NOACK }
            let count = response.bytes.count
            guard let copy = CRYPTO_malloc(count, #file, #line) else { return SSL_TLSEXT_ERR_NOACK }
            copy.copyMemory(from: response.bytes, byteCount: count)
            COpenSSL_SSL_set_tlsext_status_ocsp_resp(session, copy.assumingMemoryBound(to: UInt8.self), count)
            return SSL_TLSEXT_ERR_OK
        }
        COpenSSL_SSL_CTX_set_tlsext_status_arg(context, Unmanaged.passUnretained(self).toOpaque())
    }
}

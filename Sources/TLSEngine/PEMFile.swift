import COpenSSL
import Glibc

/// Reads the two kinds of PEM files; every fault names the file.
enum PEMFile {
    /// The first certificate of a file and the others as a `STACK_OF(X509)`. The caller frees both.
    static func certificates(path: String) throws(TLSFault) -> (leaf: OpaquePointer, chain: OpaquePointer) {
        let file = try open(path)
        defer { BIO_free(file) }
        guard let leaf = PEM_read_bio_X509_AUX(file, nil, refusePassword, nil) else {
            throw .certificate(file: path, why: whyUnreadable(lacking: "no certificate in the file"))
        }
        guard let chain = OPENSSL_sk_new_null() else { preconditionFailure("out of memory") }
        while let next = PEM_read_bio_X509(file, nil, refusePassword, nil) {
            OPENSSL_sk_push(chain, UnsafeRawPointer(next))
        }
        // The end of the file is "no start line". Anything else is a damaged certificate further down.
        if let error = OpenSSLErrors.take(), !error.isPEM(PEM_R_NO_START_LINE) {
            X509_free(leaf)
            freeChain(chain)
            throw .certificate(file: path, why: "a further certificate cannot be read: \(error.text)")
        }
        return (leaf, chain)
    }

    /// The private key of a file. The caller frees it.
    static func privateKey(path: String) throws(TLSFault) -> OpaquePointer {
        try checkKeyBlock(path: path)
        let file = try open(path)
        defer { BIO_free(file) }
        guard let key = PEM_read_bio_PrivateKey(file, nil, refusePassword, nil) else {
            throw .certificate(file: path, why: whyUnreadable(lacking: "no private key in the file"))
        }
        OpenSSLErrors.clear()
        return key
    }

    /// Looks at the blocks of the file first: OpenSSL's own word on a file without a readable key is just "unsupported".
    private static func checkKeyBlock(path: String) throws(TLSFault) {
        let file = try open(path)
        defer {
            BIO_free(file)
            OpenSSLErrors.clear()
        }
        var name: UnsafeMutablePointer<CChar>?
        var header: UnsafeMutablePointer<CChar>?
        var data: UnsafeMutablePointer<UInt8>?
        var count = 0
        while PEM_read_bio(file, &name, &header, &data, &count) == 1 {
            let kind = name.map { String(cString: $0) } ?? ""
            let isEncrypted = kind == "ENCRYPTED PRIVATE KEY" || header.map { String(cString: $0).contains("ENCRYPTED") } ?? false
            CRYPTO_free(name, #file, 0)
            CRYPTO_free(header, #file, 0)
            CRYPTO_free(data, #file, 0)
            guard kind.hasSuffix("PRIVATE KEY") else { continue }
            if isEncrypted {
                throw .certificate(file: path, why: "the file is encrypted with a password; give a key without one")
            }
            return
        }
        throw .certificate(file: path, why: "no private key in the file")
    }

    /// Frees a `STACK_OF(X509)` with its certificates.
    static func freeChain(_ chain: OpaquePointer) {
        OPENSSL_sk_pop_free(chain) { X509_free($0.map { OpaquePointer($0) }) }
    }

    /// A BIO that reads a file. The caller frees it.
    static func open(_ path: String) throws(TLSFault) -> OpaquePointer {
        OpenSSLErrors.clear()
        var status = stat()
        if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR { throw .certificate(file: path, why: "Is a directory") }
        guard let file = BIO_new_file(path, "r") else {
            throw .certificate(file: path, why: OpenSSLErrors.takeText())
        }
        return file
    }

    private static func whyUnreadable(lacking: String) -> String {
        guard let error = OpenSSLErrors.take() else { return lacking }
        if error.isPEM(PEM_R_NO_START_LINE) {
            return lacking
        }
        if error.isPEM(PEM_R_BAD_PASSWORD_READ) || error.isPEM(PEM_R_PROBLEMS_GETTING_PASSWORD) {
            return "the file is encrypted with a password; give a key without one"
        }
        return error.text
    }

    /// Without a callback OpenSSL asks for the password on the terminal and waits.
    private static let refusePassword: @convention(c) (UnsafeMutablePointer<CChar>?, Int32, Int32, UnsafeMutableRawPointer?) -> Int32 = {
        _, _, _, _ in -1
    }
}

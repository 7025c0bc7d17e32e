import Foundation

/// Makes OCSP responses that no authority would make: expired ones, and those that are wrong in some way.
struct OCSPMaker {
    enum Digest: String {
        case sha1 = "EVP_sha1"
        case sha256 = "EVP_sha256"
    }

    /// The certificate that it is about, and who issued it.
    var about = "chained"
    var issuer = "intermediate"
    /// Who signs.
    var signer = "intermediate"
    /// Whether the signer's certificate comes with it, behind the signature.
    var includesSigner = true
    /// 0: good; 1: revoked; 2: unknown.
    var status: Int32 = 0
    /// Seconds since 1970; `nextUpdate` nil: not said.
    var thisUpdate = Int(Date().timeIntervalSince1970) - 3600
    var nextUpdate: Int? = Int(Date().timeIntervalSince1970) + 86_400
    /// Of the names by which the certificate is found.
    var digest = Digest.sha1
    /// 0: successful; 3: try later.
    var responseStatus: Int32 = 0

    /// Writes it, and returns the path.
    func write() throws -> String {
        let path = TestCertificates.path("\(UUID().uuidString).ocsp")
        try Data(bytes()).write(to: URL(fileURLWithPath: path))
        return path
    }

    func bytes() -> [UInt8] {
        typealias New = @convention(c) () -> OpaquePointer?
        typealias Free = @convention(c) (OpaquePointer?) -> Void
        typealias Name = @convention(c) (OpaquePointer?, OpaquePointer, OpaquePointer) -> OpaquePointer?
        typealias Time = @convention(c) (OpaquePointer?, Int) -> OpaquePointer?
        typealias Add =
            @convention(c) (
                OpaquePointer, OpaquePointer, Int32, Int32, OpaquePointer?, OpaquePointer?, OpaquePointer?
            ) -> OpaquePointer?
        typealias Sign = @convention(c) (OpaquePointer, OpaquePointer, OpaquePointer, OpaquePointer?, OpaquePointer?, UInt) -> Int32
        typealias Create = @convention(c) (Int32, OpaquePointer?) -> OpaquePointer?
        typealias Encode = @convention(c) (OpaquePointer, UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>?) -> Int32

        func release(_ function: String, _ object: OpaquePointer?) { LibSSL.find(function, as: Free.self)(object) }
        let certificates = [about, issuer, signer].map { Self.certificate($0) }
        let key = Self.key(signer)
        defer {
            for certificate in certificates { release("X509_free", certificate) }
            release("EVP_PKEY_free", key)
        }
        let basic = LibSSL.find("OCSP_BASICRESP_new", as: New.self)()!
        defer { release("OCSP_BASICRESP_free", basic) }
        let makeTime = LibSSL.find("ASN1_GENERALIZEDTIME_set", as: Time.self)
        let times = [status == 1 ? thisUpdate : nil, thisUpdate, nextUpdate].map { $0.flatMap { makeTime(nil, $0) } }
        defer { for time in times { release("ASN1_GENERALIZEDTIME_free", time) } }
        let digest = LibSSL.find(digest.rawValue, as: New.self)()
        let id = LibSSL.find("OCSP_cert_to_id", as: Name.self)(digest, certificates[0], certificates[1])!
        defer { release("OCSP_CERTID_free", id) }
        let single = LibSSL.find("OCSP_basic_add1_status", as: Add.self)(basic, id, status, 0, times[0], times[1], times[2])
        precondition(single != nil)
        let isSigned = LibSSL.find("OCSP_basic_sign", as: Sign.self)(
            basic, certificates[2], key, LibSSL.find("EVP_sha256", as: New.self)(), nil, includesSigner ? 0 : 1
        )
        precondition(isSigned == 1)
        let response = LibSSL.find("OCSP_response_create", as: Create.self)(responseStatus, responseStatus == 0 ? basic : nil)!
        defer { release("OCSP_RESPONSE_free", response) }
        let encode = LibSSL.find("i2d_OCSP_RESPONSE", as: Encode.self)
        var bytes = [UInt8](repeating: 0, count: Int(encode(response, nil)))
        bytes.withUnsafeMutableBufferPointer { buffer in
            var next = buffer.baseAddress
            _ = encode(response, &next)
        }
        return bytes
    }

    private typealias Open = @convention(c) (UnsafePointer<CChar>, UnsafePointer<CChar>) -> OpaquePointer?
    private typealias Read = @convention(c) (OpaquePointer?, OpaquePointer?, OpaquePointer?, OpaquePointer?) -> OpaquePointer?

    private static func certificate(_ name: String) -> OpaquePointer {
        read(TestCertificates.path("\(name).pem"), "PEM_read_bio_X509")
    }

    private static func key(_ name: String) -> OpaquePointer {
        read(TestCertificates.path("\(name).key"), "PEM_read_bio_PrivateKey")
    }

    private static func read(_ path: String, _ function: String) -> OpaquePointer {
        let file = LibSSL.find("BIO_new_file", as: Open.self)(path, "r")
        defer { _ = LibSSL.find("BIO_free", as: (@convention(c) (OpaquePointer?) -> Int32).self)(file) }
        return LibSSL.find(function, as: Read.self)(file, nil, nil, nil)!
    }
}

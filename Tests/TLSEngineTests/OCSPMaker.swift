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

        let basic = LibSSL.find("OCSP_BASICRESP_new", as: New.self)()!
        defer { LibSSL.find("OCSP_BASICRESP_free", as: Free.self)(basic) }
        let makeTime = LibSSL.find("ASN1_GENERALIZEDTIME_set", as: Time.self)
        let id = LibSSL.find("OCSP_cert_to_id", as: Name.self)(
            LibSSL.find(digest.rawValue, as: New.self)(), Self.certificate(about), Self.certificate(issuer)
        )!
        let revoked = status == 1 ? makeTime(nil, thisUpdate) : nil
        let single = LibSSL.find("OCSP_basic_add1_status", as: Add.self)(
            basic, id, status, 0, revoked, makeTime(nil, thisUpdate), nextUpdate.flatMap { makeTime(nil, $0) }
        )
        precondition(single != nil)
        let isSigned = LibSSL.find("OCSP_basic_sign", as: Sign.self)(
            basic, Self.certificate(signer), Self.key(signer), LibSSL.find("EVP_sha256", as: New.self)(), nil,
            includesSigner ? 0 : 1
        )
        precondition(isSigned == 1)
        let response = LibSSL.find("OCSP_response_create", as: Create.self)(responseStatus, responseStatus == 0 ? basic : nil)!
        defer { LibSSL.find("OCSP_RESPONSE_free", as: Free.self)(response) }
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

    /// Left to the process: a test has a handful.
    private static func certificate(_ name: String) -> OpaquePointer {
        LibSSL.find("PEM_read_bio_X509", as: Read.self)(
            LibSSL.find("BIO_new_file", as: Open.self)(TestCertificates.path("\(name).pem"), "r"), nil, nil, nil
        )!
    }

    private static func key(_ name: String) -> OpaquePointer {
        LibSSL.find("PEM_read_bio_PrivateKey", as: Read.self)(
            LibSSL.find("BIO_new_file", as: Open.self)(TestCertificates.path("\(name).key"), "r"), nil, nil, nil
        )!
    }
}

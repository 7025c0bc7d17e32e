import COpenSSL

/// The times in certificates and OCSP responses. `ASN1_GENERALIZEDTIME` is the same C type as `ASN1_TIME`.
enum ASN1Time {
    /// Such as `2026-11-21 10:00:00Z`.
    static func text(_ time: UnsafePointer<ASN1_TIME>?) -> String {
        guard let memory = BIO_new(BIO_s_mem()) else { return "" }
        defer { BIO_free(memory) }
        ASN1_TIME_print_ex(memory, time, UInt(ASN1_DTFLGS_ISO8601))
        return withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { buffer in
            let count = max(0, BIO_read(memory, buffer.baseAddress, Int32(buffer.count)))
            return String(decoding: buffer[..<Int(count)], as: UTF8.self)
        }
    }

    static func secondsSince1970(_ time: UnsafePointer<ASN1_TIME>?) -> Int64 {
        let epoch = ASN1_TIME_set(nil, 0)
        defer { ASN1_STRING_free(epoch) }
        var days: Int32 = 0
        var seconds: Int32 = 0
        guard ASN1_TIME_diff(&days, &seconds, epoch, time) == 1 else { return 0 }
        return Int64(days) * 86_400 + Int64(seconds)
    }

    /// Compares a certificate's time with `seconds` since 1970; nil is OpenSSL's own clock. Negative: the certificate's is earlier, or the
    /// same; positive: later; 0: it cannot be read.
    static func compare(_ time: UnsafePointer<ASN1_TIME>?, with seconds: Int64?) -> Int32 {
        guard let seconds else { return X509_cmp_time(time, nil) }
        var limit = Int(seconds)
        return X509_cmp_time(time, &limit)
    }
}

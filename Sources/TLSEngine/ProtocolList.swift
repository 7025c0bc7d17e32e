import COpenSSL

/// The application protocols of one end in their wire format (RFC 7301 section 3.1): each name behind a byte with its length.
///
/// It owns memory that never moves, since the answer of the ALPN callback points into it.
final class ProtocolList {
    private let bytes: UnsafeMutableBufferPointer<UInt8>

    /// - Parameter names: in order of preference; each has 1 to 255 bytes.
    init(_ names: [String]) {
        var wire: [UInt8] = []
        for name in names {
            let name = Array(name.utf8)
            precondition((1...255).contains(name.count), "an ALPN name has 1 to 255 bytes")
            wire.append(UInt8(name.count))
            wire += name
        }
        bytes = .allocate(capacity: wire.count)
        _ = bytes.initialize(from: wire)
    }

    deinit {
        bytes.deallocate()
    }

    var isEmpty: Bool { bytes.isEmpty }

    /// As a client: offers the list. The context copies it.
    func offer(in context: OpaquePointer) {
        let result = SSL_CTX_set_alpn_protos(context, bytes.baseAddress, UInt32(bytes.count))
        precondition(result == 0, "OpenSSL refused a well-formed ALPN list")
    }

    /// As a server: chooses the first of the list that the client offers, and ends the handshake with no_application_protocol when
    /// there is none (RFC 7301 section 3.2). A client that offers nothing is not asked.
    ///
    /// The list has to live as long as the context and its sessions.
    func choose(in context: OpaquePointer) {
        SSL_CTX_set_alpn_select_cb(
            context,
            { _, chosen, chosenCount, offered, offeredCount, argument in
                guard let argument, let chosen, let chosenCount, let offered else { return SSL_TLSEXT_ERR_ALERT_FATAL }
                let list = Unmanaged<ProtocolList>.fromOpaque(argument).takeUnretainedValue()
                var name: UnsafeMutablePointer<UInt8>?
                var count: UInt8 = 0
                let result = SSL_select_next_proto(&name, &count, list.bytes.baseAddress, UInt32(list.bytes.count), offered, offeredCount)
                guard result == OPENSSL_NPN_NEGOTIATED, let name else { return SSL_TLSEXT_ERR_ALERT_FATAL }
                chosen.pointee = UnsafePointer(name)
                chosenCount.pointee = count
                return SSL_TLSEXT_ERR_OK
            },
            Unmanaged.passUnretained(self).toOpaque()
        )
    }
}

import COpenSSL

/// One TLS session as bytes in, bytes out (RFC 8446, RFC 5246). It owns an `SSL` and no buffers.
///
///                     receive: handshake bytes
///     handshaking ------------------------------> established ----- close ----> closed
///          |                                           |                           |
///          +-------- fault, or close ------------------+--------- fault -----------+--> ended
///
/// - *handshaking*: `receive` answers the peer's handshake; a client says the first word with `startHandshake`. `send` is a mistake of
///   the caller.
/// - *established*: `receive` gives out plaintext, `send` encrypts. The peer may end its direction with close_notify (`peerClosed`);
///   ours stays open until `close` (RFC 8446 section 6.1), and what the peer sends after its close_notify is ignored.
/// - *closed*: our close_notify is out. `receive` still gives out what the peer sent before it saw that.
/// - *ended*: after a fault nothing goes on. The alert for the peer, if there is one, stands in `outgoing` when the fault is thrown.
///
/// The odd cases: the bytes of one call may end anywhere in a record; OpenSSL keeps the incomplete record, at most 16 KB and a bit,
/// and gives its buffer back when the record is complete, so an idle session has none. Messages after the handshake (session tickets,
/// key updates) are answered inside `receive`, so `outgoing` may grow at any time. And "established" is remembered here, because
/// OpenSSL is "in handshake" again while it reads such a message, and a peer must not be able to make `send` trap with half of one.
///
/// Limits: the bytes of a handshake; records in a row without data (KeyUpdate and others), which OpenSSL takes without end; the records
/// that we send with one key. The first two are faults of the peer.
///
/// Memory: an established session that waits has 14.0 KB in TLS 1.3 and 13.2 KB in TLS 1.2, and 5 to 6 KB more with a client's
/// certificate; of that 7.6 KB are OpenSSL's `SSL` itself, 1.9 KB the two AES-GCM contexts, 0.9 KB its session. All buffers are given
/// back, and OpenSSL 3.0 has no call to give back more. (Counted with malloc_info(3); the test "An idle session has no buffers" prints
/// it.) A session in the handshake has 44 KB while it waits for the client's last word and 73 KB with half of a ClientHello, so the owner
/// limits how long a handshake takes.
///
/// Not Sendable: it belongs to one event loop.
package final class TLSEngine {
    private enum Phase: UInt8 {
        case handshaking
        case established
        case closed
        case ended
    }

    /// The `SSL`, for what OpenSSL can do and this type does not offer. Nothing that reads or writes may be called on it.
    package let session: OpaquePointer
    /// Owned by `session`.
    private let bio: OpaquePointer
    /// The callbacks of the session's `SSL_CTX` point into it.
    private let context: TLSContext
    private var phase = Phase.handshaking
    /// Of the first byte from the peer: whether it can be the method of an HTTP request. nil before it came.
    private var beginsLikeHTTP: Bool?
    private var handshakeBytesLeft: Int32
    /// Records that the peer may still begin before one has to bring data.
    private var uselessRecordsLeft: Int32
    /// Records that were sent with the present key.
    private var recordsOfKey = 0
    /// Seals our records in place of OpenSSL, once that has given the keys away.
    private let sealer: RecordSealer?
    private var sealingKeys: SealingKeys?
    /// Of what OpenSSL writes next, in records that are sealed here.
    private var contentType = UInt8(SSL3_RT_HANDSHAKE)
    /// Until the keys are given away.
    private var trafficSecret: [UInt8] = []
    /// Whether the peer sent close_notify: nothing more will come, and nothing is missing.
    package private(set) var peerClosed = false

    /// The server's end of a new session.
    ///
    /// - Parameter sealer: of the event loop; seals the records of TLS 1.3. nil: OpenSSL does.
    package convenience init(server context: TLSContext, sealer: RecordSealer? = nil) {
        precondition(context.isServer, "the context is a client's")
        self.init(context: context, sealer: sealer)
        SSL_set_accept_state(session)
        if sealer != nil { SSL_set_options(session, COpenSSL_OP_ENABLE_KTLS) }
    }

    /// The client's end of a new session. `startHandshake` begins it.
    ///
    /// - Parameter serverName: the DNS name or IP address that the certificate must have; a DNS name is also sent (SNI).
    package convenience init(client context: TLSContext, serverName: String) {
        precondition(!context.isServer, "the context is a server's")
        self.init(context: context, sealer: nil)
        SSL_set_connect_state(session)
        OpenSSLErrors.clear()
        // RFC 6066 section 3: an address is not sent as a name. The function says whether the text is an address.
        let isAddress = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), serverName) == 1
        OpenSSLErrors.clear()
        if !isAddress {
            // Fails for names that are empty or above 255 bytes; then no name is sent.
            _ = COpenSSL_SSL_set_tlsext_host_name(session, serverName)
            if context.checksServerName {
                SSL_set_hostflags(session, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
                precondition(SSL_set1_host(session, serverName) == 1, "out of memory, or a NUL in the name")
            }
        }
        OpenSSLErrors.clear()
    }

    private init(context: TLSContext, sealer: RecordSealer?) {
        guard let session = SSL_new(context.pointer) else { preconditionFailure("out of memory") }
        self.context = context
        self.sealer = sealer
        self.session = session
        handshakeBytesLeft = Int32(clamping: context.limits.handshakeBytesMax)
        uselessRecordsLeft = Int32(context.limits.recordsUntilData)
        bio = BorrowingTransport.makeBIO()
        // One reference for both directions (SSL_set_bio(3)).
        SSL_set_bio(session, bio, bio)
    }

    deinit {
        sealingKeys?.wipe()
        wipeTrafficSecret()
        SSL_free(session)
    }

    /// How many sessions the process has, on all event loops.
    package static var aliveCount: Int { BorrowingTransport.aliveCount }

    // MARK: - Bytes

    /// Says a client's first word.
    ///
    /// - Parameter outgoing: gets the bytes for the server.
    /// - Throws: `TLSFault.handshakeFailed` when the settings allow no handshake.
    package func startHandshake(outgoing: inout [UInt8]) throws(TLSFault) {
        precondition(!context.isServer, "the client begins")
        var plaintext: [UInt8] = []
        try receive(UnsafeRawBufferPointer(start: nil, count: 0), plaintext: &plaintext, outgoing: &outgoing)
    }

    /// Takes all of some bytes from the peer.
    ///
    /// - Parameters:
    ///   - ciphertext: what came, cut anywhere.
    ///   - plaintext: gets what was decrypted, at most as many bytes as came since it last grew.
    ///   - outgoing: gets the bytes for the peer, also when a fault is thrown: then it is the alert.
    /// - Throws: `handshakeFailed`, `plainHTTPRequest`, `protocolError`; `ended` after any of them.
    package func receive(
        _ ciphertext: UnsafeRawBufferPointer,
        plaintext: inout [UInt8],
        outgoing: inout [UInt8]
    ) throws(TLSFault) {
        guard phase != .ended else { throw .ended }
        guard !peerClosed else { return }
        if beginsLikeHTTP == nil, let first = ciphertext.first {
            beginsLikeHTTP = (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(first)
        }
        let outgoingBefore = outgoing.count
        OpenSSLErrors.clear()
        var limit: TLSFault?
        let result = lend(ciphertext, &outgoing) { transport in
            let stop = advance(transport, plaintext: &plaintext)
            limit = stop == SSL_ERROR_WANT_READ ? exceededLimit(transport) : nil
            // "Wants more" while there is more would lose bytes. It cannot be, with SSL_MODE_AUTO_RETRY, which is on by default.
            return stop == SSL_ERROR_WANT_READ && transport.pointee.inputLeft > 0 ? SSL_ERROR_SSL : stop
        }
        if let limit {
            phase = .ended
            throw limit
        }
        switch result {
        case SSL_ERROR_WANT_READ:
            break
        case SSL_ERROR_ZERO_RETURN where phase != .handshaking:
            peerClosed = true
        case SSL_ERROR_ZERO_RETURN:
            phase = .ended
            throw .handshakeFailed("the peer closed the session during the handshake")
        default:
            let fault = takeFault()
            if fault == .plainHTTPRequest {
                outgoing.removeLast(outgoing.count - outgoingBefore)
            }
            phase = .ended
            throw fault
        }
    }

    /// Encrypts. Of more than 16 KB it makes several records.
    ///
    /// - Parameters:
    ///   - plaintext: may be empty, which sends nothing.
    ///   - outgoing: gets the bytes for the peer.
    /// - Throws: `ended` after a fault or `close`; `protocolError` when the peer stopped in the middle of a message.
    package func send(_ plaintext: UnsafeRawBufferPointer, outgoing: inout [UInt8]) throws(TLSFault) {
        precondition(phase != .handshaking, "nothing can be sent before the handshake is done")
        guard phase == .established else { throw .ended }
        guard !plaintext.isEmpty else { return }
        if sealingKeys != nil { return try seal(plaintext, &outgoing) }
        OpenSSLErrors.clear()
        changeWornKey()
        var sent = 0
        let isSent = lend(nil, &outgoing) { transport in
            defer { recordsOfKey += transport.pointee.recordsWritten }
            // Without SSL_MODE_ENABLE_PARTIAL_WRITE, and with a transport that takes everything, one call writes all records.
            return SSL_write_ex(session, plaintext.baseAddress, plaintext.count, &sent) == 1
        }
        guard isSent else {
            phase = .ended
            let text = OpenSSLErrors.take()?.text
            throw .protocolError(text ?? "the peer left a message after the handshake unfinished")
        }
        precondition(sent == plaintext.count, "OpenSSL wrote a part")
    }

    /// Says close_notify, once; nothing can be sent after it. During the handshake, and after a fault, there is nobody to say it to.
    package func close(outgoing: inout [UInt8]) {
        switch phase {
        case .handshaking:
            phase = .ended
        case .established:
            OpenSSLErrors.clear()
            phase = .closed
            _ = lend(nil, &outgoing) { _ in SSL_shutdown(session) }
            OpenSSLErrors.clear()
        case .closed, .ended:
            break
        }
    }

    /// Says that the transport gives no more bytes from the peer.
    ///
    /// - Throws: `closedUncleanly` if that was not announced, so that the end of what came may be missing; `handshakeFailed` before the
    ///   handshake was done. Once; after it and after other faults it does nothing.
    package func endOfInput() throws(TLSFault) {
        switch phase {
        case .handshaking:
            phase = .ended
            throw .handshakeFailed("the peer closed the connection during the handshake")
        case .established, .closed:
            guard !peerClosed else { return }
            phase = .ended
            throw .closedUncleanly
        case .ended:
            break
        }
    }

    // MARK: - What was agreed

    /// Whether the handshake is done and `send` works. False again after `close` and after a fault.
    package var isEstablished: Bool { phase == .established }

    /// The application protocol, by ALPN (RFC 7301); nil if the client offered none or the handshake is not that far.
    package var negotiatedProtocol: String? {
        var name: UnsafePointer<UInt8>?
        var count: UInt32 = 0
        SSL_get0_alpn_selected(session, &name, &count)
        guard let name, count > 0 else { return nil }
        return String(decoding: UnsafeBufferPointer(start: name, count: Int(count)), as: UTF8.self)
    }

    /// The name by which the client asked for the server (RFC 6066 section 3), in lower case. The client chose it: it is not checked.
    package var serverName: String? {
        SSL_get_servername(session, TLSEXT_NAMETYPE_host_name).map { String(cString: $0).lowercased() }
    }

    /// `TLSv1.3` or `TLSv1.2`; before the handshake it is the highest that is offered.
    package var version: String {
        String(cString: SSL_get_version(session))
    }

    /// OpenSSL's name of the cipher suite, such as `TLS_AES_128_GCM_SHA256`; empty before there is one.
    package var cipher: String {
        guard let cipher = SSL_get_current_cipher(session) else { return "" }
        return String(cString: SSL_CIPHER_get_name(cipher))
    }

    /// Whether the session goes on from an earlier one, by its ticket, so that no certificates were shown.
    package var isResumed: Bool { SSL_session_reused(session) == 1 }

    /// The certificate of the peer, which has been verified: of a client, if it was asked for one and had it; also in a session that is
    /// resumed. nil before the handshake is done.
    package var peerCertificate: PeerCertificate? {
        guard phase != .handshaking, SSL_get_verify_mode(session) & SSL_VERIFY_PEER != 0, SSL_get_verify_result(session) == X509_V_OK else {
            return nil
        }
        return SSL_get0_peer_certificate(session).map { PeerCertificate($0) }
    }

    // MARK: - Limits

    /// What the peer has overstepped, if anything.
    private func exceededLimit(_ transport: UnsafeMutablePointer<BorrowingTransport>) -> TLSFault? {
        if phase == .handshaking {
            guard transport.pointee.allowance == 0, transport.pointee.inputLeft > 0 else { return nil }
            return .handshakeFailed("more than \(context.limits.handshakeBytesMax) bytes before the end of the handshake")
        }
        guard transport.pointee.recordAllowance < 0 else { return nil }
        return .protocolError("more than \(context.limits.uselessRecordsMax) records in a row without data")
    }

    /// Changes the key before more records are sent with it than is safe (RFC 8446 section 5.5). TLS 1.2 has nothing of the kind.
    private func changeWornKey() {
        guard recordsOfKey >= context.limits.recordsPerKeyMax, SSL_version(session) == TLS1_3_VERSION else { return }
        // The peer's key stays. The peer is told in front of the next data. Refused while a message of the peer is unfinished: then the
        // next call is refused for the same, and says so.
        _ = SSL_key_update(session, SSL_KEY_UPDATE_NOT_REQUESTED)
        OpenSSLErrors.clear()
        recordsOfKey = 0
    }

    // MARK: - Records that are sealed here

    /// Whether OpenSSL has given the keys of what is sent away.
    package var isSealing: Bool { sealingKeys != nil }

    private func seal(_ plaintext: UnsafeRawBufferPointer, _ outgoing: inout [UInt8]) throws(TLSFault) {
        if recordsOfKey >= context.limits.recordsPerKeyMax {
            OpenSSLErrors.clear()
            // The new keys are there when the KeyUpdate has come through `put`.
            let isAsked = SSL_key_update(session, SSL_KEY_UPDATE_NOT_REQUESTED) == 1
            let isDone = isAsked && lend(nil, &outgoing) { _ in SSL_do_handshake(session) == 1 }
            OpenSSLErrors.clear()
            guard isDone else {
                phase = .ended
                throw .protocolError("the peer left a message after the handshake unfinished")
            }
        }
        put(UInt8(SSL3_RT_APPLICATION_DATA), plaintext, to: &outgoing)
    }

    /// OpenSSL writes, inside a loan.
    func put(_ bytes: UnsafeRawBufferPointer, to outgoing: inout [UInt8]) {
        guard sealingKeys != nil else { return outgoing.append(contentsOf: bytes) }
        put(contentType, bytes, to: &outgoing)
        // What we say after a KeyUpdate is sealed with the next keys (RFC 8446, section 4.6.3).
        if contentType == UInt8(SSL3_RT_HANDSHAKE), bytes.count == 5, bytes[0] == UInt8(SSL3_MT_KEY_UPDATE), let sealer {
            sealingKeys?.update(with: sealer)
            recordsOfKey = 0
        }
    }

    private func put(_ kind: UInt8, _ bytes: UnsafeRawBufferPointer, to outgoing: inout [UInt8]) {
        guard let sealer else { preconditionFailure("keys without a sealer") }
        recordsOfKey += sealingKeys?.seal(kind, bytes, with: sealer, to: &outgoing) ?? 0
    }

    /// - Returns: whether it is done, or so.
    func onCommand(_ command: SealingCommand, _ number: Int, _ pointer: UnsafeMutableRawPointer?) -> Bool {
        switch command {
        case .begin:
            guard number != 0, let pointer, let sealer else { return false }
            // Without the secret there is no way from one key to the next.
            sealingKeys = SealingKeys(pointer, secret: trafficSecret, sealer: sealer)
            wipeTrafficSecret()
            return sealingKeys != nil
        case .hasBegun: return sealingKeys != nil
        case .setContentType:
            contentType = UInt8(truncatingIfNeeded: number)
            return true
        case .clearContentType: return true
        }
    }

    /// A line for a key log: `LABEL CLIENT_RANDOM SECRET`, in hexadecimal.
    func onSecret(_ line: UnsafeBufferPointer<CChar>) {
        let words = line.split(separator: CChar(UInt8(ascii: " ")))
        guard words.count == 3, words[0].elementsEqual("SERVER_TRAFFIC_SECRET_0".utf8.map { CChar($0) }) else { return }
        let digits = words[2].map { UInt8(bitPattern: $0) }
        trafficSecret = stride(from: 0, to: digits.count - 1, by: 2).map { Self.nibble(digits[$0]) << 4 | Self.nibble(digits[$0 + 1]) }
    }

    private func wipeTrafficSecret() {
        trafficSecret.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
        trafficSecret = []
    }

    private static func nibble(_ digit: UInt8) -> UInt8 {
        digit <= UInt8(ascii: "9") ? digit &- UInt8(ascii: "0") : (digit | 0x20) &- UInt8(ascii: "a") &+ 10
    }

    // MARK: - Calls of OpenSSL, inside a loan

    private func lend<Result>(
        _ input: UnsafeRawBufferPointer?, _ outgoing: inout [UInt8], _ body: (UnsafeMutablePointer<BorrowingTransport>) -> Result
    ) -> Result {
        let input = input ?? UnsafeRawBufferPointer(start: nil, count: 0)
        return BorrowingTransport.lend(input, &outgoing, to: bio, sealing: sealer == nil ? nil : self, body)
    }

    /// Goes on with the handshake, and behind it with decrypting, as far as the input reaches; returns why it stopped.
    private func advance(_ transport: UnsafeMutablePointer<BorrowingTransport>, plaintext: inout [UInt8]) -> Int32 {
        if phase == .handshaking {
            transport.pointee.allowance = Int(handshakeBytesLeft)
            let result = SSL_do_handshake(session)
            handshakeBytesLeft = Int32(clamping: transport.pointee.allowance)
            guard result == 1 else { return SSL_get_error(session, result) }
            transport.pointee.allowance = .max
            phase = .established
        }
        transport.pointee.recordAllowance = Int(uselessRecordsLeft)
        defer { uselessRecordsLeft = Int32(clamping: transport.pointee.recordAllowance) }
        return read(transport, into: &plaintext)
    }

    /// Decrypts until the input is used up; returns why it stopped, never `SSL_ERROR_NONE`.
    private func read(_ transport: UnsafeMutablePointer<BorrowingTransport>, into plaintext: inout [UInt8]) -> Int32 {
        while true {
            // Room for the rest of a record that is decrypted, or for what the input can give; a record has at most 16 KB.
            let pending = Int(SSL_pending(session))
            let room = pending > 0 ? pending : min(transport.pointee.inputLeft, Int(SSL3_RT_MAX_PLAIN_LENGTH))
            var isRead = false
            if room > 0 {
                plaintext.append(addingCapacity: room) { (span: inout OutputSpan<UInt8>) in
                    span.withUnsafeMutableBufferPointer { buffer, count in
                        isRead = SSL_read_ex(session, buffer.baseAddress, room, &count) == 1
                        // Not written by OpenSSL 3.0 when it fails, but nothing promises that.
                        count = isRead ? count : 0
                    }
                }
            } else {
                // Nothing can come, but this call is where OpenSSL notices that and gives its buffer back.
                var byte: UInt8 = 0
                var count = 0
                isRead = SSL_read_ex(session, &byte, 1, &count) == 1
                if isRead, count == 1 {
                    plaintext.append(byte)
                }
            }
            if isRead {
                transport.pointee.recordAllowance = context.limits.recordsUntilData
            } else {
                return SSL_get_error(session, 0)
            }
        }
    }

    /// The fault behind a call that failed.
    private func takeFault() -> TLSFault {
        let error = OpenSSLErrors.take()
        if phase != .handshaking {
            return .protocolError(error?.text ?? "unknown reason")
        }
        guard let error else { return .handshakeFailed("unknown reason") }
        let isNoTLS = error.isSSL(SSL_R_HTTP_REQUEST) || error.isSSL(SSL_R_HTTPS_PROXY_REQUEST) || error.isSSL(SSL_R_WRONG_VERSION_NUMBER)
        if context.isServer, isNoTLS, beginsLikeHTTP == true {
            return .plainHTTPRequest
        }
        if error.isSSL(SSL_R_CERTIFICATE_VERIFY_FAILED), let why = X509_verify_cert_error_string(SSL_get_verify_result(session)) {
            return .handshakeFailed("certificate verify failed: \(String(cString: why))")
        }
        return .handshakeFailed(error.text)
    }
}

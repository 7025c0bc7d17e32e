import COpenSSL
import Glibc
import Synchronization

/// What OpenSSL reads from and writes to: a BIO that keeps no bytes.
///
/// For the length of one call it borrows the bytes that came from the peer and the array for the bytes to the peer; OpenSSL copies straight
/// out of the one and into the other. Between calls it points to nothing: reading says "retry later", and writing fails.
///
/// A pair of memory BIOs would keep a buffer each per session, which only ever grows, and copy every byte once more.
struct BorrowingTransport {
    private var input: UnsafeRawBufferPointer
    private let output: UnsafeMutablePointer<[UInt8]>
    /// Whose session it is, if that may seal its records itself.
    private let sealing: Unmanaged<TLSEngine>?
    /// How many more bytes OpenSSL is given; behind them it has to wait.
    var allowance = Int.max
    /// How many more records OpenSSL may begin to read; then it is given no more bytes.
    var recordAllowance = Int.max
    /// How many records OpenSSL has written.
    private(set) var recordsWritten = 0

    /// How many bytes OpenSSL has not read yet.
    var inputLeft: Int { input.count }

    private init(input: UnsafeRawBufferPointer, output: UnsafeMutablePointer<[UInt8]>, sealing: Unmanaged<TLSEngine>?) {
        self.input = input
        self.output = output
        self.sealing = sealing
    }

    private mutating func take(_ destination: UnsafeMutableRawPointer, _ count: Int) -> Int {
        let taken = min(count, input.count, allowance)
        guard taken > 0 else { return 0 }
        destination.copyMemory(from: input.baseAddress!, byteCount: taken)
        input = UnsafeRawBufferPointer(rebasing: input[taken...])
        allowance -= taken
        return taken
    }

    private mutating func beginRecord() {
        recordAllowance -= 1
        if recordAllowance < 0 {
            allowance = 0
        }
    }

    /// What OpenSSL writes: records, or what is to be sealed as one.
    private func put(_ bytes: UnsafeRawBufferPointer) {
        if let sealing { return sealing._withUnsafeGuaranteedRef { $0.put(bytes, to: &output.pointee) } }
        output.pointee.append(contentsOf: bytes)
    }

    /// Lends `input` and `output` to `bio` while `body` runs.
    ///
    /// - Parameter sealing: gets what is written, as well as the commands that say what it is.
    static func lend<Result>(
        _ input: UnsafeRawBufferPointer,
        _ output: inout [UInt8],
        to bio: OpaquePointer,
        sealing: TLSEngine?,
        _ body: (UnsafeMutablePointer<BorrowingTransport>) -> Result
    ) -> Result {
        withUnsafeMutablePointer(to: &output) { output in
            var transport = BorrowingTransport(input: input, output: output, sealing: sealing.map { .passUnretained($0) })
            return withUnsafeMutablePointer(to: &transport) { transport in
                BIO_set_data(bio, transport)
                defer { BIO_set_data(bio, nil) }
                return body(transport)
            }
        }
    }

    /// A new BIO. `SSL_set_bio` gives it to a session, which frees it.
    static func makeBIO() -> OpaquePointer {
        guard let bio = BIO_new(method) else { preconditionFailure("out of memory") }
        return bio
    }

    /// Makes servers' sessions of `context` learn the secret of their application data, from which the keys after the first ones come.
    static func learnSecrets(in context: OpaquePointer) {
        SSL_CTX_set_keylog_callback(context) { session, line in
            guard let session, let line, let bio = SSL_get_rbio(session), let sealing = BorrowingTransport.of(bio)?.pointee.sealing else {
                return
            }
            sealing._withUnsafeGuaranteedRef { $0.onSecret(UnsafeBufferPointer(start: line, count: strlen(line))) }
        }
    }

    /// Makes sessions of `context` count the records that they write, and those that they read against `recordAllowance`: OpenSSL itself
    /// reads any number of records that bring no data, as long as there are bytes.
    static func countRecords(in context: OpaquePointer) {
        SSL_CTX_set_msg_callback(context) { isWritten, _, kind, _, _, session, _ in
            guard kind == SSL3_RT_HEADER, let bio = SSL_get_rbio(session), let transport = BorrowingTransport.of(bio) else { return }
            if isWritten == 0 {
                transport.pointee.beginRecord()
            } else {
                transport.pointee.recordsWritten += 1
            }
        }
    }

    private static func of(_ bio: OpaquePointer) -> UnsafeMutablePointer<BorrowingTransport>? {
        BIO_get_data(bio)?.assumingMemoryBound(to: BorrowingTransport.self)
    }

    /// How many BIOs are alive in the process; each belongs to one session.
    static var aliveCount: Int { alive.load(ordering: .relaxed) }

    private static let alive = Atomic<Int>(0)

    /// Made once and never freed. Unsafe nonisolated: written by nothing after it is made.
    private nonisolated(unsafe) static let method: OpaquePointer = {
        guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "borrowed bytes") else {
            preconditionFailure("out of memory")
        }
        BIO_meth_set_create(method) { bio in
            BIO_set_init(bio, 1)
            BorrowingTransport.alive.add(1, ordering: .relaxed)
            return 1
        }
        BIO_meth_set_destroy(method) { _ in
            BorrowingTransport.alive.subtract(1, ordering: .relaxed)
            return 1
        }
        BIO_meth_set_read_ex(method) { bio, destination, count, done in
            guard let bio, let destination, let done else { return 0 }
            COpenSSL_BIO_clear_retry_flags(bio)
            guard let transport = BorrowingTransport.of(bio), case let taken = transport.pointee.take(destination, count), taken > 0 else {
                COpenSSL_BIO_set_retry_read(bio)
                return 0
            }
            done.pointee = taken
            return 1
        }
        BIO_meth_set_write_ex(method) { bio, source, count, done in
            guard let bio, let source, let done else { return 0 }
            COpenSSL_BIO_clear_retry_flags(bio)
            guard let transport = BorrowingTransport.of(bio) else { return 0 }
            transport.pointee.put(UnsafeRawBufferPointer(start: source, count: count))
            done.pointee = count
            return 1
        }
        // Flushing has nothing to do and succeeds; what is not known is answered with 0, also "end of file?".
        BIO_meth_set_ctrl(method) { bio, command, number, pointer in
            if command == BIO_CTRL_FLUSH { return 1 }
            guard let command = SealingCommand(rawValue: command), let bio, let sealing = BorrowingTransport.of(bio)?.pointee.sealing else {
                return 0
            }
            return sealing._withUnsafeGuaranteedRef { $0.onCommand(command, number, pointer) } ? 1 : 0
        }
        return method
    }()
}

/// What OpenSSL tells the BIO of a session whose records something else seals: a kernel, or `SealingKeys`. The numbers are in
/// <openssl/bio.h>; two of them only in its comments.
enum SealingCommand: Int32 {
    /// Begins; with the keys (`tls_crypto_info`), and not 0 if they are for what is sent.
    case begin = 72
    /// Has it begun?
    case hasBegun = 73
    /// What is written next is of that content type, and no application data.
    case setContentType = 74
    case clearContentType = 75
}

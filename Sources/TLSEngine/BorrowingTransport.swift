import COpenSSL
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
    /// How many more bytes OpenSSL is given; behind them it has to wait.
    var allowance = Int.max
    /// How many more records OpenSSL may begin to read; then it is given no more bytes.
    var recordAllowance = Int.max
    /// How many records OpenSSL has written.
    private(set) var recordsWritten = 0

    /// How many bytes OpenSSL has not read yet.
    var inputLeft: Int { input.count }

    private init(input: UnsafeRawBufferPointer, output: UnsafeMutablePointer<[UInt8]>) {
        self.input = input
        self.output = output
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

    /// Lends `input` and `output` to `bio` while `body` runs.
    static func lend<Result>(
        _ input: UnsafeRawBufferPointer,
        _ output: inout [UInt8],
        to bio: OpaquePointer,
        _ body: (UnsafeMutablePointer<BorrowingTransport>) -> Result
    ) -> Result {
        withUnsafeMutablePointer(to: &output) { output in
            var transport = BorrowingTransport(input: input, output: output)
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
            transport.pointee.output.pointee.append(contentsOf: UnsafeRawBufferPointer(start: source, count: count))
            done.pointee = count
            return 1
        }
        // Flushing has nothing to do and succeeds; all else is answered with 0, also "end of file?".
        BIO_meth_set_ctrl(method) { _, command, _, _ in
            command == BIO_CTRL_FLUSH ? 1 : 0
        }
        return method
    }()
}

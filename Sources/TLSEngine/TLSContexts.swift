import Synchronization

/// The server's context, which can be swapped for one with new certificates while sessions run.
///
/// New sessions begin with `current`; those that run go on with what they began with.
package final class TLSContexts: Sendable {
    private struct State {
        var context: TLSContext
        var certificates: [TLSCertificateFiles]
    }

    private let state: Mutex<State>
    private let alpn: [String]

    /// - Throws: what `TLSContext.init(server:alpn:at:)` throws.
    package init(
        server certificates: [TLSCertificateFiles],
        alpn: [String] = ["h2", "http/1.1"],
        at time: Int64? = nil
    ) throws(TLSFault) {
        let context = try TLSContext(server: certificates, alpn: alpn, at: time)
        state = Mutex(State(context: context, certificates: certificates))
        self.alpn = alpn
    }

    /// For the next session. It takes a lock; once per connection.
    package var current: TLSContext { state.withLock { $0.context } }

    /// Reads the files again, and swaps if all of them are good.
    ///
    /// - Parameters:
    ///   - certificates: other files than before; nil means the same paths.
    ///   - time: as in `TLSContext.init(server:alpn:at:)`.
    /// - Throws: what is wrong with the files. The old context stays.
    package func reload(_ certificates: [TLSCertificateFiles]? = nil, at time: Int64? = nil) throws(TLSFault) {
        let certificates = certificates ?? state.withLock { $0.certificates }
        // Outside of the lock: it reads files and does arithmetic with keys.
        let context = try TLSContext(server: certificates, alpn: alpn, at: time)
        state.withLock { $0 = State(context: context, certificates: certificates) }
    }
}

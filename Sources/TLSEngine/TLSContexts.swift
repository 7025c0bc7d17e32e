import Synchronization

/// The server's context, which can be swapped for one with new certificates while sessions run.
///
/// New sessions begin with `current`; those that run go on with what they began with.
package final class TLSContexts: Sendable {
    private struct State {
        var context: TLSContext
        var configuration: TLSConfiguration
    }

    private let state: Mutex<State>
    /// Outlive a reload, so that clients can resume their sessions. To be rotated every few hours.
    package let ticketKeys: SharedTicketKeys

    /// - Parameters:
    ///   - configuration: the files are read now.
    ///   - ticketKeys: nil makes keys from OpenSSL's own generator.
    ///   - time: as in `TLSContext.init(server:ticketKeys:at:)`.
    /// - Throws: what `TLSContext.init(server:ticketKeys:at:)` throws.
    package init(
        server configuration: TLSConfiguration,
        ticketKeys: TicketKeys? = nil,
        at time: Int64? = nil
    ) throws(TLSFault) {
        self.ticketKeys = SharedTicketKeys(ticketKeys)
        let context = try TLSContext(server: configuration, ticketKeys: self.ticketKeys, at: time)
        state = Mutex(State(context: context, configuration: configuration))
    }

    /// With the defaults of `TLSConfiguration`.
    package convenience init(server certificates: [TLSCertificateFiles], at time: Int64? = nil) throws(TLSFault) {
        try self.init(server: TLSConfiguration(certificates: certificates), at: time)
    }

    /// For the next session. It takes a lock; once per connection.
    package var current: TLSContext { state.withLock { $0.context } }

    /// Reads the files again, certificates, OCSP responses and authorities, and swaps if all of them are good.
    ///
    /// - Parameters:
    ///   - configuration: another than before; nil means the same paths.
    ///   - time: as in `TLSContext.init(server:ticketKeys:at:)`.
    /// - Throws: what is wrong with the files. The old context stays.
    package func reload(_ configuration: TLSConfiguration? = nil, at time: Int64? = nil) throws(TLSFault) {
        let configuration = configuration ?? state.withLock { $0.configuration }
        // Outside of the lock: it reads files and does arithmetic with keys.
        let context = try TLSContext(server: configuration, ticketKeys: ticketKeys, at: time)
        state.withLock { $0 = State(context: context, configuration: configuration) }
    }
}

/// What one publish request asks of the log.
package struct AppendRequest: Sendable {
    package var publications: [Publication]
    package var idempotencyKey: FieldText?
    /// Whose key that is; empty where there are no tokens.
    package var publisher = ""
    /// Of the whole request, to notice a key that is used again for something else.
    package var fingerprint: UInt64
    /// The server's own: for one of its channels that nobody else may publish on.
    package var isOwn = false
    /// When the server had it as a whole, by the machine's monotonic clock; 0: not said.
    package var takenNanoseconds: Int64 = 0

    package init(_ publications: [Publication], idempotencyKey: FieldText? = nil, fingerprint: UInt64 = 0) {
        self.publications = publications
        self.idempotencyKey = idempotencyKey
        self.fingerprint = fingerprint
    }
}

/// Where the log put a publication.
package struct AppendReceipt: Sendable, Hashable {
    package var channel: ChannelName
    package var sequence: UInt64
    package var offset: UInt64

    package init(channel: ChannelName, sequence: UInt64, offset: UInt64) {
        self.channel = channel
        self.sequence = sequence
        self.offset = offset
    }
}

package enum AppendOutcome: Sendable, Hashable {
    case appended(AppendReceipt)
    /// The same request came before under this `Idempotency-Key`; this was its outcome.
    case repeated(AppendReceipt)
    case refused(AppendRefusal)

    package var receipt: AppendReceipt? {
        switch self {
        case .appended(let receipt), .repeated(let receipt): receipt
        case .refused: nil
        }
    }
}

package enum AppendRefusal: Sendable, Hashable {
    case idempotencyKeyReused
    /// It was refused when the request first came under this key.
    case refusedBefore
    case tooManyChannels
    /// The channel is one of the server's own.
    case reservedChannel
    /// The change cannot be applied to the channel's state; why.
    case change(ChangeFault)
    case tooManyKeys(max: Int)
    case stateTooLarge(bytes: Int, max: Int)
    /// The store cannot be written to.
    case storeFailed
    /// The log is going down and takes nothing more.
    case shuttingDown
}

/// Why a merge patch does not apply.
package enum ChangeFault: Sendable, Hashable {
    /// No snapshot was published yet.
    case noState
    /// The channel's state is not an object.
    case stateIsNotAnObject
    /// The patch is not an object.
    case patchIsNotAnObject
}

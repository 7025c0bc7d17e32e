/// Gives each publication its numbers. There is one per log, and it alone decides the order.
package struct LogWriter {
    package let epoch: LogEpoch
    package private(set) var tail: LogTail
    private var idempotency: IdempotencyTable

    package init(epoch: LogEpoch, limits: LogLimits, idempotency: IdempotencyTable = IdempotencyTable()) {
        self.epoch = epoch
        tail = LogTail(limits: limits)
        self.idempotency = idempotency
    }

    package var head: UInt64 { tail.head }

    /// Appends what one request publishes.
    ///
    /// - Parameters:
    ///   - request: its publications are taken in order.
    ///   - batch: the new notifications are added to it, for the followers.
    /// - Returns: one outcome per publication, in order.
    package mutating func append(
        _ request: AppendRequest, nowMilliseconds: Int64, batch: inout [Notification]
    ) -> [AppendOutcome] {
        if let key = request.idempotencyKey {
            switch idempotency.look(key, fingerprint: request.fingerprint, nowMilliseconds: nowMilliseconds) {
            case .new: break
            case .repeated(let outcomes):
                return outcomes.map { outcome in
                    if case .appended(let receipt) = outcome { .repeated(receipt) } else { outcome }
                }
            case .otherRequest:
                return request.publications.map { _ in .refused(.idempotencyKeyReused) }
            }
        }
        let outcomes = request.publications.map { publication -> AppendOutcome in
            append(publication, nowMilliseconds: nowMilliseconds, batch: &batch)
        }
        if let key = request.idempotencyKey, outcomes.allSatisfy(\.isAppended) {
            idempotency.remember(key, fingerprint: request.fingerprint, outcomes: outcomes, nowMilliseconds: nowMilliseconds)
        }
        return outcomes
    }

    private mutating func append(
        _ publication: Publication, nowMilliseconds: Int64, batch: inout [Notification]
    ) -> AppendOutcome {
        let last = tail[publication.channel]
        if last == nil, tail.channelCount >= tail.limits.channelsMax { return .refused(.tooManyChannels) }
        let notification = Notification(
            publication, epoch: epoch, offset: tail.head + 1, sequence: (last?.lastSequence ?? 0) + 1, timeMilliseconds: nowMilliseconds
        )
        _ = tail.append(notification, nowMilliseconds: nowMilliseconds)
        batch.append(notification)
        return .appended(AppendReceipt(channel: notification.channel, sequence: notification.sequence, offset: notification.offset))
    }

    package mutating func expire(nowMilliseconds: Int64) {
        tail.expire(nowMilliseconds: nowMilliseconds)
        idempotency.expire(nowMilliseconds: nowMilliseconds)
    }
}

/// What one publish request asks of the log.
package struct AppendRequest: Sendable {
    package var publications: [Publication]
    package var idempotencyKey: FieldText?
    /// Of the whole request, to notice a key that is used again for something else.
    package var fingerprint: UInt64

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
}

package enum AppendOutcome: Sendable, Hashable {
    case appended(AppendReceipt)
    /// The same request came before under this `Idempotency-Key`; this was its outcome.
    case repeated(AppendReceipt)
    case refused(AppendRefusal)

    var isAppended: Bool { if case .appended = self { true } else { false } }
}

package enum AppendRefusal: Sendable, Hashable {
    case idempotencyKeyReused
    case tooManyChannels
    /// The log is going down and takes nothing more.
    case shuttingDown
}

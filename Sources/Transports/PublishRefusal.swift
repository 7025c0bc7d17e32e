package import NotificationCore

/// What a publisher is told whose message the log does not take.
package enum PublishRefusal {
    private static let channelsKey = "channels_max (--channels-max)"

    /// The read state of one more user has no room.
    package static var tooManyUsers: Problem {
        Problem(
            "too-many-users", "Too many users", status: 429, detail: "the log has the read states of as many users as it may",
            rule: "users who have acknowledged alerts", configurationKey: channelsKey, retryAfterSeconds: 60
        )
    }

    package static func problem(_ refusal: AppendRefusal) -> Problem {
        switch refusal {
        case .idempotencyKeyReused:
            Problem(
                "idempotency-key-reused", "Idempotency-Key used before", status: 409,
                detail: "this key came with another request; use a new key for a new request"
            )
        case .refusedBefore:
            Problem(
                "refused-before", "Refused before", status: 409,
                detail: "this item was refused when the request first came under this key; send it anew under another"
            )
        case .tooManyChannels:
            Problem(
                "too-many-channels", "Too many channels", status: 429,
                detail: "the log has as many channels as it may; each that ever had a message counts", rule: "channels of the log",
                configurationKey: channelsKey, retryAfterSeconds: 60
            )
        case .reservedChannel:
            Problem(
                "reserved-channel", "Reserved channel", status: 403, detail: "feeds that begin with _ are the server's own"
            )
        case .change(let fault):
            change(fault)
        case .tooManyKeys(let max):
            Problem(
                "too-many-keys", "Too many keys", status: 429, detail: "a channel of this feed has at most \(max) keys",
                rule: "keys of a channel", configurationKey: "feeds.keys_max", retryAfterSeconds: 60
            )
        case .stateTooLarge(let bytes, let max):
            Problem(
                "state-too-large", "State too large", status: 413,
                detail: "the channel's state would have \(bytes) bytes, \(max) are allowed", rule: "bytes of a channel's state",
                configurationKey: "feeds.state_bytes_max"
            )
        case .storeFailed:
            Problem(
                "store-failed", "The log cannot be written", status: 503,
                detail: "the message was not taken; /readyz says what is wrong", retryAfterSeconds: 2
            )
        case .shuttingDown:
            .goingAway(retryAfterSeconds: 5)
        }
    }

    private static func change(_ fault: ChangeFault) -> Problem {
        switch fault {
        case .noState:
            Problem(
                "no-state", "No state to change", status: 409,
                detail: "nothing to change yet: publish a snapshot (without change=merge) first"
            )
        case .stateIsNotAnObject:
            Problem(
                "no-state", "No state to change", status: 409,
                detail: "the channel's state is not a JSON object; publish a snapshot that is one first"
            )
        case .patchIsNotAnObject:
            Problem(
                "bad-change", "Not a merge patch", status: 400, detail: "change=merge takes a JSON object (RFC 7396)"
            )
        }
    }
}

import HTTP1Codec
import HTTPTypes
import Identity
import NotificationCore
import Transports

/// What an HTTP/1.1 connection holds while it is one.
final class HTTP1Exchange {
    var parser: HTTP1RequestParser
    /// Of the request that is being read or answered.
    var head: HTTP1RequestHead? {
        get { openHead?.value }
        set { openHead = newValue.map { OpenRequestHead($0) } }
    }
    private(set) var openHead: OpenRequestHead?
    var body: [UInt8] = []
    var bodyBytesMax: Int
    /// The other origin whose page made the request, if it may: named in its answer.
    var crossOrigin: String?
    /// A request is being answered; what comes meanwhile is held (pipelining).
    var isAnswering = false
    var isHeadDeadlineSet = false
    var poll: ParkedPoll?
    /// That one, or the last one, if it is expected again.
    var repeated: RepeatedPoll?
    /// The request that is being taken came as a whole.
    var isTakingWhole = false
    /// Tells late answers from the request that is there now.
    var serial: Int32 = 0

    /// While a poll waits, only what its answer goes by is kept.
    func keepPollHead() {
        guard let head = openHead?.value else { return }
        openHead =
            head.keepAlive && head.minorVersion == 1
            ? .ofPoll
            : OpenRequestHead(
                HTTP1RequestHead(
                    request: OpenRequestHead.ofPoll.value.request, minorVersion: head.minorVersion, keepAlive: head.keepAlive
                )
            )
    }

    func beginPollAgain() {
        openHead = .ofPoll
    }

    init(limits: HTTP1Limits) {
        parser = HTTP1RequestParser(limits: limits)
        bodyBytesMax = limits.bodyBytesMax
    }
}

/// A long-poll that waits at the head.
final class ParkedPoll {
    /// One for each subscription of the request.
    let subscribers: [SubscriberID]
    let isList: Bool
    let session: SessionID?
    let waitSeconds: Int
    var dueTick: UInt32
    /// It is answered at once, whatever there is.
    let isImmediate: Bool
    /// The connection ends with the answer.
    let closes: Bool
    /// What goes into its answer.
    let room: Hub.Room
    /// Its answer is there but for the count of unread alerts.
    var isCounting = false
    let token: SessionToken?
    /// In the counts of its user.
    var place: CountedPlace?

    init(
        subscribers: [SubscriberID], isList: Bool, session: SessionID?, waitSeconds: Int, dueTick: UInt32, isImmediate: Bool, closes: Bool,
        room: Hub.Room, token: SessionToken?
    ) {
        self.subscribers = subscribers
        self.isList = isList
        self.session = session
        self.waitSeconds = waitSeconds
        self.dueTick = dueTick
        self.isImmediate = isImmediate
        self.closes = closes
        self.room = room
        self.token = token
    }
}

/// A head takes some hundred bytes, also where there is none: so it lies by itself.
final class OpenRequestHead: Sendable {
    let value: HTTP1RequestHead

    init(_ value: HTTP1RequestHead) {
        self.value = value
    }

    /// What the answer to a poll goes by, of any that leaves its connection open.
    static let ofPoll = OpenRequestHead(
        HTTP1RequestHead(request: HTTPRequest(method: .get, scheme: nil, authority: nil, path: nil))
    )
}

/// One request that is being answered: on HTTP/1.1 the only one of its connection, on HTTP/2 a stream.
struct RequestHandle {
    let connection: Connection
    /// HTTP/2: the stream. HTTP/1.1: 0.
    let stream: Int32
    /// HTTP/1.1: which request of the connection.
    let serial: Int32
    let isHead: Bool
    /// HTTP/2: an extended CONNECT (RFC 8441).
    var isTunnel = false
    /// Who makes the request; nil: nobody in particular.
    var identity: Identity?
    /// By a ticket, which is good once: the next request has to show something else.
    var isOneUse = false
    /// What its lines in the log have in common; nil: nothing of it is logged.
    var trace: RequestTrace?
    /// Of the subscription that it asks for, in the counts of its user.
    var place: CountedPlace?

    /// The other origin whose page made the request, if it may: named in the answer.
    var crossOrigin: String? {
        get {
            connection.crossOrigin(stream)
        }
        nonmutating set {
            switch connection.state {
            case .http1(let exchange): exchange.crossOrigin = newValue
            case .http2(let exchange): exchange.streams[stream]?.crossOrigin = newValue
            default: break
            }
        }
    }
}

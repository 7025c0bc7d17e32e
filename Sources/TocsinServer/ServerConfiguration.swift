package import HTTP1Codec
package import HTTP2Session
package import NotificationCore
package import NotificationStore
package import Presence
package import TLSEngine
package import Transports
package import Webhooks

/// Everything that an operator can set. Each limit has a default, and says where the number comes from.
package struct ServerConfiguration: Sendable {
    package var host = "127.0.0.1"
    /// 0: any free one.
    package var port = 8080
    /// nil: no TLS.
    package var tlsPort: Int?
    package var tls = TLSConfiguration(certificates: [])
    /// The key of session tickets is changed so often. Tickets of the last one are still good, so each lasts its time.
    package var ticketKeySeconds = 12 * 3600
    /// Processes that serve clients; with more than one, the log is in a process of its own.
    package var processes = 1
    /// Event loops of a process; one a core.
    package var loops = 1
    package var log = LogLimits()
    /// The file of the log; `:memory:` keeps it in the process.
    package var storePath = ":memory:"
    package var durability = Durability.disk
    package var subscribe = SubscribeLimits()
    package var http1 = HTTP1Limits()
    package var http2 = HTTP2Limits()
    /// Origins of pages that may use this server besides its own; `*` for all.
    package var allowedOrigins: [String] = []
    /// A client has so long to send a request's head (uWebSockets: 10).
    package var headSecondsMax = 10
    /// A client has so long to send a request's body.
    package var bodySecondsMax = 30
    /// A TLS handshake has so long.
    package var handshakeSecondsMax = 10
    /// A connection without a request is closed after so long. Above the 60 s for which nginx keeps one by default.
    package var idleSecondsMax = 75
    /// A connection that takes nothing of what waits for it is closed after so long.
    package var stallSecondsMax = 300
    /// Connections of the process. What it may have of descriptors bounds them besides.
    package var connectionsMax = 1_000_000
    package var limits = LimitConfiguration()
    /// Who is told of what happens here; nil: nobody.
    package var webhooks: WebhookConfiguration?
    /// Requests or commands of a connection that come faster than they are answered wait in so many bytes, and answers that are not read;
    /// then it is not listened to.
    package var backlogBytesMax = 64 << 10
    /// What a subscriber that is behind is sent at a time.
    package var pageRoom = Hub.Room(notifications: 512, bytes: 128 << 10)
    /// Answers of an HTTP/2 connection that wait to be read; one answer alone may be larger. Eight pages of history.
    package var answerBytesMax = 8 << 20
    /// All request bodies of a loop that are being read: two of the largest.
    package var parkedBytesMax = 32 << 20
    /// Names that clients may call the server by, without ports; `*` for any. Empty: if it listens on this host only, the names of this
    /// host, so that no page can make a browser speak to it by a name of the page's own (DNS rebinding); else any.
    package var allowedHosts: [String] = []
    /// One payload. A notification is not a file transfer; an eighth of what a channel keeps.
    package var payloadBytesMax = 1 << 20
    /// WebSocket messages of clients: commands and publications.
    package var messageBytesMax = 64 << 10
    /// Without keys of either kind, anybody may do anything.
    package var identity = IdentityConfiguration()
    /// Whose channels are watched for who is on them: by default nobody's.
    package var presence = PresenceConfiguration()
    /// A client is told so long before its token ends.
    package var tokenWarningSeconds = 30
    /// Whether WebSockets that offer permessage-deflate (RFC 7692) get it.
    package var compresses = true
    /// Pings, pongs and closes that a WebSocket client may send at once, and in a second in the long run: a client that answers our
    /// pings and sends its own needs one in some seconds.
    package var controlFramesBurst = 100
    package var controlFramesPerSecond = 20
    /// `/`, and a WebSocket that echoes at `/echo`, for the test suites of the protocols.
    package var isConformanceDoorOpen = false
    /// Whether a message of the server's own goes through the log and comes back over each transport once a second; `/readyz` goes by it.
    package var hasCanary = true
    /// Clients are asked to come back spread over so many seconds when the server goes down.
    package var drainSeconds = 5
    /// Whether another server may take this one over, with its log and its listeners. Wants a log in a file, and one process.
    package var offersTakeover = false
    /// Whether this server takes the one over that runs with this log, if there is one.
    package var takesOver = false

    package init() {}
}

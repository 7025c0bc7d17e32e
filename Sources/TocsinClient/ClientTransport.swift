/// A way to subscribe: a rung of the ladder, the best first (Docs/fallback.md).
public enum ClientTransport: String, Sendable, CaseIterable {
    /// RFC 6455.
    case webSocket = "websocket"
    /// Server-Sent Events by GET.
    case eventStream = "sse"
    /// The same by POST: some proxies hold back the answer to a GET only.
    case eventStreamPost = "sse-post"
    /// The same with each write padded: some proxies hold back small writes.
    case eventStreamPadded = "sse-padded"
    case longPoll = "long-poll"
    /// A connection for each answer: some proxies hold back an answer until it closes.
    case longPollClose = "long-poll-close"
    /// Requests that do not wait.
    case shortPoll = "short-poll"

    /// Whether its answers end.
    public var isPoll: Bool {
        switch self {
        case .longPoll, .longPollClose, .shortPoll: true
        case .webSocket, .eventStream, .eventStreamPost, .eventStreamPadded: false
        }
    }
}

/// How a client stands (Docs/fallback.md, "What pages can show").
public struct ClientStatus: Sendable, Equatable {
    public var state: FallbackLadder.State
    /// What carries; nil: nothing does.
    public var transport: ClientTransport?
    /// Why it is not the best transport, or why it waits.
    public var why: FallbackLadder.Reason?
    /// One line for people.
    public var text: String

    init(_ state: FallbackLadder.State, _ transport: ClientTransport?, _ why: FallbackLadder.Reason?, waitMilliseconds: Int) {
        self.state = state
        self.transport = transport
        self.why = why
        text =
            switch state {
            case .idle: "idle"
            case .connecting: "connecting"
            case .live: "live over \(transport == .webSocket ? "WebSocket" : "Server-Sent Events")" + Self.blame(why, "WebSockets")
            case .polling: "polling" + Self.blame(why, "streams")
            case .waiting: Self.waiting(why, waitMilliseconds)
            case .offline: "offline"
            case .refused: "refused: the token is not accepted"
            case .closed: "closed"
            }
    }

    private static func blame(_ why: FallbackLadder.Reason?, _ what: String) -> String {
        switch why {
        case .blocked: ": this network blocks \(what)"
        case .cut: ": this network cuts \(what)"
        case .buffered: ": this network holds \(what) back"
        case .goingAway, .busy, .unreachable, .ended, nil: ""
        }
    }

    private static func waiting(_ why: FallbackLadder.Reason?, _ milliseconds: Int) -> String {
        // Tenths below a second, as more would only flicker.
        let wait = milliseconds < 1000 ? "0.\((milliseconds + 50) / 100)" : "\((milliseconds + 500) / 1000)"
        let seconds = "\(wait == "0.10" ? "1" : wait) s"
        return switch why {
        case .goingAway: "the server restarts: back in \(seconds)"
        case .busy: "the server is busy: back in \(seconds)"
        case .unreachable: "not reachable: trying again in \(seconds)"
        case .ended, .blocked, .buffered, .cut, nil: "the connection ended: trying again in \(seconds)"
        }
    }
}

/// What is known of a rung on a network.
public enum RungVerdict: String, Sendable {
    /// Messages arrive on time.
    case clear
    /// Messages are held back.
    case buffered
    /// Connections are ended.
    case cut
    /// Connections do not come about.
    case blocked
}

extension FallbackLadder {
    /// A verdict of before, and until when it is believed, in the ladder's own time.
    public struct Remembered: Sendable, Equatable {
        public var verdict: RungVerdict
        public var milliseconds: Int
        public var until: Int

        public init(verdict: RungVerdict, milliseconds: Int, until: Int) {
            self.verdict = verdict
            self.milliseconds = milliseconds
            self.until = until
        }
    }

    public enum Role: String, Sendable {
        /// It has the subscriptions.
        case carry
        /// It has none: it finds out about a better rung while another one carries.
        case probe
    }

    /// How an attempt ended.
    public enum Ending: Sendable, Equatable {
        /// After its hello.
        case ended
        /// Before its hello.
        case refused
        /// The caller heard nothing.
        case silent
        /// The token is not accepted.
        case denied
        /// The server goes down: come back after so many milliseconds; nil: it does not say.
        case goingAway(Int?)
        /// The server has too much to do, likewise.
        case busy(Int?)
    }

    /// What happened. Events of attempts that the ladder closed are not passed on.
    public enum Event: Sendable {
        case start
        case hello(ClientTransport)
        /// A `probe` message, sent so many milliseconds after the hello.
        case probe(ClientTransport, at: Int)
        /// Any byte of the carrier.
        case heard(ClientTransport)
        case closed(ClientTransport, Role, Ending)
        /// The answer to `check`.
        case reachable(Bool)
        case offline
        case online
        /// It is another network than was thought; what is known of that one.
        case network([ClientTransport: Remembered])
        case stop
        /// `due` has come.
        case tick
    }

    public enum State: String, Sendable {
        case idle
        case connecting
        case live
        case polling
        case waiting
        case offline
        case refused
        case closed
    }

    /// Why it is not the best rung, or why it waits.
    public enum Reason: String, Sendable {
        case buffered
        case cut
        case blocked
        case goingAway = "going-away"
        case busy
        case unreachable
        case ended

        init(_ verdict: RungVerdict) {
            switch verdict {
            case .buffered: self = .buffered
            case .cut: self = .cut
            case .blocked, .clear: self = .blocked
            }
        }
    }

    /// What is to be done, in this order.
    public enum Action: Sendable, Equatable {
        case open(ClientTransport, Role, heartbeatMilliseconds: Int)
        case close(ClientTransport, Role)
        /// Is the server reachable at all? Answer with `reachable` within three seconds.
        case check
        /// To be kept for this network, and told to the server.
        case verdict(ClientTransport, RungVerdict, milliseconds: Int)
        case status(State, ClientTransport?, Reason?, waitMilliseconds: Int)
    }

    /// In milliseconds; Docs/fallback.md says what each is for.
    public struct Times: Sendable {
        public var race = 600
        public var raceProven = 5000
        public var giveUp = 5000
        public var late = 150
        public var measure = 2000
        public var short = 6000
        public var window = 60_000
        public var confirm = 1000
        public var probe = 3000
        public var hold = 30_000
        public var retry = 15_000
        public var retryMax = 60_000
        public var expiry = 3_600_000
        public var backoff = 500
        public var backoffMax = 30_000
        public var heartbeat = 25_000
        /// A poll waits 25 s at most, and its answer has 10 s to arrive.
        public var pollSilence = 35_000

        public init() {}
    }
}

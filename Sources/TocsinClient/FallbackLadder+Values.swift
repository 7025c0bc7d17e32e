/// What is known of a rung on a network.
package enum RungVerdict: String, Sendable {
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
    package struct Remembered: Sendable, Equatable {
        package var verdict: RungVerdict
        package var milliseconds: Int
        package var until: Int

        package init(verdict: RungVerdict, milliseconds: Int, until: Int) {
            self.verdict = verdict
            self.milliseconds = milliseconds
            self.until = until
        }
    }

    package enum Role: String, Sendable {
        /// It has the subscriptions.
        case carry
        /// It has none: it finds out about a better rung while another one carries.
        case probe
    }

    /// How an attempt ended.
    package enum Ending: Sendable, Equatable {
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
    package enum Event: Sendable {
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

    package enum State: String, Sendable {
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
    package enum Reason: String, Sendable {
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
    package enum Action: Sendable, Equatable {
        case open(ClientTransport, Role, heartbeatMilliseconds: Int)
        case close(ClientTransport, Role)
        /// Is the server reachable at all? Answer with `reachable` within three seconds.
        case check
        /// To be kept for this network, and told to the server.
        case verdict(ClientTransport, RungVerdict, milliseconds: Int)
        case status(State, ClientTransport?, Reason?, waitMilliseconds: Int)
    }

    /// In milliseconds; Docs/fallback.md says what each is for.
    package struct Times: Sendable {
        package var race = 600
        package var raceProven = 3000
        package var giveUp = 5000
        package var late = 150
        package var measure = 2000
        package var short = 5000
        package var window = 60_000
        package var confirm = 1000
        package var probe = 3000
        package var hold = 30_000
        package var retry = 15_000
        package var retryMax = 60_000
        package var expiry = 3_600_000
        package var backoff = 500
        package var backoffMax = 30_000
        package var heartbeat = 25_000
        /// A poll waits 25 s at most, and its answer has 10 s to arrive.
        package var pollSilence = 35_000

        package init() {}
    }
}

/// What a cursor that is behind has to know besides its number.
struct Reader {
    var phase = Phase.running
    var notes = ReadingNotes.none
    private var places: [Place] = []

    /// The sequence of the newest message of a channel that is not after a log number.
    private struct Place {
        var channel: ChannelID
        var offset: UInt64
        var sequence: UInt64
    }

    enum Phase {
        /// In the order of the log.
        case running
        /// One channel after the other.
        case window(Position.Window)
        /// It came without a position and has been handed nothing yet.
        case beginning
        /// It came without a position and is being handed the states that it begins with. Few are at a time: others have no room for it.
        indirect case states(StatesToCome)
    }

    init(phase: Phase = .running, notes: ReadingNotes = .none) {
        self.phase = phase
        self.notes = notes
    }

    /// Whether there is something to be read or said even if nothing new has come.
    var hasWork: Bool {
        switch (phase, notes) {
        case (.running, .none), (.running, .told), (.running, .earliest): false
        default: true
        }
    }

    func sequence(_ channel: ChannelID, at offset: UInt64) -> UInt64? {
        places.last { $0.channel == channel && $0.offset == offset }?.sequence
    }

    /// Keeps what the log told, or what was handed out. Both ends of a channel's stretch are wanted at a time, hardly more.
    mutating func note(_ sequence: UInt64, _ channel: ChannelID, at offset: UInt64) {
        places.removeAll { $0.channel != channel || $0.offset == offset }
        if places.count == 4 { places.removeFirst() }
        places.append(Place(channel: channel, offset: offset, sequence: sequence))
    }

    /// Keeps what it has been told until the next page.
    mutating func note(_ told: Told) {
        notes = told.isEmpty ? .none : .told(told)
    }

    func position(cursor: UInt64, epoch: LogEpoch) -> Position {
        // Who is cut off before it was told of the gap comes back with what it had.
        if case .foreign(let position) = notes { return position }
        return place(cursor: cursor, epoch: epoch)
    }

    /// Where it stands once it has been told.
    func place(cursor: UInt64, epoch: LogEpoch) -> Position {
        switch phase {
        case .running: Position(epoch: epoch, offset: cursor)
        case .window(let window): Position(epoch: epoch, .within(window))
        // Who is cut off before the last of them begins anew.
        case .beginning, .states: Position(epoch: epoch, .beginning)
        }
    }
}

/// States of one moment, the log's head then, on their way to a newcomer: a page at a time, as long as that takes.
struct StatesToCome {
    private(set) var states: [StateOfChannel]
    /// How many have been handed out, and their bytes.
    var count = 0
    var bytes = 0
    /// What comes behind them.
    var window: Position.Window?
    /// They are those of all channels that it subscribed to.
    private(set) var isWhole = true

    init(_ states: [StateOfChannel]) {
        self.states = states
    }

    /// It is not subscribed to others any more.
    mutating func keep(_ channels: [ChannelName]) {
        let kept = Set(channels)
        states = states[..<count] + states[count...].filter { kept.contains($0.channel) }
        isWhole = false
    }
}

/// What a cursor that is behind has been told of what it cannot have.
enum ReadingNotes {
    case none
    /// It has not read yet and starts at `earliest`: what was dropped before is not missed.
    case earliest
    /// It has not read yet and its position, this one, is not known in this log.
    case foreign(Position)
    case told(Told)
}

/// What a subscriber wants besides its channels.
package struct ReadingOptions: Sendable, Equatable {
    /// Whose alerts they are: without a position, what this user has not read is handed out.
    package var user: FieldText?
    /// Alerts that were missed come in short.
    package var isDigest = false
    /// It is served only when its turn comes (`wake`), and then gets the newest value of each key.
    package var isPaced = false

    package init() {}
}

/// What a subscriber is subscribed to. The cold part.
struct Profile {
    var subscriptions: [Subscription] = []
    var reader = Reader()
    var options = ReadingOptions()
    /// Counts changes of the subscriptions: an answer to a question from before one is not for us.
    var revision: UInt32 = 0
}

struct Subscription {
    var node: Int32
    /// Where it stands in the node's audience.
    var place: Int32
}

/// Everybody who is subscribed by one and the same pattern.
struct AudienceNode {
    var pattern: ChannelPattern
    /// Indices of subscribers, those who read on among them. Without one the node is given up.
    var subscribers: [UInt32] = []
    /// The channels that it matches, as far as they exist; ascending.
    var channels: [ChannelID] = []
    /// Of the newest message on any of them.
    var lastOffset: UInt64 = 0
    /// For whose figures its subscriptions count.
    var feed: UInt8 = 0
    /// Whether some of them have a state or keys: who is behind on them reads one channel after the other.
    var hasStates = false
}

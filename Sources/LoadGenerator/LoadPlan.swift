import Glibc

/// What a load is asked to do.
package struct LoadPlan: Sendable {
    package enum Transport: String, Sendable, CaseIterable {
        case webSocket = "websocket"
        case webSocketHTTP2 = "websocket-h2"
        case eventStream = "sse"
        case eventStreamHTTP2 = "sse-h2"
        case longPoll = "long-poll"
        case longPollHTTP2 = "long-poll-h2"
        /// A request at fixed times, which the server answers at once.
        case shortPoll = "poll"

        var isPoll: Bool { [.longPoll, .longPollHTTP2, .shortPoll].contains(self) }
        var isHTTP2: Bool { [.webSocketHTTP2, .eventStreamHTTP2, .longPollHTTP2].contains(self) }
    }

    package var target: Target
    /// Where messages are published.
    package var publishTarget: Target
    package var profile: Profile
    package var transport: Transport
    /// Subscribers of one HTTP/2 connection.
    package var streams = 1
    package var subscribers: Int
    package var channels = 1
    /// Messages a second, over all channels.
    package var rate: Double
    package var messages: Int
    /// Messages before those that are timed.
    package var warmUp = 0
    package var payloadBytes = 128
    package var threads = 1
    package var publishConnections = 4
    /// Messages of one request, which are due together.
    package var batch = 1
    /// The server's processes on this machine; empty: nothing is known of its processor time and memory.
    package var serverProcesses: [Int32] = []
    /// Names the channels and marks the messages of this load; nil: any. Loads of several processes with the same one hear the same.
    package var run: UInt32?
    /// Nothing is published: another process does that, under the same `run`.
    package var onlyListens = false
    /// Only connects, and measures what the subscribers take while nothing is published.
    package var onlyMemory = false
    /// Closes all connections, publishes the messages, and measures how long it takes until all have come back and got them.
    package var resumes = false
    /// How long a thread sleeps between two looks at its sockets, seconds. Asleep so, it is not woken by what the server sends next, which
    /// would cost the server: subscribers elsewhere are not woken by it, either.
    package var pauseSeconds = 0.0
    /// How long the subscribers may take to connect, seconds.
    package var connectSecondsMax = 120.0
    /// How long after the last due time, or the last delivery, the rest is given up, seconds.
    package var patienceSeconds = 5.0
    /// How long the connections rest before memory is read, seconds.
    package var settleSeconds = 0.5
    /// Of short polling, from one poll of a subscriber to the next, seconds.
    package var pollSeconds = 1.0
    /// How long it is measured what the subscribers cost while nothing is published, seconds; 0: not at all.
    package var idleSeconds = 0.0
    /// Messages that are published while all connections are cut, at the end; 0: none is cut.
    package var cutMessages = 0
    /// Who comes back makes a full TLS handshake, and does not resume the session of before.
    package var fullHandshakes = false

    /// Whether connections are cut.
    var isComingBack: Bool { resumes || cutMessages > 0 }

    package init(
        target: Target, publishTarget: Target, profile: Profile, transport: Transport, subscribers: Int, rate: Double, messages: Int
    ) {
        self.target = target
        self.publishTarget = publishTarget
        self.profile = profile
        self.transport = transport
        self.subscribers = subscribers
        self.rate = rate
        self.messages = messages
    }

    package var streamsEach: Int { transport.isHTTP2 ? streams : 1 }
    package var connections: Int { (subscribers + streamsEach - 1) / streamsEach }

    /// Messages of all kinds, numbered from 0: first those that warm up, last those of the cut.
    var numbers: Range<Int> { 0..<warmUp + messages + cutMessages }
    var timed: Range<Int> { warmUp..<warmUp + messages }
    var missed: Range<Int> { timed.upperBound..<numbers.upperBound }

    /// The window of a stream is opened once, as far as it goes (RFC 9113 section 6.9.1).
    private static let streamBytesMax = Int(Int32.max)
    /// What a server may put around a payload.
    private static let wrappingBytesMax = 1024
    /// For what the process has open besides: standard streams, epoll, libraries.
    private static let descriptorsBesides = 64

    /// Refuses what cannot work, and raises the process's limit of descriptors to what it needs.
    package func prepare() throws(LoadFault) {
        guard subscribers > 0, channels > 0, messages >= 0, warmUp >= 0, streams > 0, threads > 0, publishConnections > 0, rate > 0 else {
            throw LoadFault("subscribers, channels, rate, streams, threads and publishers have to be above 0")
        }
        guard subscribers >= channels else { throw LoadFault("\(channels) channels need at least as many subscribers") }
        guard pauseSeconds >= 0, pauseSeconds < 1 else { throw LoadFault("a pause is shorter than a second") }
        guard !resumes || [.webSocket, .eventStream].contains(transport) else {
            throw LoadFault("resuming is measured over websocket and sse")
        }
        guard !resumes || warmUp > 0 && messages > 0 else {
            throw LoadFault("to resume, subscribers need a message before they are cut (--warm-up) and one after (--messages)")
        }
        guard batch > 0, messages % batch == 0, warmUp % batch == 0 else {
            throw LoadFault("\(messages) messages and \(warmUp) to warm up have to be whole batches of \(batch)")
        }
        guard payloadBytes >= PayloadMaker.payloadBytesMin else {
            throw LoadFault("a payload has at least \(PayloadMaker.payloadBytesMin) bytes: it carries its number and when it was due")
        }
        guard warmUp + messages + cutMessages <= Int(Int32.max) else { throw LoadFault("too many messages") }
        guard pollSeconds > 0, idleSeconds >= 0, cutMessages >= 0 else { throw LoadFault("a time or a number is below 0") }
        guard cutMessages % channels == 0 else { throw LoadFault("each channel gets as many messages of the cut as the others") }
        guard cutMessages % batch == 0 else { throw LoadFault("the messages of the cut have to be whole batches of \(batch)") }
        guard cutMessages == 0 || !resumes && !onlyListens else {
            throw LoadFault("the cut at the end goes neither with resuming nor with listening alone")
        }
        guard threads <= connections else { throw LoadFault("\(threads) threads for \(connections) connections") }
        let streamBytes = numbers.count / channels * (payloadBytes + Self.wrappingBytesMax)
        guard transport != .eventStreamHTTP2 && transport != .webSocketHTTP2 || streamBytes < Self.streamBytesMax else {
            throw LoadFault("one HTTP/2 stream cannot take so many bytes")
        }
        try raiseDescriptorLimit()
    }

    private func raiseDescriptorLimit() throws(LoadFault) {
        let needed = rlim_t(connections + publishConnections + Self.descriptorsBesides)
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        guard limit.rlim_cur < needed else { return }
        guard limit.rlim_max >= needed else {
            throw LoadFault(
                """
                \(connections) connections need \(needed) descriptors, and this process may have \(limit.rlim_max). \
                Take fewer subscribers, more --streams a connection (sse-h2), or several processes.
                """
            )
        }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}

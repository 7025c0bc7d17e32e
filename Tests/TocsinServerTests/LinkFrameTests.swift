import Identity
import JSONCodec
import Limits
import NotificationCore
import NotificationStore
import TestSupport
import Testing
import Transports
import Webhooks

@testable import TocsinServer

/// What processes say to each other, in bytes.
@Suite struct LinkFrameTests {
    private static let epoch = LogEpoch(random: 0xabc)
    private static let receipt = AppendReceipt(channel: ChannelName("scores.a")!, sequence: 7, offset: 1 << 40)

    private static func notification(_ offset: UInt64, _ sequence: UInt64, _ change: (inout Publication) -> Void = { _ in }) -> Notification
    {
        var publication = Publication(channel: ChannelName("scores.a")!, data: Array(#"{"x":[1,"é"]}"#.utf8))
        change(&publication)
        let entry = LogEntry(
            channel: 0, offset: offset, sequence: sequence, timeMilliseconds: 1_700_000_000_123, stateBytes: 13, publication: publication
        )
        return Notification(entry, epoch: epoch)
    }

    private static let notifications = [
        notification(5, 1),
        notification(9, 2) {
            ($0.event, $0.key, $0.replaces) = (FieldText("goal"), FieldText("k"), FieldText("r"))
            ($0.ttlSeconds, $0.change, $0.priority) = (60, .merge, .critical)
        },
        notification(12, 3) {
            $0.staleSinceMilliseconds = 1_600_000_000_000
            $0.isBase64 = true
        },
    ]

    private static var frames: [LinkFrame] {
        var channel = LogPreload.Channel(name: ChannelName("scores.a")!, lastSequence: 3, lastOffset: 12)
        channel.document = JSONDocument(Array(#"{"a":1}"#.utf8)[...])
        channel.lastChangeOffset = 9
        channel.lastTimeMilliseconds = -5
        var latest = LogPreload.Channel(name: ChannelName("dashboards.b")!, lastSequence: 3, lastOffset: 12)
        latest.latest = [notification(12, 3) { $0.channel = ChannelName("dashboards.b")! }]
        var publication = Publication(
            channel: ChannelName("a.b")!, data: Array("1".utf8), event: FieldText("e"), priority: .low, ttlSeconds: 9)
        publication.kind = .acknowledgement
        publication.staleSinceMilliseconds = -1
        publication.trace = TraceParent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        var servers = AppendRequest([Publication(channel: .revocations, data: Array("{}".utf8))])
        servers.isOwn = true
        servers.publisher = "user é"
        var statistics = StoreStatistics()
        (statistics.commits, statistics.walBytes, statistics.cachedBytes) = (1, 1 << 40, 3)
        (statistics.idempotencyKeys, statistics.idempotencyBytes, statistics.idempotencyForgotten) = (1, 2, 1 << 40)
        let refusals: [AppendRefusal] = [
            .idempotencyKeyReused, .refusedBefore, .tooManyChannels, .reservedChannel, .change(.noState), .change(.stateIsNotAnObject),
            .change(.patchIsNotAnObject), .tooManyKeys(max: 3), .stateTooLarge(bytes: 5, max: 4), .storeFailed, .shuttingDown,
        ]
        let faults: [StoreFault?] = [
            nil, .full(path: "p"), .readOnly(path: "p"), .corrupt("c"), .newerVersion(path: "p", found: 3, known: 2), .notALog(path: "p"),
            .busy(path: "p"), .io("é"),
        ]
        return [
            .welcome(
                LinkFrame.Welcome(
                    process: 3, port: 8080, tlsPort: nil, path: "/a b/log", folder: "/a b", epoch: epoch,
                    pastEpochs: [LogEpoch(random: 1): 7], head: 12, channelCount: 2)),
            .channels([channel, latest]), .channels([]), .batch(notifications, takenNanoseconds: -3),
            .appended([
                LinkFrame.Appended(number: 1, outcomes: [.appended(receipt), .repeated(receipt)] + refusals.map { .refused($0) }),
                LinkFrame.Appended(number: .max, outcomes: []),
            ]),
            .acknowledged(number: 4, .noChannel), .ticketKeys([[1, 2], []]), .reload, .drain, .ready, .failed("no\nfile"),
            .append(
                number: 8,
                AppendRequest(
                    [publication, Publication(channel: ChannelName("x")!, data: [], change: .merge)],
                    idempotencyKey: FieldText("key"), fingerprint: .max)),
            .append(number: 10, servers),
            .acknowledge(
                number: 9,
                LinkFrame.Acknowledge(
                    user: FieldText("u")!, channel: ChannelName("alerts.a")!, ranges: [1...5, 7...UInt64.max], isDismissed: true)),
            .refusals([
                RefusalBook.Report(
                    limit: "connections", address: nil, count: 1, firstMilliseconds: -1, lastMilliseconds: 1_700_000_000_000),
                RefusalBook.Report(
                    limit: "é", address: NetworkAddress(high: .max, low: 1), count: 3, firstMilliseconds: 5, lastMilliseconds: 6),
            ]), .refusals([]), .status(LinkFrame.Status(webhooks: "a 1\nb 2\n")),
            .question(process: 1, number: 0, [0, 255]), .reply(process: 2, number: 3, nil), .reply(process: 2, number: 3, []),
            .presence([1, 255]),
        ] + faults.map { .status(LinkFrame.Status(fault: $0, statistics: statistics, processes: 2, restarts: 1)) }
    }

    /// What came out of bytes, encoded again: frames hold references and are not compared themselves.
    private static func read(_ pieces: [[UInt8]]) -> [[UInt8]] {
        var reader = LinkFrameReader()
        var out: [[UInt8]] = []
        for piece in pieces {
            reader.feed(piece)
            do throws(LinkDamage) {
                while let frame = try reader.next(name: { $0 == 0 ? ChannelName("scores.a") : nil }) { out.append(frame.bytes) }
            } catch {
                return out + [[0]]
            }
        }
        return out
    }

    @Test("every frame comes out as it went in, wherever the bytes are cut")
    func roundTrip() throws {
        let frames = Self.frames.map(\.bytes)
        #expect(Set(frames.map { $0[4] }).count == 17)
        let events = try SplitVerifier.verify(Array(frames.joined())) { Self.read($0) }
        #expect(events == frames)
    }

    @Test("a notification in another process is the same")
    func notifications() throws {
        var reader = LinkFrameReader()
        reader.feed(LinkFrame.batch(Self.notifications, takenNanoseconds: 7).bytes)
        guard case .batch(let read, 7)? = try reader.next(name: { _ in nil }) else { return #expect(Bool(false), "no batch") }
        for (one, other) in zip(Self.notifications, read) {
            #expect(one.object == other.object && one.position == other.position && one.data == other.data)
            #expect(one.channel == other.channel && one.offset == other.offset && one.sequence == other.sequence)
            #expect(one.expiresMilliseconds == other.expiresMilliseconds && one.timeMilliseconds == other.timeMilliseconds)
            #expect(one.event == other.event && one.key == other.key && one.stateBytes == other.stateBytes)
            #expect(one.isStale == other.isStale && one.isChange == other.isChange)
        }
        #expect(read.count == 3)
    }

    @Test("a notification of a channel that nobody has named is refused")
    func unknownChannel() {
        var reader = LinkFrameReader()
        reader.feed(LinkFrame.batch([Self.notifications[1]], takenNanoseconds: 0).bytes)
        #expect(throws: LinkDamage.self) { try reader.next(name: { _ in nil }) }
    }

    @Test("bytes that are changed or made up are refused or are another frame, and never trap")
    func garbage() {
        var random = SeededRandom(seed: 8)
        for frame in Self.frames.map(\.bytes) {
            for _ in 0..<200 {
                var bytes = frame
                for _ in 0..<Int.random(in: 1...3, using: &random) where bytes.count > 4 {
                    bytes[Int.random(in: 4..<bytes.count, using: &random)] = .random(in: 0...255, using: &random)
                }
                _ = Self.read([bytes])
            }
            // Cut short, with a length that says so.
            for length in 0..<(frame.count - 4) {
                let bytes = [UInt8(length & 0xff), UInt8(length >> 8), 0, 0] + frame[4..<4 + length]
                #expect(Self.read([bytes]) == [[0]], "\(frame) cut at \(length)")
            }
        }
        for _ in 0..<2000 {
            let count = Int.random(in: 0..<60, using: &random)
            _ = Self.read([(0..<count).map { _ in .random(in: 0...255, using: &random) }])
        }
        #expect(Self.read([[255, 255, 255, 255, 1]]) == [[0]])
        #expect(Self.read([[0, 0, 0, 0]]) == [[0]])
    }

    private static var anna: Identity {
        var grants = Grants()
        grants.subscribe = [ChannelPattern("a.*")!, ChannelPattern(">")!]
        grants.publish = []
        var anna = Identity(.user("anna"), expiresMilliseconds: 1 << 40, grants: grants)
        (anna.issuedMilliseconds, anna.tokenID) = (1 << 39, "é")
        return anna
    }

    private static var backend: Identity {
        var backend = Identity(.key("backend"))
        backend.isAdministrator = true
        return backend
    }

    private static var messages: [NeighbourMessage] {
        let id = SessionID(random: (1, 2), loop: 5, place: 3)
        let place = ParkedPollPlace(loop: 5, connection: .max, stream: -1)
        let session = PollSession(user: FieldText("u"), principal: nil, loop: 5, connection: .max, stream: -1, expiresTick: 0)
        var ofAnna = session
        ofAnna.principal = .user("anna")
        let wish = PollPresence(
            channels: [ChannelName("chat.a")!, ChannelName("chat.b")!], user: "anna", principal: .user("anna"), isWatching: true,
            place: place)
        return [
            .commands(id, anna, body: Array("[]".utf8)), .commands(id, backend, body: []), .commands(id, nil, body: [1]),
            .park(id, session, seconds: 85), .park(id, ofAnna, seconds: 0), .endPoll(id, place), .metrics,
            .ticket(TicketID(random: (1 << 20, 2), process: 63)),
            .drain(overMilliseconds: 60_000), .drain(overMilliseconds: 0), .drain(overMilliseconds: nil),
            .presence(.poll(id, wish, seconds: 85)), .presence(.answer(id, place, [[1], []])),
        ]
    }

    private static let replies = [CommandReply(answer: [1, 2], microseconds: 7), CommandReply(answer: nil, microseconds: 0)]

    /// Two servers, one of which takes the other over, have to mean the same by a form's number.
    @Test("a form of the link that is another has another number")
    func form() {
        let all = Self.frames.map(\.bytes) + Self.messages.map(\.bytes) + Self.replies.map(\.bytes)
        // FNV-1a.
        let fingerprint = all.joined().reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        #expect(
            LinkFrame.formNumber == 2 && fingerprint == 0xc40f_51c4_7e2b_b840,
            "the form has changed, and its fingerprint is \(String(fingerprint, radix: 16)): raise LinkFrame.formNumber, and note both here"
        )
    }

    @Test("what workers say to each other comes out as it went in, and damaged it is refused")
    func neighbours() throws {
        let (anna, backend, messages) = (Self.anna, Self.backend, Self.messages)
        for identity in [anna, backend] { #expect(try Identity(identity.bytes) == identity) }
        for bytes in messages.map(\.bytes) {
            #expect(try NeighbourMessage(bytes).bytes == bytes)
            for cut in 0..<bytes.count { #expect(throws: LinkDamage.self) { try NeighbourMessage(Array(bytes[..<cut])) } }
            #expect(throws: LinkDamage.self) { try NeighbourMessage(bytes + [0]) }
        }
        for reply in Self.replies { #expect(try CommandReply(reply.bytes) == reply) }
    }

    @Test("figures of several processes are added up, or are the largest where each has the whole")
    func metrics() {
        func text(_ connections: Int, _ head: Int, _ sum: String) -> String {
            """
            # HELP tocsin_connections Open connections.
            # TYPE tocsin_connections gauge
            tocsin_connections \(connections)
            # HELP tocsin_log_head Number.
            # TYPE tocsin_log_head gauge
            tocsin_log_head \(head)
            tocsin_websocket_round_trip_seconds_sum \(sum)

            """
        }
        let merged = MetricsMerge.merge([(0, text(3, 9, "0.25")), (1, nil), (2, text(4, 8, "1.5"))], restarts: 2)
        let lines = merged.split(separator: "\n")
        for line in [
            "tocsin_connections 7", "tocsin_log_head 9", "tocsin_websocket_round_trip_seconds_sum 1.75",
            "tocsin_process_up{process=\"1\"} 0",
            "tocsin_process_connections{process=\"2\"} 4", "tocsin_process_restarts_total 2",
        ] { #expect(lines.contains(Substring(line)), "\(line) in \(merged)") }
        #expect(Set(lines).count == lines.count)
    }
}

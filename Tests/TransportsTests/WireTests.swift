import CBORCodec
import EventStreamCodec
import JSONCodec
import TestSupport
import Testing
import WebSocketCodec

@testable import NotificationCore
@testable import Transports

private let epoch = LogEpoch(random: 0xabc)

private func notifications(_ data: [String], channel: String = "a.b", event: String? = nil) -> [NotificationCore.Notification] {
    var writer = LogWriter(LogContents(epoch: epoch), limits: LogLimits())
    let publications = data.map { Publication(channel: ChannelName(channel)!, data: Array($0.utf8), event: event.map { FieldText($0)! }) }
    _ = writer.append(AppendRequest(publications), nowMilliseconds: 1_795_255_200_123)
    return writer.takeCommit().entries.map { Notification($0, epoch: epoch) }
}

@Suite struct WireTests {
    @Test("a notification is one JSON object, with what is default left out")
    func object() throws {
        let plain = notifications([#"{"x":1.0}"#])[0]
        #expect(
            String(decoding: plain.object, as: UTF8.self)
                == #"{"type":"notification","channel":"a.b","sequence":1,"position":"000000000abc.1","#
                + #""time":"2026-11-21T10:00:00.123Z","data":{"x":1.0}}"#
        )
        #expect(String(decoding: plain.object[plain.data], as: UTF8.self) == #"{"x":1.0}"#)
        let full = Notification(
            LogEntry(
                channel: 0, offset: 7, sequence: 3, timeMilliseconds: 0,
                publication: Publication(
                    channel: ChannelName("a")!, data: Array("\"QQ==\"".utf8), isBase64: true, event: FieldText("é\"x"),
                    key: FieldText("k"), priority: .critical, ttlSeconds: 60, replaces: FieldText("r"), change: .merge
                )
            ), epoch: epoch
        )
        var marked: [UInt8] = []
        let window = Position.Window(base: 1, through: 9, channel: 2, offset: 7)
        full.append(position: Position(epoch: epoch, .within(window)), skipped: 4, to: &marked)
        let markedSlice = try JSONSlice.checked(marked[...])
        #expect(markedSlice["position"]?.string() == "000000000abc.1-9-2-7")
        #expect(markedSlice["skipped"]?.integer() == 4)
        #expect(markedSlice["data"]?.string() == "QQ==")
        let slice = try JSONSlice.checked(full.object[...])
        #expect(
            slice.memberList.map(\.name) == [
                "type", "channel", "sequence", "position", "time", "event", "key", "priority", "ttl", "replaces", "change", "encoding",
                "data",
            ])
        #expect(slice["event"]?.string() == "é\"x")
    }

    private let compression = WireCompression()

    /// What a client of that shape reads.
    private func read(_ bytes: [UInt8], _ shape: WireShape) throws -> [String] {
        switch shape {
        case _ where shape.isWebSocket:
            var decoder = WebSocketDecoder(
                role: .client, limits: WebSocketLimits(messageBytesMax: 1 << 20), inflater: shape.isDeflated ? MessageInflater() : nil
            )
            var texts: [String] = []
            var rest = bytes
            try rest.withUnsafeMutableBytes { buffer in
                var consumed = 0
                while true {
                    var taken = 0
                    let event = try decoder.next(UnsafeMutableRawBufferPointer(rebasing: buffer[consumed...]), consumed: &taken)
                    consumed += taken
                    guard let event else { break }
                    if case .text(let text) = event { texts.append(String(decoding: text, as: UTF8.self)) }
                    if case .binary(let bytes) = event {
                        let limits = CBORLimits(outputBytesMax: 1 << 20)
                        texts.append(
                            String(decoding: try bytes.withUnsafeBytes { try CBORDecoder.json($0, limits: limits) }, as: UTF8.self))
                    }
                }
            }
            return texts
        default:
            var decoder = EventStreamDecoder(bytesMax: 1 << 20)
            let plain = shape.isChunked ? dechunk(bytes) : bytes
            return try plain.withUnsafeBytes { try decoder.feed($0) }.map { "\($0.lastEventID)|\($0.type)|\($0.data)" }
        }
    }

    private func dechunk(_ bytes: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            let line = rest.prefix { $0 != 13 }
            let size = Int(String(decoding: line, as: UTF8.self), radix: 16)!
            #expect(line.first != UInt8(ascii: "0"))
            rest = rest.dropFirst(line.count + 2)
            out += rest.prefix(size)
            rest = rest.dropFirst(size)
            #expect(rest.prefix(2).elementsEqual([13, 10]))
            rest = rest.dropFirst(2)
        }
        return out
    }

    @Test("every shape carries the same object", arguments: WireShape.allCases)
    func shapes(_ shape: WireShape) throws {
        let batch = notifications([#"{"x":1}"#, "\"" + String(repeating: "y", count: 70_000) + "\"", "null"], event: "goal")
        var out: [UInt8] = []
        for notification in batch { shape.append(notification, epoch: epoch, compression, to: &out) }
        let read = try read(out, shape)
        for (index, notification) in batch.enumerated() {
            let object = String(decoding: notification.object, as: UTF8.self)
            let data = String(decoding: notification.object[notification.data], as: UTF8.self)
            switch shape {
            case _ where shape.isWebSocket: #expect(read[index] == object)
            case .eventStream, .eventStreamChunked: #expect(read[index] == "000000000abc.\(index + 1)|message|\(object)")
            default: #expect(read[index] == "000000000abc.\(index + 1)|goal|\(data)")
            }
        }
        #expect(read.count == 3)
    }

    @Test("a batch is framed once: runs of it are slices of the same bytes as each message by itself", arguments: WireShape.allCases)
    func framed(_ shape: WireShape) {
        let batch = notifications(["1", "22", "333", "4444", "55555"])
        var framed = FramedBatch(epoch: epoch, compression: WireCompression())
        for indices in [[0], [4], [0, 1, 2, 3, 4], [1, 2], [0, 2, 4], [0, 1, 3, 4]] as [[UInt32]] {
            framed.begin(batch)
            var expected: [UInt8] = []
            for index in indices { shape.append(batch[Int(index)], epoch: epoch, compression, to: &expected) }
            var actual: [UInt8] = []
            var runs = 0
            indices.withUnsafeBufferPointer { indices in
                framed.withRuns(indices, shape) { bytes, range in
                    runs += 1
                    actual += bytes[range]
                }
            }
            #expect(actual == expected)
            #expect(runs == zip(indices, indices.dropFirst()).count { $1 != $0 + 1 } + 1)
        }
    }

    @Test("a long-poll answer holds gaps and messages, and the position to go on from")
    func longPoll() throws {
        let batch = notifications(["1", "2"])
        let gap = Gap(channel: ChannelName("a.b"), from: 1, to: 9, reason: .retention, position: Position(epoch: epoch, offset: 5))
        let position = Position(epoch: epoch, offset: 2)
        let body = LongPollAnswer.body([.gap(gap)] + batch.map { .notification($0) }, position: position)
        let value = try JSONSlice.checked(body[...])
        #expect(value["position"]?.string() == "000000000abc.2")
        #expect(value["messages"]!.elementList.map { $0["type"]!.string()! } == ["gap", "notification", "notification"])
        #expect(value["messages"]!.elementList[0]["to"]?.integer() == 9)
        let empty = LongPollAnswer.body([], position: position)
        #expect(String(decoding: empty, as: UTF8.self) == "{\"position\":\"000000000abc.2\",\"messages\":[]}\n")
    }

    @Test("batch items are read, or refused one by one; a body that is no batch is refused whole")
    func batchItems() throws {
        let items =
            #"[{"channel":"a","data":{"x" : 1},"event":"e","ttl":5},{"channel":"..","data":1},"#
            + #"{"channel":"a"},{"channel":"a","data":1,"x":"y"}]"#
        let batch = try PublicationBatch(Array(items.utf8), isNDJSON: false)
        #expect(batch.publications.map(\.data) == [Array(#"{"x":1}"#.utf8)])
        #expect(batch.publications.map(\.ttlSeconds) == [5])
        #expect(batch.problems.map(\.index) == [1, 2, 3])
        let lines = "{\"channel\":\"a\",\"data\":1}\r\n\n{\"channel\":\"b\",\"data\":2}\n"
        #expect(try PublicationBatch(Array(lines.utf8), isNDJSON: true).publications.map(\.channel.string) == ["a", "b"])
        for (body, isNDJSON) in [("{}", false), ("[", false), ("{}\n{", true)] {
            #expect(throws: Problem.self) { try PublicationBatch(Array(body.utf8), isNDJSON: isNDJSON) }
        }
        let many = "[" + Array(repeating: "1", count: 1001).joined(separator: ",") + "]"
        #expect(throws: Problem.self) { try PublicationBatch(Array(many.utf8), isNDJSON: false) }
    }

    @Test("publications of a batch that are refused later stand where their items stood")
    func refusedItems() throws {
        let items = (0..<8).map { $0 == 3 ? #"{"channel":".."}"# : #"{"channel":"c\#($0)","data":\#($0)}"# }.joined(separator: "\n")
        var batch = try PublicationBatch(Array(items.utf8), isNDJSON: true)
        #expect(batch.count == 8 && batch.problems.map(\.index) == [3])
        batch.refuse { place, publication in place == 0 || publication.channel.string == "c5" ? .badParameter("x", "y") : nil }
        #expect(batch.count == 8 && batch.problems.map(\.index) == [0, 3, 5])
        #expect(batch.publications.map(\.channel.string) == ["c1", "c2", "c4", "c6", "c7"])
        batch.refuse { place, _ in place == 4 ? .badParameter("x", "y") : nil }
        #expect(batch.problems.map(\.index) == [0, 3, 5, 7])
    }
}

@Suite struct WebSocketAdapterTests {
    private func run(_ frames: [UInt8], hub: Hub, _ adapter: inout WebSocketAdapter) -> (texts: [String], actions: Int, close: UInt16?) {
        var out: [UInt8] = []
        var input = frames
        var controlBudget = 1000
        let actions = input.withUnsafeMutableBytes {
            adapter.receive(
                $0, hub: hub, knownHead: 0, limits: SubscribeLimits(), controlBudget: &controlBudget, permit: { _ in true }, out: &out)
        }
        var decoder = WebSocketDecoder(role: .client, limits: WebSocketLimits(messageBytesMax: 1 << 20))
        var texts: [String] = []
        var close: UInt16?
        out.withUnsafeMutableBytes { buffer in
            var consumed = 0
            while true {
                var taken = 0
                guard let event = try? decoder.next(UnsafeMutableRawBufferPointer(rebasing: buffer[consumed...]), consumed: &taken) else {
                    break
                }
                consumed += taken
                switch event {
                case .text(let text): texts.append(String(decoding: text, as: UTF8.self))
                case .close(let code, _): close = code?.rawValue
                default: break
                }
            }
        }
        return (texts, actions.count, close)
    }

    private func frame(_ text: String, _ opcode: WebSocketOpcode = .text) -> [UInt8] {
        var out: [UInt8] = []
        WebSocketEncoder.maskedFrame(opcode, payload: Array(text.utf8), maskingKey: 0x0102_0304, into: &out)
        return out
    }

    @Test(
        "a command is answered with its id, or refused with a code",
        arguments: [
            (#"{"id":1,"type":"ping"}"#, #"{"type":"reply","id":1}"#),
            (#"{"id":"x\"y","type":"ping"}"#, #"{"type":"reply","id":"x\"y"}"#),
            (#"{"type":"ping"}"#, #"{"type":"reply"}"#),
            (#"{"id":2,"type":"subscribe","channel":"a"}"#, #"{"type":"reply","id":2,"position":"000000000abc.0"}"#),
            (#"{"id":3,"type":"nope"}"#, "unknown_command"), (#"{"id":3}"#, "bad_command"), ("[]", "bad_command"),
            (#"{"id":1.5,"type":"ping"}"#, "bad_command"), (#"{"id":3,"type":"subscribe"}"#, "bad_channel"),
            (#"{"id":3,"type":"subscribe","channel":"a..b"}"#, "bad_channel"),
            (#"{"id":3,"type":"subscribe","channel":"a","after":"zz"}"#, "bad_position"),
            (#"{"id":3,"type":"unsubscribe","channel":"a"}"#, "not_subscribed"),
            (#"{"id":3,"type":"subscribe","channels":["s.>"]}"#, "overlapping_subscription"),
            (#"{"id":3,"type":"publish","channel":"a"}"#, "bad_data"),
            (#"{"id":4,"type":"subscribe","channel":"d","rate":"2/s"}"#, #"{"type":"reply","id":4,"position":"000000000abc.0"}"#),
            (#"{"id":4,"type":"subscribe","channel":"d","rate":"2"}"#, "bad_rate"),
            (#"{"id":4,"type":"subscribe","channel":"_acks.61"}"#, "bad_channel"),
            (#"{"id":4,"type":"rate","rate":"2/s"}"#, #"{"type":"reply","id":4}"#),
            (#"{"id":4,"type":"rate","channel":"q","rate":"2/s"}"#, "not_subscribed"),
            (#"{"id":4,"type":"ack","channel":"alerts.a","through":5}"#, "no_user"),
            (#"{"id":4,"type":"ack","channel":"alerts.a"}"#, "bad_ack"),
            (#"{"id":5,"type":"path","transport":"sse-post","verdict":"buffered","ms":200}"#, #"{"type":"reply","id":5}"#),
            (#"{"id":5,"type":"path","transport":"pigeon","verdict":"clear"}"#, "bad_command"),
        ])
    func commands(_ command: String, _ answer: String) {
        let hub = Hub(LogPreload(epoch: epoch), limits: LogLimits())
        var adapter = WebSocketAdapter(
            subscribers: [hub.subscribe([ChannelPattern("s.x")!], from: .latest, knownHead: 0)], limits: WebSocketLimits())
        let result = run(frame(command), hub: hub, &adapter)
        #expect(result.texts.count == 1)
        #expect(result.texts[0] == answer || result.texts[0].contains("\"code\":\"\(answer)\""), "\(result.texts)")
        #expect(result.close == nil)
    }

    @Test(
        "what breaks the protocol is closed with its code",
        arguments: [
            ("{", WebSocketOpcode.text, UInt16(1007)), ("x", .binary, 1003), ("\u{3}\u{e8}", .continuation, 1002),
        ])
    func closes(_ payload: String, _ opcode: WebSocketOpcode, _ code: UInt16) {
        let hub = Hub(LogPreload(epoch: epoch), limits: LogLimits())
        var adapter = WebSocketAdapter(subscribers: [hub.subscribe([], from: .latest, knownHead: 0)], limits: WebSocketLimits())
        let result = run(frame(payload, opcode), hub: hub, &adapter)
        #expect(result.close == code)
        #expect(result.actions == 1)
        #expect(run(frame(#"{"type":"ping"}"#), hub: hub, &adapter).texts.isEmpty)
    }
}

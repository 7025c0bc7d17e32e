import CBORCodec
import EventStreamCodec
import HTTP1Codec
import HTTPTypes
import JSONCodec
import NotificationCore
import Transports
import WebSocketCodec

/// What clients and publishers say in JSON.
///
/// The first byte chooses what the rest is: a command over a WebSocket (0), publications as lines (1) or as an array (2), or what was
/// read (3).
package func fuzzCommands(_ bytes: UnsafeRawBufferPointer) {
    guard let options = bytes.first else { return }
    let rest = Array(bytes.dropFirst())
    switch options & 3 {
    case 0: fuzzCommand(rest)
    case 1, 2: fuzzBatch(rest, isNDJSON: options & 3 == 1)
    default:
        do throws(Problem) {
            check(try Acknowledgement(try JSONSlice.checked(rest[...])))
        } catch { check(error) }
    }
}

private func isJSON(_ text: [UInt8]) -> Bool { (try? JSONSlice.minified(text[...])) == text }

private func fuzzCommand(_ text: [UInt8]) {
    let source = try? JSONSlice.checked(text[...])
    do throws(WebSocketCommand.Refusal) {
        guard let command = try WebSocketCommand.read(text) else {
            return require(source == nil, "JSON is taken for something else")
        }
        guard let source else { preconditionFailure("a command that is not JSON") }
        checkReply(WebSocketReply.done(command.id, members: [("channel", "a")], sequence: 1, unread: 0), source)
        switch command.action {
        case .subscribe(let patterns, let start, let rate):
            require(!patterns.isEmpty, "a subscription to nothing")
            check(patterns, start, rate)
        case .unsubscribe(let patterns):
            require(!patterns.isEmpty, "a subscription to nothing")
            check(patterns, nil, nil)
        case .publish(let publication): check(publication)
        case .acknowledge(let acknowledgement): check(acknowledgement)
        case .rate(let rate, let pattern): check(pattern.map { [$0] } ?? [], nil, rate)
        case .presence(let question):
            require((1...PresenceQuestion.limitMax).contains(question.limit), "a page out of its range")
        case .ping, .path, .refresh: break
        }
    } catch {
        guard let source else { preconditionFailure("what is not JSON is answered") }
        require(!error.code.isEmpty && !error.message.isEmpty, "a refusal without a word")
        let reply = WebSocketReply.refused(error.id, code: error.code, message: error.message)
        if error.id == nil {
            require(isJSON(reply), "a reply that is not JSON")
        } else {
            checkReply(reply, source)
        }
    }
}

/// A reply names the command as the command named itself.
private func checkReply(_ reply: [UInt8], _ source: JSONSlice) {
    require(isJSON(reply), "a reply that is not JSON")
    let id = source["id"].flatMap { $0.kind == .null ? nil : Array($0.bytes) }
    requireSame(JSONSlice(reply[...])["id"].map { Array($0.bytes) }, id, "a reply to another command")
}

private func check(_ patterns: [ChannelPattern], _ start: StartPoint?, _ rate: Rate?) {
    require(patterns.allSatisfy { !$0.isReserved }, "a subscription to the server's own channels")
    if let rate { checkRate(rate) }
    var command = #"{"type":"subscribe","channels":["#.bytes
    for (index, pattern) in (patterns.isEmpty ? [ChannelPattern("a")!] : patterns).enumerated() {
        if index > 0 { command.append(UInt8(ascii: ",")) }
        JSONText.appendString(pattern.string, into: &command)
    }
    command.append(UInt8(ascii: "]"))
    if let start {
        command += #","after":"#.utf8
        JSONText.appendString(written(start), into: &command)
    }
    command.append(UInt8(ascii: "}"))
    guard case .subscribe(let patternsAgain, let startAgain, nil)? = (try? WebSocketCommand.read(command))?.action else {
        preconditionFailure("a written command is refused")
    }
    require(patterns.isEmpty || patternsAgain == patterns, "other patterns when written again")
    requireSame(startAgain, start, "another start when written again")
}

func written(_ start: StartPoint) -> String {
    switch start {
    case .latest: "latest"
    case .earliest: "earliest"
    case .after(let position): position.description
    }
}

func checkRate(_ rate: Rate) {
    // From fifty a second to one an hour.
    require((20...3_600_000).contains(rate.intervalMilliseconds), "a rate out of its range")
    require(rate.capped(rate) == rate && rate.capped(nil) == rate, "a rate is not the slower of itself")
}

private func check(_ acknowledgement: Acknowledgement) {
    require(!acknowledgement.channel.isReserved, "an acknowledgement in the server's own channels")
    require(acknowledgement.ranges.count <= Acknowledgement.sequencesMax + 1, "too many sequences")
    require(acknowledgement.ranges.allSatisfy { $0.lowerBound >= 1 }, "a sequence before the first")
    var set = SequenceSet(acknowledgement.ranges)
    var last: UInt64 = 0
    for range in set.ranges {
        require(last == 0 || range.lowerBound > last + 1, "ranges that touch")
        last = range.upperBound
    }
    require(acknowledgement.ranges.allSatisfy { set.contains($0.lowerBound) && set.contains($0.upperBound) }, "a sequence is lost")
    let before = set
    for range in acknowledgement.ranges { set.insert(range) }
    requireSame(set, before, "sequences that are there change the set")
}

func check(_ problem: Problem) {
    require((400...505).contains(problem.status), "a problem without a status")
    let json = Array(problem.json.dropLast())
    require(isJSON(json) && JSONSlice(json[...])["detail"]?.string()?.bytes == problem.detail.bytes, "a problem that is not JSON")
    requireSame(problem.response.status.code, problem.status, "a problem with another status")
}

// MARK: - Publications

private func fuzzBatch(_ body: [UInt8], isNDJSON: Bool) {
    do throws(Problem) {
        let batch = try PublicationBatch(body, isNDJSON: isNDJSON)
        require(batch.count <= PublicationReader.itemsMax, "too many items")
        for publication in batch.publications { check(publication) }
        for (_, problem) in batch.problems { check(problem) }
    } catch { check(error) }
}

private func check(_ publication: Publication) {
    require(isJSON(publication.data), "a payload that is not JSON")
    guard let again = try? PublicationReader.item(try JSONSlice.checked(item(publication)[...])) else {
        preconditionFailure("a written item is refused")
    }
    requireSame(again, publication, "another publication when written again")
    checkNotification(publication)
}

/// The publication as an item of a batch.
private func item(_ publication: Publication) -> [UInt8] {
    var out = [UInt8(ascii: "{")]
    func member(_ name: String, _ text: String?) {
        guard let text else { return }
        JSONText.appendString(name, into: &out)
        out.append(UInt8(ascii: ":"))
        JSONText.appendString(text, into: &out)
        out.append(UInt8(ascii: ","))
    }
    member("channel", publication.channel.string)
    member("event", publication.event?.string)
    member("key", publication.key?.string)
    member("priority", publication.priority.rawValue)
    member("replaces", publication.replaces?.string)
    member("change", publication.change?.rawValue)
    if let ttl = publication.ttlSeconds { out += "\"ttl\":\(ttl),".utf8 }
    return out + "\"data\":".utf8 + publication.data + [UInt8(ascii: "}")]
}

/// What goes out to subscribers reads as what was published, on every transport.
private func checkNotification(_ publication: Publication) {
    var draw = Draw(publication.data)
    let epoch = LogEpoch(random: draw.next())
    let entry = LogEntry(
        channel: 0, offset: draw.next() | 1, sequence: draw.next() | 1, timeMilliseconds: Int64(draw.below(1 << 41)),
        publication: publication)
    let notification = Notification(entry, epoch: epoch)
    checkObject(notification.object, publication)
    requireSame(Array(notification.object[notification.data]), publication.data, "another payload in the object")
    let base = draw.next()
    let window = Position.Window(base: base / 2, through: base, channel: Int32(draw.below(1 << 31)), offset: base / 2)
    let position = Position(epoch: epoch, .within(window))
    var marked: [UInt8] = []
    notification.append(position: position, skipped: 7, to: &marked)
    checkObject(marked, publication)
    require(JSONSlice(marked[...])["skipped"]?.integer() == 7, "another count of skipped messages")
    let compression = WireCompression()
    for shape in WireShape.allCases {
        var wire: [UInt8] = []
        shape.append(notification, epoch: epoch, compression, to: &wire)
        if !shape.isWebSocket { shape.appendHeartbeat(paddingBytes: draw.below(20), to: &wire) }
        shape.append(.marked(notification, skipped: 7, position: position), epoch: epoch, compression, to: &wire)
        let objects = [notification.object, marked]
        if shape.isWebSocket {
            let expected = shape.isBinary ? objects.map(binary) : objects
            requireSame(messages(wire, shape.isDeflated ? compression.inflater : nil), expected, "another notification over a WebSocket")
        } else {
            checkStream(wire, shape, publication, objects, position)
        }
    }
}

private func checkObject(_ object: [UInt8], _ publication: Publication) {
    require(isJSON(object), "a notification that is not JSON")
    let value = JSONSlice(object[...])
    requireSame(value["data"].map { Array($0.bytes) }, publication.data, "another payload")
    require(value["channel"]?.string() == publication.channel.string, "another channel")
    require(value["event"]?.string()?.bytes == publication.event?.string.bytes, "another event")
    require(value["key"]?.string()?.bytes == publication.key?.string.bytes, "another key")
    require(value["replaces"]?.string()?.bytes == publication.replaces?.string.bytes, "another alert is replaced")
}

private func messages(_ wire: [UInt8], _ inflater: MessageInflater?) -> [[UInt8]] {
    var decoder = WebSocketDecoder(role: .client, limits: WebSocketLimits(messageBytesMax: 1 << 20), inflater: inflater)
    var found: [[UInt8]] = []
    Cut.drawn.forEachPiece(of: wire) { piece in
        var consumed = 0
        while let event = try? decoder.next(UnsafeMutableRawBufferPointer(rebasing: piece[consumed...]), consumed: &consumed) {
            switch event {
            case .text(let bytes), .binary(let bytes): found.append(bytes)
            default: preconditionFailure("a control frame among notifications")
            }
        }
        return true
    }
    return found
}

private func binary(_ object: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    object.withUnsafeBytes { CBOREncoder.transcode(json: $0, into: &out) }
    return out
}

private func checkStream(
    _ wire: [UInt8], _ shape: WireShape, _ publication: Publication, _ objects: [[UInt8]], _ position: Position
) {
    var decoder = EventStreamDecoder(bytesMax: .max)
    let stream = shape.isChunked ? unchunked(wire) : wire
    guard let events = try? stream.withUnsafeBytes({ try decoder.feed($0) }) else { preconditionFailure("a stream above no limit") }
    let isRaw = shape == .eventStreamRaw || shape == .eventStreamRawChunked
    require(events.map(\.data.bytes) == (isRaw ? [publication.data, publication.data] : objects), "another notification in a stream")
    let event = isRaw ? publication.event?.string ?? "message" : "message"
    require(events.allSatisfy { $0.type.bytes == event.bytes }, "another event in a stream")
    require(decoder.lastEventID == position.description && decoder.commentCount == 1, "another position in a stream")
}

private func unchunked(_ chunks: [UInt8]) -> [UInt8] {
    var parser = HTTP1ResponseParser(requestMethod: .get)
    var out: [UInt8] = []
    let wire = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".bytes + chunks + HTTP1ResponseEncoder.lastChunk
    wire.withUnsafeBytes { wire in
        var consumed = 0
        while true {
            let left = UnsafeRawBufferPointer(rebasing: wire[consumed...])
            guard let event = try? parser.next(left, consumed: &consumed) else { break }
            if case .body(let range) = event { out += left[range] }
        }
    }
    require(parser.isComplete, "chunks that are none")
    return out
}

import EventStreamCodec

/// The event stream of WHATWG HTML section 9.2, read and written.
///
/// The first byte chooses:
///
///     bits 0, 1  the most bytes of an event
///     bit 2      the rest is a stream, or values to write one of: fields of an event with a zero behind each
package func fuzzEventStream(_ bytes: UnsafeRawBufferPointer) {
    guard let options = bytes.first else { return }
    let rest = Array(bytes.dropFirst())
    guard options & 4 == 0 else { return checkWritten(rest) }
    let bytesMax = [1 << 20, 100, 8, 0][Int(options & 3)]
    let trace = Cut.same(rest, "stream events depend on the cut") { EventStreamTrace(rest, $0, bytesMax: bytesMax) }
    let plain = PlainEventStream(rest)
    if trace.fault == nil {
        requireSame(trace.events, plain.events, "stream events differ from a plain reading")
        requireSame(trace.lastEventID, plain.lastEventID, "another last event id")
        requireSame(trace.retryMilliseconds, plain.retryMilliseconds, "another retry")
        requireSame(trace.commentCount, plain.commentCount, "another count of comments")
    } else {
        require(plain.bytesMax > bytesMax, "an event below the limit is refused")
        require(plain.events.starts(with: trace.events), "events before the fault differ")
    }
    checkWrittenAgain(trace.events)
}

private struct PlainEvent: Equatable {
    var type: [UInt8]
    var data: [UInt8]
    var lastEventID: [UInt8]
}

private struct EventStreamTrace: Equatable {
    private(set) var events: [PlainEvent] = []
    private(set) var fault: EventStreamFault?
    private(set) var lastEventID: [UInt8] = []
    private(set) var retryMilliseconds: Int?
    private(set) var commentCount = 0

    init(_ stream: [UInt8], _ cut: Cut, bytesMax: Int) {
        var decoder = EventStreamDecoder(bytesMax: bytesMax)
        cut.forEachPiece(of: stream) { piece in
            var found: [EventStreamEvent] = []
            do throws(EventStreamFault) {
                try decoder.feed(UnsafeRawBufferPointer(piece), into: &found)
            } catch {
                fault = error
            }
            events += found.map { PlainEvent(type: $0.type.bytes, data: $0.data.bytes, lastEventID: $0.lastEventID.bytes) }
            return fault == nil
        }
        lastEventID = decoder.lastEventID.bytes
        retryMilliseconds = decoder.retryMilliseconds
        commentCount = decoder.commentCount
    }
}

/// The stream read as the standard says it: decoded as a whole, cut into lines, each looked at on its own.
private struct PlainEventStream {
    private(set) var events: [PlainEvent] = []
    private(set) var lastEventID: [UInt8] = []
    private(set) var retryMilliseconds: Int?
    private(set) var commentCount = 0
    /// The most that an event had in its data and the line being read.
    private(set) var bytesMax = 0

    init(_ stream: [UInt8]) {
        var raw = stream[...]
        if raw.starts(with: [0xef, 0xbb, 0xbf]) { raw = raw.dropFirst(3) }
        var data: [UInt8] = []
        var type: [UInt8] = []
        var id: [UInt8] = []
        var dataBytes = 0
        while !raw.isEmpty {
            let line = raw.prefix { $0 != 0x0a && $0 != 0x0d }
            let isComment = line.first == UInt8(ascii: ":")
            if !isComment { bytesMax = max(bytesMax, dataBytes + line.count) }
            guard line.endIndex < raw.endIndex else { return }
            let isPair = raw[line.endIndex...].starts(with: [0x0d, 0x0a])
            raw = raw[(line.endIndex + (isPair ? 2 : 1))...]
            guard !line.isEmpty else {
                lastEventID = id
                if !data.isEmpty {
                    let text = Self.text(data.dropLast())
                    events.append(PlainEvent(type: type.isEmpty ? "message".bytes : type, data: text, lastEventID: id))
                }
                (data, type, dataBytes) = ([], [], 0)
                continue
            }
            if isComment {
                commentCount += 1
                continue
            }
            let name = line.prefix { $0 != UInt8(ascii: ":") }
            var value = line[name.endIndex...].dropFirst()
            if value.first == UInt8(ascii: " ") { value = value.dropFirst() }
            switch String(decoding: name, as: UTF8.self) {
            case "data":
                data += value + [0x0a]
                dataBytes += value.count + 1
            case "event": type = Self.text(value)
            case "id" where !value.contains(0): id = Self.text(value)
            case "retry" where !value.isEmpty && value.allSatisfy({ (0x30...0x39).contains($0) }):
                let digits = value.drop { $0 == 0x30 }
                let number = digits.count > 12 ? Int.max : Int(String(decoding: digits, as: UTF8.self)) ?? 0
                retryMilliseconds = min(number, EventStreamDecoder.retryMillisecondsMax)
            default: break
            }
        }
    }

    private static func text(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        String(decoding: bytes, as: UTF8.self).bytes
    }
}

/// What was read is what the encoder would have sent.
private func checkWrittenAgain(_ events: [PlainEvent]) {
    var stream: [UInt8] = []
    var written: [PlainEvent] = []
    for event in events {
        // A type with NUL can come in, but not go out.
        guard let type = EventStreamField(String(decoding: event.type, as: UTF8.self)) else { continue }
        guard let id = EventStreamField(String(decoding: event.lastEventID, as: UTF8.self)) else { preconditionFailure("an id with NUL") }
        EventStreamEncoder.event(id: id, event: type, data: event.data, into: &stream)
        written.append(event)
    }
    let again = EventStreamTrace(stream, .whole, bytesMax: .max)
    require(again.events == written && again.fault == nil, "events differ when written again")
}

/// Values of all kinds, written and read again.
private func checkWritten(_ input: [UInt8]) {
    var stream: [UInt8] = []
    var expected: [PlainEvent] = []
    var lastID: [UInt8] = []
    var comments = 0
    var retry: Int?
    var parts = input.parts(0)[...]
    while parts.count >= 4 {
        let id = EventStreamField(String(decoding: parts.removeFirst(), as: UTF8.self))
        let event = EventStreamField(String(decoding: parts.removeFirst(), as: UTF8.self))
        let retryPart = parts.removeFirst()
        let data = parts.removeFirst()
        if !retryPart.isEmpty { retry = retryPart.reduce(0) { ($0 << 8 | Int($1)) & Int(Int32.max) } }
        if retryPart.count > 4 {
            EventStreamEncoder.comment(padding: retryPart.count, into: &stream)
            comments += 1
        }
        EventStreamEncoder.event(
            id: id, event: event, data: data, retryMilliseconds: retryPart.isEmpty ? nil : retry, into: &stream)
        if let id { lastID = id.value.bytes }
        let type = event.map { $0.value.isEmpty ? "message".bytes : $0.value.bytes } ?? "message".bytes
        expected.append(PlainEvent(type: type, data: withPlainLineEnds(data), lastEventID: lastID))
    }
    let trace = Cut.same(stream, "written events depend on the cut") { EventStreamTrace(stream, $0, bytesMax: .max) }
    require(trace.events == expected && trace.fault == nil, "written events read otherwise")
    requireSame(trace.commentCount, comments, "comments read otherwise")
    requireSame(trace.retryMilliseconds, retry, "a retry reads otherwise")
}

/// CR, LF and CRLF as LF, and what is not UTF-8 as U+FFFD.
private func withPlainLineEnds(_ data: [UInt8]) -> [UInt8] {
    var plain: [UInt8] = []
    var rest = data[...]
    while let byte = rest.popFirst() {
        if byte == 0x0d, rest.first == 0x0a { continue }
        plain.append(byte == 0x0d ? 0x0a : byte)
    }
    return String(decoding: plain, as: UTF8.self).bytes
}

/// Reads an event stream as a client does (WHATWG HTML sections 9.2.5 and 9.2.6).
///
/// Two layers. *Lines*: a byte order mark at the very start is skipped; a line ends at CR, LF or CRLF. A CR ends its line at once, even
/// at the end of a read, because the LF that may follow can be long in coming; it is then skipped when it comes. *Fields*: a line is
/// `name:value`, with one space after the colon taken away, and means
///
///     data     appended to the data buffer, with LF behind
///     event    the type of the event
///     id       the id to come, unless it holds NUL
///     retry    at once, if it is digits and nothing else
///     :...     a comment: counted, so that a client can see heartbeats, and not kept
///     (empty)  dispatch: the id counts from now on, even if there is no data; without any data line there is no event
///
/// Everything else is ignored. An event without its empty line is never given out, so a stream that breaks loses it on purpose: the
/// client comes back with the id before it.
///
/// Nothing is decoded before a line is whole; that gives the same text as decoding the stream, since CR, LF and the colon are never
/// part of a longer UTF-8 sequence. What is not UTF-8 becomes U+FFFD.
package struct EventStreamDecoder: Sendable {
    /// What the bytes to come have to be looked at for first.
    private enum Start: UInt8 {
        /// Nothing, one or two bytes of a byte order mark were read; they are in `line`.
        case stream
        /// The last line ended with CR: a LF belongs to it.
        case afterCR
        /// Inside a comment, whose text is not kept.
        case comment
        case none
    }

    /// The longest retry that is taken as it is: the longest timer of browsers, about 25 days. A greater one is cut to it.
    package static let retryMillisecondsMax = 2_147_483_647

    private static let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]

    private let bytesMax: Int
    private var line: [UInt8] = []
    private var data: [UInt8] = []
    private var type = ""
    private var idToCome = ""
    private var start = Start.stream
    private var fault: EventStreamFault?

    /// The last `id` that was dispatched: what to send as `Last-Event-ID` when connecting again. "" if there was none.
    package private(set) var lastEventID = ""
    /// The last `retry`, in milliseconds.
    package private(set) var retryMilliseconds: Int?
    /// How many comments have come, by which a client sees heartbeats. Wraps.
    package private(set) var commentCount = 0

    /// - Parameter bytesMax: the most bytes that an event may have in its data and the line being read; comments do not count.
    package init(bytesMax: Int) {
        precondition(bytesMax >= 0, "a limit below zero")
        self.bytesMax = bytesMax
    }

    /// Reads the next bytes of the stream, all of them.
    ///
    /// - Returns: the events they complete.
    /// - Throws: if an event is above the limit. Events before it come first: if there are some they are returned, and the next call
    ///   throws. After a fault every call throws.
    package mutating func feed(_ bytes: UnsafeRawBufferPointer) throws(EventStreamFault) -> [EventStreamEvent] {
        var events: [EventStreamEvent] = []
        do throws(EventStreamFault) {
            try feed(bytes, into: &events)
        } catch {
            if events.isEmpty { throw error }
        }
        return events
    }

    /// As the other form, but appends the events to `events`, and throws at once after those before the fault.
    package mutating func feed(_ bytes: UnsafeRawBufferPointer, into events: inout [EventStreamEvent]) throws(EventStreamFault) {
        if let fault { throw fault }
        do throws(EventStreamFault) {
            try readLines(bytes, into: &events)
        } catch {
            fault = error
            dropPartial()
            throw error
        }
    }

    /// Begins a new stream, after a new connection: forgets what was unfinished, keeps `lastEventID`, `retryMilliseconds` and the count.
    package mutating func beginStream() {
        dropPartial()
        fault = nil
        start = .stream
    }

    private mutating func dropPartial() {
        line = []
        data = []
        type = ""
        idToCome = lastEventID
    }
}

// MARK: - Lines

extension EventStreamDecoder {
    private mutating func readLines(
        _ bytes: UnsafeRawBufferPointer,
        into events: inout [EventStreamEvent]
    ) throws(EventStreamFault) {
        var offset = 0
        if start == .stream { skipByteOrderMark(bytes, &offset) }
        while offset < bytes.count {
            if start == .afterCR {
                start = .none
                if bytes[offset] == LineScanner.lf {
                    offset += 1
                    continue
                }
            }
            if line.isEmpty, start == .none, bytes[offset] == UInt8(ascii: ":") { start = .comment }
            let end = LineScanner.lineEnd(in: bytes, from: offset)
            let piece = UnsafeRawBufferPointer(rebasing: bytes[offset..<end])
            offset = end
            if start != .comment, piece.count > bytesMax - data.count - line.count { throw .eventTooBig }
            guard end < bytes.count else {
                if start != .comment { line.append(contentsOf: piece) }
                return
            }
            offset += 1
            let isComment = start == .comment
            start = bytes[end] == LineScanner.cr ? .afterCR : .none
            if isComment {
                commentCount &+= 1
            } else if line.isEmpty {
                readLine(piece, into: &events)
            } else {
                var whole: [UInt8] = []
                swap(&whole, &line)
                whole.append(contentsOf: piece)
                whole.withUnsafeBytes { readLine($0, into: &events) }
            }
        }
    }

    /// Reads up to three bytes of a byte order mark. What turns out to be something else stays in `line` or is left to be read.
    private mutating func skipByteOrderMark(_ bytes: UnsafeRawBufferPointer, _ offset: inout Int) {
        while offset < bytes.count {
            guard bytes[offset] == Self.byteOrderMark[line.count] else {
                start = .none
                return
            }
            line.append(bytes[offset])
            offset += 1
            if line.count == Self.byteOrderMark.count {
                line = []
                start = .none
                return
            }
        }
    }
}

// MARK: - Fields

extension EventStreamDecoder {
    private mutating func readLine(_ line: UnsafeRawBufferPointer, into events: inout [EventStreamEvent]) {
        guard !line.isEmpty else { return dispatch(into: &events) }
        let colon = line.firstIndex(of: UInt8(ascii: ":")) ?? line.count
        var valueStart = min(colon + 1, line.count)
        if valueStart < line.count, line[valueStart] == UInt8(ascii: " ") { valueStart += 1 }
        let name = UnsafeRawBufferPointer(rebasing: line[..<colon])
        let value = UnsafeRawBufferPointer(rebasing: line[valueStart...])
        if name.elementsEqual("data".utf8) {
            data.append(contentsOf: value)
            data.append(LineScanner.lf)
        } else if name.elementsEqual("event".utf8) {
            type = String(decoding: value, as: UTF8.self)
        } else if name.elementsEqual("id".utf8) {
            if !value.contains(0) { idToCome = String(decoding: value, as: UTF8.self) }
        } else if name.elementsEqual("retry".utf8) {
            retryMilliseconds = Self.milliseconds(value) ?? retryMilliseconds
        }
    }

    private mutating func dispatch(into events: inout [EventStreamEvent]) {
        lastEventID = idToCome
        if !data.isEmpty {
            let text = String(decoding: data.dropLast(), as: UTF8.self)
            events.append(EventStreamEvent(type: type.isEmpty ? "message" : type, data: text, lastEventID: lastEventID))
            data = []
        }
        type = ""
    }

    /// - Returns: nil if it is not digits and nothing else.
    private static func milliseconds(_ digits: UnsafeRawBufferPointer) -> Int? {
        guard !digits.isEmpty else { return nil }
        var number = 0
        for digit in digits {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
            number = min(number * 10 + Int(digit - UInt8(ascii: "0")), retryMillisecondsMax)
        }
        return number
    }
}

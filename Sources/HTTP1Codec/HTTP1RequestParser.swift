/// Reads the requests of one connection, one after the other (RFC 9112).
///
///     head -> body -> head -> ...
///     any fault, from any phase: -> failed
///
/// Strict where a lenient reading would let two parsers see different requests: every line ends in CRLF, and every message has at most one
/// way to find its end. What is refused is in `HTTP1Fault`; the one leniency is a single empty line before a request line
/// (RFC 9112 section 2.2).
///
/// A request without body gives `head` and then `end`, so both always come in pairs. What follows a request stays unread until the caller
/// asks for the next event, so the caller can answer before it reads on (no unbounded pipelining), and after an `Upgrade` can give the rest
/// to another protocol.
package struct HTTP1RequestParser: Sendable {
    private enum Phase: Sendable {
        case head
        case body(BodyReader)
        case failed(HTTP1Fault)
    }

    private let limits: HTTP1Limits
    private var phase = Phase.head
    private var head = HeadReader(emptyLinesMax: 1)

    package init(limits: HTTP1Limits = HTTP1Limits()) {
        self.limits = limits
    }

    /// Whether nothing is unfinished: the next byte begins a request. So it is with an idle keep-alive connection.
    package var isBetweenRequests: Bool {
        if case .head = phase { !head.isPartial } else { false }
    }

    /// Whether some bytes of a head came and the head is not complete, which is when the head's deadline runs.
    package var headStarted: Bool {
        if case .head = phase { head.isPartial } else { false }
    }

    /// Reads at most one event from the front of `input`.
    ///
    /// Call it again with what is left as long as it returns an event (an `end` takes no bytes); nil means that all of `input` was read and
    /// more is needed.
    ///
    /// - Parameters:
    ///   - input: bytes of the client, in order.
    ///   - consumed: the number of bytes read is added to it; they must not be given again.
    /// - Throws: what the client did wrong, and the same at every call from then on; all of `input` counts as read.
    package mutating func next(_ input: UnsafeRawBufferPointer, consumed: inout Int) throws(HTTP1Fault) -> HTTP1RequestEvent? {
        var count = 0
        do throws(HTTP1Fault) {
            let event = try readEvent(input, &count)
            precondition(event != nil || count == input.count, "bytes left behind")
            consumed += count
            return event
        } catch {
            phase = .failed(error)
            head = HeadReader(emptyLinesMax: 1)
            consumed += input.count
            throw error
        }
    }

    private mutating func readEvent(_ input: UnsafeRawBufferPointer, _ count: inout Int) throws(HTTP1Fault) -> HTTP1RequestEvent? {
        switch phase {
        case .failed(let fault):
            throw fault
        case .head:
            let bodyBytesMax = limits.bodyBytesMax
            let complete = try head.next(input, consumed: &count, limits: limits) { line throws(HTTP1Fault) in
                _ = try RequestLine(line)
            } build: { bytes throws(HTTP1Fault) in
                try HTTP1RequestHead(bytes, bodyBytesMax: bodyBytesMax)
            }
            guard let complete else { return nil }
            phase = .body(BodyReader(complete.body))
            return .head(complete)
        case .body(var body):
            let event = try body.next(input, consumed: &count, limits: limits)
            phase = .body(body)
            switch event {
            case .data(let range): return .body(range)
            case .end:
                phase = .head
                return .end
            case nil: return nil
            }
        }
    }
}

extension BodyReader {
    init(_ framing: HTTP1BodyFraming) {
        switch framing {
        case .none: self.init(HTTP1ResponseFraming.none)
        case .length(let length): self.init(HTTP1ResponseFraming.length(length))
        case .chunked: self.init(HTTP1ResponseFraming.chunked)
        }
    }
}

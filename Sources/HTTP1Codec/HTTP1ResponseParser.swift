package import HTTPTypes

/// Reads the response to one request, on the client's side (RFC 9112).
///
///     head -> [head after 1xx]* -> body -> complete -> (nextResponse) head ...
///                              \-> switched, after 101 or a successful CONNECT
///     any fault, from any phase: -> failed
///
/// As strict as the request parser. Interim responses are read and dropped, but for 101. After 101, and after 2xx to CONNECT, the
/// connection belongs to another protocol: there is no `end`, and nothing more is consumed. Nor is anything consumed behind a complete
/// response until `nextResponse` says what is expected.
package struct HTTP1ResponseParser: Sendable {
    /// The methods that change how a response is read.
    enum RequestMethod: Sendable {
        case head
        case connect
        case other

        init(_ method: HTTPRequest.Method) {
            switch method {
            case .head: self = .head
            case .connect: self = .connect
            default: self = .other
            }
        }
    }

    private enum Phase: Sendable {
        case head
        case body(BodyReader)
        case complete
        case switched
        case failed(HTTP1Fault)
    }

    /// 16: a server sends one 100 and maybe some 103; without a limit an endless row of them would hold a client for ever.
    private static let interimResponsesMax = 16

    private let limits: HTTP1Limits
    private var phase = Phase.head
    private var head = HeadReader(emptyLinesMax: 0)
    private var requestMethod: RequestMethod
    private var interimResponses: UInt8 = 0

    /// - Parameters:
    ///   - limits: what the server may make it hold. For an endless stream, `bodyBytesMax` of `Int.max`.
    ///   - requestMethod: of the request; the responses to HEAD and CONNECT are read differently.
    package init(limits: HTTP1Limits = HTTP1Limits(), requestMethod: HTTPRequest.Method) {
        self.limits = limits
        self.requestMethod = RequestMethod(requestMethod)
    }

    /// Whether the response was read to its end, and what is left in the input is not part of it.
    package var isComplete: Bool {
        if case .complete = phase { true } else { false }
    }

    /// Expects the response to another request on this connection. The last one is complete.
    package mutating func nextResponse(to requestMethod: HTTPRequest.Method) {
        precondition(isComplete, "the last response is not complete")
        self.requestMethod = RequestMethod(requestMethod)
        interimResponses = 0
        phase = .head
    }

    /// Reads at most one event from the front of `input`.
    ///
    /// Call it again with what is left as long as it returns an event (an `end` takes no bytes). Nil means that more is needed and all of
    /// `input` was read; or that the response is complete or the connection switched, and nothing was read.
    ///
    /// - Parameters:
    ///   - input: bytes of the server, in order.
    ///   - consumed: the number of bytes read is added to it; they must not be given again.
    /// - Throws: what the server did wrong, and the same at every call from then on; all of `input` counts as read.
    package mutating func next(_ input: UnsafeRawBufferPointer, consumed: inout Int) throws(HTTP1Fault) -> HTTP1ResponseEvent? {
        var count = 0
        do throws(HTTP1Fault) {
            let event = try readEvent(input, &count)
            consumed += count
            return event
        } catch {
            fail(error)
            consumed += input.count
            throw error
        }
    }

    /// The server has closed its side.
    ///
    /// - Returns: `end` if the close is the end of the body; nil if nothing was unfinished.
    /// - Throws: `connectionClosedEarly` inside a response or before it; the parser's fault if it has failed before.
    package mutating func connectionClosed() throws(HTTP1Fault) -> HTTP1ResponseEvent? {
        switch phase {
        case .complete, .switched: return nil
        case .failed(let fault): throw fault
        case .body(let body) where body.endsWithConnection:
            phase = .complete
            return .end
        case .head, .body:
            fail(.connectionClosedEarly)
            throw .connectionClosedEarly
        }
    }

    private mutating func fail(_ fault: HTTP1Fault) {
        phase = .failed(fault)
        head = HeadReader(emptyLinesMax: 0)
    }

    private mutating func readEvent(_ input: UnsafeRawBufferPointer, _ count: inout Int) throws(HTTP1Fault) -> HTTP1ResponseEvent? {
        switch phase {
        case .failed(let fault): throw fault
        case .complete, .switched: return nil
        case .head: return try readHead(input, &count).map { .head($0) }
        case .body(var body):
            let event = try body.next(input, consumed: &count, limits: limits)
            phase = .body(body)
            switch event {
            case .data(let range): return .body(range)
            case .end:
                phase = .complete
                return .end
            case nil: return nil
            }
        }
    }

    /// Reads heads until a final one, or 101.
    private mutating func readHead(_ input: UnsafeRawBufferPointer, _ count: inout Int) throws(HTTP1Fault) -> HTTP1ResponseHead? {
        let (method, bodyBytesMax) = (requestMethod, limits.bodyBytesMax)
        while true {
            let rest = input.part(count..<input.count)
            let complete = try head.next(rest, consumed: &count, limits: limits) { line throws(HTTP1Fault) in
                _ = try StatusLine(line)
            } build: { bytes throws(HTTP1Fault) in
                try HTTP1ResponseHead(bytes, requestMethod: method, bodyBytesMax: bodyBytesMax)
            }
            guard let complete else { return nil }
            let code = complete.response.status.code
            if code == 101 || method == .connect && (200..<300).contains(code) {
                phase = .switched
            } else if code >= 200 {
                phase = .body(BodyReader(complete.body))
            } else {
                guard Int(interimResponses) < Self.interimResponsesMax else { throw .tooManyInterimResponses }
                interimResponses += 1
                continue
            }
            return complete
        }
    }
}

package import HTTPTypes

/// The client's side of one HTTP/2 connection, in the same style as `HTTP2ServerSession`; for Tocsin's own client and the tests.
package final class HTTP2ClientSession {
    private let engine: HTTP2Engine

    /// Queues the connection preface and its SETTINGS at once. `meter` is for tests.
    package init(limits: HTTP2Limits, meter: HTTP2AllocationMeter? = nil) {
        engine = HTTP2Engine(role: .client, limits: limits, meter: meter)
    }

    /// Takes the next bytes from the server. See `HTTP2ServerSession.receive`.
    package func receive(_ bytes: UnsafeRawBufferPointer, nowMilliseconds: Int64) throws(HTTP2Fault) {
        try engine.receive(bytes, nowMilliseconds: nowMilliseconds)
    }

    /// The next event, in order; nil when there is none.
    package func nextEvent() -> HTTP2ClientEvent? {
        switch engine.nextEvent() {
        case nil: nil
        case .pingAcknowledged: nextEvent()
        case .response(let stream, let response): .response(stream: stream, response)
        case .headersTooLarge(let stream): .headersTooLarge(stream: stream)
        case .body(let stream, let bytes): .body(stream: stream, bytes)
        case .end(let stream): .end(stream: stream)
        case .windowOpen(let stream): .windowOpen(stream: stream)
        case .closed(let stream, let errorCode): .closed(stream: stream, errorCode: errorCode)
        case .goAway(let errorCode): .goAway(errorCode: errorCode)
        case .request, .bodyTooLong: preconditionFailure("a client gets no requests")
        }
    }

    /// Whether `send` has something to give.
    package var wantsWrite: Bool { engine.wantsWrite }

    /// Nothing more will be read or written.
    package var isFinished: Bool { engine.isFinished }

    /// What ended the connection, if something did.
    package var fault: HTTP2Fault? { engine.fault }

    /// See `HTTP2ServerSession.send`.
    package func send(into out: inout [UInt8], bytesMax: Int) {
        engine.send(into: &out, bytesMax: bytesMax)
    }

    /// Sends a whole request; it waits in line if the server allows no more streams at once.
    ///
    /// - Returns: the stream that the answer comes on; nil if the connection is going away or has no stream numbers left.
    package func request(_ request: HTTPRequest, body: [UInt8] = []) -> HTTP2StreamID? {
        engine.request(request, body: body, isComplete: true)
    }

    /// Sends the head of a request whose body follows by `offer` and ends with `finish`.
    package func startRequest(_ request: HTTPRequest) -> HTTP2StreamID? {
        engine.request(request, body: [], isComplete: false)
    }

    /// Next bytes of the request's body. See `HTTP2ServerSession.offer`.
    package func offer(stream: HTTP2StreamID, _ bytes: [UInt8], range: Range<Int>) -> Bool {
        engine.offer(stream: stream, bytes, range: range)
    }

    /// Ends the request after the bytes that are pending.
    package func finish(stream: HTTP2StreamID) {
        engine.finish(stream: stream)
    }

    /// Abandons the stream.
    package func reset(stream: HTTP2StreamID, errorCode: UInt32) {
        engine.reset(stream: stream, errorCode: errorCode)
    }

    /// Ends the connection: GOAWAY with this code, and nothing after it.
    package func terminate(errorCode: UInt32) {
        engine.terminate(errorCode: errorCode)
    }

    /// Streams that are open or wait in line.
    package var openStreams: Int { engine.streams.count }

    /// Bytes of the stream's request that are offered and not yet handed to `send`'s array.
    package func pendingBytes(_ stream: HTTP2StreamID) -> Int {
        engine.stream(stream)?.pendingCount ?? 0
    }
}

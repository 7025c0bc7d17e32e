package import HTTPTypes

/// The server's side of one HTTP/2 connection (RFC 9113): bytes in, events out; answers in, bytes out.
///
/// The round of a connection is: `receive`, then `nextEvent` until nil, then `send` (then `nextEvent` again, for `windowOpen` and
/// `closed`), then `isFinished`. Not Sendable: it belongs to one event loop. A copy is the same connection.
package struct HTTP2ServerSession {
    private let engine: HTTP2Engine

    /// Queues its SETTINGS at once. `meter` is for tests.
    package init(limits: HTTP2Limits, meter: HTTP2AllocationMeter? = nil) {
        engine = HTTP2Engine(role: .server, limits: limits, meter: meter)
    }

    // MARK: Bytes

    /// Takes the next bytes from the client; they need not end with a frame.
    ///
    /// - Parameter nowMilliseconds: any clock that does not run backwards, for the buckets of resets and idle frames.
    /// - Throws: a fault that ends the connection. Events that came before it are still there. Faults that nghttp2 answers by itself
    ///   are known only once `send` has written the GOAWAY: so look at `isFinished` after each `send`.
    package func receive(_ bytes: UnsafeRawBufferPointer, nowMilliseconds: Int64) throws(HTTP2Fault) {
        try engine.receive(bytes, nowMilliseconds: nowMilliseconds)
    }

    /// The next event, in order; nil when there is none.
    package func nextEvent() -> HTTP2Event? {
        switch engine.nextEvent() {
        case nil: nil
        case .request(let stream, let request, let hasBody): .request(stream: stream, request, hasBody: hasBody)
        case .headersTooLarge(let stream): .headersTooLarge(stream: stream)
        case .body(let stream, let bytes): .body(stream: stream, bytes)
        case .bodyTooLong(let stream): .bodyTooLong(stream: stream)
        case .end(let stream): .end(stream: stream)
        case .windowOpen(let stream): .windowOpen(stream: stream)
        case .closed(let stream, let errorCode): .closed(stream: stream, errorCode: errorCode)
        case .goAway(let errorCode): .goAway(errorCode: errorCode)
        case .pingAcknowledged: .pingAcknowledged
        case .response: preconditionFailure("a server gets no answers")
        }
    }

    /// Whether `send` has something to give.
    package var wantsWrite: Bool { engine.wantsWrite }

    /// Nothing more will be read or written: close the connection once the bytes of `send` are out.
    package var isFinished: Bool { engine.isFinished }

    /// What ended the connection, if something did.
    package var fault: HTTP2Fault? { engine.fault }

    /// Moves serialized frames into `out`, until nothing more is to be sent or `out` holds `bytesMax` bytes. The last frame is always
    /// whole, so `out` may end up to one frame (9 + 16384 bytes) over.
    package func send(into out: inout [UInt8], bytesMax: Int) {
        engine.send(into: &out, bytesMax: bytesMax)
    }

    // MARK: Answers
    // On a stream that is gone all of these do nothing: the client may have reset it before its `closed` event was read.

    /// The whole answer. Headers of an HTTP/1.1 connection (`Connection`, `Transfer-Encoding`, ...) are left out.
    package func respond(stream: HTTP2StreamID, _ response: HTTPResponse, body: [UInt8]) {
        engine.answer(stream: stream, response, body: body, isComplete: true)
    }

    /// The head of an answer whose body follows by `offer` and ends with `finish`.
    package func startStreaming(stream: HTTP2StreamID, _ response: HTTPResponse) {
        engine.answer(stream: stream, response, body: [], isComplete: false)
    }

    /// Gives the stream its next bytes. The array is retained, not copied.
    ///
    /// - Returns: false, and takes nothing, if earlier bytes are still pending (flow control, or a full socket) or the stream is gone.
    ///   In the first case `windowOpen` says when to go on.
    package func offer(stream: HTTP2StreamID, _ bytes: [UInt8], range: Range<Int>) -> Bool {
        engine.offer(stream: stream, bytes, range: range)
    }

    // MARK: Frames that the owner writes
    // Short messages on many streams cost the least when their frames go past `offer`: see `HTTP2Engine.reserve`. Such a frame, header
    // and all, is sent before anything that `send` gives later.

    /// What is left of what `mayWrite` set aside is given back before `offer` or `finish`.
    package func giveBack(stream: HTTP2StreamID, _ count: Int) {
        engine.giveBack(stream: stream, count)
    }

    /// Asks whether the owner may write a frame with so many bytes of DATA, at most `frameBytesMax`, which it then does.
    ///
    /// - Parameters:
    ///   - credit: what is left of what was set aside; a new portion of at most `portion` bytes is, if it does not suffice.
    ///   - version: of `credit`: it counts no more when the peer has changed its settings, or the connection ends.
    @inline(__always)
    package func mayWrite(_ count: Int, stream: HTTP2StreamID, credit: inout Int32, version: inout UInt16, portion: Int) -> Bool {
        engine.mayWrite(count, stream: stream, credit: &credit, version: &version, portion: portion)
    }

    /// Of DATA that the owner writes. (No peer may allow less, RFC 9113 6.5.2.)
    package static let frameBytesMax = HTTP2Engine.frameBytesMax

    /// Ends the answer after the bytes that are pending. No `windowOpen` comes for them.
    package func finish(stream: HTTP2StreamID) {
        engine.finish(stream: stream)
    }

    /// Abandons the stream (RFC 9113 6.4; error codes in section 7). Pending bytes are lost; `closed` comes with the next `send`.
    package func reset(stream: HTTP2StreamID, errorCode: UInt32) {
        engine.reset(stream: stream, errorCode: errorCode)
    }

    // MARK: The end

    /// First step of a graceful end (RFC 9113 6.8): says that no more streams are wanted, while those on their way still count.
    package func shutDown() {
        engine.shutDownNotice()
    }

    /// Asks for a sign that everything before it has been read: `pingAcknowledged`.
    package func ping() {
        engine.ping()
    }

    /// Second step, a round trip later: names the last stream that is served. When those that are open are done, `isFinished` is true.
    package func finalGoAway() {
        engine.finalGoAway()
    }

    /// Ends the connection: GOAWAY with this code, and nothing after it.
    package func terminate(errorCode: UInt32) {
        engine.terminate(errorCode: errorCode)
    }

    // MARK: Gauges

    /// Streams that are open in either direction.
    package var openStreams: Int { engine.streams.count }

    /// Bytes of the stream that have been offered and not yet handed to `send`'s array.
    package func pendingBytes(_ stream: HTTP2StreamID) -> Int {
        engine.stream(stream)?.pendingCount ?? 0
    }
}

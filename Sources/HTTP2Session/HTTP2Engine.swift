// The engine: one nghttp2 session, for either role.
//
//      bytes in                                              bytes out
//         |                                                      ^
//      receive --> nghttp2 --callbacks--> events          send --+-- DATA: header and bytes appended straight to `out`
//                     ^                      |                   +-- all else: copied from nghttp2's own buffer
//                     |                      v
//                     +---- submit ---- the owner, between the calls
//
// Rules that keep nghttp2 whole:
// - It must not be re-entered (mem_recv or mem_send from a callback crashes). So callbacks only append events, mark faults and submit;
//   the owner sees the events after `receive` or `send` has returned, and may then call anything.
// - A pointer from mem_send is good until the next call, so it is copied at once.
// - After an error below NGHTTP2_ERR_FATAL the session may only be deleted. Then `fault` is set and `isDead` true, nothing touches the
//   session again, and the GOAWAY is written by hand.
//
// A stream that streams: its data source is always attached. While nothing is pending the read callback says DEFERRED, and nghttp2
// forgets the stream until `offer` resumes it. Pending bytes are one shared array and a range. The read callback only says how many go
// into the next frame (DATA_FLAG_NO_COPY); the send callback, which nghttp2 calls right after, appends frame header and bytes to the
// caller's array. So a hundred streams cost one call of mem_send, no copy through nghttp2's buffer, and that buffer's 16 KB stay
// untouched pages on a connection that only ever streams.
//
// Two kinds of flood end in RST_STREAM: those that the peer sends (rapid reset) and those that it makes us send (MadeYouReset). Both
// are counted here against token buckets fed with the caller's clock; nghttp2's own counter, which knows only the former and reads the
// machine's clock, is switched off.

import CNghttp2
import HTTPTypes

final class HTTP2Engine {
    enum Role {
        case server
        case client
    }

    let role: Role
    let limits: HTTP2Limits
    let session: OpaquePointer
    private let meter: HTTP2AllocationMeter?

    /// All streams that are open, or (client) asked for. The hot path finds a server's stream through nghttp2 instead.
    var streams: [HTTP2StreamID: HTTP2Stream] = [:]
    var block = HeaderBlock()
    private var events: [EngineEvent] = []
    private var eventsHead = 0

    /// The caller's array during `send`.
    var output: [UInt8] = []
    var outputMax = 0
    var sendNumber: UInt32 = 0

    var fault: HTTP2Fault? {
        didSet { windowsVersion &+= 1 }
    }
    /// A bucket ran dry inside a callback; GOAWAY follows when nghttp2 has returned.
    var faultMarked: HTTP2Fault?
    /// Why a callback has stopped nghttp2 for good.
    var stopped: HTTP2Fault?
    /// CONTINUATION frames since the last frame of another type.
    var continuations = 0
    private(set) var isDead = false
    private var lastWords: [UInt8] = []
    var watch: FrameWatch
    /// The beginning of a frame, of which the rest has not come.
    private var held: [UInt8] = []
    private var numbers = StreamNumbers()

    /// See `reserve`. Of the connection's window; each stream has its own.
    var connectionDebt = 0
    /// The connection's window has at least so much left: others than `mayWrite` only widen it, or clear this.
    var knownRoom = 0
    var hasDebt = false
    /// Of the frame of DATA that nghttp2 is about to make.
    var readRoom = 0
    /// Streams that wait for room which nghttp2 believes to be there.
    var blocked: [HTTP2StreamID] = []
    /// There may be room for them.
    var isWidened = false
    /// Changes when portions that were set aside before do not count any more.
    var windowsVersion: UInt16 = 0

    private var resetsReceived: TokenBucket
    private var resetsSent: TokenBucket
    private var idleFrames: TokenBucket
    private var nowMilliseconds: Int64 = 0

    init(role: Role, limits: HTTP2Limits, meter: HTTP2AllocationMeter?) {
        precondition((16384...16_777_215).contains(limits.frameBytesMax), "RFC 9113 6.5.2")
        precondition(limits.initialWindowBytes <= UInt32(Int32.max), "RFC 9113 6.9.2")
        self.role = role
        watch = FrameWatch(continuationsMax: limits.continuationsMax)
        self.limits = limits
        self.meter = meter
        resetsReceived = TokenBucket(burst: limits.resetBurst)
        resetsSent = TokenBucket(burst: limits.resetBurst)
        idleFrames = TokenBucket(burst: limits.idleFramesBurst)
        session = Self.makeSession(role: role, limits: limits, meter: meter)
        nghttp2_session_set_user_data(session, Unmanaged.passUnretained(self).toOpaque())
        submitSettings()
    }

    deinit {
        // After a failed allocation nghttp2 1.52 is not whole: freeing the session can hit an assertion on an item freed twice. That
        // connection's memory is the lesser loss.
        if fault != .outOfMemory { nghttp2_session_del(session) }
    }

    // MARK: Bytes

    func receive(_ bytes: UnsafeRawBufferPointer, nowMilliseconds: Int64) throws(HTTP2Fault) {
        if let fault { throw fault }
        self.nowMilliseconds = nowMilliseconds
        if held.isEmpty {
            take(bytes)
        } else {
            let all = held + bytes
            held = []
            all.withUnsafeBytes { take($0) }
        }
        if isWidened, !blocked.isEmpty { resumeBlocked() }
        if let fault { throw fault }
    }

    private func take(_ bytes: UnsafeRawBufferPointer) {
        // In slices, so that a flood is noticed soon after its bucket has run dry, however much was read at once.
        var start = 0
        while start < bytes.count {
            var end = min(start + 16384, bytes.count)
            let isLast = end == bytes.count
            if role == .server {
                end = start + watch.read(UnsafeRawBufferPointer(rebasing: bytes[start..<end])) { streams[$0] != nil }
            }
            if let update = watch.windowUpdate, faultMarked == nil, pay(update) {
                start = end
                continue
            }
            if end > start {
                let taken = nghttp2_session_mem_recv(session, bytes.baseAddress! + start, end - start)
                guard taken >= 0 else {
                    die(Int32(taken))
                    break
                }
                precondition(taken == end - start, "no callback pauses the session")
            }
            start = end
            if isDead { break }
            // Once nghttp2 has found a fault of its own, that is the first one, and it reads nothing more.
            let isReading = nghttp2_session_want_read(session) != 0
            if isReading, faultMarked == nil, watch.hasTooManyContinuations {
                die(NGHTTP2_ERR_TOO_MANY_CONTINUATIONS.rawValue)
                break
            }
            if isReading, watch.isPriorityBroken { faultMarked = faultMarked ?? .misplacedFrame(code: NGHTTP2_PROTOCOL_ERROR.rawValue) }
            if isReading, let suspect = watch.suspect { begin(NGHTTP2_DATA, suspect) }
            if faultMarked == nil, nghttp2_session_get_outbound_queue_size(session) > limits.outboundFramesMax {
                faultMarked = .tooManyFramesWaiting
            }
            if terminateIfMarked() { break }
            if watch.isCut, isLast {
                held = Array(bytes[start...])
                break
            }
        }
    }

    func send(into out: inout [UInt8], bytesMax: Int) {
        if isDead {
            out.append(contentsOf: lastWords)
            lastWords = []
            return
        }
        sendNumber &+= 1
        outputMax = bytesMax
        swap(&output, &out)
        repeat {
            while output.count < bytesMax, !isDead {
                var pointer: UnsafePointer<UInt8>?
                let count = nghttp2_session_mem_send(session, &pointer)
                if count == 0 { break }
                guard count > 0, let pointer else {
                    die(Int32(count))
                    break
                }
                output.append(contentsOf: UnsafeBufferPointer(start: pointer, count: count))
            }
        } while terminateIfMarked()
        swap(&output, &out)
        if isDead { send(into: &out, bytesMax: bytesMax) }
    }

    var wantsWrite: Bool {
        isDead ? !lastWords.isEmpty : nghttp2_session_want_write(session) != 0
    }

    var isFinished: Bool {
        guard !isDead else { return lastWords.isEmpty }
        return nghttp2_session_want_read(session) == 0 && nghttp2_session_want_write(session) == 0
    }

    // MARK: Events

    func append(_ event: EngineEvent) {
        events.append(event)
    }

    func nextEvent() -> EngineEvent? {
        guard eventsHead < events.count else {
            if eventsHead > 0 {
                events = []
                eventsHead = 0
            }
            return nil
        }
        defer { eventsHead += 1 }
        return events[eventsHead]
    }

    // MARK: Faults

    func terminate(errorCode: UInt32) {
        guard !isDead else { return }
        check(nghttp2_session_terminate_session(session, errorCode))
    }

    /// Looks at the result of a submit. Of the failures only want of memory is ours to notice; the rest say that the stream or the
    /// connection went away under the call, of which the owner learns by `closed`.
    func check(_ result: Int32) {
        if nghttp2_is_fatal(result) != 0 { die(result) }
    }

    func die(_ result: Int32) {
        precondition(result < 0)
        guard !isDead else { return }
        isDead = true
        switch nghttp2_error(result) {
        case NGHTTP2_ERR_BAD_CLIENT_MAGIC: fault = .badPreface
        case NGHTTP2_ERR_FLOODED: fault = .tooManyAcksWaiting
        case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS: fault = .tooManyContinuations
        case NGHTTP2_ERR_NOMEM: fault = .outOfMemory
        case NGHTTP2_ERR_CALLBACK_FAILURE: fault = faultMarked ?? stopped ?? .engine(result)
        default: fault = .engine(result)
        }
        guard fault != .badPreface else { return }
        let isFlood = fault == .tooManyAcksWaiting || fault == .tooManyContinuations
        let code = isFlood ? NGHTTP2_ENHANCE_YOUR_CALM.rawValue : NGHTTP2_INTERNAL_ERROR.rawValue
        // GOAWAY (RFC 9113 6.8): length 8, type 7, no flags, stream 0; last stream, error code.
        lastWords = [0, 0, 8, 7, 0, 0, 0, 0, 0]
        for word in [UInt32(bitPattern: lastPeerStream), code] {
            for shift: UInt32 in [24, 16, 8, 0] { lastWords.append(UInt8(truncatingIfNeeded: word >> shift)) }
        }
    }

    private func terminateIfMarked() -> Bool {
        guard let marked = faultMarked, fault == nil, !isDead else { return false }
        fault = marked
        if case .misplacedFrame(let code) = marked {
            terminate(errorCode: code)
        } else {
            terminate(errorCode: NGHTTP2_ENHANCE_YOUR_CALM.rawValue)
        }
        return true
    }

    /// What the peer may still send on a stream that we have reset is not its fault.
    func noteReset(_ id: HTTP2StreamID) {
        numbers.noteReset(id)
    }

    /// The highest number of a stream that the peer opened.
    var lastPeerStream: HTTP2StreamID { numbers.last }

    /// A frame of the client begins.
    func begin(_ kind: nghttp2_frame_type, _ id: HTTP2StreamID) {
        guard let code = numbers.begin(kind, id, isOpen: streams[id] != nil) else { return }
        faultMarked = faultMarked ?? .misplacedFrame(code: code)
    }

    func countResetReceived() {
        if !resetsReceived.take(burst: limits.resetBurst, perSecond: limits.resetsPerSecond, nowMilliseconds: nowMilliseconds) {
            faultMarked = faultMarked ?? .tooManyResets
        }
    }

    func countResetSent() {
        if !resetsSent.take(burst: limits.resetBurst, perSecond: limits.resetsPerSecond, nowMilliseconds: nowMilliseconds) {
            faultMarked = faultMarked ?? .tooManyResetsProvoked
        }
    }

    func countIdleFrame() {
        let limits = limits
        if !idleFrames.take(burst: limits.idleFramesBurst, perSecond: limits.idleFramesPerSecond, nowMilliseconds: nowMilliseconds) {
            faultMarked = faultMarked ?? .tooManyIdleFrames
        }
    }
}

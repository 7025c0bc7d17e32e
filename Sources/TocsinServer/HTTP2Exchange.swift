import HTTP2Session
import HTTPTypes
import NotificationCore
import Transports

/// What an HTTP/2 connection holds.
final class HTTP2Exchange {
    let session: HTTP2ServerSession
    var streams: [Int32: HTTP2Stream] = [:] {
        didSet { streamCount = streams.count }
    }
    private(set) var streamCount = 0
    /// Of all request bodies that are being read: together they may be as large as one may be.
    private(set) var bodyBytes = 0
    let bodyBytesMax: Int
    /// It is among those that are flushed at the end of the fan-out.
    var isDirty = false
    /// Then the session has something, too.
    var wantsDrain = false
    /// Frames of the fan-out that is under way: so many, and not sent yet. They go out before anything that the session has.
    var frames: [UInt8] = []
    var frameCount = 0
    /// Events are being handled, one after the other.
    var isHandlingEvents = false
    /// Some events wait for the connection's turn.
    var isHeldUp = false
    /// Of all answers that have not gone out as a whole.
    var answerBytes = 0
    var leaving = Leaving.no

    /// The two steps of a graceful end (RFC 9113 section 6.8).
    enum Leaving {
        case no
        /// GOAWAY with the highest number has gone out, and a ping behind it: what the client sent before it read that still counts.
        case announced
        /// GOAWAY with the last stream has gone out: the connection ends with the last of those that are open.
        case final
    }

    init(limits: HTTP2Limits) {
        bodyBytesMax = limits.bodyBytesMax
        session = HTTP2ServerSession(limits: limits)
    }

    /// Adds a frame of DATA.
    func append(_ bytes: UnsafeRawBufferPointer, stream: Int32) {
        frames.append(addingCapacity: DataFrame.headerBytes + bytes.count) { (span: inout OutputSpan<UInt8>) in
            span.withUnsafeMutableBufferPointer { buffer, count in
                count = DataFrame.write(bytes, stream: stream, to: UnsafeMutableRawBufferPointer(buffer))
            }
        }
        frameCount += 1
    }

    func park(_ count: Int, _ loop: ServerLoop) {
        bodyBytes += count
        loop.parkedBytes += count
    }
}

/// DATA without flags (RFC 9113 section 6.1).
enum DataFrame {
    static let headerBytes = 9

    /// - Returns: the length of the frame.
    static func write(_ bytes: UnsafeRawBufferPointer, stream: Int32, to memory: UnsafeMutableRawBufferPointer) -> Int {
        // Length and type, which is 0.
        memory.storeBytes(of: (UInt32(bytes.count) << 8).bigEndian, as: UInt32.self)
        memory[4] = 0
        memory.storeBytes(of: stream.bigEndian, toByteOffset: 5, as: Int32.self)
        UnsafeMutableRawBufferPointer(rebasing: memory[headerBytes...]).copyMemory(from: bytes)
        return headerBytes + bytes.count
    }
}

final class HTTP2Stream {
    /// Until it has been read as a whole.
    var request: HTTPRequest? {
        get { openRequest?.value }
        set { openRequest = newValue.map { OpenRequest($0) } }
    }
    private var openRequest: OpenRequest?
    var body: [UInt8] = []
    /// An SSE subscriber on this stream.
    var eventStream: EventStreamSession?
    var poll: ParkedPoll?
    var webSocket: WebSocketSession?
    /// An extended CONNECT (RFC 8441): what comes on it is no request body.
    var isTunnel = false
    /// The other origin whose page made the request, if it may.
    var crossOrigin: String?
    /// Until when its body has to be here, or its answer has to have got on. 0: no deadline.
    var deadlineTick: UInt32 = 0
    /// Of its answer, as long as it is not closed.
    var answerBytes = 0
    /// What was left of the answer when it was last looked at.
    var bytesLeft = 0
    /// It has its answer; what the peer still sends on it does not count.
    var isAnswered = false

    init() {}

    init(request: HTTPRequest, isTunnel: Bool) {
        openRequest = OpenRequest(request)
        self.isTunnel = isTunnel
    }

    /// It takes some hundred bytes.
    private final class OpenRequest {
        let value: HTTPRequest

        init(_ value: HTTPRequest) {
            self.value = value
        }
    }

    var subscribers: [SubscriberID] {
        webSocket?.adapter.subscribers ?? eventStream?.subscribers ?? poll?.subscribers ?? []
    }

    /// Nothing has been begun with it yet.
    var isFree: Bool { !isAnswered && eventStream == nil && poll == nil && webSocket == nil }
}

/// Why a connection is over. What `send` still gives (mostly a GOAWAY) goes out, then the connection is to be closed.
package enum HTTP2Fault: Error, Hashable, Sendable {
    /// The first bytes are not the client connection preface (RFC 9113 3.4). Nothing is sent: the peer speaks something else.
    case badPreface
    /// The peer broke the protocol in a way that ends the connection (RFC 9113 5.4.1); the error code of our GOAWAY.
    case connectionError(code: UInt32)
    /// A frame where none of its kind may be, which nghttp2 passes over (`StreamNumbers`, `FrameWatch`); the error code of our GOAWAY.
    case misplacedFrame(code: UInt32)
    /// More resets from the peer than `resetBurst` and `resetsPerSecond` allow.
    case tooManyResets
    /// The peer made us reset more streams than `resetBurst` and `resetsPerSecond` allow.
    case tooManyResetsProvoked
    /// More frames without effect than `idleFramesBurst` and `idleFramesPerSecond` allow.
    case tooManyIdleFrames
    /// More acknowledgements wait for the peer than `outboundAcksMax`.
    case tooManyAcksWaiting
    /// More frames wait for the peer than `outboundFramesMax`.
    case tooManyFramesWaiting
    /// More CONTINUATION frames in one header block than `continuationsMax`.
    case tooManyContinuations
    /// nghttp2 could not allocate.
    case outOfMemory
    /// nghttp2 failed otherwise; its error number.
    case engine(Int32)
}
